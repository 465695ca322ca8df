/**
 * Blocks of an outbox: what a writer appends, and its storage node reads in order.
 *
 * - First byte the format version (1), second the type: 1 head (always block 0 of a generation), 2 operations,
 *   3 mark (a writer has adopted an epoch, and how long its outboxes were then), 4 end (names the next generation).
 * - Another version is told apart from broken bytes: it stops the log until this program is upgraded, while
 *   broken bytes of version 1 are rejected and passed over.
 * - A place is one operation or atomic group, counted from 0 over all segments of a block: for ever the last part
 *   of an operation's identity. Each has its length before it, so one that is broken spoils no other. When the
 *   framing itself is broken, the whole block is invalid and has one result, at place 0.
 */
import { blockBytesMax, blockOperationsMax } from '../../config/limits.ts'
import { AssertionError, assert } from '../assert.ts'
import type { NodeId, Operation, Position } from '../types.ts'
import {
  type Codec,
  decodeCount,
  type Encoder,
  encodeWith,
  fixed,
  hash32,
  lengthPrefixed,
  list,
  nodeId,
  nullable,
  position,
  type State,
  stateOf,
  uint,
  uint8
} from './codec.ts'
import {
  type DecodedOperation,
  operationBytes,
  readOperation,
  writeOperation
} from './operations.ts'
import { Refusal, type RejectReason } from './results.ts'

const version = 1
const types = { head: 1, operations: 2, mark: 3, end: 4 } as const
const requestBytes = 16
/** Request, total, count, and one operation of no bytes with its length. */
const segmentBytesMin = requestBytes + 3
/** A node id, a generation and a length. */
const lengthBytesMin = 34

/** The first block of a generation. */
export interface HeadBlock {
  readonly type: 'head'
  /** Unix milliseconds. */
  readonly created: number
  /** The writer's configuration. */
  readonly epoch: number
  /** The generation before and its length there; null: the first one. */
  readonly continues: Position | null
}

/** Operations of one flush, or of a part of it: several flushes may share a block, one may span blocks. */
export interface Segment<T = Operation> {
  /** 16 bytes that name the flush. */
  readonly request: Uint8Array
  /** Operations that the flush has in this outbox, all blocks together. */
  readonly total: number
  readonly operations: readonly T[]
}

export interface OperationsBlock<T = Operation> {
  readonly type: 'operations'
  /** The configuration by which the writer chose this owner. */
  readonly epoch: number
  /** Results of this log below here were read by the writer, and may be forgotten; null: none yet. */
  readonly seen: Position | null
  readonly segments: readonly Segment<T>[]
}

/** How long one outbox of the writer was. */
export interface OutboxLength extends Position {
  readonly node: NodeId
}

/** What is behind this block was written under this epoch. */
export interface MarkBlock {
  readonly type: 'mark'
  readonly epoch: number
  /** Of the configuration; 64 hex digits. */
  readonly configHash: string
  /** All of the writer's outboxes, by the storage node they are for. */
  readonly lengths: readonly OutboxLength[]
}

/** The last block of a generation. */
export interface EndBlock {
  readonly type: 'end'
  /** The generation that goes on. */
  readonly next: number
}

/** Bytes of version 1 that are no block: to be rejected and passed over. */
export interface InvalidBlock {
  readonly type: 'invalid'
  readonly reason: RejectReason
  /** For people. */
  readonly text: string
}

/** A block of a later version: the log stops here. */
export interface UnknownBlock {
  readonly type: 'unknown'
  readonly version: number
}

export type Block = HeadBlock | OperationsBlock | MarkBlock | EndBlock
export type DecodedBlock =
  HeadBlock | OperationsBlock<DecodedOperation> | MarkBlock | EndBlock | InvalidBlock | UnknownBlock

/** The bytes of a block. @throws AssertionError when it breaks a limit, which packBlocks() keeps */
export function encodeBlock(block: Block): Uint8Array {
  const bytes = encodeWith(blockEncoder, block)
  assert(bytes.length <= blockBytesMax, `block of ${bytes.length} bytes`)
  return bytes
}

/** The block of the bytes; never throws for bad bytes. Keys and values are views of `bytes`. */
export function decodeBlock(bytes: Uint8Array): DecodedBlock {
  const state = stateOf(bytes)
  const found = state.buffer[0]
  if (found === undefined) return { type: 'invalid', reason: 'invalid', text: 'empty block' }
  if (found !== version) return { type: 'unknown', version: found }
  if (bytes.length > blockBytesMax) {
    return { type: 'invalid', reason: 'too-large', text: `block of ${bytes.length} bytes` }
  }
  try {
    state.start = 1
    const block = readBlock(state)
    const left = state.end - state.start
    if (left > 0) throw new Refusal('invalid', `${left} bytes behind the block`)
    return block
  } catch (error) {
    if (error instanceof AssertionError) throw error
    const reason = error instanceof Refusal ? error.reason : 'invalid'
    return { type: 'invalid', reason, text: (error as Error).message }
  }
}

const requestCodec = fixed(requestBytes)
const nullablePosition = nullable(position)

const outboxLength: Codec<OutboxLength> = {
  preencode: (state, value) => {
    nodeId.preencode(state, value.node)
    position.preencode(state, value)
  },
  encode: (state, value) => {
    nodeId.encode(state, value.node)
    position.encode(state, value)
  },
  decode: (state) => ({ node: nodeId.decode(state), ...position.decode(state) })
}
const outboxLengths = list(outboxLength, lengthBytesMin, Math.floor(blockBytesMax / lengthBytesMin))

const blockEncoder: Encoder<Block> = {
  preencode(state, block) {
    state.end += 2
    switch (block.type) {
      case 'head':
        uint.preencode(state, block.created)
        uint.preencode(state, block.epoch)
        nullablePosition.preencode(state, block.continues)
        break
      case 'operations':
        uint.preencode(state, block.epoch)
        nullablePosition.preencode(state, block.seen)
        uint.preencode(state, block.segments.length)
        for (const segment of block.segments) preencodeSegment(state, segment)
        break
      case 'mark':
        uint.preencode(state, block.epoch)
        hash32.preencode(state, block.configHash)
        outboxLengths.preencode(state, block.lengths)
        break
      case 'end':
        uint.preencode(state, block.next)
        break
    }
  },
  encode(state, block) {
    uint8.encode(state, version)
    uint8.encode(state, types[block.type])
    switch (block.type) {
      case 'head':
        uint.encode(state, block.created)
        uint.encode(state, block.epoch)
        nullablePosition.encode(state, block.continues)
        break
      case 'operations':
        uint.encode(state, block.epoch)
        nullablePosition.encode(state, block.seen)
        uint.encode(state, block.segments.length)
        for (const segment of block.segments) encodeSegment(state, segment)
        break
      case 'mark':
        uint.encode(state, block.epoch)
        hash32.encode(state, block.configHash)
        outboxLengths.encode(state, block.lengths)
        break
      case 'end':
        uint.encode(state, block.next)
        break
    }
  }
}

function preencodeSegment(state: State, { request, total, operations }: Segment): void {
  requestCodec.preencode(state, request)
  uint.preencode(state, total)
  uint.preencode(state, operations.length)
  for (const operation of operations) state.end += operationBytes(operation)
}

function encodeSegment(state: State, { request, total, operations }: Segment): void {
  requestCodec.encode(state, request)
  uint.encode(state, total)
  uint.encode(state, operations.length)
  for (const operation of operations) writeOperation(state, operation)
}

function readBlock(state: State): Exclude<DecodedBlock, InvalidBlock | UnknownBlock> {
  const type = uint8.decode(state)
  switch (type) {
    case types.head:
      return {
        type: 'head',
        created: uint.decode(state),
        epoch: uint.decode(state),
        continues: nullablePosition.decode(state)
      }
    case types.operations:
      return {
        type: 'operations',
        epoch: uint.decode(state),
        seen: nullablePosition.decode(state),
        segments: readSegments(state)
      }
    case types.mark:
      return {
        type: 'mark',
        epoch: uint.decode(state),
        configHash: hash32.decode(state),
        lengths: outboxLengths.decode(state)
      }
    case types.end:
      return { type: 'end', next: uint.decode(state) }
    default:
      throw new Refusal('unsupported', `block of type ${type}`)
  }
}

function readSegments(state: State): Segment<DecodedOperation>[] {
  const count = decodeCount(state, segmentBytesMin)
  if (count === 0) throw new Refusal('invalid', 'block without operations')
  const segments: Segment<DecodedOperation>[] = []
  let places = 0
  for (let i = 0; i < count; i++) {
    const request = new Uint8Array(requestCodec.decode(state))
    const total = uint.decode(state)
    const length = decodeCount(state, 1)
    if (length === 0 || length > total) {
      throw new Refusal('invalid', `segment with ${length} of ${total} operations`)
    }
    places += length
    if (places > blockOperationsMax) throw new Refusal('too-large', `block of ${places} operations`)
    const operations: DecodedOperation[] = []
    for (let k = 0; k < length; k++) operations.push(readOperation(lengthPrefixed.decode(state)))
    segments.push({ request, total, operations })
  }
  return segments
}
