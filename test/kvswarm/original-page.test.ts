// Every call of the original page, with callbacks and with promises, on real folders and the in-memory network.
import { join } from 'node:path'
import test from 'tape'
import { Config } from '../../config/index.ts'
import { isKVSwarmError, KVSwarm, kvswarm, type KVSwarmError } from '../../lib/index.ts'
import { tmpdir } from '../helpers/tmp.ts'
import { makeSwarm } from './swarm.ts'

/** Calls `call` with a callback, resolves with what the callback got. */
function called<T>(
  call: (done: (error: KVSwarmError | null, value?: T) => void) => unknown
): Promise<T | undefined> {
  return new Promise((resolve, reject) => {
    call((error, value) => (error ? reject(error) : resolve(value)))
  })
}

test('callbacks: connect, put, flush, get, del, writers, listen, disconnect, close', async (t) => {
  const { storage, writers, config, ids } = await makeSwarm(t, { start: false })
  await Promise.all(storage.map((kv) => called((done) => kv.listen(done))))
  const [x, y] = writers as [KVSwarm, KVSwarm]
  await called((done) => x.connect(done))
  void y.connect()
  x.put('greeting', 'hi')
  const flushed = await called<{ operations: number }>((done) =>
    x.flush({ receipt: true }, done as never)
  )
  t.equal(flushed?.operations, 1, 'flush(opts, cb)')
  t.equal(await called((done) => x.get('greeting', done as never)), 'hi', 'get(key, cb)')
  t.equal(
    await called((done) => x.get('greeting', { timeout: 5000 }, done as never)),
    'hi',
    'get(key, opts, cb)'
  )
  y.put('cool', 'beans')
  await called((done) => y.flush(done as never))
  await called((done) => y.flush({ ack: true }, done as never))
  x.del('greeting')
  await called((done) => x.flush({ receipt: true }, done as never))
  t.equal(await called((done) => x.get('greeting', done as never)), null, 'deleted')
  const list = await called<string[]>((done) => x.getWriters(done))
  t.deepEqual(list, [...ids.writers].toSorted(), 'getWriters(cb)')
  const newcomer = 'ab'.repeat(32)
  await called((done) => x.addWriter(newcomer, done))
  t.ok((await x.getWriters()).includes(newcomer), 'addWriter(key, cb)')
  await called((done) => x.removeWriter(newcomer, done))
  t.notOk((await x.getWriters()).includes(newcomer), 'removeWriter(key, cb)')
  await called((done) => x.setWriters([newcomer], done))
  t.deepEqual(await x.getWriters(), [newcomer], 'setWriters(writers, cb)')
  const next = Config.parse(config.serialize())
  next.update({ writers: [ids.writers[1] ?? ''] })
  await called((done) => y.setConfig(next, done))
  t.deepEqual(await y.getWriters(), [ids.writers[1]], 'setConfig(config, cb)')
  const failure = await called((done) => y.setConfig(config, done)).catch((error: unknown) => error)
  t.ok(isKVSwarmError(failure, 'CONFIG_STALE'), 'errors come to the callback')
  await called((done) => x.disconnect(done))
  t.deepEqual((await x.status()).peers, [], 'disconnect(cb)')
  await called((done) => x.close(done))
})

test('promises: the same calls', async (t) => {
  const { storage, writers } = await makeSwarm(t, { start: false })
  await Promise.all(storage.map((kv) => kv.listen()))
  const [x] = writers as [KVSwarm]
  await x.connect()
  x.put('a', 1)
  const { parts, id } = await x.flush({ ack: true })
  t.equal(parts.length, 1)
  await x.receipt(id)
  t.equal(await x.get('a'), 1)
  await x.disconnect()
  t.equal(await x.get('a'), 1, 'from the blocks that are here')
  await x.connect()
  await x.set('b', 2, { receipt: true })
  t.equal(await x.get('b'), 2, 'connected again')
})

test('setCapacities: allowed until slices were adopted by a node', async (t) => {
  const { writers, ids } = await makeSwarm(t, { start: false })
  const [x] = writers as [KVSwarm]
  const capacities = { [ids.storage[0] ?? '']: 50 }
  const refused = await x.setCapacities(capacities).catch((error: unknown) => error)
  t.ok(isKVSwarmError(refused, 'CONFIG_SLICES'), 'moving data comes later')
})

test('storage: a path, a function, an adaptor; options.bins; kvswarm() without new', async (t) => {
  const folder = tmpdir(t)
  const byFunction = kvswarm({ storage: (name: string) => join(folder, name) })
  t.ok(byFunction instanceof KVSwarm)
  await byFunction.ready()
  await byFunction.close()
  const adaptor = { open: (): void => {}, read: (): void => {} }
  try {
    kvswarm({ storage: (() => adaptor) as unknown as () => string })
    t.fail('must be refused')
  } catch (error) {
    t.ok(isKVSwarmError(error, 'STORAGE_UNSUPPORTED'))
  }
  const a = '0a'.repeat(32)
  const b = '0b'.repeat(32)
  const bins = {
    [a]: {
      size: 1,
      slices: [
        [
          [0n, 1n],
          [1n, 3n]
        ]
      ]
    },
    [b]: {
      size: 2,
      slices: [
        [
          [1n, 3n],
          [1n, 1n]
        ]
      ]
    }
  }
  const kv = kvswarm({ storage: join(folder, 'bins'), bins: bins as never })
  await kv.ready()
  t.deepEqual(Object.keys(kv.config?.capacities ?? {}), [a, b], 'bins in the original form')
  await kv.close()
})

test('Config: constructor, parse, serialize, update, addWriter, removeWriter', (t) => {
  const a = '0a'.repeat(32)
  const b = '0b'.repeat(32)
  const x = '0c'.repeat(32)
  const config = new Config({ writers: [x], capacities: { [a]: 5, [b]: 10 } })
  t.deepEqual(Config.parse(config.serialize()).capacities, { [a]: 5, [b]: 10 })
  config.update({ capacities: { [a]: 10 } })
  t.equal(config.capacities[a], 10)
  config.addWriter(a)
  t.deepEqual(config.writers, [a, x].toSorted())
  config.removeWriter(x)
  t.deepEqual(config.writers, [a])
  t.equal(config.epoch, 4)
  t.end()
})
