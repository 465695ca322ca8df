/**
 * The public class: encodes keys and values, keeps the write cache, and passes everything on to an engine, which
 * is this process's own node or, over the control socket, that of the process that holds the data directory.
 * No rule of the protocol lives here.
 */
import { EventEmitter } from 'node:events'
import {
  cacheBytesMax,
  cacheOperationsMax,
  groupCommitDefaultMs,
  groupCommitSizeDefault,
  lockTimeoutDefaultMs,
  pendingBlocksDefault,
  pendingBytesDefault,
  timeoutDefaultMs
} from '../config/limits.ts'
import { Config, type ConfigOptions } from '../config/index.ts'
import { WriteCache } from './cache.ts'
import { Flushes } from './flushes.ts'
import { optionsAndCallback, settle, type Callback } from './callbacks.ts'
import { coordinate } from './coordination/index.ts'
import { KVSwarmError } from './errors.ts'
import { prepareDirectory } from './hyper/datadir.ts'
import { LocalEngine } from './node.ts'
import type {
  Engine,
  EngineReadOptions,
  LockInfo,
  Network,
  OnFull,
  QueueBounds,
  QueueStats,
  Role,
  Status,
  WaitOptions
} from './ports.ts'
import { rotationOf, type RotationLimits } from './protocol/rotation.ts'
import { version } from './status.ts'
import type { Entry, FlushResult, Key, NodeId, Operation, Value, Versionstamp } from './types.ts'
import { checkTimeout } from './wait.ts'
import { decodeKey, encodeKey, prefixRange, rangeBound } from './wire/keys.ts'
import { decodeValue, encodeValue, type ValueEncoding } from './wire/values.ts'

/** Options of `kvswarm()`. */
export interface KVSwarmOptions {
  /**
   * The data directory, or a function that is called with a name and returns one (as the original API allows).
   * One that returns a random-access adaptor is refused: hypercore 11 keeps its own database in a directory.
   */
  readonly storage: string | ((name: string) => string)
  /** Who stores what and who may write. Unset: the one that the data directory has adopted. */
  readonly config?: Config
  /** Slices by node id in the original form, instead of `config`. */
  readonly bins?: ConfigOptions['bins']
  /** `host:port` of DHT nodes of a private swarm. @default the public DHT, or the configuration's */
  readonly bootstrap?: string | readonly string[]
  /** Where connections come from. @default hyperswarm */
  readonly network?: Network
  /**
   * `os` leaves it to the operating system when this node's own writes reach the disk: faster, and a power cut
   * loses the newest of them. What others rely on (acks, indexes) is always synced. @default 'sync'
   */
  readonly durability?: 'sync' | 'os'
  /**
   * When outboxes go on under a next generation, so that the old one can be deleted; in bytes and milliseconds.
   * Smaller bounds keep less on disk, and cost a few syncs more. @default see `RotationLimits`
   */
  readonly rotation?: Partial<RotationLimits>
  /**
   * Bytes to keep free on the disk of the data directory: below, writes are refused with DISK_FULL before anything is
   * written, nothing is taken in from others, and reads go on. @default 256 MiB, or a tenth of a smaller disk
   */
  readonly diskReserveBytes?: number
  /** Milliseconds that a call waits for the network, unless it says otherwise. @default 30000 */
  readonly timeout?: number
  /**
   * What to do when another process holds the data directory: `auto` attaches to it, `required` fails where
   * that cannot be relied on, `single` never shares. @default 'auto'
   */
  readonly coordination?: 'auto' | 'required' | 'single'
  /** Milliseconds to wait for a held directory whose holder does not answer. @default 30000 */
  readonly lockTimeout?: number
  /** Looks at the directory as it is now, held or not: nothing is written, no network. @default false */
  readonly readOnly?: boolean
  /** Fixes the type of all values. @default any type */
  readonly valueEncoding?: ValueEncoding
  /**
   * `manual`: put() and del() go to the write cache, flush() writes it. `immediate`: they are written at once, those
   * that come meanwhile together. `group`: as `immediate`, but calls that meet wait for more of them. In the latter
   * two the promise of put() and del() resolves when the operation is on disk. @default 'manual'
   */
  readonly writeMode?: 'manual' | 'immediate' | 'group'
  /** A group is written when it has so many operations. @default 50 */
  readonly groupCommitSize?: number
  /** A group is written when its first operation has waited so long, milliseconds; one that is alone never waits. @default 100 */
  readonly groupCommitMs?: number
  /**
   * Bytes that may be pending, over all outboxes of the data directory: appended and without receipt, or about to be
   * appended. Infinity: no bound. The bounds of the process that holds the directory count. @default 1 GiB
   */
  readonly maxPendingBytes?: number
  /** The same in blocks. @default 1000000 */
  readonly maxPendingBlocks?: number
  /** What a write of this handle does when the queue is full: wait in turn, or fail with QUEUE_FULL. @default 'wait' */
  readonly onFull?: OnFull
}

/**
 * What put() and del() give: to be awaited, or not. With `writeMode: 'manual'` it has resolved already; otherwise
 * it resolves when the operation is on disk, and a rejection that nobody handles is an unhandled one.
 */
export interface Written extends PromiseLike<void> {
  catch<T = never>(onRejected?: ((reason: unknown) => T | PromiseLike<T>) | null): Promise<void | T>
  finally(onFinally?: (() => void) | null): Promise<void>
}

export interface CloseOptions {
  /** False: what is in the write cache is thrown away. @default true */
  readonly flush?: boolean
}

/** What `stats()` gives. */
export interface Stats {
  /** The write queue of the data directory; what each number counts: docs/queue.md. */
  readonly queue: QueueStats
  /** Who holds the directory's lock and who waits; null with `readOnly`. */
  readonly lock: LockInfo | null
  /** This handle's write cache. */
  readonly cache: {
    readonly operations: number
    readonly bytes: number
    readonly maxOperations: number
    readonly maxBytes: number
    /** Calls of flush(), put() and del() that wait to be written. */
    readonly waiting: number
  }
  /** Blocks and bytes of each outbox without receipt, as they are on disk. */
  readonly outboxes: readonly {
    readonly owner: NodeId
    readonly length: number
    readonly pendingBlocks: number
    readonly pendingBytes: number
  }[]
  /** Syncs of the disk, for everything in this data directory. */
  readonly barrier: Status['barrier']
  readonly inboxes: number
  readonly views: number
  readonly peers: number
}

/** A change that tail() tells, or news about where it is. */
export type Change =
  | ({ readonly type: 'put' } & KVEntry)
  | { readonly type: 'del'; readonly key: Key }
  /** Forget what was told before: the full state follows. */
  | { readonly type: 'reset' }
  /** Everything before this was told; tail(bookmark) goes on here. */
  | { readonly type: 'bookmark'; readonly bookmark: string }

export interface TailOptions extends WaitOptions {
  /** Goes on with what comes, until the signal fires or the loop is left. @default false */
  readonly follow?: boolean
}

export interface ReadOptions extends WaitOptions {
  /** False: only what is on this machine, at once. @default true */
  readonly wait?: boolean
  /** Ask the owner for its present head first. @default false */
  readonly fresh?: boolean
  /** Id of a flush that must be applied first. */
  readonly after?: string
}

export interface FlushOptions extends WaitOptions {
  /** Wait until the storage nodes hold the operations durably. */
  readonly ack?: boolean
  /** Wait until they are applied and readable here; implies `ack`. */
  readonly receipt?: boolean
}

/** One entry as it is read. */
export interface KVEntry {
  readonly key: Key
  readonly value: Value
  readonly versionstamp: Versionstamp
  /** Unix milliseconds; null: never. */
  readonly expireAt: number | null
}

/** Which entries `list()` gives: those of a prefix, or from `start` (inclusive) to `end` (exclusive). */
export interface ListSelector {
  readonly prefix?: Key
  readonly start?: Key
  readonly end?: Key
  /** Last key first. @default false */
  readonly reverse?: boolean
  /** At most so many. @default all */
  readonly limit?: number
}

export interface KVSwarmEvents {
  /** Something failed that no caller can be told of. */
  error: [error: KVSwarmError]
  /** Something that somebody should know, and that needs no action to go on. */
  warning: [message: string]
  /** `kvswarm stop` asked all processes of this data directory to end. Without a listener the store closes. */
  stop: []
}

export class KVSwarm extends EventEmitter<KVSwarmEvents> {
  readonly #options: KVSwarmOptions
  readonly #directory: string
  readonly #rotation: RotationLimits
  readonly #timeout: number
  readonly #cache = new WriteCache()
  readonly #flushes: Flushes
  readonly #bounds: QueueBounds
  readonly #openEngine: (() => Promise<Engine>) | undefined
  /** Roles as they were asked for; each resolves with the call that ends it. */
  readonly #roles = new Map<Role, Promise<() => Promise<void>>>()
  /** Roles start behind the end of earlier ones, and configurations are changed one after the other. */
  #stopping: Promise<unknown> = Promise.resolve()
  #changing: Promise<unknown> = Promise.resolve()
  #engine: Engine | null = null
  #opening: Promise<Engine> | null = null
  #closing: Promise<void> | null = null
  #config: Config | null

  /**
   * @param openEngine internal, for tests: opens another engine than the data directory's
   * @throws INVALID_ARGUMENT, STORAGE_UNSUPPORTED, CONFIG_INVALID
   */
  constructor(options: KVSwarmOptions, openEngine?: () => Promise<Engine>) {
    super()
    if (options === null || typeof options !== 'object') {
      throw new KVSwarmError('INVALID_ARGUMENT', `options are ${String(options)}`, {
        hint: 'call kvswarm({ storage, config })'
      })
    }
    this.#options = options
    this.#openEngine = openEngine
    this.#directory = directoryOf(options.storage)
    this.#timeout = checkTimeout(options.timeout, timeoutDefaultMs)
    checkTimeout(options.lockTimeout, lockTimeoutDefaultMs)
    checkReserve(options.diskReserveBytes)
    oneOf('durability', options.durability, ['sync', 'os'])
    oneOf('coordination', options.coordination, ['auto', 'required', 'single'])
    oneOf('writeMode', options.writeMode, ['manual', 'immediate', 'group'])
    oneOf('onFull', options.onFull, ['wait', 'reject'])
    const { writeMode, groupCommitSize, groupCommitMs } = options
    const size = atLeast('groupCommitSize', groupCommitSize ?? groupCommitSizeDefault, 1)
    const ms = checkTimeout(groupCommitMs, groupCommitDefaultMs)
    if (writeMode !== 'group' && (groupCommitSize ?? groupCommitMs) !== undefined) {
      throw new KVSwarmError(
        'INVALID_ARGUMENT',
        "groupCommitSize and groupCommitMs need writeMode 'group'",
        {
          hint: "set writeMode: 'group', or leave them out"
        }
      )
    }
    this.#bounds = {
      maxPendingBytes: atLeast(
        'maxPendingBytes',
        options.maxPendingBytes ?? pendingBytesDefault,
        1
      ),
      maxPendingBlocks: atLeast(
        'maxPendingBlocks',
        options.maxPendingBlocks ?? pendingBlocksDefault,
        1
      ),
      onFull: options.onFull ?? 'wait'
    }
    this.#flushes = new Flushes(this.#cache, () => this.#opened(), {
      onFull: this.#bounds.onFull,
      ...(writeMode === 'group' ? { group: { size, ms } } : {})
    })
    oneOf('valueEncoding', options.valueEncoding, ['any', 'binary', 'utf-8', 'json'])
    this.#rotation = rotationOf(options.rotation)
    if (options.config !== undefined && !(options.config instanceof Config)) {
      throw new KVSwarmError('INVALID_ARGUMENT', 'config is not a Config', {
        hint: "make one with new Config({ capacities, writers }) or Config.parse(text) of 'kvswarm/config'"
      })
    }
    this.#config =
      options.config?.snapshot() ?? (options.bins ? new Config({ bins: options.bins }) : null)
  }

  /** This node's id. @throws CLOSED before ready() */
  get nodeId(): NodeId {
    if (!this.#engine) {
      throw new KVSwarmError('CLOSED', 'the store is not open', { hint: 'await kv.ready() first' })
    }
    return this.#engine.nodeId
  }

  /**
   * A copy of the configuration as this handle last saw it, or null. Another handle or process may have changed
   * it since: getWriters() and every change ask anew.
   */
  get config(): Config | null {
    return this.#config?.snapshot() ?? null
  }

  /** Resolves when the data directory is open, or its holder attached to; every call waits for it by itself. */
  ready(callback?: Callback): Promise<void> {
    return settle(
      this.#opened().then(() => {}),
      callback
    )
  }

  /**
   * Flushes what is in the write cache (and opens the data directory for that, when nothing did), ends every role
   * and connection, and closes the data directory. Idempotent.
   * @throws what opening or the last flush threw; the store is closed all the same, and what was not written is lost
   */
  close(callback?: Callback): Promise<void>
  close(options?: CloseOptions, callback?: Callback): Promise<void>
  close(options?: CloseOptions | Callback, callback?: Callback): Promise<void> {
    const [opts, done] = optionsAndCallback<CloseOptions, void>(options, callback)
    this.#closing ??= this.#close(opts?.flush !== false)
    return settle(this.#closing, done)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close()
  }

  /**
   * The value of a key, null when there is none. Fetches only the blocks that it needs, each one verified.
   * Without a connection it answers from what is on this machine.
   * @throws KEY_INVALID, TIMEOUT, ABORTED, OWNER_UNREACHABLE, NOT_CONNECTED, CLOSED
   */
  get(key: Key, callback: Callback<Value>): Promise<Value>
  get(key: Key, options?: ReadOptions, callback?: Callback<Value>): Promise<Value>
  get(
    key: Key,
    options?: ReadOptions | Callback<Value>,
    callback?: Callback<Value>
  ): Promise<Value> {
    const [opts, done] = optionsAndCallback<ReadOptions, Value>(options, callback)
    return settle(
      this.getEntry(key, opts).then((entry) => (entry === null ? null : entry.value)),
      done
    )
  }

  /** The entry of a key with its versionstamp, null when there is none. @throws as get() */
  async getEntry(key: Key, options?: ReadOptions): Promise<KVEntry | null> {
    const [entry] = await this.getMany([key], options)
    return entry ?? null
  }

  /** True when the key exists. @throws as get() */
  async has(key: Key, options?: ReadOptions): Promise<boolean> {
    return (await this.getEntry(key, options)) !== null
  }

  /** The entries of several keys in their order, null for what is missing; each owner's from one snapshot. */
  async getMany(keys: readonly Key[], options?: ReadOptions): Promise<(KVEntry | null)[]> {
    const encoded = keys.map((key) => encodeKey(key))
    const engine = await this.#use()
    const entries = await engine.getMany(encoded, this.#reading(options))
    return entries.map((entry) => (entry === null ? null : this.#entry(entry)))
  }

  /**
   * All entries that the selector names, ordered by key over all storage nodes, each node's from one snapshot.
   * One that takes long, while a node's index is overwritten fast, goes on in a newer state of that node.
   * @throws as get(), while iterating
   */
  async *list(selector: ListSelector = {}, options?: ReadOptions): AsyncGenerator<KVEntry> {
    const range = rangeOf(selector)
    const engine = await this.#use()
    for await (const entry of engine.list(range, this.#reading(options))) yield this.#entry(entry)
  }

  /**
   * Puts a write of the value into the write cache; flush() makes it durable. The value is copied.
   *
   * With `writeMode: 'immediate'` or `'group'` it is written by itself, and the promise resolves when it is on disk.
   * A timeout or abort before that leaves nothing behind, and so does any other failure, unless the error says
   * `data.uncertain`; the options have a meaning in these modes only.
   * @throws KEY_INVALID, KEY_TOO_LARGE, VALUE_INVALID, VALUE_TOO_LARGE, CACHE_FULL, CLOSED, at the call; the promise
   *   rejects as that of flush()
   */
  put(key: Key, value: Value, callback: Callback): Written
  put(key: Key, value: Value, options?: WaitOptions, callback?: Callback): Written
  put(key: Key, value: Value, options?: WaitOptions | Callback, callback?: Callback): Written {
    this.#mayWrite()
    const encoding = this.#options.valueEncoding
    const operation = {
      type: 'put',
      key: encodeKey(key),
      value: encodeValue(value, encoding)
    } as const
    return this.#write(operation, options, callback)
  }

  /** Puts a deletion into the write cache, or writes it, as put(). @throws as put() */
  del(key: Key, callback: Callback): Written
  del(key: Key, options?: WaitOptions, callback?: Callback): Written
  del(key: Key, options?: WaitOptions | Callback, callback?: Callback): Written {
    this.#mayWrite()
    return this.#write({ type: 'del', key: encodeKey(key) }, options, callback)
  }

  /** put() and flush() in one; in the modes without flush() it waits for its own write alone. */
  async set(key: Key, value: Value, options?: FlushOptions): Promise<FlushResult> {
    this.#mayWrite()
    const encoding = this.#options.valueEncoding
    return await this.#writeNow(
      { type: 'put', key: encodeKey(key), value: encodeValue(value, encoding) },
      options ?? {}
    )
  }

  /** del() and flush() in one, as set(). */
  async delete(key: Key, options?: FlushOptions): Promise<FlushResult> {
    this.#mayWrite()
    return await this.#writeNow({ type: 'del', key: encodeKey(key) }, options ?? {})
  }

  /**
   * Writes the write cache, as it is at the call, to the outboxes. Resolves when it is on this machine's disk;
   * with `ack` when the storage nodes hold it durably, with `receipt` when it is applied and get() on this node
   * gives it.
   *
   * Calls that are made while a write is under way share the next one: their results are the same, and
   * `operations` and `parts` are those of the whole write. What an earlier flush could not write is written
   * first, and counts in. With nothing to write, `id` is empty and `operations` 0.
   *
   * A timeout or abort before it is on disk leaves it in the cache for the next flush; after, the error says
   * `durable: true` and names the flush, and kv.receipt(id) waits on. One that comes while the write is under way
   * says `data.uncertain: true` when nobody can tell which it is: the next flush finds out, and writes it once.
   *
   * It waits for room first when too much is pending (`maxPendingBytes`, `onFull`, docs/queue.md).
   * @throws NOT_WRITER, QUEUE_FULL, QUEUE_CLOSED, TIMEOUT, ABORTED, FLUSH_PARTIAL, OPERATION_REJECTED, DISK_FULL,
   *   IO_ERROR, CLOSED
   */
  flush(callback: Callback<FlushResult>): Promise<FlushResult>
  flush(options?: FlushOptions, callback?: Callback<FlushResult>): Promise<FlushResult>
  flush(
    options?: FlushOptions | Callback<FlushResult>,
    callback?: Callback<FlushResult>
  ): Promise<FlushResult> {
    const [opts, done] = optionsAndCallback<FlushOptions, FlushResult>(options, callback)
    return settle(this.#flush(opts ?? {}), done)
  }

  /**
   * Waits for an earlier flush by its id, also one of an earlier process.
   * @param options `ack: true` waits for the ack only
   * @throws FLUSH_UNKNOWN, TIMEOUT, ABORTED, OPERATION_REJECTED, FLUSH_LOST
   */
  async receipt(
    flushId: string,
    options: WaitOptions & { readonly ack?: boolean } = {}
  ): Promise<FlushResult> {
    const engine = await this.#use()
    return await engine.receipt(flushId, { ...options, ...this.#wait(options) })
  }

  /** Connects to the swarm: delivers what is in the outboxes, and reads from the storage nodes. */
  connect(callback?: Callback): Promise<void> {
    return settle(this.#start('connect'), callback)
  }

  /** Ends connect() and listen(). */
  disconnect(callback?: Callback): Promise<void> {
    return settle(this.#stop(), callback)
  }

  /**
   * Connects and lets others reach this node; storage nodes take in, apply and serve from then on.
   * @throws NOT_AUTHORISED when the configuration gives this node no role
   */
  listen(callback?: Callback): Promise<void> {
    return settle(this.#start('listen'), callback)
  }

  /** Replaces the list of authorised writers. @throws CONFIG_INVALID, CONFIG_MISSING */
  setWriters(writers: readonly string[], callback?: Callback): Promise<void> {
    return settle(
      this.#change((config) => config.update({ writers })),
      callback
    )
  }

  /** Ids of the authorised writers, sorted. */
  getWriters(callback?: Callback<string[]>): Promise<string[]> {
    const list = async (): Promise<string[]> => {
      const config = await this.#refresh(await this.#use())
      return [...(config?.writers ?? [])]
    }
    return settle(list(), callback)
  }

  addWriter(id: string, callback?: Callback): Promise<void> {
    return settle(
      this.#change((config) => config.addWriter(id)),
      callback
    )
  }

  removeWriter(id: string, callback?: Callback): Promise<void> {
    return settle(
      this.#change((config) => config.removeWriter(id)),
      callback
    )
  }

  /**
   * Sets capacities of storage nodes (0 removes one); the existing slices are adjusted.
   * @throws CONFIG_SLICES when this node has adopted the present slices: data is not moved yet
   */
  setCapacities(capacities: Readonly<Record<string, number>>, callback?: Callback): Promise<void> {
    return settle(
      this.#change((config) => config.update({ capacities })),
      callback
    )
  }

  /**
   * Uses another configuration from now on; a snapshot of it is taken.
   * @throws CONFIG_STALE, CONFIG_CONFLICT, CONFIG_SLICES
   */
  setConfig(config: Config, callback?: Callback): Promise<void> {
    const set = async (): Promise<void> => {
      if (!(config instanceof Config)) {
        throw new KVSwarmError('INVALID_ARGUMENT', 'setConfig() got something that is not a Config')
      }
      const given = config.snapshot()
      await this.#inTurn((engine) => this.#adopt(engine, given))
    }
    return settle(set(), callback)
  }

  /**
   * Asks the storage nodes for their newest heads; resolves when reads on this node begin there.
   * @throws NOT_CONNECTED, OWNER_UNREACHABLE, ABORTED, CLOSED
   */
  refresh(callback: Callback): Promise<void>
  refresh(options?: WaitOptions, callback?: Callback): Promise<void>
  refresh(options?: WaitOptions | Callback, callback?: Callback): Promise<void> {
    const [opts, done] = optionsAndCallback<WaitOptions, void>(options, callback)
    const ask = async (): Promise<void> => (await this.#use()).refresh(this.#wait(opts))
    return settle(ask(), done)
  }

  /** The same as refresh(). */
  sync(options?: WaitOptions): Promise<void> {
    return this.refresh(options)
  }

  /**
   * What changed since a bookmark, or, without one, the full state; ends when everything known is told.
   *
   * The newest state of each key is always told, states between may be merged, and a key may be told again with a
   * state that was told before. Keys of one storage node come together. Each `bookmark` says that everything before
   * it was told. When a storage node's history is gone (it was restored), `reset` comes, and then the full state.
   * @param options `timeout` bounds each wait for a storage node
   * @throws INVALID_ARGUMENT, OWNER_UNREACHABLE, NOT_CONNECTED, ABORTED, CLOSED, while iterating
   */
  async *tail(bookmark?: string | null, options: TailOptions = {}): AsyncGenerator<Change> {
    const engine = await this.#use()
    const follow = options.follow === true
    const events = engine.tail(bookmark ?? null, { ...this.#wait(options), follow })
    for await (const event of events) {
      if (event.type === 'put') yield { type: 'put', ...this.#entry(event.entry) }
      else if (event.type === 'del') yield { type: 'del', key: decodeKey(event.key) }
      else yield event
    }
  }

  /** Sizes and counters: the write queue, the cache, outboxes, the lock. */
  async stats(): Promise<Stats> {
    const status = await this.status()
    return {
      queue: status.queue,
      lock: status.lock,
      cache: {
        operations: this.#cache.held,
        bytes: this.#cache.bytes,
        maxOperations: cacheOperationsMax,
        maxBytes: cacheBytesMax,
        waiting: this.#flushes.waiting
      },
      outboxes: status.outboxes.map(({ owner, length, pendingBlocks, pendingBytes }) => ({
        owner,
        length,
        pendingBlocks,
        pendingBytes
      })),
      barrier: status.barrier,
      inboxes: status.inboxes.length,
      views: status.views.length,
      peers: status.peers.length
    }
  }

  /** What this node is and does: see Status. */
  async status(): Promise<Status> {
    return await (await this.#use()).status()
  }

  #opened(): Promise<Engine> {
    this.#opening ??= this.#closing ? Promise.reject(closedError()) : this.#open()
    return this.#opening
  }

  async #open(): Promise<Engine> {
    const engine = await (this.#openEngine ?? (() => this.#openStore()))()
    this.#engine = engine
    await this.#refresh(engine)
    await this.#compareBounds(engine)
    return engine
  }

  /** Bounds that were asked for, of a directory that another process holds: its own count. */
  async #compareBounds(engine: Engine): Promise<void> {
    const { maxPendingBytes, maxPendingBlocks } = this.#options
    if (maxPendingBytes === undefined && maxPendingBlocks === undefined) return
    const { queue } = await engine.status()
    const bytes = queue.maxPendingBytes ?? Infinity
    const blocks = queue.maxPendingBlocks ?? Infinity
    if (bytes === (maxPendingBytes ?? bytes) && blocks === (maxPendingBlocks ?? blocks)) return
    this.emit(
      'warning',
      `the process that holds the data directory bounds its write queue by ${bytes} bytes and ${blocks} blocks: that counts, until this one holds it`
    )
  }

  async #openStore(): Promise<Engine> {
    const { coordination, lockTimeout, readOnly } = this.#options
    const openEngine = (text: string | null): Promise<Engine> =>
      LocalEngine.open({
        directory: this.#directory,
        config: text === null ? null : Config.parse(text),
        bootstrap: bootstrapOf(this.#options.bootstrap) ?? this.#config?.bootstrap ?? null,
        network: this.#options.network ?? null,
        durability: this.#options.durability ?? 'sync',
        rotation: this.#rotation,
        readOnly: readOnly === true,
        queue: this.#bounds,
        diskReserveBytes: this.#options.diskReserveBytes ?? null,
        onWarning: (message) => this.emit('warning', message),
        onError: (error) => this.#failed(error)
      })
    return readOnly
      ? await openEngine(this.#config?.serialize() ?? null)
      : await coordinate({
          directory: this.#directory,
          mode: coordination ?? 'auto',
          lockTimeoutMs: lockTimeout ?? lockTimeoutDefaultMs,
          configText: this.#config?.serialize() ?? null,
          openEngine,
          prepare: () => prepareDirectory(this.#directory, true),
          version: version(),
          onStop: () => this.#asked(),
          onError: (error) => this.#failed(error),
          onWarning: (message) => this.emit('warning', message)
        })
  }

  async #close(flush: boolean): Promise<void> {
    if (!flush) this.#cache.clear()
    const pending = this.#flushes.pending
    if (!this.#opening && !pending) return
    this.#opening ??= this.#open()
    let engine: Engine
    try {
      engine = await this.#opening
    } catch (error) {
      await this.#engine?.close()
      // Whoever opened was told; but nobody was told that what was put is lost.
      if (pending) throw error
      return
    }
    // Also with an empty cache: it waits for the writes that are under way.
    const last = flush
      ? this.#flushes.flush({ ...this.#wait(undefined), ack: false, receipt: false })
      : Promise.resolve()
    const [flushed] = await Promise.allSettled([last])
    await this.#stop().catch(() => {})
    const [closed] = await Promise.allSettled([engine.close()])
    for (const outcome of [flushed, closed]) {
      if (outcome.status === 'rejected') throw outcome.reason
    }
  }

  async #use(): Promise<Engine> {
    if (this.#closing) throw closedError()
    return await this.#opened()
  }

  #asked(): void {
    if (this.emit('stop')) return
    this.close().catch((error: unknown) => this.#failed(error))
  }

  #failed(error: unknown): void {
    // Without a listener an 'error' event would end the process with a bare stack: that is what Node users expect.
    this.emit('error', error as KVSwarmError)
  }

  async #start(role: Role): Promise<void> {
    if (this.#closing) throw closedError()
    const started = this.#roles.get(role) ?? this.#begin(role)
    this.#roles.set(role, started)
    try {
      await started
    } catch (error) {
      // Another call may have begun it again by now.
      if (this.#roles.get(role) === started) this.#roles.delete(role)
      throw error
    }
  }

  async #begin(role: Role): Promise<() => Promise<void>> {
    // As it is at the call: a later disconnect() waits for this start.
    const stopping = this.#stopping
    const engine = await this.#opened()
    await stopping
    return await engine.start(role)
  }

  /** Ends all roles that were asked for so far, also those that are only being started. */
  #stop(): Promise<void> {
    const roles = [...this.#roles.values()]
    this.#roles.clear()
    const stopped = Promise.all([Promise.allSettled(roles.map(endRole)), this.#stopping])
    this.#stopping = stopped
    return stopped.then(([ends]) => {
      const failed = ends.find((end) => end.status === 'rejected')
      if (failed) throw failed.reason
    })
  }

  #mayWrite(): void {
    if (this.#closing) throw closedError()
    if (this.#options.readOnly) {
      throw new KVSwarmError('READ_ONLY', 'the store was opened with readOnly', {
        hint: 'open it without readOnly to write'
      })
    }
  }

  async #flush(options: FlushOptions): Promise<FlushResult> {
    this.#mayWrite()
    return await this.#flushes.flush({
      ...this.#wait(options),
      ack: options.ack === true,
      receipt: options.receipt === true
    })
  }

  #write(
    operation: Operation,
    options: WaitOptions | Callback | undefined,
    callback: Callback | undefined
  ): Written {
    const [opts, done] = optionsAndCallback<WaitOptions, void>(options, callback)
    if ((this.#options.writeMode ?? 'manual') === 'manual') {
      this.#cache.add(operation)
      return settle(Promise.resolve(), done)
    }
    const wait = { ...this.#wait(opts), ack: false, receipt: false }
    return settle(
      this.#flushes.write(operation, wait).then(() => {}),
      done
    )
  }

  async #writeNow(operation: Operation, options: FlushOptions): Promise<FlushResult> {
    if ((this.#options.writeMode ?? 'manual') === 'manual') {
      this.#cache.add(operation)
      return await this.#flush(options)
    }
    const { ack, receipt } = options
    const wait = { ...this.#wait(options), ack: ack === true, receipt: receipt === true }
    return await this.#flushes.write(operation, wait)
  }

  #wait(options: WaitOptions | undefined): { timeout: number; signal: AbortSignal | undefined } {
    return { timeout: checkTimeout(options?.timeout, this.#timeout), signal: options?.signal }
  }

  #reading(options: ReadOptions | undefined): EngineReadOptions {
    return {
      ...this.#wait(options),
      wait: options?.wait !== false,
      fresh: options?.fresh === true,
      ...(options?.after === undefined ? {} : { after: options.after })
    }
  }

  #entry(entry: Entry): KVEntry {
    return {
      key: decodeKey(entry.key),
      value: decodeValue(entry.value, this.#options.valueEncoding),
      versionstamp: entry.versionstamp,
      expireAt: entry.expireAt === 0 ? null : entry.expireAt
    }
  }

  /** The configuration as the engine has it now: another handle may have changed it. */
  async #refresh(engine: Engine): Promise<Config | null> {
    const text = await engine.config()
    if (text !== null) this.#config = Config.parse(text)
    return this.#config
  }

  #change(change: (config: Config) => void): Promise<void> {
    return this.#inTurn(async (engine) => {
      const present = await this.#refresh(engine)
      if (!present) {
        throw new KVSwarmError('CONFIG_MISSING', 'there is no configuration to change', {
          hint: 'pass one when opening, or call setConfig()'
        })
      }
      const config = Config.parse(present.serialize())
      change(config)
      if (config.epoch !== present.epoch) await this.#adopt(engine, config)
    })
  }

  /** Two changes of one handle build on each other. */
  async #inTurn(change: (engine: Engine) => Promise<void>): Promise<void> {
    const engine = await this.#use()
    const changed = this.#changing.then(() => change(engine))
    this.#changing = changed.catch(() => {})
    await changed
  }

  async #adopt(engine: Engine, config: Config): Promise<void> {
    await engine.setConfig(config.serialize())
    this.#config = config
  }
}

/** Creates a store: `kvswarm(options)` is `new KVSwarm(options)`. */
export function kvswarm(options: KVSwarmOptions): KVSwarm {
  return new KVSwarm(options)
}

function directoryOf(storage: KVSwarmOptions['storage']): string {
  const given: unknown = typeof storage === 'function' ? storage('kvswarm') : storage
  if (typeof given === 'string' && given !== '') return given
  if (typeof storage === 'function' && typeof given === 'object' && given !== null) {
    throw new KVSwarmError('STORAGE_UNSUPPORTED', 'storage() returned a random-access adaptor', {
      hint: 'return the path of a directory: hypercore 11 keeps a database of its own there'
    })
  }
  throw new KVSwarmError(
    'INVALID_ARGUMENT',
    `storage is ${JSON.stringify(given) ?? String(given)}`,
    {
      hint: 'give the path of the data directory'
    }
  )
}

function bootstrapOf(bootstrap: KVSwarmOptions['bootstrap']): readonly string[] | null {
  if (bootstrap === undefined) return null
  return typeof bootstrap === 'string' ? bootstrap.split(',').map((text) => text.trim()) : bootstrap
}

/** @throws INVALID_ARGUMENT */
function atLeast(name: string, value: number, least: number): number {
  if (typeof value === 'number' && value >= least) return value
  throw new KVSwarmError('INVALID_ARGUMENT', `${name} is ${String(value)}`, {
    hint: `give a number from ${least} to Infinity`
  })
}

function checkReserve(bytes: number | undefined): void {
  if (bytes === undefined || (Number.isSafeInteger(bytes) && bytes >= 0)) return
  throw new KVSwarmError('INVALID_ARGUMENT', `diskReserveBytes is ${bytes}`, {
    hint: 'give a whole number of bytes, or leave it out'
  })
}

function oneOf(name: string, value: string | undefined, allowed: readonly string[]): void {
  if (value === undefined || allowed.includes(value)) return
  throw new KVSwarmError('INVALID_ARGUMENT', `${name} is ${JSON.stringify(value)}`, {
    hint: `use one of ${allowed.join(', ')}`
  })
}

function rangeOf(selector: ListSelector): {
  gte?: Uint8Array
  lt?: Uint8Array
  reverse: boolean
  limit?: number
} {
  const { prefix, start, end, reverse = false, limit } = selector
  if (prefix !== undefined && (start !== undefined || end !== undefined)) {
    throw new KVSwarmError('INVALID_ARGUMENT', 'list() got a prefix and a start or end', {
      hint: 'give either a prefix, or a start and an end'
    })
  }
  if (limit !== undefined && (!Number.isSafeInteger(limit) || limit < 0)) {
    throw new KVSwarmError('INVALID_ARGUMENT', `limit is ${String(limit)}`, {
      hint: 'give a whole number, 0 or more'
    })
  }
  return {
    ...(prefix === undefined ? {} : prefixRange(prefix)),
    ...(start === undefined ? {} : { gte: rangeBound(start) }),
    ...(end === undefined ? {} : { lt: rangeBound(end) }),
    reverse,
    ...(limit === undefined ? {} : { limit })
  }
}

/** Ends a role; one that did not start needs no end, and its caller was told. */
async function endRole(started: Promise<() => Promise<void>>): Promise<void> {
  const end = await started.catch(() => null)
  await end?.()
}

function closedError(): KVSwarmError {
  return new KVSwarmError('CLOSED', 'the store is closed', { hint: 'open a new one' })
}
