/**
 * The barrier as the disk sees it: what is synced when sync() resolves, and how often. Each scene runs in a
 * process of its own whose disk is written down (disk/disk.c).
 */
import { readdirSync, statSync } from 'node:fs'
import { join } from 'node:path'
import test from 'tape'
import { needs } from '../helpers/needs.ts'
import { randomOf } from '../helpers/random.ts'
import { spawnSource } from '../helpers/process.ts'
import { tmpdir } from '../helpers/tmp.ts'
import { Disks } from './disk/image.ts'
import { type JournalRecord, readJournal, journalledRoot } from './disk/journal.ts'

/** Runs the scene; gives what a power cut after each of its marks leaves, by the strictest rule. */
async function scene(
  t: test.Test,
  name: string
): Promise<{ records: readonly JournalRecord[]; left: string[][] }> {
  const folder = tmpdir(t)
  const { root, path, env } = journalledRoot(folder, 'db')
  const life = spawnSource(t, 'test/fault/barrier-scene.ts', [name, root], { env })
  const { code } = await life.exit
  if (code !== 0) throw new Error(life.stderr)
  const records = readJournal(path)
  const disks = new Disks()
  const left: string[][] = []
  for (const record of records) {
    disks.add(record)
    if (record.type !== 'create' || !/\/mark-/.test(record.path)) continue
    const into = join(folder, `cut-${left.length}`)
    disks.write('/db', 'strict', randomOf(0), into)
    const files = readdirSync(join(into, 'db')).toSorted()
    left.push(files.map((file) => `${file}: ${statSync(join(into, 'db', file)).size}`))
  }
  return { records, left }
}

test('every log up to the present one is synced, and the folder', needs('gcc'), async (t) => {
  const { left } = await scene(t, 'switch')
  t.deepEqual(left[0], [], 'nothing before')
  t.deepEqual(left[1], ['000004.log: 10'], 'the first log, and its name')
  t.deepEqual(
    left[2],
    ['000004.log: 20', '000006.log: 30', '000009.log: 40'],
    'what was written to the former one since, one between, and the present one'
  )
})

test('all who wait share a sync; who comes later waits for the next', needs('gcc'), async (t) => {
  const { records, left } = await scene(t, 'group')
  t.deepEqual(left.at(-1), ['000004.log: 51'])
  const logs = new Set(
    records.filter(({ path }) => path.endsWith('.log')).map(({ inode }) => inode)
  )
  const syncs = records.filter(({ type, inode }) => type === 'sync ends' && logs.has(inode))
  t.equal(syncs.length, 2, '51 calls, two syncs')
})

test('received blocks are on disk before they are held', needs('gcc'), async (t) => {
  // The store's own sync is what an inbox waits for before it acks (lib/apply/inbox.ts).
  const { left } = await scene(t, 'store')
  const bytes = (files: readonly string[] | undefined): number =>
    Math.max(0, ...(files ?? []).map((file) => Number(/\.log: (\d+)$/.exec(file)?.[1] ?? 0)))
  t.ok(bytes(left[1]) >= bytes(left[0]) + 5000, `${bytes(left[0])}, then ${bytes(left[1])} bytes`)
})
