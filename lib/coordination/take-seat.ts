/**
 * How a process comes to a data directory: try the holder's socket; else try the lock; else wait 30 to
 * 70 ms and try again, until the deadline.
 */
import { HolderClient } from './client.ts'
import { matchConfig } from './config-match.ts'
import { HolderGone } from './exchange.ts'
import { HolderSeat } from './holder.ts'
import { helloTimeoutMinMs, helloTimeoutMs } from './limits.ts'
import { DirectoryLock, type Sidecar, readSidecar } from './lock.ts'
import type { Seat } from './seat.ts'
import { isTrustedSocket, socketPaths } from './socket-path.ts'
import { lockRetryMaxMs, lockRetryMinMs } from '../../config/limits.ts'
import { announceWaiter } from './waiters.ts'
import { KVSwarmError, isKVSwarmError } from '../errors.ts'
import type { Engine } from '../ports.ts'
import { pause } from '../wait.ts'

/** What the way to a seat needs to know. */
export interface SeatOptions {
  /** Absolute and without links. */
  readonly directory: string
  readonly mode: 'auto' | 'required' | 'single'
  readonly version: string
  readonly openEngine: (configText: string | null) => Promise<Engine>
  readonly onWarning: (message: string) => void
  readonly onStop: () => void
  readonly onConfig: (text: string) => void
}

/** One try to get a seat. */
export interface Attempt {
  /** This handle's newest configuration. */
  readonly configText: string | null
  /** True until this handle has had a seat. */
  readonly first: boolean
  /** How long to wait for the directory, milliseconds. */
  readonly timeoutMs: number
  readonly signal: AbortSignal
}

/**
 * @throws DATADIR_IN_USE when it is held and its holder answers nobody; CLOSED when the signal fires;
 *   CONFIG_CONFLICT, CONFIG_STALE; what opening the engine throws
 */
export async function takeSeat(options: SeatOptions, attempt: Attempt): Promise<Seat> {
  const { directory, mode } = options
  const deadline = performance.now() + attempt.timeoutMs
  let busy: KVSwarmError | null = null
  let waited: (() => Promise<void>) | null = null
  try {
    for (;;) {
      if (attempt.signal.aborted) throw new KVSwarmError('CLOSED', 'the store was closed meanwhile')
      const sidecar = await readSidecar(directory)
      if (mode !== 'single') {
        const client = await attach(options, attempt, sidecar, deadline - performance.now())
        if (client !== null) return client
      }
      const lock = await DirectoryLock.tryAcquire(directory)
      if (lock !== null) {
        try {
          return await hold(options, attempt, lock)
        } catch (error) {
          // Held in spite of the lock: by a process whose sidecar was deleted.
          if (!isKVSwarmError(error, 'DATADIR_IN_USE')) throw error
          busy = error
        }
      }
      const left = deadline - performance.now()
      if (mode === 'single' || left <= 0)
        throw busy ?? inUse(directory, await readSidecar(directory))
      waited ??= await announceWaiter(directory)
      await pause(Math.min(left, retryMs()), attempt.signal)
    }
  } finally {
    await waited?.()
  }
}

/** How long to wait before the next try. */
export function retryMs(): number {
  return lockRetryMinMs + Math.random() * (lockRetryMaxMs - lockRetryMinMs)
}

async function hold(options: SeatOptions, attempt: Attempt, lock: DirectoryLock): Promise<Seat> {
  const { mode, openEngine } = options
  const open = async (): Promise<Engine> => {
    if (mode === 'required' && !(await lock.isProven())) {
      throw new KVSwarmError('IO_ERROR', `files in ${options.directory} cannot be locked`, {
        hint: 'keep the data directory on a local disk'
      })
    }
    try {
      return await openEngine(attempt.configText)
    } catch (error) {
      // The node moved on under another process; what it has adopted holds.
      if (attempt.first || !isKVSwarmError(error, 'CONFIG_STALE')) throw error
      return await openEngine(null)
    }
  }
  return await HolderSeat.open(lock, open, {
    ...options,
    serve: mode !== 'single',
    mustServe: mode === 'required'
  })
}

/** A client of the present holder, or null when nobody answers. */
async function attach(
  options: SeatOptions,
  attempt: Attempt,
  sidecar: Sidecar | null,
  leftMs: number
): Promise<Seat | null> {
  const { directory, onConfig } = options
  const paths = new Set([...(sidecar?.socket ? [sidecar.socket] : []), ...socketPaths(directory)])
  for (const path of paths) {
    if (!(await isTrustedSocket(directory, path))) continue
    const client = new HolderClient(path)
    try {
      const guardMs = Math.min(helloTimeoutMs, Math.max(leftMs, helloTimeoutMinMs))
      const { config } = await client.hello(guardMs, attempt.signal)
      const own = attempt.configText
      if (own !== null && (await matchConfig(own, config, attempt.first)) === 'offer') {
        await client.setConfig(own, Math.max(leftMs, helloTimeoutMs))
      } else if (config !== null) onConfig(config)
      return client
    } catch (error) {
      await client.close()
      // Nobody there, or silent: the lock tells whether somebody holds the directory.
      if (!(error instanceof HolderGone) && !isKVSwarmError(error, 'TIMEOUT', 'ABORTED'))
        throw error
    }
  }
  return null
}

/** The error for a directory whose holder serves nobody. */
export function inUse(directory: string, sidecar: Sidecar | null): KVSwarmError {
  if (sidecar === null) {
    return new KVSwarmError(
      'DATADIR_IN_USE',
      `the data directory ${directory} is held by another process, which does not say who it is`,
      { hint: 'wait until it has ended' }
    )
  }
  const { pid, roles, since, state } = sidecar
  const since8601 = new Date(since).toISOString()
  const doing = roles.length === 0 ? 'no role' : `role ${roles.join(' and ')}`
  const why =
    state === 'serving'
      ? 'does not answer'
      : state === 'alone'
        ? 'serves no other processes'
        : `is ${state}`
  return new KVSwarmError(
    'DATADIR_IN_USE',
    `the data directory ${directory} is held by process ${pid} (${doing}, since ${since8601}), which ${why}`,
    {
      hint: `wait until process ${pid} has ended, or end it`,
      data: { pid, roles, since, state }
    }
  )
}
