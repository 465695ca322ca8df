/**
 * One of this node's outboxes: the durable log of its operations for one storage node.
 *
 * Invariants:
 * - append() resolves behind the durability barrier; flushes that wait are put together into as few blocks as
 *   possible, in the order in which they came (P4);
 * - a generation that may have lost a tail is never appended to: a new one continues it, and its first block
 *   says so;
 * - a flush is found again by its request id, so that the same request twice is appended once;
 * - every block carries the epoch in which it was written, and a mark stands before the first block of a new one;
 * - a generation that has grown is ended and continued under the next one, and deleted whole when its owner's index
 *   shows it applied (lib/protocol/rotation.ts); what was in it is remembered (memory.ts).
 */
import { rotateLookMs } from '../../config/limits.ts'
import { assert } from '../assert.ts'
import { KVSwarmError } from '../errors.ts'
import type { Log, OwnGeneration, OwnLogs } from '../ports.ts'
import { coverage, goOn, numberToBegin, runsOf, shouldContinue } from '../protocol/outbox.ts'
import {
  deletable,
  rotationLimits,
  shouldRotate,
  type RotationLimits
} from '../protocol/rotation.ts'
import type { FlushPart, LogName, NodeId, Operation, Position } from '../types.ts'
import {
  decodeBlock,
  encodeBlock,
  packBlocks,
  type DecodedBlock,
  type OutboxLength
} from '../wire/blocks.ts'
import { OutboxMemory } from './memory.ts'

/** How much of an outbox's end is searched for a request that was sent before. */
const searchBlocksMax = 4096

/** One flush's operations for this owner. */
export interface OutboxRequest {
  /** 16 bytes. */
  readonly request: Uint8Array
  readonly operations: readonly Operation[]
  /** Of the configuration by which the owner was chosen. */
  readonly epoch: number
  /** Calls that it stands for. @default 1 */
  readonly calls?: number
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
  /** A rotation failed; what was written before is not affected. */
  rotationFailed(outbox: Outbox, error: unknown): void
  /** @default those of config/limits.ts */
  readonly limits?: RotationLimits
  /** One append is durable that stood for so many calls. */
  appended(calls: number): void
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
  /** Generations that have no block, and were never announced. */
  #empty: OwnGeneration[] = []
  /** Deleted already, or about to be: no more part of the outbox. */
  readonly #leftovers = new Map<number, Log>()
  #memory = new OutboxMemory()
  /** What the last block of an ended generation names. */
  #next: number | null = null
  /** Epoch of the newest block. */
  #epoch = 0
  #queue: Pending[] = []
  #pumping: Promise<void> | null = null
  /** Appends, marks and rotations, one after the other. */
  #appending: Promise<unknown> = Promise.resolve()
  #appendedAt = performance.now()
  #rotateAfter = 0
  #asked: number | null = null
  /** Deletions, one after the other. */
  #retiring: Promise<unknown> = Promise.resolve()
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
    const generations: OwnGeneration[] = []
    const empty: OwnGeneration[] = []
    for (const generation of found) {
      if (generation.log.length > 0) generations.push(generation)
      else empty.push(generation)
      // A session on it would keep it from being begun, or deleted.
      if (generation.log.length === 0) await generation.log.close()
    }
    const outbox = new Outbox(owner, name, logs, generations, environment)
    outbox.#empty = empty
    for (const { log } of generations) {
      const head = await outbox.#read(log, 0)
      if (head?.type === 'head' && head.continues) {
        outbox.#ends.set(head.continues.generation, head.continues.length)
      }
      const note = await log.note()
      if (note !== null) outbox.#memory.load(note)
    }
    const newest = generations.at(-1)
    if (newest) {
      const { generation, log, whole } = newest
      const last = whole ? await outbox.#read(log, log.length - 1) : null
      const { append, next } = goOn({ whole, last })
      if (append) outbox.#current = log
      outbox.#next = next
      // What we have of it now is what a new generation continues: connected to its storage node, it could grow
      // again by what that one still has.
      if (!whole) outbox.#ends.set(generation, log.firstMissing(0))
      outbox.#epoch = await outbox.#newestEpoch(log)
    }
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
    if (!newest) return null
    let before: Position | null = null
    for (const [generation, length] of this.#ends) {
      if (generation >= newest.generation || generation <= (before?.generation ?? -1)) continue
      before = { generation, length }
    }
    return before
  }

  /** The oldest generation that is here; null: nothing was ever written. */
  get oldest(): number | null {
    return this.#generations[0]?.generation ?? null
  }

  /** Generations before the oldest one were here, and are deleted. */
  get deleted(): boolean {
    return this.#memory.generations > 0
  }

  /** Of all generations that are here. */
  get bytes(): number {
    let bytes = 0
    for (const { log } of this.#generations) bytes += log.bytes
    return bytes
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
   * @throws FLUSH_LOST when the part was lost with an unsynced tail, or another copy of this node went on
   */
  covers(position: Position | null, part: FlushPart): boolean {
    if (position !== null && position.generation > (this.generation ?? 0)) {
      throw new KVSwarmError(
        'FLUSH_LOST',
        `storage node ${this.owner} has generation ${position.generation} of this node's outbox, which this data directory has not: whether blocks ${part.from} to ${part.to} of generation ${part.generation} belong to it cannot be told`,
        {
          hint: 'this directory was restored from a backup, or another copy of it is running, which must never be; read the keys, and write again what is missing'
        }
      )
    }
    const covered = coverage(position, part, this.#ends)
    if (covered === 'lost') {
      throw new KVSwarmError(
        'FLUSH_LOST',
        `blocks ${part.from} to ${part.to} of the outbox for ${part.owner} were lost here with unsynced writes, and may be lost altogether`,
        {
          hint: "read the keys (the storage node may have had them), and write again what is missing; durability 'sync' prevents it"
        }
      )
    }
    return covered === 'covered'
  }

  /** Whether this flush's blocks are in this outbox, or were and are covered by a later generation of it. */
  async holds(part: FlushPart, request: Uint8Array): Promise<boolean> {
    const found = this.#generations.find(({ generation }) => generation === part.generation)
    if (!found) return this.#memory.holds(part)
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
    await this.#alone(async () => {
      if (this.#current === null || this.#epoch >= epoch) return
      await this.#current.append([encodeBlock({ type: 'mark', epoch, configHash, lengths })])
      this.#epoch = epoch
    })
  }

  /** The owner asks for the next generation in place of this one. */
  ask(generation: number): void {
    if (generation !== this.generation) return
    this.#asked = generation
    void this.look(false)
  }

  /**
   * Goes on under the next generation if it is time for that. Never rejects.
   * @param receipted all of it has a receipt
   */
  look(receipted: boolean): Promise<void> {
    return this.#alone(() => this.#rotateIfDue(receipted))
  }

  /**
   * Deletes the generations that nobody needs any more.
   * @param shown the cursor that the owner's signed, present index shows
   * @param stands whether that index is its present one still; asked before each deletion
   * @returns whether there were any
   */
  retire(shown: Position, stands: () => boolean): Promise<boolean> {
    const retiring = this.#retiring.then(() => this.#retire(shown, stands))
    this.#retiring = retiring.catch(() => {})
    return retiring
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
    return this.#memory.find(this.owner, request)
  }

  /** Lets what is under way finish, and refuses what comes later. */
  async close(): Promise<void> {
    this.#closed = true
    await this.#pumping
    await this.#appending
    await this.#retiring
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
        await this.#alone(async () => {
          try {
            await this.#appendGroup(run)
          } catch (error) {
            for (const pending of run) pending.reject(error)
            return
          }
          await this.#rotateIfDue(false)
        })
      }
    }
    this.#pumping = null
  }

  /** Runs what appends, when nothing else does. */
  #alone<T>(run: () => Promise<T>): Promise<T> {
    const next = this.#appending.then(run)
    this.#appending = next.catch(() => {})
    return next
  }

  async #rotateIfDue(receipted: boolean): Promise<void> {
    if (this.#closed || performance.now() < this.#rotateAfter) return
    const log = this.#current
    const isDue = log === null ? this.#shouldContinue(receipted) : this.#shouldEnd(log, receipted)
    if (!isDue) return
    try {
      if (log !== null) await this.#end(log)
      await this.#continue()
    } catch (error) {
      this.#rotateAfter = performance.now() + rotateLookMs
      this.#environment.rotationFailed(this, error)
    }
  }

  #shouldEnd({ bytes, generation }: Log, receipted: boolean): boolean {
    const quietMs = performance.now() - this.#appendedAt
    const asked = this.#asked === generation
    const { limits = rotationLimits } = this.#environment
    return shouldRotate({ bytes, quietMs, receipted, asked }, limits)
  }

  #shouldContinue(receipted: boolean): boolean {
    const newest = this.#generations.at(-1)
    return newest !== undefined && shouldContinue({ whole: newest.whole, receipted })
  }

  /** The first step of a rotation, durable before the next one: #continue(). */
  async #end(log: Log): Promise<void> {
    const next = this.#logs.nextGeneration(this.#name)
    await log.append([encodeBlock({ type: 'end', next })])
    // Whatever comes now, nothing is appended to it any more.
    this.#current = null
    this.#next = next
  }

  /** Begins the next generation before anything is to be written to it. */
  async #continue(): Promise<void> {
    const begun = await this.#begin()
    try {
      await begun.append(this.#firstBlocks(this.#epoch))
    } catch (error) {
      await begun.close()
      throw error
    }
    this.#begun(begun)
  }

  async #retire(shown: Position, stands: () => boolean): Promise<boolean> {
    const going = deletable(
      this.#generations.map(({ generation }) => generation),
      shown
    )
    const newest = this.#generations.at(-1)
    if (this.#closed || !stands()) return false
    if (going.length === 0 || newest === undefined) {
      await this.#sweep()
      return false
    }
    const gone = this.#generations.slice(0, going.length)
    for (const { log } of gone) await this.#memory.take(log, (block) => this.#read(log, block))
    // What was in them is noted before they go.
    await newest.log.setNote(this.#memory.note())
    let deleted = false
    for (const { generation, log } of gone) {
      // Reading and noting took time: its owner may have told meanwhile that it was restored, and needs them again.
      if (!stands()) break
      this.#generations = this.#generations.filter((one) => one.generation !== generation)
      this.#leftovers.set(generation, log)
      for (const before of this.#ends.keys()) {
        // The last one says what its successor continues.
        if (before < generation) this.#ends.delete(before)
      }
      deleted = true
      await this.#sweep()
    }
    return deleted
  }

  /** Deletes what is no more part of the outbox. */
  async #sweep(): Promise<void> {
    for (const [generation, log] of this.#leftovers) {
      await this.#logs.delete(this.#name, generation, log)
      this.#leftovers.delete(generation)
    }
    for (const { generation } of this.#empty.splice(0)) {
      // One of them can have been begun since.
      if (this.#generations.some((other) => other.generation === generation)) continue
      await this.#logs.delete(this.#name, generation)
    }
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
    this.#appendedAt = performance.now()
    if (fresh) this.#begun(log)
    this.#environment.appended(group.reduce((sum, { calls = 1 }) => sum + calls, 0))
    for (const [index, pending] of group.entries()) {
      const part = parts[index]
      assert(part && part.to > part.from, 'every flush is in some block')
      const written = { generation: log.generation, from: first + part.from, to: first + part.to }
      this.#memory.appended({ request: pending.request, ...written })
      pending.resolve({ owner: this.owner, ...written })
    }
  }

  #begin(): Promise<Log> {
    const number = numberToBegin({
      named: this.#next,
      highest: this.#logs.newestGeneration(this.#name),
      empty: this.#empty.filter(({ whole }) => whole).map(({ generation }) => generation),
      fresh: this.#logs.nextGeneration(this.#name)
    })
    this.#next = null
    return this.#logs.begin(this.#name, number)
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
    this.#asked = null
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

function closedError(): KVSwarmError {
  return new KVSwarmError('QUEUE_CLOSED', 'the outbox is closed', { hint: 'open the store again' })
}
