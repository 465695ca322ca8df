/** Batches for an index that follow from their number alone: whoever knows how many were applied knows the whole state. */
import type { IndexChange } from '../../lib/ports.ts'
import { randomOf } from '../helpers/random.ts'

/** Holds the number of the newest batch, as text; each batch writes it. */
export const numberKey: Uint8Array = Buffer.from('number')

/** What load.ts is told. */
export interface Life {
  readonly directory: string
  /** Numbers of the batches that were applied, one a line. */
  readonly told: string
  readonly seed: number
  /** How many batches; 0: it only checks. */
  readonly batches: number
}

/** The newest number that was told; what a power cut has torn was not. */
export function lastTold(text: string): number {
  const lines = text.slice(0, text.lastIndexOf('\n') + 1).split('\n')
  return Number(lines.at(-2) ?? 0)
}

/** The changes of batch `number`, from 1 on: puts and deletions of 150 keys, some values large. */
export function batchOf(seed: number, number: number): IndexChange[] {
  const random = randomOf(seed + number)
  const changes: IndexChange[] = [{ key: numberKey, value: Buffer.from(String(number)) }]
  for (let left = random.int(1, 30); left > 0; left--) {
    const key = Buffer.from(`key ${random.int(0, 149)}`)
    const length = random.chance(0.1) ? random.int(1025, 2500) : random.int(0, 100)
    const value = random.chance(0.25) ? null : Buffer.from(`${number} `.padEnd(length, 'v'))
    changes.push({ key, value })
  }
  return changes
}

/** The state after batch `number`: keys and values as text, in order. */
export function stateAfter(seed: number, number: number): [string, string][] {
  const state = new Map<string, string>()
  for (let batch = 1; batch <= number; batch++) {
    for (const { key, value } of batchOf(seed, batch)) {
      if (value === null) state.delete(textOf(key))
      else state.set(textOf(key), textOf(value))
    }
  }
  return [...state].toSorted(([a], [b]) => (a < b ? -1 : 1))
}

export function textOf(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('latin1')
}
