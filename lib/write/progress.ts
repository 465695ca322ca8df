/**
 * How far one outbox has come at its storage node, and who waits for it.
 * What follows from what is decided by lib/protocol/reached.ts.
 */
import { receiptPollMaxMs, receiptPollMs } from '../../config/limits.ts'
import type { Head } from '../ports.ts'
import { later, reaches } from '../protocol/positions.ts'
import {
  nothingReached,
  possible,
  withAck,
  withAnnounced,
  withCursor,
  withView,
  type Reached
} from '../protocol/reached.ts'
import type { NodeId, Position } from '../types.ts'

export interface ProgressEnvironment {
  /** The end of the outbox: nothing behind it can be acked or applied. Null: nothing was written. */
  end(): Position | null
  /** How far this node's view of the storage node's index has come. */
  viewHead(): Head | null
  /** The cursor in this node's view of the storage node's index. */
  readCursor(): Promise<Position | null>
}

export class Progress {
  readonly owner: NodeId
  readonly #environment: ProgressEnvironment
  readonly #listeners = new Set<() => void>()
  #reached: Reached = nothingReached
  #looking = false
  #again = false
  /** The newest head at which the cursor was read. */
  #lookedAt: Head | null = null
  /** Monotonic milliseconds of the next look that nothing has called for, and how long it was waited for. */
  #pollAt = 0
  #pollMs = 0
  #results: number | null = null
  #present: number | null = null

  constructor(owner: NodeId, environment: ProgressEnvironment) {
    this.owner = owner
    this.#environment = environment
  }

  /** Held durably by the storage node. */
  get acked(): Position | null {
    return this.#reached.acked
  }

  /** Applied, and readable in this node's view. */
  get applied(): Position | null {
    return this.#reached.applied
  }

  /** Results that the storage node's index holds for this outbox, as it last said; null: it has not said yet. */
  get results(): number | null {
    return this.#results
  }

  /** The generation of its index that the storage node was in when it last told; null: it has not told yet. */
  get present(): number | null {
    return this.#present
  }

  onChange(listener: () => void): () => void {
    this.#listeners.add(listener)
    return () => this.#listeners.delete(listener)
  }

  /** The storage node says that it holds everything up to here. */
  ack(position: Position): void {
    const claim = possible(position, this.#environment.end())
    if (claim) this.#become(withAck(this.#reached, claim))
  }

  /** The storage node says that it has applied everything up to `position`, as its index shows at `head`. */
  announce(position: Position, head: Head, results: number, viewHead: Head | null): void {
    this.#results = results
    this.#present = head.generation
    const claim = possible(position, this.#environment.end())
    if (claim) this.#become(withAnnounced(this.#reached, claim, head, viewHead))
  }

  /** This node's view of the index has come to `head`. */
  viewMoved(head: Head | null): void {
    this.#become(withView(this.#reached, head))
  }

  /**
   * Somebody waits, and perhaps no message will come: looks the cursor up in a head that is new, less and less often
   * while that brings nothing. (Every look at a new head costs its owner a block of up to 100 KB.)
   */
  poll(head: Head | null): void {
    this.viewMoved(head)
    const now = performance.now()
    if (head === null || now < this.#pollAt || reaches(this.#lookedAt, head)) return
    this.#pollMs = Math.min(receiptPollMaxMs, Math.max(receiptPollMs, 2 * this.#pollMs))
    this.#pollAt = now + this.#pollMs
    this.#lookUp()
  }

  /** Looks the cursor up in this node's view; one look at a time. */
  #lookUp(): void {
    this.#again = true
    if (!this.#looking) void this.#look()
  }

  async #look(): Promise<void> {
    this.#looking = true
    while (this.#again) {
      this.#again = false
      try {
        const head = this.#environment.viewHead()
        const cursor = await this.#environment.readCursor()
        this.#lookedAt = later(this.#lookedAt, head)
        if (cursor) this.seen(cursor)
      } catch {
        // Not to be had now: the next look, or a message, will tell.
      }
    }
    this.#looking = false
  }

  /**
   * The cursor for this outbox was read in this node's own view of the index. It can be in a generation that this
   * node does not have, when another copy of it has written there: Outbox.covers() tells.
   */
  seen(cursor: Position): void {
    const end = this.#environment.end()
    const foreign = end !== null && cursor.generation > end.generation
    const claim = foreign ? cursor : possible(cursor, end)
    if (claim) this.#become(withCursor(this.#reached, claim))
  }

  #become(reached: Reached): void {
    const { acked, applied } = this.#reached
    this.#reached = reached
    if (reached.applied !== applied) this.#pollMs = 0
    if (reached.acked !== acked || reached.applied !== applied) this.#changed()
  }

  #changed(): void {
    for (const listener of [...this.#listeners]) listener()
  }
}
