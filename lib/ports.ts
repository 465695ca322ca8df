/**
 * The outer world as small interfaces. Everything above lib/hyper/ talks to these; nothing outside
 * lib/hyper/ knows hypercore, corestore, hyperswarm or protomux.
 */
import type { Entry, FlushResult, KeyPair, LogName, NodeId, Operation, Position } from './types.ts'

/** What every wait for the network takes. */
export interface WaitOptions {
  /** Milliseconds; 0 = at once, Infinity = for ever. @default 30000 (the library), 10000 (the command) */
  readonly timeout?: number | undefined
  readonly signal?: AbortSignal | undefined
}

/** Time, as far as decisions need it. Waiting is monotonic, only stamps are wall-clock. */
export interface Clock {
  /** Monotonic milliseconds. */
  now(): number
  /** Unix milliseconds. */
  wall(): number
}

/**
 * An append-only signed log: one generation of an outbox, an index or a handoff log.
 *
 * Invariants: `length` never shrinks while it is open; a block that append() has resolved for is durable;
 * blocks are verified against the signer's key before they are stored.
 */
export interface Log {
  readonly name: LogName
  readonly generation: number
  /** Blocks signed by the owner that this node knows of; not all of them need to be here. */
  readonly length: number
  /** Of all blocks together, whether they are here or not. */
  readonly bytes: number
  readonly writable: boolean
  /** Appends all blocks in one step and resolves, behind the durability barrier, with the new length. */
  append(blocks: readonly Uint8Array[]): Promise<number>
  /** True when the block is here. */
  has(block: number): boolean
  /** The first block at or after `from` that is not here. */
  firstMissing(from: number): number
  /**
   * One block. With `wait: false` null when it is not here.
   * @throws TIMEOUT, ABORTED, CLOSED
   */
  get(
    block: number,
    options?: WaitOptions & { readonly wait?: boolean }
  ): Promise<Uint8Array | null>
  /** Bytes of the blocks from `block` to the end, whether they are here or not. */
  bytesFrom(block: number): Promise<number>
  /** A few bytes that its node keeps beside the log, for itself alone; null: none. */
  note(): Promise<Uint8Array | null>
  /** Resolves when the note is durable. */
  setNote(note: Uint8Array): Promise<void>
  /** Hash over the whole log at its present length; what a high-water mark holds. */
  treeHash(): Promise<Uint8Array>
  /** Called when the log grew or a block arrived; returns the call that stops it. */
  onChange(listener: () => void): () => void
  /**
   * Called when the log ended under us: `conflict` when its signer has signed two versions of it, which closes it
   * for ever; `closed` when its session went. Returns the call that stops it.
   */
  onEnd(listener: (reason: 'conflict' | 'closed') => void): () => void
  close(): Promise<void>
}

/** A generation of a log of ours that is on disk. */
export interface OwnGeneration {
  readonly generation: number
  readonly log: Log
  /** True: nothing of it that was announced can be missing, so it may go on. */
  readonly whole: boolean
}

/** This node's own logs: those that it signs. */
export interface OwnLogs {
  /** Names of the logs of one kind that are on disk. */
  ownNames(kind: LogName['kind']): LogName[]
  /** The newest generation's number; null: there is none. */
  newestGeneration(name: LogName): number | null
  /** Every generation that is on disk, oldest first. */
  ownGenerations(name: LogName): Promise<OwnGeneration[]>
  /** max(highest known + 1, present Unix milliseconds). */
  nextGeneration(name: LogName): number
  /**
   * Deletes a generation whole. Resolves when that is durable; nothing happens when it is not here.
   * @param log the only session that is open on it, which is closed
   */
  delete(name: LogName, generation: number, log?: Log): Promise<void>
  /** Begins a generation; its number is used from then on, whatever becomes of it. */
  begin(name: LogName, generation: number): Promise<Log>
}

/** State of an index at one moment: which generation, how many blocks. */
export type Head = Position

/** One change of an index: `value: null` deletes. Keys and values are index records (lib/wire/records.ts). */
export interface IndexChange {
  readonly key: Uint8Array
  readonly value: Uint8Array | null
}

/** Bounds of a range over index keys: gte <= key < lt. */
export interface IndexRange {
  readonly gte?: Uint8Array
  readonly gt?: Uint8Array
  readonly lt?: Uint8Array
  readonly lte?: Uint8Array
  readonly reverse?: boolean
  /** At most so many; unset: all. */
  readonly limit?: number
}

/** Reading an index at one head; the state never changes under the caller. */
export interface IndexSnapshot {
  readonly head: Head
  /** @throws TIMEOUT, ABORTED, CLOSED */
  get(key: Uint8Array, options?: ReadOptions): Promise<Uint8Array | null>
  range(
    range: IndexRange,
    options?: ReadOptions
  ): AsyncIterable<{ key: Uint8Array; value: Uint8Array }>
  /** True when all that changed since an earlier head can still be told. */
  tellsSince(from: Head): boolean
  /** What changed in the range since `from`, of which tellsSince() is true, each key once; null: deleted. */
  changes(from: Head, range: IndexRange, options?: ReadOptions): AsyncIterable<IndexChange>
  close(): Promise<void>
}

export interface ReadOptions extends WaitOptions {
  /** False: only what is here, at once. @default true */
  readonly wait?: boolean
}

/** A node's own index: written by apply alone, one append for each batch. */
export interface Index {
  readonly head: Head
  /** The newest value of one index key, as of a head not older than at the call. */
  get(key: Uint8Array, options?: ReadOptions): Promise<Uint8Array | null>
  /** All changes in one append, behind the durability barrier. Resolves with the head that holds them. */
  apply(changes: readonly IndexChange[]): Promise<Head>
  snapshot(): IndexSnapshot
  close(): Promise<void>
}

/** The index of any node, followed from afar. Its head never goes back. */
export interface IndexView {
  readonly node: NodeId
  /** The newest head known and signed by the node; length 0: none yet. */
  readonly head: Head
  /** Why what the node has signed lately makes no sense (CORRUPT): the head does not move then. Null: it does. */
  readonly fault?: unknown
  /** One index key at `head`. @throws TIMEOUT, ABORTED, CLOSED, OWNER_UNREACHABLE with `wait: false` */
  get(key: Uint8Array, options?: ReadOptions): Promise<Uint8Array | null>
  /** A snapshot of `head`. */
  snapshot(): IndexSnapshot
  /** Called when the head moved; returns the call that stops it. */
  onHead(listener: () => void): () => void
  close(): Promise<void>
}

/** One authenticated, encrypted connection. */
export interface Connection {
  /** Authenticated by the handshake: the peer's node id. */
  readonly remoteId: NodeId
  readonly isInitiator: boolean
  /** The Noise stream (opaque outside lib/hyper). */
  readonly stream: unknown
  readonly closed: boolean
  destroy(reason?: Error): void
  /** Called once, at once when it is closed already. */
  onClose(listener: () => void): void
  /** Bytes that crossed the wire, both ways, as far as the network counts them. */
  readonly bytesReceived: number
  readonly bytesSent: number
}

export interface NetworkOptions {
  /** The node's identity; the remote side sees its public key as the node id. */
  readonly keyPair: KeyPair
  /** Asked before a connection is accepted or dialled. */
  readonly accepts: (id: NodeId) => boolean
  /** True when the configuration names the id: strangers get fewer unfinished handshakes. @default all are named */
  readonly named?: (id: NodeId) => boolean
  readonly onConnection: (connection: Connection) => void
}

/**
 * Where connections come from. Implementations: hyperswarm (lib/hyper/swarm.ts) and memory
 * (lib/hyper/memory-network.ts). One object serves one node.
 */
export interface Network {
  open(options: NetworkOptions): Promise<void>
  /** Lets others reach this node by its id. */
  listen(): Promise<void>
  /** Dials a node and keeps dialling, with back-off, until leave(); idempotent. */
  join(id: NodeId): void
  leave(id: NodeId): void
  /** A node that was refused may be asked again (the configuration admits it now). */
  admit(id: NodeId): void
  /** Closes every connection, and the network; idempotent. */
  close(): Promise<void>
}

/** What a holder of the data directory can do for itself and, over the control socket, for others. */
export interface Engine {
  readonly nodeId: NodeId
  /** The configuration as its canonical text, or null. */
  config(): Promise<string | null>
  /** @throws CONFIG_CONFLICT, CONFIG_STALE, CONFIG_SLICES, CONFIG_INVALID */
  setConfig(text: string): Promise<void>
  /**
   * Appends the operations to the outboxes; resolves when they are durable, or later as asked for.
   * The same `request` twice appends once.
   * It waits in the engine's queue first, when that is full (docs/queue.md).
   * @throws NOT_WRITER, QUEUE_FULL, QUEUE_CLOSED, TIMEOUT, ABORTED, FLUSH_PARTIAL, OPERATION_REJECTED, DISK_FULL
   */
  write(request: WriteRequest, options?: WriteOptions): Promise<FlushResult>
  /** Waits for an earlier write. @throws TIMEOUT, ABORTED, FLUSH_UNKNOWN, OPERATION_REJECTED */
  receipt(flushId: string, options?: WaitOptions & { readonly ack?: boolean }): Promise<FlushResult>
  /** Entries of the keys, null where there is none, in the order of `keys`. */
  getMany(keys: readonly Uint8Array[], options?: EngineReadOptions): Promise<(Entry | null)[]>
  /** All entries of a range, ordered by encoded key over all owners, each owner from one snapshot. */
  list(range: IndexRange, options?: EngineReadOptions): AsyncIterable<Entry>
  /** Asks all owners for their heads; resolves when the views have them. @throws NOT_CONNECTED, OWNER_UNREACHABLE */
  refresh(options?: WaitOptions): Promise<void>
  /**
   * What changed since a bookmark, owner by owner; ends when the heads that were known at the call are reached,
   * unless `follow` is set. @throws INVALID_ARGUMENT, OWNER_UNREACHABLE, NOT_CONNECTED, while iterating
   */
  tail(bookmark: string | null, options?: EngineTailOptions): AsyncIterable<TailEvent>
  /** Adds a role. The returned call ends it again. */
  start(role: Role): Promise<() => Promise<void>>
  status(): Promise<Status>
  close(): Promise<void>
}

export type Role = 'connect' | 'listen'

export interface WriteOptions extends WaitOptions {
  /** Wait until the storage nodes hold it. */
  readonly ack?: boolean
  /** Wait until it is applied and readable. */
  readonly receipt?: boolean
  /** What to do when the queue is full. @default as the engine was opened */
  readonly onFull?: OnFull
  /** How many calls of flush(), put() or del() this write stands for; for the metrics alone. @default 1 */
  readonly calls?: number
}

/** Of a full queue: wait for room, in turn, or fail with QUEUE_FULL. */
export type OnFull = 'wait' | 'reject'

/** How much may be pending: appended and without receipt, or about to be appended. Infinity: no bound. */
export interface QueueBounds {
  readonly maxPendingBytes: number
  readonly maxPendingBlocks: number
  readonly onFull: OnFull
}

/** The write queue of one data directory since it was opened; what each number counts: docs/queue.md. */
export interface QueueStats {
  /** Bounds in force; null: none. */
  readonly maxPendingBytes: number | null
  readonly maxPendingBlocks: number | null
  readonly onFull: OnFull
  /** Appended and without receipt, and those that are being appended. */
  readonly pendingBytes: number
  readonly pendingBlocks: number
  /** Writes that wait for room, and their bytes. */
  readonly depth: number
  readonly depthBytes: number
  /** Writes that are being appended. */
  readonly executing: number
  /** admissions = executions + timeouts + cancellations + depth. */
  readonly admissions: number
  readonly rejections: number
  readonly timeouts: number
  readonly cancellations: number
  /** executions = commits + failures + executing. */
  readonly executions: number
  readonly commits: number
  readonly failures: number
  /** Appends to an outbox that held more than one call. */
  readonly groupedBatches: number
  /** Syncs of the disk that made at least one outbox durable. */
  readonly physicalSyncs: number
  /** Calls that needed no sync of their own. */
  readonly syncsSaved: number
}

/** Who holds a data directory's lock, and who waits for it. Times are Unix milliseconds. */
export interface LockInfo {
  readonly holder: { readonly pid: number; readonly since: number }
  /** How often the lock was taken since the directory was made. */
  readonly taken: number
  /** Processes that wait for it now. */
  readonly waiting: readonly { readonly pid: number; readonly since: number }[]
  /** Roles that other processes keep up through the holder, now. */
  readonly leases: number
}

/** A change of a data key, or news about the bookmark. */
export type TailEvent =
  | { readonly type: 'put'; readonly entry: Entry }
  | { readonly type: 'del'; readonly key: Uint8Array }
  /** History is gone: what was told before does not hold, the full state follows. */
  | { readonly type: 'reset' }
  /** Everything before this is told: begin here next time. */
  | { readonly type: 'bookmark'; readonly bookmark: string }

export interface EngineTailOptions extends WaitOptions {
  /** Goes on with what comes, until the signal fires. @default false */
  readonly follow?: boolean
}

export interface WriteRequest {
  /** 16 random bytes: names the flush; finds it again before it is appended twice. */
  readonly request: Uint8Array
  /** It was sent before, perhaps to a holder that has ended since: look for it on disk first. */
  readonly retry?: boolean
  readonly operations: readonly Operation[]
}

export interface EngineReadOptions extends ReadOptions {
  /** Ask the owner for its present head first. @default false */
  readonly fresh?: boolean
  /** Wait until this flush is applied and readable. */
  readonly after?: string
}

/** What `kvswarm status --json` prints; stable. Lengths are blocks, times Unix milliseconds. */
export interface Status {
  readonly node: NodeId
  readonly version: string
  readonly pid: number
  readonly since: number
  readonly directory: string
  readonly roles: readonly Role[]
  readonly durability: 'sync' | 'os'
  readonly epoch: number | null
  readonly configHash: string | null
  /** Is this node a storage node, a writer, by the present configuration? */
  readonly storageNode: { readonly capacity: number; readonly share: number } | null
  readonly writer: boolean
  /** This node's own index, when it is a storage node. */
  readonly index: (Head & { readonly serial: number }) | null
  /** This node's outboxes, one for each storage node that it has written for. */
  readonly outboxes: readonly {
    readonly owner: NodeId
    readonly generation: number
    readonly length: number
    readonly acked: Position | null
    readonly applied: Position | null
    /** Generations that are here, and their bytes; old ones go when the storage node has applied them. */
    readonly generations: number
    readonly bytes: number
    /** Blocks and bytes that have no receipt yet. */
    readonly pendingBlocks: number
    readonly pendingBytes: number
  }[]
  /** Outboxes of others that this node takes in, when it is a storage node. */
  readonly inboxes: readonly {
    readonly writer: NodeId
    readonly authorised: boolean
    /** Newest known position at the writer, what is held here, and what is applied. */
    readonly known: Position | null
    readonly held: Position | null
    readonly applied: Position | null
    readonly rejected: number
    /** Bytes that are applied and still here, until the writer rotates its outbox. */
    readonly appliedBytes: number
    /** Why the log stands still, when it does. */
    readonly stopped: string | null
  }[]
  readonly views: readonly { readonly node: NodeId; readonly head: Head }[]
  readonly peers: readonly {
    readonly node: NodeId
    readonly since: number
    readonly bytesReceived: number
    readonly bytesSent: number
    readonly epoch: number | null
  }[]
  /** The write queue of this data directory. */
  readonly queue: QueueStats
  /** Null: the directory is looked at without its lock. */
  readonly lock: LockInfo | null
  readonly barrier: { readonly syncs: number; readonly shared: number; readonly failures: number }
  readonly watchdog: { readonly interventions: number }
  readonly warnings: readonly string[]
}
