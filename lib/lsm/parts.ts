/**
 * The parts that a state of an index consists of, each with a key at most once: a source of a journal, in memory or in
 * its blocks, or a run. A part can be asked for one key, and for its entries in order.
 */
import type { StoredValue, Entries, Fence } from '../wire/index-blocks.ts'
import { lastNotAbove } from '../wire/index-blocks.ts'
import type { KeyText } from '../wire/index-bytes.ts'
import { markOf, mayHold, tagOf, type KeyHash } from '../wire/index-filter.ts'
import type { StepSource } from '../wire/index-step.ts'
import { corrupt } from '../wire/show.ts'
import type { CoreLease } from '../index-ports.ts'
import { fetchDirectory, fetchEntries, fetchFence, type Reading } from './fetch.ts'
import { findEntry } from './memory.ts'

/** low <= key < high; null: no bound. */
export interface KeySpan {
  readonly low: KeyText
  readonly high: KeyText | null
  readonly reverse: boolean
}

export interface Part {
  /**
   * The block in which the key's entry lies, if it is in this part; false positives are few. `found`: what it says of
   * the key, when that is known at once.
   */
  look(key: KeyText, hash: KeyHash, reading: Reading): Promise<Look>
  /** Its entries within the span, in order (falling with `reverse`), some at a time, none of them empty. */
  entries(span: KeySpan, reading: Reading): AsyncGenerator<Entries>
}

export type Look = Candidate | { readonly found: StoredValue | undefined }
export interface Candidate {
  readonly core: CoreLease
  readonly block: number
}

/** What the candidate says of the key; undefined: nothing. */
export async function lookInto(
  { core, block }: Candidate,
  key: KeyText,
  reading: Reading
): Promise<StoredValue | undefined> {
  return findEntry(await fetchEntries(core, block, reading), key)
}

const absent: Look = { found: undefined }

/** Entries in memory. */
export class MemoryPart implements Part {
  readonly #entries: Entries

  constructor(entries: Entries) {
    this.#entries = entries
  }

  look(key: KeyText): Promise<Look> {
    return Promise.resolve({ found: findEntry(this.#entries, key) })
  }

  /** The same at once. */
  find(key: KeyText): StoredValue | undefined {
    return findEntry(this.#entries, key)
  }

  async *entries(span: KeySpan): AsyncGenerator<Entries> {
    const within = cut(this.#entries, span)
    if (within.keys.length > 0) yield within
  }
}

/** A small step, by its tags. */
export class SmallPart implements Part {
  readonly #core: CoreLease
  readonly #source: StepSource
  /** The entries, when they are in the step that told of the part. */
  readonly #inline: Entries | null

  constructor(core: CoreLease, source: StepSource, inline: Entries | null) {
    this.#core = core
    this.#source = source
    this.#inline = inline
  }

  async look(key: KeyText, hash: KeyHash): Promise<Look> {
    if (this.#inline) return { found: findEntry(this.#inline, key) }
    if (!this.#source.tags.includes(tagOf(hash))) return absent
    return { core: this.#core, block: this.#source.block }
  }

  async *entries(span: KeySpan, reading: Reading): AsyncGenerator<Entries> {
    const entries = this.#inline ?? (await fetchEntries(this.#core, this.#source.block, reading))
    const within = cut(entries, span)
    if (within.keys.length > 0) yield within
  }
}

/** Blocks of entries under fences: a run, or a step. */
export class FencedPart implements Part {
  readonly #core: CoreLease
  readonly #block: number
  readonly #top: Fence | null

  /** @param top the topmost fence, which is block `block`, when it is known */
  constructor(core: CoreLease, block: number, top: Fence | null) {
    this.#core = core
    this.#block = block
    this.#top = top
  }

  async look(key: KeyText, hash: KeyHash, reading: Reading): Promise<Look> {
    let fence = this.#top ?? (await fetchFence(this.#core, this.#block, reading))
    while (fence.level > 1) {
      fence = await this.#below(fence, childOf(fence, key), reading)
    }
    if (fence.filter && !mayHold(fence.filter, hash)) return absent
    return { core: this.#core, block: fence.first + childOf(fence, key) }
  }

  async *entries(span: KeySpan, reading: Reading): AsyncGenerator<Entries> {
    const top = this.#top ?? (await fetchFence(this.#core, this.#block, reading))
    let before: KeyText | null = null
    for await (const entries of ahead(this.#blocks(top, span, reading), (block) =>
      fetchEntries(this.#core, block, reading)
    )) {
      const within = cut(entries, span)
      const { keys } = within
      if (keys.length === 0) continue
      before = follows(keys, before, span.reverse)
      yield within
    }
  }

  /** Numbers of the blocks that may hold keys of the span. */
  async *#blocks(fence: Fence, span: KeySpan, reading: Reading): AsyncGenerator<number> {
    for (const child of childrenOf(fence, span)) {
      if (fence.level === 1) yield fence.first + child
      else yield* this.#blocks(await this.#below(fence, child, reading), span, reading)
    }
  }

  async #below(fence: Fence, child: number, reading: Reading): Promise<Fence> {
    const below = await fetchFence(this.#core, fence.first + child, reading)
    if (below.level !== fence.level - 1) throw corrupt('a fence of another level')
    return below
  }
}

/** An entry of a directory: where the one entry with low <= key < high lies. */
interface Place {
  readonly block: number
  readonly low: string
  readonly high: string | null
}

/** Entries of several steps under a directory. */
export class DirectoryPart implements Part {
  readonly #core: CoreLease
  readonly #block: number

  constructor(core: CoreLease, block: number) {
    this.#core = core
    this.#block = block
  }

  async look(key: KeyText, hash: KeyHash, reading: Reading): Promise<Look> {
    let level: number | null = null
    for (let block = this.#block; ;) {
      const found = await fetchDirectory(this.#core, block, reading)
      if ('marks' in found) {
        if (level !== null && level !== 0) throw corrupt('a page where a fence is due')
        const at = lastNotAbove(found.lowest, key)
        if (at < 0 || found.marks[at] !== markOf(hash)) return absent
        return { core: this.#core, block: found.blocks[at] as number }
      }
      if (level !== null && found.level !== level) throw corrupt('a fence of another level')
      level = found.level - 1
      block = found.first + childOf(found, key)
    }
  }

  async *entries(span: KeySpan, reading: Reading): AsyncGenerator<Entries> {
    const places = this.#places(this.#block, null, span, null, reading)
    let before: KeyText | null = null
    for await (const { entries, place } of ahead(places, async (one) => ({
      entries: await fetchEntries(this.#core, one.block, reading),
      place: one
    }))) {
      const one = cut(entries, { ...place, reverse: span.reverse })
      if (one.keys.length > 1) throw corrupt('a directory that leads to several entries')
      const within = cut(one, { ...span, reverse: false })
      if (within.keys.length === 0) continue
      before = follows(within.keys, before, span.reverse)
      yield within
    }
  }

  /** @param end the lowest text behind this block; null: none */
  async *#places(
    block: number,
    level: number | null,
    span: KeySpan,
    end: string | null,
    reading: Reading
  ): AsyncGenerator<Place> {
    const found = await fetchDirectory(this.#core, block, reading)
    const { lowest } = found
    const isPage = 'marks' in found
    if (level !== null && (isPage ? 0 : found.level) !== level) throw corrupt('another level')
    for (const child of childrenOf(found, span)) {
      const high = lowest[child + 1] ?? end
      if (isPage) {
        yield { block: found.blocks[child] as number, low: lowest[child] as string, high }
      } else {
        yield* this.#places(found.first + child, found.level - 1, span, high, reading)
      }
    }
  }
}

function childOf({ lowest }: { readonly lowest: readonly string[] }, key: KeyText): number {
  return Math.max(0, lastNotAbove(lowest, key))
}

/** The children that may hold keys of the span, in its order. */
function childrenOf(
  { lowest }: { readonly lowest: readonly string[] },
  { low, high, reverse }: KeySpan
): number[] {
  const from = Math.max(0, lastNotAbove(lowest, low))
  const children: number[] = []
  for (let child = from; child < lowest.length; child++) {
    if (high !== null && (lowest[child] as string) >= high && child > from) break
    children.push(child)
  }
  return reverse ? children.toReversed() : children
}

/** The entries within the span, in its order. */
function cut({ keys, values }: Entries, { low, high, reverse }: KeySpan): Entries {
  const from = lowestAt(keys, low)
  const to = high === null ? keys.length : lowestAt(keys, high)
  if (!reverse && from === 0 && to === keys.length) return { keys, values }
  if (from >= to) return { keys: [], values: [] }
  const [someKeys, someValues] = [keys.slice(from, to), values.slice(from, to)]
  return reverse
    ? { keys: someKeys.toReversed(), values: someValues.toReversed() }
    : { keys: someKeys, values: someValues }
}

/** The position of the first key that is not below `key`. */
function lowestAt(keys: readonly KeyText[], key: KeyText): number {
  const at = lastNotAbove(keys, key)
  return at >= 0 && keys[at] === key ? at : at + 1
}

/** Blocks follow each other in order, whoever made them. @returns the last key */
function follows(keys: readonly KeyText[], before: KeyText | null, reverse: boolean): KeyText {
  const [first = ''] = keys
  if (before !== null && (reverse ? first >= before : first <= before)) {
    throw corrupt('blocks of an index that are not in order')
  }
  return keys.at(-1) ?? first
}

const aheadMax = 32

/**
 * Starts to fetch what comes next before it is asked for: more and more, as long as it is.
 */
async function* ahead<T, U>(
  items: AsyncGenerator<T>,
  fetch: (item: T) => Promise<U>
): AsyncGenerator<U> {
  const waiting: Promise<U>[] = []
  let wanted = 1
  let ended = false
  try {
    for (;;) {
      while (!ended && waiting.length < wanted) {
        const next = await items.next()
        if (next.done === true) {
          ended = true
          break
        }
        const fetching = fetch(next.value)
        fetching.catch(() => {}) // thrown when it is its turn
        waiting.push(fetching)
      }
      const first = waiting.shift()
      if (first === undefined) return
      yield await first
      wanted = Math.min(aheadMax, wanted * 2)
    }
  } finally {
    await items.return(undefined)
  }
}
