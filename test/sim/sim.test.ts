// time limit: 15 min
// The decisions of lib/protocol/ in a deterministic simulation: nothing is found in them, and planted bugs are.
import { mkdtemp, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { tmpdir } from 'node:os'
import test from 'tape'
import { random } from '../helpers/random.ts'
import { plantedBugs, runCopy } from './planted.ts'
import { Finding, World } from './world.ts'

const schedules = 2_000
/** So many are tried for each planted bug: the same ones always, so that they are found in every run. */
const schedulesForBug = 2_000
/** What found bugs that are mended. */
const foundBySeeds = [420858203, 420874872]

/** @returns the first finding, if there is one */
function findingOf(seeds: Iterable<number>, comment: (text: string) => void): string | null {
  for (const seed of seeds) {
    try {
      new World(seed).run()
    } catch (error) {
      if (!(error instanceof Finding)) throw error
      comment(`npx tsx test/sim/run.ts --seed ${seed} --trace`)
      return error.message
    }
  }
  return null
}

test(`${schedules} schedules: nothing is found`, (t) => {
  const first = random(t).seed
  const seeds = Array.from({ length: schedules }, (_, i) => first + i)
  t.equal(
    findingOf(seeds, (text) => t.comment(text)),
    null
  )
  t.end()
})

test('nor in those that found something once', (t) => {
  t.equal(
    findingOf(foundBySeeds, (text) => t.comment(text)),
    null
  )
  t.end()
})

test('a schedule is the same again by its seed', (t) => {
  const trace = (seed: number): string[] => {
    const lines: string[] = []
    new World(seed, (line) => lines.push(line)).run()
    return lines
  }
  for (let seed = 1; seed <= 5; seed++) {
    const lines = trace(seed)
    t.ok(lines.length > 100, `${lines.length} lines`)
    t.deepEqual(trace(seed), lines)
  }
  t.end()
})

test(`planted bugs are found within ${schedulesForBug} schedules each`, async (t) => {
  const bugs = await plantedBugs()
  t.ok(bugs.length >= 12, `${bugs.length} bugs`)
  const folder = await mkdtemp(join(tmpdir(), 'kvs-sim-'))
  try {
    const clean = await runCopy(join(folder, 'clean'), null, 50, 1)
    t.notOk(clean.found, `a copy as it is: ${clean.text}`)
    const waiting = [...bugs]
    const worker = async (): Promise<void> => {
      for (let bug = waiting.shift(); bug; bug = waiting.shift()) {
        const { found, text } = await runCopy(
          join(folder, bug.name),
          bug,
          schedulesForBug,
          bug.seed
        )
        t.ok(found, `${bug.name}: ${text}`)
      }
    }
    await Promise.all([worker(), worker()])
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
})
