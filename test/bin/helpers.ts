/** Running the command in tests: in this process (fast, exact), or as a real process. */
import { existsSync, mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { PassThrough, Readable } from 'node:stream'
import type { Test } from 'tape'
import { main } from '../../bin/main.ts'
import {
  type Finished,
  type ProcessOptions,
  type Running,
  commandLine,
  runProgram,
  spawnProgram
} from '../helpers/process.ts'
import { tmpdir } from '../helpers/tmp.ts'

/** What one run gave. */
export interface Result {
  readonly code: number
  readonly stdout: string
  readonly stderr: string
}

/** How the command is run in this process. */
export interface InProcessOptions {
  readonly env?: Readonly<Record<string, string>>
  readonly input?: string
  /** True: stdout and stderr are a terminal. */
  readonly terminal?: boolean
  readonly signal?: AbortSignal
}

const root = new URL('../..', import.meta.url).pathname

/** Runs main() with streams of its own. */
export async function inProcess(
  args: readonly string[],
  { env = {}, input = '', terminal = false, signal }: InProcessOptions = {}
): Promise<Result> {
  const output = (): PassThrough & { isTTY: boolean } =>
    Object.assign(new PassThrough({ encoding: 'utf8' }), { isTTY: terminal })
  const [stdout, stderr] = [output(), output()]
  const texts = ['', '']
  for (const [at, stream] of [stdout, stderr].entries()) {
    stream.on('data', (chunk: string) => {
      texts[at] += chunk
    })
  }
  const code = await main(args, {
    stdin: Readable.from([input]),
    stdout,
    stderr,
    env,
    signal: signal ?? new AbortController().signal
  })
  return { code, stdout: texts[0] as string, stderr: texts[1] as string }
}

/** The built command, or from the sources when there is none (or KVSWARM_TEST_SOURCE=1). */
export function program(): string[] {
  const source = !existsSync(`${root}dist/bin/kvswarm.js`)
  return source ? [process.execPath, '--import', 'tsx', `${root}bin/kvswarm.ts`] : commandLine()
}

/** Runs `kvswarm <args>` as a process, to its end. */
export function run(args: readonly string[], options: ProcessOptions = {}): Promise<Finished> {
  return runProgram([...program(), ...args], options)
}

/** Starts `kvswarm <args>` as a process that stays. */
export function start(t: Test, args: readonly string[], options: ProcessOptions = {}): Running {
  return spawnProgram(t, [...program(), ...args], options)
}

/** A folder with data directories and a configuration: A and B store, X writes, R only reads. */
export interface Lab {
  readonly folder: string
  readonly config: string
  /** Path of a data directory. */
  readonly at: (name: string) => string
  readonly id: Readonly<Record<'a' | 'b' | 'x' | 'r', string>>
}

/** Makes the identities and the configuration of a lab, as a user would. */
export async function makeLab(t: Test): Promise<Lab> {
  const folder = tmpdir(t)
  const at = (name: string): string => join(folder, name)
  const ids: Record<string, string> = {}
  for (const name of ['a', 'b', 'x', 'r']) {
    const { stdout } = await inProcess(['id', '-d', at(name)])
    ids[name] = stdout.trim()
  }
  const { a, b, x, r } = ids
  if (!a || !b || !x || !r) throw new Error('no ids')
  const init = await inProcess(['init', `--capacity.${a}=5`, `--capacity.${b}=10`, `--writer=${x}`])
  const config = join(folder, 'conf', 'config.json')
  mkdirSync(join(folder, 'conf'))
  writeFileSync(config, init.stdout)
  return { folder, config, at, id: { a, b, x, r } }
}
