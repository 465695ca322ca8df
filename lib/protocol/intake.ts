/**
 * What a storage node does next with one writer's outbox: pure decisions over what it knows.
 *
 * Invariants:
 * - blocks are applied in the order of (generation, block), each exactly once: the cursor says from where;
 * - a generation that continues another is begun only when the earlier one is applied up to its end, which is
 *   the length that the later one names or what was acked of it, whichever is more; none is ever skipped;
 * - what is acked is held durably, and contiguous from the cursor;
 * - of a removed writer nothing behind the cut-off is fetched, acked or applied.
 *
 * Source: design sections 4 (generations), 8 (delivery), 10 (removed writers).
 */
import type { Position } from '../types.ts'
import { comparePositions } from './positions.ts'

/** One generation of the outbox, as far as the storage node knows it. */
export interface Generation {
  /** Signed blocks that are known to exist. */
  readonly length: number
  /** Blocks that are here and behind the barrier, without a gap from the start or the cursor. */
  readonly held: number
  /** What its first block says: the generation before and its length; null: the first; undefined: not read. */
  readonly continues: Position | null | undefined
}

export interface Intake {
  /** The newest generation that the writer has announced; null: none yet. */
  readonly newest: number | null
  /** The cursor in the index; null: nothing applied. */
  readonly applied: Position | null
  readonly generations: ReadonlyMap<number, Generation>
  /** The writer was removed, and nothing behind this counts. */
  readonly cutOff: Position | null
}

export interface Range {
  readonly generation: number
  readonly from: number
  readonly to: number
}

export interface Plan {
  /** Generations whose log is to be opened. */
  readonly open: readonly number[]
  /** Generations whose first block is to be fetched, to learn what they continue. */
  readonly heads: readonly number[]
  /** Blocks to fetch next, in order. */
  readonly fetch: Range | null
  /** Held blocks to apply next; of one generation. */
  readonly apply: Range | null
  /** How far the storage node answers for it; null: nothing. */
  readonly acked: Position | null
  /** The generations from the cursor's to the newest, oldest first; null: not known yet. */
  readonly chain: readonly number[] | null
}

export function plan(intake: Intake): Plan {
  const { generations, applied, newest } = intake
  const open: number[] = []
  const heads: number[] = []
  const idle: Plan = { open, heads, fetch: null, apply: null, acked: applied, chain: null }
  if (newest === null) return idle
  const chain = chainOf(intake, open, heads)
  if (chain === null) return idle

  let fetch: Range | null = null
  let apply: Range | null = null
  let acked = applied
  for (let i = 0; i < chain.length; i++) {
    const generation = chain[i] as number
    const state = generations.get(generation)
    if (!state) {
      if (!open.includes(generation)) open.push(generation)
      break
    }
    const start = applied?.generation === generation ? applied.length : 0
    const end = endOf(intake, chain, i)
    const held = Math.min(Math.max(state.held, start), end)
    if (apply === null && held > start) apply = { generation, from: start, to: held }
    const reached = { generation, length: held }
    if (acked === null || comparePositions(reached, acked) > 0) acked = reached
    if (held < end) {
      fetch = { generation, from: held, to: end }
      break
    }
  }
  return { open, heads, fetch, apply, acked, chain }
}

/**
 * Where one generation of the chain ends for now: at its length when it is the newest, else where its successor
 * says, or behind that as far as it was acked.
 */
function endOf(intake: Intake, chain: readonly number[], at: number): number {
  const generation = chain[at] as number
  const state = intake.generations.get(generation)
  const successor = chain[at + 1]
  let end = state?.length ?? 0
  if (successor !== undefined) {
    const continues = intake.generations.get(successor)?.continues
    const named = continues?.generation === generation ? continues.length : 0
    const applied = intake.applied?.generation === generation ? intake.applied.length : 0
    end = Math.max(named, state?.held ?? 0, applied)
  }
  const { cutOff } = intake
  if (cutOff === null) return end
  if (generation > cutOff.generation) return 0
  return generation === cutOff.generation ? Math.min(end, cutOff.length) : end
}

/** Walks from the newest generation back to the cursor's; null while a link is not known. */
function chainOf(intake: Intake, open: number[], heads: number[]): number[] | null {
  const { generations, applied, newest } = intake
  const chain: number[] = []
  let generation = newest as number
  // The cursor's generation can be above what a writer announces after it was restored from a backup.
  if (applied !== null && generation < applied.generation) return null
  for (;;) {
    chain.unshift(generation)
    if (applied !== null && generation === applied.generation) return chain
    const state = generations.get(generation)
    if (!state) {
      open.push(generation)
      return null
    }
    if (state.continues === undefined) {
      heads.push(generation)
      return null
    }
    const before = state.continues
    if (before === null || before.generation >= generation) {
      return applied === null ? chain : [applied.generation, ...chain]
    }
    // A writer that was restored from a backup does not know the generation that the cursor is in: what was
    // acked of that one still comes first.
    if (applied !== null && before.generation < applied.generation) {
      return [applied.generation, ...chain]
    }
    generation = before.generation
  }
}
