/** Many commands on one data directory at once, with the real engine, and the holder killed. */
import test from 'tape'
import { makeLab, run, start } from './helpers.ts'
import { readSidecar } from '../../lib/coordination/index.ts'
import { cleanup } from '../helpers/cleanup.ts'
import { until } from '../helpers/events.ts'

test('eight writes at once on a directory whose holder is killed: all are done and applied', async (t) => {
  const lab = await makeLab(t)
  const bootstrap = start(t, ['bootstrap'])
  const env = { KVSWARM_BOOTSTRAP: await bootstrap.line() }
  const base = ['-c', lab.config, '-d', lab.at('x')]
  const connect = start(t, [...base, 'connect'], { env })
  await until(async () => (await readSidecar(lab.at('x')))?.state === 'serving', {
    what: 'connect to hold the directory'
  })
  const writes = Array.from({ length: 8 }, async (_, i) => {
    const args = [
      ...base,
      'write',
      '--json',
      '--timeout',
      '60s',
      `--put.k${i}=${i}`,
      `--put.s=${i}`
    ]
    return await run(args, { env })
  })
  await Promise.race(writes)
  connect.kill('SIGKILL')
  const results = await Promise.all(writes)
  for (const { code, stderr } of results) t.deepEqual([code, stderr], [0, ''])
  const ids = results.map(({ stdout }) => (JSON.parse(stdout) as { id: string }).id)
  t.equal(new Set(ids).size, 8)

  const listening = ['a', 'b'].map((name) =>
    start(t, ['listen', '-d', lab.at(name), '-c', lab.config], { env })
  )
  await Promise.all(listening.map((process) => process.line()))
  const { KVSwarm } = await import('../../lib/index.ts')
  const kv = new KVSwarm({ storage: lab.at('x'), bootstrap: env.KVSWARM_BOOTSTRAP })
  cleanup(t, () => kv.close())
  await kv.connect()
  const receipts = await Promise.all(ids.map((id) => kv.receipt(id)))
  t.deepEqual(
    receipts.map(({ operations }) => operations),
    ids.map(() => 2),
    'every write is applied'
  )
  const found: [unknown, unknown][] = []
  for await (const { key, value } of kv.list({ prefix: 'k' })) found.push([key, value])
  t.deepEqual(
    found,
    ids.map((_, i) => [`k${i}`, String(i)])
  )
})

test('a holder that is stopped: 6 within the time, and the holder is named', async (t) => {
  const lab = await makeLab(t)
  const base = ['-c', lab.config, '-d', lab.at('x')]
  const connect = start(t, [...base, 'connect', '--bootstrap', '127.0.0.1:1'])
  await until(async () => (await readSidecar(lab.at('x')))?.state === 'serving', {
    what: 'connect to hold the directory'
  })
  connect.kill('SIGSTOP')
  for (const args of [['get', 'k'], ['id']]) {
    const { code, stdout, stderr, ms } = await run([...base, ...args, '--timeout', '500ms'])
    t.deepEqual([code, stdout], [6, ''], args.join(' '))
    t.ok(stderr.includes(`process ${connect.pid} `) && stderr.split('\n').length === 2, stderr)
    t.ok(ms < 25_000, `${Math.round(ms)} ms`)
  }
  connect.kill('SIGCONT')
  const id = await run(['id', '-d', lab.at('x')])
  t.deepEqual([id.code, id.stdout], [0, `${lab.id.x}\n`], 'served again when it goes on')
  connect.kill('SIGTERM')
  t.equal((await connect.exit).code, 143)
})
