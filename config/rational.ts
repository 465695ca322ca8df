/**
 * Slices of the old form: intervals `[start, end]` of the line from 0 to 1, whose ends are fractions
 * `[numerator, denominator]` (numbers, decimal strings or bigints) or plain numbers.
 *
 * A fraction becomes the nearest point (halves go up), computed in integers: equal fractions give one point, so
 * intervals that meet still meet, and every machine reads the same slices.
 */
import { SPACE } from '../lib/slices/space.ts'
import type { Interval } from './slices-text.ts'

/** A whole number: JSON has no bigints, so large ones stand there as text. */
export type Whole = number | bigint | string
/** A place on the line from 0 to 1. */
export type Fraction = number | readonly [Whole, Whole]
/** From the first to before the second. */
export type RationalSlice = readonly [Fraction, Fraction]

/** The old module wrote up to 132 digits on long sequences of changes. */
const wholeDigitsMax = 1000
const wholeText = /^\d+$/

/** The points of an interval, none of them when both ends are the same point; null when it is no interval. */
export function readRational(slice: unknown): Interval | null {
  if (!Array.isArray(slice) || slice.length !== 2) return null
  const start = pointOf(slice[0])
  const end = pointOf(slice[1])
  return start === null || end === null || start > end ? null : { start, end }
}

function pointOf(fraction: unknown): number | null {
  if (typeof fraction === 'number') {
    // SPACE is a power of two, so that the product is exact
    return fraction >= 0 && fraction <= 1 ? Math.round(fraction * SPACE) : null
  }
  if (!Array.isArray(fraction) || fraction.length !== 2) return null
  const numerator = wholeOf(fraction[0])
  const denominator = wholeOf(fraction[1])
  if (numerator === null || denominator === null) return null
  if (denominator === 0n || numerator > denominator) return null
  return Number((2n * numerator * BigInt(SPACE) + denominator) / (2n * denominator))
}

function wholeOf(value: unknown): bigint | null {
  if (typeof value === 'bigint') return value < 0n ? null : value
  if (typeof value === 'number') {
    return Number.isSafeInteger(value) && value >= 0 ? BigInt(value) : null
  }
  if (typeof value !== 'string' || value.length > wholeDigitsMax) return null
  return wholeText.test(value) ? BigInt(value) : null
}
