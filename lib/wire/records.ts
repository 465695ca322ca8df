/**
 * What lies in an index, and where: the values of its records here, their keys in index-keys.ts, results of
 * operations in results.ts.
 *
 * - Every value begins with a version byte (1). What a later version wrote is refused, never guessed.
 * - state: epoch, hash of the configuration (32), serial, counter, now. cursor and cut-off: generation, length.
 *   tombstone: versionstamp (10). expiry: nothing. entry: flags (bit 0: expireAt), versionstamp (10), [expireAt], value.
 */
import type { Entry, Position, Versionstamp } from '../types.ts'
import { assert } from '../assert.ts'
import {
  type Codec,
  decodeWith,
  encodeWith,
  hash32,
  position,
  type State,
  uint,
  uint8
} from './codec.ts'
import { keyOfData } from './index-keys.ts'
import { corrupt } from './show.ts'
import { stampCodec } from './stamps.ts'
import { isEncodedValue } from './values.ts'

export {
  cursorKey,
  cursorsRange,
  cutOffKey,
  cutOffsRange,
  dataKey,
  dataRange,
  decodeResultKey,
  expiryKey,
  expiryRange,
  indexStateKey,
  keyOfData,
  parseIndexKey,
  resultKey,
  resultsRange,
  tombstoneKey,
  tombstonesRange
} from './index-keys.ts'
export type { IndexKey, MoveGroup } from './index-keys.ts'
export { decodeResult, encodeResult } from './results.ts'
export type { FailedCheck, RejectReason, Result } from './results.ts'

const version = 1
const flagExpireAt = 1

/** The record that makes an index usable; written in the same append as what it counts. */
export interface IndexState {
  /** Of the configuration that the owner has adopted. */
  readonly epoch: number
  /** Of that configuration; 64 hex digits. */
  readonly configHash: string
  /** Rises with the generations of this index, for versionstamps. */
  readonly serial: number
  /** Of the newest versionstamp. */
  readonly counter: number
  /** Unix milliseconds, never going back: what expiry is judged by. */
  readonly now: number
}

export function encodeIndexState(state: IndexState): Uint8Array {
  return encodeWith(stateCodec, state)
}

/** @throws CORRUPT */
export function decodeIndexState(bytes: Uint8Array): IndexState {
  return decodeWith(stateCodec, bytes, 'index state')
}

/** How far a log is applied; also the value of a cut-off. */
export function encodeCursor(cursor: Position): Uint8Array {
  return encodeWith(cursorCodec, cursor)
}

/** @throws CORRUPT */
export function decodeCursor(bytes: Uint8Array): Position {
  return decodeWith(cursorCodec, bytes, 'cursor')
}

export function encodeTombstone(versionstamp: Versionstamp): Uint8Array {
  return encodeWith(tombstoneCodec, versionstamp)
}

/** @throws CORRUPT */
export function decodeTombstone(bytes: Uint8Array): Versionstamp {
  return decodeWith(tombstoneCodec, bytes, 'tombstone')
}

/** The value of every record of the expiry queue: its key says all. */
export const expiryValue: Uint8Array = Uint8Array.of(version)

/** An entry without its key, which is the record's own. @param entry `expireAt` 0: never */
export function encodeEntry(entry: Omit<Entry, 'key'>): Uint8Array {
  return encodeWith(entryCodec, entry)
}

/**
 * An entry from a record of the index. Key and value are views of the bytes.
 * @param key the record's key in the index, as dataKey() makes it
 * @throws CORRUPT
 */
export function decodeEntry(key: Uint8Array, bytes: Uint8Array): Entry {
  return { key: keyOfData(key), ...decodeWith(entryCodec, bytes, 'entry') }
}

/** A codec with the version byte before it. */
function versioned<T>(codec: Codec<T>): Codec<T> {
  return {
    preencode: (state, value) => {
      state.end += 1
      codec.preencode(state, value)
    },
    encode: (state, value) => {
      uint8.encode(state, version)
      codec.encode(state, value)
    },
    decode: (state) => {
      const found = uint8.decode(state)
      if (found !== version)
        throw corrupt(`record of version ${found}, this program knows ${version}`)
      return codec.decode(state)
    }
  }
}

const cursorCodec: Codec<Position> = versioned(position)
const tombstoneCodec: Codec<Versionstamp> = versioned(stampCodec)

const stateCodec: Codec<IndexState> = versioned({
  preencode: (state, { epoch, configHash, serial, counter, now }) => {
    hash32.preencode(state, configHash)
    for (const number of [epoch, serial, counter, now]) uint.preencode(state, number)
  },
  encode: (state, { epoch, configHash, serial, counter, now }) => {
    uint.encode(state, epoch)
    hash32.encode(state, configHash)
    for (const number of [serial, counter, now]) uint.encode(state, number)
  },
  decode: (state) => ({
    epoch: uint.decode(state),
    configHash: hash32.decode(state),
    serial: uint.decode(state),
    counter: uint.decode(state),
    now: uint.decode(state)
  })
})

const entryCodec: Codec<Omit<Entry, 'key'>> = versioned({
  preencode: (state, { value, versionstamp, expireAt }) => {
    state.end += 1
    stampCodec.preencode(state, versionstamp)
    if (expireAt !== 0) uint.preencode(state, expireAt)
    state.end += value.length
  },
  encode: (state, { value, versionstamp, expireAt }) => {
    assert(isEncodedValue(value), 'entry with an encoded value')
    uint8.encode(state, expireAt === 0 ? 0 : flagExpireAt)
    stampCodec.encode(state, versionstamp)
    if (expireAt !== 0) uint.encode(state, expireAt)
    state.buffer.set(value, state.start)
    state.start += value.length
  },
  decode: (state) => {
    const flags = uint8.decode(state)
    if (flags > flagExpireAt) throw corrupt(`entry with flags ${flags}`)
    const versionstamp = stampCodec.decode(state)
    const expireAt = flags === 0 ? 0 : uint.decode(state)
    if (flags !== 0 && expireAt === 0) throw corrupt('entry that expires at 0')
    return { value: decodeValueAtEnd(state), versionstamp, expireAt }
  }
})

function decodeValueAtEnd(state: State): Uint8Array {
  const value = state.buffer.subarray(state.start, state.end)
  if (!isEncodedValue(value)) throw corrupt('entry with a value that is no encoding of one')
  state.start = state.end
  return value
}
