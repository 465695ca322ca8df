/**
 * How far one outbox has come at its storage node, and who waits for it.
 * What follows from what is decided by lib/protocol/reached.ts.
 */
import type { Head } from '../ports.ts'
import {
  nothingReached,
  withAck,
  withAnnounced,
  withCursor,
  withView,
  type Reached
} from '../protocol/reached.ts'
import type { NodeId, Position } from '../types.ts'

export class Progress {
  readonly owner: NodeId
  readonly #listeners = new Set<() => void>()
  #reached: Reached = nothingReached
  #results: number | null = null
  #present: number | null = null

  constructor(owner: NodeId) {
    this.owner = owner
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
    this.#become(withAck(this.#reached, position))
  }

  /** The storage node says that it has applied everything up to `position`, as its index shows at `head`. */
  announce(position: Position, head: Head, results: number, viewHead: Head | null): void {
    this.#results = results
    this.#present = head.generation
    this.#become(withAnnounced(this.#reached, position, head, viewHead))
  }

  /** This node's view of the index has come to `head`. */
  viewMoved(head: Head | null): void {
    this.#become(withView(this.#reached, head))
  }

  /** The cursor for this outbox was read in this node's own view of the index. */
  seen(cursor: Position): void {
    this.#become(withCursor(this.#reached, cursor))
  }

  #become(reached: Reached): void {
    const { acked, applied } = this.#reached
    this.#reached = reached
    if (reached.acked !== acked || reached.applied !== applied) this.#changed()
  }

  #changed(): void {
    for (const listener of [...this.#listeners]) listener()
  }
}
