/**
 * Makes blocks of entries that come in order of their keys: blocks of entries, then fences over them, level by level.
 * What it makes depends on nothing but the entries and the number of the first block: whoever has the same entries
 * makes the same blocks.
 */
import {
  indexBlockBytes,
  indexFenceChildren,
  indexPageBytes,
  indexTopBytesTarget,
  indexUpperChildren
} from '../../config/limits.ts'
import {
  encodeFence,
  entryBytes,
  kindOf,
  writeDirectoryEntry,
  writeEntry,
  type StoredValue
} from '../wire/index-blocks.ts'
import { ByteWriter, separator, type KeyText } from '../wire/index-bytes.ts'
import { hashKey, makeFilter, markOf } from '../wire/index-filter.ts'

/** A fence that is made, and the lowest text that leads to it. */
interface Made {
  readonly lowest: string
  readonly bytes: Uint8Array
}

/** What is known when all blocks are made. */
export interface Built {
  /** Blocks of entries. */
  readonly data: number
  /** Their bytes. */
  readonly bytes: number
  readonly entries: number
  /** The topmost fence; it is the last block. */
  readonly top: Uint8Array
}

export class RunBuilder {
  readonly #base: number
  readonly #writer = new ByteWriter(2 * indexBlockBytes)
  /** Blocks that were not taken yet. */
  #blocks: Uint8Array[] = []
  #made = 0
  #bytes = 0
  #entries = 0
  /** Key of the entry before. */
  #last: KeyText = ''
  /** Of the blocks that the next lowest fence is over. */
  #lowest: string[] = []
  #hashes: number[] = []
  readonly #fences: Made[] = []

  /** @param base number of the first block */
  constructor(base: number) {
    this.#base = base
  }

  get entries(): number {
    return this.#entries
  }

  /** Number of the block of entries that the next entry is put into, unless it does not fit. */
  get block(): number {
    return this.#base + this.#made
  }

  /** @param key above all before. @returns the number of its block */
  add(key: KeyText, value: StoredValue): number {
    const writer = this.#writer
    if (writer.length > 0 && writer.length + entryBytes(key, value) > indexBlockBytes) this.#cut()
    let before = this.#last
    if (writer.length === 0) {
      if (this.#lowest.length === indexFenceChildren) this.#fence()
      writer.byte(kindOf.entries)
      this.#lowest.push(this.#entries === 0 ? '' : separator(before, key))
      before = ''
    }
    writeEntry(writer, before, key, value)
    const { a, b } = hashKey(key)
    this.#hashes.push(a, b)
    this.#last = key
    this.#entries++
    return this.block
  }

  /** The finished blocks that were not taken yet, in order. */
  take(): Uint8Array[] {
    const blocks = this.#blocks
    this.#blocks = []
    return blocks
  }

  /** Finishes the last block of entries; without fences, for who has another way to find them. */
  end(): void {
    this.#cut()
  }

  /** Finishes the last block and makes the fences: take() gives them. There must be an entry. */
  finish(): Built {
    this.#cut()
    this.#fence()
    const data = this.#made
    const fences = withFences(this.#fences, this.#base + data, 1)
    this.#blocks.push(...fences)
    const top = fences.at(-1) as Uint8Array
    return { data, bytes: this.#bytes, entries: this.#entries, top }
  }

  #cut(): void {
    if (this.#writer.length === 0) return
    const block = this.#writer.take()
    this.#bytes += block.length
    this.#blocks.push(block)
    this.#made++
  }

  #fence(): void {
    if (this.#lowest.length === 0) return
    const [lowest = ''] = this.#lowest
    const first = this.#base + this.#made - this.#lowest.length
    const texts = this.#lowest.map((text, place) => (place === 0 ? '' : text))
    const filter = makeFilter(this.#hashes)
    this.#fences.push({ lowest, bytes: encodeFence({ level: 1, first, lowest: texts, filter }) })
    this.#lowest = []
    this.#hashes = []
  }
}

/**
 * A directory over entries that lie in blocks before it.
 * @param blocks where each entry lies
 * @param base number of the directory's first block
 * @returns its blocks; the last one is its topmost fence, or its only page
 */
export function buildDirectory(
  keys: readonly KeyText[],
  blocks: readonly number[],
  base: number
): Uint8Array[] {
  const writer = new ByteWriter(2 * indexPageBytes)
  const pages: Made[] = []
  let lowest = ''
  let before = ''
  let last = ''
  const cut = (): void => {
    if (writer.length > 0) pages.push({ lowest, bytes: writer.take() })
  }
  for (const [at, key] of keys.entries()) {
    const text = at === 0 ? '' : separator(last, key)
    if (writer.length > 0 && writer.length + text.length + 12 > indexPageBytes) cut()
    if (writer.length === 0) {
      writer.byte(kindOf.directory)
      lowest = text
      before = ''
    }
    writeDirectoryEntry(writer, before, text, markOf(hashKey(key)), blocks[at] as number)
    before = text
    last = key
  }
  cut()
  return withFences(pages, base, 0)
}

/**
 * Puts fences over blocks until there is one.
 * @param level of the blocks
 * @returns the blocks, and the fences behind them
 */
function withFences(blocks: readonly Made[], base: number, level: number): Uint8Array[] {
  const made: Uint8Array[] = []
  let below = blocks
  let at = base
  while (below.length > 1) {
    level++
    const above: Made[] = []
    const children = fits(below) ? below.length : indexUpperChildren
    for (let from = 0; from < below.length; from += children) {
      const group = below.slice(from, from + children)
      const lowest = group.map((one, place) => (place === 0 ? '' : one.lowest))
      above.push({
        lowest: group[0]?.lowest ?? '',
        bytes: encodeFence({ level, first: at + from, lowest, filter: null })
      })
    }
    for (const { bytes } of below) made.push(bytes)
    at += below.length
    below = above
  }
  for (const { bytes } of below) made.push(bytes)
  return made
}

/** Whether one fence over all of them is small enough to be the topmost. */
function fits(blocks: readonly Made[]): boolean {
  let bytes = 16
  for (const { lowest } of blocks) bytes += 2 + lowest.length
  return bytes <= indexTopBytesTarget
}
