/** The bounds that merging keeps: sources of a journal, journals and runs of an index, and what is written how often. */
import test from 'tape'
import {
  indexFanOut,
  indexFlushesPerMerge,
  indexJournalsMax,
  indexSmallStepsMax,
  indexSourcesMax,
  indexUpperRunsMax
} from '../../config/limits.ts'
import { toPutTogether } from '../../lib/lsm/memory.ts'
import { OwnIndex } from '../../lib/lsm/own-index.ts'
import type { IndexChange } from '../../lib/ports.ts'
import { decodeLayout } from '../../lib/wire/index-state.ts'
import { random, randomOf, type Random } from '../helpers/random.ts'
import { MemoryCores, MemoryDisk } from './memory-cores.ts'

const runsBound: number = indexUpperRunsMax + 2 + indexFlushesPerMerge + indexJournalsMax

/** Classes of sizes up to so many entries: below 256, and one for each factor of the fan-out. */
function classes(entries: number): number {
  let count = 1
  for (let bound = 256; entries >= bound; bound *= indexFanOut) count++
  return count
}

/** How large the steps of a journal are, each a way to be unkind. */
const shapes: Readonly<Record<string, (source: Random, step: number) => number>> = {
  ones: () => 1,
  small: (source) => source.int(1, 12),
  thousands: () => 1000,
  any: (source) => source.int(1, 1000),
  falling: (_, step) => Math.max(1, Math.floor(4000 / (step + 1))),
  rising: (_, step) => 1 + step,
  'around a bound': (source) => source.pick([255, 256, 257, 2047, 2048]),
  'large between small': (_, step) => (step % 17 === 0 ? 3000 : 1),
  mixed: (source) => (source.chance(0.5) ? 1 : source.pick([20, 300, 5000]))
}

test('sources of a journal', (t) => {
  const source = random(t)
  for (const [name, sizeOf] of Object.entries(shapes)) {
    const overlaps = source.pick([0, 0.3, 0.9])
    let counts: number[] = []
    let small: boolean[] = []
    let entries = 0
    let moved = 0
    let most = 0
    for (let step = 0; step < 4000; step++) {
      const size = sizeOf(source, step)
      const isSmall = size <= 12
      entries += size
      counts = [size, ...counts]
      small = [isSmall, ...small]
      const taken = toPutTogether(counts, small)
      if (taken > 0) {
        const sum = counts.slice(0, taken).reduce((all, count) => all + count, 0)
        const largest = Math.max(...counts.slice(0, taken))
        if (taken > 1) moved += sum
        const together = Math.max(largest, Math.ceil(sum * (1 - overlaps)))
        counts = [together, ...counts.slice(taken)]
        small = [taken === 1 && isSmall, ...small.slice(taken)]
      }
      const bound = indexSmallStepsMax + indexFanOut * classes(entries)
      most = Math.max(most, counts.length)
      if (counts.length <= bound && counts.length <= indexSourcesMax) continue
      t.fail(`${name}: ${counts.length} sources after ${step + 1} steps: ${counts.join(' ')}`)
      break
    }
    const each = moved / entries
    t.ok(most <= indexSourcesMax / 2, `${name}: ${most} sources at most`)
    // Once from a small step, and once for each class; a little more where one class takes in the ones below.
    t.ok(
      each <= 2 * classes(entries),
      `${name}: each entry ${each.toFixed(1)} times in a directory`
    )
  }
  t.end()
})

/** @returns the disk after so many batches of changes */
async function load(
  seed: number,
  keys: number,
  batches: number,
  size: number
): Promise<{ readonly disk: MemoryDisk; readonly runsMost: number }> {
  const source = randomOf(seed)
  const disk = new MemoryDisk()
  const cores = new MemoryCores(disk, source)
  const failures: unknown[] = []
  const index = await OwnIndex.open(cores.anchor(1), {
    cores,
    limits: { journalEntriesMin: 64, tidyEntriesMin: 64, graceMs: 0, historyMs: 0 },
    failed: (error) => failures.push(error)
  })
  let runsMost = 0
  for (let batch = 0; batch < batches; batch++) {
    const changes = Array.from({ length: size }, (): IndexChange => {
      const key = Buffer.from(`key ${source.int(1, keys)}`)
      return { key, value: source.chance(0.1) ? null : source.bytes(30) }
    })
    await index.apply(changes)
    runsMost = Math.max(runsMost, index.shape.runs.length)
  }
  await index.settled()
  await index.close()
  if (failures.length > 0) throw failures[0]
  return { disk, runsMost }
}

test('what an index writes, and of how many parts it consists', async (t) => {
  const { seed } = random(t)
  for (const [keys, batches, size] of [
    [1_000_000, 400, 40],
    [5000, 400, 40],
    [5000, 2000, 5],
    [100, 400, 20]
  ] as const) {
    const { disk, runsMost } = await load(seed, keys, batches, size)
    const name = `${batches} batches of ${size} of ${keys} keys`
    const layouts = disk.anchor.map((block) => decodeLayout(block))
    const journals = Math.max(...layouts.map((layout) => layout.journals.length))
    const runs = Math.max(runsMost, ...layouts.map((layout) => layout.runs.length))
    t.ok(journals <= indexJournalsMax, `${name}: ${journals} journals at most`)
    // Those before a merge begins, those that come while it goes on, and the journals that wait.
    t.ok(runs <= runsBound, `${name}: ${runs} runs at most`)
    const share = disk.runBytes / disk.journalBytes
    // A run of each journal; 3 for merging when the others are half of the largest; what grows meanwhile.
    t.ok(share <= 5, `${name}: runs are ${share.toFixed(1)} times the journals`)
  }
})
