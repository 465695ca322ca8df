/** Callbacks beside promises, as the original API documents them: the last argument, called once. */
import type { KVSwarmError } from './errors.ts'

export type Callback<T = void> = (error: KVSwarmError | null, value?: T) => void

/**
 * Gives the outcome of a call to its callback, if there is one, and the promise in any case. With a callback the
 * promise never rejects unhandled; what the callback throws is an uncaught exception, as it is everywhere.
 */
export function settle<T>(promise: Promise<T>, callback: Callback<T> | undefined): Promise<T> {
  if (callback === undefined) return promise
  promise.then(
    (value) => queueMicrotaskOutside(() => callback(null, value)),
    (error: unknown) => queueMicrotaskOutside(() => callback(error as KVSwarmError))
  )
  return promise
}

/** Outside of any promise, so that an exception of the callback is not swallowed. */
function queueMicrotaskOutside(call: () => void): void {
  process.nextTick(call)
}

/** Splits `(options, callback)`, `(callback)` and `(options)`. */
export function optionsAndCallback<O extends object, T>(
  options: O | Callback<T> | null | undefined,
  callback: Callback<T> | undefined
): [O | undefined, Callback<T> | undefined] {
  if (typeof options === 'function') return [undefined, options]
  return [options ?? undefined, callback]
}
