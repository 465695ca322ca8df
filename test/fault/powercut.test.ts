/**
 * Power cuts over the real program: what was flushed, acked or receipted is there after any of them, every
 * store opens again, and all goes on exactly once with nodes that were not cut.
 *
 * KVSWARM_TEST_CUTS: how many (20). The same rig must find what is missing when nothing waits for the disk.
 *
 * time limit: 30 min
 */
import test from 'tape'
import { privateDht } from '../helpers/dht.ts'
import { needs } from '../helpers/needs.ts'
import { random, type Random } from '../helpers/random.ts'
import { tmpdir } from '../helpers/tmp.ts'
import type { Checked } from './disk/check.ts'
import { cutAll } from './disk/cuts.ts'
import { buildDisk } from './disk/journal.ts'
import { record, type RecordingOptions } from './disk/record.ts'

const cutsWanted = Number(process.env['KVSWARM_TEST_CUTS'] ?? 20)
/** Cuts that share a recording. */
const cutsEach = 50
/** Receipts of each writer in a recording. */
const receipts = 30
/** Cuts without syncs of which some must be found. */
const cutsUnsafe = 8

async function cuts(
  t: test.Test,
  source: Random,
  count: number,
  earlyShare: number,
  options: Pick<RecordingOptions, 'durability' | 'noBarrier'> = {}
): Promise<Checked[]> {
  const folder = tmpdir(t)
  const library = buildDisk(folder)
  const bootstrap = await privateDht(t)
  const recording = await record(t, source, { library, bootstrap, folder, receipts, ...options })
  return await cutAll(t, recording, count, source, earlyShare)
}

test(`${cutsWanted} power cuts`, needs('gcc'), async (t) => {
  const source = random(t)
  for (let left = cutsWanted; left > 0; left -= cutsEach) {
    const checked = await cuts(t, source, Math.min(left, cutsEach), 0.25)
    const bad = checked.filter(({ faults }) => faults.length > 0)
    const flushed = Math.max(...checked.map((one) => one.flushed))
    const ms = Math.round(checked.reduce((sum, one) => sum + one.ms, 0) / checked.length)
    t.comment(`${checked.length} cuts within ${flushed} flushes, ${ms} ms each`)
    for (const one of bad) t.comment(JSON.stringify(one))
    t.deepEqual(
      bad.flatMap(({ faults }) => faults.slice(0, 3)),
      [],
      'nothing that was told is lost, every store opens, all goes on'
    )
  }
})

test("the rig finds what durability 'os' loses", needs('gcc'), async (t) => {
  const checked = await cuts(t, random(t), cutsUnsafe, 0, { durability: 'os' })
  const lost = checked.filter(({ faults }) => faults.some((fault) => /flushed: \d+ bl/.test(fault)))
  t.ok(lost.length > 0, `${lost.length} of ${cutsUnsafe} cuts lost what flush() had resolved for`)
})

test('the rig finds storage nodes without the barrier', needs('gcc'), async (t) => {
  const checked = await cuts(t, random(t), cutsUnsafe, 0, { noBarrier: true })
  const lost = checked.filter(({ faults }) =>
    faults.some((fault) => /(held|applied): /.test(fault))
  )
  t.ok(lost.length > 0, `${lost.length} of ${cutsUnsafe} cuts lost what was acked or receipted`)
})
