/**
 * Waiting: the one rule of timeouts (0 = at once, Infinity = for ever), AbortSignals, and waiting for a
 * condition that somebody announces. Timers are monotonic; nothing polls.
 */
import { KVSwarmError } from './errors.ts'
import type { WaitOptions } from './ports.ts'

/** Node's longest timer (24.8 days); a longer one would fire at once, and such a wait is as good as for ever. */
export const timerMsMax: number = 2 ** 31 - 1

/** @throws INVALID_ARGUMENT when the timeout is not a number of milliseconds from 0 to Infinity */
export function checkTimeout(timeout: number | undefined, fallback: number): number {
  const value = timeout ?? fallback
  if (typeof value !== 'number' || Number.isNaN(value) || value < 0) {
    throw new KVSwarmError('INVALID_ARGUMENT', `timeout is ${String(value)}`, {
      hint: 'give milliseconds from 0 (at once) to Infinity (for ever)'
    })
  }
  return value
}

export function abortedError(signal: AbortSignal, what: string): KVSwarmError {
  // The node's own end comes as a reason of ours.
  if (signal.reason instanceof KVSwarmError) return signal.reason
  return new KVSwarmError('ABORTED', `${what} was aborted`, { cause: signal.reason })
}

/**
 * Resolves when `condition()` holds; it is asked at once and whenever `subscribe`'s listener is called.
 * What the condition throws ends the wait.
 * @throws what `onTimeout` makes when the time is over; ABORTED when the signal fires
 */
export function waitFor(
  condition: () => boolean,
  subscribe: (listener: () => void) => () => void,
  { timeout = Infinity, signal }: WaitOptions,
  onTimeout: () => Error
): Promise<void> {
  return new Promise((resolve, reject) => {
    let timer: ReturnType<typeof setTimeout> | null = null
    let unsubscribe: (() => void) | null = null
    let done = false
    const end = (error: Error | null): void => {
      if (done) return
      done = true
      if (timer) clearTimeout(timer)
      signal?.removeEventListener('abort', onAbort)
      unsubscribe?.()
      if (error) reject(error)
      else resolve()
    }
    const onAbort = (): void => end(abortedError(signal as AbortSignal, 'the wait'))
    const check = (): void => {
      if (done) return
      try {
        if (condition()) end(null)
      } catch (error) {
        end(error as Error)
      }
    }
    check()
    if (done) return
    if (signal?.aborted) return onAbort()
    if (timeout <= 0) return end(onTimeout())
    unsubscribe = subscribe(check)
    signal?.addEventListener('abort', onAbort, { once: true })
    if (timeout < timerMsMax) timer = setTimeout(() => end(onTimeout()), timeout)
    // What happened between the first look and the subscription.
    check()
  })
}

/** What is left of a timeout that began at `started` (both in the milliseconds of `performance.now()`). */
export function remaining(timeout: number, started: number): number {
  return timeout === Infinity ? Infinity : Math.max(0, timeout - (performance.now() - started))
}

/** Resolves after `ms`, or at once when the signal fires. */
export function pause(ms: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal?.aborted) return resolve()
    const done = (): void => {
      clearTimeout(timer)
      signal?.removeEventListener('abort', done)
      resolve()
    }
    const timer = setTimeout(done, ms)
    signal?.addEventListener('abort', done, { once: true })
  })
}
