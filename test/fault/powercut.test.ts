/**
 * Power cuts over the real program: what was flushed, acked or receipted is there after any of them, every
 * store opens again, and all goes on exactly once with nodes that were not cut.
 *
 * KVSWARM_TEST_CUTS: how many (20). The same rig must find what is missing when nothing waits for the disk.
 *
 * time limit: 30 min
 */
import { rmSync } from 'node:fs'
import { join } from 'node:path'
import test from 'tape'
import { Store } from '../../lib/hyper/store.ts'
import { privateDht } from '../helpers/dht.ts'
import { needs } from '../helpers/needs.ts'
import { commandLine, runProgram } from '../helpers/process.ts'
import { random, type Random } from '../helpers/random.ts'
import { tmpdir } from '../helpers/tmp.ts'
import type { Checked } from './disk/check.ts'
import { cutAll } from './disk/cuts.ts'
import { cutModes, Disks, sameDevice } from './disk/image.ts'
import { buildDisk, readJournal, journalledRoot } from './disk/journal.ts'
import { nodePath, record, type RecordingOptions } from './disk/record.ts'

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

test('the first start of a node, cut at every change', needs('gcc'), async (t) => {
  const source = random(t)
  const folder = tmpdir(t)
  const { root, path, env } = journalledRoot(folder, 'nodes')
  const command = [...commandLine(), 'id', '-d', join(root, nodePath('a'))]
  const { stdout } = await runProgram(command, { env })
  const records = readJournal(path)
  const disks = new Disks()
  const faults: string[] = []
  let cut = 0
  for (const record of records) {
    disks.add(record)
    const isLast = disks.place === records.length
    const mode = source.pick(cutModes)
    const image = join(folder, `cut-${cut++}`)
    disks.write('/nodes', mode, source, image, sameDevice)
    try {
      const directory = join(image, nodePath('a'))
      const store = await Store.open({ directory, durability: 'sync' })
      if (isLast && store.nodeId !== stdout.trim()) faults.push(`another id after ${mode}`)
      await store.close()
    } catch (error) {
      faults.push(
        `record ${disks.place} (${record.type} ${record.path}), ${mode}: ${String(error)}`
      )
    }
    rmSync(image, { recursive: true, force: true })
  }
  t.ok(cut >= 20, `${cut} cuts in ${records.length} changes`)
  t.deepEqual(
    faults,
    [],
    'the store opens after each; after the last the id that was told is the same'
  )
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
