/**
 * What is wrong with a configuration: all faults, each with its path, in one CONFIG_INVALID error of one line.
 */
import { KVSwarmError } from '../lib/errors.ts'

/** How many faults a message lists; the rest is counted. */
export const faultsShownMax = 10
/** Characters of a key that a path shows: an id fits. */
const keyShownMax = 80

/** One thing that is wrong. */
export interface Fault {
  /** Where, as in `bins.<id>.size` or `writers[0]`; empty for the whole. */
  readonly path: string
  /** What was expected there and what was found. */
  readonly message: string
}

/** A place inside an object or array as one writes it in JavaScript; long keys are cut. */
export function pathOf(keys: readonly (string | number)[]): string {
  let path = ''
  for (const key of keys) {
    if (typeof key === 'number') {
      path += `[${key}]`
      continue
    }
    const shown = key.length <= keyShownMax ? key : `${key.slice(0, keyShownMax)}…`
    if (!/^[\w-]+$/.test(shown)) path += `[${JSON.stringify(shown)}]`
    else path += path === '' ? shown : `.${shown}`
  }
  return path
}

/**
 * The error of a configuration, or of arguments that would make one, that is refused.
 * @param faults at least one; `data.faults` holds those that the message lists
 * @param cause the error below, when there is one
 */
export function configInvalid(faults: readonly Fault[], cause?: unknown): KVSwarmError {
  const shown = faults.slice(0, faultsShownMax)
  const lines = shown.map(({ path, message }) => (path === '' ? message : `${path}: ${message}`))
  if (faults.length > shown.length) lines.push(`and ${faults.length - shown.length} more`)
  return new KVSwarmError('CONFIG_INVALID', `configuration refused: ${lines.join('; ')}`, {
    hint:
      'correct what is named; `kvswarm init` prints a new configuration, and capacities are changed ' +
      'with config.update(), which adjusts the slices',
    data: { faults: shown },
    cause
  })
}
