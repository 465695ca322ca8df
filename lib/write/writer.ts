/**
 * A writer's side: routes operations to outboxes by owner, and waits for what their owners make of them.
 *
 * Invariants:
 * - operations of one call keep their order within each outbox, and calls keep theirs (P4);
 * - a request id that is in an outbox is not appended there again, whichever process asks;
 * - a wait that ends early behind the append says so: `durable: true` and the flush's id;
 * - what is appended and has no receipt is bounded: everything passes the queue (admission.ts).
 */
import { blockBytesTarget, blockOperationsMax, rotateLookMs } from '../../config/limits.ts'
import { isKVSwarmError, KVSwarmError, messageOf } from '../errors.ts'
import type {
  Head,
  OwnLogs,
  QueueBounds,
  QueueStats,
  WaitOptions,
  WriteOptions,
  WriteRequest
} from '../ports.ts'
import { comparePositions, reaches } from '../protocol/positions.ts'
import { stillStands, type RotationLimits } from '../protocol/rotation.ts'
import type {
  FlushPart,
  FlushResult,
  NodeId,
  Operation,
  OperationPlace,
  Position
} from '../types.ts'
import { remaining, waitFor } from '../wait.ts'
import { checkOperation, type OutboxLength } from '../wire/blocks.ts'
import { decodeFlushId, encodeFlushId } from '../wire/flush-id.ts'
import { operationBytes } from '../wire/operations.ts'
import { Admission, type Weight } from './admission.ts'
import { Backlog } from './backlog.ts'
import { Outbox } from './outbox.ts'
import { Progress } from './progress.ts'

/** How many requests of this process are remembered, so that a repeated one is answered without a search. */
const rememberedMax = 1000

/** The part of the configuration that a writer routes by. */
export interface WriterConfig {
  readonly epoch: number
  readonly hash: string
  readonly isWriter: boolean
  ownerOf(key: Uint8Array): NodeId
}

/** A rejected operation, as the owner's index tells it. */
export interface Rejection {
  readonly place: OperationPlace
  readonly reason: string
}

export interface WriterEnvironment {
  readonly node: NodeId
  readonly logs: OwnLogs
  config(): WriterConfig
  /** A generation of the outbox for `owner` was begun: announce and serve it. */
  begun(outbox: Outbox): void
  /** This node's view of the owner's index: its head, or null when it knows none. */
  viewHead(owner: NodeId): Head | null
  onViewHead(owner: NodeId, listener: () => void): () => void
  /** The cursor for this node's outbox in its view of the owner's index, from local blocks if it can. */
  readCursor(owner: NodeId): Promise<Position | null>
  /** The same from local blocks alone, at once. */
  knownCursor(owner: NodeId): Promise<Position | null>
  /** The rejected operations of this node's outbox that the owner's index holds. */
  readRejections(owner: NodeId, wait: WaitOptions): Promise<Rejection[]>
  /**
   * The cursor for this node's outbox in the owner's signed index, if the view of it is of the generation that the
   * owner has last told to be its present one; null: nothing can be told.
   * @param present the generation of its index that the owner has told of
   */
  shownCursor(owner: NodeId, present: number): Promise<Position | null>
  /** Old generations of the outbox were deleted: its owner is told from where it goes on. */
  retired(outbox: Outbox): void
  warn(message: string): void
  /** Lets the owner be reached, if it can be. */
  need(owner: NodeId): void
  /** How often the cursor is looked up while somebody waits and no message tells, milliseconds. */
  readonly pollMs: number
  /** Of outbox generations. @default those of config/limits.ts */
  readonly limits?: RotationLimits
  readonly bounds: QueueBounds
  /** Syncs so far that made an outbox durable. */
  syncs(): number
}

interface Channel {
  readonly outbox: Outbox
  readonly progress: Progress
  readonly backlog: Backlog
  /** What is left of what was found on disk is being measured. */
  measuring: boolean
  /** Old generations are being looked at, and deleted. */
  retiring: boolean
  /** Who waits for the cursor to move, and what looks for them all. */
  watchers: number
  poll: NodeJS.Timeout | undefined
  /** Rejections that were read, and whether a caller was told. */
  readonly rejections: Map<string, Rejection & { told: boolean }>
  /** Everything rejected before this was read; null: nothing was. */
  readUpTo: Position | null
}

export class Writer {
  readonly #environment: WriterEnvironment
  readonly #channels = new Map<NodeId, Channel>()
  readonly #opening = new Map<NodeId, Promise<Channel>>()
  readonly #recent = new Map<string, Promise<FlushResult>>()
  readonly #admission: Admission
  #appending: Promise<unknown> = Promise.resolve()
  /** Looks after outboxes that are quiet. */
  readonly #looking: NodeJS.Timeout
  /** While somebody waits for room: where receipts are looked for, and what ends that. */
  readonly #watched = new Map<Channel, () => void>()
  #roomWanted = false
  #calls = 0
  #groupedBatches = 0
  #marked = 0
  #closed = false

  private constructor(environment: WriterEnvironment) {
    this.#environment = environment
    this.#looking = setInterval(() => this.#look(), rotateLookMs).unref()
    this.#admission = new Admission(
      environment.bounds,
      () => this.#pending(),
      (waiting) => this.#makeRoom(waiting)
    )
  }

  /** Opens the outboxes that are on disk; nothing is written. */
  static async open(environment: WriterEnvironment): Promise<Writer> {
    const writer = new Writer(environment)
    for (const name of environment.logs.ownNames('outbox')) {
      if (name.kind === 'outbox') await writer.#channel(name.owner)
    }
    return writer
  }

  get outboxes(): { outbox: Outbox; progress: Progress }[] {
    return [...this.#channels.values()]
  }

  outbox(owner: NodeId): Outbox | null {
    return this.#channels.get(owner)?.outbox ?? null
  }

  /** The storage node says that it holds this node's outbox up to here. */
  acked(owner: NodeId, position: Position): void {
    this.#channels.get(owner)?.progress.ack(position)
  }

  /** The storage node says that it has applied this node's outbox up to here, as `head` shows. */
  applied(owner: NodeId, position: Position, head: Head, results: number): void {
    const channel = this.#channels.get(owner)
    channel?.progress.announce(position, head, results, this.#environment.viewHead(owner))
  }

  /** The storage node asks for the next generation of this node's outbox in place of this one. */
  rotate(owner: NodeId, generation: number): void {
    this.#channels.get(owner)?.outbox.ask(generation)
  }

  get queue(): QueueStats {
    const physicalSyncs = this.#environment.syncs()
    return {
      ...this.#admission.stats,
      groupedBatches: this.#groupedBatches,
      physicalSyncs,
      syncsSaved: physicalSyncs === 0 ? 0 : Math.max(0, this.#calls - physicalSyncs)
    }
  }

  /** Looks up in this node's own blocks what was receipted before the start. */
  async recall(): Promise<void> {
    for (const { outbox, progress } of this.#channels.values()) {
      const cursor = await this.#environment.knownCursor(outbox.owner).catch(() => null)
      if (cursor) progress.seen(cursor)
    }
  }

  /** Refuses whoever waits for room, and whoever comes. */
  closeQueue(): void {
    this.#admission.close()
  }

  /** @throws as Engine.write */
  async write(request: WriteRequest, options: WriteOptions = {}): Promise<FlushResult> {
    const started = performance.now()
    // One bad operation must not spoil the append of others that it would share.
    for (const operation of request.operations) checkOperation(operation)
    const name = Buffer.from(request.request).toString('hex')
    let appended = this.#recent.get(name)
    if (!appended) {
      appended = this.#admit(request, options)
      this.#remember(name, appended)
    }
    let result: FlushResult
    try {
      result = await appended
    } catch (error) {
      this.#recent.delete(name)
      throw error
    }
    if (options.ack || options.receipt) {
      await this.#settle(result, { ...options, ack: !options.receipt }, started)
    }
    return result
  }

  /** @throws as Engine.receipt */
  async receipt(
    flushId: string,
    options: WaitOptions & { readonly ack?: boolean } = {}
  ): Promise<FlushResult> {
    const started = performance.now()
    const { request, operations, parts } = decodeFlushId(flushId)
    for (const part of parts) {
      const { outbox } = await this.#channel(part.owner)
      if (!(await outbox.holds(part, request))) {
        throw new KVSwarmError(
          'FLUSH_UNKNOWN',
          `flush ${flushId} names blocks that are not in this node's outbox for ${part.owner}`,
          { hint: 'ask on the node (data directory) that made the flush' }
        )
      }
    }
    const result: FlushResult = { id: flushId, operations, parts }
    await this.#settle(result, options, started)
    return result
  }

  /** The configuration has a new epoch: marks it in every outbox, before anything of it is written. */
  adopt(): Promise<void> {
    const next = this.#appending.then(() => this.#mark())
    this.#appending = next.catch(() => {})
    return next
  }

  async close(): Promise<void> {
    this.#closed = true
    clearInterval(this.#looking)
    await this.#appending
    for (const { outbox } of this.#channels.values()) await outbox.close()
  }

  /** Small outboxes with a receipt for everything are rotated after a while. */
  #look(): void {
    for (const channel of this.#channels.values()) {
      const { outbox, progress } = channel
      const { position } = outbox
      if (position === null) continue
      void outbox.look(reaches(progress.applied, position))
      this.#retire(channel)
    }
  }

  /** Deletes generations that the owner's index shows to be applied. */
  #retire(channel: Channel): void {
    const { outbox } = channel
    const { oldest, owner } = outbox
    const { applied, present } = channel.progress
    if (this.#closed || applied === null || present === null || oldest === null) return
    if (applied.generation <= oldest || channel.retiring) return
    const { progress } = channel
    const stands = (): boolean => {
      const view = this.#environment.viewHead(owner)
      return !this.#closed && stillStands(present, { present: progress.present, view })
    }
    const retiring = async (): Promise<void> => {
      const shown = await this.#environment.shownCursor(owner, present)
      if (shown !== null && (await outbox.retire(shown, stands))) {
        this.#environment.retired(outbox)
      }
    }
    channel.retiring = true
    retiring()
      .catch((error: unknown) => {
        // It is tried again when the owner tells more, or after a while.
        if (!this.#closed) {
          this.#environment.warn(
            `old generations of the outbox for ${owner} could not be deleted: ${messageOf(error)}`
          )
        }
      })
      .finally(() => {
        channel.retiring = false
      })
  }

  async #admit(request: WriteRequest, options: WriteOptions): Promise<FlushResult> {
    const config = this.#environment.config()
    if (request.retry) {
      // What is in the outboxes already needs no room.
      const found = await this.#found(request)
      if (found) return found
    } else if (!config.isWriter) {
      throw notWriter(this.#environment.node, config.epoch)
    }
    const { timeout, signal, onFull, calls = 1 } = options
    const result = await this.#admission.submit(
      weightOf(request.operations),
      { timeout, signal, onFull },
      () => this.#append(request, { signal, calls })
    )
    this.#calls += calls
    return result
  }

  /** The result of a request that is in all its outboxes, or null. */
  async #found({ request, operations }: WriteRequest): Promise<FlushResult | null> {
    // Behind what is under way: the first one may be.
    await this.#appending
    const config = this.#environment.config()
    const parts: FlushPart[] = []
    for (const owner of groupByOwner(operations, (key) => config.ownerOf(key)).keys()) {
      const { outbox } = await this.#channel(owner)
      const part = await outbox.find(request)
      if (part === null) return null
      parts.push(part)
    }
    return {
      id: encodeFlushId({ request, operations: operations.length, parts }),
      operations: operations.length,
      parts
    }
  }

  /** What is appended and has no receipt, over all outboxes. */
  #pending(): Weight {
    let bytes = 0
    let blocks = 0
    for (const { backlog } of this.#channels.values()) {
      bytes += backlog.bytes
      blocks += backlog.blocks
    }
    return { bytes, blocks }
  }

  /** While somebody waits for room, receipts are looked for, also of what is appended meanwhile. */
  #makeRoom(wanted: boolean): void {
    this.#roomWanted = wanted
    if (wanted) {
      for (const channel of this.#channels.values()) this.#lookForRoom(channel)
      return
    }
    for (const end of this.#watched.values()) end()
    this.#watched.clear()
  }

  #lookForRoom(channel: Channel): void {
    if (!this.#roomWanted || channel.backlog.blocks === 0 || this.#watched.has(channel)) return
    this.#watched.set(channel, this.#watch(channel))
  }

  #append(
    request: WriteRequest,
    { signal, calls }: { readonly signal: AbortSignal | undefined; readonly calls: number }
  ): Promise<FlushResult> {
    const config = this.#environment.config()
    // One that was sent before may be in the outboxes, whatever has become of the writer since.
    if (!config.isWriter && !request.retry) {
      return Promise.reject(notWriter(this.#environment.node, config.epoch))
    }
    return new Promise((resolve, reject) => {
      // One call after the other enters the outboxes' queues; there they are put together (Outbox).
      const entered = this.#appending.then(async () => {
        const { groups, appends } = await this.#enter(request, signal, calls)
        // Not awaited here: the next call's operations may join the same append.
        this.#collect(request, groups, appends).then(resolve, reject)
      })
      entered.catch(reject)
      this.#appending = entered.catch(() => {})
    })
  }

  /** Puts the operations into the queues of their outboxes, in order. */
  async #enter(
    { request, operations, retry }: WriteRequest,
    signal: AbortSignal | undefined,
    calls: number
  ): Promise<{ groups: Map<NodeId, number[]>; appends: Promise<FlushPart>[] }> {
    if (this.#closed) throw new KVSwarmError('QUEUE_CLOSED', 'the store is closing')
    if (signal?.aborted) {
      throw new KVSwarmError(
        'ABORTED',
        'the write was aborted before anything of it was written here',
        {
          data: retry ? { uncertain: true } : {}
        }
      )
    }
    await this.#mark()
    // Epoch and owners are taken together: what is queued now is of this epoch, whatever comes next.
    const config = this.#environment.config()
    const groups = groupByOwner(operations, (key) => config.ownerOf(key))
    const channels = await Promise.all([...groups.keys()].map((owner) => this.#channel(owner)))
    const earlier = new Map<NodeId, FlushPart>()
    if (retry) {
      for (const { outbox } of channels) {
        const part = await outbox.find(request)
        if (part) earlier.set(outbox.owner, part)
      }
    }
    if (!config.isWriter && earlier.size < channels.length) {
      throw notWriter(this.#environment.node, config.epoch)
    }
    const appends = channels.map(async (channel) => {
      const { outbox, backlog } = channel
      const found = earlier.get(outbox.owner)
      if (found) return found
      const places = groups.get(outbox.owner) ?? []
      const mine = places.map((place) => operations[place] as Operation)
      const part = await outbox.append({ request, operations: mine, epoch: config.epoch, calls })
      backlog.add(part, weightOf(mine).bytes)
      this.#lookForRoom(channel)
      return part
    })
    return { groups, appends }
  }

  async #collect(
    { request, operations }: WriteRequest,
    groups: ReadonlyMap<NodeId, number[]>,
    appends: Promise<FlushPart>[]
  ): Promise<FlushResult> {
    const outcomes = await Promise.allSettled(appends)
    const parts: FlushPart[] = []
    const unwritten: number[] = []
    let failure: unknown = null
    for (const [index, [, places]] of [...groups].entries()) {
      const outcome = outcomes[index] as PromiseSettledResult<FlushPart>
      if (outcome.status === 'fulfilled') {
        parts.push(outcome.value)
      } else {
        failure ??= outcome.reason
        unwritten.push(...places)
      }
    }
    const id = encodeFlushId({ request, operations: operations.length, parts })
    if (failure === null) return { id, operations: operations.length, parts }
    if (isUncertain(failure)) {
      throw new KVSwarmError(failure.code, failure.message, {
        hint: `${failure.hint}; what was written may be on disk all the same, and is then applied after a restart`,
        cause: failure,
        data: { ...failure.data, uncertain: true }
      })
    }
    if (parts.length === 0) throw failure
    throw new KVSwarmError(
      'FLUSH_PARTIAL',
      `${unwritten.length} of ${operations.length} operations were not written: ${(failure as Error).message}`,
      {
        hint: 'flush() again writes those, and only those',
        cause: failure,
        flushId: id,
        data: { unwritten: unwritten.toSorted((a, b) => a - b) }
      }
    )
  }

  async #mark(): Promise<void> {
    for (;;) {
      const { epoch, hash } = this.#environment.config()
      if (this.#marked >= epoch) return
      const lengths = this.#lengths()
      for (const { outbox } of this.#channels.values()) await outbox.mark(epoch, hash, lengths)
      this.#marked = epoch
    }
  }

  /** How long each outbox is now. */
  #lengths(): OutboxLength[] {
    const lengths: OutboxLength[] = []
    for (const { outbox } of this.#channels.values()) {
      const { position } = outbox
      if (position) lengths.push({ node: outbox.owner, ...position })
    }
    return lengths
  }

  #remember(name: string, appended: Promise<FlushResult>): void {
    appended.catch(() => {})
    this.#recent.set(name, appended)
    if (this.#recent.size <= rememberedMax) return
    const [oldest] = this.#recent.keys()
    if (oldest !== undefined) this.#recent.delete(oldest)
  }

  async #settle(
    result: FlushResult,
    options: WaitOptions & { readonly ack?: boolean },
    started: number
  ): Promise<void> {
    const { timeout = Infinity, signal } = options
    const waits = result.parts.map((part) =>
      this.#settlePart(part, options.ack === true, { timeout: remaining(timeout, started), signal })
    )
    try {
      await Promise.all(waits)
    } catch (error) {
      // The other parts' waits end by the same timeout or signal.
      await Promise.allSettled(waits)
      throw behindAppend(error, result.id)
    }
    if (!options.ack)
      await this.#tellRejected(result, { timeout: remaining(timeout, started), signal })
  }

  async #settlePart(part: FlushPart, ackOnly: boolean, wait: WaitOptions): Promise<void> {
    const { owner } = part
    const channel = await this.#channel(owner)
    const { outbox, progress } = channel
    const reached = (): boolean => outbox.covers(ackOnly ? progress.acked : progress.applied, part)
    if (reached()) return
    const unwatch = this.#watch(channel)
    try {
      await waitFor(
        reached,
        (listener) => progress.onChange(listener),
        wait,
        () =>
          new KVSwarmError(
            'TIMEOUT',
            `storage node ${owner} did not ${ackOnly ? 'acknowledge' : 'apply'} the write within the time allowed`,
            {
              hint: 'the write is on this disk and is delivered when the storage node can be reached'
            }
          )
      )
    } finally {
      unwatch()
    }
  }

  /** Looks for the cursor again and again, once for all who wait for it; the returned call ends one wait. */
  #watch(channel: Channel): () => void {
    const { outbox, progress } = channel
    const { owner } = outbox
    this.#environment.need(owner)
    const look = (): void => progress.poll(this.#environment.viewHead(owner))
    if (channel.watchers++ === 0) {
      channel.poll = setInterval(look, this.#environment.pollMs)
      look()
    }
    let over = false
    return () => {
      if (over) return
      over = true
      if (--channel.watchers === 0) clearInterval(channel.poll)
    }
  }

  async #tellRejected(result: FlushResult, wait: WaitOptions): Promise<void> {
    const mine: Rejection[] = []
    for (const part of result.parts) {
      const channel = await this.#channel(part.owner)
      const { progress, rejections } = channel
      if (progress.results === 0) {
        rejections.clear()
        continue
      }
      // The view that is read has at least what was applied before the reading.
      const upTo = progress.applied
      for (const rejection of await this.#environment.readRejections(part.owner, wait)) {
        const { generation, block, place } = rejection.place
        const key = `${generation}/${block}/${place}`
        if (!rejections.has(key)) rejections.set(key, { ...rejection, told: false })
      }
      channel.readUpTo = upTo
      for (const rejection of rejections.values()) {
        const { generation, block } = rejection.place
        if (generation !== part.generation || block < part.from || block >= part.to) continue
        rejection.told = true
        mine.push(rejection)
      }
    }
    if (mine.length === 0) return
    throw new KVSwarmError(
      'OPERATION_REJECTED',
      `${mine.length} of ${result.operations} operations were rejected: ${mine[0]?.reason}`,
      {
        hint: 'the others are applied; mend what was rejected and write it again',
        durable: true,
        flushId: result.id,
        data: { rejected: mine.map(({ place, reason }) => ({ ...place, reason })) }
      }
    )
  }

  /** Results below this were told to somebody: their owner can forget them. */
  #seen(owner: NodeId): Position | null {
    const channel = this.#channels.get(owner)
    if (!channel || channel.rejections.size === 0) return null
    let seen = channel.readUpTo
    for (const { place, told } of channel.rejections.values()) {
      const position = { generation: place.generation, length: place.block }
      if (!told && seen && comparePositions(position, seen) < 0) seen = position
    }
    return seen
  }

  #channel(owner: NodeId): Promise<Channel> {
    let opening = this.#opening.get(owner)
    if (!opening) {
      opening = this.#openChannel(owner)
      opening.catch(() => this.#opening.delete(owner))
      this.#opening.set(owner, opening)
    }
    return opening
  }

  async #openChannel(owner: NodeId): Promise<Channel> {
    const { node, logs } = this.#environment
    const outbox = await Outbox.open(node, owner, logs, {
      seen: () => this.#seen(owner),
      mark: () => ({ configHash: this.#environment.config().hash, lengths: this.#lengths() }),
      begun: (begun) => this.#environment.begun(begun),
      rotationFailed: (_, error) =>
        this.#environment.warn(
          `the outbox for ${owner} could not go on under a next generation: ${messageOf(error)}`
        ),
      ...(this.#environment.limits ? { limits: this.#environment.limits } : {}),
      appended: (calls) => {
        if (calls > 1) this.#groupedBatches++
      }
    })
    const progress = new Progress(owner, {
      end: () => outbox.position,
      viewHead: () => this.#environment.viewHead(owner),
      readCursor: () => this.#environment.readCursor(owner)
    })
    const channel: Channel = {
      outbox,
      progress,
      backlog: new Backlog(),
      measuring: false,
      retiring: false,
      watchers: 0,
      poll: undefined,
      rejections: new Map(),
      readUpTo: null
    }
    progress.onChange(() => this.#retire(channel))
    this.#environment.onViewHead(owner, () => progress.viewMoved(this.#environment.viewHead(owner)))
    const { position } = outbox
    if (position) {
      const { blocks, bytes } = await outbox.backlog(null)
      channel.backlog.measured(position, bytes, blocks)
    }
    progress.onChange(() => this.#moved(channel))
    this.#channels.set(owner, channel)
    return channel
  }

  /** What has a receipt now is pending no longer, and makes room. */
  #moved(channel: Channel): void {
    const { backlog, outbox, progress } = channel
    const { applied } = progress
    if (applied === null) return
    backlog.applied(applied)
    this.#admission.serve()
    const { found } = backlog
    if (found === null || channel.measuring || this.#closed) return
    channel.measuring = true
    outbox
      .backlog(applied)
      .then(({ blocks, bytes }) => {
        const { own } = backlog
        backlog.measured(found, Math.max(0, bytes - own.bytes), Math.max(0, blocks - own.blocks))
        this.#admission.serve()
      })
      .catch(() => {
        // The outbox is closing: nobody asks any more.
      })
      .finally(() => {
        channel.measuring = false
      })
  }
}

/** The disk failed under an append. What was refused before is certain: it is not there. */
function isUncertain(error: unknown): error is KVSwarmError {
  if (!isKVSwarmError(error, 'IO_ERROR', 'DISK_FULL', 'DATADIR_DAMAGED')) return false
  return error.data['refused'] !== true
}

function notWriter(node: NodeId, epoch: number): KVSwarmError {
  return new KVSwarmError('NOT_WRITER', `node ${node} is not a writer in epoch ${epoch}`, {
    hint: 'let it be added to the configuration (kvswarm init --writer, or addWriter), and use that one here'
  })
}

/** Places of the operations for each owner, in their order. */
function groupByOwner(
  operations: readonly Operation[],
  ownerOf: (key: Uint8Array) => NodeId
): Map<NodeId, number[]> {
  const groups = new Map<NodeId, number[]>()
  for (const [place, operation] of operations.entries()) {
    const owner = ownerOf(keyOf(operation))
    const places = groups.get(owner)
    if (places) places.push(place)
    else groups.set(owner, [place])
  }
  return groups
}

/** All keys of an atomic group have one partition key, so its first one tells. */
function keyOf(operation: Operation): Uint8Array {
  if (operation.type !== 'group') return operation.key
  const first = operation.mutations[0] ?? operation.checks[0]
  if (!first) throw new KVSwarmError('INVALID_ARGUMENT', 'an atomic group is empty')
  return first.key
}

/** The operations are on this disk whatever the wait came to. */
function behindAppend(error: unknown, flushId: string): unknown {
  if (!(error instanceof KVSwarmError) || error.durable) return error
  return new KVSwarmError(error.code, error.message, {
    hint: error.hint,
    cause: error,
    durable: error.code !== 'FLUSH_LOST',
    flushId,
    data: error.data
  })
}

/** What operations weigh before they are appended; their blocks are counted as if of one outbox. */
function weightOf(operations: readonly Operation[]): Weight {
  let bytes = 0
  for (const operation of operations) bytes += operationBytes(operation)
  const blocks = Math.max(
    1,
    Math.ceil(bytes / blockBytesTarget),
    Math.ceil(operations.length / blockOperationsMax)
  )
  return { bytes, blocks }
}
