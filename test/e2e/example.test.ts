/**
 * The original page's example, word for word: every line its own process, data directories on disk,
 * hyperswarm connections over a private DHT. Then the same with nodes that come late, crash and come back.
 *
 * time limit: 5 min
 */
import { chmodSync, existsSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import test, { type Test } from 'tape'
import { Config } from '../../config/index.ts'
import type { Status } from '../../lib/index.ts'
import { privateDht } from '../helpers/dht.ts'
import { until } from '../helpers/events.ts'
import {
  commandLine,
  type Finished,
  type Running,
  runProgram,
  spawnProgram
} from '../helpers/process.ts'
import { tmpdir } from '../helpers/tmp.ts'
import { crash, holderOf, makeSite, type Site } from './site.ts'

/** The lines of the original page. The test puts its own folder in place of /tmp. */
const lines = `
A=$(kvswarm id -d /tmp/a); B=$(kvswarm id -d /tmp/b); C=$(kvswarm id -d /tmp/c)
X=$(kvswarm id -d /tmp/x); Y=$(kvswarm id -d /tmp/y)
kvswarm init --capacity.$A=5 --capacity.$B=10 --capacity.$C=7 --writer=$X --writer=$Y > config.json
kvswarm listen -d /tmp/a -c config.json &
kvswarm listen -d /tmp/b -c config.json &
kvswarm listen -d /tmp/c -c config.json &
kvswarm -c config.json -d /tmp/x write --put.greeting=hi
kvswarm -c config.json -d /tmp/y write --put.cool=beans
kvswarm -c config.json -d /tmp/x connect &
kvswarm -c config.json -d /tmp/y connect &
kvswarm -c config.json -d /tmp/x get cool        # beans
kvswarm -c config.json -d /tmp/y get greeting    # hi
`

/** A get may come before the delivery: then it ends with 3 and is run again, for so long. */
const repeatMs = 15_000

const hex = /^[0-9a-f]{64}$/

/** A get, run again while it rightly says that there is no such key yet. */
async function repeated(t: Test, get: () => Promise<Finished>): Promise<Finished> {
  const end = performance.now() + repeatMs
  for (let tries = 1; ; tries++) {
    const got = await get()
    if (got.code === 3 && performance.now() < end) {
      if (got.stdout !== '') t.fail(`ended with 3, but printed ${JSON.stringify(got.stdout)}`)
      continue
    }
    t.comment(`try ${tries} ended with ${got.code}`)
    return got
  }
}

/** Ends well, with exactly this on stdout and nothing on stderr. */
function gives(t: Test, { code, stdout, stderr }: Finished, expected: string, what: string): void {
  t.deepEqual({ code, stdout, stderr }, { code: 0, stdout: expected, stderr: '' }, what)
}

/** Ends with this code, nothing on stdout, and one line on stderr that begins with `error: `. */
function fails(t: Test, { code, stdout, stderr }: Finished, expected: number, what: string): void {
  t.equal(code, expected, what)
  t.equal(stdout, '', 'nothing on stdout')
  t.match(stderr, /^error: [^\n]+\n$/, 'one line on stderr')
}

async function statusOf(site: Site, name: string): Promise<Status> {
  const { code, stdout, stderr } = await site.run(name, ['status', '--json'])
  if (code !== 0) throw new Error(`status of ${name} ended with ${code}: ${stderr}`)
  return JSON.parse(stdout) as Status
}

/** Starts `connect` and resolves when it holds the directory and has its role. */
async function connect(site: Site, name: string): Promise<Running> {
  const node = site.start(name, ['connect'])
  await until(
    () => {
      const holder = holderOf(site.directory(name))
      return holder?.pid === node.pid && holder.roles.includes('connect')
    },
    { what: `${name} to be connected` }
  )
  return node
}

/** Blocks in the outbox of `name` for the storage node `owner`. */
async function outboxLength(site: Site, name: string, owner: string): Promise<number> {
  const { outboxes } = await statusOf(site, name)
  return outboxes.find((outbox) => outbox.owner === site.id(owner))?.length ?? 0
}

test('the main job, word for word, in bash', async (t) => {
  const folder = tmpdir(t)
  const bootstrap = await privateDht(t)
  const command = join(folder, 'kvswarm')
  writeFileSync(command, `#!/bin/sh\nexec ${commandLine().join(' ')} "$@"\n`)
  chmodSync(command, 0o755)
  const env = { PATH: `${folder}:${process.env['PATH']}`, KVSWARM_BOOTSTRAP: bootstrap }
  const script = lines.replaceAll('/tmp/', `${folder}/`).trim().split('\n')
  const [getCool = '', getGreeting = ''] = script.slice(-2)
  // A bash whose stdin is a socket may read the user's settings.
  const bash = (text: string): string[] => ['bash', '--norc', '-euc', text]

  const before = [...script.slice(0, -2), 'echo "$A $B $C $X $Y"', 'wait'].join('\n')
  const shell = spawnProgram(t, bash(before), { env, cwd: folder })
  await until(() => shell.stdout.split('\n').some((line) => line.split(' ').length === 5), {
    what: 'the lines before the first get'
  })
  const ids = shell.stdout.split('\n').find((line) => line.includes(' ')) ?? ''
  const [a = '', b = '', c = '', x = '', y = ''] = ids.split(' ')
  t.ok(
    [a, b, c, x, y].every((id) => hex.test(id)),
    'five ids'
  )
  const config = Config.parse(readFileSync(join(folder, 'config.json'), 'utf8'))
  t.deepEqual(config.capacities, { [a]: 5, [b]: 10, [c]: 7 })
  t.deepEqual(config.writers, [x, y].toSorted())

  const get = (line: string): Promise<Finished> => runProgram(bash(line), { env, cwd: folder })
  gives(t, await repeated(t, () => get(getCool)), 'beans\n', getCool)
  gives(t, await repeated(t, () => get(getGreeting)), 'hi\n', getGreeting)

  for (const name of ['a', 'b', 'c', 'x', 'y']) {
    const stopped = await runProgram(bash(`kvswarm stop -d ${folder}/${name}`), {
      env,
      cwd: folder
    })
    gives(t, stopped, '', `kvswarm stop -d ${name}`)
  }
  t.deepEqual(await shell.exit, { code: 0, signal: null }, 'all that ran in the background ended')
  t.deepEqual(
    shell.stdout.split('\n').toSorted(),
    ['', a, b, c, ids].toSorted(),
    'each listen printed its id; connect and write printed nothing'
  )
  t.equal(shell.stderr, '', 'nothing on stderr')
})

test('id, listen and connect: what they print, how they end', async (t) => {
  const site = await makeSite(t)
  const again = await site.run('a', ['id'])
  gives(t, again, `${site.id('a')}\n`, 'the id stays')
  const [a] = await site.listen('a')
  t.equal(await a?.line(), site.id('a'), 'the first line of listen is the id')
  gives(t, await site.run('a', ['id']), `${site.id('a')}\n`, 'id works on a held directory')
  const x = await connect(site, 'x')

  a?.kill('SIGTERM')
  t.deepEqual(await a?.exit, { code: 143, signal: null }, 'SIGTERM ends listen')
  t.equal(a?.stdout, `${site.id('a')}\n`, 'which has printed nothing else')
  x.kill('SIGINT')
  t.deepEqual(await x.exit, { code: 130, signal: null }, 'SIGINT ends connect')
  t.equal(x.stdout, '', 'which has printed nothing')

  const [once] = await site.listen('a')
  gives(t, await site.run('a', ['stop']), '', 'stop')
  t.deepEqual(await once?.exit, { code: 0, signal: null }, 'listen ends with 0')
  const free = await site.run('a', ['stop', '--json'])
  gives(t, free, '{"stopped":[]}\n', 'then nobody holds the directory')
})

test('a write before connect is offline: durable at once, without anyone to reach', async (t) => {
  const site = await makeSite(t)
  const offline = await site.run('x', ['write', '--put.greeting=hi', '--timeout', '20s'], {
    env: { KVSWARM_BOOTSTRAP: '127.0.0.1:1' }
  })
  gives(t, offline, '', 'without a DHT')
  t.ok(offline.ms < 20_000, `it waited for nobody: ${Math.round(offline.ms)} ms`)
  const { outboxes, peers } = await statusOf(site, 'x')
  t.deepEqual(peers, [], 'nobody was reached')
  t.deepEqual(
    outboxes.map(({ owner, acked, applied }) => ({ owner, acked, applied })),
    [{ owner: site.config.ownerOf('greeting'), acked: null, applied: null }],
    'it lies in the outbox of the owner'
  )
})

test('keys and values come back exactly', async (t) => {
  const site = await makeSite(t)
  await site.listen('a', 'b', 'c')
  await connect(site, 'x')
  const pairs: [string, string][] = [
    ['__proto__', 'x'],
    ['constructor', '__proto__'],
    ['007', '007'],
    ['empty', ''],
    ['equals', 'a=b'],
    ['a.b', 'a dotted key'],
    ['with space', '  spaces  '],
    ['umlaut ä', 'ß 漢 🙂'],
    ['lines', 'one\ntwo\n']
  ]
  const puts = pairs.map(([key, value]) => `--put.${key}=${value}`)
  const written = await site.run('x', ['write', ...puts, '--receipt', '--timeout', '30s'])
  gives(t, written, '', 'write --receipt')
  gives(t, await site.run('x', ['put', 'a=b', 'a=b', '--receipt']), '', 'put takes any key')
  pairs.push(['a=b', 'a=b'])

  const reader = site.open('r')
  await reader.connect()
  for (const [key, value] of pairs) t.equal(await reader.get(key), value, JSON.stringify(key))
  for (const [key, value] of pairs.slice(0, 5)) {
    gives(t, await site.run('x', ['get', key]), `${value}\n`, `get ${key}`)
  }
  gives(t, await site.run('x', ['get', 'lines', '--raw']), 'one\ntwo\n', 'get --raw: no newline')
  gives(t, await site.run('x', ['get', 'empty', '--raw']), '', 'get --raw of the empty string')

  gives(t, await site.run('x', ['del', 'empty', '--receipt']), '', 'del')
  const deleted = await site.run('x', ['get', 'empty'])
  t.deepEqual([deleted.code, deleted.stdout], [3, ''], 'a deleted key: 3 and nothing printed')
  const never = await site.run('x', ['get', 'never', '--raw'])
  t.deepEqual([never.code, never.stdout], [3, ''], 'a key that never was')
})

test('nobody to ask: 4 within the timeout; a copy answers', async (t) => {
  const site = await makeSite(t)
  const owner = site.nameOf(site.config.ownerOf('cool'))
  const alone = await site.run('r', ['get', 'cool', '--timeout', '4s'])
  fails(t, alone, 4, 'no storage node runs')
  t.ok(alone.ms < 25_000, `it ended: ${Math.round(alone.ms)} ms`)
  t.ok(alone.stderr.includes(site.id(owner)), `it names the owner: ${alone.stderr.trim()}`)

  const [node] = await site.listen(owner)
  const put = ['write', '--put.cool=beans', '--receipt', '--timeout', '30s']
  gives(t, await site.run('x', put), '', 'written')
  gives(t, await site.run('r', ['get', 'cool']), 'beans\n', 'read')
  if (node) await crash(node)
  const gone = await site.run('s', ['get', 'cool', '--timeout', '1s'])
  fails(t, gone, 4, 'another reader, when the owner has crashed')
  gives(t, await site.run('r', ['get', 'cool', '--local']), 'beans\n', 'the copy, --local')
  gives(t, await site.run('r', ['get', 'cool']), 'beans\n', 'the copy, when the owner is silent')
  const fresh = await site.run('r', ['get', 'cool', '--fresh', '--timeout', '1s'])
  fails(t, fresh, 4, '--fresh needs the owner')
})

test('not allowed: 5, and nothing is written', async (t) => {
  const site = await makeSite(t)
  fails(t, await site.run('r', ['write', '--put.a=b']), 5, 'write by a node that is no writer')
  fails(t, await site.run('a', ['write', '--put.a=b']), 5, 'write by a storage node')
  fails(t, await site.run('r', ['listen']), 5, 'listen without a role')
  fails(t, await site.run('x', ['listen']), 5, 'listen by a writer')
  for (const name of ['r', 'a']) {
    const state = readFileSync(join(site.directory(name), 'kvswarm.json'), 'utf8')
    t.equal((JSON.parse(state) as { config: unknown }).config, null, `${name}: nothing adopted`)
  }
  for (const name of ['r', 'a', 'x']) {
    const { outboxes, index, roles } = await statusOf(site, name)
    t.deepEqual({ outboxes, index, roles }, { outboxes: [], index: null, roles: [] }, name)
  }
})

test('storage nodes that are started last', async (t) => {
  const site = await makeSite(t)
  gives(t, await site.run('x', ['write', '--put.greeting=hi']), '', 'x writes offline')
  gives(t, await site.run('y', ['write', '--put.cool=beans']), '', 'y writes offline')
  await connect(site, 'x')
  await connect(site, 'y')
  await site.listen('a', 'b', 'c')
  gives(t, await repeated(t, () => site.run('x', ['get', 'cool'])), 'beans\n', 'x reads')
  gives(t, await repeated(t, () => site.run('y', ['get', 'greeting'])), 'hi\n', 'y reads')
})

test('a storage node killed between write and receipt', async (t) => {
  const site = await makeSite(t)
  const owner = site.nameOf(site.config.ownerOf('greeting'))
  const [node] = await site.listen(owner)
  gives(t, await site.run('x', ['write', '--put.greeting=hi', '--receipt']), '', 'it works')
  const length = await outboxLength(site, 'x', owner)

  // A node that is stopped gives no receipt, so that the kill comes surely between the two.
  node?.kill('SIGSTOP')
  const write = site.start('x', ['write', '--put.greeting=hello', '--receipt', '--timeout', '60s'])
  await until(async () => (await outboxLength(site, 'x', owner)) > length, {
    what: 'the write to be in the outbox'
  })
  if (node) await crash(node)
  t.deepEqual([write.stdout, write.stderr], ['', ''], 'the write waits')
  await site.listen(owner)
  t.deepEqual(await write.exit, { code: 0, signal: null }, 'it gets its receipt')
  gives(t, await site.run('y', ['get', 'greeting']), 'hello\n', 'applied')
})

test('a writer killed right after write returned', async (t) => {
  const site = await makeSite(t)
  const holder = await connect(site, 'x')
  gives(t, await site.run('x', ['write', '--put.greeting=hi', '--put.cool=beans']), '', 'written')
  await crash(holder)
  gives(t, await site.run('x', ['write', '--put.cool=cucumber']), '', 'the directory goes on')
  const { outboxes } = await statusOf(site, 'x')
  const owners = new Set(['greeting', 'cool'].map((key) => site.config.ownerOf(key)))
  t.deepEqual(new Set(outboxes.map((outbox) => outbox.owner)), owners, 'all is in its outboxes')
  await site.listen('a', 'b', 'c')
  await connect(site, 'x')
  gives(t, await repeated(t, () => site.run('y', ['get', 'greeting'])), 'hi\n', 'delivered')
  const cool = (): Promise<Finished> => site.run('y', ['get', 'cool', '--fresh'])
  await until(async () => (await cool()).stdout === 'cucumber\n', { what: 'the later value' })
  gives(t, await cool(), 'cucumber\n', 'in order')
})

test('several processes on one data directory; the holder is killed', async (t) => {
  const site = await makeSite(t)
  const [a] = await site.listen('a', 'b', 'c')
  const holder = await connect(site, 'x')
  const put = (key: string): Promise<Finished> =>
    site.run('x', ['put', key, `of ${key}`, '--receipt'])
  const keys = ['k0', 'k1', 'k2', 'k3']
  const done = await Promise.all(keys.map(put))
  t.ok(
    done.every(({ code }) => code === 0),
    'four puts at once'
  )
  gives(t, await site.run('x', ['get', 'k1']), 'of k1\n', 'get')
  gives(
    t,
    await site.run('x', ['list', '--values']),
    keys.map((k) => `${k}\tof ${k}\n`).join(''),
    'list'
  )
  t.equal((await statusOf(site, 'x')).pid, holder.pid, 'all attached to the one that holds it')
  t.ok(existsSync(join(site.directory('x'), 'kvswarm.sock')))

  // What waits for a storage node that is stopped waits until the test lets it go on.
  a?.kill('SIGSTOP')
  const key = site.keyOf('a', 'late')
  const other = site.keyOf('a', 'other')
  const waiting = async (key: string): Promise<Running> => {
    const before = await outboxLength(site, 'x', 'a')
    const args = ['put', key, `of ${key}`, '--receipt', '--timeout', '60s']
    const client = site.start('x', args)
    await until(async () => (await outboxLength(site, 'x', 'a')) > before, {
      what: `the put of ${key} to be in the outbox`
    })
    return client
  }
  const ended = await waiting(other)
  ended.kill('SIGTERM')
  t.deepEqual(await ended.exit, { code: 143, signal: null }, 'SIGTERM ends a client')
  t.equal(ended.stdout, '', 'which has printed nothing')
  t.equal(holderOf(site.directory('x'))?.pid, holder.pid, 'the holder goes on')

  const client = await waiting(key)
  const second = site.start('x', ['connect'])
  await crash(holder)
  const heir = await until(
    () => [client, second].find(({ pid }) => pid === holderOf(site.directory('x'))?.pid),
    { what: 'one of the others to take the directory over' }
  )
  t.comment(`taken over by ${heir === client ? 'the put' : 'the other connect'}`)
  t.deepEqual([client.stdout, client.stderr], ['', ''], 'the put still waits')
  a?.kill('SIGCONT')
  t.deepEqual(await client.exit, { code: 0, signal: null }, 'it gets its receipt')
  gives(t, await site.run('y', ['get', key]), `of ${key}\n`, 'applied')
  await until(async () => (await site.run('y', ['get', other])).code === 0, {
    what: 'the other put to be applied as well'
  })
  await until(() => holderOf(site.directory('x'))?.pid === second.pid, {
    what: 'the other connect to hold the directory'
  })
  second.kill('SIGTERM')
  t.deepEqual(await second.exit, { code: 143, signal: null }, 'and it ends when asked')
})
