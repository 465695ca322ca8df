// A full disk: writes are refused before anything is written, reads go on, and everything goes on when there is room.
import { spawnSync } from 'node:child_process'
import { mkdirSync, statfsSync, truncateSync, writeFileSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import test, { type Test } from 'tape'
import { isKVSwarmError, type KVSwarmError } from '../../lib/index.ts'
import { cleanup } from '../helpers/cleanup.ts'
import { until } from '../helpers/events.ts'
import { needs } from '../helpers/needs.ts'
import { tmpdir } from '../helpers/tmp.ts'
import { makePair } from './pair.ts'
import { errorOf } from '../helpers/errors.ts'

const mib = 1024 * 1024

/** A file system in memory of its own size. */
function disk(t: Test, megabytes: number): string {
  const folder = join(tmpdir(t), 'disk')
  mkdirSync(folder)
  const { status, stderr } = spawnSync(
    'mount',
    ['-t', 'tmpfs', '-o', `size=${megabytes}m,mode=700`, 'tmpfs', folder],
    { encoding: 'utf8' }
  )
  if (status !== 0) throw new Error(stderr)
  cleanup(t, () => void spawnSync('umount', ['-l', folder]))
  return folder
}

/** Fills the disk but for so many bytes. @returns what frees it again */
function fill(folder: string, leave: number): () => void {
  const { bavail, bsize } = statfsSync(folder)
  const path = join(folder, 'ballast')
  let left = bavail * bsize - leave
  const piece = Buffer.alloc(mib)
  writeFileSync(path, '')
  try {
    for (; left > 0; left -= mib) {
      writeFileSync(path, left >= mib ? piece : piece.subarray(0, left), { flag: 'a' })
    }
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOSPC') throw error
  }
  return () => {
    truncateSync(path, 0)
    rmSync(path)
  }
}

test(
  'a writer whose disk is full: refused, nothing written, and it goes on by itself',
  needs('root'),
  async (t) => {
    const folder = disk(t, 200)
    const { open } = await makePair(t, { s: join(tmpdir(t), 's'), x: join(folder, 'x') })
    await open('s').listen()
    const kv = open('x', { diskReserveBytes: 32 * mib })
    await kv.connect()
    await kv.set('a', 1, { receipt: true })
    const free = fill(folder, 24 * mib)
    const before = await kv.status()
    for (let i = 0; i < 5; i++) {
      const error = await errorOf(kv.set(`refused ${i}`, 1))
      t.equal(error.code, 'DISK_FULL', error.message)
      t.equal(error.data['refused'], true)
      t.ok(error.hint.length > 0)
    }
    const during = await kv.status()
    t.equal(during.outboxes[0]?.length, before.outboxes[0]?.length, 'nothing was written')
    t.ok(
      during.warnings.some((warning) => warning.includes('full')),
      'the status says so'
    )
    t.equal(await kv.get('a', { fresh: true }), 1, 'reads go on')
    free()
    await until(async () => await kv.flush({ receipt: true }).then(() => true), {
      what: 'writing again without a restart'
    })
    t.equal(await kv.get('refused 4', { fresh: true }), 1, 'what was refused was kept in the cache')
    t.ok((await kv.status()).warnings.at(-1)?.includes('room'), 'the status says that it is over')
  }
)

test(
  'a storage node whose disk is full takes nothing in, serves, and goes on by itself',
  needs('root'),
  async (t) => {
    const folder = disk(t, 250)
    const { open } = await makePair(t, { s: join(folder, 's'), x: join(tmpdir(t), 'x') })
    const s = open('s', { diskReserveBytes: 32 * mib })
    await s.listen()
    const x = open('x')
    await x.connect()
    await x.set('a', 1, { receipt: true })
    const free = fill(folder, 24 * mib)
    await until(async () => (await s.status()).inboxes[0]?.stopped !== null, {
      what: 'a full disk'
    })
    const bulk: string[] = []
    for (let i = 0; i < 60; i++) bulk.push((await x.set(`bulk ${i}`, 'x'.repeat(mib / 2))).id)
    const error = await errorOf(x.receipt(bulk.at(-1) as string, { timeout: 2000 }))
    t.equal(error.code, 'TIMEOUT', 'the writer waits')
    t.equal(error.durable, true)
    const [inbox] = (await s.status()).inboxes
    t.ok(inbox?.stopped?.includes('full'), `the status says why: ${inbox?.stopped}`)
    const pending = (await x.status()).outboxes[0]?.pendingBytes ?? 0
    t.ok(pending > 20 * mib, 'it is pending at the writer')
    t.equal(await x.get('a', { fresh: true }), 1, 'reads go on')
    const { bavail, bsize } = statfsSync(folder)
    t.ok(
      bavail * bsize > 8 * mib,
      `the reserve: ${Math.round((bavail * bsize) / mib)} MiB are free`
    )
    free()
    await x.receipt(bulk.at(-1) as string, { timeout: 60_000 })
    const last = await x.get('bulk 59', { fresh: true })
    t.ok(last === 'x'.repeat(mib / 2), 'all arrived, without a restart')
  }
)

test(
  'a reader whose disk is nearly full reads what is here, and is told of the rest',
  needs('root'),
  async (t) => {
    const folder = disk(t, 200)
    const { open, config } = await makePair(t, { s: join(tmpdir(t), 's'), x: join(tmpdir(t), 'x') })
    await open('s').listen()
    const x = open('x')
    await x.connect()
    for (let i = 0; i < 200; i++) x.put(`key ${i}`, 'x'.repeat(1000))
    await x.flush({ receipt: true })
    const reader = open('x', { storage: join(folder, 'r'), config, diskReserveBytes: 64 * mib })
    await reader.connect()
    t.ok(await reader.get('key 7'), 'before')
    fill(folder, 16 * mib)
    await until(async () => (await reader.status()).warnings.length > 0, { what: 'a full disk' })
    t.ok(await reader.get('key 7'), 'what is here is read')
    const outcomes = new Set<string>()
    for (let i = 0; i < 200; i++) {
      outcomes.add(
        await reader.get(`key ${i}`).then(
          () => 'read',
          (error: KVSwarmError) => error.code
        )
      )
    }
    t.deepEqual([...outcomes].toSorted(), ['DISK_FULL', 'read'], 'never null')
  }
)

test('somebody else fills the disk to its last byte: no lie, no hang', needs('root'), async (t) => {
  const folder = disk(t, 160)
  const { open } = await makePair(t, { s: join(tmpdir(t), 's'), x: join(folder, 'x') })
  const first = open('x', { diskReserveBytes: 0 })
  const flushed = [(await first.set('a', 1)).id]
  const free = fill(folder, 0)
  let error: unknown = null
  for (let i = 0; i < 400 && error === null; i++) {
    try {
      const value = 'x'.repeat(mib / 4)
      flushed.push((await first.set(`more ${i}`, value, { timeout: 20_000 })).id)
    } catch (reason) {
      error = reason
    }
  }
  t.comment(`${flushed.length} flushes, then: ${String(error)}`)
  t.ok(isKVSwarmError(error, 'DISK_FULL', 'IO_ERROR'), String(error))
  const second = await errorOf(first.set('again', 1, { timeout: 20_000 }))
  t.ok(
    isKVSwarmError(second, 'DISK_FULL', 'IO_ERROR', 'CLOSED'),
    `it has stopped: ${String(second)}`
  )
  await first.close().catch((reason: unknown) => t.comment(`closing: ${String(reason)}`))
  free()
  const kv = open('x', { diskReserveBytes: 0 })
  for (const id of flushed) {
    const waited = await errorOf(kv.receipt(id, { timeout: 0 }))
    if (waited.code !== 'TIMEOUT') t.fail(`${id}: ${waited.code} ${waited.message}`)
  }
  await kv.set('after', 1)
  t.pass('everything that was flushed is there, and it goes on after a restart')
})
