/**
 * Versionstamps: which of two states of a key is the newer one.
 *
 * - 10 bytes big-endian: epoch (3), serial of the index generation (2), counter (5); outside, 20 lower-case hex
 *   digits. So the order of bytes, of the hex digits as strings, and of (epoch, serial, counter) is one order.
 * - The owner of the key's slice sets them, strictly rising; a field that overflows would break that order, so
 *   it is a broken invariant.
 */
import { assert } from '../assert.ts'
import type { Versionstamp } from '../types.ts'
import { corrupt } from './show.ts'
import { type Codec, fixed } from './codec.ts'

/** Greatest value of each field. */
export const stampEpochMax: number = 2 ** 24 - 1
export const stampSerialMax: number = 2 ** 16 - 1
export const stampCounterMax: number = 2 ** 40 - 1

const stampBytes = 10
const digits = /^[0-9a-f]{20}$/

export interface StampFields {
  /** Of the configuration under which the owner applied. */
  readonly epoch: number
  /** Rises with the generations of the owner's index (lib/protocol/startup.ts). */
  readonly serial: number
  /** Counts what was applied in that generation, from where it began. */
  readonly counter: number
}

/** @throws AssertionError when a field does not fit */
export function makeStamp({ epoch, serial, counter }: StampFields): Versionstamp {
  return (
    field(epoch, stampEpochMax, 6) +
    field(serial, stampSerialMax, 4) +
    field(counter, stampCounterMax, 10)
  )
}

/** @throws AssertionError when it is no versionstamp: ask isVersionstamp() about what a user gives */
export function stampFields(stamp: Versionstamp): StampFields {
  assert(isVersionstamp(stamp), 'versionstamp of 20 hex digits')
  return {
    epoch: Number.parseInt(stamp.slice(0, 6), 16),
    serial: Number.parseInt(stamp.slice(6, 10), 16),
    counter: Number.parseInt(stamp.slice(10), 16)
  }
}

/** True for 20 lower-case hex digits. */
export function isVersionstamp(value: unknown): value is Versionstamp {
  return typeof value === 'string' && digits.test(value)
}

/** Below 0 when `a` is the older one, 0 when they are equal. */
export function compareStamps(a: Versionstamp, b: Versionstamp): number {
  return a < b ? -1 : a > b ? 1 : 0
}

/** 10 bytes. */
export function encodeStamp(stamp: Versionstamp): Uint8Array {
  assert(isVersionstamp(stamp), 'versionstamp of 20 hex digits')
  return new Uint8Array(Buffer.from(stamp, 'hex'))
}

/** @throws CORRUPT unless there are exactly 10 bytes */
export function decodeStamp(bytes: Uint8Array): Versionstamp {
  if (bytes.length !== stampBytes) throw corrupt(`versionstamp of ${bytes.length} bytes`)
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString('hex')
}

const bytes10 = fixed(stampBytes)

/** 10 bytes inside another format. */
export const stampCodec: Codec<Versionstamp> = {
  preencode: (state) => {
    state.end += stampBytes
  },
  encode: (state, stamp) => bytes10.encode(state, encodeStamp(stamp)),
  decode: (state) => decodeStamp(bytes10.decode(state))
}

function field(value: number, max: number, width: number): string {
  assert(Number.isSafeInteger(value) && value >= 0 && value <= max, `versionstamp field ${value}`)
  return value.toString(16).padStart(width, '0')
}
