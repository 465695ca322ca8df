/**
 * The apply loop of a storage node: takes what its inboxes have ready, evaluates it in one order, and appends
 * one index update with entries, results and cursors (lib/protocol/evaluate.ts).
 *
 * Invariants: one batch at a time, so there is one order; every writer gets a turn in every batch and no more
 * than its share while others wait; receipts are told only after the append, which is behind the barrier.
 */
import {
  applyBytesMax,
  applyOperationsMax,
  applyOperationsPerWriterMax
} from '../../config/limits.ts'
import type { Head, Index, IndexChange } from '../ports.ts'
import {
  evaluate,
  logId,
  type Outcome,
  type PlacedBlock,
  type Rules
} from '../protocol/evaluate.ts'
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
  /** A batch is in the index, durably; `results`: how many the index holds for this log. */
  applied(writer: NodeId, position: Position, head: Head, results: number): void
  /** The index or the store failed: the node must stop rather than go on in silence. */
  failed(error: unknown): void
  warn(message: string): void
}

export class ApplyLoop {
  readonly #index: Index
  readonly #environment: ApplyEnvironment
  readonly #inboxes = new Map<NodeId, Inbox>()
  #state: IndexState
  #running: Promise<void> | null = null
  #again = false
  #closed = false
  /** Which inbox goes first; moves on with each batch. */
  #turn = 0
  /** Runs between two batches. */
  #between: (() => Promise<void>)[] = []

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

  /** Runs `task` between two batches, when nothing is being applied. */
  between(task: () => Promise<void>): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#between.push(() => task().then(resolve, reject))
      this.poke()
    })
  }

  /** Adopts a configuration: recorded in the index, in an append of its own, before anything of it. */
  async adopt(epoch: number, configHash: string, changes: readonly IndexChange[]): Promise<void> {
    await this.between(async () => {
      const state = { ...this.#state, epoch, configHash }
      await this.#index.apply([...changes, { key: indexStateKey, value: encodeIndexState(state) }])
      this.#state = state
      for (const inbox of this.#inboxes.values()) inbox.stopped = null
    })
  }

  async close(): Promise<void> {
    this.#closed = true
    await this.#running
  }

  async #run(): Promise<void> {
    try {
      while (this.#again && !this.#closed) {
        this.#again = false
        for (let task = this.#between.shift(); task; task = this.#between.shift()) await task()
        const blocks = await this.#collect()
        if (blocks.length === 0) continue
        await this.#apply(blocks)
        this.#again = true
      }
    } catch (error) {
      this.#closed = true
      this.#environment.failed(error)
    } finally {
      this.#running = null
    }
  }

  async #collect(): Promise<PlacedBlock[]> {
    const inboxes = [...this.#inboxes.values()]
    const ready: PlacedBlock[] = []
    let operations = 0
    let bytes = 0
    this.#turn++
    for (let i = 0; i < inboxes.length; i++) {
      const inbox = inboxes[(i + this.#turn) % inboxes.length] as Inbox
      const alone = inboxes.length === 1
      const share = alone ? applyOperationsMax : applyOperationsPerWriterMax
      const taken = await inbox.take(
        Math.min(share, applyOperationsMax - operations),
        applyBytesMax - bytes
      )
      for (const { generation, block, content, bytes: size } of taken) {
        ready.push({
          writer: inbox.writer,
          owner: this.#environment.node,
          generation,
          block,
          content
        })
        bytes += size
        if (content.type === 'operations') {
          for (const segment of content.segments) operations += segment.operations.length
        }
      }
      if (operations >= applyOperationsMax || bytes >= applyBytesMax) break
    }
    return ready
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
      if (inbox && inbox.stopped !== reason) {
        inbox.stopped = reason
        this.#environment.warn(`the outbox of writer ${inbox.writer} stands still: ${reason}`)
      }
    }
    if (outcome.changes.length === 0) return
    const changes = [...outcome.changes, ...(await this.#forget(outcome))]
    const head = await this.#index.apply(changes)
    this.#state = outcome.state
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
  }

  /** Deletes the results that their writers have seen. */
  async #forget(outcome: Outcome): Promise<{ key: Uint8Array; value: null }[]> {
    const changes: { key: Uint8Array; value: null }[] = []
    for (const inbox of this.#inboxes.values()) {
      const seen = outcome.seen.get(logId(inbox.writer, this.#environment.node))
      if (!seen || inbox.results === 0) continue
      const snapshot = this.#index.snapshot()
      try {
        const range = resultsRange(inbox.writer, this.#environment.node)
        for await (const { key } of snapshot.range(range, { wait: false })) {
          const place = decodeResultKey(key)
          const before =
            place.generation < seen.generation ||
            (place.generation === seen.generation && place.block < seen.length)
          if (!before) break
          changes.push({ key, value: null })
        }
      } finally {
        await snapshot.close()
      }
      inbox.results -= changes.length
    }
    return changes
  }
}
