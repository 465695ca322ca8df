/**
 * An engine for tests of sharing a data directory: entries in one append-only file, no network.
 *
 * It checks what coordination promises: it refuses to be opened while another process has it open
 * (the marker file names a living process), and it writes down every role that starts or ends.
 */
import { appendFileSync, existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { KVSwarmError } from '../../lib/errors.ts'
import type {
  Engine,
  EngineReadOptions,
  IndexRange,
  Role,
  Status,
  TailEvent,
  WaitOptions,
  WriteOptions,
  WriteRequest
} from '../../lib/ports.ts'
import type { Entry, FlushResult } from '../../lib/types.ts'
import { abortedError, waitFor } from '../../lib/wait.ts'

export const fakeId: string = 'ab'.repeat(32)

interface Line {
  readonly request: string
  readonly keys: readonly string[]
  readonly values: readonly string[]
}

function text(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString()
}

function alive(pid: number): boolean {
  try {
    process.kill(pid, 0)
    return true
  } catch {
    return false
  }
}

/**
 * Keys with a meaning: `crash:…` appends and then kills the process (once), `hang:…` waits before the
 * append until it is aborted, `slow:…` appends and waits behind it until it is aborted.
 */
export class FakeEngine implements Engine {
  readonly nodeId: string = fakeId
  readonly #directory: string
  readonly #results = new Map<string, FlushResult>()
  readonly #entries = new Map<string, string>()
  readonly #closing = new AbortController()
  /** Calls that wait, as `what`; a test waits for them. */
  readonly waiting: Set<string> = new Set()
  #config: string | null

  constructor(directory: string, config: string | null) {
    this.#directory = directory
    const marker = this.#file('open')
    if (existsSync(marker)) {
      const other = Number(readFileSync(marker, 'utf8'))
      if (alive(other)) throw new Error(`opened twice: by ${other} and ${process.pid}`)
    }
    writeFileSync(marker, String(process.pid))
    if (existsSync(this.#file('log'))) {
      const lines = readFileSync(this.#file('log'), 'utf8').split('\n')
      for (const line of lines) if (line !== '') this.#take(JSON.parse(line) as Line)
    }
    this.#config = existsSync(this.#file('config'))
      ? readFileSync(this.#file('config'), 'utf8')
      : config
  }

  #file(name: string): string {
    return join(this.#directory, `kvswarm.fake-${name}`)
  }

  #take({ request, keys, values }: Line): FlushResult {
    keys.forEach((key, i) => this.#entries.set(key, values[i] as string))
    const result = { id: request, operations: keys.length, parts: [] }
    this.#results.set(request, result)
    return result
  }

  async #wait(what: string, options: WaitOptions): Promise<void> {
    const closing = this.#closing.signal
    const signal = options.signal ? AbortSignal.any([options.signal, closing]) : closing
    this.waiting.add(what)
    appendFileSync(this.#file('waits'), `${what} begins\n`)
    try {
      await waitFor(
        () => false,
        () => () => {},
        { timeout: options.timeout, signal },
        () => new KVSwarmError('TIMEOUT', `${what} took too long`, { hint: 'wait longer' })
      )
    } catch (error) {
      appendFileSync(this.#file('waits'), `${what} ends: ${(error as KVSwarmError).code}\n`)
      throw error
    } finally {
      this.waiting.delete(what)
    }
  }

  async config(): Promise<string | null> {
    return this.#config
  }

  async setConfig(config: string): Promise<void> {
    if (config === 'bad')
      throw new KVSwarmError('CONFIG_SLICES', 'other slices', { data: { a: 1 } })
    this.#config = config
    writeFileSync(this.#file('config'), config)
  }

  async write(
    { request, operations }: WriteRequest,
    options: WriteOptions = {}
  ): Promise<FlushResult> {
    const id = Buffer.from(request).toString('hex')
    const known = this.#results.get(id)
    if (known !== undefined) return known
    if (options.signal?.aborted) throw abortedError(options.signal, 'write')
    const keys: string[] = []
    const values: string[] = []
    for (const operation of operations) {
      if (operation.type === 'group') throw new Error('no groups here')
      keys.push(text(operation.key))
      values.push(operation.type === 'del' ? '' : Buffer.from(operation.value).toString('base64'))
    }
    const first = keys[0] ?? ''
    if (first.startsWith('hang:')) await this.#wait(first, options)
    const line = { request: id, keys, values }
    appendFileSync(this.#file('log'), `${JSON.stringify(line)}\n`)
    const result = this.#take(line)
    if (first.startsWith('crash:')) process.kill(process.pid, 'SIGKILL')
    if (first.startsWith('slow:')) {
      await this.#wait(first, options).catch((cause: KVSwarmError) => {
        throw new KVSwarmError(cause.code, 'appended, but', { durable: true, flushId: id, cause })
      })
    }
    return result
  }

  async receipt(flushId: string, options: WaitOptions = {}): Promise<FlushResult> {
    const known = this.#results.get(flushId)
    if (known !== undefined) return known
    await this.#wait(`receipt:${flushId}`, options)
    throw new Error('unreachable')
  }

  async getMany(
    keys: readonly Uint8Array[],
    options: EngineReadOptions = {}
  ): Promise<(Entry | null)[]> {
    const first = keys[0] ? text(keys[0]) : ''
    if (first.startsWith('hang:')) await this.#wait(first, options)
    return keys.map((key) => this.#entry(text(key)))
  }

  #entry(key: string): Entry | null {
    const value = this.#entries.get(key)
    if (value === undefined) return null
    return {
      key: new Uint8Array(Buffer.from(key)),
      value: new Uint8Array(Buffer.from(value, 'base64')),
      versionstamp: '0'.repeat(20),
      expireAt: 0
    }
  }

  async *list(range: IndexRange, options: EngineReadOptions = {}): AsyncGenerator<Entry> {
    const { gt, gte, lt, lte, reverse, limit = Infinity } = range
    const keys = [...this.#entries.keys()].toSorted()
    if (reverse === true) keys.reverse()
    let count = 0
    for (const key of keys) {
      if (gt && key <= text(gt)) continue
      if (gte && key < text(gte)) continue
      if (lt && key >= text(lt)) continue
      if (lte && key > text(lte)) continue
      if (count++ >= limit) return
      options.signal?.throwIfAborted()
      this.waiting.add(`listed:${count}`)
      yield this.#entry(key) as Entry
      // As a real index does: each entry is a turn of its own.
      await new Promise((resolve) => {
        setImmediate(resolve)
      })
    }
  }

  async refresh(options: WaitOptions = {}): Promise<void> {
    await this.#wait('refresh', options)
  }

  async *tail(bookmark: string | null): AsyncGenerator<TailEvent> {
    if (bookmark === 'bad') throw new KVSwarmError('INVALID_ARGUMENT', 'no bookmark')
    yield { type: 'reset' }
    for (const key of this.#entries.keys()) {
      yield { type: 'put', entry: this.#entry(key) as Entry }
      yield { type: 'bookmark', bookmark: key }
    }
    yield { type: 'del', key: new Uint8Array([1]) }
  }

  async start(role: Role): Promise<() => Promise<void>> {
    appendFileSync(this.#file('roles'), `${process.pid} starts ${role}\n`)
    return async () => appendFileSync(this.#file('roles'), `${process.pid} ends ${role}\n`)
  }

  async status(): Promise<Status> {
    return { node: fakeId, pid: process.pid } as Status
  }

  async close(): Promise<void> {
    this.#closing.abort()
    rmSync(this.#file('open'))
  }
}

/** What the roles' file says. */
export function rolesIn(directory: string): string[] {
  return linesIn(directory, 'roles')
}

/** What the file of waits says. */
export function waitsIn(directory: string): string[] {
  return linesIn(directory, 'waits')
}

/** Every write of the log, as its first key. */
export function writesIn(directory: string): string[] {
  return linesIn(directory, 'log').map((line) => (JSON.parse(line) as Line).keys[0] as string)
}

function linesIn(directory: string, name: string): string[] {
  const path = join(directory, `kvswarm.fake-${name}`)
  return existsSync(path)
    ? readFileSync(path, 'utf8')
        .split('\n')
        .filter((line) => line !== '')
    : []
}
