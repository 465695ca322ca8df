/**
 * A run of an own index beside a sorted map: batches, gets, ranges, snapshots, differences, reopening and crashes, all
 * from one seed. What the index says differently is thrown.
 */
import { deepStrictEqual } from 'node:assert'
import { namesOf } from '../../lib/lsm/names.ts'
import { OwnIndex } from '../../lib/lsm/own-index.ts'
import type { IndexLimits } from '../../lib/lsm/index-limits.ts'
import { coreKey } from '../../lib/index-ports.ts'
import type { Head, IndexChange, IndexRange, IndexSnapshot } from '../../lib/ports.ts'
import { decodeLayout } from '../../lib/wire/index-state.ts'
import { deadline } from '../helpers/events.ts'
import { randomOf, type Random } from '../helpers/random.ts'
import { MemoryCores, MemoryDisk, type Effect } from './memory-cores.ts'

/** Keys in hex, in order of their bytes; values in hex. */
type State = ReadonlyMap<string, string>

/** What a run came to; summed over all runs it shows that the test is one. */
export type Seen = Map<string, number>

/** A state that was applied, and the head that was told for it; null: it was under way when the node crashed. */
interface Applied {
  readonly state: State
  head: Head | null
}

const hangMs = 30_000

export class ModelRun {
  readonly #random: Random
  readonly #seen: Seen
  readonly #disk = new MemoryDisk()
  readonly #limits: Partial<IndexLimits>
  readonly #keys: readonly Uint8Array[]
  readonly #largeShare: number
  readonly #deleteShare: number
  readonly #crashes: boolean
  readonly #isPlain: boolean
  #cores: MemoryCores
  #index: OwnIndex | null = null
  #failure: unknown = null
  /** Oldest first; the last one may be under way. */
  #applied: Applied[] = [{ state: new Map(), head: { generation: 1, length: 0 } }]
  #held: IndexSnapshot[] = []
  #stale: string[] = []
  #counter = 0

  constructor(seed: number, seen: Seen) {
    const random = randomOf(seed)
    this.#random = random
    this.#seen = seen
    const journalEntriesMin = random.pick([5, 20, 60, 300])
    this.#limits = {
      journalEntriesMin,
      journalBytesMax: random.pick([4096, 1 << 20]),
      upperRunsMax: random.int(1, 8),
      tidyEntriesMin: random.int(1, journalEntriesMin),
      quietMs: random.pick([0, 5000]),
      graceMs: random.pick([0, 0, 3, 10_000]),
      historyMs: random.pick([0, 30_000]),
      historyBytesMin: random.pick([0, 2000, 1 << 20])
    }
    this.#keys = keysOf(random)
    this.#largeShare = random.pick([0, 0, 0.05, 0.4])
    this.#deleteShare = random.pick([0, 0.2, 0.6])
    this.#crashes = random.chance(0.6)
    this.#isPlain = random.chance(0.15)
    this.#cores = new MemoryCores(this.#disk, random)
  }

  async run(): Promise<void> {
    const actions = this.#random.int(10, 60)
    await this.#open()
    for (let action = 0; action < actions; action++) {
      if (this.#crashes && this.#cores.left === Infinity && this.#random.chance(0.1)) {
        this.#cores.left = this.#random.int(1, 40)
      }
      await this.#survive(() => this.#act())
    }
    this.#cores.left = Infinity
    await this.#survive(() => this.#end())
  }

  /** What happens, or the crash of the node and its next start. */
  async #survive(act: () => Promise<void>): Promise<void> {
    const cores = this.#cores
    const acting = act().then(() => null)
    const crash = await deadline(
      Promise.race([acting, cores.crashed]),
      hangMs,
      'something that does not end'
    ).catch((error: unknown) => {
      throw this.#failure ?? error
    })
    if (this.#failure !== null) throw this.#failure
    if (crash === null && !cores.hasCrashed) return
    acting.catch(() => {})
    await this.#restart(crash ?? (await cores.crashed))
  }

  async #restart(effect: Effect): Promise<void> {
    this.#count(`crash: ${effect}`)
    this.#held = []
    for (;;) {
      this.#cores = new MemoryCores(this.#disk, this.#random)
      // The next start may crash as well.
      if (this.#random.chance(0.2)) this.#cores.left = this.#random.int(1, 6)
      const opening = this.#open()
      opening.catch(() => {})
      const crash = await deadline(
        Promise.race([opening, this.#cores.crashed]),
        hangMs,
        'the start of the index'
      )
      if (crash === undefined && !this.#cores.hasCrashed) break
      this.#count('crash at the start')
    }
    this.#cores.left = Infinity
    await this.#recovered()
  }

  /** What was told is there; of what was under way, the first batches, each whole. */
  async #recovered(): Promise<void> {
    const found = await this.#all(this.#own.snapshot())
    const { head } = this.#own
    const told = this.#applied.findLastIndex((one) => one.head !== null)
    const at = this.#applied.findLastIndex(
      ({ state }, place) => place >= told && sameState(state, found)
    )
    if (at < 0) {
      deepStrictEqual(sorted(found), sorted(this.#applied[told]?.state ?? new Map()))
      throw new Error('it is another state')
    }
    const before = this.#applied[told]?.head?.length ?? 0
    if (head.length < before) throw new Error(`head ${head.length} after ${before}`)
    this.#applied = this.#applied.slice(0, at + 1).filter((one) => one.head !== null)
    this.#applied.push({ state: found, head })
    await this.#noOrphans()
  }

  /** After a start all is here that the index consists of; what it did not consist of before is deleted. */
  async #noOrphans(): Promise<void> {
    await this.#cores.idle()
    const named = new Set(namesOf(this.#own.shape).map(coreKey))
    const left = this.#stale.filter((key) => !this.#cores.dealtWith.has(key))
    if (left.length > 0) throw new Error(`orphans after a start: ${left.join(', ')}`)
    for (const key of named) {
      if (!this.#disk.cores.has(key)) throw new Error(`${key} is missing after a start`)
    }
    if (this.#stale.length > 0) this.#count('orphans collected')
  }

  /** What lies on the disk and is not part of the index, but for a journal that was about to begin. */
  #findStale(): string[] {
    const newest = this.#disk.anchor.at(-1)
    if (!newest) return []
    const layout = decodeLayout(newest)
    const named = new Set(namesOf(layout).map(coreKey))
    named.add(`journal ${(layout.journals.at(-1)?.number ?? 0) + 1}`)
    return [...this.#disk.cores.keys()].filter((key) => !named.has(key))
  }

  get #own(): OwnIndex {
    return this.#index as OwnIndex
  }

  get #state(): State {
    return this.#applied.at(-1)?.state ?? new Map()
  }

  async #open(): Promise<void> {
    const cores = this.#cores
    this.#stale = this.#findStale()
    const index = await OwnIndex.open(cores.anchor(1), {
      cores,
      limits: this.#limits,
      failed: (error) => {
        if (!cores.hasCrashed) this.#failure = error
      }
    })
    this.#index = index
  }

  async #act(): Promise<void> {
    const random = this.#random
    const kind = random.int(0, 19)
    if (kind < 9) return await this.#apply(1)
    if (kind < 10) return await this.#apply(random.int(2, 8))
    if (kind < 12) return await this.#checkSnapshot(this.#own.snapshot(), true)
    if (kind < 14) return await this.#hold()
    if (kind < 16) return await this.#checkHeld()
    if (kind < 17) return await this.#checkGets()
    if (kind < 18) {
      await this.#own.settled(random.chance(0.4))
      return
    }
    if (kind < 19) return this.#limits.quietMs === 0 ? undefined : await this.#own.settled(true)
    await this.#reopen()
  }

  async #apply(batches: number): Promise<void> {
    const applying: Promise<void>[] = []
    for (let batch = 0; batch < batches; batch++) {
      const changes = this.#batch()
      const state = new Map(this.#state)
      for (const { key, value } of changes) {
        const text = hex(key)
        if (value === null) state.delete(text)
        else state.set(text, hex(value))
      }
      const applied: Applied = { state, head: null }
      this.#applied.push(applied)
      applying.push(
        this.#own.apply(changes).then((head) => {
          const before = this.#applied[this.#applied.indexOf(applied) - 1]?.head
          if (!before || head.length <= before.length) throw new Error('a head that does not rise')
          applied.head = head
        })
      )
    }
    if (batches > 1 && this.#random.chance(0.5)) {
      const snapshot = this.#own.snapshot()
      await Promise.all(applying)
      await this.#checkSnapshot(snapshot, true)
      return
    }
    await Promise.all(applying)
  }

  #batch(): IndexChange[] {
    const random = this.#random
    const size = random.chance(0.5) ? random.int(1, 3) : random.int(1, random.pick([20, 200]))
    return Array.from({ length: size }, () => {
      const key = random.pick(this.#keys)
      if (random.chance(this.#deleteShare)) return { key, value: null }
      // The same entries again and again: the same runs come again.
      if (this.#isPlain) return { key, value: Buffer.of(1) }
      const length = random.chance(this.#largeShare)
        ? random.int(1025, 3000)
        : random.pick([0, 3, 20, 120, 1024])
      const value = Buffer.alloc(length, random.int(0, 255))
      if (length >= 20) value.writeUInt32LE(++this.#counter)
      return { key, value }
    })
  }

  async #hold(): Promise<void> {
    this.#held.push(this.#own.snapshot())
    if (this.#random.chance(0.5)) return
    await this.#checkOne(this.#held.at(-1) as IndexSnapshot)
  }

  async #checkHeld(): Promise<void> {
    if (this.#held.length === 0) return
    const at = this.#random.int(0, this.#held.length - 1)
    const [held] = this.#held.splice(at, 1) as [IndexSnapshot]
    await this.#checkOne(held)
    if (this.#random.chance(0.3)) this.#held.push(held)
    else await held.close()
  }

  async #checkOne(snapshot: IndexSnapshot): Promise<void> {
    const { head } = this.#own
    if (head.length > snapshot.head.length) this.#count('old snapshot')
    await this.#checkSnapshot(snapshot, false)
  }

  async #checkSnapshot(snapshot: IndexSnapshot, close: boolean): Promise<void> {
    const random = this.#random
    const state = this.#stateAt(snapshot.head)
    for (let get = 0; get < 3; get++) {
      const key = random.pick(this.#keys)
      const value = await snapshot.get(key)
      deepStrictEqual(value === null ? undefined : hex(value), state.get(hex(key)), 'a get')
    }
    await this.#checkRange(snapshot, state, random.chance(0.3) ? {} : this.#range())
    const since = random.pick(this.#applied)
    if (since.head && since.head.length <= snapshot.head.length) {
      await this.#checkChanges(snapshot, state, since.head, since.state)
    }
    if (close) await snapshot.close()
  }

  async #checkChanges(
    snapshot: IndexSnapshot,
    state: State,
    from: Head,
    before: State
  ): Promise<void> {
    if (!snapshot.tellsSince(from)) {
      this.#count('changes not told')
      return
    }
    this.#count('changes told')
    const range = this.#range()
    const told = new Set<string>()
    let last = ''
    for await (const { key, value } of snapshot.changes(from, range)) {
      const text = hex(key)
      if (told.has(text) || text < last) throw new Error('changes that are not in order')
      last = text
      told.add(text)
      deepStrictEqual(value === null ? undefined : hex(value), state.get(text), 'a change')
      if (!within(text, range)) throw new Error('a change beside the range')
    }
    for (const key of new Set([...before.keys(), ...state.keys()])) {
      if (before.get(key) === state.get(key) || !within(key, range) || told.has(key)) continue
      throw new Error(`the change of ${key} is not told`)
    }
  }

  async #checkRange(snapshot: IndexSnapshot, state: State, range: IndexRange): Promise<void> {
    let expected = sorted(state).filter(([key]) => within(key, range))
    if (range.reverse === true) expected = expected.toReversed()
    expected = expected.slice(0, range.limit ?? Infinity)
    const found: [string, string][] = []
    for await (const { key, value } of snapshot.range(range)) found.push([hex(key), hex(value)])
    deepStrictEqual(found, expected, 'a range')
  }

  #range(): IndexRange {
    const random = this.#random
    const range: { -readonly [name in keyof IndexRange]: IndexRange[name] } = {}
    const bound = (): Uint8Array => {
      const key = random.pick(this.#keys)
      if (random.chance(0.7)) return key
      return random.chance(0.5)
        ? key.subarray(0, key.length - 1)
        : Buffer.concat([key, Buffer.of(0)])
    }
    if (random.chance(0.6)) range[random.pick(['gt', 'gte'] as const)] = bound()
    if (random.chance(0.6)) range[random.pick(['lt', 'lte'] as const)] = bound()
    if (random.chance(0.5)) range.reverse = random.chance(0.8)
    if (random.chance(0.4)) range.limit = random.pick([0, 1, 2, 10, 1000])
    return range
  }

  async #checkGets(): Promise<void> {
    const state = this.#state
    for (const key of this.#random.shuffle(this.#keys).slice(0, 10)) {
      const value = await this.#own.get(key)
      deepStrictEqual(value === null ? undefined : hex(value), state.get(hex(key)), 'a get')
    }
  }

  async #reopen(): Promise<void> {
    // Some snapshots are still open then: nothing of them may stay on the disk for that.
    const kept = this.#random.chance(0.5) ? this.#held : []
    if (kept.length === 0) for (const snapshot of this.#held) await snapshot.close()
    this.#held = []
    await this.#own.close()
    this.#cores = new MemoryCores(this.#disk, this.#random)
    await this.#open()
    await this.#recovered()
    this.#count('reopen')
  }

  async #end(): Promise<void> {
    this.#look()
    await this.#checkSnapshot(this.#own.snapshot(), true)
    const found = await this.#all(this.#own.snapshot())
    deepStrictEqual(sorted(found), sorted(this.#state), 'the whole index')
    for (const held of this.#held) {
      await this.#checkOne(held)
      await held.close()
    }
    await this.#own.settled(true)
    const after = await this.#all(this.#own.snapshot())
    deepStrictEqual(sorted(after), sorted(this.#state), 'the whole index, tidy')
    this.#held = []
    await this.#reopen()
    this.#look()
    await this.#own.close()
    // Within the bounds of the format, all of them: else no start and no reader would take them.
    for (const block of this.#disk.anchor) decodeLayout(block)
  }

  /** What the run has come to. */
  #look(): void {
    const { kept, runs, journals } = this.#own.shape
    if (kept.length > 0) this.#count('journals kept')
    if (runs.length > 1) this.#count('several runs')
    if (journals.length > 1) this.#count('several journals')
  }

  #stateAt({ length }: Head): State {
    const found = this.#applied.findLast(({ head }) => head !== null && head.length <= length)
    if (!found) throw new Error(`no state at ${length}`)
    return found.state
  }

  async #all(snapshot: IndexSnapshot): Promise<State> {
    const found = new Map<string, string>()
    for await (const { key, value } of snapshot.range({})) found.set(hex(key), hex(value))
    await snapshot.close()
    return found
  }

  #count(what: string): void {
    this.#seen.set(what, (this.#seen.get(what) ?? 0) + 1)
  }
}

/** Keys that share beginnings, and some that are beginnings of others. */
function keysOf(random: Random): Uint8Array[] {
  const count = random.pick([3, 30, 200])
  const keys = new Map<string, Uint8Array>()
  for (let key = 0; key < count; key++) {
    const bytes = Buffer.from([
      ...Buffer.from(random.pick(['', 'a', 'key ', 'k'.repeat(60)])),
      ...random.bytes(random.int(1, 3)),
      ...(random.chance(0.1) ? [0] : [])
    ])
    keys.set(hex(bytes), bytes)
  }
  return [...keys.values()]
}

function within(key: string, { gt, gte, lt, lte }: IndexRange): boolean {
  return !(
    (gt && key <= hex(gt)) ||
    (gte && key < hex(gte)) ||
    (lt && key >= hex(lt)) ||
    (lte && key > hex(lte))
  )
}

function sorted(state: State): [string, string][] {
  return [...state].toSorted(([a], [b]) => (a < b ? -1 : 1))
}

function sameState(one: State, other: State): boolean {
  if (one.size !== other.size) return false
  for (const [key, value] of one) if (other.get(key) !== value) return false
  return true
}

function hex(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('hex')
}
