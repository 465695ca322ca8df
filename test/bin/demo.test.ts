/** `kvswarm demo`: the whole example, and nothing left behind, however it ends. */
import { mkdirSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import test from 'tape'
import { run, start } from './helpers.ts'
import { until } from '../helpers/events.ts'
import { spawnProgram } from '../helpers/process.ts'
import { random } from '../helpers/random.ts'
import { tmpdir } from '../helpers/tmp.ts'

/** Process ids whose command line names the folder. */
async function processesIn(t: test.Test, folder: string): Promise<string[]> {
  const ps = spawnProgram(t, ['ps', '-eo', 'pid=,args='])
  await ps.exit
  return ps.stdout.split('\n').filter((line) => line.includes(folder))
}

/** What the demo has left in the folder; tsx keeps its own things there, too. */
function left(folder: string): string[] {
  return readdirSync(folder).filter((name) => !name.startsWith('tsx-'))
}

test('demo runs the example of the page and ends with 0', async (t) => {
  const temporary = tmpdir(t)
  const { code, stdout, stderr } = await run(['demo'], {
    env: { TMPDIR: temporary, KVSWARM_BOOTSTRAP: 'nowhere:1', KVSWARM_DATADIR: '/nowhere' }
  })
  t.equal(code, 0, stderr)
  t.equal(stderr, '')
  const lines = stdout.split('\n').map((line) => line.replaceAll(/\/\S*kvswarm-demo-\w+/g, ''))
  for (const line of [
    '$ A=$(kvswarm id -d /a)',
    '$ kvswarm init --capacity.$A=5 --capacity.$B=10 --capacity.$C=7 --writer=$X --writer=$Y > /config.json',
    '$ kvswarm listen -d /c -c /config.json &',
    '$ kvswarm -c /config.json -d /x write --put.greeting=hi',
    '$ kvswarm -c /config.json -d /y write --put.cool=beans',
    '$ kvswarm -c /config.json -d /y connect &'
  ]) {
    t.ok(lines.includes(line), line)
  }
  t.equal(lines[lines.lastIndexOf('$ kvswarm -c /config.json -d /x get cool') + 1], 'beans')
  t.equal(lines[lines.lastIndexOf('$ kvswarm -c /config.json -d /y get greeting') + 1], 'hi')
  t.deepEqual(left(temporary), [], 'no file is left')
  t.deepEqual(await processesIn(t, temporary), [], 'no process is left')
})

test('demo --stay keeps the swarm up until Ctrl-C', async (t) => {
  const temporary = tmpdir(t)
  const demo = start(t, ['demo', '--stay'], { env: { TMPDIR: temporary } })
  await until(() => demo.stdout.includes('kvswarm where hello\n'), { timeoutMs: 60_000 })
  const [, exported] = /export (KVSWARM_BOOTSTRAP=.*)/.exec(demo.stdout) ?? []
  const env = Object.fromEntries(
    (exported ?? '').split(' ').map((word) => word.split('=') as [string, string])
  )
  const [, x] = /kvswarm -d (\S+) put hello world --receipt/.exec(demo.stdout) ?? []
  const put = await run(['-d', x as string, 'put', 'hello', 'world', '--receipt'], { env })
  t.deepEqual([put.code, put.stderr], [0, ''], 'the lines that it shows work')
  const get = await run(['-d', (x as string).replace(/x$/, 'y'), 'get', 'hello', '--fresh'], {
    env
  })
  t.equal(get.stdout, 'world\n')
  demo.kill('SIGINT')
  t.equal((await demo.exit).code, 130)
  t.deepEqual(left(temporary), [], 'no file is left')
  t.deepEqual(await processesIn(t, temporary), [], 'no process is left')
})

test('demo leaves nothing behind when it is ended anywhere', async (t) => {
  const rng = random(t)
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
    const temporary = tmpdir(t)
    const demo = start(t, ['demo'], { env: { TMPDIR: temporary } })
    const lines = rng.int(1, 25)
    await demo.line(lines, 60_000)
    demo.kill(signal)
    const { code } = await demo.exit
    t.equal(code, { SIGINT: 130, SIGTERM: 143, SIGHUP: 129 }[signal], `${signal} at line ${lines}`)
    t.deepEqual(left(temporary), [], 'no file is left')
    t.deepEqual(await processesIn(t, temporary), [], 'no process is left')
  }
})

test('demo that fails tells why and leaves nothing behind', async (t) => {
  const temporary = tmpdir(t)
  const demo = start(t, ['demo'], { env: { TMPDIR: temporary } })
  const [folder] = await until(() => (left(temporary).length > 0 ? left(temporary) : null), {
    what: 'its folder'
  })
  // Where the second node's directory should be, there is another program's.
  mkdirSync(join(temporary, folder as string, 'y', 'other'), { recursive: true, mode: 0o700 })
  const { code } = await demo.exit
  t.equal(code, 1)
  t.ok(
    /^error: 'kvswarm id -d \S+\/y' ended with 1: error: .*other.*\n$/.test(demo.stderr),
    demo.stderr
  )
  t.deepEqual(left(temporary), [])
  t.deepEqual(await processesIn(t, temporary), [])
})
