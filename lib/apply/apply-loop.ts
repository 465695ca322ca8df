/**
 * The apply loop of a storage node: takes what its inboxes have ready, evaluates it in one order, and appends
 * one index update with entries, results and cursors (lib/protocol/evaluate.ts).
 *
 * Invariants:
 * - one batch at a time, so there is one order;
 * - the writers lead a batch in turn, and share it as lib/protocol/batch.ts says;
 * - receipts are told only after the append, which is behind the barrier;
 * - whoever waits for a turn between two batches is told, also when the loop ends.
 */
import { resultsPerWriterMax } from '../../config/limits.ts'
import { KVSwarmError, messageOf } from '../errors.ts'
import type { Head, Index, IndexChange } from '../ports.ts'
import { compose } from '../protocol/batch.ts'
import {
  evaluate,
  logId,
  type Outcome,
  type PlacedBlock,
  type Rules
} from '../protocol/evaluate.ts'
import { comparePositions } from '../protocol/positions.ts'
import type { NodeId, Position } from '../types.ts'
import {
  decodeResultKey,
  resultsRange,
  encodeIndexState,
  indexStateKey,
  type IndexState
} from '../wire/records.ts'
import type { Inbox } from './inbox.ts'

export interface ApplyEnvironment {
  readonly node: NodeId
  rules(): Rules
  /** Unix milliseconds. */
  now(): number
  /** False: the disk is full; the loop is poked when it is not any more. */
  readonly hasRoom?: () => boolean
  /** Results of one log that the index keeps. @default that of config/limits.ts */
  readonly resultsMax?: number
  /** A batch is in the index, durably; `results`: how many the index holds for this log. */
  applied(writer: NodeId, position: Position, head: Head, results: number): void
  /** All of a batch was told by applied(). */
  readonly batchApplied?: () => void
  /** The index or the store failed: the node must stop rather than go on in silence. */
  failed(error: unknown): void
  warn(message: string): void
}

interface Between {
  readonly task: () => Promise<void>
  readonly resolve: () => void
  readonly reject: (error: unknown) => void
}

export class ApplyLoop {
  readonly #index: Index
  readonly #environment: ApplyEnvironment
  /** In the order in which they lead a batch. */
  readonly #inboxes = new Map<NodeId, Inbox>()
  #state: IndexState
  #running: Promise<void> | null = null
  #again = false
  #closed = false
  /** Why it ended, when it did by itself. */
  #failure: unknown = null
  /** Run between two batches. */
  readonly #between: Between[] = []

  constructor(index: Index, state: IndexState, environment: ApplyEnvironment) {
    this.#index = index
    this.#state = state
    this.#environment = environment
  }

  get state(): IndexState {
    return this.#state
  }

  add(inbox: Inbox): void {
    this.#inboxes.set(inbox.writer, inbox)
    this.poke()
  }

  /** There may be something to apply. */
  poke(): void {
    if (this.#closed) return
    this.#again = true
    this.#running ??= this.#run()
  }

  /**
   * Runs `task` between two batches, when nothing is being applied.
   * @throws what `task` throws; CLOSED when the loop has ended, or ends before
   */
  between(task: () => Promise<void>): Promise<void> {
    if (this.#closed) return Promise.reject(this.#ended())
    return new Promise((resolve, reject) => {
      this.#between.push({ task, resolve, reject })
      this.poke()
    })
  }

  /** Adopts a configuration: recorded in the index, in an append of its own, before anything of it. */
  async adopt(epoch: number, configHash: string, changes: readonly IndexChange[]): Promise<void> {
    await this.between(async () => {
      const state = { ...this.#state, epoch, configHash }
      await this.#index.apply([...changes, { key: indexStateKey, value: encodeIndexState(state) }])
      this.#state = state
      for (const inbox of this.#inboxes.values()) inbox.resume()
    })
  }

  async close(): Promise<void> {
    this.#closed = true
    await this.#running
    this.#rejectWaiting()
  }

  async #run(): Promise<void> {
    try {
      while (this.#again && !this.#closed) {
        this.#again = false
        for (let next = this.#between.shift(); next; next = this.#between.shift()) {
          await next.task().then(next.resolve, next.reject)
        }
        const blocks = await this.#collect()
        if (blocks.length === 0) continue
        await this.#apply(blocks)
        this.#again = true
      }
    } catch (error) {
      this.#closed = true
      this.#failure = error
      this.#rejectWaiting()
      this.#environment.failed(error)
    } finally {
      this.#running = null
    }
  }

  #rejectWaiting(): void {
    for (const { reject } of this.#between.splice(0)) reject(this.#ended())
  }

  #ended(): KVSwarmError {
    if (this.#failure === null) {
      return new KVSwarmError('CLOSED', 'the storage node is closed', {
        hint: 'open the store again'
      })
    }
    return new KVSwarmError(
      'CLOSED',
      `the storage node stopped applying: ${messageOf(this.#failure)}`,
      {
        hint: 'restart the node; nothing that was not durable was acknowledged',
        cause: this.#failure
      }
    )
  }

  /** One batch. */
  async #collect(): Promise<PlacedBlock[]> {
    // On a full disk what the inboxes hold waits there.
    if (this.#environment.hasRoom?.() === false) return []
    const ready: Inbox[] = []
    for (const inbox of this.#inboxes.values()) {
      if (inbox.isReady && (await this.#hasRoomForResults(inbox))) ready.push(inbox)
    }
    const [leader] = ready
    if (!leader) return []
    // It leads again when all the others did.
    this.#inboxes.delete(leader.writer)
    this.#inboxes.set(leader.writer, leader)
    const batch: PlacedBlock[] = []
    const turns = compose(ready)
    for (let turn = turns.next(); !turn.done;) {
      const { inbox, operationsMax, bytesMax, atLeastOne } = turn.value
      const { writer } = inbox
      const taken = { operations: 0, bytes: 0 }
      for (const next of await inbox.take(operationsMax, bytesMax, atLeastOne)) {
        const { generation, block, content, operations, bytes } = next
        batch.push({ writer, owner: this.#environment.node, generation, block, content })
        taken.operations += operations
        taken.bytes += bytes
      }
      turn = turns.next(taken)
    }
    return batch
  }

  async #apply(blocks: readonly PlacedBlock[]): Promise<void> {
    const { node } = this.#environment
    const outcome = evaluate(
      this.#state,
      blocks,
      this.#environment.rules(),
      this.#environment.now()
    )
    for (const [id, reason] of outcome.stopped) {
      const inbox = this.#inboxes.get(id.slice(0, 64))
      if (inbox?.stop(reason)) {
        this.#environment.warn(`the outbox of writer ${inbox.writer} stands still: ${reason}`)
      }
    }
    if (outcome.changes.length === 0) return
    const forgotten = await this.#forget(outcome)
    const changes = [...outcome.changes, ...[...forgotten.values()].flat()]
    const head = await this.#index.apply(changes)
    this.#state = outcome.state
    for (const [inbox, { length }] of forgotten) inbox.results -= length
    for (const { place } of outcome.rejected) {
      const inbox = this.#inboxes.get(place.writer)
      if (inbox) inbox.results++
    }
    for (const inbox of this.#inboxes.values()) {
      const position = outcome.cursors.get(logId(inbox.writer, node))
      if (!position) continue
      inbox.advance(position)
      this.#environment.applied(inbox.writer, position, head, inbox.results)
    }
    this.#environment.batchApplied?.()
  }

  /**
   * Whether the index may take more results of this log. At the bound the log stands still until its writer has seen
   * what became of its operations; it says so in a block that lies farther on.
   */
  async #hasRoomForResults(inbox: Inbox): Promise<boolean> {
    const { resultsMax = resultsPerWriterMax } = this.#environment
    if (inbox.results >= resultsMax) {
      const seen = await inbox.newestSeen()
      const changes = seen === null ? [] : await this.#forgettable(inbox, seen)
      if (changes.length > 0) await this.#index.apply(changes)
      inbox.results -= changes.length
    }
    const crowded = inbox.results >= resultsMax
    if (crowded && !inbox.crowded) {
      this.#environment.warn(
        `the outbox of writer ${inbox.writer} stands still: ${inbox.results} of its operations were rejected, and it has not asked for their receipts`
      )
    }
    inbox.crowded = crowded
    return !crowded
  }

  /** What deletes the results that their writers have seen, by inbox. */
  async #forget(outcome: Outcome): Promise<Map<Inbox, IndexChange[]>> {
    const forgotten = new Map<Inbox, IndexChange[]>()
    for (const inbox of this.#inboxes.values()) {
      const seen = outcome.seen.get(logId(inbox.writer, this.#environment.node))
      if (!seen || inbox.results === 0) continue
      forgotten.set(inbox, await this.#forgettable(inbox, seen))
    }
    return forgotten
  }

  /** What deletes the results before `seen`. */
  async #forgettable({ writer }: Inbox, seen: Position): Promise<IndexChange[]> {
    const changes: IndexChange[] = []
    const snapshot = this.#index.snapshot()
    try {
      const range = resultsRange(writer, this.#environment.node)
      for await (const { key } of snapshot.range(range, { wait: false })) {
        const place = decodeResultKey(key)
        if (comparePositions({ ...place, length: place.block }, seen) >= 0) break
        changes.push({ key, value: null })
      }
    } finally {
      await snapshot.close()
    }
    return changes
  }
}
