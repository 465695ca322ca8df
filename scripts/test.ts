/**
 * The runner behind `npm test`: `tsx scripts/test.ts [--strict-skips] [--jobs N] [pattern…]`.
 *
 * Runs every test/**\/*.test.ts whose path contains one of the patterns (`*` stands for anything).
 * stdout: a line for each file, the whole output of failing ones, what was skipped and why, and as the
 * last line `N passed, N failed` or `N passed, N failed, N skipped`. Exit code 1 when something failed;
 * with --strict-skips also when something was skipped that this machine could run.
 */
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { fileLine, isGood, runFiles, selectFiles, summarize, testFiles } from './runner.ts'

/** Test files at a time; they wait more than they compute. */
const jobsDefault = 2

function wrongUse(message: string): never {
  process.stderr.write(`${message}\n`)
  process.exit(2)
}

function readArguments(): { strict: boolean; jobs: number; patterns: string[] } {
  try {
    const { values, positionals } = parseArgs({
      allowPositionals: true,
      options: {
        'strict-skips': { type: 'boolean', default: false },
        jobs: { type: 'string', default: String(jobsDefault) }
      }
    })
    const jobs = Number(values.jobs)
    if (!Number.isInteger(jobs) || jobs < 1) {
      return wrongUse(`--jobs is '${values.jobs}'; expected a whole number from 1 on`)
    }
    return { strict: values['strict-skips'], jobs, patterns: positionals }
  } catch (error) {
    return wrongUse((error as Error).message)
  }
}

const root = fileURLToPath(new URL('..', import.meta.url))
const { strict, jobs, patterns } = readArguments()
const files = selectFiles(testFiles(root), patterns)
if (files.length === 0) wrongUse(`no test file matches ${patterns.join(', ')}`)

const interrupt = new AbortController()
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => interrupt.abort())

const print = (text: string): boolean => process.stdout.write(`${text}\n`)
const results = await runFiles(files, {
  root,
  jobs,
  signal: interrupt.signal,
  onResult: (result) => {
    print(fileLine(result))
    if (!isGood(result)) print(result.output.trimEnd())
  }
})
const { lines, failed } = summarize(results, strict)
if (interrupt.signal.aborted) print('interrupted: not every file has run')
for (const line of lines) print(line)
process.exitCode = failed > 0 || interrupt.signal.aborted ? 1 : 0
