// A disk that fails: read-only, a sync that fails, no file handles. Never a lie: the node stops and says so, or goes on.
import { spawnSync } from 'node:child_process'
import { mkdirSync, truncateSync, writeFileSync } from 'node:fs'
import { open as openFile, type FileHandle } from 'node:fs/promises'
import { basename, join } from 'node:path'
import test, { type Test } from 'tape'
import { type KVSwarm, type KVSwarmError } from '../../lib/index.ts'
import { cleanup } from '../helpers/cleanup.ts'
import { until } from '../helpers/events.ts'
import { needs } from '../helpers/needs.ts'
import { runProgram } from '../helpers/process.ts'
import { tmpdir } from '../helpers/tmp.ts'
import { makePair } from './pair.ts'
import { errorOf } from '../helpers/errors.ts'

function mount(...args: string[]): void {
  const { status, stderr } = spawnSync('mount', args, { encoding: 'utf8' })
  if (status !== 0) throw new Error(stderr)
}

/** A file system of its own, which becomes read-only at an error, and one that can be made. */
function disk(t: Test): { folder: string; fail(): void; heal(): void } {
  const place = tmpdir(t)
  const [folder, image] = [join(place, 'disk'), join(place, 'image')]
  mkdirSync(folder)
  writeFileSync(image, '')
  truncateSync(image, 300 * 1024 * 1024)
  if (spawnSync('mkfs.ext4', ['-q', '-F', image]).status !== 0) throw new Error('mkfs.ext4 failed')
  mount('-o', 'loop,errors=remount-ro', image, folder)
  cleanup(t, () => void spawnSync('umount', ['-l', folder]))
  const fail = (): void => {
    const { stdout } = spawnSync('findmnt', ['-no', 'SOURCE', folder], { encoding: 'utf8' })
    writeFileSync(`/sys/fs/ext4/${basename(stdout.trim())}/trigger_fs_error`, 'made by a test')
  }
  const heal = (): void => {
    spawnSync('umount', ['-l', folder])
    spawnSync('e2fsck', ['-fy', image])
    mount('-o', 'loop', image, folder)
  }
  return { folder, fail, heal }
}

/** Errors that the node could tell nobody else. */
function errorsOf(kv: KVSwarm): KVSwarmError[] {
  const errors: KVSwarmError[] = []
  kv.on('error', (error) => errors.push(error))
  return errors
}

/** Makes every sync of a file fail, in this process, until it is undone. */
async function failSyncs(t: Test): Promise<() => void> {
  const handle = await openFile(process.execPath, 'r')
  const prototype = Object.getPrototypeOf(handle) as FileHandle
  await handle.close()
  const { datasync } = prototype
  const undo = (): void => {
    prototype.datasync = datasync
  }
  prototype.datasync = () => {
    const error = new Error('EIO: i/o error, fdatasync') as NodeJS.ErrnoException
    error.code = 'EIO'
    return Promise.reject(error)
  }
  cleanup(t, undo)
  return undo
}

test('a writer whose sync fails stops, and never acknowledges that or anything after it', async (t) => {
  const { open } = await makePair(t, { s: join(tmpdir(t), 's'), x: join(tmpdir(t), 'x') })
  const first = open('x')
  const errors = errorsOf(first)
  const good = await first.set('a', 1)
  const undo = await failSyncs(t)
  const error = await errorOf(first.set('b', 1))
  t.equal(error.code, 'IO_ERROR', error.message)
  t.equal(error.data['uncertain'], true, 'it may be on disk, and says so')
  undo()
  // The disk is well again; but what the kernel dropped cannot be synced any more.
  for (let i = 0; i < 3; i++) {
    const later = await errorOf(first.set(`c${i}`, 1))
    t.equal(later.code, 'IO_ERROR', 'nothing after it is acknowledged')
  }
  t.equal(errors.length, 1, 'the node says so, once')
  await first.close().catch(() => {})
  const again = open('x')
  await open('s').listen()
  await again.connect()
  await again.set('d', 1, { receipt: true })
  await again.receipt(good.id)
  t.equal(await again.get('a', { fresh: true }), 1, 'restarted, it goes on')
})

test('a storage node whose sync fails stops: no ack, no receipt', async (t) => {
  const { open } = await makePair(t, { s: join(tmpdir(t), 's'), x: join(tmpdir(t), 'x') })
  const s = open('s')
  const errors = errorsOf(s)
  await s.listen()
  const x = open('x')
  await x.set('a', 1)
  const { id } = await x.set('b', 1)
  const undo = await failSyncs(t)
  await x.connect()
  await until(() => errors.length > 0, { what: 'the storage node to stop' })
  t.equal(errors[0]?.code, 'IO_ERROR', errors[0]?.message)
  undo()
  const waited = await errorOf(x.receipt(id, { timeout: 2000 }))
  t.equal(waited.code, 'TIMEOUT', 'no receipt')
  t.equal((await x.status()).outboxes[0]?.acked, null, 'no ack')
  await s.close().catch(() => {})
  await open('s').listen()
  await x.receipt(id)
  t.equal(await x.get('b', { fresh: true }), 1, 'restarted, it takes everything in')
})

test(
  'a disk that becomes read-only: the node stops and says so; a read-only disk can be read',
  needs('loop mount'),
  async (t) => {
    const { folder, fail, heal } = disk(t)
    const { open } = await makePair(t, { s: join(folder, 's'), x: join(tmpdir(t), 'x') })
    const s = open('s')
    const errors = errorsOf(s)
    await s.listen()
    const x = open('x')
    await x.connect()
    await x.set('a', 1, { receipt: true })
    fail()
    const { id } = await x.set('b', 'x'.repeat(100_000))
    const waited = await errorOf(x.receipt(id, { timeout: 3000 }))
    t.equal(waited.code, 'TIMEOUT', 'no receipt from a disk that takes nothing')
    await until(() => errors.length > 0, { what: 'the node to stop' })
    t.equal(errors[0]?.code, 'IO_ERROR', errors[0]?.message)
    t.ok(errors[0]?.hint.includes('writable'), errors[0]?.hint)
    await s.close().catch((error: unknown) => t.comment(`closing: ${String(error)}`))
    const refused = await errorOf(open('s').listen())
    t.equal(refused.code, 'DATADIR_UNREADABLE', refused.message)
    t.ok(refused.hint.length > 0, refused.hint)
    const reading = open('s', { readOnly: true })
    t.equal(await reading.get('a'), 1, 'it is read with readOnly')
    await reading.close()
    heal()
    await open('s').listen()
    await x.receipt(id)
    t.equal(await x.get('b', { fresh: true }), 'x'.repeat(100_000), 'writable again, it goes on')
  }
)

test('no file handles left: coded errors, nothing lost, and it goes on when there are some', async (t) => {
  const child = join(import.meta.dirname, 'handles-child.ts')
  const command = 'ulimit -n 200 && exec "$0" --import tsx "$1" "$2"'
  const args = ['-c', command, process.execPath, child, tmpdir(t)]
  const { code, stdout, stderr } = await runProgram(['/bin/sh', ...args], { timeoutMs: 120_000 })
  t.equal(code, 0, stderr)
  t.comment(stdout)
  const { opening, writing, missing, after, again } = JSON.parse(stdout) as Record<
    'opening' | 'writing' | 'after' | 'again',
    { code: string; hint: string }
  > & { missing: string[] }
  t.equal(opening.code, 'IO_ERROR')
  t.ok(opening.hint.includes('ulimit'), opening.hint)
  t.ok(['done', 'IO_ERROR'].includes(writing.code), `writing: ${writing.code}`)
  if (writing.code !== 'done') t.ok(writing.hint.includes('ulimit'), writing.hint)
  t.equal(after.code, writing.code, 'it goes on, or it has stopped')
  t.deepEqual(missing, [], 'everything that was flushed is there')
  t.equal(again.code, 'done', 'restarted, it goes on')
})
