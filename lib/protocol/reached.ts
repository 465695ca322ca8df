/**
 * How far one outbox has come at its storage node, as its writer knows: pure.
 *
 * Invariants: applied <= acked <= the end of the outbox, and none of them ever goes back. An ack comes only as
 * a message of the storage node itself; a receipt is the cursor in the storage node's signed index, and counts
 * when this node's own view of that index has it. The message "applied", of the authenticated storage node, tells
 * which head to wait for, and saves reading the cursor there. Nothing is deleted on its word (rotation.ts).
 *
 * Source: design section 8 (steps 3 and 5).
 */
import { headsAwaitedMax } from '../../config/limits.ts'
import type { Head } from '../ports.ts'
import type { Position } from '../types.ts'
import { comparePositions, later, reaches } from './positions.ts'

export interface Reached {
  /** Held durably by the storage node. */
  readonly acked: Position | null
  /** Applied, and readable in this node's view. */
  readonly applied: Position | null
  /** Announced as applied, and the head of the index that shows it; in the order of heads. */
  readonly announced: readonly { readonly position: Position; readonly head: Head }[]
}

export const nothingReached: Reached = { acked: null, applied: null, announced: [] }

/** The storage node says that it holds everything up to here. */
export function withAck(reached: Reached, position: Position): Reached {
  return reaches(reached.acked, position) ? reached : { ...reached, acked: position }
}

/** The storage node says that it has applied everything up to `position`, as its index shows at `head`. */
export function withAnnounced(
  reached: Reached,
  position: Position,
  head: Head,
  viewHead: Head | null
): Reached {
  const acked = withAck(reached, position)
  if (reaches(acked.applied, position)) return acked
  const last = acked.announced.at(-1)
  // Only the newest of what waits for one head matters; heads rise, and of too many the newest is kept.
  const replaces =
    last !== undefined &&
    (comparePositions(last.head, head) >= 0 || acked.announced.length >= headsAwaitedMax)
  const before = replaces ? acked.announced.slice(0, -1) : acked.announced
  const at = last !== undefined && reaches(last.head, head) ? last.head : head
  return withView({ ...acked, announced: [...before, { position, head: at }] }, viewHead)
}

/** What of a claim can be true: an outbox that lost its tail is shorter than what its storage node holds. */
export function possible(claim: Position, end: Position | null): Position | null {
  if (end === null || claim.generation > end.generation) return null
  return comparePositions(claim, end) <= 0 ? claim : end
}

/** This node's view of the index has come to `head`. */
export function withView(reached: Reached, head: Head | null): Reached {
  if (head === null) return reached
  let applied: Position | null = null
  let shown = 0
  for (const announced of reached.announced) {
    if (!reaches(head, announced.head)) break
    applied = later(applied, announced.position)
    shown++
  }
  if (applied === null) return reached
  return withCursor({ ...reached, announced: reached.announced.slice(shown) }, applied)
}

/** The cursor for this outbox was read in this node's own view of the index. */
export function withCursor(reached: Reached, cursor: Position): Reached {
  if (reaches(reached.applied, cursor)) return reached
  return { ...reached, applied: cursor, acked: later(reached.acked, cursor) }
}
