/**
 * What one read may have in memory of blocks that others have signed: more is CORRUPT. Honest indexes stay far below,
 * so that nobody has to bound a read by hand.
 */
import { indexAheadBlocksMax, indexReadBytesMax } from '../../config/limits.ts'
import type { Directory, Entries, Fence } from '../wire/index-blocks.ts'
import type { Step } from '../wire/index-step.ts'
import { corrupt } from '../wire/show.ts'

export class Budget {
  #left: number = indexReadBytesMax
  /** Blocks that the parts of a range may still fetch ahead. */
  #ahead: number = indexAheadBlocksMax

  /** @throws CORRUPT when it is too much */
  take(bytes: number): void {
    this.#left -= bytes
    this.check()
  }

  /** @throws CORRUPT when it was too much */
  check(): void {
    if (this.#left < 0) throw corrupt('a read that takes more blocks than an index can need')
  }

  give(bytes: number): void {
    this.#left += bytes
  }

  /** False: enough is on its way. */
  mayFetchAhead(): boolean {
    if (this.#ahead === 0) return false
    this.#ahead--
    return true
  }

  fetchedAhead(blocks: number): void {
    this.#ahead += blocks
  }
}

/** What an object, a list and a few numbers take; and a text or a view of bytes, without its content (measured). */
const objectBytes = 300
const itemBytes = 100

/** Bytes of a decoded block in memory, about: texts are front-coded in the block, and whole here. */
export function bytesInMemory(decoded: Entries | Fence | Directory | Step): number {
  if ('sources' in decoded) {
    let bytes = objectBytes + (decoded.inline ? bytesInMemory(decoded.inline) : 0)
    for (const { tags } of decoded.sources) bytes += itemBytes + 8 * tags.length
    return bytes
  }
  const texts = 'keys' in decoded ? decoded.keys : decoded.lowest
  let bytes = objectBytes + itemBytes * texts.length
  for (const text of texts) bytes += text.length
  if ('filter' in decoded && decoded.filter) bytes += decoded.filter.length
  if ('values' in decoded) {
    for (const value of decoded.values) {
      if (value !== null) bytes += itemBytes + (value instanceof Uint8Array ? value.length : 0)
    }
  }
  return bytes
}
