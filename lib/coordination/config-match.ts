/**
 * May a client with this configuration use a holder with that one?
 *
 * | client's             | what follows                                                     |
 * | -------------------- | ---------------------------------------------------------------- |
 * | none                 | the holder's is used                                             |
 * | the holder has none  | it is given the client's                                         |
 * | same epoch and hash  | fine                                                             |
 * | same epoch, other    | CONFIG_CONFLICT                                                  |
 * | higher epoch         | offered to the holder                                            |
 * | lower epoch          | CONFIG_STALE at the first attach; later the holder's is used     |
 */
import { KVSwarmError } from '../errors.ts'

/** A configuration's identity. */
export interface ConfigIdentity {
  readonly epoch: number
  readonly hash: string
}

/** Reads the identity out of the canonical text. @throws CONFIG_INVALID */
export async function identityOf(text: string): Promise<ConfigIdentity> {
  // Loaded when two texts differ, which is rare.
  const { default: Config } = await import('../../config/index.ts')
  const { epoch, hash } = Config.parse(text)
  return { epoch, hash }
}

/**
 * What is to be done: 'use' the holder's, or 'offer' it the client's.
 * @param first false when this handle was attached or held the directory before: then the holder may
 *   have moved on meanwhile
 * @throws CONFIG_CONFLICT, CONFIG_STALE, CONFIG_INVALID
 */
export async function matchConfig(
  own: string | null,
  holders: string | null,
  first: boolean
): Promise<'use' | 'offer'> {
  if (own === null || own === holders) return 'use'
  if (holders === null) return 'offer'
  const [mine, theirs] = await Promise.all([identityOf(own), identityOf(holders)])
  if (mine.epoch > theirs.epoch) return 'offer'
  if (mine.epoch === theirs.epoch) {
    if (mine.hash === theirs.hash) return 'use'
    throw new KVSwarmError(
      'CONFIG_CONFLICT',
      `epoch ${mine.epoch} has two configurations: this process has ${mine.hash}, the holder of the data directory ${theirs.hash}`,
      {
        hint: 'use the same configuration everywhere; every change needs a higher epoch',
        data: { epoch: mine.epoch, own: mine.hash, holder: theirs.hash }
      }
    )
  }
  if (!first) return 'use'
  throw new KVSwarmError(
    'CONFIG_STALE',
    `this configuration has epoch ${mine.epoch}, the holder of the data directory has ${theirs.epoch} already`,
    {
      hint: 'use the newer configuration, or none: then the one of the holder is used',
      data: { epoch: mine.epoch, holder: theirs.epoch }
    }
  )
}
