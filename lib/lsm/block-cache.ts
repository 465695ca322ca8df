/**
 * Decoded blocks of indexes, as many as fit into so many bytes, over all indexes of a process: the one that was used
 * longest ago goes first. Blocks never change.
 */
export class BlockCache {
  readonly #max: number
  /** By core and block. */
  readonly #entries = new Map<number, { readonly value: unknown; readonly bytes: number }>()
  #bytes = 0

  /** @param bytesMax what it may hold */
  constructor(bytesMax: number) {
    this.#max = bytesMax
  }

  get bytes(): number {
    return this.#bytes
  }

  get(core: number, block: number): unknown {
    const at = placeOf(core, block)
    const entry = this.#entries.get(at)
    if (entry === undefined) return undefined
    this.#entries.delete(at)
    this.#entries.set(at, entry)
    return entry.value
  }

  /** @param bytes of the block, encoded */
  set(core: number, block: number, value: unknown, bytes: number): void {
    const at = placeOf(core, block)
    if (this.#entries.has(at)) return
    const cost = entryBytes + decodedFactor * bytes
    // An eighth for one block at most: it must not drive out everything else.
    if (cost > this.#max / 8) return
    this.#entries.set(at, { value, bytes: cost })
    this.#bytes += cost
    for (const [oldest, { bytes: freed }] of this.#entries) {
      if (this.#bytes <= this.#max) return
      this.#entries.delete(oldest)
      this.#bytes -= freed
    }
  }
}

/** What an entry costs besides its block, and how much larger it is when it is decoded: texts, views, arrays. */
const entryBytes = 300
const decodedFactor = 3

function placeOf(core: number, block: number): number {
  return core * 2 ** 32 + block
}
