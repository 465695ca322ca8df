/** What the command ends with; stable, and told by `kvswarm --help`. */
import { type ErrorCode, isKVSwarmError } from '../lib/errors.ts'

/** The exit codes by name. */
export const exitCodes = {
  done: 0,
  failed: 1,
  usage: 2,
  notFound: 3,
  noAnswer: 4,
  notAllowed: 5,
  inUse: 6,
  badConfig: 7,
  /** For conditions of a write that do not hold. */
  checkFailed: 8,
  interrupted: 130,
  terminated: 143
} as const

/** Meaning of each code, for the help. */
export const exitMeanings: readonly (readonly [number, string])[] = [
  [exitCodes.done, 'done'],
  [exitCodes.failed, 'another failure'],
  [exitCodes.usage, 'wrong use'],
  [exitCodes.notFound, 'no such key (nothing is printed)'],
  [exitCodes.noAnswer, 'no answer in time'],
  [exitCodes.notAllowed, 'not allowed by the configuration'],
  [exitCodes.inUse, 'data directory in use, and its holder does not answer'],
  [exitCodes.badConfig, 'bad configuration'],
  [exitCodes.checkFailed, 'a check failed: the owner refused the operation'],
  [exitCodes.interrupted, 'interrupted (SIGINT)'],
  [exitCodes.terminated, 'terminated (SIGTERM)']
]

const codes: Partial<Record<ErrorCode, number>> = {
  USAGE: exitCodes.usage,
  INVALID_ARGUMENT: exitCodes.usage,
  KEY_INVALID: exitCodes.usage,
  KEY_TOO_LARGE: exitCodes.usage,
  VALUE_INVALID: exitCodes.usage,
  VALUE_TOO_LARGE: exitCodes.usage,
  FLUSH_UNKNOWN: exitCodes.usage,
  TIMEOUT: exitCodes.noAnswer,
  OWNER_UNREACHABLE: exitCodes.noAnswer,
  QUEUE_FULL: exitCodes.noAnswer,
  NOT_CONNECTED: exitCodes.noAnswer,
  NOT_AUTHORISED: exitCodes.notAllowed,
  NOT_WRITER: exitCodes.notAllowed,
  READ_ONLY: exitCodes.notAllowed,
  DATADIR_IN_USE: exitCodes.inUse,
  CONFIG_INVALID: exitCodes.badConfig,
  CONFIG_CONFLICT: exitCodes.badConfig,
  CONFIG_STALE: exitCodes.badConfig,
  CONFIG_SLICES: exitCodes.badConfig,
  CONFIG_MISSING: exitCodes.badConfig,
  OPERATION_REJECTED: exitCodes.checkFailed
}

/** The exit code for an error. */
export function exitCodeOf(error: unknown): number {
  return isKVSwarmError(error) ? (codes[error.code] ?? exitCodes.failed) : exitCodes.failed
}
