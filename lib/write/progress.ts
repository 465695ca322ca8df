/**
 * How far one outbox has come at its storage node, and who waits for it.
 *
 * Invariants: applied <= acked <= the end of the outbox, and none of them ever goes back. An ack comes only as
 * a message of the storage node itself; a receipt is the cursor in the storage node's signed index, and counts
 * when this node's own view of that index has it. The message "applied" only tells at which head to look for the
 * cursor: what it says of the position is not believed, since nobody has signed it.
 */
import { headsAwaitedMax, receiptPollMaxMs, receiptPollMs } from '../../config/limits.ts'
import type { Head } from '../ports.ts'
import { comparePositions, later, reaches } from '../protocol/positions.ts'
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
  #acked: Position | null = null
  #applied: Position | null = null
  /** Heads at which the storage node says that more is applied, rising; this node's view has not come to them. */
  #awaited: Head[] = []
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
    return later(this.#acked, this.#applied)
  }

  /** Applied, and readable in this node's view. */
  get applied(): Position | null {
    return this.#applied
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
    const newest = later(this.#acked, this.#possible(position))
    if (newest === null || reaches(this.#acked, newest)) return
    this.#acked = newest
    this.#changed()
  }

  /** The storage node says that it has applied everything up to `position`, as its index shows at `head`. */
  announce(position: Position, head: Head, results: number, viewHead: Head | null): void {
    this.#results = results
    this.#present = head.generation
    this.ack(position)
    const possible = this.#possible(position)
    if (possible === null || reaches(this.#applied, possible)) return
    const last = this.#awaited.at(-1)
    if (last === undefined || comparePositions(last, head) < 0) {
      // Of too many the newest is kept: the cursor of its head says all that those before it would.
      if (this.#awaited.length >= headsAwaitedMax) this.#awaited.pop()
      this.#awaited.push(head)
    }
    this.viewMoved(viewHead)
  }

  /** This node's view of the index has come to `head`. */
  viewMoved(head: Head | null): void {
    if (head === null) return
    let reached = false
    while (this.#awaited[0] && reaches(head, this.#awaited[0])) {
      this.#awaited.shift()
      reached = true
    }
    if (reached) this.#lookUp()
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

  /** The cursor for this outbox was read in this node's own view of the index. */
  seen(cursor: Position): void {
    const end = this.#environment.end()
    // A generation that this node does not have: another copy of it has written there (Outbox.covers() tells).
    const foreign = end !== null && cursor.generation > end.generation
    const applied = foreign ? cursor : this.#possible(cursor)
    if (applied === null || reaches(this.#applied, applied)) return
    this.#applied = applied
    this.#pollMs = 0
    this.#changed()
  }

  /** What of a claim can be true: an outbox that lost its tail is shorter than what its storage node holds. */
  #possible(claim: Position): Position | null {
    const end = this.#environment.end()
    if (end === null || claim.generation > end.generation) return null
    return comparePositions(claim, end) <= 0 ? claim : end
  }

  #changed(): void {
    for (const listener of [...this.#listeners]) listener()
  }
}
