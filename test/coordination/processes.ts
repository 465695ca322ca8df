/** Real processes that share a data directory (child.ts), as objects with calls. */
import { type ChildProcess, fork } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { fileURLToPath } from 'node:url'
import type { Test } from 'tape'
import type { Message } from './child.ts'
import { cleanup } from '../helpers/cleanup.ts'
import { until } from '../helpers/events.ts'

/** One process. */
export interface Sharer {
  readonly pid: number
  readonly seats: readonly string[]
  readonly warnings: readonly string[]
  readonly stopped: boolean
  readonly ended: boolean
  call(call: Message['call'], rest?: Partial<Message>): Promise<unknown>
  put(key: string, value: string, rest?: Partial<Message>): Promise<unknown>
  kill(signal?: NodeJS.Signals): Promise<void>
}

/** How it opens the directory. */
export interface SharerOptions {
  readonly mode?: 'auto' | 'required' | 'single'
  readonly lockTimeoutMs?: number
  readonly config?: string
  readonly env?: Readonly<Record<string, string>>
}

interface Report {
  readonly id?: number
  readonly value?: unknown
  readonly error?: object
  readonly seat?: string
  readonly warning?: string
  readonly stop?: boolean
  readonly up?: boolean
}

const path = fileURLToPath(new URL('child.ts', import.meta.url))

/** Starts a process; it opens nothing before `call('open')`. */
export async function startSharer(
  t: Test,
  directory: string,
  options: SharerOptions = {}
): Promise<Sharer> {
  const { mode = 'auto', lockTimeoutMs = 20_000, config = '', env = {} } = options
  const child: ChildProcess = fork(path, [directory, mode, String(lockTimeoutMs), config], {
    execArgv: ['--import', 'tsx'],
    env: { ...process.env, ...env },
    stdio: ['ignore', 'inherit', 'inherit', 'ipc']
  })
  cleanup(t, () => child.kill('SIGKILL'))
  const pending = new Map<number, { resolve: (v: unknown) => void; reject: (e: Error) => void }>()
  const seats: string[] = []
  const warnings: string[] = []
  let stopped = false
  let ended = false
  let up = false
  let next = 1
  child.on('message', (report: Report) => {
    if (report.up === true) up = true
    if (report.seat !== undefined) seats.push(report.seat)
    if (report.warning !== undefined) warnings.push(report.warning)
    if (report.stop === true) stopped = true
    const call = pending.get(report.id ?? 0)
    if (call === undefined) return
    pending.delete(report.id as number)
    if (report.error === undefined) call.resolve(report.value)
    else call.reject(Object.assign(new Error('in the process'), report.error))
  })
  child.once('exit', () => {
    ended = true
    for (const { reject } of pending.values()) reject(new Error('the process ended'))
  })
  await until(() => up || ended, { what: 'the process to be up' })
  const call = (name: Message['call'], rest: Partial<Message> = {}): Promise<unknown> =>
    new Promise((resolve, reject) => {
      const id = next++
      pending.set(id, { resolve, reject })
      child.send({ ...rest, id, call: name })
    })
  return {
    pid: child.pid as number,
    seats,
    warnings,
    get stopped() {
      return stopped
    },
    get ended() {
      return ended
    },
    call,
    put: (key, value, rest = {}) =>
      call('put', { key, value, request: randomBytes(16).toString('hex'), ...rest }),
    kill: async (signal = 'SIGKILL') => {
      child.kill(signal)
      await until(() => ended, { what: `the end of process ${child.pid}` })
    }
  }
}
