/**
 * Waiting in tests: for an event, for a promise, for a condition; always with a bound, and with a
 * message that tells what was waited for. Nothing here waits for a fixed time.
 */
import events, { type EventEmitter } from 'node:events'
import { inspect } from 'node:util'

/** Default of every wait: far above what anything needs, below the runner's limit for a file. */
export const waitDefaultMs = 30_000
/** First pause between two looks of until(); it grows up to the last. */
const pauseFirstMs = 2
const pauseLastMs = 50
/** What a timer can hold; a longer one would fire at once. */
const timerMaxMs = 2 ** 31 - 1

/** How long to wait, and for what. */
export interface Wait {
  /** Milliseconds. @default 30000 */
  readonly timeoutMs?: number | undefined
  /** What is waited for; it completes "waited 30000 ms for …". */
  readonly what?: string | undefined
}

/** The promise's outcome, or an error after `ms` that names `what`. */
export function deadline<T>(promise: PromiseLike<T>, ms: number, what: string): Promise<T> {
  return new Promise((resolve, reject) => {
    const late = (): void => reject(new Error(`waited ${ms} ms for ${what}`))
    const timer = setTimeout(late, Math.min(ms, timerMaxMs))
    promise.then(
      (value) => {
        clearTimeout(timer)
        resolve(value)
      },
      (error: unknown) => {
        clearTimeout(timer)
        reject(error instanceof Error ? error : new Error(inspect(error)))
      }
    )
  })
}

/**
 * The arguments of the next `event`. An 'error' event (unless it is the one that is waited for)
 * rejects, and so does the end of the wait.
 */
export function once(emitter: EventEmitter, event: string, wait: Wait = {}): Promise<unknown[]> {
  const { timeoutMs = waitDefaultMs, what = `the event '${event}'` } = wait
  const stop = new AbortController()
  const happened = events.once(emitter, event, { signal: stop.signal })
  return deadline(happened, timeoutMs, what).finally(() => stop.abort())
}

/**
 * Looks again and again until `look` gives something truthy, and resolves with that. What `look`
 * throws at the last look is told, and so is the last value.
 */
export async function until<T>(
  look: () => T | PromiseLike<T>,
  wait: Wait = {}
): Promise<Exclude<Awaited<T>, false | null | undefined | 0 | ''>> {
  const { timeoutMs = waitDefaultMs, what = String(look) } = wait
  const end = performance.now() + timeoutMs
  let last = 'no value yet'
  for (let pauseMs = pauseFirstMs; ; pauseMs = Math.min(pauseMs * 2, pauseLastMs)) {
    try {
      const rest = Math.max(1, end - performance.now())
      const value = await deadline(Promise.resolve(look()), rest, 'one look')
      if (value) return value as Exclude<Awaited<T>, false | null | undefined | 0 | ''>
      last = `last value: ${inspect(value)}`
    } catch (error) {
      last = `last look: ${error instanceof Error ? error.message : inspect(error)}`
    }
    if (performance.now() >= end) throw new Error(`waited ${timeoutMs} ms for ${what}; ${last}`)
    await new Promise((resolve) => {
      setTimeout(resolve, pauseMs)
    })
  }
}
