// The library over the in-memory network: writes, acks, receipts, reads, lists, removal of a writer.
import test from 'tape'
import { Config } from '../../config/index.ts'
import { isKVSwarmError, type KVEntry } from '../../lib/index.ts'
import { until } from '../helpers/events.ts'
import { makeSwarm } from './swarm.ts'
import { codeOf } from '../helpers/errors.ts'

/** One that can be changed. */
function copyOf(config: Config): Config {
  return Config.parse(config.serialize())
}

test('put, flush with receipt, get: from every node', async (t) => {
  const { storage, writers, open } = await makeSwarm(t)
  const [x, y] = writers
  x?.put('greeting', 'hi')
  const result = await x?.flush({ receipt: true })
  t.equal(result?.operations, 1)
  t.equal(result?.parts.length, 1)
  t.equal(await x?.get('greeting'), 'hi', 'the writer reads what it wrote')
  t.equal(await y?.get('greeting'), 'hi', 'the other writer')
  for (const kv of storage) t.equal(await kv.get('greeting'), 'hi', 'a storage node')
  const reader = open('reader')
  await reader.connect()
  t.equal(await reader.get('greeting'), 'hi', 'a reader that nobody knows')
  t.equal(await reader.get('nothing'), null, 'a key that is not there')
  const entry = await reader.getEntry('greeting')
  t.match(entry?.versionstamp ?? '', /^[0-9a-f]{20}$/)
  t.equal(await reader.has('greeting'), true)
  t.equal(await reader.has('nothing'), false)
  x?.del('greeting')
  await x?.flush({ receipt: true })
  t.equal(await x?.get('greeting'), null, 'deleted')
  t.equal(await reader.get('greeting', { fresh: true }), null, 'deleted for a fresh reader')
})

test('many keys: all readable everywhere, in order, with their values', async (t) => {
  const { storage, writers, open } = await makeSwarm(t)
  const count = 2000
  const keys = Array.from({ length: count }, (_, i) => `key-${String(i).padStart(5, '0')}`)
  for (const [i, key] of keys.entries()) writers[i % 2]?.put(key, `value ${i}`)
  await Promise.all(writers.map((kv) => kv.flush({ receipt: true })))
  const reader = open('reader')
  await reader.connect()
  for (const kv of [reader, ...storage, ...writers]) {
    const entries: KVEntry[] = []
    for await (const entry of kv.list({}, { fresh: true })) entries.push(entry)
    t.deepEqual(
      entries.map((entry) => entry.key),
      keys,
      'every key, in order'
    )
    t.ok(
      entries.every((entry, i) => entry.value === `value ${i}`),
      'with its value'
    )
  }
  const some: unknown[] = []
  for await (const { key } of reader.list({ prefix: 'key-0001', limit: 3, reverse: true }))
    some.push(key)
  t.deepEqual(some, ['key-00019', 'key-00018', 'key-00017'])
  const range: unknown[] = []
  for await (const { key } of reader.list({ start: 'key-00003', end: 'key-00006' })) range.push(key)
  t.deepEqual(range, ['key-00003', 'key-00004', 'key-00005'])
  const got = await reader.getMany(['key-00001', 'no', 'key-01999'])
  t.deepEqual(
    got.map((entry) => entry?.value ?? null),
    ['value 1', null, 'value 1999']
  )
})

test('an offline write is delivered later; a receipt is found again after a restart', async (t) => {
  const { storage, open } = await makeSwarm(t, { start: false })
  const writer = open('w0')
  writer.put('later', 'alligator')
  const { id, operations } = await writer.flush()
  t.equal(operations, 1)
  t.equal(await codeOf(writer.get('later')), 'NOT_CONNECTED', 'nothing is known offline')
  t.equal(await codeOf(writer.receipt(id, { timeout: 50 })), 'TIMEOUT', 'no receipt yet')
  await writer.close()
  await Promise.all(storage.map((kv) => kv.listen()))
  const again = open('w0')
  await again.connect()
  const result = await again.receipt(id)
  t.equal(result.operations, 1)
  t.equal(await again.get('later'), 'alligator')
  t.equal(await again.get('later', { after: id }), 'alligator')
  t.equal(await codeOf(again.receipt('nonsense')), 'FLUSH_UNKNOWN')
})

test('timeouts say that the write is durable, and the receipt can be had later', async (t) => {
  const { storage, writers } = await makeSwarm(t, { start: false })
  const [x] = writers
  await x?.connect()
  x?.put('k', 'v')
  let id: string | undefined
  try {
    await x?.flush({ receipt: true, timeout: 100 })
    t.fail('must time out')
  } catch (error) {
    t.ok(isKVSwarmError(error, 'TIMEOUT'))
    if (isKVSwarmError(error)) {
      t.equal(error.durable, true)
      id = error.flushId
    }
  }
  await Promise.all(storage.map((kv) => kv.listen()))
  await x?.receipt(id ?? '')
  t.equal(await x?.get('k'), 'v')
  const aborted = new AbortController()
  aborted.abort()
  x?.put('never', 'written')
  t.equal(await codeOf(x?.flush({ signal: aborted.signal }) ?? Promise.resolve()), 'ABORTED')
  await x?.flush({ receipt: true })
  t.equal(await x?.get('never'), 'written', 'it stayed in the cache, the next flush wrote it')
})

test('order of one key: later writes win, from one writer and over reconnects', async (t) => {
  const { hub, writers, storage, ids } = await makeSwarm(t)
  const [x] = writers
  for (let i = 0; i < 50; i++) {
    x?.put('k', i)
    const flushed = x?.flush()
    if (i % 10 === 5) {
      for (const id of ids.storage) hub.cut(ids.writers[0] ?? '', id)
      for (const id of ids.storage) hub.heal(ids.writers[0] ?? '', id)
    }
    await flushed
  }
  x?.put('k', 'last')
  await x?.flush({ receipt: true })
  for (const kv of storage) t.equal(await kv.get('k', { fresh: true }), 'last')
})

test('a removed writer: what was acked is applied, nothing after; authorised again it resumes', async (t) => {
  const { storage, writers, config, ids } = await makeSwarm(t)
  const [x, y] = writers
  await x?.set('before', '1', { receipt: true })
  const without = copyOf(config)
  without.removeWriter(ids.writers[0] ?? '')
  for (const kv of [...storage, y]) await kv?.setConfig(without)
  // The writer itself has not heard of it.
  const late = await x?.set('after', '2')
  t.equal(
    await codeOf(x?.receipt(late?.id ?? '', { timeout: 700 }) ?? Promise.resolve()),
    'TIMEOUT'
  )
  t.equal(await y?.get('after', { fresh: true }), null, 'not applied')
  t.equal(await y?.get('before', { fresh: true }), '1')
  await x?.setConfig(without)
  x?.put('more', '3')
  t.equal(await codeOf(x?.flush() ?? Promise.resolve()), 'NOT_WRITER', 'and then it knows')
  t.equal((await x?.status())?.writer, false)
  const again = copyOf(without)
  again.addWriter(ids.writers[0] ?? '')
  for (const kv of [...storage, x, y]) await kv?.setConfig(again)
  await x?.receipt(late?.id ?? '')
  t.equal(await x?.get('after'), '2', 'it resumes where it was')
})

test('configurations: stale, conflicting and other slices are refused', async (t) => {
  const { writers, config, ids } = await makeSwarm(t, { start: false })
  const [x] = writers
  await x?.ready()
  const next = copyOf(config)
  next.addWriter('ab'.repeat(32))
  await x?.setConfig(next)
  t.equal(await codeOf(x?.setConfig(config) ?? Promise.resolve()), 'CONFIG_STALE')
  const other = copyOf(config)
  other.addWriter('cd'.repeat(32))
  t.equal(await codeOf(x?.setConfig(other) ?? Promise.resolve()), 'CONFIG_CONFLICT')
  t.equal(
    await codeOf(x?.setCapacities({ [ids.storage[0] ?? '']: 50 }) ?? Promise.resolve()),
    'CONFIG_SLICES'
  )
  t.deepEqual(await x?.getWriters(), [...ids.writers, 'ab'.repeat(32)].toSorted())
  t.ok(Config.parse(x?.config?.serialize() ?? '').isWriter('ab'.repeat(32)))
})

test('close flushes; calls after it are refused; closing twice is nothing', async (t) => {
  const { writers, open } = await makeSwarm(t)
  const [x] = writers
  x?.put('flushed', 'by close')
  await x?.close()
  await x?.close()
  t.equal(await codeOf(x?.get('k') ?? Promise.resolve()), 'CLOSED')
  t.throws(() => void x?.put('k', 'v'), /closed/)
  const again = open('w0')
  await again.connect()
  await until(async () => (await again.get('flushed', { fresh: true })) === 'by close', {
    what: 'the delivery of what close() flushed'
  })
  t.pass('delivered after reopening')
})
