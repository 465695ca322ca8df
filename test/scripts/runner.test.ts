import { mkdirSync, symlinkSync, writeFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import test, { type Test } from 'tape'
import {
  fileLimitMs,
  fileLine,
  type FileResult,
  isGood,
  runFile,
  runFiles,
  selectFiles,
  summarize,
  testFiles,
  timeLimitMs
} from '../../scripts/runner.ts'
import { countLine, emptyCount, type TapCount } from '../../scripts/tap.ts'
import { runProgram } from '../helpers/process.ts'
import { tmpdir } from '../helpers/tmp.ts'

const root = fileURLToPath(new URL('../..', import.meta.url))

/** A folder with these test files in it that can use tape and tsx. */
function project(t: Test, files: Record<string, string>): string {
  const folder = tmpdir(t)
  symlinkSync(`${root}node_modules`, `${folder}/node_modules`)
  writeFileSync(`${folder}/package.json`, '{ "type": "module" }')
  for (const room of ['e2e', 'fault']) {
    mkdirSync(`${folder}/test/${room}`, { recursive: true })
  }
  for (const [name, body] of Object.entries(files)) {
    writeFileSync(`${folder}/test/${name}`, `import test from 'tape'\n${body}\n`)
  }
  return folder
}

function countOf(text: string): TapCount {
  const count = emptyCount()
  for (const line of text.split('\n')) countLine(count, line)
  return count
}

function resultOf(file: string, tap: string, problems: string[] = []): FileResult {
  return { file, count: countOf(tap), problems, output: tap, ms: 1 }
}

test('TAP: what passed, failed, was skipped and why', (t) => {
  const count = countOf(`TAP version 13
# first
ok 1 equal
not ok 2 also # not a directive
  ---
    stack: |-
      ok 7 indented lines are no assertions
  ...
ok 3 assertion # SKIP needs: root
ok 4 # SKIP
# SKIP whole test needs: ip netns
# SKIP one without a reason
not ok 5 later # TODO

1..5
# tests 5`)
  t.equal(count.passed, 1)
  t.equal(count.failed, 1)
  t.equal(count.todo, 1)
  t.equal(count.plan, 5)
  t.deepEqual(count.skipped, [
    { name: 'assertion needs: root', needs: 'root' },
    { name: '', needs: null },
    { name: 'whole test needs: ip netns', needs: 'ip netns' },
    { name: 'one without a reason', needs: null }
  ])
  t.end()
})

test('time limits are read from the first lines', (t) => {
  t.equal(timeLimitMs("import test from 'tape'\n"), fileLimitMs)
  t.equal(timeLimitMs('// time limit: 10 min\n'), 600_000)
  t.equal(timeLimitMs('/**\n * A test.\n * time limit: 90 s\n */\n'), 90_000)
  t.throws(() => timeLimitMs('// time limit: long\n'), /is not a number of s or min/)
  t.equal(timeLimitMs(`${'\n'.repeat(30)}// time limit: 10 min\n`), fileLimitMs, 'not further down')
  t.end()
})

test('patterns choose files', (t) => {
  const files = ['test/wire/keys.test.ts', 'test/wire/blocks.test.ts', 'test/e2e/keys.test.ts']
  t.deepEqual(selectFiles(files, []), files)
  t.deepEqual(selectFiles(files, ['wire/']), files.slice(0, 2))
  t.deepEqual(selectFiles(files, ['test/*/keys.test.ts']), [files[0], files[2]])
  t.deepEqual(selectFiles(files, ['test/**/*.test.ts']), files)
  t.deepEqual(selectFiles(files, ['k.ys']), [], 'a dot is a dot')
  t.end()
})

test('the summary ends with the line that CI reads', (t) => {
  const good = resultOf('test/a.test.ts', 'ok 1 a\nok 2 b\n1..2')
  const bad = resultOf('test/b.test.ts', 'ok 1 a\nnot ok 2 b\n1..2')
  const crashed = resultOf('test/c.test.ts', 'ok 1 a', ['exit code 7', 'ended before its plan'])
  t.deepEqual(summarize([good], true), { lines: ['2 passed, 0 failed'], failed: 0 })
  const { lines, failed } = summarize([good, bad, crashed], false)
  t.equal(lines.at(-1), '4 passed, 3 failed')
  t.ok(lines.includes('failing: test/b.test.ts, test/c.test.ts'))
  t.equal(failed, 3)
  t.equal(isGood(good), true)
  t.equal(isGood(bad), false)
  t.equal(isGood(crashed), false)
  t.equal(
    fileLine(crashed),
    'FAIL test/c.test.ts: 1 passed; exit code 7; ended before its plan (0.0 s)'
  )
  t.end()
})

test('strict: only a missing capability excuses a skip', (t) => {
  const results = [
    resultOf(
      'test/a.test.ts',
      '# SKIP one needs: gcc\n# SKIP two needs: root\n# SKIP three needs: luck\n# SKIP four\n1..0'
    )
  ]
  const has = (name: string): boolean | null => (name === 'luck' ? null : name === 'root')
  const loose = summarize(results, false, has)
  t.equal(loose.failed, 0)
  t.equal(loose.lines.at(-1), '0 passed, 0 failed, 4 skipped')
  t.ok(loose.lines.includes('  test/a.test.ts: one needs: gcc'), 'prints what and why')
  const strict = summarize(results, true, has)
  t.equal(strict.failed, 3)
  t.equal(strict.lines.at(-1), '0 passed, 3 failed, 4 skipped')
  t.ok(strict.lines.includes('  test/a.test.ts: two needs: root (this machine has it)'))
  t.ok(strict.lines.includes('  test/a.test.ts: three needs: luck (no known capability)'))
  t.end()
})

const faults: Record<string, { body: string; problem: RegExp | null; failed?: number }> = {
  'good.test.ts': { body: "test('x', (t) => { t.pass('y'); t.end() })", problem: null },
  'fails.test.ts': { body: "test('x', (t) => { t.fail('y'); t.end() })", problem: null, failed: 1 },
  'throws.test.ts': { body: "throw new Error('at import')", problem: /exit code 1/ },
  'nothing.test.ts': { body: "test('x', (t) => t.end())", problem: /ran no assertion/ },
  'quits.test.ts': {
    body: "test('x', (t) => { t.pass('y'); process.exit(0) })",
    problem: null,
    failed: 1
  },
  'mute.test.ts': {
    body: "test('x', (t) => { t.pass('y'); process.exitCode = 0; process.reallyExit(0) })",
    problem: /ended before its plan/
  },
  'only.test.ts': {
    body: "test('x', (t) => t.end())\ntest.only('z', (t) => { t.pass('y'); t.end() })",
    problem: /exit code 1/
  },
  'code.test.ts': {
    body: "test('x', (t) => { t.pass('y'); process.exitCode = 9; t.end() })",
    problem: /exit code 9/
  },
  'hangs.test.ts': {
    body: '// time limit: 2 s\nsetInterval(() => {}, 1000)\ntest("x", (t) => { t.pass("y") })',
    problem: /not done after 2 s/
  },
  'spins.test.ts': {
    body: '// time limit: 2 s\ntest("x", (t) => { t.pass("y"); for (;;); })',
    problem: /not done after 2 s/
  },
  'stays.test.ts': {
    body: "setInterval(() => {}, 1000)\ntest('x', (t) => { t.pass('y'); t.end() })",
    problem: /did not exit by itself/
  },
  'leaves.test.ts': {
    body: `import { spawn } from 'node:child_process'
test('x', (t) => {
  t.pass('y')
  spawn('sleep', ['1000'], { detached: true, stdio: 'ignore' }).unref()
  t.end()
})`,
    problem: /left running: sleep 1000/
  },
  'signal.test.ts': {
    body: "test('x', (t) => { t.pass('y'); process.kill(process.pid, 'SIGSEGV') })",
    problem: /ended by SIGSEGV/
  }
}

test('a file that misbehaves fails, whatever it printed', async (t) => {
  const bodies = Object.entries(faults).map(([name, { body }]) => [name, body])
  const folder = project(t, Object.fromEntries(bodies) as Record<string, string>)
  const results = await runFiles(testFiles(folder), {
    root: folder,
    jobs: 2,
    onResult: () => {}
  })
  t.equal(results.length, Object.keys(faults).length)
  for (const [name, { problem, failed = 0 }] of Object.entries(faults)) {
    const result = results.find(({ file }) => file === `test/${name}`)
    const problems = result?.problems.join('; ') ?? 'did not run'
    if (problem === null) t.equal(problems, '', `${name}: no problem`)
    else t.match(problems, problem, name)
    t.equal(result?.count.failed, failed, `${name}: failed assertions`)
    t.equal(result !== undefined && isGood(result), name === 'good.test.ts', `${name}: judged`)
  }
})

test('a run that is interrupted kills what it runs', async (t) => {
  const folder = project(t, {
    'long.test.ts': "setInterval(() => {}, 1000)\ntest('x', (t) => { t.pass('y') })"
  })
  const interrupt = new AbortController()
  const done = runFile(folder, 'test/long.test.ts', interrupt.signal)
  interrupt.abort()
  t.deepEqual((await done).problems, ['interrupted'])
})

test('files of test/e2e/ and test/fault/ run alone, after the others', async (t) => {
  const body = "test('x', (t) => { t.pass('y'); t.end() })"
  const folder = project(t, {
    'e2e/a.test.ts': body,
    'e2e/b.test.ts': body,
    'fault/c.test.ts': body,
    'z.test.ts': body
  })
  const seen: string[] = []
  await runFiles(testFiles(folder), {
    root: folder,
    jobs: 3,
    onResult: ({ file }) => void seen.push(file)
  })
  const alone = ['test/e2e/a.test.ts', 'test/e2e/b.test.ts', 'test/fault/c.test.ts']
  t.deepEqual(seen, ['test/z.test.ts', ...alone])
})

test('the program: wrong use is told, with code 2', async (t) => {
  const program = [process.execPath, '--import', 'tsx', 'scripts/test.ts']
  const none = await runProgram([...program, 'no-such-file'])
  t.equal(none.code, 2)
  t.equal(none.stderr, 'no test file matches no-such-file\n')
  const option = await runProgram([...program, '--strict'])
  t.equal(option.code, 2)
  t.match(option.stderr, /Unknown option '--strict'/)
  const jobs = await runProgram([...program, '--jobs', '0'])
  t.equal(jobs.code, 2)
})

test('the program: a line for each file, then the counts', async (t) => {
  const program = [process.execPath, '--import', 'tsx', 'scripts/test.ts']
  const one = await runProgram([...program, 'test/helpers/random.test.ts'])
  t.equal(one.code, 0)
  const lines = one.stdout.trimEnd().split('\n')
  t.match(lines[0] ?? '', /^ok {3}test\/helpers\/random\.test\.ts: \d+ passed \(\d+\.\d s\)$/)
  t.match(lines.at(-1) ?? '', /^\d+ passed, 0 failed$/)
})
