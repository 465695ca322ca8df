/**
 * A storage node: its index, the inboxes of its writers, and the apply loop between them.
 *
 * Invariants:
 * - only logs of writers that the configuration names are opened and fetched;
 * - of a writer that was removed, what was acked is applied and nothing after it: the cut-off is recorded in
 *   the append that adopts the configuration; its cursor stays for ever, and authorised again it resumes there;
 * - after a failure nothing is applied or acked any more.
 */
import type { Head, Index, IndexChange, IndexSnapshot, Log, OwnLogs } from '../ports.ts'
import { rotateAskMs } from '../../config/limits.ts'
import { messageOf } from '../errors.ts'
import { membershipChange } from '../protocol/membership.ts'
import { relieve, rotationLimits, type RotationLimits } from '../protocol/rotation.ts'
import type { NodeId, Position } from '../types.ts'
import {
  cursorsRange,
  cutOffKey,
  cutOffsRange,
  decodeCursor,
  encodeCursor,
  parseIndexKey,
  resultsRange,
  type IndexState
} from '../wire/records.ts'
import { ApplyLoop } from './apply-loop.ts'
import { Inbox } from './inbox.ts'
import { checkConfig, openOwnIndex } from './own-index.ts'

/** The part of the configuration that a storage node applies by. */
export interface StorageConfig {
  readonly epoch: number
  readonly hash: string
  readonly writers: readonly NodeId[]
  owns(key: Uint8Array): boolean
}

/** A generation of a writer's outbox of which something lies here. */
export interface StoredInbox {
  readonly writer: NodeId
  readonly generation: number
}

export interface StorageEnvironment {
  readonly node: NodeId
  readonly logs: OwnLogs
  /** Opens the index of which a log of ours is the anchor. @param whole false: it is only read */
  openIndex(log: Log, whole: boolean): Promise<Index & { readonly isWhole: boolean }>
  /** Opens a writer's outbox; with `attach` it is attached to the writer's connection, if there is one. */
  openInbox(writer: NodeId, generation: number, attach: boolean): Promise<Log>
  /** Deletes this node's copy of a generation; nothing when there is none, or when it is this node's own outbox. */
  deleteInbox(writer: NodeId, generation: number): Promise<void>
  /** Every generation of a writer's outbox of which something lies here. */
  storedInboxes(): Promise<readonly StoredInbox[]>
  isConnected(writer: NodeId): boolean
  /** Asks the writer for the next generation of its outbox in place of this one. */
  askToRotate(writer: NodeId, generation: number): void
  /** @default those of config/limits.ts */
  readonly limits?: RotationLimits
  /** The generation that the writer last announced to this node, as it was kept. */
  knownGeneration(writer: NodeId): number | null
  /** Writers whose outboxes this node has ever been told of. */
  knownWriters(): readonly NodeId[]
  sync(): Promise<void>
  /** Unix milliseconds. */
  now(): number
  acked(writer: NodeId, position: Position): void
  applied(writer: NodeId, position: Position, head: Head, results: number): void
  /** Why nothing is to be taken in or applied for now: the disk is full; null: it is not. */
  readonly fullReason?: () => string | null
  warn(message: string): void
  failed(error: unknown): void
}

export class StorageNode {
  readonly index: Index
  /** The index's own log, to be served. */
  readonly log: Log
  readonly #environment: StorageEnvironment
  readonly #inboxes = new Map<NodeId, Inbox>()
  /** Generations of outboxes of which anything lay here at the start; null: they are being looked for. */
  #stored: ReadonlyMap<NodeId, readonly number[]> | null = null
  readonly #loop: ApplyLoop
  #config: StorageConfig
  #adopting: Promise<void> = Promise.resolve()
  /** When each writer was last asked to rotate, and which generation. */
  readonly #asked = new Map<NodeId, { readonly generation: number; readonly at: number }>()
  #sweeping: Promise<void> = Promise.resolve()
  #closed = false

  private constructor(
    environment: StorageEnvironment,
    config: StorageConfig,
    opened: { index: Index; log: Log; state: IndexState }
  ) {
    this.#environment = environment
    this.#config = config
    this.index = opened.index
    this.log = opened.log
    const { node, now, applied, failed, warn } = environment
    this.#loop = new ApplyLoop(opened.index, opened.state, {
      node,
      rules: () => ({ owns: (key) => this.#config.owns(key) }),
      now,
      hasRoom: () => (environment.fullReason?.() ?? null) === null,
      applied,
      batchApplied: () => this.#relieve(),
      failed,
      warn
    })
  }

  /**
   * Opens the index (begins it when there is none) and the inboxes; adopts the configuration.
   * @throws CONFIG_STALE, CONFIG_CONFLICT, before anything is written
   */
  static async open(environment: StorageEnvironment, config: StorageConfig): Promise<StorageNode> {
    const { node, logs, openIndex, now } = environment
    const opened = await openOwnIndex(node, logs, openIndex, config, now())
    const storage = new StorageNode(environment, config, opened)
    try {
      const cursors = await storage.#openInboxes()
      await storage.adopt(config)
      storage.#sweeping = storage.#look(cursors)
    } catch (error) {
      await storage.close()
      throw error
    }
    return storage
  }

  get head(): Head {
    return this.index.head
  }

  get state(): IndexState {
    return this.#loop.state
  }

  get inboxes(): Inbox[] {
    return [...this.#inboxes.values()]
  }

  inbox(writer: NodeId): Inbox | null {
    return this.#inboxes.get(writer) ?? null
  }

  /** The disk is full, or there is room again. */
  roomChanged(): void {
    for (const inbox of this.#inboxes.values()) inbox.work()
    this.#loop.poke()
  }

  /** The writer has signed that its outbox for this node is in this generation. */
  announce(writer: NodeId, generation: number): void {
    if (!this.#config.writers.includes(writer)) return
    this.#inboxFor(writer).announce(generation)
  }

  /** The writer has deleted what came before this generation of its outbox. */
  startAt(writer: NodeId, generation: number): void {
    if (!this.#config.writers.includes(writer)) return
    if (this.#inboxFor(writer).startAt(generation)) return
    this.#environment.warn(
      `writer ${writer} has deleted what it wrote before generation ${generation}, since an index of this node had it; this index is older (was it restored?) and goes on without`
    )
  }

  /** Applied bytes of all inboxes that still lie here. */
  get appliedBytes(): number {
    let bytes = 0
    for (const inbox of this.#inboxes.values()) bytes += inbox.appliedBytes
    return bytes
  }

  /**
   * Uses a configuration: recorded in the index before anything of it, with the cut-offs of removed writers.
   * Resolves when it is durable.
   * @throws CONFIG_STALE, CONFIG_CONFLICT, before anything is written; CLOSED
   */
  adopt(config: StorageConfig): Promise<void> {
    const next = this.#adopting.then(() => this.#adopt(config))
    this.#adopting = next.catch(() => {})
    return next
  }

  async close(): Promise<void> {
    this.#closed = true
    await this.#loop.close()
    await this.#sweeping
    for (const inbox of this.#inboxes.values()) await inbox.close()
    await this.index.close()
  }

  async #adopt(config: StorageConfig): Promise<void> {
    const { node } = this.#environment
    const { epoch, configHash } = this.#loop.state
    checkConfig(this.#loop.state, config)
    const changes: IndexChange[] = []
    for (const inbox of this.#inboxes.values()) {
      const { writer, authorised, acked, applied } = inbox
      const named = config.writers.includes(writer)
      const change = membershipChange({ named, authorised, acked, applied })
      const key = cutOffKey(writer, node)
      if (change.type === 'authorise') {
        inbox.authorise()
        changes.push({ key, value: null })
      } else if (change.type === 'remove') {
        inbox.remove(change.cutOff)
        changes.push({ key, value: encodeCursor(change.cutOff) })
      }
    }
    this.#config = config
    if (epoch !== config.epoch || configHash !== config.hash || changes.length > 0) {
      await this.#loop.adopt(config.epoch, config.hash, changes)
    }
    for (const writer of config.writers) {
      const generation = this.#environment.knownGeneration(writer)
      if (generation !== null) this.announce(writer, generation)
    }
    this.#loop.poke()
  }

  /** Too much that is applied lies here: writers are asked to go on elsewhere, so that it can be deleted. */
  #relieve(): void {
    const { limits = rotationLimits, isConnected, askToRotate } = this.#environment
    if (this.appliedBytes <= limits.appliedBytesMax / 2) return
    const { ask, drop } = relieve(
      [...this.#inboxes.values()].map((inbox) => ({
        writer: inbox.writer,
        bytes: inbox.appliedBytes,
        connected: isConnected(inbox.writer),
        idle: inbox.idleGeneration !== null
      })),
      limits
    )
    const now = performance.now()
    for (const writer of ask) {
      const generation = this.#inboxes.get(writer)?.applied?.generation
      const asked = this.#asked.get(writer)
      if (generation === undefined) continue
      if (asked?.generation === generation && now - asked.at < rotateAskMs) continue
      this.#asked.set(writer, { generation, at: now })
      askToRotate(writer, generation)
    }
    for (const writer of drop) {
      const inbox = this.#inboxes.get(writer)
      const generation = inbox?.idleGeneration ?? null
      if (generation !== null) inbox?.discard(generation)
    }
  }

  /** Looks what lies here of outboxes, which takes long in a large store. Never rejects. */
  async #look(cursors: ReadonlyMap<NodeId, Position>): Promise<void> {
    const { storedInboxes, failed } = this.#environment
    const passed: StoredInbox[] = []
    const stored = new Map<NodeId, number[]>()
    try {
      for (const one of await storedInboxes()) {
        const { writer, generation } = one
        if (generation < (cursors.get(writer)?.generation ?? 0)) passed.push(one)
        else stored.set(writer, [...(stored.get(writer) ?? []), generation])
      }
    } catch (error) {
      if (!this.#closed) failed(error)
      return
    }
    this.#stored = stored
    for (const [writer, inbox] of this.#inboxes) inbox.found(stored.get(writer) ?? [])
    await this.#sweep(passed)
  }

  /** Deletes what a session that was cut short has left of generations that the cursors have passed. */
  async #sweep(passed: readonly StoredInbox[]): Promise<void> {
    const { deleteInbox, warn } = this.#environment
    try {
      for (const { writer, generation } of passed) await deleteInbox(writer, generation)
    } catch (error) {
      warn(`applied parts of outboxes could not be deleted: ${messageOf(error)}`)
    }
  }

  /** @returns the cursors */
  async #openInboxes(): Promise<ReadonlyMap<NodeId, Position>> {
    const { node } = this.#environment
    const snapshot = this.index.snapshot()
    try {
      const cursors = await positions(snapshot, cursorsRange())
      const cutOffs = await positions(snapshot, cutOffsRange())
      const writers = new Set([...cursors.keys(), ...this.#environment.knownWriters()])
      for (const writer of writers) {
        const inbox = this.#inboxFor(writer, cursors.get(writer) ?? null)
        const range = resultsRange(writer, node)
        for await (const _ of snapshot.range(range, { wait: false })) inbox.results++
        if (this.#config.writers.includes(writer) && !cutOffs.has(writer)) continue
        // Removed: what is held here is applied, up to the cut-off if it was removed while this node ran.
        inbox.remove(cutOffs.get(writer) ?? null)
        const generation =
          cutOffs.get(writer)?.generation ?? this.#environment.knownGeneration(writer)
        if (generation) inbox.announce(generation)
      }
      return cursors
    } finally {
      await snapshot.close()
    }
  }

  #inboxFor(writer: NodeId, applied: Position | null = null): Inbox {
    let inbox = this.#inboxes.get(writer)
    if (!inbox) {
      const { openInbox, deleteInbox, sync, acked, warn, failed } = this.#environment
      const { fullReason = () => null } = this.#environment
      inbox = new Inbox(writer, applied, {
        open: openInbox,
        delete: deleteInbox,
        sync,
        ready: () => this.#loop.poke(),
        acked,
        fullReason,
        warn,
        failed
      })
      if (this.#stored) inbox.found(this.#stored.get(writer) ?? [])
      this.#inboxes.set(writer, inbox)
      this.#loop.add(inbox)
    }
    return inbox
  }
}

/** Positions by writer of a range of cursors or cut-offs. */
async function positions(
  snapshot: IndexSnapshot,
  range: { gte: Uint8Array; lt: Uint8Array }
): Promise<Map<NodeId, Position>> {
  const found = new Map<NodeId, Position>()
  for await (const { key, value } of snapshot.range(range, { wait: false })) {
    const parsed = parseIndexKey(key)
    if (parsed.type === 'cursor' || parsed.type === 'cutOff') {
      found.set(parsed.writer, decodeCursor(value))
    }
  }
  return found
}
