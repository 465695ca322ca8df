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
import { bytesInMemory, type Budget } from './budget.ts'
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
    const places = this.#places(top, '', null, span, reading)
    let before: KeyText | null = null
    for await (const { entries, low, high } of fetched(this.#core, places, reading)) {
      const { keys } = entries
      // Each block has keys of its own, so that whatever blocks lead to, a range comes to its end.
      if ((keys[0] as KeyText) < low || (high !== null && (keys.at(-1) as KeyText) >= high)) {
        throw corrupt('entries that are not those that a fence leads to')
      }
      const within = cut(entries, span)
      if (within.keys.length === 0) continue
      before = follows(within.keys, before, span.reverse)
      yield within
    }
  }

  /** The blocks that may hold keys of the span. */
  async *#places(
    fence: Fence,
    low: string,
    high: string | null,
    span: KeySpan,
    reading: Reading
  ): AsyncGenerator<Place> {
    const bytes = bytesInMemory(fence)
    reading.held?.take(bytes)
    for (const { child, from, to } of placesOf(fence, low, high, span)) {
      const block = fence.first + child
      if (fence.level === 1) yield { block, low: from, high: to }
      else yield* this.#places(await this.#below(fence, child, reading), from, to, span, reading)
    }
    reading.held?.give(bytes)
  }

  async #below(fence: Fence, child: number, reading: Reading): Promise<Fence> {
    const below = await fetchFence(this.#core, fence.first + child, reading)
    if (below.level !== fence.level - 1) throw corrupt('a fence of another level')
    return below
  }
}

/** Where entries with low <= key < high lie; of a directory, one entry. */
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
    const places = this.#places(this.#block, null, '', null, span, reading)
    let before: KeyText | null = null
    for await (const { entries, low, high } of fetched(this.#core, places, reading)) {
      const one = cut(entries, { low, high, reverse: span.reverse })
      if (one.keys.length !== 1) throw corrupt('a directory that leads to no one entry')
      const within = cut(one, { ...span, reverse: false })
      if (within.keys.length === 0) continue
      before = follows(within.keys, before, span.reverse)
      yield within
    }
  }

  async *#places(
    block: number,
    level: number | null,
    low: string,
    high: string | null,
    span: KeySpan,
    reading: Reading
  ): AsyncGenerator<Place> {
    const found = await fetchDirectory(this.#core, block, reading)
    const bytes = bytesInMemory(found)
    reading.held?.take(bytes)
    const isPage = 'marks' in found
    if (level !== null && (isPage ? 0 : found.level) !== level) throw corrupt('another level')
    if (isPage && found.lowest[0] !== low) throw corrupt('a page that is another one')
    for (const { child, from, to } of placesOf(found, low, high, span)) {
      if (isPage) yield { block: found.blocks[child] as number, low: from, high: to }
      else yield* this.#places(found.first + child, found.level - 1, from, to, span, reading)
    }
    reading.held?.give(bytes)
  }
}

/**
 * The blocks at these places, and their entries, with more and more of them on their way, as long as they are asked for.
 */
async function* fetched(
  core: CoreLease,
  places: AsyncGenerator<Place>,
  reading: Reading
): AsyncGenerator<Place & { readonly entries: Entries }> {
  const fetch = async (
    place: Place
  ): Promise<Place & { readonly entries: Entries; readonly bytes: number }> => {
    const entries = await fetchEntries(core, place.block, reading)
    const bytes = bytesInMemory(entries)
    reading.held?.take(bytes)
    return { ...place, entries, bytes }
  }
  for await (const one of ahead(places, fetch, reading.held)) {
    yield one
    reading.held?.give(one.bytes)
  }
}

/** The children that may hold keys of the span, in its order, and what their keys lie between. */
function placesOf(
  within: { readonly lowest: readonly string[] },
  low: string,
  high: string | null,
  span: KeySpan
): { child: number; from: string; to: string | null }[] {
  const { lowest } = within
  const last = lowest.at(-1) as string
  if (lowest.length > 1 && ((lowest[1] as string) <= low || (high !== null && last >= high))) {
    throw corrupt('a fence that leads elsewhere than the one above it')
  }
  return childrenOf(within, span).map((child) => ({
    child,
    from: child === 0 ? low : (lowest[child] as string),
    to: lowest[child + 1] ?? high
  }))
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
  fetch: (item: T) => Promise<U>,
  budget: Budget | null
): AsyncGenerator<U> {
  const waiting: Promise<U>[] = []
  let wanted = 1
  /** Of those that wait, one is not counted. */
  let counted = 0
  let ended = false
  try {
    for (;;) {
      while (!ended && waiting.length < wanted) {
        if (waiting.length > 0) {
          if (budget?.mayFetchAhead() === false) break
          counted++
        }
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
      if (counted > waiting.length) budget?.fetchedAhead(counted - waiting.length)
      counted = Math.min(counted, waiting.length)
      yield await first
      wanted = Math.min(aheadMax, wanted * 2)
    }
  } finally {
    budget?.fetchedAhead(counted)
    await items.return(undefined)
  }
}
