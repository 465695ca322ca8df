/** Opening a shared data directory: failures, places of the socket, the sidecar, configurations, roles. */
import { existsSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import test from 'tape'
import { FakeEngine, fakeId } from './fake-engine.ts'
import { all, codeOf, open } from './handles.ts'
import { matchConfig } from '../../lib/coordination/config-match.ts'
import { readSidecar } from '../../lib/coordination/index.ts'
import { networkTypeOf } from '../../lib/coordination/network-fs.ts'
import { RoleTable } from '../../lib/coordination/roles.ts'
import { KVSwarmError } from '../../lib/errors.ts'
import { cleanup } from '../helpers/cleanup.ts'
import { tmpdir } from '../helpers/tmp.ts'

test('closing while the directory is waited for', async (t) => {
  const directory = tmpdir(t)
  const a = await open(t, directory, { mode: 'single' })
  const b = await open(t, tmpdir(t))
  const waiting = open(t, directory, { lockTimeoutMs: 100 })
  t.equal(await codeOf(waiting), 'DATADIR_IN_USE')
  await a.close()
  await b.close()
  t.equal(await codeOf(b.config()), 'CLOSED')
  t.equal(await codeOf(b.start('connect')), 'CLOSED')
  t.equal(await codeOf(all(b.list({}))), 'CLOSED')
})

test('an engine that does not open leaves the lock free', async (t) => {
  const directory = tmpdir(t)
  const failing = open(t, directory, {
    openEngine: async () => {
      throw new KVSwarmError('DATADIR_DAMAGED', 'damaged')
    }
  })
  t.equal(await codeOf(failing), 'DATADIR_DAMAGED')
  const unprepared = open(t, join(directory, 'other'), {
    prepare: async () => {
      throw new KVSwarmError('DATADIR_FOREIGN', 'foreign')
    }
  })
  t.equal(await codeOf(unprepared), 'DATADIR_FOREIGN')
  t.notOk(existsSync(join(directory, 'other')), 'nothing is made before it is checked')
  const a = await open(t, directory)
  t.equal(a.nodeId, fakeId)
})

/** Sets environment variables for one test. */
function setEnv(t: test.Test, values: Readonly<Record<string, string>>): void {
  for (const [name, value] of Object.entries(values)) {
    const old = process.env[name]
    process.env[name] = value
    cleanup(t, () => {
      if (old === undefined) delete process.env[name]
      else process.env[name] = old
    })
  }
}

test('a directory that cannot hold the socket: other places, required fails, auto warns', async (t) => {
  const directory = tmpdir(t)
  // A folder that cannot be replaced by a socket.
  mkdirSync(join(directory, 'kvswarm.sock', 'x'), { recursive: true })
  const runtime = tmpdir(t)
  setEnv(t, { XDG_RUNTIME_DIR: runtime })
  const a = await open(t, directory, { mode: 'required' })
  const socket = (await readSidecar(directory))?.socket as string
  t.ok(socket.startsWith(runtime), 'the runtime folder is used')
  await a.close()
  t.notOk(existsSync(socket), 'the socket is removed')

  // No folder of this user, as it seems, is private to it.
  const { getuid } = process
  cleanup(t, () => {
    Object.assign(process, { getuid })
    rmSync('/tmp/kvswarm-4242424242', { recursive: true, force: true })
  })
  Object.assign(process, { getuid: () => 4242424242 })
  setEnv(t, { TMPDIR: runtime })
  t.equal(await codeOf(open(t, directory, { mode: 'required' })), 'IO_ERROR')
  const warnings: string[] = []
  const onWarning = (message: string): unknown => warnings.push(message)
  const b = await open(t, directory, { onWarning })
  t.equal(warnings.length, 1)
  t.ok(warnings[0]?.startsWith(`no control socket can be served for ${directory}: `), warnings[0])
  t.equal(await b.config(), null, 'it works alone')
})

test('the sidecar is information: spoilt or deleted, the lock still decides', async (t) => {
  const directory = tmpdir(t)
  writeFileSync(join(directory, 'kvswarm.lock'), '{"pid": "nonsense')
  const a = await open(t, directory)
  writeFileSync(join(directory, 'kvswarm.lock'), '\0\0')
  const b = await open(t, directory)
  t.equal(await b.config(), null, 'served')
  await a.start('listen')
  t.ok(readFileSync(join(directory, 'kvswarm.lock'), 'utf8').startsWith('{"pid":'), 'written again')
  rmSync(join(directory, 'kvswarm.lock'))
  const c = await open(t, directory)
  t.equal(await c.config(), null, 'served, although the file is gone')
})

test('a sidecar that the store moves into its own folder gets its name back', async (t) => {
  const directory = tmpdir(t)
  // As hypercore-storage does with every file that it does not know, when it makes a store.
  const openEngine = async (text: string | null): Promise<FakeEngine> => {
    mkdirSync(join(directory, 'db'))
    renameSync(join(directory, 'kvswarm.lock'), join(directory, 'db', 'kvswarm.lock'))
    return new FakeEngine(directory, text)
  }
  await open(t, directory, { openEngine })
  t.equal((await readSidecar(directory))?.state, 'serving')
  t.notOk(existsSync(join(directory, 'db', 'kvswarm.lock')))
  t.equal(await codeOf(open(t, directory, { mode: 'single' })), 'DATADIR_IN_USE', 'and is held')
})

test('a holder that is there is found with a timeout of 0 as well', async (t) => {
  const directory = tmpdir(t)
  await open(t, directory)
  const b = await open(t, directory, { lockTimeoutMs: 0 })
  t.equal(await b.config(), null)
})

test('closing while a role is being started', async (t) => {
  const directory = tmpdir(t)
  const engine = new FakeEngine(directory, null)
  let starting = (): void => {}
  const begun = new Promise<void>((resolve) => {
    starting = resolve
  })
  let go = (): void => {}
  engine.start = async () => {
    starting()
    await new Promise<void>((resolve) => {
      go = resolve
    })
    return async () => {}
  }
  const a = await open(t, directory, { openEngine: async () => engine })
  const b = await open(t, directory)
  const role = codeOf(b.start('listen'))
  await begun
  await b.close()
  t.equal(await role, 'CLOSED', 'the client does not wait')
  go()
  await a.close()
})

test('configurations are compared when a client comes', async (t) => {
  const { default: Config } = await import('../../config/index.ts')
  const id = (digit: string): string => digit.repeat(64)
  const first = new Config({ capacities: { [id('a')]: 1 }, writers: [id('b')] })
  const other = new Config({ capacities: { [id('a')]: 1 }, writers: [id('c')] })
  const second = Config.parse(first.serialize())
  second.addWriter(id('d'))
  const [one, conflicting, two] = [first, other, second].map((config) => config.serialize())
  if (one === undefined || two === undefined || conflicting === undefined) throw new Error('three')

  t.equal(await matchConfig(null, one, true), 'use', 'none: the one of the holder')
  t.equal(await matchConfig(one, null, true), 'offer', 'the holder has none')
  t.equal(await matchConfig(one, one, true), 'use')
  t.equal(await matchConfig(two, one, true), 'offer', 'higher')
  t.equal(await matchConfig(one, two, false), 'use', 'lower, at a later attach')
  t.equal(await codeOf(matchConfig(one, two, true)), 'CONFIG_STALE')
  t.equal(await codeOf(matchConfig(one, conflicting, true)), 'CONFIG_CONFLICT')
  try {
    await matchConfig(one, conflicting, true)
  } catch (error) {
    const { message } = error as Error
    t.ok(message.includes(first.hash) && message.includes(other.hash), 'both are named')
  }

  const directory = tmpdir(t)
  const a = await open(t, directory)
  const b = await open(t, directory, { configText: one })
  t.equal(await a.config(), one, 'the holder had none and is given it')
  const c = await open(t, directory, { configText: two })
  t.equal(await b.config(), two, 'a higher one is offered')
  t.equal(await codeOf(open(t, directory, { configText: one })), 'CONFIG_STALE')
  t.equal(await codeOf(open(t, directory, { configText: conflicting })), 'CONFIG_STALE')
  await a.close()
  t.equal(await b.config(), two, 'no longer stale for one that was attached before')
  t.equal(await c.config(), two)
})

test('roles are counted, and one that fails to start is tried again by the next', async (t) => {
  const engine = new FakeEngine(tmpdir(t), null)
  const log: string[] = []
  let failures = 1
  engine.start = async (role) => {
    if (failures-- > 0) throw new Error('not now')
    log.push(`start ${role}`)
    return async () => void log.push(`end ${role}`)
  }
  const table = new RoleTable(engine, async () => void log.push(`roles ${table.roles.join()}`))
  const results = await Promise.allSettled([table.hold('listen'), table.hold('listen')])
  t.deepEqual(
    results.map(({ status }) => status),
    ['rejected', 'fulfilled']
  )
  const [, second] = results
  const end = (second as PromiseFulfilledResult<() => Promise<void>>).value
  const other = await table.hold('listen')
  await end()
  await end()
  t.deepEqual(table.roles, ['listen'], 'given up twice counts once')
  await other()
  t.deepEqual(log, ['start listen', 'roles listen', 'end listen', 'roles '])
})

test('network file systems are known by their numbers', (t) => {
  t.equal(networkTypeOf(0x6969), 'nfs')
  t.equal(networkTypeOf(0xff534d42), 'cifs')
  t.equal(networkTypeOf(0xff534d42 - 2 ** 32), 'cifs', 'also as a signed number')
  t.equal(networkTypeOf(0x65735546), 'fuse')
  t.equal(networkTypeOf(0xef53), null, 'ext4 is local')
  t.equal(networkTypeOf(0x01021994), null, 'tmpfs is local')
  t.end()
})
