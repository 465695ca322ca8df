/**
 * What a journal holds, in the memory of the node that writes it: its sources, each sorted and never changed, so that a
 * snapshot is a list of them. Which sources are put together, and when, follows from their sizes alone: a journal that
 * is read again after a restart comes to the same sources.
 */
import { indexFanOut, indexSmallStepsMax } from '../../config/limits.ts'
import { lastNotAbove, type Entries, type StoredValue } from '../wire/index-blocks.ts'
import type { KeyText } from '../wire/index-bytes.ts'
import type { StepSource } from '../wire/index-step.ts'

/** One source, with all its entries. */
export interface MemorySource extends Entries {
  /** Where each entry lies. */
  readonly blocks: readonly number[]
  /** As the journal's newest step tells it. */
  readonly told: StepSource
}

/** Entries from several sources, and where they lie. */
export interface Merged extends Entries {
  readonly blocks: readonly number[]
}

/**
 * Of sources, the newest first, one: what a newer one says of a key holds.
 * @param dropped told of each value that does not hold any more
 */
export function mergeSources(
  sources: readonly Merged[],
  dropped: (value: StoredValue) => void = () => {}
): Merged {
  let [merged = { keys: [], values: [], blocks: [] }] = sources
  for (const older of sources.slice(1)) merged = mergeTwo(merged, older, dropped)
  return merged
}

function mergeTwo(newer: Merged, older: Merged, dropped: (value: StoredValue) => void): Merged {
  const keys: KeyText[] = []
  const values: StoredValue[] = []
  const blocks: number[] = []
  let a = 0
  let b = 0
  const takeFrom = (from: Merged, at: number): void => {
    keys.push(from.keys[at] as KeyText)
    values.push(from.values[at] as StoredValue)
    blocks.push(from.blocks[at] as number)
  }
  while (a < newer.keys.length && b < older.keys.length) {
    const left = newer.keys[a] as KeyText
    const right = older.keys[b] as KeyText
    if (left <= right) {
      takeFrom(newer, a++)
      if (left === right) dropped(older.values[b++] as StoredValue)
    } else takeFrom(older, b++)
  }
  while (a < newer.keys.length) takeFrom(newer, a++)
  while (b < older.keys.length) takeFrom(older, b++)
  return { keys, values, blocks }
}

/**
 * How many of the newest sources are put under one directory, the step that was just made first; 0: none.
 * Small steps are, when there are many; sources of one size class, when there are as many as the fan-out.
 * @param counts entries of each source, the newest first
 * @param small whether each is a small step
 */
export function toPutTogether(counts: readonly number[], small: readonly boolean[]): number {
  let steps = 0
  while (steps < small.length && small[steps] === true) steps++
  let taken = steps >= indexSmallStepsMax ? steps : 0
  // Small steps wait for one another.
  if (taken === 0 && steps > 0) return 0
  for (;;) {
    let size = counts[0] as number
    for (let at = 1; at < taken; at++) size += counts[at] as number
    const sizeClass = classOf(size)
    let end = taken
    while (end < counts.length && classOf(counts[end] as number) <= sizeClass) end++
    const together = end - taken + (taken > 0 ? 1 : 0)
    if (end === taken || together < indexFanOut) return taken
    taken = end
  }
}

/** 0 below 256 entries, and one more for each 8 times as many. */
function classOf(entries: number): number {
  let sizeClass = 0
  for (let bound = 256; entries >= bound; bound *= indexFanOut) sizeClass++
  return sizeClass
}

/** The entry of a key in a source; undefined: it says nothing of it. */
export function findEntry({ keys, values }: Entries, key: KeyText): StoredValue | undefined {
  const at = lastNotAbove(keys, key)
  return at >= 0 && keys[at] === key ? values[at] : undefined
}
