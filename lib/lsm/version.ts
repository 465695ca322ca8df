/**
 * One state of an index, to be read: its journals up to a head, and its runs. It never changes.
 *
 * A key is looked for in all parts at a time, then in the block of the newest one that may have it: two rounds of
 * fetching, however many parts there are. A range merges all parts in order.
 */
import { indexPartsMax, indexValuesAheadBytesMax } from '../../config/limits.ts'
import { Budget } from './budget.ts'
import type { Head, IndexChange, IndexRange, ReadOptions } from '../ports.ts'
import {
  decodeFence,
  isPointer,
  type StoredValue,
  type ValuePointer
} from '../wire/index-blocks.ts'
import { compareTexts, keyBytes, keyText, type KeyText } from '../wire/index-bytes.ts'
import { hashKey } from '../wire/index-filter.ts'
import type { JournalState } from '../wire/index-state.ts'
import { corrupt } from '../wire/show.ts'
import { fetchStep, fetchValue, readingOf, type Reading } from './fetch.ts'
import type { MemorySource } from './memory.ts'
import { mergeParts } from './merge.ts'
import { runName } from './names.ts'
import {
  DirectoryPart,
  FencedPart,
  lookInto,
  MemoryPart,
  SmallPart,
  type KeySpan,
  type Part
} from './parts.ts'
import type { LayoutScope } from './scope.ts'
import { entriesBefore } from './steps.ts'

/** An entry as it comes from a range. */
interface Found {
  readonly key: KeyText
  readonly value: StoredValue
}

export class Version {
  readonly head: Head
  readonly #scope: LayoutScope
  /** By journal, the newest source first; null: read from the journals' blocks. */
  readonly #memory: ReadonlyMap<number, readonly MemorySource[]> | null
  #parts: readonly Part[] | null = null
  #uses = 1

  /** @param scope is retained as long as the version is */
  constructor(
    scope: LayoutScope,
    head: Head,
    memory: ReadonlyMap<number, readonly MemorySource[]> | null
  ) {
    this.head = head
    this.#scope = scope
    this.#memory = memory
    scope.retain()
  }

  retain(): void {
    this.#uses++
  }

  release(): void {
    if (--this.#uses === 0) this.#scope.release()
  }

  /** @throws TIMEOUT, ABORTED, CLOSED, OWNER_UNREACHABLE, CORRUPT, INDEX_REPLACED */
  async get(key: Uint8Array, options: ReadOptions = {}): Promise<Uint8Array | null> {
    const reading = readingOf(options)
    const value = await this.find(keyText(key), reading)
    return value == null ? null : await this.#resolve(value, reading)
  }

  /** What the index keeps for a key; undefined: nothing. */
  async find(key: KeyText, reading: Reading): Promise<StoredValue | undefined> {
    const parts = await this.#opened(reading)
    let older = parts
    for (const [at, part] of parts.entries()) {
      if (!(part instanceof MemoryPart)) {
        older = parts.slice(at)
        break
      }
      const found = part.find(key)
      if (found !== undefined) return found
      older = []
    }
    const hash = hashKey(key)
    // All have ended when one has failed.
    const looks = await Promise.allSettled(older.map((part) => part.look(key, hash, reading)))
    for (const look of looks) {
      if (look.status === 'rejected') throw look.reason
      const found =
        'found' in look.value ? look.value.found : await lookInto(look.value, key, reading)
      if (found !== undefined) return found
    }
    return undefined
  }

  /** True when the key's entry is this very value. */
  async means(key: Uint8Array, pointer: ValuePointer): Promise<boolean> {
    const found = await this.find(keyText(key), readingOf({ wait: false }))
    if (found === undefined || !isPointer(found)) return false
    return found.journal === pointer.journal && found.block === pointer.block
  }

  async *range(
    range: IndexRange,
    options: ReadOptions = {}
  ): AsyncGenerator<{ key: Uint8Array; value: Uint8Array }> {
    const { limit = Infinity } = range
    if (limit <= 0) return
    const span = spanOf(range)
    const timeless = (): Reading => readingOf(options)
    const parts = await this.#opened(timeless())
    // The wait is bounded between two entries: a caller may take as long as it likes with one.
    const reading = fresh(options)
    const streams = parts.map((part) => part.entries(span, reading))
    const merged = mergeParts(streams, span.reverse)
    let given = 0
    try {
      for await (const chunk of merged) {
        const live: Found[] = []
        for (const [at, key] of chunk.keys.entries()) {
          const value = chunk.values[at] as StoredValue
          if (value !== null) live.push({ key, value })
          if (given + live.length >= limit) break
        }
        for await (const entry of this.#resolveAll(live, timeless)) {
          yield entry
          if (++given >= limit) return
        }
      }
    } finally {
      await merged.return(undefined)
    }
  }

  /** True when the journals tell all that changed since then. */
  tellsSince(from: Head): boolean {
    if (from.generation !== this.head.generation) return false
    const [oldest] = this.#history()
    return oldest !== undefined && from.length >= oldest.base
  }

  /** What changed since `from`, of which tellsSince() is true; in order of keys, each key once. */
  async *changes(
    from: Head,
    range: IndexRange,
    options: ReadOptions = {}
  ): AsyncGenerator<IndexChange> {
    const { low, high } = spanOf(range)
    const changed = new Map<KeyText, StoredValue>()
    const journals = this.#history()
    for (const { number, base, length } of journals.toReversed()) {
      const end = this.#lengthOf({ number, base, length })
      if (base + end <= from.length) break
      const core = await this.#scope.lease({ kind: 'journal', number })
      const steps = entriesBefore(core, end, () => readingOf(options), from.length - base)
      for await (const { keys, values } of steps) {
        for (const [at, key] of keys.entries()) {
          if (key < low || (high !== null && key >= high) || changed.has(key)) continue
          changed.set(key, values[at] as StoredValue)
        }
      }
    }
    for (const key of [...changed.keys()].toSorted(compareTexts)) {
      const value = changed.get(key) ?? null
      const resolved = value === null ? null : await this.#resolve(value, readingOf(options))
      yield { key: keyBytes(key), value: resolved }
    }
  }

  /** The journals that follow each other up to the head, oldest first. */
  #history(): JournalState[] {
    const { journals, kept } = this.#scope.layout
    const history: JournalState[] = [...journals]
    for (const journal of kept.toReversed()) {
      const { number, base, length } = journal
      if (base + length !== history[0]?.base) break
      history.unshift({ number, base, length })
    }
    return history
  }

  /** Of a journal, its blocks up to the head. */
  #lengthOf({ number, base, length }: JournalState): number {
    const newest = this.#scope.layout.journals.at(-1)
    return newest?.number === number ? this.head.length - base : length
  }

  /** Opens and fetches what all reads need: the newest step of each journal. */
  async open(options: ReadOptions = {}): Promise<void> {
    await this.#opened(readingOf(options))
  }

  /** Each read opens it by itself, in its own time; what they need of it is fetched once. */
  async #opened(reading: Reading): Promise<readonly Part[]> {
    this.#parts ??= await this.#open(reading)
    return this.#parts
  }

  async #open(reading: Reading): Promise<readonly Part[]> {
    const { journals, runs } = this.#scope.layout
    const ofJournals = journals.toReversed().map(async (journal) => {
      const { number } = journal
      const sources = this.#memory?.get(number)
      if (sources) return sources.map((source) => new MemoryPart(source))
      const length = this.#lengthOf(journal)
      if (length === 0) return []
      const core = await this.#scope.lease({ kind: 'journal', number })
      const step = await fetchStep(core, length - 1, reading)
      return step.sources.map((source) => {
        if (source.kind === 'directory') return new DirectoryPart(core, source.block)
        if (source.kind === 'fence') return new FencedPart(core, source.block, null)
        return new SmallPart(core, source, source.block === length - 1 ? step.inline : null)
      })
    })
    const ofRuns = runs.map(async (run) => {
      const { length, top } = run
      const core = await this.#scope.lease(runName(run))
      const fence = top.length === 0 ? null : decodeFence(top, length - 1)
      return [new FencedPart(core, length - 1, fence)]
    })
    const settled = await Promise.allSettled<Part[]>([...ofJournals, ...ofRuns])
    const parts = settled.flatMap((part) => {
      if (part.status === 'rejected') throw part.reason
      return part.value
    })
    if (parts.length > indexPartsMax) throw corrupt(`an index of ${parts.length} parts`)
    return parts
  }

  async #resolve(value: Exclude<StoredValue, null>, reading: Reading): Promise<Uint8Array> {
    if (!isPointer(value)) return value
    const { journal: number, block, length } = value
    const journal = this.#scope.journal(number)
    if (journal === null) {
      throw corrupt(`a value in journal ${number}, which is not part of the index`)
    }
    if (block >= this.#lengthOf(journal)) throw corrupt(`a value behind the end of its journal`)
    return await this.#scope.using({ kind: 'journal', number }, (core) =>
      fetchValue(core, block, length, reading)
    )
  }

  /** Large values are fetched some at a time. */
  async *#resolveAll(
    entries: readonly Found[],
    timeless: () => Reading
  ): AsyncGenerator<{ key: Uint8Array; value: Uint8Array }> {
    for (let at = 0; at < entries.length;) {
      const group: Found[] = []
      let bytes = 0
      for (; at < entries.length; at++) {
        const entry = entries[at] as Found
        const more = isPointer(entry.value) ? entry.value.length : 0
        if (group.length > 0 && bytes + more > indexValuesAheadBytesMax) break
        bytes += more
        group.push(entry)
      }
      const reading = timeless()
      const values =
        bytes === 0
          ? group.map(({ value }) => value as Uint8Array)
          : await Promise.all(
              group.map(({ value }) => this.#resolve(value as Exclude<StoredValue, null>, reading))
            )
      for (const [place, { key }] of group.entries()) {
        yield { key: keyBytes(key), value: values[place] as Uint8Array }
      }
    }
  }
}

/** Bounds as texts: low <= key < high. */
function spanOf({ gt, gte, lt, lte, reverse = false }: IndexRange): KeySpan {
  const low = gt !== undefined ? `${keyText(gt)}\0` : gte !== undefined ? keyText(gte) : ''
  const high = lt !== undefined ? keyText(lt) : lte !== undefined ? `${keyText(lte)}\0` : null
  return { low, high, reverse }
}

/** A reading whose deadline begins anew with each use of it. */
function fresh({ wait = true, timeout = Infinity, signal }: ReadOptions): Reading {
  return {
    wait,
    signal,
    spent: null,
    held: new Budget(),
    get deadline() {
      return performance.now() + timeout
    }
  }
}
