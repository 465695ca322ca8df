/**
 * Runs test files, each as a process of its own, and judges them.
 *
 * - A file fails when an assertion fails, when it ends with another code than 0, before its plan, with
 *   no assertion at all, not by itself, not in time, or leaving a process behind.
 * - What hangs is killed with its process group and with everything that carries its mark.
 * - Files under test/e2e/ and test/fault/ start many processes and wait for them: they run alone, after the others.
 */
import { spawn } from 'node:child_process'
import { readdirSync, readFileSync } from 'node:fs'
import { StringDecoder } from 'node:string_decoder'
import { fileURLToPath } from 'node:url'
import { hasCapability } from './capabilities.ts'
import { cleanEnvironment, endMarked, newMark, signalProcess, withMark } from './processes.ts'
import { countLine, emptyCount, type TapCount } from './tap.ts'

/** Of a file that declares no other: `// time limit: 10 min` (or s) in its first lines. */
export const fileLimitMs: number = 5 * 60_000
/** Lines of a file in which a time limit is looked for. */
const headerLinesMax = 20
/** Exit code that scripts/run-file.ts gives to a process that does not exit by itself. */
const notExitedCode = 97
/** What a test started may take so long to end after the test's own process. */
const leftoverGraceMs = 3_000
/** How long the output may stay open after that. */
const outputGraceMs = 2_000
const launcher = fileURLToPath(new URL('run-file.ts', import.meta.url))
const nothing = (): void => {}

/** How one file did. */
export interface FileResult {
  /** Path from the root. */
  readonly file: string
  readonly count: TapCount
  /** What is wrong besides failing assertions; each counts as one failure. */
  readonly problems: readonly string[]
  /** stdout and stderr in the order of their arrival. */
  readonly output: string
  readonly ms: number
}

/** How to run. */
export interface RunOptions {
  /** Folder with test/ and node_modules/. */
  readonly root: string
  /** Files at a time, outside test/e2e/. */
  readonly jobs: number
  /** Called with each result as it comes. */
  readonly onResult: (result: FileResult) => void
  /** Kills what runs and ends the run. */
  readonly signal?: AbortSignal | undefined
}

/** All test files, as paths from `root`, in a fixed order. */
export function testFiles(root: string): string[] {
  return readdirSync(`${root}/test`, { recursive: true, encoding: 'utf8' })
    .filter((file) => file.endsWith('.test.ts'))
    .map((file) => `test/${file}`)
    .toSorted()
}

/** The files whose path contains one of the patterns (`*` stands for anything); all without patterns. */
export function selectFiles(files: readonly string[], patterns: readonly string[]): string[] {
  if (patterns.length === 0) return [...files]
  const matchers = patterns.map((pattern) => {
    const parts = pattern.split(/\*+/).map((part) => part.replace(/[\\^$.|?+()[\]{}]/g, '\\$&'))
    return new RegExp(parts.join('.*'))
  })
  return files.filter((file) => matchers.some((matcher) => matcher.test(file)))
}

/** Milliseconds that a file may take, from its source. @throws when its declaration cannot be read */
export function timeLimitMs(source: string): number {
  const header = source.split('\n', headerLinesMax)
  const declared = header.map((line) => /^(?:\/\/| \*) time limit:(.*)$/.exec(line)?.[1])
  const text = declared.find((found) => found !== undefined)
  if (text === undefined) return fileLimitMs
  const [, amount, unit] = /^ (\d+) (s|min)$/.exec(text) ?? []
  if (amount === undefined) throw new Error(`time limit:${text} is not a number of s or min`)
  return Number(amount) * (unit === 's' ? 1_000 : 60_000)
}

function durationText(ms: number): string {
  return ms % 60_000 === 0 ? `${ms / 60_000} min` : `${ms / 1_000} s`
}

function problemsOf(count: TapCount, code: number | null, signal: NodeJS.Signals | null): string[] {
  const problems: string[] = []
  const assertions = count.passed + count.failed
  if (signal !== null) problems.push(`ended by ${signal}`)
  else if (code === notExitedCode) problems.push('did not exit by itself')
  else if (code !== 0 && (code !== 1 || count.failed === 0)) problems.push(`exit code ${code}`)
  else if (count.plan === null) problems.push('ended before its plan')
  else if (assertions === 0 && count.skipped.length === 0) problems.push('ran no assertion')
  if (count.todo > 0) problems.push(`${count.todo} marked TODO`)
  if (count.failed > 0 && code === 0) problems.push('exit code 0 in spite of failures')
  return problems
}

/** Runs one file. Resolves when all its processes are gone. */
export async function runFile(
  root: string,
  file: string,
  signal?: AbortSignal
): Promise<FileResult> {
  const from = performance.now()
  const count = emptyCount()
  let limitMs: number
  try {
    limitMs = timeLimitMs(readFileSync(`${root}/${file}`, 'utf8'))
  } catch (error) {
    return { file, count, problems: [(error as Error).message], output: '', ms: 0 }
  }

  const mark = newMark()
  const child = spawn(process.execPath, ['--import', 'tsx', launcher, file], {
    cwd: root,
    detached: true,
    env: withMark({ ...cleanEnvironment(), NODE_TAPE_NO_ONLY_TEST: 'true' }, mark),
    stdio: ['ignore', 'pipe', 'pipe']
  })
  const output: string[] = []
  let stopped: string | null = null
  const stop = (why: string): void => {
    if (stopped !== null) return
    stopped = why
    if (child.pid !== undefined) signalProcess(-child.pid, 'SIGKILL')
    endMarked(mark, 0).catch(nothing) // told by the call below
  }
  const onAbort = (): void => stop('interrupted')
  signal?.addEventListener('abort', onAbort)
  if (signal?.aborted === true) onAbort()
  const limit = setTimeout(() => stop(`not done after ${durationText(limitMs)}`), limitMs)

  const decoder = new StringDecoder()
  let rest = ''
  child.stdout.on('data', (chunk: Buffer) => {
    const text = decoder.write(chunk)
    output.push(text)
    const lines = (rest + text).split('\n')
    rest = lines.pop() ?? ''
    for (const line of lines) countLine(count, line)
  })
  child.stderr.setEncoding('utf8')
  child.stderr.on('data', (text: string) => output.push(text))

  const ended = await new Promise<{ code: number | null; signal: NodeJS.Signals | null }>(
    (resolve, reject) => {
      child.once('error', reject)
      // 'close' would wait for whatever holds the output; that is ended below
      child.once('exit', (code, signal) => resolve({ code, signal }))
    }
  )
  const closed = new Promise<void>((resolve) => {
    if (child.stdout.closed && child.stderr.closed) resolve()
    else child.once('close', () => resolve())
  })
  const left = await endMarked(mark, stopped === null ? leftoverGraceMs : 0)
  // something without our mark may hold the output: what has come is all that we wait for
  const cut = setTimeout(() => {
    child.stdout.destroy()
    child.stderr.destroy()
  }, outputGraceMs)
  await closed
  clearTimeout(cut)
  clearTimeout(limit)
  signal?.removeEventListener('abort', onAbort)

  const problems = stopped === null ? problemsOf(count, ended.code, ended.signal) : [stopped]
  if (stopped === null && left.length > 0) {
    problems.push(`left running: ${left.map(({ command }) => command).join('; ')}`)
  }
  return { file, count, problems, output: output.join(''), ms: performance.now() - from }
}

/** Runs all files: `jobs` at a time, then those of test/e2e/ and test/fault/ one by one. */
export async function runFiles(
  files: readonly string[],
  options: RunOptions
): Promise<FileResult[]> {
  const results: FileResult[] = []
  const isAlone = (file: string): boolean => /^test\/(?:e2e|fault)\//.test(file)
  const alone = files.filter(isAlone)
  const together = files.filter((file) => !isAlone(file))
  const work = async (queue: string[]): Promise<void> => {
    for (let file = queue.shift(); file !== undefined; file = queue.shift()) {
      if (options.signal?.aborted === true) return
      const result = await runFile(options.root, file, options.signal)
      results.push(result)
      options.onResult(result)
    }
  }
  await Promise.all(Array.from({ length: options.jobs }, () => work(together)))
  await work(alone)
  return results
}

/** True when nothing is wrong with the file. */
export function isGood({ count, problems }: FileResult): boolean {
  return count.failed === 0 && problems.length === 0
}

/** The line of one file. */
export function fileLine(result: FileResult): string {
  const { count, problems, file, ms } = result
  const parts = [`${count.passed} passed`]
  if (count.failed > 0) parts.unshift(`${count.failed} failed`)
  if (count.skipped.length > 0) parts.push(`${count.skipped.length} skipped`)
  const facts = [parts.join(', '), ...problems].join('; ')
  return `${isGood(result) ? 'ok  ' : 'FAIL'} ${file}: ${facts} (${(ms / 1000).toFixed(1)} s)`
}

/** The end of a run: what was skipped and why, and the counts. */
export interface Summary {
  /** Lines to print; the last one is `N passed, N failed` with `, N skipped` when there are such. */
  readonly lines: readonly string[]
  readonly failed: number
}

/**
 * Sums up. With `strict` each skip counts as a failure unless it names a capability that this machine
 * lacks.
 */
export function summarize(
  results: readonly FileResult[],
  strict: boolean,
  has: (capability: string) => boolean | null = hasCapability
): Summary {
  const lines: string[] = []
  let unexcused = 0
  for (const { file, count } of results) {
    for (const { name, needs } of count.skipped) {
      const present = needs === null ? null : has(needs)
      let fault = ''
      if (needs === null) fault = " (names no reason: '# SKIP needs: <capability>')"
      else if (present === null) fault = ' (no known capability)'
      else if (present) fault = ' (this machine has it)'
      if (fault !== '') unexcused++
      lines.push(`  ${file}: ${name}${strict ? fault : ''}`)
    }
  }
  const skipped = lines.length
  if (skipped > 0) lines.unshift(`skipped: ${skipped}`)
  const passed = results.reduce((sum, { count }) => sum + count.passed, 0)
  const broken = results.reduce(
    (sum, { count, problems }) => sum + count.failed + problems.length,
    0
  )
  const failed = broken + (strict ? unexcused : 0)
  if (strict && unexcused > 0) lines.push(`${unexcused} skipped that must run here`)
  const bad = results.filter((result) => !isGood(result))
  if (bad.length > 0) lines.push(`failing: ${bad.map(({ file }) => file).join(', ')}`)
  const counts = [`${passed} passed`, `${failed} failed`]
  if (skipped > 0) counts.push(`${skipped} skipped`)
  lines.push(counts.join(', '))
  return { lines, failed }
}
