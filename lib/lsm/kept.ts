/**
 * Emptying a journal that is kept for its large values: what entries it has for them, some at a time. Whether an entry
 * still means its value is for the caller to find out, between two batches of changes.
 */
import { indexValuesAheadBytesMax } from '../../config/limits.ts'
import type { CoreLease } from '../index-ports.ts'
import { isPointer, type ValuePointer } from '../wire/index-blocks.ts'
import { keyBytes } from '../wire/index-bytes.ts'
import { fetchValue, readingOwn } from './fetch.ts'
import { entriesBefore } from './steps.ts'

export interface Emptied {
  readonly key: Uint8Array
  readonly pointer: ValuePointer
  value(): Promise<Uint8Array>
}

/** Entries that are looked at in one turn. */
const groupEntries = 64

/** @param length blocks of the journal */
export async function* emptied(
  core: CoreLease,
  journal: number,
  length: number
): AsyncGenerator<Emptied[]> {
  let group: Emptied[] = []
  let bytes = 0
  for await (const { keys, values } of entriesBefore(core, length, () => readingOwn)) {
    for (const [at, key] of keys.entries()) {
      const pointer = values[at] ?? null
      if (!isPointer(pointer) || pointer.journal !== journal) continue
      if (group.length >= groupEntries || bytes + pointer.length > indexValuesAheadBytesMax) {
        if (group.length > 0) yield group
        group = []
        bytes = 0
      }
      bytes += pointer.length
      const value = (): Promise<Uint8Array> =>
        fetchValue(core, pointer.block, pointer.length, readingOwn)
      group.push({ key: keyBytes(key), pointer, value })
    }
  }
  if (group.length > 0) yield group
}
