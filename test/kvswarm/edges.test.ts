// Edges that a review found: each of these failed once.
import { truncate } from 'node:fs/promises'
import test from 'tape'
import { Config } from '../../config/index.ts'
import { type KVSwarm } from '../../lib/index.ts'
import { deadline, until } from '../helpers/events.ts'
import { makeSwarm } from './swarm.ts'
import { codeOf } from '../helpers/errors.ts'

test('lost marks: a session that writes nothing forgets nothing', async (t) => {
  const { storage, writers, open, path } = await makeSwarm(t, { storage: 1, capacities: [1] })
  const [x] = writers as [KVSwarm]
  await x.set('applied', 1, { receipt: true })
  await storage[0]?.close()
  const { id } = await x.set('undelivered', 2)
  await x.close()
  for (const name of ['w0', 's0']) {
    await truncate(`${path(name)}/kvswarm.marks`, 0)
    const session = open(name)
    await session.ready()
    await session.status()
    await session.close()
  }
  const again = open('w0')
  await again.connect()
  await open('s0').listen()
  await again.receipt(id)
  t.equal(await again.get('undelivered'), 2, 'the outbox is still known')
  t.equal(await again.get('applied'), 1, 'and so is the index')
})

test("a receipt is for this node's own flush", async (t) => {
  const { writers } = await makeSwarm(t, { storage: 1, capacities: [1] })
  const [x, y] = writers as [KVSwarm, KVSwarm]
  await x.set('x', 1, { receipt: true })
  await y.set('y', 1, { receipt: true })
  await x.disconnect()
  const { id } = await x.set('k', 'v')
  t.equal(await codeOf(y.receipt(id, { timeout: 1000 })), 'FLUSH_UNKNOWN')
  t.equal(await codeOf(y.get('k', { after: id, timeout: 1000 })), 'FLUSH_UNKNOWN')
})

test('a node that stores and writes applies its own writes', async (t) => {
  const { storage, config, ids } = await makeSwarm(t, {
    storage: 2,
    capacities: [1, 1],
    start: false
  })
  const both = Config.parse(config.serialize())
  both.addWriter(ids.storage[0] ?? '')
  for (const kv of storage) await kv.setConfig(both)
  for (const kv of storage) await kv.listen()
  const [a, b] = storage as [KVSwarm, KVSwarm]
  for (let i = 0; i < 20; i++) a.put(`key ${i}`, i)
  await a.flush({ receipt: true })
  for (let i = 0; i < 20; i++) t.equal(await b.get(`key ${i}`, { fresh: i === 0 }), i)
})

test('a writer that adopts its admission before the storage nodes do is followed once they have', async (t) => {
  const { storage, config, open } = await makeSwarm(t, { writers: 1 })
  const newcomer = open('newcomer')
  await newcomer.connect()
  const next = Config.parse(config.serialize())
  next.addWriter(newcomer.nodeId)
  await newcomer.setConfig(next)
  await newcomer.set('first', 'words')
  await until(async () => (await newcomer.status()).peers.length === 3, { what: 'three links' })
  for (const kv of storage) await kv.setConfig(next)
  await newcomer.set('second', 'words', { receipt: true })
  t.equal(await newcomer.get('second'), 'words')
})

test('close ends every wait', async (t) => {
  const { writers } = await makeSwarm(t, { start: false })
  const [x] = writers as [KVSwarm]
  await x.connect()
  const { id } = await x.set('k', 'v')
  const waits = [
    x.receipt(id, { timeout: Infinity }),
    x.get('k', { timeout: Infinity }),
    x.get('k', { after: id, timeout: Infinity })
  ].map((wait) => codeOf(wait))
  await until(async () => (await x.status()).node, { what: 'the node' })
  await deadline(x.close(), 10_000, 'close')
  for (const wait of waits) t.equal(await deadline(wait, 1000, 'a wait to end'), 'CLOSED')
})

test('a mark stands before the first block of a new epoch, also under load', async (t) => {
  const { writers, config, storage } = await makeSwarm(t, { storage: 1, capacities: [1] })
  const [x] = writers as [KVSwarm]
  const flushes: Promise<unknown>[] = []
  for (let i = 0; i < 20; i++) flushes.push(x.set(`before ${i}`, i))
  const next = Config.parse(config.serialize())
  next.addWriter('ab'.repeat(32))
  const adopting = x.setConfig(next)
  for (let i = 0; i < 20; i++) flushes.push(x.set(`after ${i}`, i))
  await adopting
  await Promise.all(flushes)
  await storage[0]?.setConfig(next)
  await x.set('last', 1, { receipt: true })
  const status = await x.status()
  t.equal(status.outboxes[0]?.pendingBlocks, 0, 'all of it is applied')
  t.equal(status.epoch, 2)
})

test('an owner that is away costs its wait once', async (t) => {
  const { storage, open } = await makeSwarm(t, { storage: 1, capacities: [1] })
  const writer = open('w0')
  await writer.connect()
  await writer.set('k', 'v', { receipt: true })
  t.equal(await writer.get('k'), 'v')
  await writer.close()
  await storage[0]?.close()
  const again = open('w0')
  await again.connect()
  t.equal(await again.get('k'), 'v', 'from the copy')
  const started = performance.now()
  for (let i = 0; i < 10; i++) await again.get('k')
  t.ok(performance.now() - started < 15_000, 'the next ones do not wait 2 s each')
  t.equal(
    await codeOf(again.get('k', { fresh: true, timeout: 200 })),
    'OWNER_UNREACHABLE',
    'fresh means it'
  )
})

test('read-only: a held directory, its outboxes and its own index', async (t) => {
  const { writers, storage, open } = await makeSwarm(t, { storage: 1, capacities: [1] })
  const [x] = writers as [KVSwarm]
  await x.set('k', 'v', { receipt: true })
  const look = open('w0', { readOnly: true })
  t.equal((await look.status()).outboxes.length, 1)
  t.throws(() => void look.put('a', 1), /readOnly/)
  t.equal(await codeOf(look.connect()), 'READ_ONLY')
  const index = open('s0', { readOnly: true })
  t.equal(await index.get('k', { wait: false }), 'v')
  t.equal(await storage[0]?.get('k'), 'v', 'the holder goes on')
})
