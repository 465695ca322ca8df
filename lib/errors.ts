/**
 * Every error that a user can meet: one class, a stable upper-case `code`, and what to do next.
 *
 * The codes are part of the API (semver); the messages are not. Wrong use, too, is a KVSwarmError: it is
 * thrown (or rejected) before anything is written. A key that does not exist is not an error but null.
 */

/** Codes grouped by the moment at which they happen. */
export type ErrorCode =
  // opening
  | 'STORAGE_UNSUPPORTED' // a storage of a form that hypercore 11 does not take
  | 'DATADIR_UNREADABLE' // the data directory cannot be read, written or made
  | 'DATADIR_FOREIGN' // the directory belongs to another program or another user
  | 'DATADIR_OPEN' // others can read the data directory
  | 'DATADIR_DAMAGED' // a file of the store is damaged or missing
  | 'DATADIR_MOVED' // the store was copied or restored by hand
  | 'DATADIR_IN_USE' // held by another process that does not answer
  | 'BACKUP_DAMAGED' // a file of a backup is damaged or missing
  | 'DATADIR_VERSION' // written by a newer format than this program knows
  | 'CONFIG_INVALID' // not a configuration; `message` lists every fault with its path
  | 'CONFIG_CONFLICT' // same epoch, another document
  | 'CONFIG_STALE' // an epoch below the one already adopted
  | 'CONFIG_SLICES' // other slices than the adopted ones: moving data is not possible yet
  | 'CONFIG_MISSING' // a call needs a configuration and there is none
  | 'NOT_AUTHORISED' // this node has no role for the call
  | 'INTERNALS_CHANGED' // an upstream library differs from what was tested
  // calling
  | 'INVALID_ARGUMENT'
  | 'KEY_INVALID'
  | 'KEY_TOO_LARGE'
  | 'VALUE_INVALID'
  | 'VALUE_TOO_LARGE'
  | 'CACHE_FULL' // the write cache has reached its bound: flush
  | 'NOT_WRITER'
  | 'NOT_CONNECTED'
  | 'READ_ONLY'
  | 'CLOSED'
  | 'USAGE' // command line
  // waiting
  | 'TIMEOUT'
  | 'ABORTED'
  | 'QUEUE_FULL'
  | 'QUEUE_CLOSED'
  | 'FLUSH_UNKNOWN' // kv.receipt(id) of an id that this node did not make
  | 'OWNER_UNREACHABLE' // nobody with the needed block answered in time
  // outcomes
  | 'OPERATION_REJECTED' // the owner refused the operation; `reason` tells why
  | 'FLUSH_PARTIAL' // the flush reached some outboxes, not others
  | 'FLUSH_LOST' // the operations were lost with an unsynced outbox (durability 'os')
  | 'INDEX_REPLACED' // the state of an index that is read was replaced, and its blocks are gone: read again
  | 'CORRUPT' // bytes that are signed and whole but make no sense
  | 'DISK_FULL'
  | 'IO_ERROR'
  | 'PROTOCOL_ERROR' // a peer or holder speaks another protocol version
  | 'INTERNAL'

/** More about one error; all optional. */
export interface ErrorDetails {
  /** What to do next, one sentence. */
  readonly hint?: string
  /** The error below, when there is one. */
  readonly cause?: unknown
  /** True when the operations are on this machine's disk although the call failed. */
  readonly durable?: boolean
  /** Id of the flush that the error is about; `kv.receipt(flushId)` waits on. */
  readonly flushId?: string
  /** Machine readable facts, JSON-safe. */
  readonly data?: Readonly<Record<string, unknown>>
}

/** The only error class of the public API. */
export class KVSwarmError extends Error {
  override readonly name = 'KVSwarmError'
  readonly code: ErrorCode
  readonly hint: string
  readonly durable: boolean
  readonly flushId: string | undefined
  readonly data: Readonly<Record<string, unknown>>

  constructor(code: ErrorCode, message: string, details: ErrorDetails = {}) {
    super(message, details.cause === undefined ? undefined : { cause: details.cause })
    this.code = code
    this.hint = details.hint ?? ''
    this.durable = details.durable ?? false
    this.flushId = details.flushId
    this.data = details.data ?? {}
  }

  /** The form in which an error crosses the control socket and is printed by `--json`. */
  toJSON(): Record<string, unknown> {
    return {
      code: this.code,
      message: this.message,
      hint: this.hint,
      ...(this.durable ? { durable: true } : {}),
      ...(this.flushId === undefined ? {} : { flushId: this.flushId }),
      ...(Object.keys(this.data).length === 0 ? {} : { data: this.data })
    }
  }
}

/** True for a KVSwarmError (also one of another copy of this package), of one of `codes` if any are given. */
export function isKVSwarmError(error: unknown, ...codes: ErrorCode[]): error is KVSwarmError {
  if (!(error instanceof Error) || error.name !== 'KVSwarmError') return false
  return codes.length === 0 || codes.includes((error as KVSwarmError).code)
}

/** The message of anything that was thrown. */
export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error)
}
