/**
 * From put to outbox: the flushes that carry the write cache into the outboxes.
 *
 * Invariants:
 * - one write is under way at a time, and what of it failed stands in front of everything that is written next:
 *   so one writer's operations never change order (P4);
 * - a write whose outcome is not known is asked for again, by its request id, before anything else is written;
 * - no flush waits for another's ack or receipt, only for its append;
 * - what write() was called with is written or reported, never both: it does not stay in the cache when it failed.
 */
import { randomBytes } from 'node:crypto'
import type { Taken, WriteCache } from './cache.ts'
import { type ErrorCode, isKVSwarmError, KVSwarmError } from './errors.ts'
import type { Engine, OnFull, WaitOptions } from './ports.ts'
import type { FlushResult, Operation } from './types.ts'
import { abortedError, remaining, timerMsMax } from './wait.ts'
import { decodeFlushId } from './wire/flush-id.ts'

/** How a call of flush() waits. */
export interface FlushWait {
  /** Milliseconds from the call, or from when the store is open. */
  readonly timeout: number
  readonly signal: AbortSignal | undefined
  readonly ack: boolean
  readonly receipt: boolean
}

/** When writes are begun, and what a full queue means to them. */
export interface FlushesOptions {
  /** @default as the engine was opened */
  readonly onFull?: OnFull | undefined
  /** Writes of write() wait for each other: until there are so many, or until the first is so old. @default never */
  readonly group?: { readonly size: number; readonly ms: number } | undefined
}

/** One call of flush() or write() whose operations are not known to be in an outbox. */
interface Waiter extends FlushWait {
  /** It means every operation with a place below this one. */
  readonly end: number
  /** The place of its one operation, when it is a call of write(); else null. */
  readonly own: number | null
  /** When it came, in the milliseconds of `performance.now()`. */
  readonly came: number
  readonly resolve: (result: FlushResult) => void
  readonly reject: (error: unknown) => void
  readonly onAbort: () => void
  /** When its timeout began to run, in the milliseconds of `performance.now()`. */
  started: number
  timer: NodeJS.Timeout | undefined
  /** What is being asked of the engine for it. */
  call: Call | null
  /** Why it would wait no longer, when it is the only one and the outcome is still to come. */
  left: KVSwarmError | null
}

/** A write that was asked of the engine, for everybody who waits for it. */
interface Call {
  /** True: an earlier write is asked for again; the waiters' own operations are still in the cache. */
  readonly resend: boolean
  readonly waiters: Set<Waiter>
  readonly aborter: AbortController
}

/** A write as it is sent, and sent again. */
interface Batch {
  readonly request: Uint8Array
  readonly taken: Taken
}

/**
 * What an engine that looked for a write which was sent before answers, when it is not there. Any other answer
 * (no holder, no time, disk full) leaves open what became of the first one. Non-answers of our own making that
 * would come for ever are among them: going on is better than standing still.
 */
const definiteOfResend: ReadonlySet<ErrorCode> = new Set<ErrorCode>([
  'NOT_WRITER',
  'INVALID_ARGUMENT',
  'KEY_INVALID',
  'KEY_TOO_LARGE',
  'VALUE_INVALID',
  'VALUE_TOO_LARGE',
  'CORRUPT',
  'INTERNAL',
  // Looked for first, and not found: it waits for room, or would have to.
  'QUEUE_FULL'
])

/**
 * The flushes of one store. Calls that come while a write is under way are put together into the next one
 * (group commit), each for everything that was put before it.
 */
export class Flushes {
  readonly #cache: WriteCache
  readonly #open: () => Promise<Engine>
  #waiting: Waiter[] = []
  #pumping = false
  readonly #options: FlushesOptions
  /** Places of operations of write() that are not known to be written. */
  readonly #owned = new Set<number>()
  /** Ends the wait for more of a group. */
  #gathered: (() => void) | null = null
  #engine: Engine | null = null
  #uncertain: Batch | null = null

  /** @param open resolves with the engine when the store is open, and rejects when it cannot be opened */
  constructor(cache: WriteCache, open: () => Promise<Engine>, options: FlushesOptions = {}) {
    this.#cache = cache
    this.#open = open
    this.#options = options
  }

  /** Calls that wait to be written. */
  get waiting(): number {
    return this.#waiting.length
  }

  /** True when something may not be in an outbox. */
  get pending(): boolean {
    return this.#cache.size > 0 || this.#uncertain !== null || this.#waiting.length > 0
  }

  /**
   * Resolves when everything that is in the cache at the call is in the outboxes, or acked or receipted as asked
   * for. The result is that of the write, which may hold operations of other calls too.
   * @throws as Engine.write and, with `durable: true` and the flush's id, as Engine.receipt
   */
  async flush(wait: FlushWait): Promise<FlushResult> {
    if (wait.signal?.aborted) throw abortedError(wait.signal, 'the flush')
    return await this.#join(wait, null)
  }

  /**
   * Puts one operation behind everything in the cache, and resolves when it is in the outboxes, or as flush().
   * When it fails the operation is gone; with `data.uncertain` it may be written all the same, once.
   * @throws as flush(); CACHE_FULL, at once
   */
  write(operation: Operation, wait: FlushWait): Promise<FlushResult> {
    if (wait.signal?.aborted) return Promise.reject(abortedError(wait.signal, 'the write'))
    const place = this.#cache.add(operation)
    this.#owned.add(place)
    return this.#join(wait, place)
  }

  async #join(wait: FlushWait, own: number | null): Promise<FlushResult> {
    const { signal } = wait
    let started = performance.now()
    const result = await new Promise<FlushResult>((resolve, reject) => {
      const waiter: Waiter = {
        ...wait,
        end: this.#cache.end,
        own,
        came: started,
        resolve: (value) => {
          started = waiter.started
          this.#forget(waiter)
          resolve(value)
        },
        reject: (error) => {
          this.#forget(waiter)
          reject(error instanceof Error ? error : new Error(String(error)))
        },
        onAbort: () => this.#leave(waiter, abortedError(signal as AbortSignal, 'the flush')),
        started,
        timer: undefined,
        call: null,
        left: null
      }
      signal?.addEventListener('abort', waiter.onAbort, { once: true })
      this.#waiting.push(waiter)
      if (this.#engine) this.#arm(waiter)
      if (own === null || this.#waiting.length >= (this.#options.group?.size ?? 0)) {
        this.#gathered?.()
      }
      if (this.#pumping) return
      this.#pumping = true
      void this.#pump()
    })
    if (result.id !== '' && (wait.ack || wait.receipt)) await this.#settled(result, wait, started)
    return result
  }

  async #settled({ id }: FlushResult, wait: FlushWait, started: number): Promise<void> {
    const { timeout, signal, receipt } = wait
    const options: WaitOptions = { timeout: remaining(timeout, started), signal }
    try {
      await (this.#engine as Engine).receipt(id, { ...options, ack: !receipt })
    } catch (error) {
      throw behindAppend(error, id)
    }
  }

  /** Writes until nobody waits. Never rejects. */
  async #pump(): Promise<void> {
    try {
      // Calls of the same turn of the event loop share the first write.
      const engine = await this.#open()
      if (this.#engine === null) {
        this.#engine = engine
        for (const waiter of this.#waiting) this.#arm(waiter)
      }
    } catch (error) {
      const waiters = this.#waiting.splice(0)
      this.#disown(waiters)
      for (const waiter of waiters) waiter.reject(error)
      this.#pumping = false
      return
    }
    while (this.#waiting.length > 0) {
      await this.#gather()
      if (this.#uncertain === null) await this.#write(this.#engine)
      else await this.#resend(this.#engine, this.#uncertain)
    }
    this.#pumping = false
  }

  /** Waits for more of a group; not for one that is alone, nor when somebody flushes. */
  async #gather(): Promise<void> {
    const { group } = this.#options
    const waiting = this.#waiting
    const first = waiting[0]
    if (group === undefined || first === undefined) return
    if (waiting.length === 1 || waiting.length >= group.size) return
    if (waiting.some(({ own }) => own === null)) return
    const rest = first.came + group.ms - performance.now()
    if (rest <= 0) return
    await new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, rest)
      this.#gathered = () => {
        clearTimeout(timer)
        resolve()
      }
    })
    this.#gathered = null
  }

  /** One write for all who wait. */
  async #write(engine: Engine): Promise<void> {
    const waiters = this.#waiting
    this.#waiting = []
    const taken = this.#cache.take(waiters.at(-1)?.end ?? 0)
    if (taken.operations.length === 0) {
      for (const waiter of waiters) waiter.resolve({ id: '', operations: 0, parts: [] })
      return
    }
    const batch: Batch = { request: randomBytes(16), taken }
    const call = callFor(waiters, false)
    try {
      const result = await this.#send(engine, batch, call)
      this.#cache.settle(taken, [])
      for (const place of taken.places) this.#owned.delete(place)
      for (const waiter of call.waiters) waiter.resolve(result)
    } catch (error) {
      this.#keep(batch, error, false)
      const partial = writtenOf(error)
      const unwritten = unwrittenOf(error)
      const stay = this.#uncertain === null && isLeft(call, error)
      const failed: Waiter[] = []
      const again: Waiter[] = []
      for (const waiter of call.waiters) {
        if (partial && isWritten(taken, unwritten, waiter)) waiter.resolve(partial)
        else if (stay && waiter.left === null) again.push(waiter)
        else failed.push(waiter)
      }
      // Nothing was written, since one of them left: the others are written without it.
      for (const waiter of again) waiter.call = null
      this.#waiting = [...again, ...this.#waiting]
      if (this.#uncertain === null) this.#disown(failed)
      for (const waiter of failed) waiter.reject(outcomeOf(waiter, error))
    }
  }

  /** Their operations are not written, and are not to be. */
  #disown(waiters: readonly Waiter[]): void {
    const places = new Set(waiters.map(({ own }) => own).filter((own) => own !== null))
    this.#cache.drop(places)
    for (const place of places) this.#owned.delete(place)
  }

  /** Asks again for a write whose outcome is not known. What is now known not to be written leads the next one. */
  async #resend(engine: Engine, batch: Batch): Promise<void> {
    const call = callFor(this.#waiting, true)
    try {
      await this.#send(engine, batch, call)
      this.#uncertain = null
      this.#cache.settle(batch.taken, [])
      for (const place of batch.taken.places) this.#owned.delete(place)
    } catch (error) {
      this.#keep(batch, error, true)
      if (this.#uncertain === null) {
        // Who put them was told that nobody knew; now it is known that they are not written, and they stay so.
        const owned = new Set(batch.taken.places.filter((place) => this.#owned.has(place)))
        this.#cache.drop(owned)
        for (const place of owned) this.#owned.delete(place)
        return
      }
      // Nothing may be written before its outcome is known.
      this.#waiting = this.#waiting.filter((waiter) => !call.waiters.has(waiter))
      this.#disown([...call.waiters])
      for (const waiter of call.waiters) waiter.reject(error)
    }
  }

  /** The callers' own timeouts and signals end it, through the call's. */
  #send(engine: Engine, { request, taken }: Batch, call: Call): Promise<FlushResult> {
    const { operations } = taken
    const retry = call.resend ? { retry: true } : {}
    const { onFull } = this.#options
    const wait = {
      timeout: Infinity,
      signal: call.aborter.signal,
      calls: Math.max(1, call.waiters.size),
      ...(onFull === undefined ? {} : { onFull })
    }
    return engine.write({ request, operations, ...retry }, wait)
  }

  /** What of a failed write is not in an outbox goes back, or is asked for again when that is not known. */
  #keep(batch: Batch, error: unknown, resent: boolean): void {
    if (isUnknown(error, resent)) {
      this.#uncertain = batch
      return
    }
    this.#uncertain = null
    const durable = isKVSwarmError(error) && error.durable
    this.#cache.settle(batch.taken, unwrittenOf(error) ?? (durable ? [] : 'all'))
  }

  #arm(waiter: Waiter): void {
    waiter.started = performance.now()
    if (waiter.timeout >= timerMsMax) return
    waiter.timer = setTimeout(() => this.#leave(waiter, timeoutError(waiter)), waiter.timeout)
  }

  #forget(waiter: Waiter): void {
    clearTimeout(waiter.timer)
    waiter.signal?.removeEventListener('abort', waiter.onAbort)
  }

  /** Its time is over, or its signal fired. */
  #leave(waiter: Waiter, error: KVSwarmError): void {
    const { call } = waiter
    if (waiter.left !== null) return
    if (call === null || call.resend) {
      this.#waiting = this.#waiting.filter((other) => other !== waiter)
      this.#disown([waiter])
      waiter.reject(error)
    } else if (call.waiters.size > 1 && waiter.own === null) {
      waiter.reject(sharedError(error))
    } else {
      // Only the engine knows whether it is written by now. Those who share the write with a put that leaves are
      // written again without it, when it was not too late.
      waiter.left = error
      call.aborter.abort(error)
      return
    }
    call?.waiters.delete(waiter)
    if (call?.waiters.size === 0) call.aborter.abort(error)
  }
}

function callFor(waiters: readonly Waiter[], resend: boolean): Call {
  const call: Call = { resend, waiters: new Set(waiters), aborter: new AbortController() }
  for (const waiter of waiters) waiter.call = call
  return call
}

/** Whether an error leaves open what was written. */
function isUnknown(error: unknown, resent: boolean): boolean {
  if (!isKVSwarmError(error)) return !resent
  if (error.data['uncertain'] === true) return true
  if (error.durable) return false
  if (error.code === 'FLUSH_PARTIAL') return unwrittenOf(error) === null
  if (resent) return !definiteOfResend.has(error.code)
  return error.code === 'INTERNAL' || error.code === 'PROTOCOL_ERROR'
}

/** Positions of what a FLUSH_PARTIAL did not write, rising; null for anything else. */
function unwrittenOf(error: unknown): readonly number[] | null {
  if (!isKVSwarmError(error, 'FLUSH_PARTIAL')) return null
  const unwritten: unknown = error.data['unwritten']
  if (!Array.isArray(unwritten)) return null
  const positions: unknown[] = unwritten
  return positions
    .filter((at) => Number.isSafeInteger(at))
    .map(Number)
    .toSorted((a, b) => a - b)
}

/** The result for those of a FLUSH_PARTIAL whose own operations were all written. */
function writtenOf(error: unknown): FlushResult | null {
  if (unwrittenOf(error) === null || !isKVSwarmError(error) || !error.flushId) return null
  try {
    const { operations, parts } = decodeFlushId(error.flushId)
    return { id: error.flushId, operations, parts }
  } catch {
    // Of another version of kvswarm: the error itself is told.
    return null
  }
}

function isWritten(
  taken: Taken,
  unwritten: readonly number[] | null,
  { end, own }: Waiter
): boolean {
  if (own !== null) return unwritten?.every((at) => taken.places[at] !== own) ?? false
  const first = unwritten?.[0]
  return first !== undefined && (taken.places[first] ?? 0) >= end
}

/** Whether a write ended, with nothing written, because somebody who shared it left. */
function isLeft({ aborter }: Call, error: unknown): boolean {
  if (!aborter.signal.aborted || !isKVSwarmError(error, 'ABORTED', 'TIMEOUT')) return false
  return !error.durable && error.data['uncertain'] !== true
}

/** What the only caller of a write is told: an abort on its behalf was its timeout, if that was the reason. */
function outcomeOf({ left }: Waiter, error: unknown): unknown {
  // The same error for several who left is not for each of them.
  if (left && isKVSwarmError(error, 'ABORTED', 'TIMEOUT') && error.data['uncertain'] !== true) {
    return left
  }
  if (left?.code !== 'TIMEOUT' || !isKVSwarmError(error, 'ABORTED')) return error
  return new KVSwarmError('TIMEOUT', left.message, {
    hint: left.hint,
    cause: error,
    data: error.data
  })
}

function timeoutError({ timeout, own }: Waiter): KVSwarmError {
  const what = own === null ? 'flush' : 'write'
  return new KVSwarmError('TIMEOUT', `the ${what} was not on disk within ${timeout} ms`, {
    hint:
      own === null
        ? 'its operations stay in the write cache: flush() again'
        : 'nothing of it was written: write it again'
  })
}

function sharedError(error: KVSwarmError): KVSwarmError {
  return new KVSwarmError(error.code, `${error.message}, while its write was under way`, {
    hint: 'its operations are written by now, or stay in the write cache: flush() again to be sure',
    cause: error,
    data: { uncertain: true }
  })
}

/** The operations are on this disk whatever the wait came to; unless it is that which went wrong. */
function behindAppend(error: unknown, flushId: string): unknown {
  if (!isKVSwarmError(error)) {
    return new KVSwarmError('INTERNAL', 'the wait for the storage nodes failed', {
      hint: 'kv.receipt(flushId) waits on',
      cause: error,
      durable: true,
      flushId
    })
  }
  if (error.flushId !== undefined && error.durable) return error
  const lost = error.code === 'FLUSH_LOST' || error.code === 'FLUSH_UNKNOWN'
  return new KVSwarmError(error.code, error.message, {
    hint: error.hint,
    cause: error,
    durable: !lost,
    flushId,
    data: error.data
  })
}
