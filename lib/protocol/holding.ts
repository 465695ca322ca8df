/**
 * When blocks that have come count as held: pure.
 *
 * Invariant: what was here when a sync of the store began is held when it has ended; what came meanwhile is not,
 * since a power cut may still take it.
 *
 * Source: design sections 8 (step 3), 12.
 */
import type { Position } from '../types.ts'

/** An open log of an inbox. */
export interface Holding {
  /** Blocks that are here and behind the barrier, without a gap from the start or the cursor. */
  readonly held: number
  /** The first block at or after `from` that is not here. */
  firstMissing(from: number): number
}

export interface Arrival<T extends Holding> {
  readonly opened: T
  /** What `held` is when the sync that begins now has ended. */
  readonly to: number
}

/** What has come since the last sync began; empty: no sync is needed. */
export function arrivals<T extends Holding>(
  opened: Iterable<readonly [number, T]>,
  applied: Position | null
): Arrival<T>[] {
  const arrived: Arrival<T>[] = []
  for (const [generation, log] of opened) {
    const start = applied?.generation === generation ? applied.length : 0
    const to = log.firstMissing(Math.max(log.held, start))
    if (to > log.held) arrived.push({ opened: log, to })
  }
  return arrived
}
