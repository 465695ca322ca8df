/** The commands that need a swarm, as real processes on a private DHT: listen, connect, get, list, stop. */
import { readFileSync, renameSync, writeFileSync } from 'node:fs'
import test from 'tape'
import { type Lab, makeLab, program, run, start } from './helpers.ts'
import { readSidecar } from '../../lib/coordination/index.ts'
import { until } from '../helpers/events.ts'
import type { Finished, Running } from '../helpers/process.ts'

/** A lab with a DHT and both storage nodes. */
async function makeSwarm(
  t: test.Test,
  nodes: readonly ('a' | 'b')[] = ['a', 'b']
): Promise<{
  lab: Lab
  env: Record<string, string>
  listening: Running[]
}> {
  const lab = await makeLab(t)
  const bootstrap = start(t, ['bootstrap'])
  const address = await bootstrap.line()
  t.ok(/^127\.0\.0\.1:\d+$/.test(address), `bootstrap prints host:port: ${address}`)
  const env = { KVSWARM_BOOTSTRAP: address }
  const listening = nodes.map((name) =>
    start(t, ['listen', '-d', lab.at(name), '-c', lab.config], { env })
  )
  t.deepEqual(
    await Promise.all(listening.map((process) => process.line())),
    nodes.map((name) => lab.id[name]),
    'listen prints the id when it is ready'
  )
  return { lab, env, listening }
}

/** Repeats a command until it ends with 0, for at most 15 s. */
async function eventually(run: () => Promise<Finished>): Promise<Finished> {
  let last: Finished | null = null
  return await until(
    async () => {
      last = await run()
      return last.code === 0 ? last : null
    },
    { timeoutMs: 15_000, what: `the command to end with 0 ${String(last)}` }
  )
}

test('write, connect, get, list, status, stop', async (t) => {
  const { lab, env, listening } = await makeSwarm(t)
  const at = (name: string, ...args: string[]): Promise<Finished> =>
    run(['-c', lab.config, '-d', lab.at(name), ...args], { env })
  const offline = await at('x', 'write', '--put.greeting=hi', '--put.n=007', '--put.e=')
  t.deepEqual([offline.code, offline.stdout, offline.stderr], [0, '', ''])

  const connect = start(t, ['connect', '-c', lab.config, '-d', lab.at('x')], { env })
  const hi = await eventually(() => at('x', 'get', 'greeting'))
  t.deepEqual([hi.stdout, hi.stderr], ['hi\n', ''])
  // The command may have been first at the lock, and have asked by itself.
  await until(async () => (await readSidecar(lab.at('x')))?.pid === connect.pid, {
    what: 'connect to hold the directory'
  })

  const none = await at('x', 'get', 'none')
  t.deepEqual([none.code, none.stdout, none.stderr], [3, '', ''])
  t.equal((await at('x', 'get', 'n')).stdout, '007\n')
  t.equal((await at('x', 'get', 'e')).stdout, '\n')
  t.equal((await at('x', 'get', 'e', '--raw')).stdout, '')
  const put = await at('x', 'put', 'more', '\u001b[1mx', '--receipt', '--json')
  t.equal(put.code, 0, put.stderr)
  const { id } = JSON.parse(put.stdout) as { id: string }
  const after = await at('r', 'get', 'more', '--after', id)
  t.ok([0, 2].includes(after.code as number), `another node does not know the flush: ${after.code}`)
  t.equal(
    (await at('x', 'get', 'more', '--after', id)).stdout,
    '\u001b[1mx\n',
    'as it is in a pipe'
  )
  const ndjson =
    '{"put":"s","value":{"a":[1,{"$bigint":"2"}]}}\n{"put":"b","value":{"$bytes":"AP8="}}\n'
  const from = await run(['-c', lab.config, '-d', lab.at('x'), 'write', '--from', '-', '--ack'], {
    env,
    input: ndjson
  })
  t.deepEqual([from.code, from.stderr], [0, ''])
  const structured = await eventually(() => at('r', 'get', 's', '--fresh'))
  t.equal(structured.stdout, '{"a":[1,{"$bigint":"2"}]}\n', 'a reader with an empty directory')
  const json = JSON.parse((await at('r', 'get', 's', '--json')).stdout) as Record<string, unknown>
  t.deepEqual(json['value'], { a: [1, { $bigint: '2' }] })
  t.ok(/^[0-9a-f]{20}$/.test(json['versionstamp'] as string))
  t.deepEqual([...(await at('r', 'get', 'b')).stdoutBytes], [0, 255], 'bytes as they are')

  const list = await at('x', 'list')
  t.equal(list.stdout, 'b\ne\ngreeting\nmore\nn\ns\n')
  const values = await at('x', 'list', '--values', '--start', 'more', '--limit', '2')
  t.equal(values.stdout, 'more\t\\x1b[1mx\nn\t007\n', 'escaped, and one line each')
  const reverse = await at('x', 'list', '--prefix', 'g', '--reverse', '--json')
  t.equal((JSON.parse(reverse.stdout) as { value: string }).value, 'hi')
  await at('x', 'del', 'greeting', '--receipt')
  t.equal((await at('x', 'get', 'greeting', '--fresh')).code, 3, 'deleted')

  const status = JSON.parse((await at('x', 'status', '--json')).stdout) as {
    pid: number
    roles: string[]
    peers: unknown[]
  }
  t.equal(status.pid, connect.pid, 'the holder answers')
  t.deepEqual(status.roles, ['connect'])
  t.equal(status.peers.length, 2)

  const stop = await at('x', 'stop', '--json')
  t.deepEqual([stop.code, JSON.parse(stop.stdout)], [0, { stopped: [connect.pid] }])
  t.deepEqual(await connect.exit, { code: 0, signal: null }, 'stopped: 0')
  t.deepEqual([connect.stdout, connect.stderr], ['', ''], 'connect prints nothing')
  for (const [process, signal, code] of [
    [listening[0], 'SIGINT', 130],
    [listening[1], 'SIGTERM', 143]
  ] as const) {
    process?.kill(signal)
    t.equal((await process?.exit)?.code, code, signal)
  }
  const late = await at('r', 'get', 'nowhere', '--timeout', '1s', '--fresh')
  t.deepEqual([late.code, late.stdout], [4, ''], 'nobody answers: 4')
  t.ok(late.ms < 25_000, `within its time: ${Math.round(late.ms)} ms`)
})

test('listen takes the directory of a connect over, and the other way round', async (t) => {
  const { lab, env } = await makeSwarm(t, ['a'])
  const connect = start(t, ['connect', '-c', lab.config, '-d', lab.at('b')], { env })
  await until(async () => (await readSidecar(lab.at('b')))?.roles.includes('connect'), {
    what: 'connect to hold the directory'
  })
  const listen = start(t, ['listen', '-c', lab.config, '-d', lab.at('b')], { env })
  t.equal(await listen.line(), lab.id.b, 'listen on a directory held by connect')
  t.deepEqual((await readSidecar(lab.at('b')))?.roles, ['connect', 'listen'])
  connect.kill('SIGKILL')
  await until(async () => (await readSidecar(lab.at('b')))?.pid === listen.pid, {
    what: 'listen to take the directory over'
  })
  await until(async () => (await readSidecar(lab.at('b')))?.roles.join() === 'listen')
  const id = await run(['id', '-d', lab.at('b')], { env })
  t.equal(id.stdout, `${lab.id.b}\n`, 'id works on a held directory')
  const stopped = await run(['stop', '-d', lab.at('b')], { env })
  t.deepEqual([stopped.code, stopped.stdout], [0, ''])
  t.equal((await listen.exit).code, 0)
})

test('a higher epoch of the file is taken over; broken and lower ones are reported', async (t) => {
  const { lab, env, listening } = await makeSwarm(t)
  const { default: Config } = await import('../../config/index.ts')
  const old = readFileSync(lab.config, 'utf8')
  const config = Config.parse(old)
  config.addWriter(lab.id.r)
  const replace = (text: string): void => {
    writeFileSync(`${lab.config}.new`, text)
    renameSync(`${lab.config}.new`, lab.config)
  }
  const said = (text: string): Promise<unknown> =>
    until(() => listening.every(({ stderr }) => stderr.includes(text)), { what: `'${text}'` })
  replace(config.serialize())
  await said('configuration 2 is in use\n')
  const written = await run(
    ['-c', lab.config, '-d', lab.at('r'), 'put', 'from-r', '1', '--receipt'],
    { env }
  )
  t.deepEqual([written.code, written.stderr], [0, ''], 'the new writer writes')
  replace('{')
  await said('warning: the configuration stays as it is: ')
  replace(old)
  await said('has epoch 1, and 2 is in use')
  config.removeWriter(lab.id.r)
  replace(config.serialize())
  await said('configuration 3 is in use\n')
  const conflict = Config.parse(old)
  conflict.addWriter(lab.id.a)
  conflict.addWriter(lab.id.b)
  replace(conflict.serialize())
  await said('has epoch 3 like the one in use, but is another one')
  for (const { stdout } of listening)
    t.equal(stdout.split('\n').length, 2, 'stdout holds the id alone')
})

test('a reader of stdout that leaves is no error', async (t) => {
  const { lab, env } = await makeSwarm(t)
  const lines = Array.from({ length: 3_000 }, (_, i) =>
    JSON.stringify({ put: `k${i}`, value: 'x'.repeat(100) })
  )
  const written = await run(
    ['-c', lab.config, '-d', lab.at('x'), 'write', '--from', '-', '--receipt'],
    {
      env,
      input: lines.join('\n')
    }
  )
  t.deepEqual([written.code, written.stderr], [0, ''])
  const { runProgram } = await import('../helpers/process.ts')
  const list = `${program().join(' ')} -c ${lab.config} -d ${lab.at('x')} list --values`
  const head = await runProgram(['bash', '-c', `${list} | head -n 2; echo \${PIPESTATUS[0]}`], {
    env
  })
  const [first, , code] = head.stdout.split('\n')
  t.ok(first?.startsWith('k0\tx'), first)
  t.deepEqual([code, head.stderr], ['0', ''])
})
