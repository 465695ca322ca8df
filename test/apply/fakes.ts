/** An outbox, an index and their surroundings in memory, for the storage node's side. */
import { Inbox, type InboxEnvironment } from '../../lib/apply/inbox.ts'
import type { ChainLinks } from '../../lib/protocol/chain-links.ts'
import { KVSwarmError } from '../../lib/errors.ts'
import type {
  Head,
  Index,
  IndexChange,
  IndexRange,
  IndexSnapshot,
  Log,
  WaitOptions
} from '../../lib/ports.ts'
import type { LogName, Operation, Position } from '../../lib/types.ts'
import { encodeBlock } from '../../lib/wire/blocks.ts'
import { encodeKey } from '../../lib/wire/keys.ts'
import { encodeValue } from '../../lib/wire/values.ts'
import { deadline } from '../helpers/events.ts'

export const owner: string = 'b'.repeat(64)
export const writerOf = (n: number): string => n.toString(16).padStart(64, 'a')

/** The first block of a generation. */
export function headBlock(continues: Position | null): Uint8Array {
  return encodeBlock({ type: 'head', created: 1, epoch: 1, continues })
}

/** A block of puts, `count` of them. */
export function putsBlock(count: number, seen: Position | null = null): Uint8Array {
  const operations: Operation[] = Array.from({ length: count }, (_, i) => ({
    type: 'put',
    key: encodeKey(`key ${i}`),
    value: encodeValue(i)
  }))
  const request = new Uint8Array(16)
  const segments = [{ request, total: count, operations }]
  return encodeBlock({ type: 'operations', epoch: 1, seen, segments })
}

interface Stored {
  /** Blocks that are signed. */
  length: number
  readonly here: Map<number, Uint8Array>
}

type EndListener = (reason: 'conflict' | 'closed') => void

/** A writer's outbox as it reaches a storage node: what is signed, what can be had, what is here. */
export class FakeOutbox {
  readonly writer: string
  /** What the writer has. */
  readonly blocks: Map<number, (Uint8Array | undefined)[]> = new Map()
  readonly stored: Map<number, Stored> = new Map()
  readonly open: Set<FakeLog> = new Set()
  /** How each log was opened, in order. */
  readonly opened: { generation: number; attach: boolean }[] = []
  readonly acks: Position[] = []
  readonly warnings: string[] = []
  readonly failures: unknown[] = []
  /** Generations whose copy was deleted, in order. */
  readonly deleted: number[] = []
  deleteError: Error | null = null
  openMost = 0
  /** What the opening of a log waits for. */
  opening: Promise<void> = Promise.resolve()
  /** False: a block comes only by deliver(). */
  serves = true
  /** A generation whose core was frozen earlier: whoever listens is told at once. */
  frozen: number | null = null
  /** Reads of blocks that are here fail with this. */
  readError: Error | null = null
  ready: () => void = () => {}
  readonly #listeners = new Set<() => void>()

  constructor(writer: string = writerOf(1)) {
    this.writer = writer
  }

  /** The writer has (or begins) a generation. @param length blocks that are signed, with those that are lost */
  put(
    generation: number,
    blocks: (Uint8Array | undefined)[],
    length: number = blocks.length
  ): void {
    this.blocks.set(generation, blocks)
    this.storedOf(generation).length = length
    for (const log of this.open) if (log.generation === generation) log.changed()
  }

  inbox(applied: Position | null = null, links?: ChainLinks): Inbox {
    const environment: InboxEnvironment = {
      open: async (_, generation, attach) => {
        this.opened.push({ generation, attach })
        await this.opening
        const log = new FakeLog(this, generation)
        this.open.add(log)
        this.openMost = Math.max(this.openMost, this.open.size)
        return log
      },
      delete: (_, generation) => {
        this.deleted.push(generation)
        if (this.deleteError) return Promise.reject(this.deleteError)
        const stillOpen = [...this.open].some((log) => log.generation === generation)
        if (stillOpen)
          this.failures.push(new Error(`generation ${generation} is deleted while open`))
        this.stored.delete(generation)
        return Promise.resolve()
      },
      sync: () => Promise.resolve(),
      ready: () => this.ready(),
      acked: (_, position) => {
        this.acks.push(position)
        this.#happened()
      },
      warn: (message) => this.warnings.push(message),
      failed: (error) => {
        this.failures.push(error)
        this.#happened()
      }
    }
    const stored = [...this.stored].flatMap(([generation, { here }]) =>
      here.size > 0 ? [generation] : []
    )
    const inbox = new Inbox(this.writer, applied, environment, links)
    inbox.found(stored)
    return inbox
  }

  /** Requests that nobody has answered, `generation/block`, in the order in which they were made. */
  get pending(): string[] {
    return [...this.open].flatMap((log) =>
      [...log.requests].map((r) => `${log.generation}/${r.block}`)
    )
  }

  logOf(generation: number): FakeLog {
    const log = [...this.open].find((one) => one.generation === generation)
    if (!log) throw new Error(`the log of generation ${generation} is not open`)
    return log
  }

  /** Answers a request. */
  deliver(generation: number, block: number): void {
    const data = this.blocks.get(generation)?.[block]
    if (!data) throw new Error(`the writer has no block ${generation}/${block}`)
    this.storedOf(generation).here.set(block, data)
    const log = this.logOf(generation)
    for (const request of log.requests) {
      if (request.block !== block) continue
      log.requests.delete(request)
      request.resolve(data)
    }
    log.changed()
    this.#happened()
  }

  /** Resolves when `test` holds; it is asked after everything that happens here. */
  when(test: () => boolean): Promise<void> {
    return new Promise((resolve) => {
      const look = (): void => {
        if (!test()) return
        this.#listeners.delete(look)
        resolve()
      }
      this.#listeners.add(look)
      look()
    })
  }

  /** Resolves when the storage node has answered for this much. */
  acked(position: Position): Promise<void> {
    return this.when(() => {
      const last = this.acks.at(-1)
      return last?.generation === position.generation && last.length >= position.length
    })
  }

  storedOf(generation: number): Stored {
    let stored = this.stored.get(generation)
    if (!stored) this.stored.set(generation, (stored = { length: 0, here: new Map() }))
    return stored
  }

  #happened(): void {
    for (const listener of [...this.#listeners]) listener()
  }
}

/** What a fake log says that each of its blocks has. */
const blockBytes = 100

interface Request {
  readonly block: number
  readonly resolve: (data: Uint8Array) => void
}

export class FakeLog implements Log {
  readonly name: LogName
  readonly generation: number
  readonly writable = false
  readonly requests: Set<Request> = new Set()
  readonly #outbox: FakeOutbox
  readonly #stored: Stored
  readonly #changes = new Set<() => void>()
  readonly #ends = new Set<EndListener>()

  constructor(outbox: FakeOutbox, generation: number) {
    this.name = { kind: 'outbox', node: outbox.writer, owner }
    this.generation = generation
    this.#outbox = outbox
    this.#stored = outbox.storedOf(generation)
  }

  get length(): number {
    return this.#stored.length
  }

  /** A hundred for each block. */
  get bytes(): number {
    return this.length * blockBytes
  }

  append(): Promise<number> {
    return Promise.reject(new Error('not writable'))
  }

  has(block: number): boolean {
    return this.#stored.here.has(block)
  }

  firstMissing(from: number): number {
    let block = from
    while (this.has(block)) block++
    return block
  }

  get(
    block: number,
    { wait, signal }: WaitOptions & { readonly wait?: boolean } = {}
  ): Promise<Uint8Array | null> {
    const here = this.#stored.here.get(block)
    if (here && this.#outbox.readError) return Promise.reject(this.#outbox.readError)
    if (here || wait === false) return Promise.resolve(here ?? null)
    return new Promise((resolve, reject) => {
      const request: Request = { block, resolve }
      this.requests.add(request)
      signal?.addEventListener('abort', () => {
        this.requests.delete(request)
        reject(new KVSwarmError('ABORTED', 'aborted'))
      })
      if (!this.#outbox.serves || !this.#outbox.blocks.get(this.generation)?.[block]) return
      setImmediate(() => {
        if (this.requests.has(request)) this.#outbox.deliver(this.generation, block)
      })
    })
  }

  bytesFrom(block: number): Promise<number> {
    return Promise.resolve(Math.max(0, this.length - block) * blockBytes)
  }

  note(): Promise<null> {
    return Promise.resolve(null)
  }

  setNote(): Promise<void> {
    return Promise.resolve()
  }

  treeHash(): Promise<Uint8Array> {
    return Promise.resolve(new Uint8Array(32))
  }

  onChange(listener: () => void): () => void {
    this.#changes.add(listener)
    return () => this.#changes.delete(listener)
  }

  onEnd(listener: EndListener): () => void {
    this.#ends.add(listener)
    if (this.#outbox.frozen === this.generation) listener('conflict')
    return () => this.#ends.delete(listener)
  }

  changed(): void {
    for (const listener of [...this.#changes]) listener()
  }

  /** What the store below does when a core is frozen, or goes. */
  end(reason: 'conflict' | 'closed'): void {
    for (const listener of [...this.#ends]) listener(reason)
  }

  close(): Promise<void> {
    this.#outbox.open.delete(this)
    return Promise.resolve()
  }
}

/** An index in memory. Each apply() can be held back, or fail. */
export class FakeIndex implements Index {
  readonly entries: Map<string, Uint8Array> = new Map()
  readonly batches: (readonly IndexChange[])[] = []
  /** What apply() waits for, or fails with. */
  gate: () => Promise<void> = () => Promise.resolve()
  closed = 0
  #length = 2

  readonly isWhole = true

  get head(): Head {
    return { generation: 1, length: this.#length }
  }

  get(key: Uint8Array): Promise<Uint8Array | null> {
    return Promise.resolve(this.entries.get(hex(key)) ?? null)
  }

  async apply(changes: readonly IndexChange[]): Promise<Head> {
    await this.gate()
    this.batches.push(changes)
    this.#length++
    for (const { key, value } of changes) {
      if (value === null) this.entries.delete(hex(key))
      else this.entries.set(hex(key), value)
    }
    return this.head
  }

  snapshot(): IndexSnapshot {
    const entries = [...this.entries].toSorted(([a], [b]) => (a < b ? -1 : 1))
    return {
      head: this.head,
      get: (key) => this.get(key),
      async *range({ gte, lt }: IndexRange) {
        for (const [key, value] of entries) {
          await Promise.resolve()
          if (gte && key < hex(gte)) continue
          if (lt && key >= hex(lt)) return
          yield { key: new Uint8Array(Buffer.from(key, 'hex')), value }
        }
      },
      tellsSince: () => true,
      async *changes() {},
      close: () => Promise.resolve()
    }
  }

  close(): Promise<void> {
    this.closed++
    return Promise.resolve()
  }
}

function hex(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('hex')
}

/** A block of one put. */
export const put: Uint8Array = putsBlock(1)
/** So many of them. */
export const puts = (count: number): Uint8Array[] => Array.from({ length: count }, () => put)
export const within = <T>(promise: Promise<T>, what: string): Promise<T> =>
  deadline(promise, 5000, what)

/** Applies what is ready, as the apply loop does; gives the places in their order. */
export function applying(outbox: FakeOutbox, inbox: Inbox): string[] {
  const places: string[] = []
  let running = false
  outbox.ready = () => {
    if (running) return
    running = true
    void (async () => {
      for (;;) {
        const blocks = await inbox.take(1000, 1e9, true)
        const last = blocks.at(-1)
        if (!last) break
        for (const { generation, block } of blocks) places.push(`${generation}/${block}`)
        inbox.advance({ generation: last.generation, length: last.block + 1 })
      }
      running = false
    })()
  }
  return places
}
