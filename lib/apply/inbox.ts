/**
 * One writer's outbox as a storage node takes it in: opens its generations, fetches blocks through a bounded
 * window, makes them durable, and answers for them (the ack). What to do next is decided by
 * lib/protocol/intake.ts; this carries it out.
 *
 * Invariants:
 * - `held` of a generation moves only after the barrier has passed, and only then an ack is sent;
 * - only what the plan names is asked for, and no more than the backlog allows (backlog.ts); what it names no
 *   more is given up;
 * - a writer that is slow, silent or hostile holds up nobody but itself: what is wrong with its log stops this
 *   inbox; what is wrong with the disk stops the node.
 */
import { blockBytesTarget } from '../../config/limits.ts'
import { isKVSwarmError, messageOf } from '../errors.ts'
import type { Log } from '../ports.ts'
import { ChainLinks } from '../protocol/chain-links.ts'
import { fits } from '../protocol/batch.ts'
import { arrivals } from '../protocol/holding.ts'
import { plan, type Generation, type Plan, type Range } from '../protocol/intake.ts'
import { comparePositions, later } from '../protocol/positions.ts'
import type { NodeId, Position } from '../types.ts'
import { decodeBlock, type DecodedBlock } from '../wire/blocks.ts'
import { Backlog } from './backlog.ts'
import { InboxLogs } from './inbox-logs.ts'
import { Wants } from './wants.ts'

/** What an inbox needs from its surroundings. */
export interface InboxEnvironment {
  /** Opens one generation of the writer's outbox; with `attach` it is attached to the writer's connection. */
  open(writer: NodeId, generation: number, attach: boolean): Promise<Log>
  /** Deletes this node's copy of a generation; nothing when there is none. */
  delete(writer: NodeId, generation: number): Promise<void>
  /** The durability barrier. */
  sync(): Promise<void>
  /** Why nothing is to be taken in for now: the disk is full; null: it is not. */
  readonly fullReason?: () => string | null
  /** Blocks are ready to be applied. */
  ready(): void
  /** The storage node answers for everything up to here. */
  acked(writer: NodeId, position: Position): void
  warn(message: string): void
  /** Something of ours failed: the node must stop rather than go on in silence. */
  failed(error: unknown): void
}

/** A held block, decoded, in the order in which it is to be applied. */
export interface ReadyBlock {
  readonly generation: number
  readonly block: number
  readonly bytes: number
  /** What it counts towards a batch. */
  readonly operations: number
  readonly content: DecodedBlock
}

export class Inbox {
  readonly writer: NodeId
  readonly #environment: InboxEnvironment
  readonly #logs: InboxLogs
  readonly #wants: Wants
  readonly #links: ChainLinks
  readonly #backlog = new Backlog()
  /** Generations of which more than the first block may lie here. */
  readonly #stored = new Set<number>()
  #storedKnown = false
  #known: Position | null = null
  #applied: Position | null
  #acked: Position | null = null
  #cutOff: Position | null = null
  #oldest: number | null = null
  #authorised = true
  #working = false
  #again = false
  #appliedBytes = 0
  /** The log of which that is. */
  #measured: Log | null = null
  /** Blocks that were given to be applied, and are not yet. */
  #taken: { readonly generation: number; readonly block: number; readonly bytes: number }[] = []
  #closed = false
  /** Why apply stopped it: a block that this node cannot apply yet. */
  #stopped: string | null = null
  /** Why its log cannot be read. */
  #fault: string | null = null
  /** Its outbox was forked before what its next generation continues: nothing more of it can ever be applied. */
  #lost = false
  /** A block that was read and did not fit into a batch. */
  #peeked: ReadyBlock | null = null
  /** Results of this log that the index holds: of operations whose writer has not seen yet what became of them. */
  results = 0
  /** There are so many of them that no more is applied before the writer has seen some. */
  crowded = false

  /** @param links for tests: with another bound */
  constructor(
    writer: NodeId,
    applied: Position | null,
    environment: InboxEnvironment,
    links: ChainLinks = new ChainLinks()
  ) {
    this.writer = writer
    this.#applied = applied
    this.#environment = environment
    this.#links = links
    if (applied) this.#backlog.applied(applied)
    this.#logs = new InboxLogs({
      open: (generation, attach) => environment.open(writer, generation, attach),
      changed: () => this.work(),
      forked: (generation) => this.#forked(generation),
      openFailed: (error) => environment.failed(error),
      closeFailed: (error) => this.#logFailed(error),
      delete: (generation) => environment.delete(writer, generation),
      deleteFailed: (error) =>
        environment.warn(
          `an applied part of the outbox of writer ${writer} could not be deleted: ${messageOf(error)}`
        )
    })
    this.#wants = new Wants({
      arrived: (generation, block, data) => this.#arrived(generation, block, data),
      failed: (error) => this.#logFailed(error)
    })
  }

  get authorised(): boolean {
    return this.#authorised
  }

  get applied(): Position | null {
    return this.#applied
  }

  /** How far the storage node answers for this log. */
  get acked(): Position | null {
    return this.#acked
  }

  /** The newest position that is known to exist at the writer; length 0 until the log was seen. */
  get known(): Position | null {
    const generation = this.#links.newest
    if (generation === null) return null
    const length = this.#logs.get(generation)?.log.length
    if (length !== undefined) return { generation, length }
    return this.#known?.generation === generation ? this.#known : { generation, length: 0 }
  }

  /** The logs that are open, to be attached to a new connection of the writer. */
  get logs(): Log[] {
    return this.#logs.attachable
  }

  /** Why the log stands still; null: it does not. */
  get stopped(): string | null {
    const forked = this.#lost ? lostReason : this.#logs.forked === null ? null : forkedReason
    const crowded = this.crowded ? crowdedReason : null
    return (
      this.#stopped ?? forked ?? this.#fault ?? crowded ?? this.#environment.fullReason?.() ?? null
    )
  }

  /** There is something to apply: take() has at least one block. */
  get isReady(): boolean {
    return this.#isReadable && this.#plan().apply !== null
  }

  /** The writer has signed that this is its outbox's generation. */
  announce(generation: number): void {
    const { newest } = this.#links
    if (this.#lost || (newest !== null && generation <= newest)) return
    this.#links.announce(generation)
    this.work()
  }

  /**
   * The writer has deleted what came before this generation, since this node's index showed it applied. When this
   * index does not (it was restored), the inbox goes on from here all the same: there is nothing else to be had.
   * @returns false when something is missing that way
   */
  startAt(generation: number): boolean {
    if (this.#oldest !== null && this.#oldest >= generation) return true
    this.#oldest = generation
    this.work()
    return this.#applied !== null && this.#applied.generation >= generation
  }

  /** These generations have something here from earlier sessions; until that is told no other than the cursor's is applied. */
  found(stored: Iterable<number>): void {
    for (const generation of stored) this.#stored.add(generation)
    this.#storedKnown = true
    this.work()
  }

  /** Bytes that are here and applied. */
  get appliedBytes(): number {
    return this.#appliedBytes
  }

  /** The generation that the cursor is in, if nothing is here that is not applied, and nothing is under way. */
  get idleGeneration(): number | null {
    if (this.#applied === null || this.#wants.size > 0 || !this.#isReadable) return null
    const { generation, length } = this.#applied
    for (const [other, { held }] of this.#logs.all) {
      if (other > generation || (other === generation && held > length)) return null
    }
    return generation
  }

  /** Deletes the copy of a generation; if it is needed it is fetched again, from the cursor on. */
  discard(generation: number): void {
    this.#logs.discard(generation)
    if (this.#applied?.generation === generation) this.#appliedBytes = 0
  }

  /** The configuration names the writer again: it resumes where it was. */
  authorise(): void {
    this.#authorised = true
    this.#cutOff = null
    this.#lost = false
    this.work()
  }

  /** The configuration names the writer no more: nothing is fetched, and nothing behind `cutOff` counts. */
  remove(cutOff: Position | null): void {
    this.#authorised = false
    this.#cutOff = cutOff
    this.#wants.keep(() => false)
    this.work()
  }

  /** Apply cannot go on with it. @returns false when that was known */
  stop(reason: string): boolean {
    if (this.#stopped === reason) return false
    this.#stopped = reason
    return true
  }

  /** What stopped it may be gone. */
  resume(): void {
    this.#stopped = null
    this.#fault = null
  }

  /** The index holds everything up to here. */
  advance(position: Position): void {
    const before = this.#applied
    this.#applied = position
    this.#backlog.applied(position)
    this.#logs.passed(position.generation)
    if (before !== null && before.generation < position.generation) {
      this.#discardBefore(position.generation, before.generation)
    }
    for (const { generation, block, bytes } of this.#taken.splice(0)) {
      if (generation === position.generation && block < position.length) this.#appliedBytes += bytes
    }
    this.work()
  }

  /**
   * The next held blocks, in order, as many as fit into both bounds.
   * A block of which nothing can be read is given as invalid, so that its place gets a result.
   * @param atLeastOne the first one is given even when it does not fit
   * @throws IO_ERROR, DISK_FULL, DATADIR_DAMAGED; what else a log throws concerns this inbox alone
   */
  async take(operationsMax: number, bytesMax: number, atLeastOne: boolean): Promise<ReadyBlock[]> {
    const ready: ReadyBlock[] = []
    this.#taken = []
    if (!this.#isReadable) return ready
    const { apply } = this.#plan()
    const opened = apply && this.#logs.get(apply.generation)
    if (!apply || !opened) return ready
    let operations = 0
    let bytes = 0
    try {
      for (let block = apply.from; block < apply.to; block++) {
        const next = await this.#read(opened.log, block)
        if (next === null) break
        operations += next.operations
        bytes += next.bytes
        if (!fits({ operationsMax, bytesMax, atLeastOne }, ready.length, { operations, bytes })) {
          // Kept for the next batch, unless it is one of the large ones.
          this.#peeked = next.bytes <= blockBytesTarget ? next : null
          break
        }
        ready.push(next)
        this.#taken.push({ generation: next.generation, block, bytes: next.bytes })
      }
    } catch (error) {
      if (isStorageFailure(error)) throw error
      this.#logFailed(error)
    }
    return ready
  }

  /** Up to where the writer has seen its results, as the newest block says that is here and can be applied. */
  async newestSeen(): Promise<Position | null> {
    const { apply } = this.#plan()
    const log = apply && this.#logs.get(apply.generation)?.log
    if (!apply || !log) return null
    for (
      let block = apply.to - 1;
      block >= Math.max(apply.from, apply.to - seenSearchMax);
      block--
    ) {
      const data = await log.get(block, { wait: false })
      const content = data === null ? null : decodeBlock(data)
      if (content?.type === 'operations') return content.seen
    }
    return null
  }

  /** Looks at what is to be done, and does it; cheap when there is nothing. */
  work(): void {
    if (this.#closed) return
    this.#again = true
    if (!this.#working) void this.#run()
  }

  async close(): Promise<void> {
    this.#closed = true
    this.#wants.keep(() => false)
    await this.#logs.close()
  }

  /** Whatever is here of generations that the cursor has passed. */
  #discardBefore(generation: number, last: number): void {
    const passed = new Set([last, ...this.#logs.all.keys(), ...this.#links.all.keys()])
    for (const other of this.#stored) if (other < generation) passed.add(other)
    for (const other of passed) {
      if (other >= generation) continue
      this.#logs.discard(other)
      this.#stored.delete(other)
    }
    this.#appliedBytes = 0
  }

  /** A log that was opened for the cursor: what an earlier session has applied of it is here, unless it was dropped. */
  #measure(log: Log, { length }: Position): void {
    this.#measured = log
    this.#appliedBytes =
      length > 0 && log.has(0) && log.length > 0
        ? Math.floor(log.bytes * Math.min(1, length / log.length))
        : 0
  }

  get #isReadable(): boolean {
    return !this.#closed && this.#stopped === null && this.#fault === null
  }

  async #run(): Promise<void> {
    this.#working = true
    try {
      while (this.#again && !this.#closed) {
        this.#again = false
        if (!(await this.#makeDurable()) || this.#closed) return
        this.#look()
      }
    } catch (error) {
      this.#logFailed(error)
    } finally {
      this.#working = false
    }
  }

  /** What arrived since the last time passes the barrier, then it is held. @returns false when that failed */
  async #makeDurable(): Promise<boolean> {
    const arrived = arrivals(this.#logs.all, this.#applied)
    if (arrived.length === 0) return true
    try {
      await this.#environment.sync()
    } catch (error) {
      if (!this.#closed) this.#environment.failed(error)
      return false
    }
    for (const { opened, to } of arrived) opened.held = to
    return true
  }

  #look(): void {
    this.#known = this.known
    const current = this.#applied && this.#logs.get(this.#applied.generation)?.log
    if (this.#applied && current && this.#measured?.generation !== current.generation) {
      this.#measure(current, this.#applied)
    }
    const next = this.#plan()
    if (next.chain !== null) this.#links.retain(next.chain)
    this.#answer(next)
    this.#judgeFork(next)
    this.#logs.use(this.#lost ? stillNeeded(next) : next.needed, this.#authorised)
    this.#fetch(next)
    if (next.apply) this.#environment.ready()
    if (next.done && this.#links.applied(this.#applied)) this.#again = true
  }

  #plan(): Plan {
    const generations = new Map<number, Generation>()
    const applied = this.#applied
    for (const [generation, { log, held, firstMissing }] of this.#logs.all) {
      const start = applied?.generation === generation ? applied.length : 0
      const here = firstMissing(Math.max(held, start))
      generations.set(generation, { length: log.length, held, here })
    }
    return plan({
      newest: this.#links.from,
      end: this.#links.end,
      applied: this.#applied,
      generations,
      stored: this.#storedKnown ? this.#stored : null,
      links: this.#links.all,
      cutOff: this.#cutOff,
      oldest: this.#oldest
    })
  }

  #answer({ acked }: Plan): void {
    const newest = later(this.#acked, acked)
    if (newest === null) return
    if (this.#acked !== null && comparePositions(newest, this.#acked) === 0) return
    this.#acked = newest
    this.#environment.acked(this.writer, newest)
  }

  /** Asks for what the plan names, and gives up what it does not. */
  #fetch({ head, fetch, apply }: Plan): void {
    const opened = fetch === null ? undefined : this.#logs.get(fetch.generation)
    const fetches = fetch !== null && opened !== undefined && this.#mayFetch(fetch.generation)
    // When nothing is left to be applied, nothing but the next block makes room.
    const window = fetches ? Math.max(this.#backlog.window(), apply === null ? 1 : 0) : 0
    const next = fetches ? missing(opened.log, fetch, window) : []
    const narrow = this.#backlog.isOverdrawn(this.#wants.size)
    this.#wants.keep((generation, block) => {
      if (generation === head && block === 0) return true
      if (!fetches || generation !== fetch.generation) return false
      return narrow ? next.includes(block) : block >= fetch.from && block < fetch.to
    })
    if (head !== null) {
      const log = this.#logs.get(head)?.log
      if (log) this.#wants.ask(log, 0, this.#mayFetch(head))
    }
    for (const block of next) {
      if (opened && this.#wants.size < window) this.#wants.ask(opened.log, block, true)
    }
  }

  #mayFetch(generation: number): boolean {
    const hasRoom = (this.#environment.fullReason?.() ?? null) === null
    return hasRoom && this.#authorised && !this.#lost && !this.#logs.isForked(generation)
  }

  /**
   * No block of a forked log is taken in any more. So when the generation behind it continues more of it than is held
   * here, the way on is closed for ever, since none is skipped: the writer counts as removed, at once and for every
   * later start. What is held is applied; nothing else of it is opened, fetched or kept.
   */
  #judgeFork({ fetch, chain }: Plan): void {
    if (this.#lost || fetch === null || chain === null) return
    if (!this.#logs.isForked(fetch.generation) || chain.at(-1) === fetch.generation) return
    this.#lost = true
    this.#environment.warn(`the outbox of writer ${this.writer} stands still: ${lostReason}`)
  }

  #arrived(generation: number, block: number, data: Uint8Array): void {
    this.#backlog.arrived(generation, block, data.length)
    if (block > 0) this.#stored.add(generation)
    if (block === 0 && !this.#links.all.has(generation)) {
      const content = decodeBlock(data)
      // A first block that is no head cannot name what it continues: the generation stands on its own.
      const continues = content.type === 'head' ? (content.continues ?? null) : null
      this.#links.learn(generation, continues, this.#applied)
    }
    this.work()
  }

  async #read(log: Log, block: number): Promise<ReadyBlock | null> {
    const peeked = this.#peeked
    this.#peeked = null
    if (peeked?.generation === log.generation && peeked.block === block) return peeked
    const data = await log.get(block, { wait: false })
    if (data === null) return null
    const content = decodeBlock(data)
    const operations = countOperations(content)
    return { generation: log.generation, block, bytes: data.length, operations, content }
  }

  #forked(generation: number): void {
    this.#environment.warn(
      `the outbox of writer ${this.writer} (generation ${generation}) stands still: ${forkedReason}`
    )
  }

  #logFailed(error: unknown): void {
    if (this.#closed || isKVSwarmError(error, 'CLOSED', 'ABORTED')) return
    if (isStorageFailure(error)) return this.#environment.failed(error)
    if (this.#fault !== null) return
    this.#fault = `its log cannot be read: ${messageOf(error)}`
    this.#environment.warn(`the outbox of writer ${this.writer} stands still: ${this.#fault}`)
  }
}

const forkedReason =
  'its outbox was forked: two versions were signed; what was acknowledged of it is applied, no more is taken in'

const lostReason =
  'its outbox was forked, and goes on from a version that is not held here: the writer counts as removed; it can write again as a new node'

/** Of a log that no more is fetched of: what is still to be applied. */
function stillNeeded({ apply }: Plan): number[] {
  return apply === null ? [] : [apply.generation]
}

const crowdedReason =
  'too many of its operations were rejected, and the writer has not asked for their receipts'

/** Of the newest blocks so many are looked at for one with operations. */
const seenSearchMax = 16

/** Ours, not the writer's: nothing can be answered for any more. */
function isStorageFailure(error: unknown): boolean {
  return isKVSwarmError(error, 'IO_ERROR', 'DISK_FULL', 'DATADIR_DAMAGED')
}

/** The first blocks of a range that are not here, at most `count`. */
function missing(log: Log, { from, to }: Range, count: number): number[] {
  const blocks: number[] = []
  for (let block = from; block < to && blocks.length < count; block++) {
    if (!log.has(block)) blocks.push(block)
  }
  return blocks
}

function countOperations(content: DecodedBlock): number {
  if (content.type !== 'operations') return 1
  let count = 0
  for (const segment of content.segments) count += segment.operations.length
  return count
}
