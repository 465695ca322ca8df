/**
 * The door to blocks (block-format.ts) and their operations (operations.ts), and how flushes are packed into them:
 * a block costs far more than an operation, so those that wait go out together.
 *
 * - Order is kept: within a flush, and between flushes.
 * - An operation or atomic group is never split; one that is larger than blockBytesTarget has a block alone.
 * - No block has more than blockOperationsMax operations or blockBytesMax bytes.
 */
import { blockBytesTarget, blockOperationsMax } from '../../config/limits.ts'
import { assert } from '../assert.ts'
import type { Operation, Position } from '../types.ts'
import { encodeBlock, type Segment } from './block-format.ts'
import { nullable, position, sizeOf, uint } from './codec.ts'
import { checkOperation, operationBytes } from './operations.ts'

export { decodeBlock, encodeBlock } from './block-format.ts'
export type {
  Block,
  DecodedBlock,
  EndBlock,
  HeadBlock,
  InvalidBlock,
  MarkBlock,
  OperationsBlock,
  OutboxLength,
  Segment,
  UnknownBlock
} from './block-format.ts'
export { checkOperation, operationBytes } from './operations.ts'
export type { DecodedOperation, InvalidOperation } from './operations.ts'

/** What one flush has for one owner. */
export interface Flush {
  /** 16 bytes that name it. */
  readonly request: Uint8Array
  readonly operations: readonly Operation[]
}

export interface PackOptions {
  /** The configuration by which the owner was chosen. */
  readonly epoch: number
  /** Results of this log below here were read; null: none yet. */
  readonly seen: Position | null
  readonly flushes: readonly Flush[]
}

export interface PackedBlocks {
  readonly blocks: readonly Uint8Array[]
  /** For each flush the blocks [from, to) of `blocks` that hold it; empty when it has no operations. */
  readonly parts: readonly { readonly from: number; readonly to: number }[]
}

const requestBytes = 16
/** Bytes of a count of operations or segments, neither of which exceeds blockOperationsMax. */
const countBytesMax: number = sizeOf(uint, blockOperationsMax)

/**
 * As few blocks as the bounds allow, in order.
 * @throws KEY_INVALID, KEY_TOO_LARGE, VALUE_INVALID, VALUE_TOO_LARGE when an owner would reject an operation
 */
export function packBlocks(options: PackOptions): PackedBlocks {
  const packer = new Packer(options.epoch, options.seen)
  const parts = options.flushes.map((flush) => packer.add(flush))
  return { blocks: packer.finish(), parts }
}

class Packer {
  readonly #epoch: number
  readonly #seen: Position | null
  readonly #headBytes: number
  readonly #blocks: Uint8Array[] = []
  #segments: Segment[] = []
  #bytes: number
  #operations = 0

  constructor(epoch: number, seen: Position | null) {
    this.#epoch = epoch
    this.#seen = seen
    this.#headBytes = 2 + sizeOf(uint, epoch) + sizeOf(nullable(position), seen) + countBytesMax
    this.#bytes = this.#headBytes
  }

  add({ request, operations }: Flush): { from: number; to: number } {
    assert(request.length === requestBytes, `request of ${request.length} bytes`)
    const total = operations.length
    const segmentBytes = requestBytes + sizeOf(uint, total) + countBytesMax
    let segment: Operation[] | null = null
    let from = this.#blocks.length
    for (const [i, operation] of operations.entries()) {
      checkOperation(operation)
      const bytes = operationBytes(operation)
      if (!this.#fits(segment === null ? segmentBytes + bytes : bytes)) {
        this.#close()
        segment = null
      }
      if (i === 0) from = this.#blocks.length
      if (segment === null) {
        segment = []
        this.#segments.push({ request, total, operations: segment })
        this.#bytes += segmentBytes
      }
      segment.push(operation)
      this.#bytes += bytes
      this.#operations++
    }
    // what was added last lies in the block that is still open
    return { from, to: total === 0 ? from : this.#blocks.length + 1 }
  }

  finish(): readonly Uint8Array[] {
    if (this.#operations > 0) this.#close()
    return this.#blocks
  }

  #fits(bytes: number): boolean {
    if (this.#operations === 0) return true
    return this.#operations < blockOperationsMax && this.#bytes + bytes <= blockBytesTarget
  }

  #close(): void {
    const segments = this.#segments
    this.#blocks.push(
      encodeBlock({ type: 'operations', epoch: this.#epoch, seen: this.#seen, segments })
    )
    this.#segments = []
    this.#bytes = this.#headBytes
    this.#operations = 0
  }
}
