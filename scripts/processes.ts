/**
 * Finds and ends the processes that a test has started, also those that left its process group.
 *
 * - Every child gets a mark in its environment, which its own children inherit; marks nest (a test of
 *   the test runner), so the variable holds a list.
 * - A process is looked for by its mark in /proc. Where there is no /proc, only process groups are
 *   ended.
 * - Nothing is ever ended by its name.
 */
import { randomBytes } from 'node:crypto'
import { readdirSync, readFileSync } from 'node:fs'
import { setTimeout as wait } from 'node:timers/promises'

const markVariable = 'KVSWARM_TEST_MARK'
/** Between two looks for processes that are just ending. */
const lookMs = 25
/** A killed process is gone by then; one that is not hangs in the kernel. */
const killedMs = 10_000

/** A process that carries a mark. */
export interface MarkedProcess {
  readonly pid: number
  /** Its command line, for messages. */
  readonly command: string
}

/** A mark that no other run has. */
export function newMark(): string {
  return randomBytes(8).toString('hex')
}

/** `env` with `mark` added to the marks that it has already. */
export function withMark(env: NodeJS.ProcessEnv, mark: string): NodeJS.ProcessEnv {
  const outer = env[markVariable]
  return { ...env, [markVariable]: outer === undefined ? mark : `${outer},${mark}` }
}

/** The environment of this process without kvswarm's own settings (KVSWARM_TEST_… is kept). */
export function cleanEnvironment(): NodeJS.ProcessEnv {
  const entries = Object.entries(process.env).filter(
    ([name]) => !name.startsWith('KVSWARM_') || name.startsWith('KVSWARM_TEST_')
  )
  return Object.fromEntries(entries)
}

/** All living processes with the mark, but this one. */
export function processesMarked(mark: string): MarkedProcess[] {
  let names: string[]
  try {
    names = readdirSync('/proc')
  } catch {
    return []
  }
  return names
    .filter((name) => /^\d+$/.test(name) && Number(name) !== process.pid)
    .flatMap((name) => {
      try {
        const marks = readFileSync(`/proc/${name}/environ`, 'latin1')
          .split('\0')
          .find((line) => line.startsWith(`${markVariable}=`))
        if (
          !marks
            ?.slice(markVariable.length + 1)
            .split(',')
            .includes(mark)
        )
          return []
        const command = readFileSync(`/proc/${name}/cmdline`, 'utf8').split('\0').join(' ').trim()
        return [{ pid: Number(name), command }]
      } catch {
        return [] // ended meanwhile, or another user's
      }
    })
}

/** Sends a signal to one process or, with a negative id, to its group; one that has ended is fine. */
export function signalProcess(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(pid, signal)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error
  }
}

/**
 * Gives the marked processes `graceMs` to end by themselves, and kills those that do not.
 * Resolves with what had to be killed, when all are gone.
 */
export async function endMarked(mark: string, graceMs: number): Promise<MarkedProcess[]> {
  const deadline = performance.now() + graceMs
  let left = processesMarked(mark)
  while (left.length > 0 && performance.now() < deadline) {
    await wait(lookMs)
    left = processesMarked(mark)
  }
  const killed = new Map<number, MarkedProcess>()
  while (left.length > 0) {
    for (const found of left) {
      killed.set(found.pid, found)
      signalProcess(found.pid, 'SIGKILL')
    }
    await wait(lookMs)
    left = processesMarked(mark)
    if (performance.now() > deadline + killedMs) {
      throw new Error(`cannot be killed: ${left.map((found) => found.command).join('; ')}`)
    }
  }
  return [...killed.values()]
}
