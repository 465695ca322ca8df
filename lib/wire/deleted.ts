/**
 * What an outbox remembers of its deleted generations, kept beside the newest one on this machine alone: which
 * there were, and where the newest requests of them lay, so that a flush that is asked for again is found, and one
 * that was receipted is still known.
 *
 * Bytes: version (1), list of (generation, length), list of (request (16), generation, from, to); both oldest first.
 */
import { deletedGenerationsMax, deletedRequestsMax } from '../../config/limits.ts'
import type { Position } from '../types.ts'
import {
  type Codec,
  decodeWith,
  encodeWith,
  fixed,
  list,
  position,
  type State,
  uint,
  uint8
} from './codec.ts'
import { corrupt } from './show.ts'

/** Blocks [from, to) of a generation that held a request's operations. */
export interface DeletedRequest {
  /** 16 bytes. */
  readonly request: Uint8Array
  readonly generation: number
  readonly from: number
  readonly to: number
}

export interface DeletedGenerations {
  readonly generations: readonly Position[]
  readonly requests: readonly DeletedRequest[]
}

const version = 1
const requestBytes = 16

/** The bytes of the newest that fit the bounds. */
export function encodeDeleted({ generations, requests }: DeletedGenerations): Uint8Array {
  return encodeWith(deletedCodec, {
    generations: generations.slice(-deletedGenerationsMax),
    requests: requests.slice(-deletedRequestsMax)
  })
}

/** It shares no memory with the bytes. @throws CORRUPT */
export function decodeDeleted(bytes: Uint8Array): DeletedGenerations {
  return decodeWith(deletedCodec, bytes, 'deleted generations')
}

const requestCodec = fixed(requestBytes)

const deletedRequest: Codec<DeletedRequest> = {
  preencode: (state, value) => {
    requestCodec.preencode(state, value.request)
    uint.preencode(state, value.generation)
    uint.preencode(state, value.from)
    uint.preencode(state, value.to)
  },
  encode: (state, value) => {
    requestCodec.encode(state, value.request)
    uint.encode(state, value.generation)
    uint.encode(state, value.from)
    uint.encode(state, value.to)
  },
  decode: (state) => ({
    request: new Uint8Array(requestCodec.decode(state)),
    generation: uint.decode(state),
    from: uint.decode(state),
    to: uint.decode(state)
  })
}

const generations = list(position, 2, deletedGenerationsMax)
const requests = list(deletedRequest, requestBytes + 3, deletedRequestsMax)

const deletedCodec: Codec<DeletedGenerations> = {
  preencode: (state, value) => {
    state.end += 1
    generations.preencode(state, value.generations)
    requests.preencode(state, value.requests)
  },
  encode: (state, value) => {
    uint8.encode(state, version)
    generations.encode(state, value.generations)
    requests.encode(state, value.requests)
  },
  decode: (state: State) => {
    const found = uint8.decode(state)
    if (found !== version) throw corrupt(`deleted generations of version ${found}`)
    return { generations: generations.decode(state), requests: requests.decode(state) }
  }
}
