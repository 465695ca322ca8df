/**
 * The address space: the integer points [0, 2^53), which plain doubles hold exactly.
 *
 * Invariant of everything in this room: only integers below or at SPACE, added, subtracted and compared, or
 * BigInt; no rounding anywhere, so that every machine computes the same slices.
 */
import type { NodeId } from '../types.ts'

/** Number of points; one past the greatest address. */
export const SPACE: number = 2 ** 53

/** The points [start, end) and the storage node that owns them. */
export interface Slice {
  readonly start: number
  readonly end: number
  readonly owner: NodeId
}

/** The points [start, end) pass from one storage node to another. */
export interface Move {
  readonly from: NodeId
  readonly to: NodeId
  readonly start: number
  readonly end: number
}
