// The write queue in a whole node: what a full one means to a caller, also through another process's socket.
import { join } from 'node:path'
import test from 'tape'
import { KVSwarm } from '../../lib/index.ts'
import { cleanup } from '../helpers/cleanup.ts'
import { once, until } from '../helpers/events.ts'
import { tmpdir } from '../helpers/tmp.ts'
import { errorOf } from '../helpers/errors.ts'
import { makeSwarm } from './swarm.ts'

test('offline the queue fills up; delivered, it lets in who waits, in turn', async (t) => {
  const { storage, open } = await makeSwarm(t, { storage: 1, start: false })
  const kv = open('w0', { maxPendingBlocks: 2, timeout: 30_000 })
  const other = open('w0', { onFull: 'reject' })
  await kv.set('a', 1)
  const bounded = open('w0', { maxPendingBytes: 5 })
  const warned = once(bounded, 'warning')
  await bounded.ready()
  t.match(String((await warned)[0]), /2 blocks: that counts/, "the holder's bounds count")
  await bounded.close()
  await kv.set('b', 2)
  const late = await errorOf(kv.set('c', 3, { timeout: 50 }))
  t.equal(late.code, 'TIMEOUT')
  t.notOk(late.durable)
  const aborter = new AbortController()
  const aborted = errorOf(kv.flush({ signal: aborter.signal }))
  await until(async () => (await kv.stats()).queue.depth === 1, { what: 'a write that waits' })
  aborter.abort()
  t.equal((await aborted).code, 'ABORTED')
  t.equal(
    (await errorOf(other.set('x', 9))).code,
    'QUEUE_FULL',
    'by the socket, with its own onFull'
  )
  const { queue, cache, outboxes } = await kv.stats()
  t.deepEqual([queue.depth, queue.timeouts, queue.rejections, queue.cancellations], [0, 1, 1, 1])
  t.deepEqual([queue.maxPendingBlocks, queue.pendingBlocks], [2, 2])
  t.equal(outboxes[0]?.length, 4, 'head, mark, and two writes: nothing of what failed')
  t.equal(cache.operations, 1, 'c is in the cache')
  // The others have room as soon as there are receipts.
  const waiting = kv.flush()
  await until(async () => (await kv.stats()).queue.depth === 1, { what: 'a write that waits' })
  await storage[0]?.listen()
  await kv.connect()
  await waiting
  await other.flush({ receipt: true })
  await kv.flush({ receipt: true })
  t.equal(await kv.get('c', { fresh: true }), 3)
  t.equal(await kv.get('x', { fresh: true }), 9)
  await until(async () => (await kv.stats()).queue.pendingBlocks === 0, { what: 'an empty queue' })
  const done = (await kv.stats()).queue
  t.equal(done.admissions, done.executions + done.timeouts + done.cancellations + done.depth)
  t.equal(done.executions, done.commits + done.failures)
  await other.close()
  await kv.close()
  const again = open('w0')
  t.equal((await again.stats()).queue.pendingBlocks, 0, 'known at the next start, offline')
})

test('closing with writes that wait: they are refused, and nothing of them is written', async (t) => {
  const { open, path, config } = await makeSwarm(t, { storage: 1, start: false })
  const kv = new KVSwarm({
    storage: path('w0'),
    config,
    maxPendingBlocks: 1,
    timeout: 100,
    writeMode: 'immediate'
  })
  await kv.put('a', 1)
  const waiting = errorOf(Promise.resolve(kv.put('b', 2, { timeout: Infinity })))
  await until(async () => (await kv.stats()).queue.depth === 1, { what: 'a write that waits' })
  t.equal((await errorOf(kv.close())).code, 'TIMEOUT', 'close() waits for room, but not for ever')
  t.equal((await waiting).code, 'QUEUE_CLOSED')
  const again = open('w0')
  t.equal((await again.stats()).outboxes[0]?.length, 3, 'head, mark, and the first')
})

test('the lock: who holds it, how often it was taken, and who waits', async (t) => {
  const directory = join(tmpdir(t), 'node')
  const open = (options = {}): KVSwarm => {
    const kv = new KVSwarm({ storage: directory, ...options })
    kv.on('warning', () => {})
    cleanup(t, () => kv.close().catch(() => {}))
    return kv
  }
  const first = open()
  t.equal((await first.stats()).lock?.taken, 1)
  await first.close()
  const second = open({ coordination: 'single' })
  const before = Date.now()
  t.equal((await second.stats()).lock?.taken, 2, 'counted over ends of processes')
  const third = open({ lockTimeout: 20_000 })
  const served = third.ready()
  const lock = await until(async () => {
    const { lock } = await second.stats()
    return lock !== null && lock.waiting.length > 0 ? lock : null
  })
  t.equal(lock.holder.pid, process.pid)
  t.equal(lock.waiting[0]?.pid, process.pid)
  t.ok((lock.waiting[0]?.since ?? 0) >= before - 1000)
  await second.close()
  await served
  const now = (await third.stats()).lock
  t.deepEqual([now?.taken, now?.waiting], [3, []])
})
