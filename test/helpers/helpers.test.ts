import { EventEmitter } from 'node:events'
import { existsSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import test, { type Test } from 'tape'
import { processesMarked, withMark } from '../../scripts/processes.ts'
import { cleanup } from './cleanup.ts'
import { privateDht } from './dht.ts'
import { deadline, once, until } from './events.ts'
import { needs } from './needs.ts'
import { commandLine, runProgram, spawnProgram, spawnSource } from './process.ts'
import { tmpdir } from './tmp.ts'

/** The message that a promise rejects with; null when it does not. */
async function failure(promise: PromiseLike<unknown>): Promise<string | null> {
  try {
    await promise
    return null
  } catch (error) {
    return (error as Error).message
  }
}

const never = new Promise<never>(() => {})

/** A node program that prints `lines` and stays until a signal comes. */
function staying(...lines: string[]): string[] {
  const prints = lines.map((line) => `console.log(${JSON.stringify(line)});`).join('')
  return [process.execPath, '-e', `${prints} setInterval(() => {}, 1000)`]
}

/** False also for one that has ended and was not yet collected by its parent. */
function isAlive(pid: number): boolean {
  try {
    return !/^State:\s+Z/m.test(readFileSync(`/proc/${pid}/status`, 'utf8'))
  } catch {
    return false
  }
}

/**
 * Calls `body` with a stand-in for a test and then runs its teardowns as tape does.
 * Resolves with the errors that they reported.
 */
async function asTest(body: (t: Test) => void | Promise<void>): Promise<unknown[]> {
  const teardowns: (() => unknown)[] = []
  const errors: unknown[] = []
  const standIn = {
    teardown: (fn: () => unknown) => teardowns.push(fn),
    error: (error: unknown) => errors.push(error)
  }
  await body(standIn as unknown as Test)
  for (const fn of teardowns) await fn()
  return errors
}

test('cleanup runs last in, first out, and goes on after an error', async (t) => {
  const order: string[] = []
  const errors = await asTest((inner) => {
    cleanup(inner, () => order.push('first'))
    cleanup(inner, async () => {
      await Promise.resolve()
      order.push('second')
      throw new Error('second fails')
    })
    cleanup(inner, () => order.push('third'))
  })
  t.deepEqual(order, ['third', 'second', 'first'])
  t.equal(errors.length, 1)
  t.match(String(errors[0]), /second fails/)
})

test('tmpdir is private, and gone after the test', async (t) => {
  let seen = ''
  const errors = await asTest((inner) => {
    seen = tmpdir(inner)
    t.equal(statSync(seen).mode & 0o777, 0o700)
    t.notEqual(tmpdir(inner), seen, 'another one each time')
    writeFileSync(join(seen, 'file'), 'x')
  })
  t.deepEqual(errors, [])
  t.notOk(existsSync(seen), 'removed with what was in it')
})

test('deadline passes on what the promise does, and names what it waited for', async (t) => {
  t.equal(await deadline(Promise.resolve(7), 1_000, 'seven'), 7)
  t.equal(await failure(deadline(Promise.reject(new Error('no')), 1_000, 'seven')), 'no')
  t.equal(await failure(deadline(never, 5, 'seven')), 'waited 5 ms for seven')
  t.equal(await deadline(Promise.resolve(8), Infinity, 'eight'), 8)
})

test('once: the event, an error, the end of the wait; no listener stays', async (t) => {
  const emitter = new EventEmitter()
  const waiting = once(emitter, 'ready')
  emitter.emit('ready', 1, 2)
  t.deepEqual(await waiting, [1, 2])
  const failing = once(emitter, 'ready')
  emitter.emit('error', new Error('broken'))
  t.equal(await failure(failing), 'broken')
  t.equal(
    await failure(once(emitter, 'ready', { timeoutMs: 5 })),
    "waited 5 ms for the event 'ready'"
  )
  t.deepEqual(emitter.eventNames(), [])
})

test('until looks again until there is something', async (t) => {
  let looks = 0
  t.equal(await until(() => (++looks > 3 ? `look ${looks}` : null)), 'look 4')
  t.equal(
    await until(() => {
      if (++looks < 8) throw new Error('not yet')
      return looks
    }),
    8,
    'a look may throw'
  )
})

test('until fails with what it waited for and the last value', async (t) => {
  t.equal(
    await failure(until(() => 0, { timeoutMs: 10, what: 'a number' })),
    'waited 10 ms for a number; last value: 0'
  )
  const throwing = (): never => {
    throw new Error('still closed')
  }
  t.match(
    (await failure(until(throwing, { timeoutMs: 10, what: 'a door' }))) ?? '',
    /^waited 10 ms for a door; last look: still closed$/
  )
  t.match(
    (await failure(until(() => never, { timeoutMs: 10, what: 'a promise' }))) ?? '',
    /^waited 10 ms for a promise; last look: waited \d+(\.\d+)? ms for one look$/,
    'a look that hangs does not hang the test'
  )
})

test('runProgram: output, code, signal, time, input', async (t) => {
  const echo = await runProgram(
    [process.execPath, '-e', 'process.stdin.pipe(process.stdout); process.exitCode = 3'],
    { input: 'a\0b' }
  )
  t.equal(echo.code, 3)
  t.equal(echo.signal, null)
  t.equal(echo.stdout, 'a\0b')
  t.deepEqual(echo.stdoutBytes, Buffer.from('a\0b'))
  t.ok(echo.ms > 0)
  const killed = await runProgram([
    process.execPath,
    '-e',
    'console.error("x"); process.kill(process.pid, "SIGKILL")'
  ])
  t.equal(killed.signal, 'SIGKILL')
  t.equal(killed.code, null)
  const idle = await runProgram([process.execPath, '-e', 'process.stdin.resume()'])
  t.equal(idle.code, 0, 'stdin is empty when nothing is given')
})

test('runProgram kills what takes too long, and tells what it had printed', async (t) => {
  const message = await failure(runProgram(staying('started'), { timeoutMs: 500 }))
  t.match(message ?? '', /^waited 500 ms for '.*'; stdout: started\n; stderr: $/)
  t.match((await failure(runProgram(['/no/such/program']))) ?? '', /ENOENT/)
})

test('processes get the environment without the settings of the caller', async (t) => {
  process.env['KVSWARM_DATADIR'] = '/elsewhere'
  cleanup(t, () => delete process.env['KVSWARM_DATADIR'])
  const print = [process.execPath, '-e', 'console.log(process.env.KVSWARM_DATADIR)']
  t.equal((await runProgram(print)).stdout, 'undefined\n')
  t.equal((await runProgram(print, { env: { KVSWARM_DATADIR: 'mine' } })).stdout, 'mine\n')
})

test('line: waits for a whole line', async (t) => {
  const child = spawnProgram(t, staying('first', 'second'))
  t.equal(await child.line(1), 'second')
  t.equal(await child.line(), 'first')
  t.match(
    (await failure(child.line(2, 20))) ?? '',
    /^waited 20 ms for line 2 of '.*'; stdout: first\nsecond\n; stderr: $/
  )
  child.kill()
  t.deepEqual(await child.exit, { code: null, signal: 'SIGTERM' })
  t.equal(child.stdout, 'first\nsecond\n')
})

test('line: rejects when the process ends before', async (t) => {
  const child = spawnProgram(t, [process.execPath, '-e', 'console.error("no luck")'])
  t.match((await failure(child.line())) ?? '', /ended \(code 0\) before line 0; stderr: no luck\n/)
  const none = spawnProgram(t, ['/no/such/program'])
  t.match((await failure(none.line())) ?? '', /ENOENT/)
  t.match((await failure(none.exit)) ?? '', /ENOENT/)
})

test('after the test a process is gone with all that it started', async (t) => {
  const grandchild = 'require("child_process").spawn("sleep", ["1000"], { detached: true })'
  const program = `const { pid } = ${grandchild}; console.log(pid); setInterval(() => {}, 1000)`
  let pids: number[] = []
  const errors = await asTest(async (inner) => {
    const child = spawnProgram(inner, [process.execPath, '-e', program])
    pids = [child.pid, Number(await child.line())]
    t.ok(pids.every(isAlive), 'both run')
  })
  t.deepEqual(errors, [])
  t.notOk(pids.some(isAlive), 'both are gone, although one had a group of its own')
})

test('a test process that ends kills what it has not cleaned up', async (t) => {
  const dir = tmpdir(t)
  const script = `
    import { spawnProgram } from './test/helpers/process.ts'
    const child = spawnProgram({ teardown() {} }, ['sleep', '1000'])
    console.log(child.pid)
    process.exit(0)`
  const child = spawnProgram(
    t,
    [process.execPath, '--import', 'tsx', '--input-type=module', '-e', script],
    { env: { TMPDIR: dir } }
  )
  const pid = Number(await child.line())
  t.deepEqual(await child.exit, { code: 0, signal: null })
  await until(() => !isAlive(pid), { what: 'the end of the process that was left' })
  t.pass('killed')
})

test('marks nest, and are looked for exactly', async (t) => {
  const outer = withMark({ PATH: process.env['PATH'] }, 'aaaa')
  const child = spawnProgram(t, staying('up'), { env: withMark(outer, 'bbbb') })
  await child.line()
  t.deepEqual(
    processesMarked('aaaa').map(({ pid }) => pid),
    [child.pid]
  )
  t.deepEqual(
    processesMarked('bbbb').map(({ pid }) => pid),
    [child.pid]
  )
  t.deepEqual(processesMarked('aaa'), [])
})

test('spawnSource runs a file of the repository', async (t) => {
  const child = spawnSource(t, 'scripts/test.ts', ['no-such-file'])
  t.deepEqual(await child.exit, { code: 2, signal: null })
})

test('KVSWARM_TEST_SOURCE=1 takes the command from the sources', (t) => {
  const before = process.env['KVSWARM_TEST_SOURCE']
  process.env['KVSWARM_TEST_SOURCE'] = '1'
  cleanup(t, () => {
    if (before === undefined) delete process.env['KVSWARM_TEST_SOURCE']
    else process.env['KVSWARM_TEST_SOURCE'] = before
  })
  t.match(commandLine().at(-1) ?? '', /\/bin\/kvswarm\.ts$/)
  t.end()
})

test('needs: skipped with the name of what is missing, or not at all', (t) => {
  t.deepEqual(needs(), { skip: false })
  const { skip } = needs('root')
  t.equal(skip, process.getuid?.() === 0 ? false : 'needs: root')
  t.end()
})

test('as another user', needs('root'), async (t) => {
  const nobody = 65_534
  const shown = await runProgram(['/bin/sh', '-c', 'id -u; id -g'], {
    uid: nobody,
    gid: nobody,
    cwd: '/'
  })
  t.equal(shown.stdout, `${nobody}\n${nobody}\n`)
  const dir = tmpdir(t)
  const refused = await runProgram(['/bin/ls', dir], { uid: nobody, gid: nobody, cwd: '/' })
  t.notEqual(refused.code, 0, 'a private folder is closed to others')
  t.deepEqual(readdirSync(dir), [])
})

test('privateDht gives an address of this machine, and closes', async (t) => {
  let address = ''
  const errors = await asTest(async (inner) => {
    address = await privateDht(inner)
  })
  t.match(address, /^127\.0\.0\.1:\d+$/)
  t.deepEqual(errors, [])
})
