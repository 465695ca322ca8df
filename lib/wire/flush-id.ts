/**
 * The id of a flush, as users get it: it tells by itself which blocks of which outboxes hold the flush, so that a
 * receipt can be waited for by any process, also after a restart, without a table of flushes.
 *
 * Bytes: version (1), request (16), operations, count of parts, and for each part its owner (32), generation, from
 * and to; then the first 4 bytes of the BLAKE2b hash of all that. Outside: base64url without padding.
 */
import { hash } from 'hypercore-crypto'
import { assert } from '../assert.ts'
import { KVSwarmError } from '../errors.ts'
import type { FlushPart } from '../types.ts'
import {
  type Codec,
  decodeWith,
  encodeWith,
  fixed,
  list,
  nodeId,
  type State,
  uint,
  uint8
} from './codec.ts'
import { corrupt, show } from './show.ts'

/** What a flush id says. */
export interface FlushId {
  /** 16 bytes that name the flush. */
  readonly request: Uint8Array
  /** How many operations it held. */
  readonly operations: number
  readonly parts: readonly FlushPart[]
}

const version = 1
const checksumBytes = 4
const form = /^[A-Za-z0-9_-]+$/
/** One for each storage node that there can be; and a bound for hostile ids. */
const partsMax = 4096
const partBytesMin = 35
const partBytesMax = 59
const idCharactersMax = Math.ceil(((64 + partsMax * partBytesMax) * 4) / 3)

export function encodeFlushId(id: FlushId): string {
  const content = encodeWith(flushIdCodec, id)
  return Buffer.concat([content, checksum(content)]).toString('base64url')
}

/** @throws FLUSH_UNKNOWN when the text is no flush id */
export function decodeFlushId(text: string): FlushId {
  const bytes = bytesOf(text)
  if (bytes === null) throw unknown(text)
  const content = bytes.subarray(0, -checksumBytes)
  if (!checksum(content).equals(bytes.subarray(-checksumBytes))) throw unknown(text)
  try {
    return decodeWith(flushIdCodec, content, 'flush id')
  } catch (error) {
    throw unknown(text, error)
  }
}

/** Null when it is not base64url, or not the form that encodeFlushId() gives. */
function bytesOf(text: unknown): Buffer | null {
  if (typeof text !== 'string' || text.length > idCharactersMax || !form.test(text)) return null
  const bytes = Buffer.from(text, 'base64url')
  return bytes.length > checksumBytes && bytes.toString('base64url') === text ? bytes : null
}

function checksum(content: Uint8Array): Buffer {
  return hash(content).subarray(0, checksumBytes)
}

function unknown(text: unknown, cause?: unknown): KVSwarmError {
  return new KVSwarmError('FLUSH_UNKNOWN', `${show(text)} is not the id of a flush`, {
    hint: 'give the id that flush() resolved with, whole and unchanged',
    ...(cause === undefined ? {} : { cause })
  })
}

const request = fixed(16)

const part: Codec<FlushPart> = {
  preencode: (state, { owner, generation, from, to }) => {
    nodeId.preencode(state, owner)
    for (const number of [generation, from, to]) uint.preencode(state, number)
  },
  encode: (state, { owner, generation, from, to }) => {
    assert(from <= to, `blocks ${from} to ${to}`)
    nodeId.encode(state, owner)
    for (const number of [generation, from, to]) uint.encode(state, number)
  },
  decode: (state) => {
    const owner = nodeId.decode(state)
    const generation = uint.decode(state)
    const from = uint.decode(state)
    const to = uint.decode(state)
    if (from > to) throw corrupt(`blocks ${from} to ${to}`)
    return { owner, generation, from, to }
  }
}
const partList = list(part, partBytesMin, partsMax)

const flushIdCodec: Codec<FlushId> = {
  preencode: (state, id) => {
    state.end += 1
    request.preencode(state, id.request)
    uint.preencode(state, id.operations)
    partList.preencode(state, id.parts)
  },
  encode: (state, id) => {
    uint8.encode(state, version)
    request.encode(state, id.request)
    uint.encode(state, id.operations)
    partList.encode(state, id.parts)
  },
  decode: (state: State) => {
    const found = uint8.decode(state)
    if (found !== version) throw corrupt(`flush id of version ${found}`)
    return {
      request: new Uint8Array(request.decode(state)),
      operations: uint.decode(state),
      parts: partList.decode(state)
    }
  }
}
