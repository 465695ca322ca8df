/** Two handles of one process on one data directory: what crosses the control socket, and how it ends. */
import { existsSync, statSync } from 'node:fs'
import { join } from 'node:path'
import test from 'tape'
import { FakeEngine, fakeId, waitsIn, writesIn } from './fake-engine.ts'
import { all, bytes, codeOf, open, put, request } from './handles.ts'
import { readSidecar } from '../../lib/coordination/index.ts'
import { KVSwarmError } from '../../lib/errors.ts'
import type { Engine, IndexRange, WriteRequest } from '../../lib/ports.ts'
import type { Operation } from '../../lib/types.ts'
import { until } from '../helpers/events.ts'
import { random } from '../helpers/random.ts'
import { tmpdir } from '../helpers/tmp.ts'

test('a second handle of the same process is served by the first', async (t) => {
  const directory = tmpdir(t)
  const seats: string[] = []
  const onRoleChange = (seat: string): unknown => seats.push(seat)
  const a = await open(t, directory, { onRoleChange })
  const b = await open(t, directory, { onRoleChange })
  t.deepEqual(seats, ['holder', 'client'])
  t.equal(b.nodeId, fakeId)
  t.equal(statSync(join(directory, 'kvswarm.lock')).mode & 0o777, 0o600)

  const same = request()
  const value = new Uint8Array([0, 255, 10, 13])
  const operations = [put('a', value), put('b', '007'), put('c', '')]
  const first = await b.write({ request: same, operations })
  t.deepEqual(await a.write({ request: same, operations }), first, 'the same request appends once')
  t.deepEqual(await b.receipt(first.id), first)
  const [one, none, three] = await b.getMany([bytes('a'), bytes('x'), bytes('c')])
  t.deepEqual(one?.value, value, 'bytes as they were')
  t.equal(none, null)
  t.equal(three?.value.length, 0)
  t.deepEqual(await b.getMany([]), [])
  t.deepEqual(await all(b.list({})), ['a', 'b', 'c'])
  t.deepEqual(await all(b.list({ reverse: true, limit: 2 })), ['c', 'b'])
  t.deepEqual(await all(b.list({ gt: bytes('a'), lt: bytes('c') })), ['b'])
  t.equal((await b.status()).node, fakeId)
  await a.close()
  t.equal(await codeOf(a.getMany([])), 'CLOSED', 'calls after close')
  t.deepEqual(await all(b.list({})), ['a', 'b', 'c'], 'the second handle has taken over')
  t.deepEqual(seats, ['holder', 'client', 'holder'])
  await b.close()
  await b.close()
  t.notOk(existsSync(join(directory, 'kvswarm.sock')), 'no socket is left')
  t.equal(await readSidecar(directory), null, 'the sidecar names nobody')
})

test('every kind of operation arrives as it was sent', async (t) => {
  const directory = tmpdir(t)
  const seen: (readonly Operation[])[] = []
  const spy = new FakeEngine(directory, null)
  spy.write = async ({ operations }) => {
    seen.push(operations)
    return { id: 'x', operations: operations.length, parts: [] }
  }
  await open(t, directory, { openEngine: async () => spy })
  const b = await open(t, directory)
  const [key, value] = [bytes('k'), bytes('v')]
  const operations: Operation[] = [
    { type: 'put', key, value, expireIn: 5 },
    { type: 'put', key, value, expireAt: 1_900_000_000_000 },
    { type: 'del', key },
    { type: 'sum', key, value },
    { type: 'min', key, value },
    { type: 'max', key, value },
    {
      type: 'group',
      checks: [
        { key, versionstamp: null },
        { key, versionstamp: '0'.repeat(20) }
      ],
      mutations: [
        { type: 'put', key, value },
        { type: 'del', key }
      ]
    }
  ]
  await b.write({ request: request(), operations })
  t.deepEqual(seen[0], operations)
  await b.write({ request: request(), operations: [] })
  t.deepEqual(seen[1], [])
})

test('a flush of many megabytes, and a value of the largest size', async (t) => {
  const directory = tmpdir(t)
  await open(t, directory)
  const b = await open(t, directory)
  const large = new Uint8Array(8 * 1024 * 1024 - 1).fill(7)
  const operations = [put('large', large)]
  for (let i = 0; i < 30_000; i++) operations.push(put(`k${i}`, 'x'.repeat(500)))
  const result = await b.write({ request: request(), operations }, { timeout: 20_000 })
  t.equal(result.operations, 30_001)
  const [entry] = await b.getMany([bytes('large')])
  t.ok(entry && Buffer.from(large).equals(entry.value), 'the large value is whole')
  const keys = Array.from({ length: 30_000 }, (_, i) => bytes(`k${i}`))
  const entries = await b.getMany(keys)
  t.ok(entries.every((found, i) => found && Buffer.from(found.key).equals(keys[i] as never)))
})

test('errors keep their code, hint and facts', async (t) => {
  const directory = tmpdir(t)
  await open(t, directory)
  const b = await open(t, directory)
  try {
    await b.setConfig('bad')
    t.fail('must reject')
  } catch (error) {
    t.ok(error instanceof KVSwarmError, 'a KVSwarmError on this side')
    t.deepEqual((error as KVSwarmError).toJSON(), {
      code: 'CONFIG_SLICES',
      message: 'other slices',
      hint: '',
      data: { a: 1 }
    })
  }
})

test('timeouts: 0, short, none; aborts reach the engine', async (t) => {
  const directory = tmpdir(t)
  await open(t, directory)
  const b = await open(t, directory)
  const hang = [bytes('hang:1')]
  t.equal(await codeOf(b.getMany(hang, { timeout: 0 })), 'TIMEOUT')
  t.equal(await codeOf(b.getMany(hang, { timeout: 20 })), 'TIMEOUT')
  t.equal(await codeOf(b.getMany(hang, { timeout: -1 })), 'INVALID_ARGUMENT')
  t.equal(await codeOf(b.getMany(hang, { timeout: Number.NaN })), 'INVALID_ARGUMENT')

  const aborter = new AbortController()
  const waits = waitsIn(directory).length
  const waiting = b.getMany(hang, { timeout: Infinity, signal: aborter.signal })
  await until(() => waitsIn(directory).length === waits + 1, { what: 'the call to wait' })
  aborter.abort()
  t.equal(await codeOf(waiting), 'ABORTED')
  await until(() => waitsIn(directory).at(-1) === 'hang:1 ends: ABORTED', {
    what: 'the abort to reach the engine'
  })
  t.equal(await codeOf(b.getMany(hang, { signal: AbortSignal.abort() })), 'ABORTED')
})

test('an aborted write tells the definite outcome', async (t) => {
  const directory = tmpdir(t)
  await open(t, directory)
  const b = await open(t, directory)
  for (const [key, durable] of [
    ['hang:1', false],
    ['slow:1', true]
  ] as const) {
    const aborter = new AbortController()
    const { signal } = aborter
    const write = b.write({ request: request(), operations: [put(key, 'v')] }, { signal })
    await until(() => waitsIn(directory).at(-1) === `${key} begins`, { what: 'the write to wait' })
    aborter.abort()
    try {
      await write
      t.fail('must reject')
    } catch (error) {
      t.equal((error as KVSwarmError).code, 'ABORTED')
      t.equal((error as KVSwarmError).durable, durable, `${key}: durable is ${durable}`)
      t.equal((error as KVSwarmError).flushId !== undefined, durable)
    }
  }
  t.deepEqual(writesIn(directory), ['slow:1'], 'before the append nothing is left behind')
  const early = { request: request(), operations: [put('e', '')] }
  t.equal(await codeOf(b.write(early, { signal: AbortSignal.abort() })), 'ABORTED')
  t.deepEqual(writesIn(directory), ['slow:1'])
})

test('a write is asked again as a retry, and uncertain when nobody answers', async (t) => {
  const directory = tmpdir(t)
  const seen: WriteRequest[] = []
  const openEngine = async (config: string | null): Promise<Engine> => {
    const engine = new FakeEngine(directory, config)
    const write = engine.write.bind(engine)
    engine.write = (sent, options) => {
      seen.push(sent)
      return write(sent, options)
    }
    return engine
  }
  const a = await open(t, directory, { openEngine })
  const b = await open(t, directory, { openEngine })
  const slow = { request: request(), operations: [put('slow:1', '')] }
  const writing = b.write(slow)
  await until(() => waitsIn(directory).length === 1, { what: 'the write to wait' })
  await a.close()
  t.equal((await writing).operations, 1, 'the next holder found it')
  t.deepEqual(
    seen.map(({ retry }) => retry === true),
    [false, true]
  )
  t.deepEqual(writesIn(directory), ['slow:1'])

  const c = await open(t, directory, {
    openEngine: async () => {
      throw new KVSwarmError('DATADIR_DAMAGED', 'damaged meanwhile')
    }
  })
  const other = { request: request(), operations: [put('slow:2', '')] }
  const lost = c.write(other).catch((error: KVSwarmError) => error)
  await until(() => waitsIn(directory).at(-1) === 'slow:2 begins', { what: 'the write to wait' })
  await b.close()
  const error = (await lost) as KVSwarmError
  t.equal(error.code, 'DATADIR_DAMAGED')
  t.equal(error.data['uncertain'], true)
})

test('a list goes no faster than it is read, and ends when its reader leaves', async (t) => {
  const directory = tmpdir(t)
  const engine = new FakeEngine(directory, null)
  await open(t, directory, { openEngine: async () => engine })
  const b = await open(t, directory)
  const total = 300
  const value = new Uint8Array(64 * 1024)
  const operations = Array.from({ length: total }, (_, i) =>
    put(`k${String(i).padStart(3, '0')}`, value)
  )
  await b.write({ request: request(), operations })
  const left = new Promise<void>((resolve) => {
    const list = engine.list.bind(engine)
    engine.list = async function* (range: IndexRange, options) {
      try {
        yield* list(range, options)
      } finally {
        resolve()
      }
    }
  })
  let count = 0
  for await (const entry of b.list({})) {
    if (entry.value.length === value.length) count++
    if (count < 3) continue
    // Time enough for a list that would not wait to come to its end.
    for (let i = 0; i < total; i++) await b.status()
    const listed = engine.waiting.size
    t.ok(listed < total / 2, `${listed} of ${total} entries (19 MB) were read for the first 3`)
    break
  }
  await left
  t.pass('the engine was told that the reader left')
})

test('a list whose holder ends goes on where it was, in both directions', async (t) => {
  for (const reverse of [false, true]) {
    const directory = tmpdir(t)
    const a = await open(t, directory)
    const b = await open(t, directory)
    const keys = Array.from({ length: 200 }, (_, i) => `k${String(i).padStart(3, '0')}`)
    const value = new Uint8Array(32 * 1024)
    await a.write({ request: request(), operations: keys.map((key) => put(key, value)) })
    const listed: string[] = []
    for await (const entry of b.list({ reverse, limit: 150 })) {
      listed.push(Buffer.from(entry.key).toString())
      if (listed.length === 5) await a.close()
    }
    const wanted = (reverse ? keys.toReversed() : keys).slice(0, 150)
    t.deepEqual(listed, wanted, reverse ? 'backwards' : 'forwards')
    await b.close()
  }
})

test('a random mix of handles that open, write and close: nothing is lost or doubled', async (t) => {
  const directory = tmpdir(t)
  const rng = random(t)
  const told: string[] = []
  const live = async (name: number): Promise<void> => {
    for (let round = 0; round < 6; round++) {
      const engine = await open(t, directory, { lockTimeoutMs: 20_000 })
      const end = rng.chance(0.3) ? await engine.start('connect') : null
      const writes = Array.from({ length: rng.int(1, 8) }, async (_, i) => {
        const key = `${name}:${round}:${i}`
        await engine.write({ request: request(), operations: [put(key, 'v')] })
        told.push(key)
      })
      await Promise.all(writes)
      await end?.()
      await engine.close()
    }
  }
  await Promise.all(Array.from({ length: 6 }, (_, name) => live(name)))
  t.deepEqual(writesIn(directory).toSorted(), told.toSorted(), `${told.length} writes`)
})

test('waits for receipts, however many, leave connections for everything else', async (t) => {
  const directory = tmpdir(t)
  const engine = new FakeEngine(directory, null)
  await open(t, directory, { openEngine: async () => engine })
  const b = await open(t, directory)
  const aborter = new AbortController()
  const waits = Array.from({ length: 80 }, (_, n) =>
    codeOf(b.receipt(`r${n}`, { timeout: Infinity, signal: aborter.signal }))
  )
  await until(() => engine.waiting.size >= 64, { what: '64 receipts at the holder' })
  await b.write({ request: request(), operations: [put('k', 'v')] }, { timeout: 5_000 })
  t.deepEqual(await all(b.list({}, { timeout: 5_000 })), ['k'], 'served meanwhile')
  aborter.abort()
  t.ok((await Promise.all(waits)).every((code) => code === 'ABORTED'))
})

test('a tail, and what a write asks of the queue, cross the socket', async (t) => {
  const directory = tmpdir(t)
  const spy = new FakeEngine(directory, null)
  const asked: unknown[] = []
  const write = spy.write.bind(spy)
  spy.write = async (request, options) => {
    asked.push([options?.onFull, options?.calls])
    return await write(request, options)
  }
  await open(t, directory, { openEngine: async () => spy })
  const b = await open(t, directory)
  await b.write({ request: request(), operations: [put('k', 'v')] }, { onFull: 'reject', calls: 7 })
  t.deepEqual(asked, [['reject', 7]])
  for (const follow of [false, true]) {
    const events: string[] = []
    for await (const event of b.tail(null, { follow })) {
      if (event.type === 'put') events.push(`put ${Buffer.from(event.entry.key).toString()}`)
      else if (event.type === 'bookmark') events.push(`bookmark ${event.bookmark}`)
      else events.push(event.type)
    }
    t.deepEqual(events, ['reset', 'put k', 'bookmark k', 'del'])
  }
  t.equal(await codeOf(all(b.tail('bad') as AsyncIterable<never>)), 'INVALID_ARGUMENT')
})
