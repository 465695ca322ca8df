/**
 * Power cuts over an own index under load, while journals become runs and runs are merged: what was told is there, each
 * batch whole, nothing is left behind, and it goes on.
 *
 * KVSWARM_TEST_CUTS: how many (20). The rig is that of test/fault/powercut.test.ts.
 *
 * time limit: 10 min
 */
import { mkdirSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import test from 'tape'
import { cutModes, Disks, sameDevice } from '../fault/disk/image.ts'
import { buildDisk, Journal, journalled, readJournal } from '../fault/disk/journal.ts'
import { deadline } from '../helpers/events.ts'
import { needs } from '../helpers/needs.ts'
import { spawnSource } from '../helpers/process.ts'
import { random } from '../helpers/random.ts'
import { tmpdir } from '../helpers/tmp.ts'
import { lastTold, type Life } from './batches.ts'

const cuts = Number(process.env['KVSWARM_TEST_CUTS'] ?? 20)
/** Batches of each recorded life; with the bounds of load.ts most make a run. */
const batches = 60
const processes = 2

test(`${cuts} power cuts of an index`, needs('gcc'), async (t) => {
  const source = random(t)
  const folder = tmpdir(t)
  const root = join(folder, 'root')
  mkdirSync(join(root, 'nodes'), { recursive: true, mode: 0o700 })
  const path = join(folder, 'journal')
  const journal = new Journal(path)
  journal.add('mkdir', { path: '/nodes', inode: statSync(join(root, 'nodes')).ino, a: 0o700 })
  journal.add('settled')
  journal.close()
  const env = journalled(buildDisk(folder), root, path)
  const life: Life = {
    directory: join(root, 'nodes', 'a'),
    told: join(root, 'told'),
    seed: source.int(0, 2 ** 30),
    batches
  }
  // Two lives, so that cuts also come while it starts and deletes what was left.
  for (const how of ['first', 'second']) {
    const running = spawnSource(t, 'test/lsm/load.ts', [JSON.stringify(life)], { env })
    const { code } = await deadline(running.exit, 120_000, `the ${how} life`)
    if (code !== 0) throw new Error(`the ${how} life: ${running.stderr}`)
  }

  const records = readJournal(path)
  const told = records.findIndex(({ data, type }) => type === 'write' && data.equals(first))
  const places = Array.from({ length: cuts }, () => source.int(told, records.length)).toSorted(
    (a, b) => a - b
  )
  const images: { readonly name: string; readonly life: Life }[] = []
  const disks = new Disks()
  for (const [cut, place] of places.entries()) {
    while (disks.place < place) disks.add(records[disks.place] as (typeof records)[number])
    const mode = source.pick(cutModes)
    const image = join(folder, `cut-${cut}`)
    disks.write('/nodes', mode, source, image, sameDevice)
    const text = disks.text('/told')
    writeFileSync(join(image, 'told'), text)
    const name = `at ${place} of ${records.length}, ${mode}, ${lastTold(text)} told`
    const directory = join(image, 'nodes', 'a')
    images.push({ name, life: { ...life, directory, told: join(image, 'told'), batches: 0 } })
  }
  const faults: string[] = []
  const check = async (): Promise<void> => {
    for (let image = images.shift(); image; image = images.shift()) {
      const running = spawnSource(t, 'test/lsm/load.ts', [JSON.stringify(image.life)])
      const { code } = await deadline(running.exit, 60_000, `the check ${image.name}`)
      if (code !== 0) faults.push(`${image.name}: code ${code}: ${running.stderr}`)
      rmSync(join(image.life.directory, '../..'), { recursive: true, force: true })
    }
  }
  await Promise.all(Array.from({ length: processes }, check))
  t.ok(told >= 0 && records.length > 1000, `${records.length} changes of the disk`)
  t.deepEqual(faults, [], 'what was told is there, whole, and no cores are left behind')
})

/** What tells of the first batch. */
const first: Buffer = Buffer.from('1\n')
