/**
 * The client's side of the control socket: the holder's engine, called from another process.
 *
 * Every call ends with the holder's answer, with its coded error, or with `HolderGone`; what then is to
 * be done (wait, take over, ask again) is decided in take-seat.ts and shared-engine.ts.
 */
import { randomUUID } from 'node:crypto'
import { Agent } from 'node:http'
import { Exchange, HolderGone, type Question } from './exchange.ts'
import {
  type Fields,
  fieldsOf,
  operationCost,
  packBytes,
  packOperation,
  packRange,
  packRead,
  packTimeout,
  packWriteOptions,
  textOf,
  uncertainError,
  unpackEntry,
  unpackTail
} from './json.ts'
import {
  answerGraceMs,
  connectionsOfClientMax,
  receiptsOfClientMax,
  keysBytesTarget,
  keysOfRequestMax,
  portionBytesTarget,
  roleStartSilenceMs
} from './limits.ts'
import type { RoleListener, Seat } from './seat.ts'
import { timeoutDefaultMs } from '../../config/limits.ts'
import { KVSwarmError, isKVSwarmError } from '../errors.ts'
import type {
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

/** What a holder says to a client that comes. */
export interface Hello {
  readonly nodeId: string
  readonly pid: number
  readonly version: string
  /** The holder's configuration, or null when it has none. */
  readonly config: string | null
}

/** A connection to one holder. */
export class HolderClient implements Seat {
  readonly kind = 'client'
  readonly #socketPath: string
  #nodeId = ''
  readonly #agent = new Agent({ keepAlive: true, maxSockets: connectionsOfClientMax })
  /** Waits for receipts can be endless: they have connections of their own, so that all else goes on. */
  readonly #waits = new Agent({ keepAlive: true, maxSockets: receiptsOfClientMax })
  readonly #leases = new Set<Exchange>()

  constructor(socketPath: string) {
    this.#socketPath = socketPath
  }

  /** The holder's node id; empty before hello(). */
  get nodeId(): string {
    return this.#nodeId
  }

  /** @throws HolderGone when nobody serves the socket; PROTOCOL_ERROR */
  async hello(timeoutMs: number, signal?: AbortSignal): Promise<Hello> {
    const answer = fieldsOf(
      await this.#ask('/hello', {}, { guardMs: timeoutMs, signal }),
      'a hello'
    )
    const config = answer['config']
    this.#nodeId = textOf(answer['nodeId'], 'a node id')
    return {
      nodeId: this.#nodeId,
      pid: Number(answer['pid']),
      version: textOf(answer['version'], 'a version'),
      config: config === null ? null : textOf(config, 'a configuration')
    }
  }

  async config(guardMs: number): Promise<string | null> {
    const answer = await this.#ask('/config', {}, { guardMs })
    return answer === null ? null : textOf(answer, 'a configuration')
  }

  async setConfig(text: string, guardMs: number): Promise<void> {
    await this.#ask('/set-config', { text }, { guardMs })
  }

  async status(guardMs: number): Promise<Status> {
    return (await this.#ask('/status', {}, { guardMs })) as Status
  }

  /** Asks the holder's process to end. Resolves with its id once it has heard. */
  async stop(guardMs: number): Promise<number> {
    const answer = fieldsOf(await this.#ask('/stop', {}, { guardMs }), 'an answer')
    return Number(answer['pid'])
  }

  async receipt(
    id: string,
    options: WaitOptions & { readonly ack?: boolean }
  ): Promise<FlushResult> {
    const body = { id, ...packTimeout(options.timeout), ...(options.ack ? { ack: true } : {}) }
    const question = { path: '/receipt', body: JSON.stringify(body), ...guardOf(options) }
    return (await new Exchange(this.#socketPath, this.#waits, question).value()) as FlushResult
  }

  /**
   * An abort is told to the holder, whose answer is then waited for: only it knows whether the
   * operations were appended before. When it does not answer, the error says `uncertain`.
   */
  async write(
    { request, operations, retry }: WriteRequest,
    options: WriteOptions
  ): Promise<FlushResult> {
    const { signal } = options
    const call = randomUUID()
    const head = JSON.stringify({
      request: packBytes(request),
      bytes: operations.reduce((sum, operation) => sum + operationCost(operation), 0),
      ...packTimeout(options.timeout),
      ...(options.ack ? { ack: true } : {}),
      ...(options.receipt ? { receipt: true } : {}),
      ...(retry ? { retry: true } : {}),
      ...packWriteOptions(options)
    })
    const body = (): Iterable<string> => writeLines(head, operations)
    const { guardMs } = guardOf(options)
    const exchange = this.#exchange({ path: '/write', body, guardMs, call })
    const onAbort = (): void => {
      // On a connection of its own: the others may all be waiting.
      const late = isKVSwarmError(signal?.reason, 'TIMEOUT') ? { timeout: true } : {}
      const body = JSON.stringify({ call, ...late })
      const abort = { path: '/abort', body, guardMs: answerGraceMs }
      new Exchange(this.#socketPath, false, abort)
        .value()
        .catch(() => exchange.destroy(uncertainError(abortedError(signal))))
    }
    if (signal?.aborted === true) throw abortedError(signal)
    signal?.addEventListener('abort', onAbort, { once: true })
    try {
      return (await exchange.value()) as FlushResult
    } catch (error) {
      const silent = isKVSwarmError(error) && error.data['silent'] === true
      throw silent ? uncertainError(error) : error
    } finally {
      signal?.removeEventListener('abort', onAbort)
    }
  }

  async getMany(
    keys: readonly Uint8Array[],
    options: EngineReadOptions
  ): Promise<(Entry | null)[]> {
    const entries: (Entry | null)[] = []
    for (const portion of portionsOf(keys.map(packBytes))) {
      const body = JSON.stringify({ keys: portion, options: packRead(options) })
      const question = { path: '/get-many', body, ...guardOf(options) }
      for await (const value of this.#exchange(question).values()) entries.push(unpackEntry(value))
    }
    if (entries.length !== keys.length) throw new HolderGone('not every key was answered')
    return entries
  }

  async *list(
    range: IndexRange,
    options: EngineReadOptions
  ): AsyncGenerator<Entry, void, undefined> {
    const body = JSON.stringify({ range: packRange(range), options: packRead(options) })
    const question = { path: '/list', body, ...guardOf(options) }
    for await (const value of this.#exchange(question).values()) {
      const entry = unpackEntry(value)
      if (entry !== null) yield entry
    }
  }

  async refresh(options: WaitOptions): Promise<void> {
    await this.#ask('/refresh', packTimeout(options.timeout), guardOf(options))
  }

  async *tail(
    bookmark: string | null,
    options: EngineTailOptions
  ): AsyncGenerator<TailEvent, void, undefined> {
    const { timeout, follow } = options
    const body = JSON.stringify({
      bookmark,
      ...packTimeout(timeout),
      ...(follow ? { follow } : {})
    })
    const { guardMs, signal } = guardOf(options)
    // Between two changes of a tail that is followed may lie days; a connection of its own, then.
    const question = { path: '/tail', body, guardMs: follow ? Infinity : guardMs, signal }
    const exchange = new Exchange(this.#socketPath, follow ? false : this.#agent, question)
    for await (const value of exchange.values()) yield unpackTail(value)
  }

  /** Adds a role for as long as this client lives. The returned call gives it up. */
  async start(role: Role, listener: RoleListener): Promise<() => Promise<void>> {
    const question = { path: '/role', body: JSON.stringify({ role }), guardMs: Infinity }
    // A connection of its own: it stays for hours.
    const lease = new Exchange(this.#socketPath, false, question)
    const events = lease.values()
    const silent = (): void => lease.destroy(new HolderGone('the holder is silent'))
    const guard = setTimeout(silent, roleStartSilenceMs)
    this.#leases.add(lease)
    try {
      for (let started = false; !started; guard.refresh()) {
        const { value, done } = await events.next()
        if (done === true) throw new HolderGone('the role ended')
        started = fieldsOf(value, 'an event')['started'] === true
      }
    } catch (error) {
      this.#leases.delete(lease)
      throw error
    } finally {
      clearTimeout(guard)
    }
    const followed = follow(events, listener)
      .then(() => new HolderGone('the role ended'))
      .catch((error: Error) => error)
      .then((error) => {
        if (this.#leases.delete(lease)) listener.onGone(error)
      })
    return async () => {
      this.#leases.delete(lease)
      lease.destroy()
      await followed
    }
  }

  /** Ends the roles and the connections. */
  async close(): Promise<void> {
    for (const lease of this.#leases) lease.destroy()
    this.#leases.clear()
    this.#agent.destroy()
    this.#waits.destroy()
  }

  #exchange(question: Question): Exchange {
    return new Exchange(this.#socketPath, this.#agent, question)
  }

  #ask(
    path: string,
    body: Fields,
    guard: { guardMs: number; signal?: AbortSignal | undefined }
  ): Promise<unknown> {
    return this.#exchange({ path, body: JSON.stringify(body), ...guard }).value()
  }
}

function abortedError(signal: AbortSignal | undefined): KVSwarmError {
  return new KVSwarmError('ABORTED', 'the call was aborted', { cause: signal?.reason })
}

/** A client gives a holder up only when that is overdue with its own timeout. */
function guardOf({ timeout, signal }: WaitOptions): {
  guardMs: number
  signal: AbortSignal | undefined
} {
  return { guardMs: (timeout ?? timeoutDefaultMs) + answerGraceMs, signal }
}

async function follow(events: AsyncIterable<unknown>, listener: RoleListener): Promise<void> {
  for await (const event of events) {
    const { config, stop } = fieldsOf(event, 'an event')
    if (typeof config === 'string') listener.onConfig(config)
    if (stop === true) listener.onStop()
  }
}

/** The lines of a write: its head, then its operations in portions. */
function* writeLines(head: string, operations: WriteRequest['operations']): Iterable<string> {
  yield `${head}\n`
  let portion: string[] = []
  let length = 0
  for (const operation of operations) {
    const text = JSON.stringify(packOperation(operation))
    if (length > 0 && length + text.length > portionBytesTarget) {
      yield `{"operations":[${portion.join(',')}]}\n`
      portion = []
      length = 0
    }
    portion.push(text)
    length += text.length
  }
  if (portion.length > 0) yield `{"operations":[${portion.join(',')}]}\n`
}

/** Keys of a request each; one request for most calls. */
function* portionsOf(keys: readonly string[]): Iterable<readonly string[]> {
  let portion: string[] = []
  let length = 0
  for (const key of keys) {
    const full = length + key.length > keysBytesTarget || portion.length >= keysOfRequestMax
    if (length > 0 && full) {
      yield portion
      portion = []
      length = 0
    }
    portion.push(key)
    length += key.length + 3
  }
  if (portion.length > 0) yield portion
}
