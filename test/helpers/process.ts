/**
 * Real processes for tests: the kvswarm command, and any other program.
 *
 * - Each gets a process group of its own and a mark; after the test it is killed with everything that
 *   it started, wherever that has gone.
 * - The environment holds none of the caller's KVSWARM_… settings, so that a test depends on its own.
 * - The command runs as built (dist/), or with KVSWARM_TEST_SOURCE=1 from the sources.
 */
import { spawn } from 'node:child_process'
import { existsSync } from 'node:fs'
import { createRequire } from 'node:module'
import { fileURLToPath, pathToFileURL } from 'node:url'
import type { Test } from 'tape'
import {
  cleanEnvironment,
  endMarked,
  newMark,
  processesMarked,
  signalProcess,
  withMark
} from '../../scripts/processes.ts'
import { cleanup } from './cleanup.ts'
import { deadline, waitDefaultMs } from './events.ts'

const root = fileURLToPath(new URL('../..', import.meta.url))
/** The loader as a URL, since a child may run in any folder. */
const tsx = pathToFileURL(createRequire(import.meta.url).resolve('tsx')).href
/** How long the output may stay open (held by something it started) after the process has ended. */
const outputGraceMs = 1_000

/** What a process may be given. */
export interface ProcessOptions {
  /** Added to the environment; undefined removes a variable. */
  readonly env?: Readonly<Record<string, string | undefined>> | undefined
  /** @default the root of the repository */
  readonly cwd?: string | undefined
  /** Written to stdin, which is then closed; unset: stdin is empty. */
  readonly input?: string | Uint8Array | undefined
  /** Runs as this user (needs root). */
  readonly uid?: number | undefined
  readonly gid?: number | undefined
}

/** How a process ended: with a code, or by a signal. */
export interface Exit {
  readonly code: number | null
  readonly signal: NodeJS.Signals | null
}

/** A running process. */
export interface Running {
  readonly pid: number
  /** What it has printed so far. */
  readonly stdout: string
  readonly stderr: string
  readonly stdoutBytes: Buffer
  /**
   * Line `n` of stdout, from 0, as soon as it is complete.
   * Rejects when the process ends before, or after `timeoutMs` (30000 by default).
   */
  line(n?: number, timeoutMs?: number): Promise<string>
  /** Resolves when it has ended and its output is complete. */
  readonly exit: Promise<Exit>
  /** Signals the process alone, not its children. @default 'SIGTERM' */
  kill(signal?: NodeJS.Signals): void
}

/** What a finished process gave. */
export interface Finished extends Exit {
  readonly stdout: string
  readonly stderr: string
  readonly stdoutBytes: Buffer
  /** From its start to its end. */
  readonly ms: number
}

const nothing = (): void => {}
const running = new Map<number, string>()
process.on('exit', () => {
  for (const [pid, mark] of running) {
    signalProcess(-pid, 'SIGKILL')
    for (const found of processesMarked(mark)) signalProcess(found.pid, 'SIGKILL')
  }
})

/** The program and first arguments that are the kvswarm command. */
export function commandLine(): string[] {
  if (process.env['KVSWARM_TEST_SOURCE'] === '1') {
    return [process.execPath, '--import', tsx, `${root}bin/kvswarm.ts`]
  }
  const built = `${root}dist/bin/kvswarm.js`
  if (existsSync(built)) return [process.execPath, built]
  throw new Error('dist/bin/kvswarm.js is missing: npm run build, or set KVSWARM_TEST_SOURCE=1')
}

function start(command: readonly string[], options: ProcessOptions): Running & { mark: string } {
  const [program, ...args] = command
  if (program === undefined) throw new Error('no program to start')
  const mark = newMark()
  const env: NodeJS.ProcessEnv = { ...cleanEnvironment(), ...options.env }
  const child = spawn(program, args, {
    cwd: options.cwd ?? root,
    detached: true,
    env: withMark(env, mark),
    stdio: ['pipe', 'pipe', 'pipe'],
    ...(options.uid === undefined ? {} : { uid: options.uid }),
    ...(options.gid === undefined ? {} : { gid: options.gid })
  })
  const shown = command.join(' ')
  const { pid } = child
  if (pid !== undefined) running.set(pid, mark)
  child.stdin.on('error', nothing) // it ended without reading: its exit tells
  child.stdin.end(options.input)

  const out: Buffer[] = []
  const err: Buffer[] = []
  const watchers = new Set<() => void>()
  const changed = (): void => watchers.forEach((watch) => watch())
  child.stdout.on('data', (chunk: Buffer) => {
    out.push(chunk)
    changed()
  })
  child.stderr.on('data', (chunk: Buffer) => err.push(chunk))

  let ended: Exit | null = null
  const exit = new Promise<Exit>((resolve, reject) => {
    child.once('error', reject)
    child.once('close', (code, signal) => {
      ended = { code, signal }
      if (pid !== undefined) running.delete(pid)
      changed()
      resolve(ended)
    })
  })
  exit.catch(nothing) // told to those who wait for it
  child.once('exit', () => {
    const timer = setTimeout(() => {
      child.stdout.destroy()
      child.stderr.destroy()
    }, outputGraceMs)
    child.once('close', () => clearTimeout(timer))
  })

  const stdout = (): string => Buffer.concat(out).toString()
  const stderr = (): string => Buffer.concat(err).toString()
  const line = (n = 0, timeoutMs = waitDefaultMs): Promise<string> => {
    let watch = nothing
    const found = new Promise<string>((resolve, reject) => {
      watch = () => {
        const lines = stdout().split('\n')
        if (n < lines.length - 1) resolve(lines[n] as string)
        else if (ended !== null) {
          const how = ended.signal ?? `code ${ended.code}`
          reject(new Error(`'${shown}' ended (${how}) before line ${n}; stderr: ${stderr()}`))
        }
      }
      child.once('error', reject)
      watchers.add(watch)
      watch()
    })
    const what = `line ${n} of '${shown}'`
    return deadline(found, timeoutMs, what)
      .catch((error: Error) => {
        throw new Error(`${error.message}; stdout: ${stdout()}; stderr: ${stderr()}`)
      })
      .finally(() => watchers.delete(watch))
  }

  return {
    mark,
    pid: pid ?? 0,
    get stdout() {
      return stdout()
    },
    get stderr() {
      return stderr()
    },
    get stdoutBytes() {
      return Buffer.concat(out)
    },
    line,
    exit,
    kill: (signal = 'SIGTERM') => {
      if (pid !== undefined && ended === null) child.kill(signal)
    }
  }
}

/** Kills it with all that it started. A group whose leader has gone is found by the mark alone. */
async function endAll({ pid, mark }: Running & { mark: string }): Promise<void> {
  if (running.has(pid)) signalProcess(-pid, 'SIGKILL')
  await endMarked(mark, 0)
}

/** Starts any program. After the test it is killed with all that it started. */
export function spawnProgram(
  t: Test,
  command: readonly string[],
  options: ProcessOptions = {}
): Running {
  const started = start(command, options)
  cleanup(t, async () => {
    await endAll(started)
    await started.exit.catch(nothing) // it could not be started: `exit` has told
  })
  return started
}

/** Starts a TypeScript file of this repository, given by its path from the root. */
export function spawnSource(
  t: Test,
  file: string,
  args: readonly string[] = [],
  options: ProcessOptions = {}
): Running {
  return spawnProgram(t, [process.execPath, '--import', tsx, `${root}${file}`, ...args], options)
}

/** Starts `kvswarm <args>`. After the test it is killed with all that it started. */
export function spawnKvswarm(
  t: Test,
  args: readonly string[],
  options: ProcessOptions = {}
): Running {
  return spawnProgram(t, [...commandLine(), ...args], options)
}

/** Runs any program to its end; after `timeoutMs` (60000 by default) it is killed, and rejects. */
export async function runProgram(
  command: readonly string[],
  options: ProcessOptions & { readonly timeoutMs?: number | undefined } = {}
): Promise<Finished> {
  const from = performance.now()
  const started = start(command, options)
  try {
    const { timeoutMs = 60_000 } = options
    const { code, signal } = await deadline(started.exit, timeoutMs, `'${command.join(' ')}'`)
    const { stdout, stderr, stdoutBytes } = started
    return { code, signal, stdout, stderr, stdoutBytes, ms: performance.now() - from }
  } catch (error) {
    const message = error instanceof Error ? error.message : String(error)
    throw new Error(`${message}; stdout: ${started.stdout}; stderr: ${started.stderr}`, {
      cause: error
    })
  } finally {
    await endAll(started)
  }
}

/** Runs `kvswarm <args>` to its end, as runProgram() does. */
export function run(
  args: readonly string[],
  options: ProcessOptions & { readonly timeoutMs?: number | undefined } = {}
): Promise<Finished> {
  return runProgram([...commandLine(), ...args], options)
}
