/**
 * A thousand short runs of an own index beside a sorted map, each from a seed of its own.
 *
 * KVSWARM_TEST_MODEL_RUNS: how many (1000). KVSWARM_TEST_SEED=N and KVSWARM_TEST_MODEL_RUNS=1 repeat the run of seed N.
 */
import test from 'tape'
import { random } from '../helpers/random.ts'
import { ModelRun, type Seen } from './model.ts'

const runs = Number(process.env['KVSWARM_TEST_MODEL_RUNS'] ?? 1000)

/** What so many runs come to. */
const expected: readonly string[] = [
  ...['begin', 'append', 'anchor', 'note', 'build', 'finish', 'delete', 'delete build'].map(
    (effect) => `crash: ${effect}`
  ),
  'crash at the start',
  'reopen',
  'orphans collected',
  'old snapshot',
  'changes told',
  'changes not told',
  'journals kept',
  'several journals',
  'several runs'
]

test(`${runs} runs beside a sorted map`, async (t) => {
  const { seed } = random(t)
  const seen: Seen = new Map()
  const failed: string[] = []
  for (let run = 0; run < runs && failed.length < 3; run++) {
    try {
      await new ModelRun(seed + run, seen).run()
    } catch (error) {
      failed.push(`seed ${seed + run}: ${error instanceof Error ? error.stack : String(error)}`)
    }
  }
  for (const [what, count] of [...seen].toSorted(([a], [b]) => (a < b ? -1 : 1)))
    t.comment(`${what}: ${count}`)
  t.deepEqual(failed, [], 'the index says what the map says')
  if (runs < 300) return
  const missing = expected.filter((what) => !seen.has(what))
  t.deepEqual(missing, [], 'the runs came to all that there is to come to')
})
