// Damage that must not be taken for a new store, a clean end or a lost tail; and each way out that an error names.
import { readFileSync, readdirSync, rmSync, statSync, truncateSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import test from 'tape'
import { KVSwarmError } from '../../lib/errors.ts'
import { Store } from '../../lib/hyper/store.ts'
import type { LogName } from '../../lib/types.ts'
import { until } from '../helpers/events.ts'
import { tmpdir } from '../helpers/tmp.ts'
import { makePair } from './pair.ts'
import { makeTemplates, settle, type Template } from './templates.ts'
import { errorOf } from '../helpers/errors.ts'

const block = (text: string): Uint8Array => new TextEncoder().encode(text)

test('a store whose files are gone is damaged, not new', async (t) => {
  const templates = await makeTemplates(t)
  const template = templates.list[2] as Template
  for (const harm of ['CURRENT', 'db', 'write-ahead log'] as const) {
    const directory = join(tmpdir(t), 'data')
    settle(template, directory)
    const folder = join(directory, 'db')
    if (harm === 'CURRENT') rmSync(join(folder, 'CURRENT'))
    else if (harm === 'db') rmSync(folder, { recursive: true })
    else
      for (const name of readdirSync(folder)) if (name.endsWith('.log')) rmSync(join(folder, name))
    const kv = templates.open(directory)
    const error = await errorOf(kv.listen())
    t.equal(error.code, 'DATADIR_DAMAGED', `${harm}: ${error.message}`)
    t.ok(error.hint.includes('kvswarm restore'), 'the way out')
    await kv.close()
  }
})

test('a log shorter than its mark is damage; without the marks it goes on with what is left', async (t) => {
  const templates = await makeTemplates(t)
  const directory = join(tmpdir(t), 'data')
  settle(templates.list[3] as Template, directory)
  const folder = join(directory, 'db')
  for (const name of readdirSync(folder)) if (name.endsWith('.log')) rmSync(join(folder, name))
  const first = templates.open(directory)
  const error = await errorOf(first.ready())
  t.equal(error.code, 'DATADIR_DAMAGED', error.message)
  await first.close()
  const marks = join(directory, 'kvswarm.marks')
  t.ok(error.hint.includes(marks), `the hint names ${marks}`)
  rmSync(marks)
  const again = templates.open(directory)
  await again.set('more', 1)
  const [outbox] = (await again.status()).outboxes
  t.ok((outbox?.length ?? 0) <= 3, 'under a new generation')
  t.ok((outbox?.pendingBlocks ?? 0) > 3, 'with what is left before it')
  await again.close()
})

test('marks that were cut off are missing, also at the end of a pair', async (t) => {
  const directory = join(tmpdir(t), 'data')
  const store = await Store.open({ directory, durability: 'sync' })
  const names = ['aa', 'bb', 'cc'].map((two): LogName => ({
    kind: 'outbox',
    node: store.nodeId,
    owner: two.repeat(32)
  }))
  for (const name of names) {
    await (await store.begin(name, store.nextGeneration(name))).append([block('a'), block('b')])
  }
  await store.close()
  const path = join(directory, 'kvswarm.marks')
  const whole = readFileSync(path)
  t.equal(whole.length, 4 * 256, 'the header and three marks')
  for (const size of [700, 512, 300, 256, 200, 100, 0]) {
    writeFileSync(path, whole)
    truncateSync(path, size)
    const opened = await Store.open({ directory, durability: 'sync' })
    t.equal(opened.last, null, `cut at ${size}: noticed`)
    t.equal(opened.ownNames('outbox').length, 3, 'every log is found again')
    for (const name of names) {
      const [found] = await opened.ownGenerations(name)
      t.equal(found?.whole, false, 'and goes on as a new generation')
      t.equal(found?.log.length, 2)
    }
    await opened.close()
  }
})

test('a damaged header of the marks does not turn an unclean end into a clean one', async (t) => {
  const directory = join(tmpdir(t), 'data')
  let store = await Store.open({ directory, durability: 'os' })
  const name: LogName = { kind: 'outbox', node: store.nodeId, owner: 'aa'.repeat(32) }
  await (await store.begin(name, store.nextGeneration(name))).append([block('a')])
  await store.close()
  store = await Store.open({ directory, durability: 'os' })
  const path = join(directory, 'kvswarm.marks')
  const during = readFileSync(path)
  await store.close()
  // The newer of the two headers, the one that says that a session is under way.
  const newer = during.readBigUInt64BE(8) > during.readBigUInt64BE(128 + 8) ? 0 : 128
  during[newer + 100] = (during[newer + 100] ?? 0) ^ 1
  writeFileSync(path, during)
  store = await Store.open({ directory, durability: 'os' })
  t.equal((await store.ownGenerations(name))[0]?.whole, false)
  await store.close()
})

test('a directory that nothing ties to its place may be a second copy: new generations', async (t) => {
  const templates = await makeTemplates(t)
  const directory = join(tmpdir(t), 'data')
  settle(templates.list[3] as Template, directory)
  const before = (await statusOf(templates.open(directory)))[0]?.generation ?? 0
  rmSync(join(directory, 'CORESTORE'))
  const kv = templates.open(directory)
  await kv.set('more', 1)
  t.ok(((await kv.status()).outboxes[0]?.generation ?? 0) > before)
  await kv.close()
  t.ok(statSync(join(directory, 'kvswarm.json')).isFile(), 'our files are where they were')
})

test('the state file: of format 1 it is read, of format 2 only when its checksum is right', async (t) => {
  const templates = await makeTemplates(t)
  const directory = join(tmpdir(t), 'data')
  settle(templates.list[3] as Template, directory)
  const path = join(directory, 'kvswarm.json')
  const text = readFileSync(path, 'utf8')
  const content = JSON.parse(text) as { format: number; checksum: string; config: string }
  t.equal(content.format, 2)
  const { checksum: _, ...rest } = content
  writeFileSync(path, JSON.stringify({ ...rest, format: 1 }))
  const kv = templates.open(directory)
  t.equal((await kv.status()).epoch, 1, 'format 1')
  await kv.close()
  // Another configuration, valid and canonical: only the checksum can tell.
  const harmed = text.replace('hashKey', 'hashkey')
  t.notEqual(harmed, text)
  writeFileSync(path, harmed)
  const refused = templates.open(directory)
  const error = await errorOf(refused.ready())
  t.equal(error.code, 'DATADIR_DAMAGED', error.message)
  await refused.close()
  rmSync(path)
  const without = templates.open(directory)
  t.equal((await without.status()).epoch, 1, 'removed: the configuration that is given is adopted')
  await without.close()
})

async function statusOf(kv: {
  status(): Promise<{ outboxes: readonly { generation: number }[] }>
  close(): Promise<void>
}): Promise<readonly { generation: number }[]> {
  const { outboxes } = await kv.status()
  await kv.close()
  return outboxes
}

test('a block that cannot be read when it is to be delivered: the writer stops and says so', async (t) => {
  const folders = { s: join(tmpdir(t), 's'), x: join(tmpdir(t), 'x') }
  const { open } = await makePair(t, folders)
  const first = open('x')
  for (let i = 0; i < 8; i++) await first.set(`key ${i}`, `${i}`.repeat(50_000))
  await first.close()
  // Opening moves the write-ahead log into tables.
  const second = open('x')
  await second.ready()
  await second.close()
  const db = join(folders.x, 'db')
  const blob = readdirSync(db).find((name) => name.endsWith('.blob'))
  t.ok(blob, 'large blocks lie in files of their own')
  const bytes = readFileSync(join(db, blob ?? ''))
  const at = bytes.lastIndexOf('4'.repeat(1000))
  bytes[at] = (bytes[at] ?? 0) ^ 1
  writeFileSync(join(db, blob ?? ''), bytes)
  const errors: KVSwarmError[] = []
  const x = open('x')
  x.on('error', (error) => errors.push(error))
  await x.ready()
  await open('s').listen()
  await x.connect()
  await until(() => errors.length > 0, { what: 'the damage to be told' })
  t.equal(errors[0]?.code, 'DATADIR_DAMAGED', errors[0]?.message)
})
