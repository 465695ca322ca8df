// The store: identity, own and peer logs, the barrier before anything is told, marks, generations.
import { chmod, cp, readFile, readdir, rm, stat, truncate, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import test from 'tape'
import { isKVSwarmError } from '../../lib/errors.ts'
import { checkInternals } from '../../lib/hyper/replication.ts'
import { Store } from '../../lib/hyper/store.ts'
import type { LogName } from '../../lib/types.ts'
import { tmpdir } from '../helpers/tmp.ts'
import { codeOf } from '../helpers/errors.ts'

const other = 'ab'.repeat(32)
const block = (text: string): Uint8Array => new TextEncoder().encode(text)

test('identity is kept, and the directory is private', async (t) => {
  const directory = join(tmpdir(t), 'data')
  const first = await Store.open({ directory, durability: 'sync' })
  const { nodeId } = first
  await first.close()
  t.match(nodeId, /^[0-9a-f]{64}$/, 'a node id')
  t.equal((await stat(directory)).mode & 0o777, 0o700, 'mode 0700')
  const second = await Store.open({ directory, durability: 'sync' })
  t.equal(second.nodeId, nodeId, 'the same after reopening')
  t.equal(await codeOf(Store.open({ directory, durability: 'sync' })), 'DATADIR_IN_USE', 'held')
  const inspect = await Store.open({ directory, durability: 'sync', readOnly: true })
  t.equal(inspect.nodeId, nodeId, 'a held directory opens read-only')
  await inspect.close()
  await second.close()
})

test('directories that are not ours are refused, and nothing is written', async (t) => {
  const directory = tmpdir(t)
  await writeFile(join(directory, 'letter.txt'), 'dear')
  t.equal(await codeOf(Store.open({ directory, durability: 'sync' })), 'DATADIR_FOREIGN')
  const open = join(tmpdir(t), 'open')
  const store = await Store.open({ directory: open, durability: 'sync' })
  await store.close()
  await chmod(open, 0o755)
  t.equal(await codeOf(Store.open({ directory: open, durability: 'sync' })), 'DATADIR_OPEN')
  t.equal(
    await codeOf(Store.open({ directory: join(directory, 'letter.txt'), durability: 'sync' })),
    'DATADIR_UNREADABLE'
  )
})

test('an append is on disk before it is announced, and group commit shares syncs', async (t) => {
  const directory = join(tmpdir(t), 'data')
  const store = await Store.open({ directory, durability: 'sync' })
  const name: LogName = { kind: 'outbox', node: store.nodeId, owner: other }
  const log = await store.begin(name, store.nextGeneration(name))
  let announced = 0
  let syncsAtAnnounce = 0
  log.onChange(() => {
    announced++
    syncsAtAnnounce = store.stats.syncs
  })
  const before = store.stats.syncs
  await log.append([block('a')])
  t.equal(announced, 1, 'announced once')
  t.ok(syncsAtAnnounce > before, 'after a sync')
  const logs = await Promise.all(
    Array.from({ length: 16 }, async (_, i) => {
      const each: LogName = { kind: 'outbox', node: store.nodeId, owner: String(10 + i).repeat(32) }
      return await store.begin(each, store.nextGeneration(each))
    })
  )
  const { syncs } = store.stats
  await Promise.all(logs.map((each) => each.append([block('b')])))
  t.ok(store.stats.syncs - syncs < 16, `16 appends took ${store.stats.syncs - syncs} syncs`)
  await store.close()
})

test('a whole log goes on after a clean end', async (t) => {
  const directory = join(tmpdir(t), 'data')
  let store = await Store.open({ directory, durability: 'sync' })
  const name: LogName = { kind: 'outbox', node: store.nodeId, owner: other }
  const generation = store.nextGeneration(name)
  const log = await store.begin(name, generation)
  for (let i = 0; i < 5; i++) await log.append([block(`block ${i}`)])
  await store.close()
  store = await Store.open({ directory, durability: 'sync' })
  const [found, ...rest] = await store.ownGenerations(name)
  t.equal(rest.length, 0)
  t.equal(found?.generation, generation)
  t.equal(found?.whole, true)
  t.equal(found?.log.length, 5)
  t.deepEqual(store.ownNames('outbox'), [name])
  t.ok(store.nextGeneration(name) > generation, 'numbers only rise')
  await store.close()
})

test('a missing or damaged mark file means that no log of ours goes on', async (t) => {
  for (const harm of ['remove', 'flip', 'truncate'] as const) {
    const directory = join(tmpdir(t), 'data')
    let store = await Store.open({ directory, durability: 'sync' })
    const name: LogName = { kind: 'outbox', node: store.nodeId, owner: other }
    const generation = store.nextGeneration(name)
    const log = await store.begin(name, generation)
    await log.append([block('a'), block('b')])
    await store.close()
    const path = join(directory, 'kvswarm.marks')
    const bytes = await readFile(path)
    if (harm === 'truncate') await truncate(path, 100)
    else if (harm === 'remove') await truncate(path, 0)
    else {
      // Every copy of this log's mark.
      for (let at = 256; at < bytes.length; at++) bytes[at] = (bytes[at] ?? 0) ^ 0xff
      await writeFile(path, bytes)
    }
    store = await Store.open({ directory, durability: 'sync' })
    const [found] = await store.ownGenerations(name)
    t.equal(found?.generation, generation, `${harm}: found by its name in the store`)
    t.equal(found?.whole, false, `${harm}: it may not go on`)
    t.equal(found?.log.length, 2, `${harm}: it can still be served`)
    await store.close()
  }
})

test("durability 'os': a clean end lets outboxes go on, anything else does not", async (t) => {
  const directory = join(tmpdir(t), 'data')
  let store = await Store.open({ directory, durability: 'os' })
  const name: LogName = { kind: 'outbox', node: store.nodeId, owner: other }
  const index: LogName = { kind: 'index', node: store.nodeId }
  const log = await store.begin(name, store.nextGeneration(name))
  const { syncs } = store.stats
  await log.append([block('a')])
  t.equal(store.stats.syncs, syncs, 'no sync for an outbox')
  await (await store.begin(index, 1)).append([block('i')])
  t.ok(store.stats.syncs > syncs, 'an index is synced all the same')
  await store.close()
  store = await Store.open({ directory, durability: 'os' })
  t.equal((await store.ownGenerations(name))[0]?.whole, true, 'after a clean end')
  // An unclean end: the header of the marks says so from the moment the store is open.
  const marks = await readFile(join(directory, 'kvswarm.marks'))
  await store.close()
  await writeFile(join(directory, 'kvswarm.marks'), marks)
  store = await Store.open({ directory, durability: 'sync' })
  t.equal((await store.ownGenerations(name))[0]?.whole, false, 'after an unclean one')
  t.equal((await store.ownGenerations(index))[0]?.whole, true, 'the index goes on')
  await store.close()
})

test('a flipped bit in the write-ahead log is an error that names the file, never a shorter log', async (t) => {
  const directory = join(tmpdir(t), 'data')
  const store = await Store.open({ directory, durability: 'sync' })
  const name: LogName = { kind: 'outbox', node: store.nodeId, owner: other }
  const log = await store.begin(name, store.nextGeneration(name))
  for (let i = 0; i < 20; i++) await log.append([block(`block ${i} ${'x'.repeat(200)}`)])
  // The files as they are now: closing would move their content into tables.
  const copy = join(tmpdir(t), 'copy')
  await cp(directory, copy, { recursive: true })
  await store.close()
  await rm(join(copy, 'CORESTORE'))
  const logs = (await readdir(join(copy, 'db'))).filter((file) => file.endsWith('.log'))
  const path = join(copy, 'db', logs.toSorted().at(-1) ?? '')
  const bytes = await readFile(path)
  const used = bytes.findLastIndex((byte) => byte !== 0)
  t.ok(used > 10_000, `${used} bytes of log`)
  const middle = Math.floor(used / 2)
  bytes[middle] = (bytes[middle] ?? 0) ^ 0x10
  await writeFile(path, bytes)
  try {
    await Store.open({ directory: copy, durability: 'sync' })
    t.fail('must not open')
  } catch (error) {
    t.ok(isKVSwarmError(error, 'DATADIR_DAMAGED'), String(error))
    t.ok((error as Error).message.length > 0)
  }
  t.ok(
    (await readdir(join(copy, 'db'))).includes(logs.toSorted().at(-1) ?? ''),
    'the log is still there'
  )
})

test('the libraries look as they did when they were tested, with cores that are new and read from disk', async (t) => {
  const directory = join(tmpdir(t), 'data')
  for (const round of ['new', 'read from disk']) {
    const store = await Store.open({ directory, durability: 'sync' })
    const name: LogName = { kind: 'index', node: store.nodeId }
    const [found] = await store.ownGenerations(name)
    const log = found?.log ?? (await store.begin(name, store.nextGeneration(name)))
    t.doesNotThrow(() => checkInternals(log.core), round)
    await log.append([block(round)])
    await store.close()
  }
})
