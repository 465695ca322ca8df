// Outboxes that grow go on under a next generation; both sides delete the old one whole, and nothing is lost by it.
import { readdirSync, statSync } from 'node:fs'
import { join } from 'node:path'
import test from 'tape'
import type { KVEntry, KVSwarm } from '../../lib/index.ts'
import { until } from '../helpers/events.ts'
import { random } from '../helpers/random.ts'
import { makeSwarm } from './swarm.ts'

const kilobyte = 1024
/** Small ones, so that a test sees many rotations. */
const rotation = {
  bytes: 32 * kilobyte,
  quietBytes: 8 * kilobyte,
  quietMs: 100,
  askedBytesMin: 2 * kilobyte,
  appliedBytesMax: 64 * kilobyte
}

async function listed(kv: KVSwarm): Promise<KVEntry[]> {
  const entries: KVEntry[] = []
  for await (const entry of kv.list({}, { fresh: true })) entries.push(entry)
  return entries
}

/** Operations that a storage node's index has applied since it began. */
function counterOf(entries: readonly KVEntry[]): number {
  return Math.max(...entries.map(({ versionstamp }) => Number.parseInt(versionstamp.slice(10), 16)))
}

async function outboxOf(kv: KVSwarm): Promise<{ generation: number; pendingBlocks: number }> {
  const [outbox] = (await kv.status()).outboxes
  if (!outbox) throw new Error('there is no outbox')
  return outbox
}

test('an outbox that grows is rotated; exactly once, in order, and what is old goes', async (t) => {
  const { writers } = await makeSwarm(t, { storage: 1, capacities: [1], rotation })
  const [x] = writers as [KVSwarm]
  const generations = new Set<number>()
  const { bytes } = random(t)
  const count = 300
  let last = { id: '' }
  for (let i = 0; i < count; i++) {
    x.put(`key ${i % 10}`, { i, filling: bytes(kilobyte) })
    last = await x.flush()
    generations.add((await outboxOf(x)).generation)
  }
  await x.receipt(last.id)
  t.ok(generations.size >= 8, `${generations.size} generations`)
  const entries = await listed(x)
  t.deepEqual(
    entries.map(({ value }) => (value as { i: number }).i).toSorted((a, b) => a - b),
    Array.from({ length: 10 }, (_, i) => count - 10 + i),
    'the last value of each key'
  )
  t.equal(counterOf(entries), count, 'each operation was applied once')
  await until(async () => (await x.status()).outboxes[0]?.generations === 1, {
    what: 'the old generations to be deleted'
  })
})

test('the receipt of a flush whose generation was deleted is still known', async (t) => {
  const { writers, storage, open, config } = await makeSwarm(t, {
    storage: 1,
    capacities: [1],
    rotation
  })
  const [x, y] = writers as [KVSwarm, KVSwarm]
  const first = await x.set('first', 1, { receipt: true })
  const { generation } = await outboxOf(x)
  await until(
    async () => {
      await x.set('more', new Uint8Array(8 * kilobyte), { receipt: true })
      const [outbox] = (await x.status()).outboxes
      return outbox?.generations === 1 && outbox.generation > generation
    },
    { what: 'the first generation to be deleted' }
  )
  t.equal((await x.receipt(first.id)).id, first.id)
  await x.close()
  const again = open('w0', { rotation })
  await again.connect()
  t.equal((await again.receipt(first.id)).id, first.id, 'also after a restart')
  try {
    await y.receipt(first.id, { timeout: 1000 })
    t.fail('another writer has a receipt for it')
  } catch (error) {
    t.equal((error as { code: string }).code, 'FLUSH_UNKNOWN', 'another writer does not know it')
  }
  t.equal(config.writers.length, 2)
  t.equal((await storage[0]?.status())?.inboxes.length, 1)
})

test('a quiet outbox is rotated after a while, and its storage node deletes its copy', async (t) => {
  const quiet = { ...rotation, bytes: 1_000_000_000, appliedBytesMax: 1_000_000_000 }
  const { writers, storage } = await makeSwarm(t, {
    storage: 1,
    capacities: [1],
    rotation: quiet
  })
  const [x] = writers as [KVSwarm]
  await x.set('a', new Uint8Array(16 * kilobyte), { receipt: true })
  const { generation } = await outboxOf(x)
  await until(async () => (await outboxOf(x)).generation > generation, { what: 'the rotation' })
  await until(async () => (await x.status()).outboxes[0]?.generations === 1, {
    what: 'the old generation to be deleted'
  })
  await until(async () => ((await storage[0]?.status())?.inboxes[0]?.appliedBytes ?? 1e9) < 1000, {
    what: 'the copy to be deleted'
  })
  t.equal(((await x.get('a')) as Uint8Array).length, 16 * kilobyte)
})

test('a storage node asks the largest of many writers, and drops what absent ones have left', async (t) => {
  const asking = { ...rotation, bytes: 1_000_000_000, quietMs: 1_000_000 }
  const { writers, storage } = await makeSwarm(t, {
    storage: 1,
    writers: 4,
    capacities: [1],
    rotation: asking
  })
  const [node] = storage as [KVSwarm]
  const applied = async (): Promise<number> => {
    let sum = 0
    for (const { appliedBytes } of (await node.status()).inboxes) sum += appliedBytes
    return sum
  }
  for (const writer of writers.slice(1)) {
    await writer.set('mine', new Uint8Array(9 * kilobyte), { receipt: true })
    await writer.disconnect()
  }
  const [x] = writers as [KVSwarm]
  const { generation } = await (async () => {
    await x.set('mine', 1, { receipt: true })
    return await outboxOf(x)
  })()
  let most = 0
  for (let i = 0; i < 200; i++) {
    await x.set(`key ${i % 3}`, new Uint8Array(2 * kilobyte), { receipt: true })
    most = Math.max(most, await applied())
  }
  t.ok((await outboxOf(x)).generation > generation, 'it was asked to rotate')
  t.ok(most <= asking.appliedBytesMax, `at most ${most} bytes of applied blocks were kept`)
  // The absent ones come back, and go on where they were.
  for (const [i, writer] of writers.slice(1).entries()) {
    await writer.connect()
    await writer.set(`back ${i}`, i, { receipt: true })
  }
  const entries = await listed(x)
  t.equal(counterOf(entries), 3 + 1 + 200 + 3, 'each operation was applied once')
})

test('the disk space of both sides comes back', async (t) => {
  const { writers, storage, path } = await makeSwarm(t, {
    storage: 1,
    capacities: [1],
    rotation: { ...rotation, bytes: 4_000_000, appliedBytesMax: 8_000_000 }
  })
  const [x] = writers as [KVSwarm]
  const size = (name: string): number => {
    let bytes = 0
    const folder = join(path(name), 'db')
    for (const file of readdirSync(folder)) {
      try {
        bytes += statSync(join(folder, file)).size
      } catch {
        // It has just gone.
      }
    }
    return bytes
  }
  const { bytes } = random(t)
  const written = 120
  for (let i = 0; i < written; i++) {
    // Small ones: a reader of the index fetches whole blocks of it, and keeps them.
    for (let k = 0; k < 100; k++) x.put(`key ${k}`, bytes(10_000))
    await x.flush({ receipt: i % 10 === 9 })
  }
  await until(async () => (await x.status()).outboxes[0]?.generations === 1, {
    what: 'the old generations to be deleted'
  })
  // What is under 16 MB waits to be reclaimed; the write-ahead log keeps up to 80 MB.
  await until(() => size('w0') < 100_000_000, {
    what: `the writer's space to come back`,
    timeoutMs: 20_000
  })
  t.pass(`${(size('w0') / 1e6).toFixed(0)} MB of ${written} MB at the writer`)
  t.equal((await listed(x)).length, 100)
  t.ok(storage.length === 1)
})
