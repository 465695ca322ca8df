/** Several real processes on one data directory: holder, clients, crashes, take-over, roles, stop. */
import { mkdirSync, statSync } from 'node:fs'
import { join } from 'node:path'
import test from 'tape'
import { rolesIn, waitsIn, writesIn } from './fake-engine.ts'
import { type Sharer, startSharer } from './processes.ts'
import { readSidecar, stopHolder } from '../../lib/coordination/index.ts'
import { DirectoryLock } from '../../lib/coordination/lock.ts'
import { needs } from '../helpers/needs.ts'
import { until } from '../helpers/events.ts'
import { random } from '../helpers/random.ts'
import { tmpdir } from '../helpers/tmp.ts'

/** Asserts that the promise rejects with the code. */
async function rejects(t: test.Test, promise: Promise<unknown>, code: string): Promise<string> {
  try {
    const value = await promise
    t.fail(`expected ${code}, got ${JSON.stringify(value)}`)
  } catch (error) {
    t.equal((error as { code?: string }).code, code, (error as Error).message)
    return (error as Error).message
  }
  return ''
}

test('eight processes at once: all are served, each write is there once, also after kill -9', async (t) => {
  const directory = tmpdir(t)
  const rng = random(t)
  const sharers = await Promise.all(
    Array.from({ length: 8 }, () => startSharer(t, directory, { lockTimeoutMs: 30_000 }))
  )
  await Promise.all(sharers.map((sharer) => sharer.call('open')))
  t.equal(sharers.filter(({ seats }) => seats.at(-1) === 'holder').length, 1, 'one holder')

  const told: string[] = []
  const writing = new Map<Sharer, boolean>(sharers.map((sharer) => [sharer, true]))
  const writeAll = async (sharer: Sharer, name: number): Promise<void> => {
    for (let i = 0; i < 60 && !sharer.ended; i++) {
      const key = `k:${name}:${i}`
      try {
        await sharer.put(key, 'v')
        told.push(key)
      } catch (error) {
        if (!sharer.ended) throw error
      }
    }
    writing.set(sharer, false)
  }
  const all = Promise.all(sharers.map(writeAll))
  let kills = 0
  for (; kills < 3; kills++) {
    const aim = rng.int(40, 60) * (kills + 1)
    await until(() => told.length >= aim || ![...writing.values()].includes(true))
    const { pid } = (await readSidecar(directory)) ?? { pid: 0 }
    const holder = sharers.find((sharer) => sharer.pid === pid && !sharer.ended)
    if (holder) await holder.kill()
  }
  await all
  const written = writesIn(directory)
  t.deepEqual(
    told.filter((key) => written.filter((other) => other === key).length !== 1),
    [],
    `${told.length} writes were told to be done; each is there exactly once`
  )
  t.equal(new Set(written).size, written.length, 'nothing was appended twice')
  const living = sharers.filter(({ ended }) => !ended)
  t.ok(living.length <= 7, `${8 - living.length} holders were killed`)
  for (const sharer of living) t.equal(await sharer.call('get', { key: told[0] as string }), 'v')
  await Promise.all(living.map((sharer) => sharer.call('close')))
  const lock = await DirectoryLock.tryAcquire(directory)
  t.ok(lock, 'the lock is free in the end')
  await lock?.release()
})

test('a write whose holder dies between append and answer is there once', async (t) => {
  const directory = tmpdir(t)
  const [a, b] = await Promise.all([startSharer(t, directory), startSharer(t, directory)])
  await a.call('open')
  await b.call('open')
  t.deepEqual(b.seats, ['client'])
  const result = (await b.put('crash:1', 'v')) as { operations: number }
  t.equal(result.operations, 1)
  t.ok(a.ended, 'the holder died')
  t.deepEqual(b.seats, ['client', 'holder'], 'the client has taken over')
  t.deepEqual(writesIn(directory), ['crash:1'])
  await b.call('close')
})

test('roles: held by the holder for its clients, as long as they live', async (t) => {
  const directory = tmpdir(t)
  const [a, b, c] = await Promise.all([1, 2, 3].map(() => startSharer(t, directory)))
  if (!a || !b || !c) throw new Error('three processes')
  for (const sharer of [a, b, c]) await sharer.call('open')
  await b.call('start', { key: 'connect' })
  await c.call('start', { key: 'connect' })
  await c.call('start', { key: 'listen' })
  t.deepEqual(rolesIn(directory), [`${a.pid} starts connect`, `${a.pid} starts listen`])
  await until(async () => (await readSidecar(directory))?.roles.length === 2, { what: 'sidecar' })
  t.deepEqual((await readSidecar(directory))?.roles, ['connect', 'listen'])

  await b.call('end', { key: 'connect' })
  await c.kill()
  await until(() => rolesIn(directory).length === 4, { what: 'the roles to end with the client' })
  t.deepEqual(rolesIn(directory).slice(2).toSorted(), [
    `${a.pid} ends connect`,
    `${a.pid} ends listen`
  ])

  await b.call('start', { key: 'listen' })
  await a.kill()
  await until(() => rolesIn(directory).at(-1) === `${b.pid} starts listen`, {
    what: 'the client to take the directory over for its role, unasked'
  })
  t.deepEqual(b.seats, ['client', 'holder'])
  await b.call('close')
  t.equal(rolesIn(directory).at(-1), `${b.pid} ends listen`)
})

test('a holder that closes hands over: waiting calls go on, roles move', async (t) => {
  const directory = tmpdir(t)
  const [a, b, c] = await Promise.all([1, 2, 3].map(() => startSharer(t, directory)))
  if (!a || !b || !c) throw new Error('three processes')
  for (const sharer of [a, b, c]) await sharer.call('open')
  await b.call('start', { key: 'connect' })
  const waiting = c.call('get', { key: 'hang:1', timeout: 3_000 })
  await until(() => waitsIn(directory).length === 1, { what: 'the call to wait' })
  await a.call('close')
  await until(() => waitsIn(directory).filter((line) => line.endsWith('begins')).length === 2, {
    what: 'the call to wait at the next holder'
  })
  await rejects(t, waiting, 'TIMEOUT')
  const next = (await readSidecar(directory))?.pid as number
  t.ok([b.pid, c.pid].includes(next), 'one of the clients holds it')
  await until(() => rolesIn(directory).at(-1) === `${next} starts connect`, { what: 'the role' })
  t.equal(await c.call('get', { key: 'none' }), null)
  await Promise.all([b.call('close'), c.call('close')])
})

test('a stopped holder: DATADIR_IN_USE within the time, naming it; calls end with TIMEOUT', async (t) => {
  const directory = tmpdir(t)
  const a = await startSharer(t, directory)
  const b = await startSharer(t, directory, { lockTimeoutMs: 1_000 })
  const c = await startSharer(t, directory, { lockTimeoutMs: 500 })
  await a.call('open')
  await a.call('start', { key: 'connect' })
  await b.call('open')
  process.kill(a.pid, 'SIGSTOP')
  const started = performance.now()
  const message = await rejects(t, c.call('open'), 'DATADIR_IN_USE')
  t.ok(performance.now() - started < 20_000, 'in time')
  t.ok(message.includes(`process ${a.pid} (role connect, since 20`), message)
  await rejects(t, b.call('get', { key: 'x', timeout: 100 }), 'TIMEOUT')
  process.kill(a.pid, 'SIGCONT')
  t.equal(await b.call('get', { key: 'x' }), null, 'served again when it goes on')
  await a.call('close')
  await b.call('close')
})

test('single: nobody is served, a held directory is refused at once', async (t) => {
  const directory = tmpdir(t)
  const a = await startSharer(t, directory, { mode: 'single' })
  const b = await startSharer(t, directory, { mode: 'single' })
  const c = await startSharer(t, directory, { mode: 'auto', lockTimeoutMs: 200 })
  await a.call('open')
  const started = performance.now()
  await rejects(t, b.call('open'), 'DATADIR_IN_USE')
  t.ok(performance.now() - started < 20_000, 'at once')
  const message = await rejects(t, c.call('open'), 'DATADIR_IN_USE')
  t.ok(message.includes('serves no other processes'), message)
  await a.call('close')
  t.equal(await c.call('open'), 'ab'.repeat(32), 'free again')
  await c.call('close')
})

test('stop: the holder and its clients with roles end, and the lock is free', async (t) => {
  const directory = tmpdir(t)
  const [a, b] = await Promise.all([startSharer(t, directory), startSharer(t, directory)])
  await a.call('open')
  await b.call('open')
  await b.call('start', { key: 'connect' })
  const asked = await stopHolder(directory, { timeout: 20_000 })
  t.equal(asked[0], a.pid)
  await until(() => a.ended && b.ended, { what: 'both processes to end' })
  t.ok(a.stopped && b.stopped, 'both were asked')
  t.deepEqual(await stopHolder(directory, { timeout: 0 }), [], 'nobody is left')
  const c = await startSharer(t, directory, { mode: 'single' })
  await c.call('open')
  await rejects(t, stopHolder(directory, { timeout: 20_000 }), 'DATADIR_IN_USE')
  await c.call('close')
  await rejects(t, stopHolder(join(directory, 'none')), 'DATADIR_UNREADABLE')
})

test('a long path: the socket lies in a private folder of the user, also after a crash', async (t) => {
  const base = tmpdir(t)
  const runtime = tmpdir(t)
  const directory = join(base, 'x'.repeat(120))
  const env = { XDG_RUNTIME_DIR: runtime }
  const a = await startSharer(t, directory, { env })
  const b = await startSharer(t, directory, { env: { XDG_RUNTIME_DIR: '', TMPDIR: runtime } })
  await a.call('open')
  await b.call('open')
  t.deepEqual(
    b.seats,
    ['client'],
    'the sidecar tells the path to a process with another environment'
  )
  const socket = (await readSidecar(directory))?.socket as string
  t.ok(socket.startsWith(runtime) && socket.length <= 100, socket)
  t.equal(statSync(join(socket, '..')).mode & 0o777, 0o700)
  t.equal(statSync(socket).mode & 0o777, 0o600)
  await a.kill()
  t.equal(await b.call('get', { key: 'x' }), null)
  t.deepEqual(b.seats, ['client', 'holder'])
  await b.call('close')
})

test('another user cannot connect', needs('root'), async (t) => {
  const directory = tmpdir(t)
  const a = await startSharer(t, directory)
  await a.call('open')
  const { spawnSync } = await import('node:child_process')
  const script = `const s = require('net').connect(process.argv[1])
    s.on('connect', () => { console.log('CONNECTED'); s.destroy() })
    s.on('error', (e) => console.log(e.code))`
  const socket = (await readSidecar(directory))?.socket as string
  t.equal(statSync(socket).mode & 0o777, 0o600)
  const options = { uid: 65534, gid: 65534, encoding: 'utf8' } as const
  t.equal(spawnSync(process.execPath, ['-e', script, socket], options).stdout.trim(), 'EACCES')
  await a.call('close')
})

test('a folder of somebody else is no place for the socket', needs('root'), async (t) => {
  const base = tmpdir(t)
  const runtime = tmpdir(t)
  const directory = join(base, 'y'.repeat(120))
  const { chownSync } = await import('node:fs')
  mkdirSync(join(runtime, 'kvswarm-0'), { mode: 0o700 })
  chownSync(join(runtime, 'kvswarm-0'), 65534, 65534)
  const a = await startSharer(t, directory, { env: { XDG_RUNTIME_DIR: runtime, TMPDIR: base } })
  await a.call('open')
  const socket = (await readSidecar(directory))?.socket as string
  t.ok(socket.startsWith(base), `another one was taken: ${socket}`)
  await a.call('close')
})
