/**
 * One of this node's outboxes: the durable log of its operations for one storage node.
 *
 * Invariants:
 * - append() resolves behind the durability barrier; flushes that wait are put together into as few blocks as
 *   possible, in the order in which they came (P4);
 * - a generation that may have lost a tail is never appended to: a new one continues it, and its first block
 *   says so;
 * - a flush is found again by its request id, so that the same request twice is appended once;
 * - every block carries the epoch in which it was written, and a mark stands before the first block of a new one.
 */
import { assert } from '../assert.ts'
import { KVSwarmError } from '../errors.ts'
import type { Log, OwnGeneration, OwnLogs } from '../ports.ts'
import type { FlushPart, LogName, NodeId, Operation, Position } from '../types.ts'
import {
  decodeBlock,
  encodeBlock,
  packBlocks,
  type DecodedBlock,
  type OutboxLength
} from '../wire/blocks.ts'

/** How much of an outbox's end is searched for a request that was sent before. */
const searchBlocksMax = 4096

/** One flush's operations for this owner. */
export interface OutboxRequest {
  /** 16 bytes. */
  readonly request: Uint8Array
  readonly operations: readonly Operation[]
  /** Of the configuration by which the owner was chosen. */
  readonly epoch: number
}

interface Pending extends OutboxRequest {
  readonly resolve: (part: FlushPart) => void
  readonly reject: (error: unknown) => void
}

/** What an outbox asks of its writer. */
export interface OutboxEnvironment {
  /** Results of this outbox before this were seen by somebody; the owner may drop them. */
  seen(owner: NodeId): Position | null
  /** The mark of the present epoch: its configuration's hash, and how long all outboxes are. */
  mark(): { readonly configHash: string; readonly lengths: readonly OutboxLength[] }
  /** A generation was begun and can be announced. */
  begun(outbox: Outbox): void
}

export class Outbox {
  readonly owner: NodeId
  readonly #name: LogName
  readonly #logs: OwnLogs
  readonly #environment: OutboxEnvironment
  #generations: OwnGeneration[]
  /** The generation that is appended to; null: the next flush begins one. */
  #current: Log | null = null
  /** Where each generation that another continues ends, as the later one says. */
  readonly #ends = new Map<number, number>()
  /** Epoch of the newest block. */
  #epoch = 0
  #queue: Pending[] = []
  #pumping: Promise<void> | null = null
  #closed = false

  private constructor(
    owner: NodeId,
    name: LogName,
    logs: OwnLogs,
    generations: OwnGeneration[],
    environment: OutboxEnvironment
  ) {
    this.owner = owner
    this.#name = name
    this.#logs = logs
    this.#generations = generations
    this.#environment = environment
  }

  /** Opens what there is of the outbox; nothing is written. */
  static async open(
    node: NodeId,
    owner: NodeId,
    logs: OwnLogs,
    environment: OutboxEnvironment
  ): Promise<Outbox> {
    const name: LogName = { kind: 'outbox', node, owner }
    const found = await logs.ownGenerations(name)
    // A generation without its first block was never announced: it stays unused for ever.
    const generations: OwnGeneration[] = []
    for (const generation of found) {
      if (generation.log.length === 0) await generation.log.close()
      else generations.push(generation)
    }
    const outbox = new Outbox(owner, name, logs, generations, environment)
    for (const { log } of generations) {
      const head = await outbox.#read(log, 0)
      if (head?.type === 'head' && head.continues) {
        outbox.#ends.set(head.continues.generation, head.continues.length)
      }
    }
    const newest = generations.at(-1)
    if (newest?.whole) outbox.#current = newest.log
    // What we have of it now is what a new generation continues: connected to its storage node, it could grow
    // again by what that one still has.
    else if (newest) outbox.#ends.set(newest.generation, newest.log.firstMissing(0))
    if (newest) outbox.#epoch = await outbox.#newestEpoch(newest.log)
    return outbox
  }

  /** The newest generation that exists; null: nothing was ever written. */
  get generation(): number | null {
    return this.#generations.at(-1)?.generation ?? null
  }

  /** The end of the newest generation. */
  get position(): Position | null {
    const newest = this.#generations.at(-1)
    return newest ? { generation: newest.generation, length: this.#endOf(newest) } : null
  }

  /** What the newest generation's signed record says that it continues. */
  get continues(): Position | null {
    const newest = this.#generations.at(-1)
    const before = this.#generations.at(-2)
    if (!newest || !before) return null
    const length = this.#ends.get(before.generation)
    return length === undefined ? null : { generation: before.generation, length }
  }

  /** The logs to be served to the storage node, oldest first. */
  get logs(): Log[] {
    return this.#generations.map((generation) => generation.log)
  }

  /** What lies behind `position`, over all generations. */
  async backlog(position: Position | null): Promise<{ blocks: number; bytes: number }> {
    let blocks = 0
    let bytes = 0
    for (const { generation, log } of this.#generations) {
      if (position !== null && generation < position.generation) continue
      const from = position?.generation === generation ? position.length : 0
      const end = this.#endOf({ generation, log })
      blocks += Math.max(0, end - from)
      bytes += await log.bytesFrom(from)
    }
    return { blocks, bytes }
  }

  /**
   * Whether a position in this outbox covers a part of a flush.
   * @throws FLUSH_LOST when the part was lost with an unsynced tail
   */
  covers(position: Position | null, part: FlushPart): boolean {
    if (position === null || position.generation < part.generation) return false
    if (position.generation === part.generation) return position.length >= part.to
    const end = this.#ends.get(part.generation)
    if (end !== undefined && part.to > end) {
      throw new KVSwarmError(
        'FLUSH_LOST',
        `blocks ${part.from} to ${part.to} of the outbox for ${part.owner} were lost here with unsynced writes, and may be lost altogether`,
        {
          hint: "read the keys (the storage node may have had them), and write again what is missing; durability 'sync' prevents it"
        }
      )
    }
    return true
  }

  /** Whether this flush's blocks are in this outbox, or were and are covered by a later generation of it. */
  async holds(part: FlushPart, request: Uint8Array): Promise<boolean> {
    const found = this.#generations.find(({ generation }) => generation === part.generation)
    if (!found) return false
    // Lost with an unsynced tail: covers() tells.
    if (part.to > found.log.length) return this.#ends.has(part.generation)
    const content = await this.#read(found.log, part.from)
    return (
      content?.type === 'operations' &&
      content.segments.some((segment) => Buffer.from(segment.request).equals(request))
    )
  }

  /** Appends the operations; resolves when they are durable. */
  append(request: OutboxRequest): Promise<FlushPart> {
    if (this.#closed) return Promise.reject(closedError())
    return new Promise((resolve, reject) => {
      this.#queue.push({ ...request, resolve, reject })
      this.#pumping ??= this.#pump()
    })
  }

  /** Appends a mark: what follows is of a new epoch. Nothing when there is no outbox yet, or it has the mark. */
  async mark(epoch: number, configHash: string, lengths: readonly OutboxLength[]): Promise<void> {
    await this.#pumping
    if (this.#current === null || this.#epoch >= epoch) return
    await this.#current.append([encodeBlock({ type: 'mark', epoch, configHash, lengths })])
    this.#epoch = epoch
  }

  /** The part of an earlier append with this request id, if the end of the outbox still shows it. */
  async find(request: Uint8Array): Promise<FlushPart | null> {
    for (const { generation, log } of this.#generations.toReversed()) {
      let from = -1
      let to = -1
      for (
        let block = log.length - 1;
        block >= Math.max(0, log.length - searchBlocksMax);
        block--
      ) {
        const content = await this.#read(log, block)
        const segment =
          content?.type === 'operations'
            ? content.segments.find((segment) => Buffer.from(segment.request).equals(request))
            : undefined
        if (segment) {
          if (to === -1) to = block + 1
          from = block
        } else if (to !== -1) {
          break
        }
      }
      if (to !== -1) return { owner: this.owner, generation, from, to }
    }
    return null
  }

  /** Lets what is under way finish, and refuses what comes later. */
  async close(): Promise<void> {
    this.#closed = true
    await this.#pumping
    for (const { log } of this.#generations) await log.close()
  }

  async #pump(): Promise<void> {
    // Flushes that are made in the same turn of the event loop share an append.
    await Promise.resolve()
    while (this.#queue.length > 0) {
      const group = this.#queue
      this.#queue = []
      // A block is of one epoch: that by which its operations were routed.
      for (const run of runsOf(group)) {
        try {
          await this.#appendGroup(run)
        } catch (error) {
          for (const pending of run) pending.reject(error)
        }
      }
    }
    this.#pumping = null
  }

  async #appendGroup(group: readonly Pending[]): Promise<void> {
    const epoch = group[0]?.epoch ?? 0
    const seen = this.#environment.seen(this.owner)
    const { blocks, parts } = packBlocks({ epoch, seen, flushes: group })
    const fresh = this.#current === null
    const log = this.#current ?? (await this.#begin())
    const before = fresh ? this.#firstBlocks(epoch) : []
    const first = log.length + before.length
    try {
      await log.append([...before, ...blocks])
    } catch (error) {
      if (fresh) await log.close()
      throw error
    }
    this.#epoch = Math.max(this.#epoch, epoch)
    if (fresh) this.#begun(log)
    for (const [index, pending] of group.entries()) {
      const part = parts[index]
      assert(part && part.to > part.from, 'every flush is in some block')
      const { from, to } = part
      pending.resolve({
        owner: this.owner,
        generation: log.generation,
        from: first + from,
        to: first + to
      })
    }
  }

  #begin(): Promise<Log> {
    return this.#logs.begin(this.#name, this.#logs.nextGeneration(this.#name))
  }

  /** A generation begins with what it continues, and with how far the writer's other outboxes are. */
  #firstBlocks(epoch: number): Uint8Array[] {
    const head = encodeBlock({
      type: 'head',
      created: Date.now(),
      epoch,
      continues: this.position
    })
    return [head, encodeBlock({ type: 'mark', epoch, ...this.#environment.mark() })]
  }

  #endOf({ generation, log }: { readonly generation: number; readonly log: Log }): number {
    return this.#ends.get(generation) ?? log.length
  }

  #begun(log: Log): void {
    const before = this.#generations.at(-1)
    if (before) this.#ends.set(before.generation, this.#endOf(before))
    this.#generations = [...this.#generations, { generation: log.generation, log, whole: true }]
    this.#current = log
    this.#environment.begun(this)
  }

  async #read(log: Log, block: number): Promise<DecodedBlock | null> {
    const data = await log.get(block, { wait: false })
    return data === null ? null : decodeBlock(data)
  }

  async #newestEpoch(log: Log): Promise<number> {
    for (let block = log.length - 1; block >= 0; block--) {
      const content = await this.#read(log, block)
      if (content && 'epoch' in content) return content.epoch
    }
    return 0
  }
}

/** Splits what waits into runs of one epoch, in order. */
function runsOf(group: readonly Pending[]): Pending[][] {
  const runs: Pending[][] = []
  for (const pending of group) {
    const run = runs.at(-1)
    if (run && run[0]?.epoch === pending.epoch) run.push(pending)
    else runs.push([pending])
  }
  return runs
}

function closedError(): KVSwarmError {
  return new KVSwarmError('QUEUE_CLOSED', 'the outbox is closed', { hint: 'open the store again' })
}
