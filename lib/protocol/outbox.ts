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
 * @param ends where each generation that another one continues ends, as the later one says
 * @returns `lost`: the later generation continues before them, so that nobody may ever have had them
 */
export function coverage(
  position: Position | null,
  part: { readonly generation: number; readonly to: number },
  ends: ReadonlyMap<number, number>
): 'covered' | 'open' | 'lost' {
  if (position === null || position.generation < part.generation) return 'open'
  if (position.generation === part.generation) {
    return position.length >= part.to ? 'covered' : 'open'
  }
  const end = ends.get(part.generation)
  return end !== undefined && part.to > end ? 'lost' : 'covered'
}
