/**
 * An engine that several processes share: straight to the local one when this process holds the data
 * directory, over the control socket otherwise.
 *
 * - When the holder ends, the next call (or at once, when this handle has roles) looks for a seat again:
 *   it takes the directory over or attaches to the new holder, starts its roles again, and asks again
 *   what was interrupted. Every call may be asked twice: reads change nothing, a write has a request id
 *   by which it is appended once.
 * - Whatever waits is bounded by the call's own timeout, and ends when the handle is closed.
 */
import { HolderGone } from './exchange.ts'
import { uncertainError } from './json.ts'
import type { RoleListener, Seat } from './seat.ts'
import { type SeatOptions, retryMs, takeSeat } from './take-seat.ts'
import { timeoutDefaultMs } from '../../config/limits.ts'
import { KVSwarmError, isKVSwarmError, messageOf } from '../errors.ts'
import type {
  Engine,
  EngineReadOptions,
  EngineTailOptions,
  IndexRange,
  Role,
  Status,
  TailEvent,
  WaitOptions,
  WriteOptions,
  WriteRequest
} from '../ports.ts'
import type { Entry, FlushResult } from '../types.ts'
import { abortedError, checkTimeout, pause, remaining, timerMsMax } from '../wait.ts'

/** What a shared engine is told besides the way to its seat. */
export interface SharedEngineOptions extends Omit<SeatOptions, 'onConfig' | 'onStop'> {
  readonly lockTimeoutMs: number
  readonly configText: string | null
  /** A client asks all processes of the directory to end. @default closes this engine */
  readonly onStop?: (() => void) | undefined
  /** This handle now holds the directory, or is served by its holder. */
  readonly onRoleChange?: ((seat: 'holder' | 'client') => void) | undefined
  /** A role could not be resumed and is given up. @default onWarning with its message */
  readonly onError?: ((error: Error) => void) | undefined
}

/** A role that this handle wants, wherever it runs. */
interface Hold {
  readonly role: Role
  /** Where it was started; another seat than the present one: to be started again. */
  seat: Seat | null
  end: (() => Promise<void>) | null
  /** Given up by its owner. */
  over: boolean
}

/** The engine of one handle. */
export class SharedEngine implements Engine {
  readonly #options: SharedEngineOptions
  readonly #seatOptions: SeatOptions
  readonly #closing = new AbortController()
  readonly #holds = new Set<Hold>()
  readonly #listeners = new WeakMap<Seat, RoleListener>()
  #configText: string | null
  #nodeId: string | null = null
  #seat: Seat | null = null
  #seating: Promise<Seat> | null = null
  #resuming: Promise<void> | null = null
  #closed: Promise<void> | null = null

  private constructor(options: SharedEngineOptions) {
    this.#options = options
    this.#configText = options.configText
    this.#seatOptions = {
      ...options,
      onConfig: (text) => {
        this.#configText = text
      },
      onStop: () => this.#onStop()
    }
  }

  /** Resolves with a seat taken. @throws as takeSeat() */
  static async open(options: SharedEngineOptions): Promise<SharedEngine> {
    const engine = new SharedEngine(options)
    await engine.#seated()
    return engine
  }

  get nodeId(): string {
    return this.#nodeId as string
  }

  config(): Promise<string | null> {
    return this.#call({}, (seat) => seat.config(timeoutDefaultMs))
  }

  async setConfig(text: string): Promise<void> {
    await this.#call({}, (seat) => seat.setConfig(text, timeoutDefaultMs))
    this.#configText = text
  }

  status(): Promise<Status> {
    return this.#call({}, (seat) => seat.status(timeoutDefaultMs))
  }

  /**
   * A write that was asked of a holder which then ended is asked again as a `retry`. When it fails then
   * in a way that leaves open whether the first holder appended it, the error's data say `uncertain`.
   */
  async write(request: WriteRequest, options: WriteOptions = {}): Promise<FlushResult> {
    let lost = false
    try {
      return await this.#call(options, async (seat, rest) => {
        try {
          const retry = lost ? { retry: true } : {}
          return await seat.write({ ...request, ...retry }, { ...options, ...rest })
        } catch (error) {
          if (error instanceof HolderGone) lost = true
          throw error
        }
      })
    } catch (error) {
      const definite = isKVSwarmError(error, 'NOT_WRITER', 'FLUSH_PARTIAL')
      if (!lost || definite || !isKVSwarmError(error) || error.durable) throw error
      throw uncertainError(error)
    }
  }

  receipt(
    flushId: string,
    options: WaitOptions & { readonly ack?: boolean } = {}
  ): Promise<FlushResult> {
    return this.#call(options, (seat, rest) => seat.receipt(flushId, { ...options, ...rest }))
  }

  getMany(keys: readonly Uint8Array[], options: EngineReadOptions = {}): Promise<(Entry | null)[]> {
    return this.#call(options, (seat, rest) => seat.getMany(keys, { ...options, ...rest }))
  }

  /** A list whose holder ends goes on behind the last entry, from the state that then holds. */
  async *list(range: IndexRange, options: EngineReadOptions = {}): AsyncGenerator<Entry> {
    let rest = range
    for (;;) {
      const timeout = checkTimeout(options.timeout, timeoutDefaultMs)
      const seat = await this.#seatWithin(timeout, options.signal)
      try {
        for await (const entry of seat.list(rest, options)) {
          rest = behind(rest, entry.key)
          yield entry
        }
        return
      } catch (error) {
        if (!(error instanceof HolderGone)) throw error
        this.#lost(seat)
        if (rest.limit === 0) return
        await pause(retryMs(), options.signal)
      }
    }
  }

  refresh(options: WaitOptions = {}): Promise<void> {
    return this.#call(options, (seat, rest) => seat.refresh({ ...options, ...rest }))
  }

  /** A tail whose holder ends goes on from the last bookmark: what was told since comes again. */
  async *tail(bookmark: string | null, options: EngineTailOptions = {}): AsyncGenerator<TailEvent> {
    let from = bookmark
    for (;;) {
      const timeout = checkTimeout(options.timeout, timeoutDefaultMs)
      const seat = await this.#seatWithin(timeout, options.signal)
      try {
        for await (const event of seat.tail(from, options)) {
          if (event.type === 'bookmark') from = event.bookmark
          yield event
        }
        return
      } catch (error) {
        if (!(error instanceof HolderGone)) throw error
        this.#lost(seat)
        await pause(retryMs(), options.signal)
      }
    }
  }

  async start(role: Role): Promise<() => Promise<void>> {
    const hold: Hold = { role, seat: null, end: null, over: false }
    await this.#call({ timeout: Infinity }, (seat) => this.#startOn(seat, hold))
    this.#holds.add(hold)
    // The seat may have gone between the start and now.
    if (hold.seat !== this.#seat) this.#resume()
    return async () => {
      if (hold.over) return
      hold.over = true
      this.#holds.delete(hold)
      if (hold.seat === this.#seat) await hold.end?.()
    }
  }

  close(): Promise<void> {
    this.#closed ??= this.#close()
    return this.#closed
  }

  async #close(): Promise<void> {
    this.#closing.abort()
    this.#holds.clear()
    await this.#seating?.catch(() => {})
    const seat = this.#seat
    this.#seat = null
    await seat?.close()
    // What it waits for ended with the seat.
    await this.#resuming
  }

  /** Asks the seat; when that is lost, the next one, as long as the call's time lasts. */
  async #call<T>(
    { timeout, signal }: WaitOptions,
    ask: (seat: Seat, rest: WaitOptions) => Promise<T>
  ): Promise<T> {
    const started = performance.now()
    const wholeMs = checkTimeout(timeout, timeoutDefaultMs)
    let rest: WaitOptions = {}
    for (;;) {
      const seat = await this.#seatWithin(remaining(wholeMs, started), signal)
      try {
        return await ask(seat, rest)
      } catch (error) {
        if (!(error instanceof HolderGone)) throw error
        this.#lost(seat)
        await pause(Math.min(retryMs(), remaining(wholeMs, started)), signal)
        rest = { timeout: remaining(wholeMs, started) }
      }
    }
  }

  /** The present seat, or the next one within the time of a call. */
  #seatWithin(timeoutMs: number, signal: AbortSignal | undefined): Promise<Seat> {
    if (this.#seat !== null) return Promise.resolve(this.#seat)
    if (signal?.aborted) return Promise.reject(abortedError(signal, 'the call'))
    const seated = this.#seated()
    if (timeoutMs === Infinity && signal === undefined) return seated
    return new Promise((resolve, reject) => {
      const end = (error: KVSwarmError): void => {
        clearTimeout(timer)
        signal?.removeEventListener('abort', onAbort)
        reject(error)
      }
      const onAbort = (): void => end(abortedError(signal as AbortSignal, 'the call'))
      const timer = setTimeout(
        () =>
          end(
            new KVSwarmError('TIMEOUT', 'the holder of the data directory has ended or is busy', {
              hint: 'try again, or with a longer timeout: this process is looking for the next holder'
            })
          ),
        Math.min(timeoutMs, timerMsMax)
      )
      signal?.addEventListener('abort', onAbort, { once: true })
      seated
        .finally(() => {
          clearTimeout(timer)
          signal?.removeEventListener('abort', onAbort)
        })
        .then(resolve, reject)
    })
  }

  /** The present seat, or the one that is being taken. */
  #seated(): Promise<Seat> {
    if (this.#closing.signal.aborted) return Promise.reject(closedError())
    if (this.#seat !== null) return Promise.resolve(this.#seat)
    this.#seating ??= this.#take().finally(() => {
      this.#seating = null
    })
    return this.#seating
  }

  async #take(): Promise<Seat> {
    const seat = await takeSeat(this.#seatOptions, {
      configText: this.#configText,
      first: this.#nodeId === null,
      timeoutMs: this.#options.lockTimeoutMs,
      signal: this.#closing.signal
    })
    if (this.#closing.signal.aborted) {
      await seat.close()
      throw closedError()
    }
    this.#nodeId ??= seat.nodeId
    this.#seat = seat
    this.#options.onRoleChange?.(seat.kind)
    return seat
  }

  #lost(seat: Seat): void {
    if (this.#seat !== seat) return
    this.#seat = null
    void seat.close()
    if (this.#holds.size > 0) this.#resume()
  }

  async #startOn(seat: Seat, hold: Hold): Promise<void> {
    const end = await seat.start(hold.role, this.#listenerOf(seat))
    hold.seat = seat
    hold.end = end
  }

  #listenerOf(seat: Seat): RoleListener {
    let listener = this.#listeners.get(seat)
    if (listener === undefined) {
      listener = {
        onConfig: this.#seatOptions.onConfig,
        onStop: this.#seatOptions.onStop,
        onGone: () => this.#lost(seat)
      }
      this.#listeners.set(seat, listener)
    }
    return listener
  }

  /** Starts this handle's roles again, at whatever seat it gets, for as long as that takes. */
  #resume(): void {
    this.#resuming ??= this.#resumeAll().finally(() => {
      this.#resuming = null
    })
  }

  async #resumeAll(): Promise<void> {
    for (;;) {
      const hold = [...this.#holds].find(({ seat }) => seat === null || seat !== this.#seat)
      if (hold === undefined || this.#closing.signal.aborted) return
      try {
        const seat = await this.#seated()
        await this.#startOn(seat, hold)
        if (hold.over) await hold.end?.()
      } catch (error) {
        if (this.#closing.signal.aborted) return
        if (!(error instanceof HolderGone)) this.#notResumed(hold, error as Error)
        else if (this.#seat !== null) this.#lost(this.#seat)
        await pause(retryMs(), this.#closing.signal)
      }
    }
  }

  #notResumed(hold: Hold, error: Error): void {
    const { onWarning, onError } = this.#options
    if (isKVSwarmError(error, 'DATADIR_IN_USE', 'TIMEOUT')) {
      onWarning(`${hold.role} waits for the data directory: ${error.message}`)
      return
    }
    this.#holds.delete(hold)
    if (onError !== undefined) onError(error)
    else onWarning(`${hold.role} has ended: ${messageOf(error)}`)
  }

  #onStop(): void {
    const { onStop } = this.#options
    if (onStop !== undefined) onStop()
    else void this.close()
  }
}

function closedError(): KVSwarmError {
  return new KVSwarmError('CLOSED', 'the store is closed', { hint: 'open a new one' })
}

/** What of a range comes behind the key. */
function behind(range: IndexRange, key: Uint8Array): IndexRange {
  const { gt, gte, lt, lte, reverse, limit } = range
  const rest = limit === undefined ? {} : { limit: limit - 1 }
  if (reverse === true) {
    return {
      ...(gt === undefined ? {} : { gt }),
      ...(gte === undefined ? {} : { gte }),
      lt: key,
      reverse,
      ...rest
    }
  }
  return {
    ...(lt === undefined ? {} : { lt }),
    ...(lte === undefined ? {} : { lte }),
    gt: key,
    ...rest
  }
}
