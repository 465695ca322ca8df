// The class over an engine of the test: opening, closing, roles, configurations.
import test from 'tape'
import { Config } from '../../config/index.ts'
import { isKVSwarmError } from '../../lib/errors.ts'
import { KVSwarm } from '../../lib/kvswarm.ts'
import { until } from '../helpers/events.ts'
import { failure, storeOver, TestEngine } from './engine.ts'
import { makeSwarm } from './swarm.ts'
import { errorOf } from '../helpers/errors.ts'

const ids = ['11', '22', '33'].map((byte) => byte.repeat(32))

function gate(): { readonly opened: Promise<void>; open: () => void; fail: (e: Error) => void } {
  let open = (): void => {}
  let fail: (e: Error) => void = open
  const opened = new Promise<void>((resolve, reject) => {
    open = resolve
    fail = reject
  })
  return { opened, open, fail }
}

test('close() writes what was put, also when nothing opened the store yet', async (t) => {
  const engine = new TestEngine()
  const kv = storeOver(engine)
  kv.put('k', 'v')
  await kv.close()
  t.deepEqual(engine.log, ['k=v'])
  t.ok(engine.closed)
  t.equal((await errorOf(kv.flush())).code, 'CLOSED')
})

test('close() of a store that cannot be opened: told when puts are lost, and closed all the same', async (t) => {
  let tries = 0
  const open = (): Promise<never> => {
    tries++
    return Promise.reject(failure('DATADIR_IN_USE'))
  }
  const kv = new KVSwarm({ storage: 'unused' }, open)
  kv.put('k', 'v')
  t.equal((await errorOf(kv.close())).code, 'DATADIR_IN_USE')
  t.equal((await errorOf(kv.close())).code, 'DATADIR_IN_USE', 'the same answer again')
  t.equal((await errorOf(kv.get('k'))).code, 'CLOSED')
  t.equal(tries, 1)

  const empty = new KVSwarm({ storage: 'unused' }, open)
  t.equal((await errorOf(empty.ready())).code, 'DATADIR_IN_USE')
  await empty.close()
  t.pass('nothing is lost: close() has nothing to tell')

  const never = new KVSwarm({ storage: 'unused' }, open)
  await never.close()
  t.equal(tries, 2, 'an empty store is not opened to be closed')
  t.equal((await errorOf(never.ready())).code, 'CLOSED')
})

test('close() waits for the flushes that were called, tells what failed, and closes', async (t) => {
  const engine = new TestEngine()
  engine.auto = false
  const kv = storeOver(engine)
  const flushed = kv.set('a', 1)
  const first = await engine.asked()
  kv.put('b', 2)
  const closed = errorOf(kv.close())
  t.notOk(engine.closed, 'a write is under way')
  first.ok()
  t.equal((await flushed).operations, 1)
  ;(await engine.asked()).fail(failure('DISK_FULL'))
  t.equal((await closed).code, 'DISK_FULL')
  t.ok(engine.closed)
})

test('wrong options of flush() reject, before anything is written', async (t) => {
  const engine = new TestEngine()
  const kv = storeOver(engine)
  kv.put('k', 'v')
  t.equal((await errorOf(kv.flush({ timeout: -1 }))).code, 'INVALID_ARGUMENT')
  const [error] = await new Promise<unknown[]>((resolve) => {
    kv.flush({ timeout: NaN }, (...values) => resolve(values)).catch(() => {})
  })
  t.ok(isKVSwarmError(error, 'INVALID_ARGUMENT'), 'a callback is told, too')
  t.deepEqual(engine.log, [])
  await kv.close()
})

test('a role that is asked for twice starts once', async (t) => {
  const engine = new TestEngine()
  const kv = storeOver(engine)
  await Promise.all([kv.connect(), kv.connect()])
  await kv.connect()
  t.deepEqual(engine.roles, ['start connect', 'started connect'])
  await kv.disconnect()
  await kv.disconnect()
  t.deepEqual(engine.roles.slice(2), ['end connect', 'ended connect'])
  await kv.close()
})

test('a role whose start failed can be started again, also while the others hear of it', async (t) => {
  const engine = new TestEngine()
  const kv = storeOver(engine)
  await kv.ready()
  engine.onStart = () => Promise.reject(failure('NOT_AUTHORISED'))
  const again = kv.connect().catch(() => {
    engine.onStart = () => Promise.resolve()
    return kv.connect()
  })
  const other = errorOf(kv.connect())
  t.equal((await other).code, 'NOT_AUTHORISED')
  await again
  await kv.disconnect()
  t.deepEqual(engine.roles, [
    'start connect',
    'start connect',
    'started connect',
    'end connect',
    'ended connect'
  ])
  await kv.close()
})

test('disconnect() while connecting ends the connection; connect() behind it starts anew', async (t) => {
  const engine = new TestEngine()
  const ends = gate()
  engine.onEnd = () => ends.opened
  const kv = storeOver(engine)
  // Not even the store is open.
  const connected = kv.connect()
  const disconnected = kv.disconnect()
  const again = kv.connect()
  await connected
  ends.open()
  await Promise.all([disconnected, again])
  t.deepEqual(engine.roles, [
    'start connect',
    'started connect',
    'end connect',
    'ended connect',
    'start connect',
    'started connect'
  ])
  await kv.close()
  t.equal(engine.roles.at(-1), 'ended connect', 'close() ends it')
})

test('a start that fails behind a disconnect() does not take the next one away', async (t) => {
  const engine = new TestEngine()
  const kv = storeOver(engine)
  const start = gate()
  engine.onStart = () => start.opened
  const failed = errorOf(kv.connect())
  const disconnected = kv.disconnect()
  const again = kv.connect()
  await until(() => engine.roles.length === 1, { what: 'the first start' })
  engine.onStart = () => Promise.resolve()
  start.fail(failure('NOT_AUTHORISED'))
  t.equal((await failed).code, 'NOT_AUTHORISED')
  await Promise.all([disconnected, again])
  await kv.disconnect()
  t.equal(engine.roles.at(-1), 'ended connect', 'disconnect() knows the second one')
  await kv.close()
})

test('disconnect() ends every role, then tells what failed first', async (t) => {
  const engine = new TestEngine()
  const kv = storeOver(engine)
  await kv.connect()
  await kv.listen()
  engine.onEnd = (role) =>
    role === 'connect' ? Promise.reject(failure('IO_ERROR')) : Promise.resolve()
  t.equal((await errorOf(kv.disconnect())).code, 'IO_ERROR')
  t.ok(engine.roles.includes('ended listen'), 'the other one is ended')
  await kv.disconnect()
  t.pass('nothing is left to end')

  // One that never started is no reason to leave the other.
  const start = gate()
  engine.onStart = (role) => (role === 'connect' ? start.opened : Promise.resolve())
  engine.onEnd = () => Promise.resolve()
  const failed = errorOf(kv.connect())
  await kv.listen()
  const disconnected = kv.disconnect()
  start.fail(failure('NOT_AUTHORISED'))
  t.equal((await failed).code, 'NOT_AUTHORISED')
  await disconnected
  t.equal(engine.roles.at(-1), 'ended listen')
  await kv.close()
})

test('a configuration that another handle changed is seen, and built upon', async (t) => {
  const engine = new TestEngine()
  const [storage, one, two] = ids as [string, string, string]
  const config = new Config({ capacities: { [storage]: 1 }, writers: [] })
  engine.configText = config.serialize()
  const a = storeOver(engine)
  const b = storeOver(engine)
  await Promise.all([a.ready(), b.ready()])
  await a.addWriter(one)
  t.deepEqual(await b.getWriters(), [one])
  t.equal(b.config?.epoch, a.config?.epoch, 'and kv.config is what was seen last')
  await a.removeWriter(one)
  await b.addWriter(two)
  t.deepEqual(await a.getWriters(), [two], 'the other change is not undone')
  await Promise.all([a.addWriter(one), a.removeWriter(two)])
  t.deepEqual(await b.getWriters(), [one], 'two changes of one handle build on each other')
  await Promise.all([a.close(), b.close()])
})

test('two handles on one data directory change its configuration in turn', async (t) => {
  const { open, ids: nodes } = await makeSwarm(t, { start: false, storage: 1, writers: 1 })
  const a = open('w0')
  const b = open('w0', { network: undefined as never })
  await a.ready()
  await b.ready()
  await a.addWriter(ids[0] as string)
  await b.addWriter(ids[1] as string)
  const expected = [...nodes.writers, ids[0] as string, ids[1] as string].toSorted()
  t.deepEqual(await a.getWriters(), expected)
  t.deepEqual(await b.getWriters(), expected)
})
