// Logs that cannot be trusted to be whole continue as new generations: outboxes and indexes, exactly once.
import { truncate } from 'node:fs/promises'
import test from 'tape'
import type { KVEntry, KVSwarm } from '../../lib/index.ts'
import { until } from '../helpers/events.ts'
import { makeSwarm } from './swarm.ts'

async function listed(kv: KVSwarm): Promise<KVEntry[]> {
  const entries: KVEntry[] = []
  for await (const entry of kv.list({}, { fresh: true })) entries.push(entry)
  return entries
}

test('a writer without its marks continues its outbox under a new generation', async (t) => {
  const { storage, writers, open, path } = await makeSwarm(t, { storage: 1, capacities: [1] })
  const [x] = writers as [KVSwarm]
  await x.set('a', 1, { receipt: true })
  const undelivered = await (async () => {
    await storage[0]?.disconnect()
    return await x.set('b', 2)
  })()
  const before = (await x.status()).outboxes[0]
  await x.close()
  await truncate(`${path('w0')}/kvswarm.marks`, 0)

  const again = open('w0')
  const offline = await again.set('c', 3)
  const after = (await again.status()).outboxes[0]
  t.ok((after?.generation ?? 0) > (before?.generation ?? 0), 'a new generation')
  t.equal(after?.length, 3, 'its first block, a mark, and the flush')
  await again.connect()
  await storage[0]?.listen()
  await again.receipt(undelivered.id)
  await again.receipt(offline.id)
  const entries = await listed(again)
  t.deepEqual(
    entries.map(({ key, value }) => [key, value]),
    [
      ['a', 1],
      ['b', 2],
      ['c', 3]
    ],
    'what lay undelivered in the old one comes first'
  )
  const stamps = entries.map(({ versionstamp }) => versionstamp)
  t.deepEqual(stamps, stamps.toSorted(), 'in order')
  t.equal(
    Number.parseInt(stamps.at(-1)?.slice(10) ?? '', 16),
    3,
    'three operations, three versionstamps'
  )
  const status = await storage[0]?.status()
  t.equal(status?.inboxes[0]?.applied?.generation, after?.generation)
})

test('three generations in a row, none of them delivered, arrive in order', async (t) => {
  const { storage, open, path } = await makeSwarm(t, { storage: 1, capacities: [1], start: false })
  let ids: string[] = []
  for (let i = 0; i < 3; i++) {
    const x = open('w0')
    ids = [...ids, (await x.set('k', i)).id, (await x.set(`k${i}`, i)).id]
    await x.close()
    await truncate(`${path('w0')}/kvswarm.marks`, 0)
  }
  const x = open('w0')
  await x.connect()
  await storage[0]?.listen()
  for (const id of ids) await x.receipt(id)
  t.equal(await x.get('k'), 2, 'the newest generation was applied last')
  const last = await x.getEntry('k2')
  t.equal(Number.parseInt(last?.versionstamp.slice(10) ?? '', 16), 6, 'six operations')
})

test('a storage node without its marks continues its index under a new generation', async (t) => {
  const { storage, writers, open, path } = await makeSwarm(t, { storage: 1, capacities: [1] })
  const [x, y] = writers as [KVSwarm, KVSwarm]
  for (let i = 0; i < 300; i++) x.put(`key ${i}`, i)
  await x.flush({ receipt: true })
  const reader = open('reader')
  await reader.connect()
  t.equal(await reader.get('key 7'), 7)
  const stamp = (await x.getEntry('key 7'))?.versionstamp ?? ''
  const before = (await storage[0]?.status())?.index
  await storage[0]?.close()
  await truncate(`${path('s0')}/kvswarm.marks`, 0)

  const again = open('s0')
  await again.listen()
  const after = (await again.status()).index
  t.ok((after?.generation ?? 0) > (before?.generation ?? 0), 'a new generation')
  t.ok((after?.serial ?? 0) > (before?.serial ?? 0), 'a later serial')
  await y.set('key 7', 'new', { receipt: true })
  await until(async () => (await reader.get('key 7', { fresh: true })) === 'new', {
    what: 'the reader to follow the index to its new generation'
  })
  t.pass('a reader of the old generation follows')
  const renewed = (await y.getEntry('key 7'))?.versionstamp ?? ''
  t.ok(renewed > stamp, `versionstamps rise over generations: ${stamp} < ${renewed}`)
  t.equal((await listed(reader)).length, 300, 'every entry is there')
  t.equal(await x.get('key 299', { fresh: true }), 299)
  const status = await again.status()
  t.deepEqual(
    status.inboxes.map(({ rejected, stopped }) => [rejected, stopped]),
    [
      [0, null],
      [0, null]
    ]
  )
})

test('a writer under durability os: a clean end goes on, and nothing is lost', async (t) => {
  const { writers, open } = await makeSwarm(t, { storage: 2, capacities: [1, 1] })
  await writers[0]?.close()
  const x = open('w0', { durability: 'os' })
  await x.connect()
  const ids: string[] = []
  for (let i = 0; i < 20; i++) ids.push((await x.set(`k${i}`, i)).id)
  const generations = (await x.status()).outboxes.map(({ generation }) => generation)
  await x.close()
  const again = open('w0')
  await again.connect()
  await again.set('last', 'one', { receipt: true })
  for (const id of ids) await again.receipt(id)
  t.deepEqual(
    (await again.status()).outboxes.map(({ generation }) => generation).toSorted((a, b) => a - b),
    generations.toSorted((a, b) => a - b),
    'the same generations'
  )
  t.equal((await listed(again)).length, 21)
})
