/**
 * A journal of this node's own index: one append for each batch of changes, and what it holds in memory.
 *
 * - Large values, entries, what finds them, and the step that ends it, are one append: all of it is there, or nothing.
 * - Entries of a small step lie in its last block. When small steps, or sources of one size, have become many, a
 *   directory over all of them comes with the step; nothing is written a second time but where it lies.
 */
import {
  indexInlineBytesMax,
  indexSourcesMax,
  indexValueInlineBytesMax
} from '../../config/limits.ts'
import { assert } from '../assert.ts'
import { KVSwarmError } from '../errors.ts'
import type { IndexChange, Log } from '../ports.ts'
import {
  decodeEntries,
  encodeValueBlock,
  entryBytes,
  isPointer,
  type Entries,
  type StoredValue
} from '../wire/index-blocks.ts'
import { compareTexts, keyText, type KeyText } from '../wire/index-bytes.ts'
import { hashKey, tagOf } from '../wire/index-filter.ts'
import { decodeStep, encodeStep, type Step, type StepSource } from '../wire/index-step.ts'
import { buildDirectory, RunBuilder } from './builder.ts'
import { mergeSources, toPutTogether, type MemorySource, type Merged } from './memory.ts'

export class OwnJournal {
  readonly number: number
  /** Blocks of all journals before it. */
  readonly base: number
  readonly #log: Log
  /** Newest first; a new list for each append. */
  #sources: readonly MemorySource[] = []
  #values = 0
  #dead = 0

  constructor(number: number, base: number, log: Log) {
    this.number = number
    this.base = base
    this.#log = log
  }

  /** Reads what an earlier session wrote. @throws DATADIR_DAMAGED, CORRUPT, IO_ERROR */
  static async read(number: number, base: number, log: Log): Promise<OwnJournal> {
    const journal = new OwnJournal(number, base, log)
    const steps: Step[] = []
    for (let block = log.length - 1; block >= 0;) {
      const step = decodeStep(await journal.#block(block), block)
      steps.push(step)
      block = step.first - 1
    }
    let end = log.length
    const ends = steps.map((step) => {
      const own = end - 1
      end = step.first
      return own
    })
    for (let at = steps.length - 1; at >= 0; at--) {
      await journal.#replay(steps[at] as Step, ends[at] as number)
    }
    return journal
  }

  get length(): number {
    return this.#log.length
  }

  get sources(): readonly MemorySource[] {
    return this.#sources
  }

  /** At least as many as there are keys. */
  get entries(): number {
    return this.#sources.reduce((sum, { keys }) => sum + keys.length, 0)
  }

  /** Of all its blocks. */
  get bytes(): number {
    return this.#log.bytes
  }

  /** Of its large values, and of those that no entry of it means any more. */
  get valueBytes(): { readonly all: number; readonly dead: number } {
    return { all: this.#values, dead: this.#dead }
  }

  /** Appends changes, at most one for each key. Resolves when they are durable. */
  async append(changes: readonly IndexChange[]): Promise<void> {
    const first = this.#log.length
    const { keys, values, large } = this.#sorted(changes, first)
    const small = bytesOf(keys, values) <= indexInlineBytesMax
    const blocks: Uint8Array[] = [...large]
    const counts = [keys.length, ...this.#sources.map((source) => source.keys.length)]
    const isSmall = [small, ...this.#sources.map(({ told }) => told.kind === 'small')]
    const taken = toPutTogether(counts, isSmall)
    let source: MemorySource
    let data = 0
    if (taken === 0 && small) {
      const own = first + blocks.length
      const tags = keys.map((key) => tagOf(hashKey(key)))
      const told: StepSource = { kind: 'small', block: own, count: keys.length, tags }
      source = { keys, values, blocks: keys.map(() => own), told }
    } else {
      const builder = new RunBuilder(first + blocks.length)
      const places = keys.map((key, at) => builder.add(key, values[at] as StoredValue))
      const added: Merged = { keys, values, blocks: places }
      data = (places.at(-1) as number) - (places[0] as number) + 1
      if (taken === 0) {
        builder.finish()
        blocks.push(...builder.take())
        const block = first + blocks.length - 1
        source = { ...added, told: { kind: 'fence', block, count: keys.length, tags: [] } }
      } else {
        builder.end()
        blocks.push(...builder.take())
        const merged = this.#merged(added, taken)
        blocks.push(...buildDirectory(merged.keys, merged.blocks, first + blocks.length))
        const block = first + blocks.length - 1
        const count = merged.keys.length
        source = { ...merged, told: { kind: 'directory', block, count, tags: [] } }
      }
    }
    const sources = [source, ...this.#sources.slice(Math.max(0, taken - 1))]
    assert(sources.length <= indexSourcesMax, `${sources.length} sources of a journal`)
    const step: Step = {
      first,
      values: large.length,
      data,
      inline: data === 0 ? { keys, values } : null,
      sources: sources.map(({ told }) => told)
    }
    blocks.push(encodeStep(step, first + blocks.length))
    await this.#log.append(blocks)
    this.#sources = sources
  }

  async close(): Promise<void> {
    await this.#log.close()
  }

  /** In order of keys; large values in blocks of their own, from block `first` on. */
  #sorted(
    changes: readonly IndexChange[],
    first: number
  ): { keys: KeyText[]; values: StoredValue[]; large: Uint8Array[] } {
    const byKey = new Map<KeyText, Uint8Array | null>()
    for (const { key, value } of changes) byKey.set(keyText(key), value)
    const keys = [...byKey.keys()].toSorted(compareTexts)
    const large: Uint8Array[] = []
    const values = keys.map((key): StoredValue => {
      const value = byKey.get(key) ?? null
      if (value === null || value.length <= indexValueInlineBytesMax) return value
      const block = first + large.length
      large.push(encodeValueBlock(value))
      this.#values += value.length
      return { journal: this.number, block, length: value.length }
    })
    return { keys, values, large }
  }

  #merged(added: Merged, taken: number): Merged {
    return mergeSources([added, ...this.#sources.slice(0, taken - 1)], (value) => {
      if (isPointer(value)) this.#dead += value.length
    })
  }

  async #replay(step: Step, own: number): Promise<void> {
    const added = step.inline ? inlineAt(step.inline, own) : await this.#entries(step)
    for (const value of added.values) if (isPointer(value)) this.#values += value.length
    const [told] = step.sources
    const taken = this.#sources.length + 1 - (step.sources.length - 1)
    if (told === undefined || taken < 1 || taken > 1 !== (told.kind === 'directory')) {
      throw damaged(`step ${own} of a journal of the index has other sources than the one before`)
    }
    const tags = told.kind === 'small' ? added.keys.map((key) => tagOf(hashKey(key))) : []
    const merged = taken > 1 ? this.#merged(added, taken) : added
    if (merged.keys.length !== told.count) throw damaged(`step ${own} of a journal of the index`)
    this.#sources = [{ ...merged, told: { ...told, tags } }, ...this.#sources.slice(taken - 1)]
  }

  async #entries(step: Step): Promise<Merged> {
    const keys: KeyText[] = []
    const values: StoredValue[] = []
    const blocks: number[] = []
    const from = step.first + step.values
    for (let block = from; block < from + step.data; block++) {
      const entries = decodeEntries(await this.#block(block))
      for (const [at, key] of entries.keys.entries()) {
        keys.push(key)
        values.push(entries.values[at] as StoredValue)
        blocks.push(block)
      }
    }
    return { keys, values, blocks }
  }

  async #block(block: number): Promise<Uint8Array> {
    const bytes = await this.#log.get(block, { wait: false })
    if (bytes === null) throw damaged(`block ${block} of a journal of the index is missing`)
    return bytes
  }
}

function inlineAt({ keys, values }: Entries, own: number): Merged {
  return { keys, values, blocks: keys.map(() => own) }
}

function bytesOf(keys: readonly KeyText[], values: readonly StoredValue[]): number {
  let bytes = 0
  for (const [at, key] of keys.entries()) bytes += entryBytes(key, values[at] as StoredValue)
  return bytes
}

export function damaged(what: string): KVSwarmError {
  return new KVSwarmError('DATADIR_DAMAGED', what, {
    hint: 'restore the data directory from a backup (kvswarm restore)'
  })
}
