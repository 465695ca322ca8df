/**
 * Decoded blocks of indexes, as many as fit into so many bytes, over all indexes of a process: the one that was used
 * longest ago goes first. Blocks never change.
 *
 * Numbers of cores and blocks are held apart, not joined into one: of a core that somebody else signs a block can have
 * any number, and must not stand for a block of another core.
 */
interface Entry {
  readonly core: number
  readonly block: number
  readonly value: unknown
  readonly bytes: number
  /** The one that was used before it, and the one after it. */
  older: Entry | null
  newer: Entry | null
}

export class BlockCache {
  readonly #max: number
  readonly #cores = new Map<number, Map<number, Entry>>()
  #oldest: Entry | null = null
  #newest: Entry | null = null
  #bytes = 0

  /** @param bytesMax what it may hold */
  constructor(bytesMax: number) {
    this.#max = bytesMax
  }

  get bytes(): number {
    return this.#bytes
  }

  get(core: number, block: number): unknown {
    const entry = this.#cores.get(core)?.get(block)
    if (entry === undefined) return undefined
    if (entry !== this.#newest) {
      this.#unlink(entry)
      this.#link(entry)
    }
    return entry.value
  }

  /** @param bytes what it takes in memory, decoded */
  set(core: number, block: number, value: unknown, bytes: number): void {
    // An eighth for one block at most: it must not drive out everything else.
    if (bytes > this.#max / 8) return
    let blocks = this.#cores.get(core)
    if (blocks === undefined) this.#cores.set(core, (blocks = new Map<number, Entry>()))
    if (blocks.has(block)) return
    const entry: Entry = { core, block, value, bytes, older: null, newer: null }
    blocks.set(block, entry)
    this.#link(entry)
    this.#bytes += bytes
    while (this.#bytes > this.#max && this.#oldest !== null) this.#drop(this.#oldest)
  }

  #drop(entry: Entry): void {
    this.#unlink(entry)
    this.#bytes -= entry.bytes
    const blocks = this.#cores.get(entry.core)
    blocks?.delete(entry.block)
    if (blocks?.size === 0) this.#cores.delete(entry.core)
  }

  #link(entry: Entry): void {
    entry.older = this.#newest
    entry.newer = null
    if (this.#newest) this.#newest.newer = entry
    else this.#oldest = entry
    this.#newest = entry
  }

  #unlink(entry: Entry): void {
    if (entry.older) entry.older.newer = entry.newer
    else this.#oldest = entry.newer
    if (entry.newer) entry.newer.older = entry.older
    else this.#newest = entry.older
  }
}
