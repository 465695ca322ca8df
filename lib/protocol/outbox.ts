/**
 * What an outbox appends, where it goes on, and what a position in it says of a flush: pure decisions.
 *
 * Invariants:
 * - a block is of one epoch: that by which its operations were routed; order is kept;
 * - a generation that may have lost a tail is never appended to, nor one that is ended;
 * - a flush that was lost with an unsynced tail is never taken for a receipted one.
 *
 * Source: design sections 4 (generations), 8 (steps 2 and 5).
 */
import type { Position } from '../types.ts'
import type { DecodedBlock } from '../wire/blocks.ts'

/** Splits what waits into runs of one epoch, in order. */
export function runsOf<T extends { readonly epoch: number }>(group: readonly T[]): T[][] {
  const runs: T[][] = []
  for (const pending of group) {
    const run = runs.at(-1)
    if (run && run[0]?.epoch === pending.epoch) run.push(pending)
    else runs.push([pending])
  }
  return runs
}

/**
 * What a position of the storage node says of blocks [from, to) of a generation.
 * @param ends where each generation that another one continues ends, or that may have lost a tail
 * @returns `lost`: they lie behind that end, so that nobody may ever have had them
 */
export function coverage(
  position: Position | null,
  part: { readonly generation: number; readonly to: number },
  ends: ReadonlyMap<number, number>
): 'covered' | 'open' | 'lost' {
  if (position === null || position.generation < part.generation) return 'open'
  const end = ends.get(part.generation)
  if (position.generation === part.generation) {
    if (position.length >= part.to) return 'covered'
    // Nothing more of it will ever come from here, and of more than this outbox has no claim is believed.
    return end !== undefined && part.to > end && position.length >= end ? 'lost' : 'open'
  }
  return end !== undefined && part.to > end ? 'lost' : 'covered'
}

/**
 * Where an outbox goes on after a start.
 * @param newest its newest generation that has a block
 * @returns `append` to it; or a new generation, and the number that an ended one names for it
 */
export function goOn(newest: {
  /** Nothing of it that was announced can be missing. */
  readonly whole: boolean
  readonly last: DecodedBlock | null
}): { readonly append: boolean; readonly next: number | null } {
  if (!newest.whole) return { append: false, next: null }
  if (newest.last?.type === 'end') return { append: false, next: newest.last.next }
  return { append: true, next: null }
}

/**
 * Whether the next generation is begun although nothing is written. A generation that was announced can be lost, by
 * a power cut without syncs or a restore: the storage node then waits for its first block and takes in nothing of
 * those before it, until it hears of a later one.
 * @param newest the newest generation that has a block, when it is not appended to
 */
export function shouldContinue(newest: {
  readonly whole: boolean
  /** The storage node has applied all that is here of it. */
  readonly receipted: boolean
}): boolean {
  return !newest.whole && !newest.receipted
}

/** What is known of the numbers of an outbox's generations. */
export interface Numbers {
  /** What the end of the newest generation names; null: it was not ended. */
  readonly named: number | null
  /** The highest that was ever begun, as far as is known here. */
  readonly highest: number | null
  /** Generations without a block that have not lost any. */
  readonly empty: readonly number[]
  /** A number that was never used. */
  readonly fresh: number
}

/**
 * The number of the generation that begins: the one that the generation before names, unless that was used, by a
 * generation that has lost its blocks or began before a crash and is known no more.
 */
export function numberToBegin({ named, highest, empty, fresh }: Numbers): number {
  if (named === null) return fresh
  if (highest === null || named > highest) return named
  return named === highest && empty.includes(named) ? named : fresh
}
