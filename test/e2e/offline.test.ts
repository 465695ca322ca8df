/**
 * Moments between two steps of a write or a read: a crash between append, delivery, ack, apply and receipt;
 * a reader that loses its owner; calls that wait when their handle closes.
 *
 * time limit: 5 min
 */
import test, { type Test } from 'tape'
import { type FlushResult, type KVEntry, type KVSwarm } from '../../lib/index.ts'
import { stampFields } from '../../lib/wire/stamps.ts'
import { deadline, until } from '../helpers/events.ts'
import type { Running } from '../helpers/process.ts'
import { random } from '../helpers/random.ts'
import { makeSwarm } from '../kvswarm/swarm.ts'
import { Disk } from './disk.ts'
import { crash, holderOf, makeSite, type Site } from './site.ts'
import { codeOf } from '../helpers/errors.ts'

/** Enough that applying takes much longer than receiving: nine blocks. */
const many = 20_000
const valueLength = 100

function valueOf(i: number): string {
  return `value ${i} `.padEnd(valueLength, '.')
}

/** Puts keys that the one storage node a owns. */
function putMany(kv: KVSwarm, count: number): void {
  for (let i = 0; i < count; i++) kv.put(`key-${String(i).padStart(6, '0')}`, valueOf(i))
}

/** Starts a process that holds the directory with the role connect. */
async function hold(site: Site, name: string): Promise<Running> {
  const holder = site.start(name, ['connect'])
  await until(() => holderOf(site.directory(name))?.pid === holder.pid, {
    what: `a process that holds ${name}`
  })
  return holder
}

async function entriesOf(kv: KVSwarm): Promise<KVEntry[]> {
  const entries: KVEntry[] = []
  for await (const entry of kv.list({}, { fresh: true })) entries.push(entry)
  return entries
}

/** One part of a flush; a flush to one owner has no other. */
function onlyPart(result: FlushResult): FlushResult['parts'][number] {
  const [part] = result.parts
  if (part === undefined || result.parts.length !== 1) throw new Error('not one part')
  return part
}

/** No operation was applied twice: each put takes the owner's next versionstamp. */
function appliedOnce(t: Test, entries: readonly KVEntry[], puts: number): void {
  const counters = entries.map(({ versionstamp }) => stampFields(versionstamp).counter)
  const highest = counters.reduce((max, counter) => Math.max(max, counter), 0)
  t.equal(highest, puts, `${puts} puts took as many versionstamps`)
  t.equal(new Set(counters).size, counters.length, 'no two keys have the same one')
}

/** How far a storage node, which is not running, has applied the part of a flush. */
async function appliedOnDisk(
  site: Site,
  storage: string,
  writer: string,
  { generation }: FlushResult['parts'][number],
  index: number
): Promise<{ held: number; applied: number }> {
  return await Disk.look(site.directory(storage), async (disk) => {
    const { held, applied } = await disk.inbox(site.id(writer), generation, index)
    return { held, applied: applied?.length ?? 0 }
  })
}

async function indexOf(site: Site, storage: string): Promise<number> {
  const { stdout } = await site.run(storage, ['status', '--json'])
  return (JSON.parse(stdout) as { index: { generation: number } }).index.generation
}

test('killed between ack and apply: the storage node applies what it has acked, alone', async (t) => {
  const site = await makeSite(t, { capacities: { a: 1 }, writers: ['x'] })
  const [node] = await site.listen('a')
  const index = await indexOf(site, 'a')
  const x = site.open('x', { timeout: 60_000 })
  await x.connect()
  putMany(x, many)
  const result = await x.flush({ ack: true })
  if (node) await crash(node)
  const part = onlyPart(result)
  const { held, applied } = await appliedOnDisk(site, 'a', 'x', part, index)
  t.ok(held >= part.to, `all ${part.to} blocks are held`)
  t.ok(applied < part.to, `${applied} of them are applied`)

  // The writer is gone for good: what it was told is the storage node's alone to keep.
  await x.close()
  await site.listen('a')
  const reader = site.open('reader')
  await reader.connect()
  const last = `key-${String(many - 1).padStart(6, '0')}`
  await until(async () => await reader.has(last, { fresh: true }), { what: 'the last key' })
  const entries = await entriesOf(reader)
  t.equal(entries.length, many, 'every key is there')
  t.ok(
    entries.every(({ value }, i) => value === valueOf(i)),
    'each with its value'
  )
  appliedOnce(t, entries, many)
})

test('killed between apply and receipt: the receipt is found in the index', async (t) => {
  const site = await makeSite(t, { capacities: { a: 1 }, writers: ['x'] })
  const [node] = await site.listen('a')
  const holder = await hold(site, 'x')
  const reader = site.open('reader')
  await reader.connect()
  const last = `key-${String(many - 1).padStart(6, '0')}`
  t.notOk(await reader.has(last), 'the reader is connected')
  const x = site.open('x')
  putMany(x, many)
  const { id, operations } = await x.flush()
  t.equal(operations, many)
  await x.receipt(id, { ack: true })
  // Applying takes longer than the ack; whoever waits for the receipt stands still meanwhile.
  holder.kill('SIGSTOP')
  t.notOk(await reader.has(last, { fresh: true }), 'held, and not applied')
  const before = await until(async () => await reader.getEntry(last, { fresh: true }), {
    what: 'the last key'
  })
  if (node) await crash(node)
  holder.kill('SIGCONT')
  const waiting = x.receipt(id, { timeout: 60_000 })
  await site.listen('a')
  t.equal((await waiting).operations, many, 'the receipt comes after the restart')
  const after = await reader.getEntry(last, { fresh: true })
  t.equal(after?.versionstamp, before.versionstamp, 'nothing was applied again')
  appliedOnce(t, await entriesOf(reader), many)
})

test('a writer restarted between append and delivery', async (t) => {
  const site = await makeSite(t, { capacities: { a: 1 }, writers: ['x'] })
  const first = await hold(site, 'x')
  const x = site.open('x')
  const flushes = [await x.set('k', 1), await x.set('only first', true)]
  await crash(first)
  flushes.push(await x.set('k', 2))
  t.equal(holderOf(site.directory('x'))?.pid, process.pid, 'this process took the directory over')
  await x.close()
  const second = await hold(site, 'x')
  const again = site.open('x')
  flushes.push(await again.set('k', 3))
  await crash(second)
  await again.close()

  const ends = flushes.map(onlyPart)
  t.ok(
    ends.every(({ generation }) => generation === ends[0]?.generation),
    'one outbox, whoever wrote'
  )
  t.ok(
    ends.every(({ from }, i) => i === 0 || from === ends[i - 1]?.to),
    'nothing between the flushes'
  )
  const third = site.open('x')
  await third.connect()
  await site.listen('a')
  for (const { id } of flushes) await third.receipt(id)
  t.pass('each flush has its receipt, whichever process made it')
  t.equal(await third.get('k'), 3, 'in order')
  t.equal(await third.get('only first'), true)
  appliedOnce(t, await entriesOf(third), flushes.length)
})

test('a holder killed under the flushes of its clients: each is appended once', async (t) => {
  const source = random(t)
  const rounds = 6
  const each = 12
  const site = await makeSite(t, { capacities: { a: 1 }, writers: ['x'] })
  let interrupted = 0
  for (let round = 0; round < rounds; round++) {
    const holder = await hold(site, 'x')
    const x = site.open('x')
    await x.ready()
    let resolved = 0
    let atKill = each
    const killAt = source.int(0, each - 1)
    const kill = (): void => {
      if (resolved !== killAt) return
      atKill = resolved
      holder.kill('SIGKILL')
    }
    const flushes = Array.from({ length: each }, async (_, i) => {
      await x.set(`round ${round}/${i}`, source.text(source.int(1, 300)))
      resolved++
      kill()
    })
    kill()
    await Promise.all(flushes)
    await holder.exit
    interrupted += each - atKill
    await x.close()
  }
  t.comment(`${interrupted} of ${rounds * each} flushes were under way at a kill`)
  await site.listen('a')
  const x = site.open('x')
  await x.connect()
  await x.set('end', true, { receipt: true })
  const entries = await entriesOf(x)
  t.equal(entries.length, rounds * each + 1, 'every flush that resolved is applied')
  appliedOnce(t, entries, rounds * each + 1)
})

test('a reader that is cut off from the owner answers from its copy', async (t) => {
  const { hub, config, storage, writers, open } = await makeSwarm(t)
  const [x] = writers
  if (x === undefined) throw new Error('no writer')
  for (let i = 0; i < 3000; i++) x.put(`key ${i}`, `old ${i}`)
  await x.flush({ receipt: true })
  const reader = open('reader', { timeout: 3000 })
  await reader.connect()
  t.equal(await reader.get('key 0'), 'old 0', 'read once')
  const owner = config.ownerOf('key 0')
  const nodeId = storage.find((kv) => kv.nodeId === owner)?.nodeId ?? ''
  for (const silent of [false, true]) {
    const how = silent ? 'nobody noticed' : 'both noticed'
    hub.cut(reader.nodeId, nodeId, { silent })
    await x.set('key 0', `new ${how}`, { receipt: true })
    const value = await reader.get('key 0')
    t.equal(value, silent ? 'new both noticed' : 'old 0', `${how}: the copy, as old as it is`)
    t.equal(await codeOf(reader.get('key 0', { fresh: true, timeout: 200 })), 'OWNER_UNREACHABLE')
    const others = Array.from({ length: 3000 }, (_, i) => `key ${i}`)
      .filter((key) => config.ownerOf(key) === owner)
      .slice(-20)
    const codes = await Promise.all(others.map((key) => codeOf(reader.get(key, { timeout: 500 }))))
    t.ok(codes.includes('OWNER_UNREACHABLE'), 'what it has no copy of is not "no such key"')
    t.ok(
      codes.every((code) => code === 'OWNER_UNREACHABLE' || code === 'no error'),
      codes.join()
    )
    hub.heal(reader.nodeId, nodeId)
    await until(
      async () =>
        (await codeOf(reader.get('key 0', { fresh: true, timeout: 1000 }))) === 'no error',
      { what: 'the owner to be reached again' }
    )
    t.equal(await reader.get('key 0', { fresh: true }), `new ${how}`, 'healed: the newest')
  }
})

test('a flush that waits for a receipt holds up no other; close() lets none be lost', async (t) => {
  const site = await makeSite(t, { capacities: { a: 1 }, writers: ['x'] })
  const x = site.open('x')
  await x.connect()
  const waiting = codeOf(x.set('k', 1, { receipt: true, timeout: Infinity }))
  const next = await deadline(x.set('k', 2), 10_000, 'a flush behind it')
  t.ok(next.parts.length > 0, 'the next flush needs no network')
  const last = Array.from({ length: 20 }, (_, i) => x.set(`last ${i}`, i))
  await x.close()
  t.match(await waiting, /^(?:CLOSED|NOT_CONNECTED)$/, 'the wait ends with close()')
  await Promise.all(last)
  t.pass('flushes that were called before close() are done')

  await site.listen('a')
  const again = site.open('x')
  await again.connect()
  await again.set('end', true, { receipt: true })
  const entries = await entriesOf(again)
  t.equal(entries.length, 22, 'all of them are applied')
  t.equal(await again.get('k'), 2)
  appliedOnce(t, entries, 23)
})

test('close() ends whatever waits, with a coded error', async (t) => {
  const site = await makeSite(t, { capacities: { a: 1 }, writers: ['x'] })
  const x = site.open('x')
  await x.connect()
  const { id } = await x.set('k', 'v')
  const waits: Record<string, Promise<unknown>> = {
    ack: x.receipt(id, { ack: true, timeout: Infinity }),
    receipt: x.receipt(id, { timeout: Infinity }),
    flush: x.set('k', 'w', { receipt: true, timeout: Infinity }),
    get: x.get('k', { timeout: Infinity }),
    'get after a flush': x.get('k', { after: id, timeout: Infinity }),
    list: entriesOf(x)
  }
  const codes = Object.entries(waits).map(async ([name, wait]) => [
    name,
    await codeOf(deadline(wait, 10_000, 'its end'))
  ])
  await x.status() // what was called before has begun
  await x.close()
  for (const [name, code = ''] of await Promise.all(codes)) {
    // A read may learn first that the node is disconnected.
    t.match(code, /^(?:CLOSED|NOT_CONNECTED)$/, name)
  }
})
