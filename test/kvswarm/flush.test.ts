// Flushes of one store: their order, what fails, what is not known, and who waits for whom.
import test from 'tape'
import { WriteCache } from '../../lib/cache.ts'
import { Flushes } from '../../lib/flushes.ts'
import { isKVSwarmError } from '../../lib/errors.ts'
import type { FlushResult } from '../../lib/types.ts'
import { encodeFlushId } from '../../lib/wire/flush-id.ts'
import { encodeKey } from '../../lib/wire/keys.ts'
import { encodeValue } from '../../lib/wire/values.ts'
import { random as randomFor } from '../helpers/random.ts'
import { failure, storeOver, TestEngine } from './engine.ts'
import { makeSwarm } from './swarm.ts'
import { errorOf } from '../helpers/errors.ts'

test('what a failed flush gave back is written before what came later', async (t) => {
  for (const code of ['ABORTED', 'DISK_FULL', 'NOT_WRITER'] as const) {
    const engine = new TestEngine()
    engine.auto = false
    const kv = storeOver(engine)
    kv.put('key', 'one')
    const a = errorOf(kv.flush())
    const first = await engine.asked()
    kv.put('key', 'two')
    const b = kv.flush()
    kv.put('key', 'three')
    first.fail(failure(code))
    t.equal((await a).code, code)
    const second = await engine.asked()
    t.deepEqual(second.texts, ['key=one', 'key=two'], `${code}: in order, up to the call`)
    second.ok()
    t.equal((await b).operations, 2, 'the result counts what was sent')
    const c = kv.flush()
    ;(await engine.asked()).ok()
    t.equal((await c).operations, 1)
    t.deepEqual(engine.log, ['key=one', 'key=two', 'key=three'])
    await kv.close()
  }
})

test('a partial flush: what was not written leads the next one, whoever was written is told so', async (t) => {
  const engine = new TestEngine()
  engine.auto = false
  const kv = storeOver(engine)
  await kv.ready()
  kv.put('a', 1)
  const a = kv.flush()
  kv.put('b', 1)
  kv.put('c', 1)
  const b = errorOf(kv.flush())
  const asked = await engine.asked()
  t.deepEqual(asked.texts, ['a=1', 'b=1', 'c=1'], 'calls of one turn share a write')
  kv.put('b', 2)
  const c = kv.flush()
  const request = Buffer.from(asked.id, 'hex')
  const parts = [{ owner: 'cd'.repeat(32), generation: 1, from: 0, to: 1 }]
  const partial = failure('FLUSH_PARTIAL', { unwritten: [1] })
  const flushId = encodeFlushId({ request, operations: 3, parts })
  asked.fail(Object.assign(partial, { flushId }), [0, 2])
  const written: FlushResult = { id: flushId, operations: 3, parts }
  t.deepEqual(await a, written, 'all that the first call meant was written')
  t.equal((await b).code, 'FLUSH_PARTIAL')
  const next = await engine.asked()
  t.deepEqual(next.texts, ['b=1', 'b=2'])
  next.ok()
  await c
  t.deepEqual(engine.log, ['a=1', 'c=1', 'b=1', 'b=2'])
  await kv.close()
})

test('a flush whose outcome is not known is asked for again before anything else', async (t) => {
  const engine = new TestEngine()
  engine.auto = false
  const kv = storeOver(engine)
  kv.put('key', 'one')
  const a = errorOf(kv.flush())
  const first = await engine.asked()
  first.fail(failure('TIMEOUT', { uncertain: true }))
  t.equal((await a).code, 'TIMEOUT')

  kv.put('key', 'two')
  const b = errorOf(kv.flush())
  const again = await engine.asked()
  t.ok(again.retry)
  t.equal(again.id, first.id, 'by its request id')
  again.fail(failure('TIMEOUT'))
  t.equal((await b).code, 'TIMEOUT', 'still not known: nothing else is written')
  t.deepEqual(engine.log, [])

  const c = kv.flush()
  const third = await engine.asked()
  t.equal(third.id, first.id)
  third.ok()
  const fourth = await engine.asked()
  t.deepEqual(fourth.texts, ['key=two'], "the failed flush's operations are still there")
  fourth.ok()
  t.equal((await c).operations, 1)
  t.deepEqual(engine.log, ['key=one', 'key=two'])
  await kv.close()
})

test('leaving while an earlier flush is asked for again: nothing of the own one is written', async (t) => {
  const engine = new TestEngine()
  engine.auto = false
  const kv = storeOver(engine)
  const a = errorOf(kv.set('k', 1))
  ;(await engine.asked()).fail(failure('IO_ERROR', { uncertain: true }))
  await a
  const aborter = new AbortController()
  const b = errorOf(kv.set('k', 2, { signal: aborter.signal }))
  await engine.asked()
  aborter.abort()
  const left = await b
  t.equal(left.code, 'ABORTED')
  t.equal(left.data['uncertain'], undefined, 'it is in the cache')
  t.equal(engine.calls.at(-1), 'abort', 'nobody waits for the other one either')
  engine.auto = true
  t.equal((await kv.flush()).operations, 1)
  t.deepEqual(engine.calls.slice(-2), ['retry k=1', 'write k=2'])
  t.deepEqual(engine.log, ['k=1', 'k=2'])
  await kv.close()
})

test('a repeated flush that is refused for good goes back in front and blocks nothing', async (t) => {
  for (const code of ['NOT_WRITER', 'CORRUPT', 'FLUSH_PARTIAL'] as const) {
    const engine = new TestEngine()
    engine.auto = false
    const kv = storeOver(engine)
    kv.put('key', 'one')
    kv.put('other', 'one')
    const a = errorOf(kv.flush())
    ;(await engine.asked()).fail(failure('IO_ERROR', { uncertain: true }))
    await a
    kv.put('key', 'two')
    const b = kv.flush()
    const again = await engine.asked()
    const partial = code === 'FLUSH_PARTIAL'
    again.fail(failure(code, partial ? { unwritten: [0] } : {}), partial ? [1] : [])
    const next = await engine.asked()
    t.notOk(next.retry)
    t.deepEqual(next.texts, partial ? ['key=one', 'key=two'] : ['key=one', 'other=one', 'key=two'])
    next.ok()
    await b
    t.equal(engine.log.length, 3, `${code}: each once`)
    await kv.close()
  }
})

test('no flush waits for the ack or receipt of another', async (t) => {
  const engine = new TestEngine()
  const kv = storeOver(engine)
  kv.put('slow', 1)
  const slow = kv.flush({ receipt: true, timeout: 20_000 })
  const receipt = await engine.receiptAsked()
  t.equal(receipt.ack, false)
  t.ok((receipt.timeout ?? 0) > 0 && (receipt.timeout ?? 0) <= 20_000, 'what is left of the time')
  const acked = kv.set('acked', 1, { ack: true })
  const ack = await engine.receiptAsked()
  t.equal(ack.ack, true)
  t.equal((await kv.set('plain', 1)).operations, 1, 'a plain flush has ended meanwhile')
  receipt.ok()
  ack.ok()
  t.equal((await slow).id, receipt.id)
  t.equal((await acked).id, ack.id)
  await kv.close()
})

test('an error behind the append says that it is durable, and which flush it is', async (t) => {
  const engine = new TestEngine()
  const kv = storeOver(engine)
  const failing = async (error: Error): Promise<[string, boolean, boolean]> => {
    const failed = errorOf(kv.set('k', 1, { receipt: true }))
    const receipt = await engine.receiptAsked()
    receipt.fail(error)
    const { code, durable, flushId } = await failed
    return [code, durable, flushId === receipt.id]
  }
  t.deepEqual(await failing(failure('TIMEOUT')), ['TIMEOUT', true, true])
  t.deepEqual(await failing(failure('CLOSED')), ['CLOSED', true, true])
  t.deepEqual(await failing(new Error('bug')), ['INTERNAL', true, true])
  t.deepEqual(await failing(failure('FLUSH_LOST')), ['FLUSH_LOST', false, true])
  t.equal((await kv.flush()).operations, 0, 'none of it is written again')
  await kv.close()
})

test('calls that are made while a write is under way share the next one', async (t) => {
  const engine = new TestEngine()
  engine.auto = false
  const kv = storeOver(engine)
  const first = kv.set('k', 0)
  const asked = await engine.asked()
  const later = [1, 2, 3].map((n) => kv.set('k', n))
  const empty = kv.flush()
  asked.ok()
  t.equal((await first).operations, 1)
  const shared = await engine.asked()
  t.deepEqual(shared.texts, ['k=1', 'k=2', 'k=3'])
  shared.ok()
  const results = await Promise.all([...later, empty])
  t.ok(
    results.every(({ operations }) => operations === 3),
    'the result is that of the write'
  )
  t.equal(new Set(results.map(({ id }) => id)).size, 1)
  t.deepEqual(await kv.flush(), { id: '', operations: 0, parts: [] })
  t.equal(engine.calls.length, 2)
  await kv.close()
})

test('a flush that is aborted or times out in the queue writes nothing', async (t) => {
  const engine = new TestEngine()
  engine.auto = false
  const kv = storeOver(engine)
  const first = kv.set('k', 0)
  const asked = await engine.asked()
  const aborter = new AbortController()
  const aborted = errorOf(kv.set('k', 1, { signal: aborter.signal }))
  const late = await errorOf(kv.set('k', 2, { timeout: 1 }))
  t.equal(late.code, 'TIMEOUT')
  aborter.abort()
  t.equal((await aborted).code, 'ABORTED', 'at once, while the other write has no answer')
  t.equal((await errorOf(kv.flush({ signal: aborter.signal }))).code, 'ABORTED')
  t.deepEqual(engine.calls, ['write k=0'])
  asked.ok()
  await first
  t.equal(engine.open, 0, 'nobody waits for a write: none is made')
  const next = kv.flush()
  const rest = await engine.asked()
  t.deepEqual(rest.texts, ['k=1', 'k=2'], 'they stayed in the cache')
  rest.ok()
  await next
  await kv.close()
})

test('leaving while the write is under way: alone it is aborted, with others it goes on', async (t) => {
  const engine = new TestEngine()
  engine.auto = false
  const kv = storeOver(engine)
  await kv.ready()
  const alone = new AbortController()
  const a = errorOf(kv.set('k', 1, { signal: alone.signal }))
  await engine.asked()
  alone.abort()
  t.equal((await a).code, 'ABORTED')
  t.deepEqual(engine.calls, ['write k=1', 'abort'])

  const late = await errorOf(kv.flush({ timeout: 1 }))
  t.equal(late.code, 'TIMEOUT', 'the engine was asked to abort, the caller ran out of time')
  t.equal(late.data['uncertain'], undefined, 'it is known not to be written')
  t.equal(engine.calls.at(-1), 'abort')

  const one = new AbortController()
  const b = errorOf(kv.flush({ signal: one.signal }))
  const c = kv.set('k', 2)
  const shared = await engine.asked()
  one.abort()
  const left = await b
  t.equal(left.code, 'ABORTED')
  t.equal(left.data['uncertain'], true, 'nobody can tell yet')
  shared.ok()
  t.equal((await c).operations, 2)

  // The engine is the one who knows: written all the same.
  engine.abortable = false
  const d = new AbortController()
  const written = kv.set('k', 3, { signal: d.signal })
  const deaf = await engine.asked()
  d.abort()
  deaf.ok()
  t.equal((await written).operations, 1, 'the definite outcome')
  t.deepEqual(engine.log, ['k=1', 'k=2', 'k=3'])
  await kv.close()
})

test('random failures: every operation once, in order, and nothing is left', async (t) => {
  const random = randomFor(t)
  for (let round = 0; round < 200; round++) {
    const engine = new TestEngine()
    engine.auto = false
    engine.abortable = false
    const kv = storeOver(engine, { timeout: Infinity })
    await kv.ready()
    const put: string[] = []
    const flushes: Promise<unknown>[] = []
    let answered = 0
    const answer = async (): Promise<void> => {
      const asked = await engine.asked()
      answered++
      const fate = random.int(0, 6)
      if (fate === 0) asked.fail(failure('DISK_FULL'))
      else if (fate === 1) asked.fail(failure('TIMEOUT', { uncertain: true }))
      else if (fate === 2) {
        asked.append()
        asked.fail(failure('TIMEOUT', { uncertain: true }))
      } else if (fate === 3 && !asked.retry) {
        // Each key has an owner: all of some keys failed.
        const spared = random.int(0, 2)
        const positions = asked.texts.map((_, at) => at)
        const isSpared = (at: number): boolean => asked.texts[at]?.startsWith(`${spared}=`) ?? false
        const unwritten = positions.filter((at) => !isSpared(at))
        if (unwritten.length === 0 || unwritten.length === positions.length) asked.ok()
        else asked.fail(failure('FLUSH_PARTIAL', { unwritten }), positions.filter(isSpared))
      } else asked.ok()
    }
    for (let step = 0; step < 30; step++) {
      const act = random.int(0, 3)
      if (act <= 1) {
        const text = `${random.int(0, 2)}=${step}`
        put.push(text)
        kv.put(text.split('=')[0] as string, step)
      } else if (act === 2) flushes.push(kv.flush().catch(() => {}))
      else if (engine.open > 0) await answer()
    }
    const whole = Promise.all(flushes).then(() => 'ended' as const)
    let state = ''
    while (state !== 'ended') {
      state = await Promise.race([whole, new Promise<string>((r) => setImmediate(r, 'open'))])
      if (state !== 'ended' && engine.open > 0) await answer()
    }
    engine.auto = true
    await kv.close()
    for (const key of ['0', '1', '2']) {
      const of = (texts: readonly string[]): string[] => texts.filter((x) => x.startsWith(key))
      if (of(engine.log).join() === of(put).join()) continue
      t.deepEqual(of(engine.log), of(put), `round ${round}, key ${key}, after ${answered} answers`)
    }
    t.equal(engine.log.length, put.length, `round ${round}: each operation once`)
  }
})

test('what is under way counts against the bounds of the cache', async (t) => {
  const engine = new TestEngine()
  engine.auto = false
  const cache = new WriteCache({ operations: 2 })
  const flushes = new Flushes(cache, () => Promise.resolve(engine))
  const add = (n: number): void => {
    cache.add({ type: 'put', key: encodeKey('k'), value: encodeValue(n, undefined) })
  }
  const full = /CACHE_FULL/
  const code = (call: () => void): string => {
    try {
      call()
      return ''
    } catch (error) {
      return isKVSwarmError(error) ? error.code : String(error)
    }
  }
  add(1)
  const wait = { timeout: Infinity, signal: undefined, ack: false, receipt: false }
  const flushed = errorOf(flushes.flush(wait))
  const asked = await engine.asked()
  add(2)
  t.match(
    code(() => add(3)),
    full,
    'one is under way, one in the cache'
  )
  asked.fail(failure('DISK_FULL'))
  await flushed
  t.match(
    code(() => add(3)),
    full,
    'both are in the cache'
  )
  const again = flushes.flush(wait)
  ;(await engine.asked()).ok()
  await again
  add(3)
  add(4)
  t.match(
    code(() => add(5)),
    full
  )
  t.deepEqual(engine.log, ['k=1', 'k=2'])
})

test('a real swarm: a plain flush does not wait for an owner that is off', async (t) => {
  const { writers, storage, hub, ids } = await makeSwarm(t, { start: false })
  const [x] = writers
  if (!x) throw new Error('no writer')
  await x.connect()
  const pending = x.set('a', 1, { receipt: true })
  // They end while the other still waits: nobody listens yet.
  const { id } = await x.set('b', 2)
  const behind = await x.set('c', 3)
  t.notEqual(behind.id, id)
  const many = Promise.all(Array.from({ length: 100 }, (_, i) => x.set('n', i, { receipt: true })))
  await Promise.all(storage.map((kv) => kv.listen()))
  t.equal((await pending).id, id, 'of the same turn as b')
  t.equal(new Set((await many).map(({ id }) => id)).size, 1, '100 calls of one turn: one write')
  t.equal(await x.get('n'), 99, 'the last one stands')
  t.ok(hub.node(ids.writers[0] ?? ''), 'over the in-memory network')
})
