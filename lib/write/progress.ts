/**
 * How far one outbox has come at its storage node, and who waits for it.
 *
 * Invariants: applied <= acked <= the end of the outbox, and none of them ever goes back. An ack comes only as
 * a message of the storage node itself; a receipt is the cursor in the storage node's signed index, and counts
 * when this node's own view of that index has it. The message "applied" only tells which head to wait for.
 */
import type { Head } from '../ports.ts'
import { comparePositions, later, reaches } from '../protocol/positions.ts'
import type { NodeId, Position } from '../types.ts'

export class Progress {
  readonly owner: NodeId
  readonly #listeners = new Set<() => void>()
  #acked: Position | null = null
  #applied: Position | null = null
  /** Announced as applied, and the head of the index that shows it. */
  #announced: { position: Position; head: Head }[] = []
  #results: number | null = null
  #present: number | null = null

  constructor(owner: NodeId) {
    this.owner = owner
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
    const newest = later(this.#acked, position)
    if (this.#acked && newest && comparePositions(newest, this.#acked) === 0) return
    this.#acked = newest
    this.#changed()
  }

  /** The storage node says that it has applied everything up to `position`, as its index shows at `head`. */
  announce(position: Position, head: Head, results: number, viewHead: Head | null): void {
    this.#results = results
    this.#present = head.generation
    this.ack(position)
    if (reaches(this.#applied, position)) return
    const last = this.#announced.at(-1)
    // Only the newest of what waits for one head matters.
    if (last && comparePositions(last.head, head) === 0) this.#announced.pop()
    this.#announced.push({ position, head })
    this.viewMoved(viewHead)
  }

  /** This node's view of the index has come to `head`. */
  viewMoved(head: Head | null): void {
    if (head === null) return
    let applied: Position | null = null
    while (this.#announced[0] && reaches(head, this.#announced[0].head)) {
      applied = later(applied, this.#announced.shift()?.position ?? null)
    }
    if (applied) this.seen(applied)
  }

  /** The cursor for this outbox was read in this node's own view of the index. */
  seen(cursor: Position): void {
    if (reaches(this.#applied, cursor)) return
    this.#applied = cursor
    this.#changed()
  }

  #changed(): void {
    for (const listener of [...this.#listeners]) listener()
  }
}
