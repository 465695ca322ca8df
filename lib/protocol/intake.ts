/**
 * What a storage node does next with one writer's outbox: pure decisions over what it knows.
 *
 * Invariants:
 * - blocks are applied in the order of (generation, block), each exactly once: the cursor says from where;
 * - a generation that continues another is begun only when the earlier one is applied up to its end, which is
 *   the length that the later one names or what was acked of it, whichever is more; none is ever skipped, but
 *   those that the writer has deleted since this very owner had applied them;
 * - what is acked is held durably, and contiguous from the cursor; what is held in the cursor's own generation
 *   is applied whatever comes after it, even while that is not known;
 * - what was acked of a generation is applied in its turn, by its number, also when the newest one does not lead back
 *   to it: its writer was restored from a backup that does not know it, or has lost it with unsynced writes;
 * - of a removed writer nothing behind the cut-off is fetched, acked or applied;
 * - however many generations a chain has, few logs are needed at a time: those next to the cursor, and the one
 *   at which the way back from the newest has come.
 *
 * Source: design sections 4 (generations), 8 (delivery), 10 (removed writers).
 */
import type { Position } from '../types.ts'
import { comparePositions } from './positions.ts'

/** Logs of one outbox that are open at a time, at most: 40 KB each (measured), and a writer can name any number. */
export const generationsOpenMax = 8
/** Generations that are fetched before the cursor's is done; one log is left for the way back. */
const generationsAheadMax: number = generationsOpenMax - 1

/** One generation of the outbox whose log is open. */
export interface Generation {
  /** Signed blocks that are known to exist. */
  readonly length: number
  /** Blocks that are here and behind the barrier, without a gap from the start or the cursor. */
  readonly held: number
  /** The same with those that are not behind the barrier yet. */
  readonly here: number
}

export interface Intake {
  /** The generation to go back from: the newest that the writer has announced; null: none yet. */
  readonly newest: number | null
  /**
   * Set when `newest` is not the newest one but lies farther back, because a chain is too long to be remembered:
   * where its successor says that it ends. Null: at its length.
   */
  readonly end: number | null
  /** The cursor in the index; null: nothing applied. */
  readonly applied: Position | null
  readonly generations: ReadonlyMap<number, Generation>
  /**
   * Generations of which blocks lie here, in logs that are open or not: all of which anything may have been acked.
   * Null: not known yet, behind a start; nothing but the cursor's own is applied then.
   */
  readonly stored: ReadonlySet<number> | null
  /** What first blocks say, of open logs and of closed ones: the generation before and its length; null: none. */
  readonly links: ReadonlyMap<number, Position | null>
  /** The writer was removed, and nothing behind this counts. */
  readonly cutOff: Position | null
  /**
   * The writer has deleted every generation before this one, because the owner's index showed them applied; null:
   * it has deleted none. An index that was restored from before that goes on here.
   */
  readonly oldest: number | null
}

export interface Range {
  readonly generation: number
  readonly from: number
  readonly to: number
}

export interface Plan {
  /** Generations whose log is needed now; every other one can be closed. */
  readonly needed: readonly number[]
  /** The generation whose first block is to be read, to learn what it continues. */
  readonly head: number | null
  /** Blocks to fetch next, in order. */
  readonly fetch: Range | null
  /** Held blocks to apply next; of one generation. */
  readonly apply: Range | null
  /** How far the storage node answers for it; null: nothing. */
  readonly acked: Position | null
  /** The generations from the cursor's to the newest, oldest first; null: not known yet. */
  readonly chain: readonly number[] | null
  /** All of the chain is held and applied. */
  readonly done: boolean
}

export function plan(intake: Intake): Plan {
  const { generations, applied } = intake
  const { linked, missing } = chainOf(intake)
  const chain = linked && withStored(linked, intake)
  // The cursor's generation comes first whatever the chain is: what is held of it need not wait.
  const known = chain ?? (applied === null || intake.newest === null ? [] : [applied.generation])
  const needed: number[] = []
  let fetch: Range | null = null
  let apply: Range | null = null
  let acked = applied
  let at = 0
  for (; at < known.length && at < generationsAheadMax; at++) {
    const generation = known[at] as number
    needed.push(generation)
    const state = generations.get(generation)
    if (!state) break
    const start = applied?.generation === generation ? applied.length : 0
    const end = endOf(intake, generation, linked)
    const held = Math.min(Math.max(state.held, start), end)
    if (apply === null && held > start) apply = { generation, from: start, to: held }
    const reached = { generation, length: held }
    if (acked === null || comparePositions(reached, acked) > 0) acked = reached
    if (held < end) {
      // What is here, and only waits for the barrier, is not asked for.
      if (state.here < end) fetch = { generation, from: held, to: end }
      break
    }
  }
  if (missing !== null && !needed.includes(missing)) needed.push(missing)
  return {
    needed,
    head: missing !== null && generations.has(missing) ? missing : null,
    fetch,
    apply,
    acked,
    chain,
    done: chain !== null && at === chain.length && apply === null
  }
}

/**
 * Where one generation ends for now: at its length when it is the newest, else where its successor says, or behind
 * that as far as it is here, which may have been acked.
 * @param linked the chain of the newest generation; null: not known yet
 */
function endOf(intake: Intake, generation: number, linked: readonly number[] | null): number {
  const state = intake.generations.get(generation)
  // Of what is not part of the chain, or not known to be, nothing more is fetched.
  let named: number | null = 0
  if (linked?.at(-1) === generation) {
    named = intake.end
  } else if (linked?.includes(generation)) {
    const continues = intake.links.get(linked[linked.indexOf(generation) + 1] as number)
    if (continues?.generation === generation) named = continues.length
  }
  // Its writer has deleted it: an index that was restored from before that has what it has.
  if (intake.oldest !== null && generation < intake.oldest) named = 0
  const applied = intake.applied?.generation === generation ? intake.applied.length : 0
  const end = named === null ? (state?.length ?? 0) : Math.max(named, state?.here ?? 0, applied)
  const { cutOff } = intake
  if (cutOff === null) return end
  if (generation > cutOff.generation) return 0
  return generation === cutOff.generation ? Math.min(end, cutOff.length) : end
}

/** The chain, with what else lies here between the cursor and the newest generation. */
function withStored(
  linked: readonly number[],
  { applied, stored }: Intake
): readonly number[] | null {
  if (stored === null) return null
  const newest = linked.at(-1) ?? 0
  const after = applied?.generation ?? -1
  const between = [...stored].filter((generation) => generation > after && generation < newest)
  if (between.length === 0) return linked
  const all = new Set([...linked, ...between])
  return all.size === linked.length ? linked : [...all].toSorted((a, b) => a - b)
}

/**
 * Goes from the newest generation back to the cursor's.
 * @returns the chain, or the generation whose first block is not known and has to be read before
 */
function chainOf({ newest, applied, links, oldest }: Intake): {
  linked: number[] | null
  missing: number | null
} {
  // The cursor's generation can be above what a writer announces after it was restored from a backup.
  if (newest === null || (applied !== null && newest < applied.generation)) {
    return { linked: null, missing: null }
  }
  const back: number[] = []
  let generation = newest
  for (;;) {
    back.push(generation)
    if (generation === applied?.generation) break
    if (oldest !== null && generation <= oldest) {
      if (applied !== null) back.push(applied.generation)
      break
    }
    const before = links.get(generation)
    if (before === undefined) return { linked: null, missing: generation }
    // A link that leads nowhere (not back, or to a log without a block) is none. And a writer that was restored
    // from a backup does not know the generation that the cursor is in: what was acked of that one still comes first.
    const ends =
      before === null ||
      before.length === 0 ||
      before.generation >= generation ||
      (applied !== null && before.generation < applied.generation)
    if (ends) {
      if (applied !== null) back.push(applied.generation)
      break
    }
    generation = before.generation
  }
  return { linked: back.toReversed(), missing: null }
}
