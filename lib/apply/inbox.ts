/**
 * One writer's outbox as a storage node takes it in: opens its generations, fetches blocks through a bounded
 * window, makes them durable, and answers for them (the ack). What to do next is decided by
 * lib/protocol/intake.ts; this carries it out.
 *
 * Invariants:
 * - `held` of a generation moves only after the barrier has passed, and only then an ack is sent;
 * - at most intakeBlocksMax blocks are asked for at a time, and fetching waits while more than
 *   intakeBytesMax are here and not applied;
 * - a writer that is slow, silent or hostile holds up nobody but itself.
 */
import { setMaxListeners } from 'node:events'
import { intakeBlocksMax, intakeBytesMax } from '../../config/limits.ts'
import { isKVSwarmError } from '../errors.ts'
import type { Log } from '../ports.ts'
import { plan, type Generation, type Intake, type Plan } from '../protocol/intake.ts'
import { comparePositions, later } from '../protocol/positions.ts'
import type { NodeId, Position } from '../types.ts'
import { decodeBlock, type DecodedBlock } from '../wire/blocks.ts'

/** What an inbox needs from its surroundings. */
export interface InboxEnvironment {
  /** Opens one generation of the writer's outbox and attaches it to the writer's connection. */
  open(writer: NodeId, generation: number): Promise<Log>
  /** The durability barrier. */
  sync(): Promise<void>
  /** Blocks are ready to be applied. */
  ready(): void
  /** The storage node answers for everything up to here. */
  acked(writer: NodeId, position: Position): void
  /** Something of ours failed: the node must stop rather than go on in silence. */
  failed(error: unknown): void
}

/** A held block, decoded, in the order in which it is to be applied. */
export interface ReadyBlock {
  readonly generation: number
  readonly block: number
  readonly bytes: number
  readonly content: DecodedBlock
}

interface Opened {
  readonly log: Log
  readonly stop: () => void
  held: number
  continues: Position | null | undefined
}

export class Inbox {
  readonly writer: NodeId
  readonly #environment: InboxEnvironment
  readonly #opened = new Map<number, Opened>()
  readonly #opening = new Set<number>()
  /** Blocks that are asked for: `generation/block`. */
  readonly #wanted = new Set<string>()
  readonly #sizes = new Map<string, number>()
  readonly #abort = new AbortController()
  #newest: number | null = null
  #applied: Position | null
  #acked: Position | null = null
  #cutOff: Position | null = null
  #authorised = true
  #working = false
  #again = false
  #closed = false
  /** Why the log stands still, when it does; set by apply. */
  stopped: string | null = null
  /** Results of this log that the index holds: of operations whose writer has not seen yet what became of them. */
  results = 0

  constructor(writer: NodeId, applied: Position | null, environment: InboxEnvironment) {
    this.writer = writer
    this.#applied = applied
    this.#environment = environment
    // One listener for each block that is asked for.
    setMaxListeners(0, this.#abort.signal)
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

  /** The newest position that is known to exist at the writer. */
  get known(): Position | null {
    if (this.#newest === null) return null
    return { generation: this.#newest, length: this.#opened.get(this.#newest)?.log.length ?? 0 }
  }

  /** The logs that are open, to be attached to a new connection of the writer. */
  get logs(): Log[] {
    return [...this.#opened.values()].map((opened) => opened.log)
  }

  /** The writer has signed that this is its outbox's generation. */
  announce(generation: number): void {
    if (this.#newest !== null && generation <= this.#newest) return
    this.#newest = generation
    this.work()
  }

  /** The configuration names the writer again: it resumes where it was. */
  authorise(): void {
    this.#authorised = true
    this.#cutOff = null
    this.work()
  }

  /** The configuration names the writer no more: nothing is fetched, and nothing behind `cutOff` counts. */
  remove(cutOff: Position | null): void {
    this.#authorised = false
    this.#cutOff = cutOff
    this.work()
  }

  /** The index holds everything up to here. */
  advance(position: Position): void {
    this.#applied = position
    for (const key of this.#sizes.keys()) {
      const [generation = 0, block = 0] = key.split('/').map(Number)
      if (comparePositions({ generation, length: block + 1 }, position) <= 0)
        this.#sizes.delete(key)
    }
    this.work()
  }

  /**
   * The next held blocks, in order: at least one when there is one, then as many as fit.
   * A block of which nothing can be read is given as invalid, so that its place gets a result.
   */
  async take(operationsMax: number, bytesMax: number): Promise<ReadyBlock[]> {
    const { apply } = this.#plan()
    if (apply === null || this.#closed || this.stopped !== null) return []
    const opened = this.#opened.get(apply.generation)
    if (!opened) return []
    const ready: ReadyBlock[] = []
    let operations = 0
    let bytes = 0
    for (let block = apply.from; block < apply.to; block++) {
      const data = await opened.log.get(block, { wait: false })
      if (data === null) break
      const content = decodeBlock(data)
      ready.push({ generation: apply.generation, block, bytes: data.length, content })
      bytes += data.length
      operations += countOperations(content)
      if (operations >= operationsMax || bytes >= bytesMax) break
    }
    return ready
  }

  /** Looks at what is to be done, and does it; cheap when there is nothing. */
  work(): void {
    if (this.#closed) return
    if (this.#working) {
      this.#again = true
      return
    }
    this.#working = true
    this.#run().catch((error: unknown) => {
      if (!this.#closed) this.#environment.failed(error)
    })
  }

  async close(): Promise<void> {
    this.#closed = true
    this.#abort.abort()
    for (const { log, stop } of this.#opened.values()) {
      stop()
      await log.close()
    }
    this.#opened.clear()
  }

  async #run(): Promise<void> {
    try {
      do {
        this.#again = false
        await this.#makeDurable()
        if (this.#closed) return
        const next = this.#plan()
        this.#answer(next)
        for (const generation of next.open) this.#open(generation)
        for (const generation of next.heads) this.#fetchHead(generation)
        if (next.fetch) this.#fetch(next.fetch.generation, next.fetch.from, next.fetch.to)
        if (next.apply) this.#environment.ready()
      } while (this.#again)
    } finally {
      this.#working = false
    }
  }

  /** What arrived since the last time passes the barrier, then it is held. */
  async #makeDurable(): Promise<void> {
    const arrived: { opened: Opened; to: number }[] = []
    for (const [generation, opened] of this.#opened) {
      const start = this.#applied?.generation === generation ? this.#applied.length : 0
      const to = opened.log.firstMissing(Math.max(opened.held, start))
      if (to > opened.held) arrived.push({ opened, to })
    }
    if (arrived.length === 0) return
    await this.#environment.sync()
    for (const { opened, to } of arrived) opened.held = to
  }

  #plan(): Plan {
    const generations = new Map<number, Generation>()
    for (const [generation, { log, held, continues }] of this.#opened) {
      generations.set(generation, { length: log.length, held, continues })
    }
    const intake: Intake = {
      newest: this.#newest,
      applied: this.#applied,
      generations,
      cutOff: this.#cutOff
    }
    return plan(intake)
  }

  #answer({ acked }: Plan): void {
    if (acked === null) return
    const newest = later(this.#acked, acked)
    if (newest === this.#acked || newest === null) return
    if (this.#acked !== null && comparePositions(newest, this.#acked) === 0) return
    this.#acked = newest
    this.#environment.acked(this.writer, newest)
  }

  #open(generation: number): void {
    if (this.#opening.has(generation) || this.#opened.has(generation)) return
    this.#opening.add(generation)
    this.#environment
      .open(this.writer, generation)
      .then(async (log) => {
        if (this.#closed) return await log.close()
        const stop = log.onChange(() => this.work())
        this.#opened.set(generation, { log, stop, held: 0, continues: undefined })
        this.work()
      })
      .catch((error: unknown) => {
        if (!this.#closed) this.#environment.failed(error)
      })
      .finally(() => this.#opening.delete(generation))
  }

  #fetchHead(generation: number): void {
    const opened = this.#opened.get(generation)
    if (!opened) return
    this.#want(generation, 0, (data) => {
      const content = decodeBlock(data)
      // A first block that is no head cannot name what it continues: the generation stands on its own.
      opened.continues = content.type === 'head' ? (content.continues ?? null) : null
    })
  }

  #fetch(generation: number, from: number, to: number): void {
    const opened = this.#opened.get(generation)
    if (!opened || !this.#authorised) return
    let waiting = 0
    for (const size of this.#sizes.values()) waiting += size
    for (let block = from; block < to; block++) {
      if (this.#wanted.size >= intakeBlocksMax || waiting >= intakeBytesMax) return
      if (opened.log.has(block)) continue
      this.#want(generation, block, (data) => {
        this.#sizes.set(`${generation}/${block}`, data.length)
      })
    }
  }

  #want(generation: number, block: number, then: (data: Uint8Array) => void): void {
    const key = `${generation}/${block}`
    const opened = this.#opened.get(generation)
    if (!opened || this.#wanted.has(key)) return
    this.#wanted.add(key)
    opened.log
      .get(block, { signal: this.#abort.signal, timeout: Infinity })
      .then((data) => {
        this.#wanted.delete(key)
        if (data !== null) then(data)
        this.work()
      })
      .catch((error: unknown) => {
        this.#wanted.delete(key)
        // A request that ended with its connection or log is made again at the next look (a new connection).
        if (!this.#closed && !isKVSwarmError(error, 'CLOSED', 'ABORTED'))
          this.#environment.failed(error)
      })
  }
}

function countOperations(content: DecodedBlock): number {
  if (content.type !== 'operations') return 1
  let count = 0
  for (const segment of content.segments) count += segment.operations.length
  return count
}
