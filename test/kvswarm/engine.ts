/**
 * An engine for tests of the class: it holds what it was asked to write until the test answers, and keeps a log of
 * what it "appended", each request id once, as a real outbox does.
 */
import { KVSwarmError, type ErrorCode } from '../../lib/errors.ts'
import { KVSwarm, type KVSwarmOptions } from '../../lib/kvswarm.ts'
import type { Engine, Role, Status, TailEvent, WaitOptions, WriteRequest } from '../../lib/ports.ts'
import type { Entry, FlushResult, Operation } from '../../lib/types.ts'
import { abortedError } from '../../lib/wait.ts'
import { encodeFlushId } from '../../lib/wire/flush-id.ts'
import { decodeKey } from '../../lib/wire/keys.ts'
import { decodeValue } from '../../lib/wire/values.ts'
import { until } from '../helpers/events.ts'

const owner = 'cd'.repeat(32)

/** A write that waits for its answer. */
export interface Asked {
  /** `key=value` of each operation. */
  readonly texts: readonly string[]
  readonly retry: boolean
  readonly id: string
  /** Appends it (unless it was) and answers. */
  ok(): void
  /** Appends it, and does not answer yet. */
  append(): void
  /** Appends the operations at these positions, and fails with `error`. */
  fail(error: Error, appended?: readonly number[]): void
}

/** A wait for a receipt. */
export interface AskedReceipt {
  readonly id: string
  readonly ack: boolean
  readonly timeout: number | undefined
  ok(): void
  fail(error: Error): void
}

export class TestEngine implements Engine {
  readonly nodeId: string = 'ab'.repeat(32)
  /** Every operation that was appended, in order, as `key=value`. */
  readonly log: string[] = []
  /** What every call was, in order. */
  readonly calls: string[] = []
  readonly roles: string[] = []
  /** Answers writes at once. */
  auto = true
  /** Whether an abort ends a write that has no answer yet. */
  abortable = true
  configText: string | null = null
  closed = false
  /** How a role starts and ends; may be replaced. */
  onStart: (role: Role) => Promise<void> = () => Promise.resolve()
  onEnd: (role: Role) => Promise<void> = () => Promise.resolve()
  readonly #asked: Asked[] = []
  readonly #receipts: AskedReceipt[] = []
  readonly #appended = new Map<string, FlushResult>()

  /** The next write that nobody answered; from then on it is the caller's. */
  async asked(): Promise<Asked> {
    return await until(() => this.#asked.shift(), { what: 'a write' })
  }

  async receiptAsked(): Promise<AskedReceipt> {
    return await until(() => this.#receipts.shift(), { what: 'a wait for a receipt' })
  }

  /** Writes that were asked and nobody answered. */
  get open(): number {
    return this.#asked.length
  }

  write(
    { request, operations, retry }: WriteRequest,
    options: WaitOptions & { readonly ack?: boolean; readonly receipt?: boolean } = {}
  ): Promise<FlushResult> {
    if (options.ack || options.receipt) throw new Error('the class asks for receipts by itself')
    const texts = operations.map(textOf)
    const id = Buffer.from(request).toString('hex')
    this.calls.push(`${retry ? 'retry' : 'write'} ${texts.join(' ')}`)
    const append = (): FlushResult => {
      const known = this.#appended.get(id)
      if (known) return known
      this.log.push(...texts)
      const parts = [{ owner, generation: 1, from: 0, to: this.log.length }]
      const flushId = encodeFlushId({ request, operations: texts.length, parts })
      const result = { id: flushId, operations: texts.length, parts }
      this.#appended.set(id, result)
      return result
    }
    if (this.auto) return Promise.resolve(append())
    return new Promise((resolve, reject) => {
      const { signal } = options
      const asked: Asked = {
        texts,
        retry: retry === true,
        id,
        ok: () => resolve(append()),
        append: () => void append(),
        fail: (error, appended = []) => {
          this.log.push(...appended.map((at) => texts[at] as string))
          reject(error)
        }
      }
      const onAbort = (): void => {
        const at = this.#asked.indexOf(asked)
        if (at !== -1) this.#asked.splice(at, 1)
        this.calls.push('abort')
        reject(abortedError(signal as AbortSignal, 'the write'))
      }
      if (this.abortable) signal?.addEventListener('abort', onAbort, { once: true })
      this.#asked.push(asked)
    })
  }

  receipt(
    id: string,
    options: WaitOptions & { readonly ack?: boolean } = {}
  ): Promise<FlushResult> {
    return new Promise((resolve, reject) => {
      this.#receipts.push({
        id,
        ack: options.ack === true,
        timeout: options.timeout,
        ok: () => resolve({ id, operations: 0, parts: [] }),
        fail: reject
      })
    })
  }

  config(): Promise<string | null> {
    return Promise.resolve(this.configText)
  }

  setConfig(text: string): Promise<void> {
    this.configText = text
    return Promise.resolve()
  }

  getMany(): Promise<(Entry | null)[]> {
    return Promise.resolve([])
  }

  async *list(): AsyncGenerator<Entry> {}

  refresh(): Promise<void> {
    return Promise.resolve()
  }

  async *tail(): AsyncGenerator<TailEvent> {}

  async start(role: Role): Promise<() => Promise<void>> {
    this.roles.push(`start ${role}`)
    await this.onStart(role)
    this.roles.push(`started ${role}`)
    return async () => {
      this.roles.push(`end ${role}`)
      await this.onEnd(role)
      this.roles.push(`ended ${role}`)
    }
  }

  status(): Promise<Status> {
    return Promise.reject(new Error('not used'))
  }

  close(): Promise<void> {
    this.closed = true
    return Promise.resolve()
  }
}

/** A store over the test's engine. */
export function storeOver(engine: TestEngine, options: Partial<KVSwarmOptions> = {}): KVSwarm {
  return new KVSwarm({ storage: 'unused', ...options }, () => Promise.resolve(engine))
}

export function failure(code: ErrorCode, data: Record<string, unknown> = {}): KVSwarmError {
  return new KVSwarmError(code, `made by the test: ${code}`, { data })
}

function textOf(operation: Operation): string {
  if (operation.type === 'group') throw new Error('no groups here')
  const key = String(decodeKey(operation.key))
  if (operation.type === 'del') return `${key} deleted`
  const value = decodeValue(operation.value)
  return `${key}=${typeof value === 'string' ? value : JSON.stringify(value)}`
}
