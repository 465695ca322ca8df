/**
 * A reader's side: address -> slice -> owner -> view of the owner's index -> look-up.
 *
 * Invariants: null means that the owner's index, at a head that it has signed, has no such key; what cannot be
 * known is an error that names the owner and what was tried. A list takes one snapshot of each owner and gives
 * keys in one order.
 */
import { askAgainMs, headWaitMs } from '../../config/limits.ts'
import { isKVSwarmError, KVSwarmError } from '../errors.ts'
import type {
  EngineReadOptions,
  EngineTailOptions,
  Head,
  IndexRange,
  IndexSnapshot,
  IndexView,
  TailEvent,
  WaitOptions
} from '../ports.ts'
import type { Entry, NodeId } from '../types.ts'
import { remaining } from '../wait.ts'
import { dataKey, dataRange, decodeEntry } from '../wire/records.ts'
import { corrupt } from '../wire/show.ts'
import { tail } from './tail.ts'
import type { OwnerView } from './views.ts'

export interface ReaderEnvironment {
  /** All storage nodes, sorted. */
  owners(): readonly NodeId[]
  ownerOf(key: Uint8Array): NodeId
  view(owner: NodeId): OwnerView
  /** True when this node takes part in the swarm, or is the owner itself. */
  online(owner: NodeId): boolean
  /**
   * The owner's present head, asked for over the network (dialling it first).
   * @throws TIMEOUT, ABORTED, CONFIG_CONFLICT
   */
  askHead(owner: NodeId, wait: WaitOptions): Promise<Head>
  /** True when the owner was asked since the present connection to it, so that its news come by themselves. */
  asked(owner: NodeId): boolean
}

export class Reader {
  readonly #environment: ReaderEnvironment
  /** When an owner last did not answer, monotonic milliseconds: a copy answers meanwhile, at once. */
  readonly #silent = new Map<NodeId, number>()

  constructor(environment: ReaderEnvironment) {
    this.#environment = environment
  }

  /** Entries of the keys in their order; those of one owner from one snapshot. */
  async getMany(
    keys: readonly Uint8Array[],
    options: EngineReadOptions
  ): Promise<(Entry | null)[]> {
    const started = performance.now()
    const entries: (Entry | null)[] = keys.map(() => null)
    const groups = new Map<NodeId, number[]>()
    for (const [place, key] of keys.entries()) {
      const owner = this.#environment.ownerOf(key)
      const places = groups.get(owner)
      if (places) places.push(place)
      else groups.set(owner, [place])
    }
    const reads = [...groups].map(async ([owner, places]) => {
      const view = await this.#current(owner, options, started)
      const readFrom = async (source: Pick<IndexSnapshot, 'get'>): Promise<void> => {
        const wait = { ...options, timeout: remaining(options.timeout ?? Infinity, started) }
        const found = places.map(async (place) => {
          const key = dataKey(keys[place] as Uint8Array)
          const value = await source.get(key, wait)
          entries[place] = value === null ? null : decodeEntry(key, value)
        })
        await all(found)
      }
      try {
        // One key needs no snapshot.
        if (places.length === 1) await readFrom(view)
        else {
          const isOver = (): boolean => remaining(options.timeout ?? Infinity, started) === 0
          await fromSnapshot(view, readFrom, isOver)
        }
      } catch (error) {
        throw this.#reading(error, owner, view.head)
      }
    })
    await all(reads)
    return entries
  }

  /** Entries of a range of encoded keys, ordered over all owners. */
  async *list(range: IndexRange, options: EngineReadOptions): AsyncGenerator<Entry> {
    const limit = range.limit ?? Infinity
    if (limit === 0) return
    const started = performance.now()
    const sources: Source[] = []
    try {
      const opening = this.#environment.owners().map(async (owner) => {
        const view = await this.#current(owner, options, started)
        const ownerOf = (key: Uint8Array): NodeId => this.#environment.ownerOf(key)
        sources.push(new Source(owner, view, range, options, ownerOf))
      })
      await all(opening)
      yield* this.#merge(sources, range.reverse === true, limit)
    } finally {
      for (const source of sources) await source.close()
    }
  }

  /** Brings the views to the owners' present heads. */
  async refresh(options: WaitOptions): Promise<void> {
    const started = performance.now()
    const { owners, online } = this.#environment
    const away = owners().find((owner) => !online(owner))
    if (away !== undefined) {
      throw new KVSwarmError(
        'NOT_CONNECTED',
        `storage node ${away} cannot be asked: not connected`,
        {
          hint: 'call connect() first (kvswarm connect)'
        }
      )
    }
    await all(owners().map((owner) => this.#current(owner, { ...options, fresh: true }, started)))
  }

  /** What changed since a bookmark (tail.ts). */
  tail(bookmark: string | null, options: EngineTailOptions): AsyncGenerator<TailEvent> {
    const { owners, view } = this.#environment
    const environment = {
      owners,
      current: (owner: NodeId) => this.#current(owner, options, performance.now()),
      head: (owner: NodeId) => view(owner).head,
      onHead: (owner: NodeId, listener: () => void) => view(owner).onHead(listener),
      failed: (error: unknown, owner: NodeId, head: Head) => this.#reading(error, owner, head)
    }
    return tail(environment, bookmark, options)
  }

  async *#merge(sources: Source[], reverse: boolean, limit: number): AsyncGenerator<Entry> {
    const advance = async (source: Source): Promise<void> => {
      try {
        await source.advance()
      } catch (error) {
        throw this.#reading(error, source.owner, source.head)
      }
    }
    await all(sources.map(advance))
    let open = sources.filter((source) => source.next !== null)
    for (let given = 0; given < limit; given++) {
      let first: Source | null = null
      for (const source of open) {
        const order = first === null ? -1 : compareKeys(source, first)
        if (reverse ? order > 0 || first === null : order < 0) first = source
      }
      if (first?.next == null) return
      yield first.next
      await advance(first)
      if (first.next === null) open = open.filter((source) => source !== first)
    }
  }

  /** The owner's view at a head to read from. */
  async #current(owner: NodeId, options: EngineReadOptions, started: number): Promise<IndexView> {
    const { online, askHead, asked, view: viewOf } = this.#environment
    const view = viewOf(owner)
    const timeout = options.timeout ?? Infinity
    const mayAsk = options.wait !== false && online(owner)
    const held = view.current !== null && options.fresh !== true
    const silent = performance.now() - (this.#silent.get(owner) ?? -Infinity) < askAgainMs
    if (mayAsk && !(held && (asked(owner) || silent))) {
      const left = remaining(timeout, started)
      const wait = { timeout: held ? Math.min(left, headWaitMs) : left, signal: options.signal }
      const asking = performance.now()
      try {
        const head = await askHead(owner, wait)
        this.#silent.delete(owner)
        if (head.length > 0) {
          await view.reach(head, { ...wait, timeout: remaining(wait.timeout, asking) })
        }
      } catch (error) {
        this.#silent.set(owner, performance.now())
        // A copy is at hand: it answers, as old as it is. `fresh` asks for more than that.
        if (!held || !isKVSwarmError(error, 'TIMEOUT', 'OWNER_UNREACHABLE', 'CORRUPT')) {
          throw this.#reading(error, owner, view.head)
        }
      }
    }
    const { current } = view
    if (current !== null) return current
    if (!mayAsk) {
      throw new KVSwarmError(
        'NOT_CONNECTED',
        `nothing of storage node ${owner} is on this machine, and this node is not connected`,
        { hint: 'call connect() first (kvswarm connect), or read without `wait: false`' }
      )
    }
    throw new KVSwarmError('OWNER_UNREACHABLE', `storage node ${owner} has no index yet`, {
      hint: 'start it with `kvswarm listen`'
    })
  }

  /** Says of a failed read whose index it was, and how far it is known. */
  #reading(error: unknown, owner: NodeId, head: Head): unknown {
    if (isKVSwarmError(error, 'CORRUPT')) {
      if (error.message.includes(owner)) return error
      return new KVSwarmError(
        'CORRUPT',
        `the index of storage node ${owner} makes no sense: ${error.message}`,
        { hint: error.hint, cause: error }
      )
    }
    if (!isKVSwarmError(error, 'TIMEOUT', 'OWNER_UNREACHABLE')) return error
    return new KVSwarmError(
      'OWNER_UNREACHABLE',
      `storage node ${owner} could not be read: ${(error as Error).message} (its index is known up to block ${head.length})`,
      {
        hint: 'check that the storage node runs (`kvswarm listen`) and can be reached, or allow more time',
        cause: error
      }
    )
  }
}

/** Reads from one snapshot, and again from a newer one when the index has left the cores of the first behind. */
async function fromSnapshot(
  view: IndexView,
  read: (snapshot: IndexSnapshot) => Promise<void>,
  isOver: () => boolean
): Promise<void> {
  for (;;) {
    const snapshot = view.snapshot()
    try {
      return await read(snapshot)
    } catch (error) {
      if (!isKVSwarmError(error, 'INDEX_REPLACED')) throw error
      if (isOver()) throw endless(error)
    } finally {
      await snapshot.close()
    }
  }
}

/** An index that is replaced as fast as it is read cannot be read. */
function endless(cause: unknown): KVSwarmError {
  return new KVSwarmError('TIMEOUT', 'the index was replaced again and again while it was read', {
    hint: 'allow more time',
    cause
  })
}

/**
 * One owner's ordered stream of entries, from one snapshot. When the index leaves the snapshot's cores behind while it
 * is read (that takes 10 s at least), the rest comes from a newer one.
 */
class Source {
  readonly owner: NodeId
  readonly #view: IndexView
  readonly #range: IndexRange
  readonly #options: EngineReadOptions
  readonly #ownerOf: (key: Uint8Array) => NodeId
  #snapshot: IndexSnapshot
  #entries: AsyncIterator<{ key: Uint8Array; value: Uint8Array }>
  next: Entry | null = null

  constructor(
    owner: NodeId,
    view: IndexView,
    range: IndexRange,
    options: EngineReadOptions,
    ownerOf: (key: Uint8Array) => NodeId
  ) {
    this.owner = owner
    this.#view = view
    this.#range = range
    this.#options = options
    this.#snapshot = view.snapshot()
    this.#ownerOf = ownerOf
    // The limit is over all owners together; each may have to give that many.
    this.#entries = this.#read(dataRange(range))
  }

  get head(): Head {
    return this.#snapshot.head
  }

  async advance(): Promise<void> {
    const step = await this.#step()
    if (step.done) {
      this.next = null
      return
    }
    const entry = decodeEntry(step.value.key, step.value.value)
    // Each owner answers for its own slices; what it says of others' nobody has asked it.
    if (this.#ownerOf(entry.key) !== this.owner) throw corrupt('an entry of another storage node')
    this.next = entry
  }

  async close(): Promise<void> {
    await this.#entries.return?.()
    await this.#snapshot.close()
  }

  #read(range: IndexRange): AsyncIterator<{ key: Uint8Array; value: Uint8Array }> {
    return this.#snapshot.range(range, this.#options)[Symbol.asyncIterator]()
  }

  async #step(): Promise<IteratorResult<{ key: Uint8Array; value: Uint8Array }>> {
    const started = performance.now()
    for (;;) {
      try {
        return await this.#entries.next()
      } catch (error) {
        if (!isKVSwarmError(error, 'INDEX_REPLACED')) throw error
        if (remaining(this.#options.timeout ?? Infinity, started) === 0) throw endless(error)
        await this.#snapshot.close()
        this.#snapshot = this.#view.snapshot()
        this.#entries = this.#read(dataRange(this.#rest()))
      }
    }
  }

  /** Of the range, what was not given yet. */
  #rest(): IndexRange {
    const { next } = this
    if (next === null) return this.#range
    const { gt: _gt, gte: _gte, lt: _lt, lte: _lte, ...rest } = this.#range
    return this.#range.reverse === true
      ? { ...bounds(this.#range, 'low'), ...rest, lt: next.key }
      : { ...bounds(this.#range, 'high'), ...rest, gt: next.key }
  }
}

function bounds({ gt, gte, lt, lte }: IndexRange, which: 'low' | 'high'): IndexRange {
  if (which === 'low') {
    return { ...(gt === undefined ? {} : { gt }), ...(gte === undefined ? {} : { gte }) }
  }
  return { ...(lt === undefined ? {} : { lt }), ...(lte === undefined ? {} : { lte }) }
}

/** Promise.all that waits for all of them: nothing goes on behind a failure. */
async function all(promises: readonly Promise<unknown>[]): Promise<void> {
  const outcomes = await Promise.allSettled(promises)
  for (const outcome of outcomes) if (outcome.status === 'rejected') throw outcome.reason
}

function compareKeys(a: Source, b: Source): number {
  return Buffer.compare(a.next?.key ?? new Uint8Array(0), b.next?.key ?? new Uint8Array(0))
}
