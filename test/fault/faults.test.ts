/**
 * Real processes under faults: kills, stops, cut-off and lossy networks, slow disks, clock jumps; then a
 * judgement of everything that the clients saw (history/promises.ts).
 *
 * `npm run test:fault -- --seed N --minutes M` repeats a run, or makes a longer one.
 *
 * time limit: 120 min
 */
import test from 'tape'
import { needs } from '../helpers/needs.ts'
import { random } from '../helpers/random.ts'
import { faultRun } from './driver/run.ts'

const minutes = Number(process.env['KVSWARM_TEST_FAULT_MINUTES'] ?? 0.6)

test(`faults for ${minutes} min`, needs('gcc', 'libfaketime'), async (t) => {
  const { seed } = random(t)
  const result = await faultRun(t, seed, minutes * 60_000)
  const { faults, injected, calls, keys, unknown, unknownApplied, opsPerKeyMax } = result
  t.comment(`faults injected: ${JSON.stringify(injected)}`)
  t.comment(
    `${calls} calls on ${keys} keys (at most ${opsPerKeyMax} of one), ` +
      `${unknown} writes of unknown outcome, ${unknownApplied} of them applied`
  )
  for (const line of result.shown) t.comment(line)
  t.deepEqual(faults.slice(0, 20), [], 'every promise was kept')
  t.ok(calls > 100 && unknown > 0, 'there was something to judge')
})
