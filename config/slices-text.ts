/**
 * The slices of one node as text: `start+length` for each, in order, one space between.
 *
 * Both are numbers of points in base 64 with the digits 0-9 A-Z a-z - _ (0 to 63 in this order), most
 * significant first, without leading zeros: at most 20 bytes a slice with its space. No slices: empty text.
 */
import { SPACE } from '../lib/slices/space.ts'

/** The points [start, end). */
export interface Interval {
  readonly start: number
  readonly end: number
}

const digits = '0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz-_'
/** By character code. */
const values = new Uint8Array(128)
for (let value = 0; value < digits.length; value++) values[digits.charCodeAt(value)] = value
const slice = /^(0|[1-9A-Za-z_-][\w-]{0,8})\+([1-9A-Za-z_-][\w-]{0,8})$/

export function writeSlices(slices: Iterable<Interval>): string {
  return Array.from(slices, ({ start, end }) => `${write(start)}+${write(end - start)}`).join(' ')
}

/** The slices, or null when the text is not exactly what writeSlices() makes of slices inside the space. */
export function readSlices(text: string): Interval[] | null {
  if (text === '') return []
  const slices: Interval[] = []
  for (const part of text.split(' ')) {
    const match = slice.exec(part)
    if (match === null) return null
    const start = read(match[1] as string)
    const length = read(match[2] as string)
    if (length > SPACE - start) return null
    slices.push({ start, end: start + length })
  }
  return slices
}

function write(points: number): string {
  let text = ''
  for (let rest = points; rest > 0; rest = Math.floor(rest / 64)) text = digits[rest % 64] + text
  return text === '' ? '0' : text
}

/** Infinity for what is greater than SPACE, which a double might round down to it. */
function read(text: string): number {
  let points = 0
  for (let i = 0; i < text.length; i++) {
    const value = values[text.charCodeAt(i)] as number
    if (points > (SPACE - value) / 64) return Infinity
    points = points * 64 + value
  }
  return points
}
