/**
 * What the first blocks of one outbox's generations say that they continue: the way back from the newest one.
 *
 * Invariant: at most linksMax are remembered. Of a longer chain the end that is nearest to the cursor is: what lies
 * behind it is walked again when that much is applied.
 */
import { linksMax } from '../../config/limits.ts'
import type { Position } from '../types.ts'

export class ChainLinks {
  readonly #max: number
  readonly #links = new Map<number, Position | null>()
  #newest: number | null = null
  /** Where the way back begins when the links behind it were forgotten, and what the cursor was then. */
  #until: { readonly position: Position; readonly applied: Position | null } | null = null

  constructor(max: number = linksMax) {
    this.#max = max
  }

  get all(): ReadonlyMap<number, Position | null> {
    return this.#links
  }

  /** The newest generation that was announced. */
  get newest(): number | null {
    return this.#newest
  }

  /** The generation to go back from. */
  get from(): number | null {
    return this.#until?.position.generation ?? this.#newest
  }

  /** Where the generation to go back from ends, as its successor says; null: it has none. */
  get end(): number | null {
    return this.#until?.position.length ?? null
  }

  /** The way back begins anew: a writer that was restored goes on from somewhere else than what is remembered. */
  announce(generation: number): void {
    this.#newest = generation
    this.#until = null
  }

  learn(generation: number, continues: Position | null, applied: Position | null): void {
    this.#links.set(generation, continues)
    if (this.#links.size <= this.#max) return
    const top = this.from ?? generation
    const before = this.#links.get(top)
    if (top === generation || !before) {
      // What fills it are announcements that came to nothing: the way back is short without them.
      this.#links.clear()
      this.#links.set(generation, continues)
      return
    }
    for (const other of this.#links.keys()) if (other >= top) this.#links.delete(other)
    this.#until = { position: before, applied }
  }

  /** The chain is whole: what is not part of it is forgotten. */
  retain(chain: readonly number[]): void {
    if (this.#links.size <= chain.length) return
    const kept = new Set(chain)
    for (const generation of this.#links.keys()) {
      if (!kept.has(generation)) this.#links.delete(generation)
    }
  }

  /**
   * All that is remembered is applied.
   * @returns true when there is more behind it, and the way back has to be walked again
   */
  applied(applied: Position | null): boolean {
    const until = this.#until
    // A chain that was walked without anything to apply would be walked again for ever.
    if (until === null || samePosition(until.applied, applied)) return false
    this.#until = null
    this.#links.clear()
    return true
  }
}

function samePosition(a: Position | null, b: Position | null): boolean {
  return a?.generation === b?.generation && a?.length === b?.length
}
