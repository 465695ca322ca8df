// kvswarm backup and restore as processes, on a directory that another process holds and writes to.
import { join } from 'node:path'
import test from 'tape'
import { KVSwarm } from '../../lib/index.ts'
import { inProcess, makeLab, run } from '../bin/helpers.ts'
import { cleanup } from '../helpers/cleanup.ts'
import { readConfig } from '../../bin/store.ts'

test('backup while the directory is written to: all that was on disk before is in it', async (t) => {
  const lab = await makeLab(t)
  const config = await readConfig(lab.config)
  const kv = new KVSwarm({ storage: lab.at('x'), config })
  cleanup(t, () => kv.close())
  await kv.ready()
  const flushed: string[] = []
  const writer = { stop: false }
  const loop = (async () => {
    for (let i = 0; !writer.stop; i++) {
      for (let j = 0; j < 20; j++) kv.put(`key ${i} ${j}`, 'x'.repeat(j * 500))
      flushed.push((await kv.flush()).id)
    }
  })()
  const folder = join(lab.folder, 'backups', 'x')
  while (flushed.length < 30) await new Promise(setImmediate)
  const before = flushed.length
  const made = await run(['backup', '-d', lab.at('x'), folder])
  const after = flushed.length
  writer.stop = true
  await loop
  t.equal(made.code, 0, made.stderr)
  t.equal(made.stdout, '', 'nothing on stdout')
  t.ok(made.stderr.includes(lab.id.x), 'a note tells the node')
  t.comment(`${before} flushes before, ${after} when the backup was there`)
  t.ok(after > before, 'it was written to meanwhile')
  const again = await inProcess(['backup', '-d', lab.at('x'), folder])
  t.equal(again.code, 2, again.stderr)
  await kv.close()

  const target = lab.at('restored')
  const restored = await inProcess(['restore', folder, '-d', target, '--json'])
  t.equal(restored.code, 0, restored.stderr)
  t.equal((JSON.parse(restored.stdout) as { node: string }).node, lab.id.x)
  const copy = new KVSwarm({ storage: target, config })
  cleanup(t, () => copy.close())
  for (const id of flushed.slice(0, before)) {
    // A flush that is not in the outboxes is FLUSH_UNKNOWN at once.
    const error = await copy.receipt(id, { timeout: 0 }).catch((reason: unknown) => reason)
    const code = (error as { code?: string }).code
    if (code !== 'TIMEOUT') t.fail(`${id}: ${code}`)
  }
  t.equal(flushed.length >= before, true)
})

test('what cannot be backed up or restored', async (t) => {
  const lab = await makeLab(t)
  const none = await inProcess([
    'backup',
    '-d',
    join(lab.folder, 'none'),
    join(lab.folder, 'backup')
  ])
  t.equal(none.code, 1)
  t.ok(none.stderr.includes('no data directory'), none.stderr)
  const source = await inProcess(['restore', lab.folder, '-d', join(lab.folder, 'r')])
  t.equal(source.code, 2, source.stderr)
  const over = await inProcess(['restore', lab.at('a'), '-d', lab.at('b')])
  t.equal(over.code, 2, over.stderr)
  t.equal((await inProcess(['backup', '-d', lab.at('a')])).code, 2, 'no folder')
  const help = await inProcess(['backup', '--help'])
  t.ok(help.stdout.includes('secret key'), 'the help says what a backup holds')
})
