/**
 * What two nodes say to each other on our own protomux channel, beside the replication of cores.
 *
 * - The remote side is authenticated by the connection, so no message names its sender: what is acked, applied or
 *   told as head is always the sender's own.
 * - hello is the first message, each way. Of another protocol version only the version is read.
 * - Bytes: type (1), then the fields; see docs/formats.md.
 */
import { indexJournalsMax, indexRunsMax, messageBytesMax } from '../../config/limits.ts'
import { assert } from '../assert.ts'
import type { Position } from '../types.ts'
import {
  type Codec,
  decodeWith,
  encodeWith,
  fixed,
  hash32,
  lengthPrefixed,
  list,
  position,
  type State,
  uint,
  uint8
} from './codec.ts'
import { generationRecordBytesMax } from './generations.ts'
import { corrupt } from './show.ts'

/** The channel's name, and the version that hello carries. */
export const protocolName = 'kvswarm'
export const protocolVersion = 1

/** Generation records in one message; more go into the next. */
export const recordsPerMessageMax = 256

export interface HelloMessage {
  readonly type: 'hello'
  /** When it is not ours, the rest was not read: epoch 0, and a hash of zeros. */
  readonly protocolVersion: number
  /** Of the sender's configuration; 0: it has none. */
  readonly epoch: number
  /** Of the sender's configuration, 64 hex digits; zeros: it has none. */
  readonly configHash: string
}

/** Signed generation records, unopened (generations.ts). */
export interface RecordsMessage {
  readonly type: 'records'
  readonly records: readonly Uint8Array[]
}

/** A storage node to a writer: this much of the outbox is durable here. */
export interface AckMessage extends Position {
  readonly type: 'ack'
}

/** A storage node to a writer: this much of the outbox is applied, in an index that has come to `index`. */
export interface AppliedMessage extends Position {
  readonly type: 'applied'
  readonly index: Position
  /** Rejected operations of this log whose results the index holds. */
  readonly rejected: number
}

/** Asks a storage node for its present head. */
export interface HeadRequestMessage {
  readonly type: 'headRequest'
  /** Chosen by the asking side; comes back in the answer. */
  readonly id: number
}

/** The head of the sender's own index. */
export interface HeadMessage extends Position {
  readonly type: 'head'
  readonly id: number
}

/** A storage node to a writer: go on under a next generation, so that this one can be deleted when it is applied. */
export interface RotateMessage {
  readonly type: 'rotate'
  /** The one that is meant; a later one is not. */
  readonly generation: number
}

/**
 * A writer to a storage node: earlier generations of the outbox are deleted, since the storage node's own index
 * showed them applied. One whose index is older than that (it was restored) goes on from here.
 */
export interface OldestMessage {
  readonly type: 'oldest'
  readonly generation: number
}

/**
 * A storage node to whoever connects: of which cores its index consists now. It is a hint: they are opened at once,
 * and used when the anchor names them.
 */
export interface CoresMessage {
  readonly type: 'cores'
  /** Of the index. */
  readonly generation: number
  /** Numbers of the journals. */
  readonly journals: readonly number[]
  readonly runs: readonly { readonly hash: Uint8Array; readonly length: number }[]
}

export interface PingMessage {
  readonly type: 'ping' | 'pong'
  /** A pong has its ping's. @default 0, for who needs none */
  readonly id?: number
}

export type Message =
  | HelloMessage
  | RecordsMessage
  | AckMessage
  | AppliedMessage
  | HeadRequestMessage
  | HeadMessage
  | PingMessage
  | RotateMessage
  | OldestMessage
  | CoresMessage

const types = {
  hello: 0,
  records: 1,
  ack: 2,
  applied: 3,
  headRequest: 4,
  head: 5,
  ping: 6,
  pong: 7,
  rotate: 8,
  oldest: 9,
  cores: 10
} as const

const noHash = '0'.repeat(64)

export function encodeMessage(message: Message): Uint8Array {
  const bytes = encodeWith(messageCodec, message)
  assert(bytes.length <= messageBytesMax, `message of ${bytes.length} bytes`)
  return bytes
}

/** The message of the bytes; it shares no memory with them. @throws CORRUPT */
export function decodeMessage(bytes: Uint8Array): Message {
  if (bytes.length > messageBytesMax) throw corrupt(`message of ${bytes.length} bytes`)
  return decodeWith(messageCodec, bytes, 'message')
}

const signedRecord: Codec<Uint8Array> = {
  preencode: (state, record) => {
    assert(record.length <= generationRecordBytesMax, `generation record of ${record.length} bytes`)
    lengthPrefixed.preencode(state, record)
  },
  encode: (state, record) => lengthPrefixed.encode(state, record),
  decode: (state) => {
    const record = lengthPrefixed.decode(state)
    if (record.length > generationRecordBytesMax) throw corrupt(`record of ${record.length} bytes`)
    return new Uint8Array(record)
  }
}
const runCodec: Codec<{ readonly hash: Uint8Array; readonly length: number }> = {
  preencode: (state, { length }) => {
    state.end += 32
    uint.preencode(state, length)
  },
  encode: (state, { hash, length }) => {
    hashBytes.encode(state, hash)
    uint.encode(state, length)
  },
  decode: (state) => ({
    hash: Uint8Array.from(hashBytes.decode(state)),
    length: uint.decode(state)
  })
}
const hashBytes = fixed(32)
const runList = list(runCodec, 33, indexRunsMax)
const journalList = list(uint, 1, indexJournalsMax)
const recordList = list(signedRecord, 1, recordsPerMessageMax)

/** Usable as the encoding of a protomux message, too. */
export const messageCodec: Codec<Message> = {
  preencode(state, message) {
    state.end += 1
    switch (message.type) {
      case 'hello':
        uint.preencode(state, message.protocolVersion)
        uint.preencode(state, message.epoch)
        return hash32.preencode(state, message.configHash)
      case 'records':
        return recordList.preencode(state, message.records)
      case 'ack':
        return position.preencode(state, message)
      case 'applied':
        position.preencode(state, message)
        position.preencode(state, message.index)
        return uint.preencode(state, message.rejected)
      case 'head':
        uint.preencode(state, message.id)
        return position.preencode(state, message)
      case 'rotate':
      case 'oldest':
        return uint.preencode(state, message.generation)
      case 'cores':
        uint.preencode(state, message.generation)
        journalList.preencode(state, message.journals)
        return runList.preencode(state, message.runs)
      default:
        return uint.preencode(state, message.id ?? 0)
    }
  },
  encode(state, message) {
    uint8.encode(state, types[message.type])
    switch (message.type) {
      case 'hello':
        uint.encode(state, message.protocolVersion)
        uint.encode(state, message.epoch)
        return hash32.encode(state, message.configHash)
      case 'records':
        return recordList.encode(state, message.records)
      case 'ack':
        return position.encode(state, message)
      case 'applied':
        position.encode(state, message)
        position.encode(state, message.index)
        return uint.encode(state, message.rejected)
      case 'head':
        uint.encode(state, message.id)
        return position.encode(state, message)
      case 'rotate':
      case 'oldest':
        return uint.encode(state, message.generation)
      case 'cores':
        uint.encode(state, message.generation)
        journalList.encode(state, message.journals)
        return runList.encode(state, message.runs)
      default:
        return uint.encode(state, message.id ?? 0)
    }
  },
  decode(state) {
    const type = uint8.decode(state)
    switch (type) {
      case types.hello:
        return decodeHello(state)
      case types.records:
        return { type: 'records', records: recordList.decode(state) }
      case types.ack:
        return { type: 'ack', ...position.decode(state) }
      case types.applied:
        return {
          type: 'applied',
          ...position.decode(state),
          index: position.decode(state),
          rejected: uint.decode(state)
        }
      case types.headRequest:
        return { type: 'headRequest', id: uint.decode(state) }
      case types.head:
        return { type: 'head', id: uint.decode(state), ...position.decode(state) }
      case types.ping:
        return { type: 'ping', id: uint.decode(state) }
      case types.pong:
        return { type: 'pong', id: uint.decode(state) }
      case types.rotate:
        return { type: 'rotate', generation: uint.decode(state) }
      case types.oldest:
        return { type: 'oldest', generation: uint.decode(state) }
      case types.cores:
        return {
          type: 'cores',
          generation: uint.decode(state),
          journals: journalList.decode(state),
          runs: runList.decode(state)
        }
      default:
        throw corrupt(`message of type ${type}`)
    }
  }
}

function decodeHello(state: State): HelloMessage {
  const version = uint.decode(state)
  if (version === protocolVersion) {
    const epoch = uint.decode(state)
    return { type: 'hello', protocolVersion: version, epoch, configHash: hash32.decode(state) }
  }
  state.start = state.end // whatever a later version says there
  return { type: 'hello', protocolVersion: version, epoch: 0, configHash: noHash }
}
