/** What was written to a journal, walked back from its end. */
import { indexChangesAheadMax } from '../../config/limits.ts'
import type { CoreLease } from '../index-ports.ts'
import type { Entries } from '../wire/index-blocks.ts'
import type { Step } from '../wire/index-step.ts'
import { fetchEntries, fetchStep, type Reading } from './fetch.ts'

/**
 * The entries of a journal's steps, the newest step first, some at a time: of a key that comes again, the first holds.
 * @param end blocks of the journal, of which the last one ends a step
 * @param from a step that ends before this block is not read any more
 * @param readingOfStep gives what the blocks of one step may wait for and take
 */
export async function* entriesBefore(
  core: CoreLease,
  end: number,
  readingOfStep: () => Reading,
  from = 0
): AsyncGenerator<Entries> {
  for (let block = end - 1; block >= Math.max(0, from);) {
    const reading = readingOfStep()
    const step = await fetchStep(core, block, reading)
    yield* entriesOfStep(core, step, reading)
    block = step.first - 1
  }
}

/** The entries of a step, some blocks at a time. */
async function* entriesOfStep(
  core: CoreLease,
  { first, values, data, inline }: Step,
  reading: Reading
): AsyncGenerator<Entries> {
  if (inline) yield inline
  const end = first + values + data
  for (let from = first + values; from < end; from += indexChangesAheadMax) {
    const count = Math.min(indexChangesAheadMax, end - from)
    const blocks = Array.from({ length: count }, (_, at) => from + at)
    yield* await Promise.all(blocks.map((block) => fetchEntries(core, block, reading)))
  }
}
