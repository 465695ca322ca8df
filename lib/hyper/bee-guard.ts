/**
 * Reading an index that somebody else has signed: its blocks are checked before hyperbee sees them, since what is
 * signed can still be hostile. hyperbee itself follows whatever a block names, for ever.
 *
 * - A block's tree nodes are few, small, and lead only to earlier blocks (within a block: nowhere in a circle), so
 *   that every way through the tree ends.
 * - One read takes no more blocks than the deepest honest tree needs; a range a fixed number for each entry.
 * - The entries of a range lie in it, in its order, each once.
 * - What breaks this is CORRUPT and names the node whose index it is; it is never taken for a fault of this disk.
 */
import type Hypercore from 'hypercore'
import type { GetOptions } from 'hypercore'
import {
  indexBlockNodesMax,
  indexDepthMax,
  indexNodeKeysMax,
  indexRangeBlocksAhead,
  indexReadBlocksMax
} from '../../config/limits.ts'
import { KVSwarmError, isKVSwarmError, messageOf } from '../errors.ts'
import type { IndexRange } from '../ports.ts'
import type { NodeId } from '../types.ts'

/** How hyperbee asks for a block: decoded by what it passes. */
interface NodeEncoding {
  decode(bytes: Uint8Array): { readonly index: Uint8Array }
}

/** The error for an index whose blocks make no sense. */
export function corruptIndex(node: NodeId, what: string, cause?: unknown): KVSwarmError {
  return new KVSwarmError('CORRUPT', `the index of storage node ${node} makes no sense: ${what}`, {
    hint: 'that node has signed it so: it is faulty or hostile, and must be looked at; others are not affected',
    cause
  })
}

/** Checks every tree block that is read through this session, and through those that are made of it. */
export function guardSession(session: Hypercore, node: NodeId): void {
  const {
    get,
    session: sessionOf,
    snapshot
  } = session as Hypercore & {
    snapshot(options?: Record<string, unknown>): Hypercore
  }
  const guarded = (made: Hypercore): Hypercore => {
    if (!Object.hasOwn(made, 'get')) guardSession(made, node)
    return made
  }
  Object.assign(session, {
    get: async (seq: number, options: GetOptions = {}): Promise<unknown> => {
      const encoding = options.valueEncoding as unknown as NodeEncoding | undefined
      if (typeof encoding?.decode !== 'function') return await get.call(session, seq, options)
      const bytes = await get.call(session, seq, { ...options, valueEncoding: 'binary' })
      return bytes === null ? null : decodeTreeBlock(encoding, bytes, seq, node, session.length)
    },
    session: (options?: Record<string, unknown>) => guarded(sessionOf.call(session, options)),
    snapshot: (options?: Record<string, unknown>) => guarded(snapshot.call(session, options))
  })
}

function decodeTreeBlock(
  encoding: NodeEncoding,
  bytes: Uint8Array,
  seq: number,
  node: NodeId,
  length: number
): unknown {
  try {
    const block = encoding.decode(bytes)
    checkTreeNodes(block.index, seq, length)
    return block
  } catch (error) {
    throw corruptIndex(node, `block ${seq}: ${messageOf(error)}`, error)
  }
}

/** Counts the blocks that one read looks at. */
export class ReadBudget {
  readonly #node: NodeId
  #left: number

  constructor(node: NodeId, blocks: number = indexReadBlocksMax) {
    this.#node = node
    this.#left = blocks
  }

  /** To be called for each block. @throws CORRUPT when no honest tree needs so many */
  readonly spend = (): void => {
    if (--this.#left < 0) throw corruptIndex(this.#node, 'a read needs too many blocks')
  }

  more(blocks: number): void {
    this.#left += blocks
  }
}

/** Checks the entries of one range as they come. */
export class RangeCheck {
  readonly budget: ReadBudget
  readonly #node: NodeId
  readonly #range: IndexRange
  #last: Uint8Array | null = null

  constructor(node: NodeId, range: IndexRange) {
    this.#node = node
    this.#range = range
    this.budget = new ReadBudget(node, indexRangeBlocksAhead + indexReadBlocksMax)
  }

  /** @throws CORRUPT when the key cannot come next */
  take(key: Uint8Array): void {
    const { gt, gte, lt, lte, reverse } = this.#range
    const outside =
      (gt !== undefined && Buffer.compare(key, gt) <= 0) ||
      (gte !== undefined && Buffer.compare(key, gte) < 0) ||
      (lt !== undefined && Buffer.compare(key, lt) >= 0) ||
      (lte !== undefined && Buffer.compare(key, lte) > 0)
    if (outside) throw corruptIndex(this.#node, 'a range holds a key from outside')
    const order = this.#last === null ? 1 : Buffer.compare(key, this.#last)
    if (reverse === true && this.#last !== null ? order >= 0 : order <= 0) {
      throw corruptIndex(this.#node, 'keys that are not in order')
    }
    this.#last = key
    this.budget.more(indexReadBlocksMax)
  }
}

/** What a read of hyperbee threw, when it is about the blocks and not about this node; null: it is not. */
export function faultOfBlocks(error: unknown, node: NodeId): KVSwarmError | null {
  if (isKVSwarmError(error)) return null
  const { code } = error as { code?: string }
  if (!(error instanceof TypeError || error instanceof RangeError || code === 'DECODING_ERROR')) {
    return null
  }
  return corruptIndex(node, messageOf(error), error)
}

/**
 * The tree nodes of one block, as hyperbee encodes them: for each `0a`, length, and in it the keys (`0a`, length,
 * numbers) and the children (`12`, length, pairs of block and place). Nothing else is taken.
 */
function checkTreeNodes(bytes: Uint8Array, seq: number, length: number): void {
  const cursor = new Cursor(bytes)
  /** For each tree node the places of its children in this very block. */
  const local: number[][] = []
  const places: number[] = []
  while (!cursor.done) {
    if (local.length >= indexBlockNodesMax) throw new Error(`over ${indexBlockNodesMax} tree nodes`)
    const inner = cursor.field(0x0a)
    if (inner === null) throw new Error('an unknown field')
    const keys = inner.numbers(0x0a, indexNodeKeysMax)
    const children = inner.numbers(0x12, 2 * (indexNodeKeysMax + 1))
    if (!inner.done) throw new Error('an unknown field')
    if (children.length > 0 && children.length !== 2 * (keys.length + 1)) {
      throw new Error(`${children.length / 2} children of ${keys.length} keys`)
    }
    // A root can be empty, and has no children then; an empty node below would be a way without an end.
    if (children.length > 0 && keys.length === 0) throw new Error('an empty tree node')
    // A tree node that a later operation of the same batch changed again is written into both blocks as it is in
    // the end: keys of an honest index may lie ahead. They lead nowhere else.
    for (const key of keys) if (key < 1 || key >= length) throw new Error(`a key in block ${key}`)
    const mine: number[] = []
    for (let i = 0; i < children.length; i += 2) {
      const block = children[i] as number
      const place = children[i + 1] as number
      if (block < 1 || block > seq) throw new Error(`a child in block ${block}`)
      if (place >= indexBlockNodesMax) throw new Error(`a child at place ${place}`)
      if (block !== seq) continue
      mine.push(place)
      places.push(place)
    }
    local.push(mine)
  }
  for (const place of places) if (place >= local.length) throw new Error(`no tree node ${place}`)
  checkDepth(local)
}

/** Within a block, tree nodes lead nowhere in a circle, and not deep. */
function checkDepth(children: readonly (readonly number[])[]): void {
  /** 0: not looked at; -1: on the way down; else its height. */
  const heights = new Int32Array(children.length)
  const heightOf = (place: number, depth: number): number => {
    const known = heights[place] as number
    if (known > 0) return known
    if (known < 0) throw new Error('tree nodes in a circle')
    if (depth > indexDepthMax) throw new Error(`a tree deeper than ${indexDepthMax}`)
    heights[place] = -1
    let height = 1
    for (const child of children[place] ?? []) {
      height = Math.max(height, 1 + heightOf(child, depth + 1))
    }
    heights[place] = height
    return height
  }
  for (let place = 0; place < children.length; place++) {
    if (heightOf(place, 1) > indexDepthMax) throw new Error(`a tree deeper than ${indexDepthMax}`)
  }
}

/** Reads varints and length-prefixed fields, strictly within bounds. */
class Cursor {
  readonly #bytes: Uint8Array
  readonly #end: number
  #at: number

  constructor(bytes: Uint8Array, from = 0, to: number = bytes.length) {
    this.#bytes = bytes
    this.#at = from
    this.#end = to
  }

  get done(): boolean {
    return this.#at >= this.#end
  }

  /** The content of a field when it is the next one, else null. */
  field(tag: number): Cursor | null {
    if (this.done || this.#bytes[this.#at] !== tag) return null
    this.#at++
    const length = this.#number()
    const from = this.#at
    this.#at += length
    if (this.#at > this.#end) throw new Error('a length beyond the end')
    return new Cursor(this.#bytes, from, this.#at)
  }

  /** A field of numbers; none when it is not the next one. */
  numbers(tag: number, max: number): number[] {
    const inner = this.field(tag)
    const numbers: number[] = []
    if (inner === null) return numbers
    while (!inner.done) {
      if (numbers.length >= max) throw new Error(`a tree node of over ${max} numbers`)
      numbers.push(inner.#number())
    }
    return numbers
  }

  #number(): number {
    let value = 0
    let scale = 1
    for (;;) {
      if (this.done) throw new Error('a number beyond the end')
      const byte = this.#bytes[this.#at++] as number
      value += (byte & 0x7f) * scale
      if (byte < 0x80) break
      scale *= 0x80
    }
    if (!Number.isSafeInteger(value)) throw new Error('a number that is too large')
    return value
  }
}
