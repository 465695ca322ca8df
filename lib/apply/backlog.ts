/**
 * How much of one writer's outbox may be asked for: by the bytes that are here and not applied, and by how large
 * its blocks are taken to be.
 *
 * Invariant: by the estimate, what is here and what is asked for never exceed intakeBytesMax together. A block's
 * size is known only when it has come, so the window begins with few and widens as sizes become known.
 */
import { blockBytesMax, intakeBlocksMax, intakeBytesMax } from '../../config/limits.ts'
import type { Position } from '../types.ts'

export class Backlog {
  /** Sizes of blocks that are here and not applied, by generation and block. */
  readonly #sizes = new Map<number, Map<number, number>>()
  #bytes = 0
  /** Bytes of the next block: the largest there can be at first, half of that after each smaller one. */
  #estimate = blockBytesMax
  #applied: Position | null = null

  /** Bytes that are here and not applied, as far as they came since this node started. */
  get bytes(): number {
    return this.#bytes
  }

  arrived(generation: number, block: number, bytes: number): void {
    // The first block of a generation is small, and tells nothing of the others.
    if (block > 0) this.#estimate = Math.max(bytes, Math.ceil(this.#estimate / 2))
    const applied = this.#applied
    if (applied !== null && generation < applied.generation) return
    if (generation === applied?.generation && block < applied.length) return
    let sizes = this.#sizes.get(generation)
    if (!sizes) this.#sizes.set(generation, (sizes = new Map()))
    this.#bytes += bytes - (sizes.get(block) ?? 0)
    sizes.set(block, bytes)
  }

  applied(position: Position): void {
    const from = this.#applied?.generation === position.generation ? this.#applied.length : 0
    this.#applied = position
    for (const [generation, sizes] of this.#sizes) {
      if (generation > position.generation) continue
      if (generation < position.generation) {
        for (const bytes of sizes.values()) this.#bytes -= bytes
        sizes.clear()
      } else {
        for (let block = from; block < position.length && sizes.size > 0; block++) {
          this.#bytes -= sizes.get(block) ?? 0
          sizes.delete(block)
        }
      }
      if (sizes.size === 0) this.#sizes.delete(generation)
    }
  }

  /** How many blocks may be asked for at a time. */
  window(): number {
    const fits = Math.floor((intakeBytesMax - this.#bytes) / this.#estimate)
    return Math.max(0, Math.min(intakeBlocksMax, fits))
  }

  /** Blocks turned out so large that requests under way are to be given up; a little too much is let be. */
  isOverdrawn(asked: number): boolean {
    return asked > 1 && this.#bytes + asked * this.#estimate > 2 * intakeBytesMax
  }
}
