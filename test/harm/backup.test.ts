// Backup and restore: of held and of free directories; restored over a swarm that went on meanwhile; damaged backups.
import { readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { cp } from 'node:fs/promises'
import { join } from 'node:path'
import test, { type Test } from 'tape'
import { backup, type KVSwarm, restore } from '../../lib/index.ts'
import { until } from '../helpers/events.ts'
import { tmpdir } from '../helpers/tmp.ts'
import { makeSwarm } from '../kvswarm/swarm.ts'
import { filesOf } from './templates.ts'
import { codeOf } from '../helpers/errors.ts'

/** All entries, with the number of operations that the versionstamps count. */
async function listed(kv: KVSwarm): Promise<Record<string, unknown>> {
  const found: Record<string, unknown> = {}
  for await (const { key, value } of kv.list({}, { fresh: true })) found[String(key)] = value
  return found
}

/** The counter of a key's versionstamp: operations that its owner has applied, from where its index began to count. */
async function counterOf(kv: KVSwarm, key: string): Promise<number> {
  const entry = await kv.getEntry(key, { fresh: true })
  return Number.parseInt(entry?.versionstamp.slice(10) ?? '', 16)
}

function modes(t: Test, folder: string): void {
  t.equal(statSync(folder).mode & 0o777, 0o700, 'folder 0700')
  for (const file of filesOf(folder)) {
    if ((statSync(join(folder, file)).mode & 0o077) !== 0) t.fail(`${file} can be read by others`)
  }
}

test('a backup of a held directory is restored as the same node, under new generations', async (t) => {
  const swarm = await makeSwarm(t, { storage: 1, writers: 1, capacities: [1] })
  const [s] = swarm.storage as [KVSwarm]
  const [x] = swarm.writers as [KVSwarm]
  for (let i = 0; i < 200; i++) x.put(`key ${i}`, i === 7 ? 'x'.repeat(100_000) : i)
  await x.flush({ receipt: true })
  const folder = tmpdir(t)
  const copies = { s: join(folder, 'backup-s'), x: join(folder, 'backup-x') }
  const made = await backup(swarm.path('s0'), copies.s)
  t.equal(made.node, s.nodeId)
  await backup(swarm.path('w0'), copies.x)
  modes(t, copies.s)
  modes(t, copies.x)
  t.equal(await codeOf(backup(swarm.path('s0'), copies.s)), 'INVALID_ARGUMENT', 'not overwritten')
  const before = { s: (await s.status()).index, x: (await x.status()).outboxes[0] }
  await s.close()
  await x.close()

  const names = { s: join(folder, 's'), x: join(folder, 'x') }
  await restore(copies.s, names.s)
  await restore(copies.x, names.x)
  t.equal(statSync(names.s).mode & 0o777, 0o700, 'folder 0700')
  t.equal(await codeOf(restore(copies.s, names.s)), 'INVALID_ARGUMENT', 'not overwritten')
  const s2 = swarm.open('s0', { storage: names.s })
  const x2 = swarm.open('w0', { storage: names.x })
  await s2.listen()
  await x2.connect()
  t.equal(s2.nodeId, made.node, 'the same node')
  await x2.set('more', 1, { receipt: true })
  const found = await listed(x2)
  t.equal(Object.keys(found).length, 201, 'everything is there')
  t.equal(found['key 7'], 'x'.repeat(100_000))
  const after = { s: (await s2.status()).index, x: (await x2.status()).outboxes[0] }
  t.ok((after.s?.generation ?? 0) > (before.s?.generation ?? 0), 'a new index generation')
  t.ok((after.s?.serial ?? 0) > (before.s?.serial ?? 0), 'a later serial')
  t.ok((after.x?.generation ?? 0) > (before.x?.generation ?? 0), 'a new outbox generation')
})

test('a writer is restored from before what its storage node holds: nothing is lost or doubled', async (t) => {
  const swarm = await makeSwarm(t, { storage: 1, writers: 1, capacities: [1] })
  const [s] = swarm.storage as [KVSwarm]
  const [x] = swarm.writers as [KVSwarm]
  await x.set('a', 'before', { receipt: true })
  const folder = tmpdir(t)
  await backup(swarm.path('w0'), join(folder, 'backup'))
  // Behind the backup.
  await x.set('b', 'after', { receipt: true })
  await x.set('a', 'after', { receipt: true })
  await x.close()
  await restore(join(folder, 'backup'), join(folder, 'x'))
  const x2 = swarm.open('w0', { storage: join(folder, 'x') })
  await x2.connect()
  await x2.set('c', 'restored', { receipt: true })
  t.deepEqual(await listed(x2), { a: 'after', b: 'after', c: 'restored' })
  t.equal(await counterOf(x2, 'c'), 4, 'four operations, each applied once')
  const [inbox] = (await s.status()).inboxes
  t.equal(inbox?.stopped, null, 'no fork')
  t.equal(inbox?.rejected, 0)
})

test('a storage node is restored from before what it receipted: its writers deliver it again', async (t) => {
  const swarm = await makeSwarm(t, { storage: 1, writers: 3, capacities: [1] })
  const [s] = swarm.storage as [KVSwarm]
  const [x, y, z] = swarm.writers as [KVSwarm, KVSwarm, KVSwarm]
  await x.set('a', 1, { receipt: true })
  await y.set('b', 1, { receipt: true })
  const folder = tmpdir(t)
  await backup(swarm.path('s0'), join(folder, 'backup'))
  const late: string[] = []
  for (let i = 2; i < 6; i++) {
    late.push((await x.set('a', i, { receipt: true })).id)
    late.push((await y.set(`b${i}`, i, { receipt: true })).id)
  }
  const reader = swarm.open('reader')
  await reader.connect()
  t.equal(await reader.get('a', { fresh: true }), 5)
  const stamp = (await reader.getEntry('a'))?.versionstamp ?? ''
  // The disk is lost.
  await x.disconnect()
  await y.disconnect()
  await s.close()
  rmSync(swarm.path('s0'), { recursive: true })
  await restore(join(folder, 'backup'), swarm.path('s0'))
  const s2 = swarm.open('s0')
  await s2.listen()
  await z.set('first', 1, { receipt: true })
  await x.connect()
  await y.connect()
  await x.set('new', 1, { receipt: true })
  for (const id of late) await (late.indexOf(id) % 2 === 0 ? x : y).receipt(id)
  const expected = { a: 5, b: 1, b2: 2, b3: 3, b4: 4, b5: 5, first: 1, new: 1 }
  await until(async () => Object.keys(await listed(reader)).length === 8, {
    what: 'a reader of the lost generation to follow to the restored one'
  })
  t.deepEqual(await listed(reader), expected, 'what the writers still hold is applied again')
  t.ok(((await reader.getEntry('a'))?.versionstamp ?? '') > stamp, 'versionstamps still rise')
  t.ok(((await s2.status()).index?.serial ?? 0) > 1, 'under a later serial')
  let operations = 0
  for (const key of Object.keys(expected)) {
    operations = Math.max(operations, await counterOf(x, key))
  }
  operations -= await counterOf(x, 'first')
  t.equal(operations, 9, 'nine operations behind the backup, each once')
})

test('the original and a restored copy at once: only that node is harmed', async (t) => {
  const swarm = await makeSwarm(t, { storage: 1, writers: 2, capacities: [1] })
  const [s] = swarm.storage as [KVSwarm]
  const [x, y] = swarm.writers as [KVSwarm, KVSwarm]
  await x.set('a', 1, { receipt: true })
  const folder = tmpdir(t)
  await backup(swarm.path('w0'), join(folder, 'backup'))
  await restore(join(folder, 'backup'), join(folder, 'copy'))
  // Both write, offline; the storage node meets one after the other.
  await x.disconnect()
  const copy = swarm.open('w0', { storage: join(folder, 'copy') })
  for (let i = 0; i < 5; i++) await x.set(`original ${i}`, i)
  for (let i = 0; i < 5; i++) await copy.set(`copy ${i}`, i)
  await copy.connect()
  await until(async () => (await y.get('copy 4', { fresh: true })) === 4, { what: 'the copy' })
  await copy.disconnect()
  await x.connect()
  for (let i = 0; i < 20; i++) await y.set(`other ${i}`, i, { receipt: true, timeout: 10_000 })
  const found = await listed(y)
  t.equal(found['other 19'], 19, "the others' operations go on")
  t.equal(found['a'], 1)
  t.ok((await s.status()).peers.length > 0, 'the storage node runs')
  // The storage node went on with the copy's generation, so nothing of the original's is applied any more.
  const told = await codeOf(x.set('late', 1, { receipt: true, timeout: 5000 }))
  t.equal(told, 'FLUSH_LOST', 'the original gets no receipt for what is not applied')
  t.equal(await y.get('late', { fresh: true }), null)
})

test('damaged and unfinished backups are refused; a copied directory is restored', async (t) => {
  const swarm = await makeSwarm(t, { storage: 1, writers: 1, capacities: [1] })
  const [x] = swarm.writers as [KVSwarm]
  await x.set('a', 1, { receipt: true })
  const folder = tmpdir(t)
  const good = join(folder, 'backup')
  await backup(swarm.path('s0'), good)
  for (const file of filesOf(good)) {
    const bytes = readFileSync(join(good, file))
    if (bytes.length === 0) continue
    const harmed = Buffer.from(bytes)
    const at = Math.floor(bytes.length / 2)
    harmed[at] = (harmed[at] ?? 0) ^ 1
    writeFileSync(join(good, file), harmed)
    const target = join(folder, 'never')
    t.equal(await codeOf(restore(good, target)), 'BACKUP_DAMAGED', file)
    writeFileSync(join(good, file), bytes)
  }
  t.deepEqual(readdirSync(folder), ['backup'], 'nothing is left of what failed')
  t.equal(await codeOf(restore(folder, join(folder, 'never'))), 'INVALID_ARGUMENT', 'no backup')
  t.equal(
    await codeOf(restore(swarm.path('s0'), join(folder, 'never'))),
    'DATADIR_IN_USE',
    'a held one'
  )

  await swarm.storage[0]?.close()
  const moved = join(folder, 'moved')
  await cp(swarm.path('s0'), moved, { recursive: true })
  const other = swarm.open('s0', { storage: moved })
  t.equal(await codeOf(other.ready()), 'DATADIR_MOVED')
  await other.close()
  await restore(moved, join(folder, 'restored'))
  const again = swarm.open('s0', { storage: join(folder, 'restored') })
  await again.listen()
  t.equal(await again.get('a'), 1)
})
