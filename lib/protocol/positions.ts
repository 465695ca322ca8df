/**
 * Positions in logs that continue under new generations: how they compare, and what a position covers.
 */
import type { Position } from '../types.ts'

/** Before everything. */
export const zeroPosition: Position = { generation: 0, length: 0 }

/** Negative: `a` lies before `b`; 0: the same; positive: behind it. */
export function comparePositions(a: Position, b: Position): number {
  return a.generation - b.generation || a.length - b.length
}

/** True when `a` is at least as far as `b`; null is before everything. */
export function reaches(a: Position | null, b: Position): boolean {
  return a !== null && comparePositions(a, b) >= 0
}

/** The later of two positions. */
export function later(a: Position | null, b: Position | null): Position | null {
  if (a === null) return b
  if (b === null) return a
  return comparePositions(a, b) >= 0 ? a : b
}
