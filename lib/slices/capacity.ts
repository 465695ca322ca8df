/**
 * Capacities as exact integers, and the shares that follow from them.
 *
 * - A capacity is a decimal of at most six places; inside it is a bigint of millionths, read from the decimal
 *   text, never by multiplying doubles.
 * - Shares are the capacities' proportions of SPACE by largest remainder, ties to the smaller id: each is its
 *   exact proportion to within one point, they add up to SPACE, and the order of entries does not matter.
 */
import { assert } from '../assert.ts'
import type { NodeId } from '../types.ts'
import { SPACE } from './space.ts'

const placesMax = 6
const decimal = /^(\d+)(?:\.(\d+))?$/

/**
 * The millionths of a capacity.
 *
 * @param capacity a number, a bigint or decimal text such as `2.5`; the shortest text of a number counts
 * @returns null when it is not a decimal number without a sign and of at most six places; 0 and any size pass
 */
export function millionthsOf(capacity: number | bigint | string): bigint | null {
  const match = decimal.exec(textOf(capacity))
  if (match === null) return null
  const [, whole = '', fraction = ''] = match
  const places = fraction.replace(/0+$/, '')
  return places.length > placesMax ? null : BigInt(whole + places.padEnd(placesMax, '0'))
}

/** The capacity as the shortest decimal text, without an exponent. */
export function capacityText(millionths: bigint): string {
  const digits = String(millionths).padStart(placesMax + 1, '0')
  const fraction = digits.slice(-placesMax).replace(/0+$/, '')
  const whole = digits.slice(0, -placesMax)
  return fraction === '' ? whole : `${whole}.${fraction}`
}

/**
 * The points that each node is to own.
 * @param capacities millionths, each above 0, at least one
 * @returns sorted by node id; a share may be 0 beside far larger capacities
 */
export function sharesOf(capacities: ReadonlyMap<NodeId, bigint>): Map<NodeId, number> {
  assert(capacities.size > 0, 'shares of at least one capacity')
  const nodes = [...capacities.entries()].toSorted(([a], [b]) => (a < b ? -1 : 1))
  const sum = nodes.reduce((total, [, capacity]) => total + capacity, 0n)
  const space = BigInt(SPACE)
  let rest = SPACE
  const parts = nodes.map(([id, capacity]) => {
    assert(capacity > 0n, `capacity of ${id} above 0`)
    const points = Number((capacity * space) / sum)
    rest -= points
    return { id, points, remainder: (capacity * space) % sum }
  })
  // sorting is stable, so nodes with equal remainders stay in the order of their ids
  const byRemainder = parts.toSorted((a, b) =>
    a.remainder === b.remainder ? 0 : a.remainder > b.remainder ? -1 : 1
  )
  for (const part of byRemainder.slice(0, rest)) part.points++
  return new Map(parts.map(({ id, points }) => [id, points]))
}

function textOf(capacity: number | bigint | string): string {
  const text = String(capacity)
  // the only whole numbers that print with an exponent; below 0.000001 there are too many places anyway
  return typeof capacity === 'number' && Number.isInteger(capacity) && text.includes('e')
    ? String(BigInt(capacity))
    : text
}
