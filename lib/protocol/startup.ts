/**
 * What a node may go on with after a start: pure decisions over high-water marks and what is on disk.
 *
 * Invariants:
 * - a log is appended to only when nothing of it that was announced can be missing; otherwise it goes on under a
 *   new generation, since appending to a log with a lost tail forks it for ever;
 * - the number of a generation is never used twice;
 * - versionstamps rise over all generations of an index: each has a later serial than the one that it goes on from;
 *   of two that go on from the same backup, the later one begins above the other, by the clock.
 *
 * Source: design sections 4 (generations), 12 (start), lib/hyper/marks.ts.
 */
import type { LogName } from '../types.ts'
import type { IndexState } from '../wire/records.ts'

/** How the last session ended; null: nothing tells. */
export type LastEnd = { readonly clean: boolean; readonly durability: 'sync' | 'os' } | null

/** Whether a log of ours may have lost a tail that its mark does not tell of. */
export function isSuspect(kind: LogName['kind'], last: LastEnd): boolean {
  if (last === null) return true
  return kind === 'outbox' && last.durability === 'os' && !last.clean
}

/** What lies on disk of a log of ours. */
export interface OnDisk {
  readonly length: number
  /** Blocks that are here without a gap from the start. */
  readonly contiguous: number
}

/**
 * Whether the log can go on by its mark.
 * @returns how many of its blocks have to have the mark's hash for that; null: it cannot
 */
export function goesOnWithHashAt(
  mark: { readonly length: number; readonly hashLength: number } | null,
  { length, contiguous }: OnDisk
): number | null {
  if (mark === null || length < mark.length || contiguous < length) return null
  return mark.hashLength
}

/** A number that no generation of the log has had: also when it was restored from an older copy, by the clock. */
export function nextGenerationAfter(highest: number | null, now: number): number {
  return Math.max((highest ?? 0) + 1, now)
}

/** Microseconds in which the next serial is passed over; 6.4 days. As much is left in the counter above them. */
const serialSpan = 2 ** 39
/** A clock that is far ahead passes over no more; 71 years. */
const serialsPassedMax = 4_096

/**
 * What a new index generation begins with.
 *
 * The next serial alone would be given again by each generation that goes on from the same backup, and the same
 * versionstamps with it, for other operations. So serial and counter begin as far behind `before` as the clock is, in
 * microseconds: the later one is ahead of all that the earlier one has given, unless that was a million operations a
 * second, or the clock was set back between the two. They rise behind `before` whatever the clock says.
 * @param before the state that it goes on from, if there is one
 */
export function beginIndex(
  before: IndexState | null,
  config: { readonly epoch: number; readonly hash: string },
  now: number
): IndexState {
  if (before === null) {
    return { epoch: config.epoch, configHash: config.hash, serial: 1, counter: 0, now }
  }
  const spans = (ms: number): number => Math.floor((ms * 1_000) / serialSpan)
  const passed = Math.min(serialsPassedMax, Math.max(0, spans(now) - spans(before.now)))
  return {
    ...before,
    serial: before.serial + 1 + passed,
    counter: (Math.max(0, now) * 1_000) % serialSpan,
    now: Math.max(now, before.now)
  }
}
