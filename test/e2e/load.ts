/**
 * The load of the crash tests, and what it must have left behind.
 *
 * A flush of a writer has a number and touches some tags. For each tag it puts COUNT keys that are never
 * written again, each with a value that tells who wrote it, and `last`, which later flushes of the tag
 * overwrite. All keys of a tag have one owner, since the tag is their partition key. So everything that was
 * ever applied can be seen in the final state:
 *
 * - a key that is never written again exists, exactly as it was written, iff its operation was applied;
 * - versionstamps of one writer's keys at one owner rise in the order of the flushes, and within a flush;
 * - each put that is applied takes the owner's next versionstamp: the highest one counts them all, and an
 *   operation that was applied twice makes it higher than the number of operations.
 */
import { inspect } from 'node:util'
import type { Config } from '../../config/index.ts'
import type { FlushPart, KVEntry } from '../../lib/index.ts'
import { stampFields } from '../../lib/wire/stamps.ts'

/** So many keys under a tag. */
export interface TagCount {
  readonly tag: string
  readonly count: number
}

export interface Operation {
  readonly key: string
  readonly value: string
  readonly tag: string
  /** Overwritten by later flushes. */
  readonly isLast: boolean
}

/** What a flush puts, in its order. @param padding bytes more in each value */
export function operationsOf(
  writer: string,
  n: number,
  tags: readonly TagCount[],
  padding = 0
): Operation[] {
  return tags.flatMap(({ tag, count }) => {
    const keys = Array.from({ length: count }, (_, i): Operation => {
      // Values of many lengths, so that blocks are of many sizes.
      const value = `${writer} ${n} ${'.'.repeat(((n * 7 + i * 31) % 200) + padding)}`
      return { key: `{${tag}}/${writer}/${n}/${i}`, value, tag, isLast: false }
    })
    const last = { key: `{${tag}}/last`, value: `${writer} ${n}`, tag, isLast: true }
    // In the middle of them, so that its place in the order shows.
    return [...keys.slice(0, 1), last, ...keys.slice(1)]
  })
}

/** What the caller of one flush knows. */
export interface Flush {
  readonly writer: string
  readonly n: number
  readonly tags: readonly TagCount[]
  /** Where it lies, when flush() resolved. */
  parts: readonly FlushPart[] | null
  acked: boolean
  receipted: boolean
}

/** All that the writers' callers were told, kept outside kvswarm. */
export class Facts {
  readonly #flushes = new Map<string, Map<number, Flush>>()
  readonly #receipts = new Map<string, number>()
  receipts = 0
  acks = 0

  /** Flushes of a writer in the order of their calls. */
  of(writer: string): Flush[] {
    return [...(this.#flushes.get(writer)?.values() ?? [])]
  }

  receiptsOf(writer: string): number {
    return this.#receipts.get(writer) ?? 0
  }

  get writers(): string[] {
    return [...this.#flushes.keys()]
  }

  get all(): Flush[] {
    return this.writers.flatMap((writer) => this.of(writer))
  }

  /** One line of load-writer.ts. @throws when it makes no sense, or tells of a failure */
  add(writer: string, line: string): void {
    const [, word = '', number = '', rest = ''] = /^(\w+)(?: (\S+))?(?: (.*))?$/.exec(line) ?? []
    if (word === 'up' || word === 'drained') return
    const n = Number(number)
    if (word === 'call') return this.#called(writer, n, rest)
    const flush = this.#flushes.get(writer)?.get(n)
    if (flush === undefined) throw new Error(`writer ${writer}: ${line}`)
    if (word === 'done') flush.parts = JSON.parse(rest) as FlushPart[]
    else if (word === 'ack') {
      flush.acked = true
      this.acks++
    } else if (word === 'receipt') {
      flush.receipted = true
      this.#receipts.set(writer, this.receiptsOf(writer) + 1)
      this.receipts++
    } else throw new Error(`writer ${writer}: ${line}`)
  }

  #called(writer: string, n: number, rest: string): void {
    let flushes = this.#flushes.get(writer)
    if (flushes === undefined) {
      flushes = new Map()
      this.#flushes.set(writer, flushes)
    }
    if (flushes.has(n) || n !== flushes.size) throw new Error(`writer ${writer} called flush ${n}`)
    const tags = rest.split(' ').map((text) => {
      const [tag = '', count] = text.split(':')
      return { tag, count: Number(count) }
    })
    flushes.set(n, { writer, n, tags, parts: null, acked: false, receipted: false })
  }
}

/** What the final state shows. */
export interface Verdict {
  /** What is wrong; empty when every promise was kept. */
  readonly faults: readonly string[]
  /** Operations that were applied, and those among them that are overwritten. */
  readonly applied: number
  readonly overwritten: number
  /** Flushes whose caller was told nothing, and how many of their parts were applied all the same. */
  readonly unknown: number
  readonly unknownApplied: number
}

/**
 * Judges the final state by what the callers were told.
 * @param padding bytes more in each value
 * @param epochMax the newest that was adopted
 */
export function judge(
  facts: Facts,
  entries: readonly KVEntry[],
  config: Config,
  padding = 0,
  epochMax = 1
): Verdict {
  const judgement = new Judgement(entries, config, padding, epochMax)
  for (const writer of facts.writers) judgement.writer(facts.of(writer))
  judgement.owners()
  return judgement
}

class Judgement implements Verdict {
  readonly faults: string[] = []
  applied = 0
  overwritten = 0
  unknown = 0
  unknownApplied = 0
  readonly #config: Config
  readonly #padding: number
  /** What is there and not explained yet. */
  readonly #found: Map<string, KVEntry>
  /** The state of each `last` key: the newest flush of each writer that was applied. */
  readonly #newest = new Map<string, Map<string, { value: string; after: string }>>()
  readonly #last = new Map<string, KVEntry>()
  /** Puts that were applied, and the highest versionstamp, by owner. */
  readonly #puts = new Map<string, number>()
  readonly #highest = new Map<string, string>()
  readonly #stamps = new Set<string>()

  constructor(entries: readonly KVEntry[], config: Config, padding: number, epochMax: number) {
    this.#config = config
    this.#padding = padding
    this.#found = new Map(entries.map((entry) => [String(entry.key), entry]))
    if (this.#found.size !== entries.length) this.faults.push('a key was listed twice')
    for (const entry of entries) {
      const owner = config.ownerOf(entry.key)
      const { versionstamp } = entry
      const { epoch, serial } = stampFields(versionstamp)
      if (epoch > epochMax || serial !== 1) this.#fault(entry.key, `has the stamp ${versionstamp}`)
      const stamp = `${owner}/${versionstamp}`
      if (this.#stamps.has(stamp)) this.#fault(entry.key, 'shares its stamp with another key')
      this.#stamps.add(stamp)
      const highest = this.#highest.get(owner) ?? ''
      if (versionstamp > highest) this.#highest.set(owner, versionstamp)
    }
  }

  /** All flushes of one writer, in order. */
  writer(flushes: readonly Flush[]): void {
    /** The newest stamp of this writer, by owner. */
    const order = new Map<string, string>()
    for (const flush of flushes) {
      if (flush.parts === null) this.unknown++
      const byOwner = new Map<string, Operation[]>()
      for (const operation of operationsOf(flush.writer, flush.n, flush.tags, this.#padding)) {
        const owner = this.#config.ownerOf(operation.key)
        byOwner.set(owner, [...(byOwner.get(owner) ?? []), operation])
      }
      for (const [owner, operations] of byOwner) this.#part(flush, owner, operations, order)
    }
  }

  /** The part of a flush that went to one owner: it is in its outbox whole or not at all. */
  #part(
    flush: Flush,
    owner: string,
    operations: readonly Operation[],
    order: Map<string, string>
  ): void {
    const unique = operations.filter(({ isLast }) => !isLast)
    const present = unique.filter(({ key }) => this.#found.has(key))
    if (flush.parts === null) {
      if (present.length === 0) return
      this.unknownApplied++
    }
    if (present.length !== unique.length) {
      const missing = unique.find(({ key }) => !this.#found.has(key))
      this.#fault(missing?.key, `is missing; flush() had ${flush.parts ? '' : 'not '}resolved`)
      return
    }
    this.#puts.set(owner, (this.#puts.get(owner) ?? 0) + operations.length)
    this.applied += operations.length
    for (const operation of operations) {
      if (operation.isLast) this.#overwrite(flush, operation, order.get(owner) ?? '')
      else order.set(owner, this.#one(operation, order.get(owner) ?? ''))
    }
  }

  /** A key that is never written again. @returns its stamp */
  #one({ key, value }: Operation, before: string): string {
    const entry = this.#found.get(key)
    if (entry === undefined) return before
    this.#found.delete(key)
    if (entry.value !== value) this.#fault(key, `has the value ${inspect(entry.value)}`)
    if (entry.versionstamp <= before) {
      this.#fault(key, `has the stamp ${entry.versionstamp}, and one written before it ${before}`)
    }
    return entry.versionstamp
  }

  #overwrite({ writer }: Flush, { key, value }: Operation, after: string): void {
    const entry = this.#found.get(key) ?? this.#last.get(key)
    if (entry === undefined) return this.#fault(key, 'is missing')
    this.#found.delete(key)
    this.#last.set(key, entry)
    const newest = this.#newest.get(key) ?? new Map<string, { value: string; after: string }>()
    this.#newest.set(key, newest.set(writer, { value, after }))
    this.overwritten++
  }

  /** What is decided when every flush was looked at. */
  owners(): void {
    for (const [key, entry] of this.#last) {
      const winners = [...(this.#newest.get(key)?.values() ?? [])]
      const winner = winners.find(({ value }) => value === entry.value)
      if (winner === undefined) {
        this.#fault(key, `is ${inspect(entry.value)}, which is nobody's last value`)
      } else if (winners.some(({ after }) => entry.versionstamp <= after)) {
        this.#fault(key, 'has an older stamp than a key that was written before it')
      }
    }
    this.overwritten -= this.#last.size
    for (const key of this.#found.keys()) this.#fault(key, 'was never written')
    for (const [owner, stamp] of this.#highest) {
      const { counter } = stampFields(stamp)
      const puts = this.#puts.get(owner) ?? 0
      if (counter !== puts) {
        this.faults.push(`${owner} took ${counter} versionstamps for ${puts} operations`)
      }
    }
  }

  #fault(key: unknown, text: string): void {
    this.faults.push(`${String(key)} ${text}`)
  }
}
