/**
 * What the formats of this room have in common: strict variants of compact-encoding's codecs, and the two
 * calls that run a codec over bytes.
 *
 * - Numbers are compact-encoding's uint: one byte up to 252, else 0xFD, 0xFE or 0xFF and 2, 4 or 8 bytes
 *   little-endian. Only the shortest form is read, and nothing above 2^53 - 1.
 * - Whatever bytes come in, decodeWith() gives a value or throws CORRUPT: no count is believed before it was
 *   held against the bytes that are left, and nothing may remain.
 * - Decoded bytes are views of the input, and plain Uint8Arrays whatever the input was.
 */
import c from 'compact-encoding'
import { AssertionError, assert } from '../assert.ts'
import { KVSwarmError } from '../errors.ts'
import type { NodeId, Position } from '../types.ts'
import { idBytes, idOf } from './ids.ts'
import { corrupt } from './show.ts'

/** compact-encoding's state: reads or writes at `start`, ends at `end`. */
export interface State {
  start: number
  end: number
  buffer: Uint8Array
}

/** The half of a codec that writes: preencode() adds the size to `state.end`. */
export interface Encoder<T> {
  preencode(state: State, value: T): void
  encode(state: State, value: T): void
}

/** The half that reads, from `state.start` on. */
export interface Decoder<T> {
  decode(state: State): T
}

/** compact-encoding's form of a codec. */
export interface Codec<T> extends Encoder<T>, Decoder<T> {}

const nothing = new Uint8Array(0)

/** How many bytes encodeWith() makes of the value. */
export function sizeOf<T>(codec: Encoder<T>, value: T): number {
  const state: State = { start: 0, end: 0, buffer: nothing }
  codec.preencode(state, value)
  return state.end
}

/** The value as bytes of its own. */
export function encodeWith<T>(codec: Encoder<T>, value: T): Uint8Array {
  const state: State = { start: 0, end: 0, buffer: nothing }
  codec.preencode(state, value)
  state.buffer = new Uint8Array(state.end)
  codec.encode(state, value)
  assert(state.start === state.end, `${state.end} bytes foreseen, ${state.start} written`)
  return state.buffer
}

/**
 * The value of the bytes, all of them.
 * @param what names the format in the error
 * @throws CORRUPT
 */
export function decodeWith<T>(codec: Decoder<T>, bytes: Uint8Array, what: string): T {
  const state = stateOf(bytes)
  let value: T
  try {
    value = codec.decode(state)
  } catch (error) {
    if (error instanceof KVSwarmError || error instanceof AssertionError) throw error
    throw corrupt(`${what}: ${(error as Error).message}`) // 'Out of bounds' and the like
  }
  if (state.start !== state.end) throw corrupt(`${what}: ${state.end - state.start} bytes too many`)
  return value
}

/** A state that reads `bytes`, whose views are plain Uint8Arrays. */
export function stateOf(bytes: Uint8Array): State {
  const buffer = new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  return { start: 0, end: buffer.length, buffer }
}

/** A number from 0 to 2^53 - 1 in its shortest form. */
export const uint: Codec<number> = {
  preencode: (state, value) => c.uint.preencode(state, value),
  encode: (state, value) => c.uint.encode(state, value),
  decode(state) {
    const from = state.start
    const value = c.uint.decode(state)
    const length = value <= 0xfc ? 1 : value <= 0xffff ? 3 : value <= 0xffffffff ? 5 : 9
    if (state.start - from !== length) throw corrupt(`${value} is not in its shortest form`)
    return value
  }
}

export const uint8: Codec<number> = c.uint8
/** 4 bytes big-endian. */
export const uint32be: Codec<number> = c.uint32be
/** 8 bytes big-endian, up to 2^53 - 1. */
export const uint64be: Codec<number> = c.uint64be
/** A length and so many bytes. */
export const lengthPrefixed: Codec<Uint8Array> = {
  preencode: (state, bytes) => {
    uint.preencode(state, bytes.length)
    state.end += bytes.length
  },
  encode: (state, bytes) => {
    uint.encode(state, bytes.length)
    state.buffer.set(bytes, state.start)
    state.start += bytes.length
  },
  decode: (state) => {
    const length = uint.decode(state)
    if (length > state.end - state.start) throw corrupt(`${length} bytes announced, fewer are left`)
    return state.buffer.subarray(state.start, (state.start += length))
  }
}

/** Exactly so many bytes. */
export function fixed(bytes: number): Codec<Uint8Array> {
  return c.fixed(bytes)
}

const bytes32 = fixed(32)

/** 32 bytes that are 64 lower-case hex digits outside. */
export const hash32: Codec<string> = {
  preencode: (state) => {
    state.end += 32
  },
  encode: (state, hash) => {
    const bytes = Buffer.from(hash, 'hex')
    assert(bytes.length === 32, `hash of ${bytes.length} bytes`)
    bytes32.encode(state, bytes)
  },
  decode: (state) => Buffer.from(bytes32.decode(state)).toString('hex')
}

/** 32 bytes, a node id outside. */
export const nodeId: Codec<NodeId> = {
  preencode: (state) => {
    state.end += 32
  },
  encode: (state, id) => bytes32.encode(state, idBytes(id)),
  decode: (state) => idOf(bytes32.decode(state))
}

export const position: Codec<Position> = {
  preencode: (state, value) => {
    uint.preencode(state, value.generation)
    uint.preencode(state, value.length)
  },
  encode: (state, value) => {
    uint.encode(state, value.generation)
    uint.encode(state, value.length)
  },
  decode: (state) => ({ generation: uint.decode(state), length: uint.decode(state) })
}

/** A byte 1 and the value, or a byte 0 for null. */
export function nullable<T>(codec: Codec<T>): Codec<T | null> {
  return {
    preencode: (state, value) => {
      state.end += 1
      if (value !== null) codec.preencode(state, value)
    },
    encode: (state, value) => {
      uint8.encode(state, value === null ? 0 : 1)
      if (value !== null) codec.encode(state, value)
    },
    decode: (state) => {
      const present = uint8.decode(state)
      if (present > 1) throw corrupt(`${present} where 0 or 1 is due`)
      return present === 0 ? null : codec.decode(state)
    }
  }
}

/**
 * A count and so many values, at most `max`.
 * @param bytesMin the shortest value; a count that the bytes left cannot hold is refused before anything is made
 */
export function list<T>(codec: Codec<T>, bytesMin: number, max: number): Codec<readonly T[]> {
  return {
    preencode: (state, values) => {
      assert(values.length <= max, `list of ${values.length}, at most ${max}`)
      uint.preencode(state, values.length)
      for (const value of values) codec.preencode(state, value)
    },
    encode: (state, values) => {
      uint.encode(state, values.length)
      for (const value of values) codec.encode(state, value)
    },
    decode: (state) => {
      const count = decodeCount(state, bytesMin)
      if (count > max) throw corrupt(`list of ${count}, at most ${max}`)
      const values: T[] = []
      for (let i = 0; i < count; i++) values.push(codec.decode(state))
      return values
    }
  }
}

/** A count of things of at least `bytesMin` bytes each, which the bytes left can hold. */
export function decodeCount(state: State, bytesMin: number): number {
  const count = uint.decode(state)
  if (count > (state.end - state.start) / bytesMin)
    throw corrupt(`count of ${count} in too few bytes`)
  return count
}
