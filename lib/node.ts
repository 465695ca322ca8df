/**
 * The local engine: one process that holds a data directory, with all of a node's roles. It opens the organs,
 * ties them to the store and to the links, adopts configurations, and closes everything in order.
 *
 * Order of closing: loops, connections, organs, store.
 */
import { setMaxListeners } from 'node:events'
import { Config } from '../config/index.ts'
import {
  generationIntervalMs,
  receiptPollMs,
  warningsBurstMax,
  warningsPerSecondMax
} from '../config/limits.ts'
import { StorageNode } from './apply/storage-node.ts'
import { assert } from './assert.ts'
import { isKVSwarmError, KVSwarmError, messageOf } from './errors.ts'
import { Allowance } from './hyper/allowance.ts'
import { wrapped } from './hyper/disk-errors.ts'
import { HyperIndexCores } from './hyper/index-cores.ts'
import type { HyperLog } from './hyper/log.ts'
import { logKey } from './hyper/marks.ts'
import { Newest } from './hyper/newest.ts'
import { StateFile } from './hyper/state-file.ts'
import { Store } from './hyper/store.ts'
import { hyperswarmNetwork } from './hyper/swarm.ts'
import { FollowedIndex } from './lsm/view.ts'
import { OwnIndex } from './lsm/own-index.ts'
import { Links, type Link, type NodeMessage } from './links.ts'
import type {
  Engine,
  EngineReadOptions,
  EngineTailOptions,
  Head,
  IndexRange,
  IndexView,
  Log,
  Network,
  QueueBounds,
  ReadOptions,
  Role,
  Status,
  TailEvent,
  WaitOptions,
  WriteOptions,
  WriteRequest
} from './ports.ts'
import { Reader } from './read/reader.ts'
import type { RotationLimits } from './protocol/rotation.ts'
import { OwnerView } from './read/views.ts'
import { describe } from './status.ts'
import type { CoreName } from './index-ports.ts'
import type { CoresMessage } from './wire/messages.ts'
import type { Entry, FlushResult, LogName, NodeId, Position } from './types.ts'
import { waitFor } from './wait.ts'
import { openGeneration, signGeneration, type GenerationRecord } from './wire/generations.ts'
import {
  cursorKey,
  decodeCursor,
  decodeResult,
  decodeResultKey,
  resultsRange
} from './wire/records.ts'
import type { Outbox } from './write/outbox.ts'
import { Writer, type Rejection } from './write/writer.ts'

export interface LocalEngineOptions {
  readonly directory: string
  readonly config: Config | null
  /** `host:port` of DHT nodes; null: the configuration's, or the public DHT. */
  readonly bootstrap: readonly string[] | null
  readonly network: Network | null
  readonly durability: 'sync' | 'os'
  readonly readOnly: boolean
  /** When outboxes are rotated. */
  readonly rotation: RotationLimits
  readonly queue: QueueBounds
  /** Kept free on the disk of the data directory; null: by the size of the disk. */
  readonly diskReserveBytes?: number | null
  readonly onWarning: (message: string) => void
  readonly onError: (error: KVSwarmError) => void
}

/** Warnings that are kept for `status`. */
const warningsMax = 20

export class LocalEngine implements Engine {
  readonly #options: LocalEngineOptions
  readonly #store: Store
  readonly #state: StateFile
  readonly #since: number = Date.now()
  readonly #views = new Map<NodeId, OwnerView>()
  /** The cores of indexes, by node and generation. */
  readonly #cores = new Map<string, HyperIndexCores>()
  readonly #anchors = new WeakMap<
    IndexView,
    { readonly anchor: HyperLog; readonly cores: HyperIndexCores }
  >()
  /** What storage nodes say of their indexes, until the anchors tell. */
  readonly #expected = new Map<
    NodeId,
    { readonly generation: number; readonly names: readonly CoreName[] }
  >()
  readonly #asked = new Map<NodeId, Link>()
  readonly #headAnswers = new Map<number, { owner: NodeId; told: (head: Head) => void }>()
  /** Calls under way: close() and a failure end their waits. */
  readonly #calls = new Set<AbortController>()
  readonly #conflicts = new Map<NodeId, string>()
  readonly #warnings: string[] = []
  readonly #warningsLeft = new Allowance(warningsBurstMax, warningsPerSecondMax)
  #leftOut = 0
  readonly #roles = new Map<Role, number>()
  readonly #reader: Reader
  /** Records of generations, as peers tell them. */
  readonly #news = new Newest<{ record: GenerationRecord; bytes: Uint8Array }>(
    generationIntervalMs,
    (one, other) => one.record.generation > other.record.generation,
    ({ record, bytes }) => this.#keep(record, bytes)
  )
  #writer!: Writer
  #config: Config | null
  #links: Links | null = null
  #storage: StorageNode | null = null
  #storageOpening: Promise<void> | null = null
  #changing: Promise<void> = Promise.resolve()
  #headRequest = 0
  #fatal: KVSwarmError | null = null
  #closing: Promise<void> | null = null

  private constructor(options: LocalEngineOptions, store: Store, state: StateFile) {
    this.#options = options
    this.#store = store
    this.#state = state
    this.#config = null
    this.#reader = new Reader({
      owners: () => this.#configured().storageNodes,
      ownerOf: (key) => this.#configured().ownerOfEncoded(key),
      view: (owner) => this.#view(owner),
      online: (owner) => this.#roles.size > 0 || owner === this.nodeId,
      askHead: (owner, wait) => this.#askHead(owner, wait),
      asked: (owner) => owner === this.nodeId || this.#isAsked(owner)
    })
  }

  /**
   * Opens the data directory and adopts the configuration.
   * @throws what Store.open throws; CONFIG_STALE, CONFIG_CONFLICT, CONFIG_SLICES, CONFIG_INVALID
   */
  static async open(options: LocalEngineOptions): Promise<LocalEngine> {
    const { directory, durability, readOnly, diskReserveBytes = null } = options
    const store = await Store.open({ directory, durability, readOnly, diskReserveBytes })
    try {
      const state = await StateFile.open(directory, store.nodeId, readOnly)
      const engine = new LocalEngine(options, store, state)
      store.onFailure = (error) => engine.#failed(error)
      store.onForked = ({ kind }, generation) =>
        engine.#warn(
          `this node's ${kind} (generation ${generation}) was forked: another copy of its data directory is or was in use; restarted, it goes on as a new generation, and what the other version has is not part of it`
        )
      store.onReclaimFailed = (error) =>
        engine.#warn(
          `the disk did not get back the space of what was deleted: ${messageOf(error)}; it does when the store puts itself in order`
        )
      store.reserve.onChange(() => engine.#roomChanged())
      await engine.#openOrgans()
      return engine
    } catch (error) {
      await store.close().catch(() => {})
      throw wrapped(error, `opening ${directory}`)
    }
  }

  get nodeId(): NodeId {
    return this.#store.nodeId
  }

  config(): Promise<string | null> {
    return Promise.resolve(this.#config?.serialize() ?? null)
  }

  setConfig(text: string): Promise<void> {
    const next = this.#changing.then(async () => {
      this.#usable()
      const config = Config.parse(text)
      if (!mayAdopt(this.#config, config)) return
      await this.#adopt(config)
    })
    this.#changing = next.catch(() => {})
    return next
  }

  async write(request: WriteRequest, options: WriteOptions = {}): Promise<FlushResult> {
    this.#usable()
    if (this.#store.readOnly) throw readOnlyError()
    this.#configured()
    return await this.#call(options, (joined) => this.#writer.write(request, joined))
  }

  async receipt(
    flushId: string,
    options: WaitOptions & { readonly ack?: boolean } = {}
  ): Promise<FlushResult> {
    this.#usable()
    return await this.#call(options, (joined) => this.#writer.receipt(flushId, joined))
  }

  async getMany(
    keys: readonly Uint8Array[],
    options: EngineReadOptions = {}
  ): Promise<(Entry | null)[]> {
    this.#usable()
    this.#configured()
    return await this.#call(options, async (joined) => {
      if (options.after) await this.#writer.receipt(options.after, joined)
      return await this.#reader.getMany(keys, joined)
    })
  }

  async *list(range: IndexRange, options: EngineReadOptions = {}): AsyncGenerator<Entry> {
    this.#usable()
    this.#configured()
    const call = this.#begin(options.signal)
    const joined = { ...options, signal: call.signal }
    try {
      if (options.after) await this.#writer.receipt(options.after, joined)
      yield* this.#reader.list(range, joined)
    } finally {
      call.end()
    }
  }

  async refresh(options: WaitOptions = {}): Promise<void> {
    this.#usable()
    this.#configured()
    await this.#call(options, (joined) => this.#reader.refresh(joined))
  }

  async *tail(bookmark: string | null, options: EngineTailOptions = {}): AsyncGenerator<TailEvent> {
    this.#usable()
    this.#configured()
    const call = this.#begin(options.signal)
    try {
      yield* this.#reader.tail(bookmark, { ...options, signal: call.signal })
    } finally {
      call.end()
    }
  }

  async start(role: Role): Promise<() => Promise<void>> {
    this.#usable()
    if (this.#store.readOnly) throw readOnlyError()
    const config = this.#configured()
    if (role === 'listen' && !config.isStorageNode(this.nodeId)) {
      throw new KVSwarmError(
        'NOT_AUTHORISED',
        `the configuration gives node ${this.nodeId} no role to listen for`,
        {
          hint: 'give it a capacity (kvswarm init --capacity.ID=N), or use `connect` to read and write'
        }
      )
    }
    this.#roles.set(role, (this.#roles.get(role) ?? 0) + 1)
    try {
      if (role === 'listen') await this.#openStorage()
      await this.#openLinks(role)
    } catch (error) {
      await this.#release(role)
      throw error
    }
    let ended: Promise<void> | null = null
    return () => (ended ??= this.#release(role))
  }

  status(): Promise<Status> {
    return describe({
      node: this.nodeId,
      directory: this.#options.directory,
      since: this.#since,
      durability: this.#options.durability,
      roles: [...this.#roles.keys()],
      config: this.#config,
      storage: this.#storage,
      writer: this.#writer,
      views: [...this.#views.values()],
      links: this.#links?.all ?? [],
      barrier: this.#store.stats,
      interventions: this.#links?.interventions ?? 0,
      warnings: this.#fatal ? [...this.#warnings, this.#fatal.message] : this.#warnings
    })
  }

  close(): Promise<void> {
    this.#closing ??= this.#close()
    return this.#closing
  }

  async #close(): Promise<void> {
    // Whoever waits for room learns that nothing of it was written.
    this.#writer.closeQueue()
    this.#endCalls(closedError())
    this.#news.close()
    await this.#changing
    await this.#storageOpening?.catch(() => {})
    const links = this.#links
    this.#links = null
    // Each in turn, and the store last, whatever becomes of those before it: its lock is released behind it.
    const steps: (() => Promise<unknown> | undefined)[] = [
      () => links?.close(),
      () => this.#storage?.close(),
      () => this.#writer.close(),
      ...[...this.#views.values()].map((view) => () => view.close()),
      () => this.#state.close()
    ]
    for (const step of steps) {
      try {
        await step()
      } catch (error) {
        this.#warn(`closing: ${messageOf(error)}`)
      }
    }
    await this.#store.close()
  }

  /** Runs a call whose waits end with the caller's signal, with close(), or when the node fails. */
  async #call<T, O extends WaitOptions>(options: O, run: (joined: O) => Promise<T>): Promise<T> {
    const call = this.#begin(options.signal)
    try {
      return await run({ ...options, signal: call.signal })
    } catch (error) {
      throw wrapped(error, 'using the data directory')
    } finally {
      call.end()
    }
  }

  #begin(signal: AbortSignal | undefined): { signal: AbortSignal; end: () => void } {
    const controller = new AbortController()
    setMaxListeners(0, controller.signal)
    const onAbort = (): void => controller.abort(signal?.reason)
    if (signal?.aborted) onAbort()
    else signal?.addEventListener('abort', onAbort, { once: true })
    this.#calls.add(controller)
    const end = (): void => {
      this.#calls.delete(controller)
      signal?.removeEventListener('abort', onAbort)
    }
    return { signal: controller.signal, end }
  }

  #endCalls(error: KVSwarmError): void {
    for (const call of this.#calls) call.abort(error)
  }

  async #openOrgans(): Promise<void> {
    const { config: given } = this.#options
    const adopted = this.#state.config === null ? null : Config.parse(this.#state.config)
    this.#config = adopted
    if (given && mayAdopt(adopted, given)) {
      if (!this.#store.readOnly) await this.#state.setConfig(given.serialize())
      this.#config = given.snapshot()
    }
    this.#writer = await Writer.open({
      node: this.nodeId,
      logs: this.#store,
      config: () => {
        const config = this.#configured()
        return {
          epoch: config.epoch,
          hash: config.hash,
          isWriter: config.isWriter(this.nodeId),
          ownerOf: (key) => config.ownerOfEncoded(key)
        }
      },
      begun: (outbox) => this.#begun(outbox),
      viewHead: (owner) => this.#view(owner).current?.head ?? null,
      onViewHead: (owner, listener) => this.#view(owner).onHead(listener),
      readCursor: (owner) => this.#readCursor(owner),
      shownCursor: async (owner, present) =>
        this.#view(owner).current?.head.generation === present
          ? await this.#readCursor(owner)
          : null,
      retired: (outbox) => this.#tellOldest(outbox),
      warn: (message) => this.#warn(message),
      limits: this.#options.rotation,
      knownCursor: (owner) => this.#readCursor(owner, { wait: false }),
      readRejections: (owner, wait) => this.#readRejections(owner, wait),
      need: (owner) => this.#links?.join(owner),
      pollMs: receiptPollMs,
      bounds: this.#options.queue,
      syncs: () => this.#store.outboxSyncs
    })
    for (const node of this.#config?.storageNodes ?? []) {
      const record = this.#knownRecord({ kind: 'index', node })
      if (!record) continue
      const isHere = await this.#store.has(record.name, record.generation)
      if (isHere || !this.#store.readOnly) await this.#view(node).announce(record.generation)
    }
    if (this.#config?.isStorageNode(this.nodeId)) await this.#openOwnView()
    await this.#writer.recall()
  }

  /** This node reads its own index like any other, from its own blocks. */
  async #openOwnView(): Promise<void> {
    const newest = this.#store.newestGeneration({ kind: 'index', node: this.nodeId })
    if (newest !== null) await this.#view(this.nodeId).announce(newest)
  }

  async #openStorage(): Promise<void> {
    this.#storageOpening ??= this.#makeStorage()
    try {
      await this.#storageOpening
    } catch (error) {
      this.#storageOpening = null
      throw error
    }
  }

  async #makeStorage(): Promise<void> {
    const config = this.#configured()
    const storage = await StorageNode.open(
      {
        node: this.nodeId,
        logs: this.#store,
        openIndex: (log, whole) => this.#openIndex(log, whole),
        openInbox: (writer, generation, attach) => this.#openInbox(writer, generation, attach),
        deleteInbox: (writer, generation) => this.#deleteInbox(writer, generation),
        storedInboxes: () => this.#storedInboxes(),
        isConnected: (writer) => writer === this.nodeId || this.#links?.get(writer) != null,
        askToRotate: (writer, generation) => {
          if (writer === this.nodeId) this.#writer.rotate(writer, generation)
          else this.#links?.get(writer)?.send({ type: 'rotate', generation }, 'rotate')
        },
        limits: this.#options.rotation,
        knownGeneration: (writer) =>
          this.#knownRecord({ kind: 'outbox', node: writer, owner: this.nodeId })?.generation ??
          null,
        knownWriters: () => this.#knownWriters(),
        sync: () => this.#store.sync(),
        now: () => Date.now(),
        acked: (writer, position) => {
          if (writer === this.nodeId) this.#writer.acked(writer, position)
          this.#links?.get(writer)?.send({ type: 'ack', ...position }, 'ack')
        },
        applied: (writer, position, index, rejected) => {
          if (writer === this.nodeId) this.#writer.applied(writer, position, index, rejected)
          this.#links
            ?.get(writer)
            ?.send({ type: 'applied', ...position, index, rejected }, 'applied')
        },
        fullReason: () => this.#store.reserve.reason,
        warn: (message) => this.#warn(message),
        failed: (error) => this.#failed(error)
      },
      storageConfig(config, this.nodeId)
    )
    this.#storage = storage
    await this.#view(this.nodeId).announce(storage.log.generation)
    this.#deliverToSelf()
    for (const link of this.#links?.all ?? []) this.#serve(link)
  }

  /** A node that both stores and writes takes its own outbox in like any other. */
  #deliverToSelf(): void {
    const outbox = this.#writer.outbox(this.nodeId)
    const generation = outbox?.generation ?? null
    if (outbox) this.#tellOldest(outbox)
    if (generation !== null) this.#storage?.announce(this.nodeId, generation)
  }

  /** The writer deletes its own outbox itself, also where it is its own inbox. */
  async #deleteInbox(writer: NodeId, generation: number): Promise<void> {
    if (writer === this.nodeId) return
    await this.#store.delete({ kind: 'outbox', node: writer, owner: this.nodeId }, generation)
  }

  async #storedInboxes(): Promise<{ writer: NodeId; generation: number }[]> {
    const stored = await this.#store.stored('outbox')
    return stored.flatMap(({ name, generation }) =>
      name.kind === 'outbox' && name.owner === this.nodeId && name.node !== this.nodeId
        ? [{ writer: name.node, generation }]
        : []
    )
  }

  async #openLinks(role: Role): Promise<void> {
    if (!this.#links) {
      const bootstrap = this.#options.bootstrap ?? this.#config?.bootstrap
      this.#links = new Links({
        keyPair: this.#store.keyPair,
        network:
          this.#options.network ??
          hyperswarmNetwork(bootstrap ? { bootstrap: [...bootstrap] } : {}),
        config: () => this.#config && { epoch: this.#config.epoch, hash: this.#config.hash },
        named: (id) =>
          this.#config !== null && (this.#config.isStorageNode(id) || this.#config.isWriter(id)),
        linked: (link) => this.#serve(link),
        received: (link, message) => this.#received(link, message),
        unlinked: (link) => {
          if (this.#asked.get(link.node) === link) this.#asked.delete(link.node)
        },
        conflict: (id, theirs) => this.#conflict(id, theirs),
        warn: (message) => this.#warn(message)
      })
    }
    const links = this.#links
    await links.open()
    // Storage nodes dial their writers too, so everyone listens; only `listen` promises to be reachable.
    const listening = links.listen()
    if (role === 'listen') await listening
    else
      listening.catch((error: unknown) =>
        this.#warn(`others cannot dial this node: ${messageOf(error)}`)
      )
    this.#dial()
  }

  async #release(role: Role): Promise<void> {
    const left = (this.#roles.get(role) ?? 1) - 1
    if (left > 0) this.#roles.set(role, left)
    else this.#roles.delete(role)
    if (this.#roles.size > 0 || this.#closing) return
    this.#asked.clear()
    // A network that the user gave stays open until close(); one of ours is made anew.
    if (this.#options.network) return this.#links?.pause()
    const links = this.#links
    this.#links = null
    await links?.close()
  }

  /** Storage nodes dial their writers, everyone else the storage nodes; a read dials whom it needs. */
  #dial(): void {
    const config = this.#config
    if (!config || !this.#links) return
    const nodes = new Set<NodeId>()
    if (!this.#storage || config.isWriter(this.nodeId)) {
      for (const id of config.storageNodes) nodes.add(id)
    }
    if (this.#storage) for (const id of config.writers) nodes.add(id)
    nodes.delete(this.nodeId)
    this.#links.dial([...nodes])
  }

  /** What a peer may have of this node, and what this node takes from it. */
  #serve(link: Link): void {
    const { node } = link
    this.#conflicts.delete(node)
    const records: Uint8Array[] = []
    if (this.#storage) {
      records.push(this.#sign(this.#storage.log, this.#storage.state.serial, null))
      const index = this.#storage.index as OwnIndex
      link.send(
        { type: 'cores', generation: this.#storage.log.generation, ...index.cores },
        'cores'
      )
      link.attach(this.#storage.log as HyperLog)
      const inbox = this.#storage.inbox(node)
      if (inbox?.authorised) {
        for (const log of inbox.logs) link.attach(log as HyperLog)
        if (inbox.acked) link.send({ type: 'ack', ...inbox.acked }, 'ack')
        if (inbox.applied) {
          const { head } = this.#storage
          link.send(
            { type: 'applied', ...inbox.applied, index: head, rejected: inbox.results },
            'applied'
          )
        }
        inbox.work()
      }
    }
    const outbox = this.#writer.outbox(node)
    const newest = outbox?.logs.at(-1)
    if (outbox && newest) {
      records.push(this.#sign(newest, null, outbox.continues))
      for (const log of outbox.logs) link.attach(log as HyperLog)
      this.#tellOldest(outbox)
    }
    for (const view of this.#views.get(node)?.attached ?? []) this.#attach(link, view)
    link.serve((discoveryKey) => this.#served(discoveryKey))
    if (records.length > 0) link.send({ type: 'records', records })
  }

  #received(link: Link, message: NodeMessage): void {
    switch (message.type) {
      case 'records':
        for (const bytes of message.records) this.#learn(bytes)
        break
      case 'ack':
        this.#writer.acked(link.node, message)
        break
      case 'applied':
        this.#writer.applied(link.node, message, message.index, message.rejected)
        break
      case 'rotate':
        this.#writer.rotate(link.node, message.generation)
        break
      case 'oldest':
        this.#storage?.startAt(link.node, message.generation)
        break
      case 'cores':
        this.#expect(link.node, message)
        break
      case 'headRequest': {
        const head = this.#storage?.head
        if (head) link.send({ type: 'head', id: message.id, ...head })
        break
      }
      case 'head': {
        const request = this.#headAnswers.get(message.id)
        const { generation, length } = message
        if (request?.owner === link.node) request.told({ generation, length })
        break
      }
    }
  }

  /** A signed generation record: kept when it is newer and of a log that concerns this node. */
  #learn(bytes: Uint8Array): void {
    const record = openGeneration(bytes)
    const { name } = record
    const config = this.#config
    if (!config || name.node === this.nodeId) return
    const wanted =
      (name.kind === 'index' && config.isStorageNode(name.node)) ||
      (name.kind === 'outbox' && name.owner === this.nodeId && config.isWriter(name.node))
    if (!wanted) return
    const known = this.#knownRecord(name)
    if (known && known.generation >= record.generation) {
      this.#follow(known)
      return
    }
    this.#news.offer(logKey(name), { record, bytes })
  }

  #keep(record: GenerationRecord, bytes: Uint8Array): void {
    const known = this.#knownRecord(record.name)
    if (this.#closing || (known && known.generation >= record.generation)) return
    // An outbox is followed when its record is kept; an index is only read, and nobody waits for the disk.
    const isOutbox = record.name.kind === 'outbox'
    if (!isOutbox) this.#follow(record)
    this.#state.setRecord(logKey(record.name), bytes).then(
      () => {
        if (isOutbox) this.#follow(record)
      },
      (error: unknown) => this.#failed(error)
    )
  }

  #follow({ name, generation }: GenerationRecord): void {
    if (name.kind === 'outbox') this.#storage?.announce(name.node, generation)
    if (name.kind === 'index') {
      this.#view(name.node)
        .announce(generation)
        .catch((error: unknown) => this.#failed(error))
    }
  }

  #knownRecord(name: LogName): GenerationRecord | null {
    const bytes = this.#state.record(logKey(name))
    if (!bytes) return null
    try {
      return openGeneration(bytes)
    } catch {
      // Damaged on disk: it is learnt anew from its node.
      return null
    }
  }

  /** Writers whose outboxes for this node were ever announced. */
  #knownWriters(): NodeId[] {
    return this.#state.records.flatMap((bytes) => {
      const name = nameOf(bytes)
      return name?.kind === 'outbox' && name.owner === this.nodeId ? [name.node] : []
    })
  }

  #sign(log: Log, serial: number | null, continues: Position | null): Uint8Array {
    const { name, generation } = log
    assert(name.kind !== 'journal', 'journals are not announced')
    return signGeneration({ name, generation, serial, continues }, this.#store.keyPair)
  }

  #begun(outbox: Outbox): void {
    if (outbox.owner === this.nodeId) this.#deliverToSelf()
    const link = this.#links?.get(outbox.owner)
    const newest = outbox.logs.at(-1)
    if (!link || !newest) return
    link.attach(newest as HyperLog)
    link.send({ type: 'records', records: [this.#sign(newest, null, outbox.continues)] })
  }

  #tellOldest(outbox: Outbox): void {
    const { owner, oldest } = outbox
    if (!outbox.deleted || oldest === null) return
    if (owner === this.nodeId) this.#storage?.startAt(this.nodeId, oldest)
    else this.#links?.get(owner)?.send({ type: 'oldest', generation: oldest }, 'oldest')
  }

  #view(node: NodeId): OwnerView {
    let view = this.#views.get(node)
    if (!view) {
      view = new OwnerView(node, {
        open: (id, generation) => this.#openView(id, generation),
        attach: (opened: IndexView) => {
          const link = this.#links?.get(node)
          if (link) this.#attach(link, opened)
        }
      })
      this.#views.set(node, view)
    }
    return view
  }

  async #openIndex(log: Log, whole: boolean): Promise<OwnIndex> {
    const cores = this.#indexCores(this.nodeId, log.generation)
    try {
      return await OwnIndex.open(log, {
        cores,
        readOnly: !whole,
        hasRoom: () => this.#store.reserve.reason === null,
        failed: (error) => this.#failed(error)
      })
    } catch (error) {
      await cores.close()
      throw error
    }
  }

  async #openView(node: NodeId, generation: number): Promise<IndexView> {
    const anchor = await this.#store.peerLog({ kind: 'index', node }, generation)
    const cores = this.#indexCores(node, generation)
    const isOwn = node === this.nodeId
    if (!isOwn) cores.onOpen = (log) => this.#links?.get(node)?.attach(log)
    const view = await FollowedIndex.open(anchor, cores, {
      deletes: !isOwn && !this.#store.readOnly
    })
    this.#anchors.set(view, { anchor, cores })
    const expected = this.#expected.get(node)
    if (expected?.generation === generation) view.expect(expected.names)
    return view
  }

  /** A storage node says of which cores its index consists. */
  #expect(node: NodeId, { generation, journals, runs }: CoresMessage): void {
    // A writer reads no more than its cursors, as a rule; what it reads all the same it opens then.
    const isReader = this.#config?.isWriter(this.nodeId) !== true
    if (node === this.nodeId || this.#config?.isStorageNode(node) !== true) return
    const names: CoreName[] = [
      ...journals.map((number): CoreName => ({ kind: 'journal', number })),
      ...(isReader ? runs.map((run): CoreName => ({ kind: 'run', ...run })) : [])
    ]
    this.#expected.set(node, { generation, names })
    const view = this.#views.get(node)?.attached.find((one) => one.head.generation === generation)
    if (view) (view as FollowedIndex).expect(names)
  }

  /** The cores of one index: an own one is written and read at a time. */
  #indexCores(node: NodeId, generation: number): HyperIndexCores {
    const key = `${node}/${generation}`
    const known = this.#cores.get(key)
    if (known?.isOpen) return known.share()
    const cores = new HyperIndexCores(this.#store, node, generation)
    cores.onDeleteFailed = (error) =>
      this.#warn(
        `a part of an index that is not needed any more is still there: ${messageOf(error)}`
      )
    this.#cores.set(key, cores)
    return cores
  }

  /** Takes an index in from its node. */
  #attach(link: Link, view: IndexView): void {
    const open = this.#anchors.get(view)
    if (!open) return
    link.attach(open.anchor)
    for (const log of open.cores.logs) link.attach(log)
  }

  /** A core of this node's own index that a peer asks for. */
  async #served(discoveryKey: string): Promise<HyperLog | null> {
    const log = this.#storage?.log
    if (!log) return null
    return (await this.#cores.get(`${this.nodeId}/${log.generation}`)?.find(discoveryKey)) ?? null
  }

  async #openInbox(writer: NodeId, generation: number, attach = true): Promise<Log> {
    const log = await this.#store.peerLog(
      { kind: 'outbox', node: writer, owner: this.nodeId },
      generation
    )
    const authorised = this.#storage?.inbox(writer)?.authorised !== false
    if (attach && authorised) this.#links?.get(writer)?.attach(log)
    return log
  }

  #isAsked(owner: NodeId): boolean {
    const link = this.#links?.get(owner)
    return link != null && this.#asked.get(owner) === link
  }

  async #askHead(owner: NodeId, wait: WaitOptions): Promise<Head> {
    if (owner === this.nodeId) return this.#view(owner).head
    const links = this.#links
    if (!links)
      throw new KVSwarmError('NOT_CONNECTED', 'this node is not connected', {
        hint: 'call connect()'
      })
    links.join(owner)
    const id = ++this.#headRequest
    let asked: Link | null = null
    let answer: Head | null = null
    let told = (): void => {}
    this.#headAnswers.set(id, {
      owner,
      told: (head) => {
        answer = head
        told()
      }
    })
    try {
      await waitFor(
        () => {
          const conflict = this.#conflicts.get(owner)
          if (conflict !== undefined) throw conflictError(owner, conflict)
          const link = links.get(owner)
          // Asked anew when the connection was replaced before the answer came.
          if (link && link !== asked && answer === null) {
            asked = link
            link.send({ type: 'headRequest', id })
          }
          return answer !== null
        },
        (listener) => {
          told = listener
          return links.onChange(listener)
        },
        wait,
        () =>
          new KVSwarmError(
            'TIMEOUT',
            links.get(owner)
              ? 'it did not tell its head in time'
              : 'it could not be reached in time'
          )
      )
    } finally {
      this.#headAnswers.delete(id)
    }
    if (asked) this.#asked.set(owner, asked)
    return answer as unknown as Head
  }

  async #readCursor(
    owner: NodeId,
    options: ReadOptions = { timeout: receiptPollMs * 10 }
  ): Promise<Position | null> {
    const { current } = this.#view(owner)
    if (!current || current.head.length === 0) return null
    const value = await current.get(cursorKey(this.nodeId, owner), options)
    return value === null ? null : decodeCursor(value)
  }

  async #readRejections(owner: NodeId, wait: WaitOptions): Promise<Rejection[]> {
    const { current } = this.#view(owner)
    const found: Rejection[] = []
    if (!current) return found
    const snapshot = current.snapshot()
    try {
      for await (const { key, value } of snapshot.range(resultsRange(this.nodeId, owner), wait)) {
        const result = decodeResult(value)
        if (result.type !== 'rejected') continue
        found.push({ place: decodeResultKey(key), reason: `${result.reason}: ${result.text}` })
      }
    } finally {
      await snapshot.close()
    }
    return found
  }

  async #adopt(config: Config): Promise<void> {
    await this.#state.setConfig(config.serialize())
    this.#config = config
    await this.#writer.adopt()
    await this.#storageOpening?.catch(() => {})
    await this.#storage?.adopt(storageConfig(config, this.nodeId))
    this.#deliverToSelf()
    this.#conflicts.clear()
    this.#dial()
    // A peer that adopted first may have told what this node could not take then: the hello asks for it again.
    this.#links?.greetAgain()
    for (const link of this.#links?.all ?? []) this.#serve(link)
  }

  #conflict(id: NodeId, theirs: { readonly epoch: number; readonly hash: string }): void {
    const config = this.#config
    if (!config || (!config.isStorageNode(id) && !config.isWriter(id))) return
    const message = `node ${id} has another configuration of epoch ${theirs.epoch}: ${theirs.hash}, here ${config.hash}`
    if (this.#conflicts.get(id) === message) return
    this.#conflicts.set(id, message)
    this.#warn(message)
  }

  #configured(): Config {
    if (this.#config) return this.#config
    throw new KVSwarmError('CONFIG_MISSING', 'this data directory has no configuration yet', {
      hint: 'pass one (-c config.json, or the option `config`)'
    })
  }

  #usable(): void {
    if (this.#fatal) throw this.#fatal
    if (this.#closing) throw closedError()
  }

  #warn(message: string): void {
    // Peers cause most of them, and could fill a log.
    if (!this.#warningsLeft.take(1)) {
      this.#leftOut += 1
      return
    }
    if (this.#leftOut > 0)
      message = `${message} (before it ${this.#leftOut} warnings were left out)`
    this.#leftOut = 0
    this.#warnings.push(message)
    if (this.#warnings.length > warningsMax) this.#warnings.shift()
    this.#options.onWarning(message)
  }

  #roomChanged(): void {
    const { reason } = this.#store.reserve
    if (reason === null) this.#warn('there is room on the disk again: everything goes on')
    else this.#warn(`${reason}; writes are refused and nothing is taken in`)
    this.#storage?.roomChanged()
  }

  /** Something that acks and receipts rely on failed: the node stops and says so. */
  #failed(error: unknown): void {
    if (this.#fatal || this.#closing) return
    const wrapped = isKVSwarmError(error)
      ? error
      : new KVSwarmError('INTERNAL', `the node stopped: ${messageOf(error)}`, {
          hint: 'restart it; nothing that was not durable was acknowledged',
          cause: error
        })
    this.#fatal = wrapped
    this.#endCalls(wrapped)
    const links = this.#links
    this.#links = null
    void links?.close()
    this.#options.onError(wrapped)
  }
}

function storageConfig(
  config: Config,
  node: NodeId
): { epoch: number; hash: string; writers: readonly NodeId[]; owns(key: Uint8Array): boolean } {
  return {
    epoch: config.epoch,
    hash: config.hash,
    writers: config.writers,
    owns: (key) => config.ownerOfEncoded(key) === node
  }
}

/**
 * Whether `next` is to be adopted over `adopted`; false: it is the same.
 * @throws CONFIG_STALE, CONFIG_CONFLICT, CONFIG_SLICES
 */
function mayAdopt(adopted: Config | null, next: Config): boolean {
  if (adopted === null) return true
  if (next.epoch === adopted.epoch) {
    if (next.hash === adopted.hash) return false
    throw new KVSwarmError(
      'CONFIG_CONFLICT',
      `epoch ${next.epoch} was adopted as ${adopted.hash}, and this is another document of that epoch: ${next.hash}`,
      { hint: 'use the one that was adopted, or make the change as a new epoch' }
    )
  }
  if (next.epoch < adopted.epoch) {
    throw new KVSwarmError(
      'CONFIG_STALE',
      `the configuration has epoch ${next.epoch}, epoch ${adopted.epoch} was adopted already`,
      { hint: 'use the newest configuration file' }
    )
  }
  if (next.slicesHash !== adopted.slicesHash) {
    throw new KVSwarmError(
      'CONFIG_SLICES',
      `epoch ${next.epoch} has other slices than epoch ${adopted.epoch}, which was adopted`,
      {
        hint: 'this version cannot move data between storage nodes: keep the capacities as they are'
      }
    )
  }
  return true
}

function conflictError(owner: NodeId, message: string): KVSwarmError {
  return new KVSwarmError('CONFIG_CONFLICT', message, {
    hint: `give this node and ${owner} the same configuration`
  })
}

/** Which log a kept record is about; null: the record is damaged, and is learnt anew from its node. */
function nameOf(record: Uint8Array): LogName | null {
  try {
    return openGeneration(record).name
  } catch {
    return null
  }
}

function closedError(): KVSwarmError {
  return new KVSwarmError('CLOSED', 'the store is closed', { hint: 'open a new one' })
}

function readOnlyError(): KVSwarmError {
  return new KVSwarmError('READ_ONLY', 'the store was opened with readOnly', {
    hint: 'open it without readOnly'
  })
}
