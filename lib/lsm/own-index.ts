/**
 * This node's own index: a log-structured merge tree on hypercores (O'Neil et al., "The log-structured merge-tree",
 * 1996). Batches of changes go to a journal, one append each; journals become runs, and runs are merged.
 *
 * What always holds:
 * - The newest block of the anchor names the cores that the index consists of. A core is complete and on disk before it
 *   is named, and is deleted only when it is not named any more: a crash at any point leaves a whole index, and at worst
 *   cores that nothing names, which are deleted at the next start.
 * - A head counts the blocks of all journals. So the head rises with each batch, and not with what happens in between.
 * - Who writes is held to the pace at which journals become runs and runs are merged: there is no long stop.
 */
import { createHash } from 'node:crypto'
import {
  indexDeadShare,
  indexFlushesPerMerge,
  indexHistoryShare,
  indexJournalShare,
  indexJournalsMax,
  indexGraceMinMs,
  indexReplacedBytesMin,
  indexReplacedShare,
  indexRunsMax,
  indexTidyShare,
  indexUpperShare
} from '../../config/limits.ts'
import { assert } from '../assert.ts'
import { KVSwarmError, messageOf } from '../errors.ts'
import { coreKey, type CoreName, type OwnIndexCores } from '../index-ports.ts'
import type { Head, Index, IndexChange, IndexSnapshot, Log, ReadOptions } from '../ports.ts'
import { decodeLayout, encodeLayout, type IndexLayout, type RunState } from '../wire/index-state.ts'
import { entriesIn, entriesOf, makeRun, Pace, Progress, type Made } from './compactor.ts'
import type { MemorySource } from './memory.ts'
import { indexLimits, type IndexLimits } from './index-limits.ts'
import { emptied, type Emptied } from './kept.ts'
import { keysOf, leftBehind, namesOf } from './names.ts'
import { damaged, OwnJournal } from './own-journal.ts'
import { LayoutScope } from './scope.ts'
import { VersionSnapshot } from './snapshot.ts'
import { Version } from './version.ts'
import { decodeNames, encodeNames } from '../wire/index-names.ts'

export interface OwnIndexEnvironment {
  readonly cores: OwnIndexCores
  /** True: it is only read, to be copied. @default false */
  readonly readOnly?: boolean
  /** False: the disk is full, and nothing is written but what is asked for. */
  readonly hasRoom?: () => boolean
  /** The work in the background failed: the index must not go on in silence. */
  readonly failed: (error: unknown) => void
  /** @default those of config/limits.ts */
  readonly limits?: Partial<IndexLimits>
}

export class OwnIndex implements Index {
  readonly #anchor: Log
  readonly #cores: OwnIndexCores
  readonly #environment: OwnIndexEnvironment
  readonly #limits: IndexLimits
  #layout: IndexLayout
  /** What it consists of in a moment: it is being written. */
  #next: IndexLayout | null = null
  #scope: LayoutScope
  #version: Version
  /** Oldest first; the last one grows. */
  #journals: OwnJournal[]
  /** True when everything that was announced is here, so that it may go on. */
  readonly isWhole: boolean
  /** Appends and changes of the layout, one after the other. */
  #writing: Promise<unknown> = Promise.resolve()
  #changing: Promise<unknown> = Promise.resolve()
  /** Journals become runs in one lane, everything else is done in the other: neither waits for the other. */
  readonly #lanes: Record<Lane, Promise<void> | null> = { flush: null, merge: null }
  readonly #paces: Record<Lane, Pace> = { flush: new Pace(), merge: new Pace() }
  /** The runs of a merge that an earlier session has begun. */
  #unfinished: readonly RunState[] | null = null
  /** A merge over two sessions does not know all large values that died by it. */
  #miscounted = false
  #flushing: Progress | null = null
  /** `from`: where in the row of journals it began. */
  #merging: { readonly progress: Progress; readonly from: number } | null = null
  #waiters: (() => void)[] = []
  /** Cores that the index has replaced, and that are not gone yet; in the order in which they go. */
  readonly #replaced = new Map<string, Replaced>()
  /** Layouts that were replaced, in which somebody still reads, with the keys of their cores. */
  readonly #older = new Map<LayoutScope, ReadonlySet<string>>()
  /** Runs that are about to come to be, or are there and not named yet. */
  readonly #coming = new Map<string, CoreName>()
  /** Cores that the layout which is being written does not name any more. */
  #leaving: readonly CoreName[] = []
  readonly #journalBytes = new Map<number, number>()
  /** Kept journals: since when, and their bytes. */
  readonly #history = new Map<number, { readonly at: number; readonly bytes: number }>()
  #written = performance.now()
  #timer: NodeJS.Timeout | null = null
  #closed = false
  #failure: unknown = null

  /** It is older than what was announced, perhaps: it is read, and nothing is written to it. */
  readonly #readOnly: boolean

  private constructor(
    anchor: Log,
    environment: OwnIndexEnvironment,
    layout: IndexLayout,
    journals: OwnJournal[]
  ) {
    this.#anchor = anchor
    this.#environment = environment
    this.#limits = { ...indexLimits, ...environment.limits }
    this.#cores = environment.cores
    this.#layout = layout
    this.#journals = journals
    const whole = layout.journals.every(({ number }) => this.#cores.isWhole(number))
    this.isWhole = whole && environment.readOnly !== true
    this.#readOnly = !this.isWhole
    this.#scope = this.#newScope(layout)
    this.#version = this.#newVersion()
    if (!this.#readOnly) this.#offer()
  }

  /**
   * Opens the index on its anchor, beginning it when that is empty.
   * @throws DATADIR_DAMAGED, CORRUPT, IO_ERROR
   */
  static async open(anchor: Log, environment: OwnIndexEnvironment): Promise<OwnIndex> {
    const { cores } = environment
    if (anchor.length === 0) {
      const layout: IndexLayout = {
        event: 'began',
        journals: [{ number: 0, base: 0, length: 0 }],
        runs: [],
        kept: []
      }
      const log = await cores.begin(0)
      await anchor.append([encodeLayout(layout)])
      return new OwnIndex(anchor, environment, layout, [new OwnJournal(0, 0, log)])
    }
    const newest = await anchor.get(anchor.length - 1, { wait: false })
    if (newest === null) throw damaged('the last block of the index is missing')
    const layout = decodeLayout(newest)
    const journals: OwnJournal[] = []
    try {
      for (const { number, base, length } of layout.journals) {
        const log = await cores.resume(number)
        if (log.length < length)
          throw damaged(`journal ${number} of the index is shorter than it was`)
        journals.push(await OwnJournal.read(number, base, log))
      }
    } catch (error) {
      for (const journal of journals) await journal.close()
      throw error
    }
    const index = new OwnIndex(anchor, environment, layout, journals)
    if (index.#readOnly) return index
    await index.#collect()
    index.#kick()
    index.#look()
    return index
  }

  get head(): Head {
    return this.#version.head
  }

  async get(key: Uint8Array, options: ReadOptions = {}): Promise<Uint8Array | null> {
    const version = this.#version
    version.retain()
    try {
      return await version.get(key, options)
    } finally {
      version.release()
    }
  }

  snapshot(): IndexSnapshot {
    return new VersionSnapshot(this.#version)
  }

  apply(changes: readonly IndexChange[]): Promise<Head> {
    return this.#write(async () => {
      await this.#keepPace(changes.length)
      await this.#append(changes)
      return this.head
    })
  }

  /** The cores of its present state, for who wants to read it. */
  get cores(): {
    readonly journals: number[]
    readonly runs: { readonly hash: Uint8Array; readonly length: number }[]
  } {
    const { journals, runs } = this.#layout
    return {
      journals: journals.map(({ number }) => number),
      runs: runs.map(({ hash, length }) => ({ hash, length }))
    }
  }

  /** How many blocks, runs and bytes it consists of. */
  get shape(): IndexLayout {
    return this.#layout
  }

  /** Resolves when there is nothing to be done in the background; for tests and measurements. */
  async settled(tidy = false): Promise<void> {
    if (tidy) await this.#tidy(true)
    for (;;) {
      this.#kick()
      if (!this.#isWorking) return
      await this.#worked()
      if (this.#failure !== null) throw this.#failure
    }
  }

  async close(): Promise<void> {
    if (this.#closed) return
    this.#closed = true
    if (this.#timer) clearTimeout(this.#timer)
    this.#hurry(true)
    this.#wake()
    await this.#writing.catch(() => {})
    await this.#worked()
    await this.#changing.catch(() => {})
    this.#version.release()
    this.#scope.release()
    for (const journal of this.#journals) await journal.close()
    await this.#cores.close()
    await this.#anchor.close()
  }

  get #active(): OwnJournal {
    return this.#journals.at(-1) as OwnJournal
  }

  #write<T>(write: () => Promise<T>): Promise<T> {
    const writing = this.#writing
      .catch(() => {})
      .then(() => {
        this.#usable()
        return write()
      })
    this.#writing = writing
    return writing
  }

  async #append(changes: readonly IndexChange[]): Promise<void> {
    if (changes.length === 0) return
    await this.#active.append(changes)
    this.#written = performance.now()
    this.#renew()
    if (this.#isFull()) await this.#nextJournal()
    this.#look()
  }

  #isFull(): boolean {
    const { entries, bytes } = this.#active
    return entries >= this.#journalEntries() || bytes >= this.#limits.journalBytesMax
  }

  /** So many entries a journal takes. */
  #journalEntries(): number {
    const largest = this.#layout.runs.at(-1)?.entries ?? 0
    return Math.max(this.#limits.journalEntriesMin, Math.floor(largest * indexJournalShare))
  }

  async #nextJournal(): Promise<void> {
    const { number, base, length } = this.#active
    const log = await this.#cores.begin(number + 1)
    const next = new OwnJournal(number + 1, base + length, log)
    await this.#change(
      (layout) => ({
        ...layout,
        event: 'journal',
        journals: [
          ...layout.journals.slice(0, -1),
          { number, base, length },
          { number: next.number, base: next.base, length: 0 }
        ]
      }),
      () => {
        this.#journals = [...this.#journals, next]
      }
    )
    this.#kick()
  }

  /** The index consists of something else from now on. */
  #change(make: (layout: IndexLayout) => IndexLayout, done: () => void = () => {}): Promise<void> {
    const changing = this.#changing
      .catch(() => {})
      .then(async () => {
        const before = this.#layout
        const layout = make(before)
        const left = leftBehind(before, layout)
        // Who hears of a core asks for it at once.
        this.#next = layout
        this.#offer()
        // Before nothing names them any more: a crash must not leave them for ever.
        this.#leaving = left
        await this.#note()
        await this.#anchor.append([encodeLayout(layout)])
        this.#layout = layout
        this.#next = null
        done()
        for (const key of keysOf(layout)) this.#coming.delete(key)
        const at = performance.now() + this.#limits.graceMs
        for (const name of left) {
          // The other lane has made the very same run anew, and is about to name it.
          if (this.#coming.has(coreKey(name))) continue
          const bytes = this.#bytesOf(before, name)
          this.#replaced.set(coreKey(name), { name, at, bytes, isGoing: false })
        }
        this.#leaving = []
        const scope = this.#scope
        this.#scope = this.#newScope(layout)
        this.#renew()
        scope.replaced()
        this.#older.set(scope, keysOf(before))
        scope.release()
        this.#look()
      })
    this.#changing = changing
    return changing
  }

  /**
   * Others may ask for what the index consists of, for what it is about to consist of, and for what it has left behind
   * a moment ago. One that asks too early, or for what was taken back, does not ask again.
   */
  #offer(): void {
    const replaced = [...this.#replaced.values()].filter(({ isGoing }) => !isGoing)
    this.#cores.offer([
      ...namesOf(this.#layout),
      ...(this.#next === null ? [] : namesOf(this.#next)),
      ...replaced.map(({ name }) => name)
    ])
  }

  #newScope(layout: IndexLayout): LayoutScope {
    const scope: LayoutScope = new LayoutScope(this.#cores, layout, () => {
      if (this.#older.delete(scope)) this.#look()
    })
    return scope
  }

  #newVersion(): Version {
    const memory = new Map<number, readonly MemorySource[]>()
    for (const { number, sources } of this.#journals) memory.set(number, sources)
    const { base, length } = this.#active
    const head = { generation: this.#anchor.generation, length: base + length }
    return new Version(this.#scope, head, memory)
  }

  #renew(): void {
    const before = this.#version
    this.#version = this.#newVersion()
    before.release()
  }

  /** Waits until the work in the background is as far as it has to be before so many entries more come. */
  async #keepPace(entries: number): Promise<void> {
    const filled = this.#filled(entries)
    const { number } = this.#active
    const isDue = (): boolean => {
      if (this.#closed || this.#failure !== null || this.#environment.hasRoom?.() === false) {
        return false
      }
      const waiting = this.#journals.length - 1
      if (waiting >= indexJournalsMax - 1 || this.#layout.runs.length >= indexRunsMax - 2)
        return true
      if (this.#flushing && (waiting > 1 || this.#flushing.share < filled)) return true
      if (!this.#merging) return false
      const { progress, from } = this.#merging
      return progress.share < Math.min(1, (number + filled - from) / indexFlushesPerMerge)
    }
    if (!isDue()) return
    this.#hurry(true)
    try {
      while (isDue()) {
        this.#kick()
        await new Promise<void>((resolve) => this.#waiters.push(resolve))
      }
    } finally {
      this.#hurry(false)
    }
    this.#usable()
  }

  #hurry(hurried: boolean): void {
    for (const pace of Object.values(this.#paces)) pace.hurry(hurried)
  }

  /** Which part of a journal is full, with so many entries more. */
  #filled(entries: number): number {
    return Math.min(1, (this.#active.entries + entries) / this.#journalEntries())
  }

  #wake(): void {
    const waiters = this.#waiters
    this.#waiters = []
    for (const waiter of waiters) waiter()
  }

  get #isWorking(): boolean {
    return this.#lanes.flush !== null || this.#lanes.merge !== null
  }

  async #worked(): Promise<void> {
    // One may have begun the other.
    while (this.#isWorking) await Promise.all([this.#lanes.flush, this.#lanes.merge])
  }

  #kick(): void {
    this.#start('flush')
    this.#start('merge')
  }

  /** @param first what is done first; unset: what is due */
  #start(lane: Lane, first: Task | null = this.#nextTask(lane)): void {
    if (first === null || this.#lanes[lane] || this.#closed || this.#readOnly) return
    if (this.#failure !== null) return
    this.#lanes[lane] = this.#work(lane, first).finally(() => {
      this.#lanes[lane] = null
      this.#wake()
      this.#look()
    })
  }

  async #work(lane: Lane, first: Task): Promise<void> {
    try {
      for (let task: Task | null = first; task; task = this.#nextTask(lane)) {
        this.#paces[lane].begin()
        await task()
        this.#wake()
        if (this.#closed) return
        if (lane === 'flush') this.#start('merge')
      }
    } catch (error) {
      if (error !== stopped) this.#fail(error)
    }
  }

  #nextTask(lane: Lane): Task | null {
    // A full disk: what is there can be read, and what waits in journals waits there.
    if (this.#environment.hasRoom?.() === false) return null
    if (lane === 'flush') return this.#journals.length > 1 ? () => this.#flush() : null
    const unfinished = this.#unfinished
    if (unfinished) return () => this.#merge(unfinished)
    if (this.#miscounted) return () => this.#count()
    const { runs } = this.#layout
    const base = runs.at(-1)
    const upper = runs.slice(0, -1)
    if (
      base &&
      (upper.length > this.#limits.upperRunsMax ||
        entriesOfRuns(upper) > indexUpperShare * base.entries)
    ) {
      return () => this.#merge()
    }
    const dead = this.#layout.kept.find(
      ({ bytes, dead: deadBytes }) => bytes > 0 && deadBytes >= indexDeadShare * bytes
    )
    return dead ? () => this.#empty(dead.number) : null
  }

  /** The oldest journal that is not written to any more becomes a run. */
  async #flush(): Promise<void> {
    const [journal] = this.#journals as [OwnJournal]
    const progress = new Progress(journal.entries)
    this.#flushing = progress
    const { runs } = this.#layout
    await this.#cores.deleteBuild('flush')
    const made = await makeRun(
      this.#cores,
      'flush',
      {
        parts: () => journal.sources.map((source) => entriesIn(source)),
        entries: journal.entries,
        isWhole: runs.length === 0
      },
      progress,
      () => this.#turn('flush'),
      (run) => this.#comes(run)
    )
    const { number, base, length } = journal
    const { all, dead } = journal.valueBytes
    this.#history.set(number, { at: performance.now(), bytes: journal.bytes })
    this.#journalBytes.set(number, journal.bytes)
    await this.#change(
      (layout) => {
        const kept = { number, base, length, bytes: all, dead: dead + (made.dead.get(number) ?? 0) }
        return this.#trimmed({
          event: 'flushed',
          journals: layout.journals.slice(1),
          runs: made.run ? [made.run, ...layout.runs] : layout.runs,
          kept: [...layout.kept, kept]
        })
      },
      () => {
        this.#journals = this.#journals.slice(1)
        this.#flushing = null
      }
    )
    await journal.close()
  }

  /** All runs become one. @param runs all that there are, or were when it was begun */
  async #merge(runs: readonly RunState[] = this.#layout.runs): Promise<void> {
    const from = this.#active.number + this.#filled(0)
    const merging = { progress: new Progress(entriesOfRuns(runs)), from }
    this.#merging = merging
    try {
      const made = await makeRun(
        this.#cores,
        mergeName(runs),
        {
          parts: (after) => runs.map((run) => entriesOf(this.#cores, run, after)),
          entries: merging.progress.total,
          isWhole: true
        },
        merging.progress,
        () => this.#turn('merge'),
        (run) => this.#comes(run)
      )
      await this.#change((layout) => this.#merged(layout, runs, made))
      this.#unfinished = null
      this.#miscounted ||= made.resumed && this.#layout.kept.length > 0
    } finally {
      this.#merging = null
    }
  }

  #merged(layout: IndexLayout, inputs: readonly RunState[], { run, dead }: Made): IndexLayout {
    const newer = layout.runs.slice(0, layout.runs.length - inputs.length)
    assert(layout.runs.at(-1) === inputs.at(-1), 'the merged runs are still the oldest ones')
    return this.#trimmed({
      event: 'merged',
      journals: layout.journals,
      runs: run ? [...newer, run] : newer,
      kept: layout.kept.map((kept) => ({
        ...kept,
        dead: Math.min(kept.bytes, kept.dead + (dead.get(kept.number) ?? 0))
      }))
    })
  }

  /** About what the entries take, but for large values. */
  #liveBytes(): number {
    return Math.max(0, ...this.#layout.runs.map(({ bytes }) => bytes))
  }

  #bytesOf(layout: IndexLayout, name: CoreName): number {
    if (name.kind === 'run') return layout.runs.find(({ hash }) => hash === name.hash)?.bytes ?? 0
    const known = this.#journalBytes.get(name.number) ?? 0
    this.#journalBytes.delete(name.number)
    return known
  }

  /** Without the kept journals that nobody needs any more. */
  #trimmed(layout: IndexLayout): IndexLayout {
    let room = Math.max(this.#limits.historyBytesMin, this.#liveBytes() * indexHistoryShare)
    const since = performance.now() - this.#limits.historyMs
    const kept = layout.kept.toReversed().filter(({ number, bytes }) => {
      const history = this.#history.get(number)
      room -= history?.bytes ?? Infinity
      const isHistory = history !== undefined && history.at > since && room >= 0
      if (!isHistory) room = -1
      // One with large values goes when it was looked through: the count alone is not trusted with them.
      if (isHistory || bytes > 0) return true
      this.#history.delete(number)
      return false
    })
    return { ...layout, kept: kept.toReversed() }
  }

  /** What lives of a kept journal's large values is written again, and it goes. */
  async #empty(number: number): Promise<void> {
    const core = await this.#cores.open({ kind: 'journal', number })
    try {
      const length = this.#layout.kept.find((one) => one.number === number)?.length ?? 0
      for await (const group of emptied(core, number, length)) {
        await this.#write(() => this.#writeAgain(group))
        await this.#turn('merge')
      }
    } finally {
      core.release()
    }
    this.#history.delete(number)
    await this.#change((layout) => ({
      ...layout,
      event: 'dropped',
      kept: layout.kept.filter((one) => one.number !== number)
    }))
  }

  /** Counts anew which large values of kept journals are dead. */
  async #count(): Promise<void> {
    const dead = new Map<number, number>()
    for (const { number, length, bytes } of this.#layout.kept) {
      if (bytes === 0) continue
      const core = await this.#cores.open({ kind: 'journal', number })
      let live = 0
      try {
        for await (const group of emptied(core, number, length)) {
          const version = this.#version
          version.retain()
          try {
            for (const { key, pointer } of group) {
              if (await version.means(key, pointer)) live += pointer.length
            }
          } finally {
            version.release()
          }
          await this.#turn('merge')
        }
      } finally {
        core.release()
      }
      dead.set(number, bytes - live)
    }
    this.#miscounted = false
    await this.#change((layout) =>
      this.#trimmed({
        ...layout,
        event: 'dropped',
        kept: layout.kept.map((one) => ({
          ...one,
          dead: Math.min(one.bytes, Math.max(one.dead, dead.get(one.number) ?? 0))
        }))
      })
    )
  }

  /** As far as an entry still means that very value, between two batches. */
  async #writeAgain(group: readonly Emptied[]): Promise<void> {
    const changes: IndexChange[] = []
    // There may be only so many journals, and only a writer waits for them.
    await this.#keepPace(group.length)
    const version = this.#version
    version.retain()
    try {
      for (const { key, pointer, value } of group) {
        if (await version.means(key, pointer)) changes.push({ key, value: await value() })
      }
    } finally {
      version.release()
    }
    await this.#append(changes)
  }

  /** A run is about to be there: it is found again if nothing names it in the end. */
  async #comes(run: CoreName): Promise<void> {
    this.#coming.set(coreKey(run), run)
    // The very same entries came again: what was to go stays.
    this.#replaced.delete(coreKey(run))
    await this.#note()
  }

  async #note(): Promise<void> {
    const names = [...this.#replaced.values()].map(({ name }) => name)
    await this.#anchor.setNote(encodeNames([...names, ...this.#leaving, ...this.#coming.values()]))
  }

  /** After a start: deletes what nothing names. */
  async #collect(): Promise<void> {
    const named = keysOf(this.#layout)
    const note = await this.#anchor.note()
    const left = note === null ? [] : decodeNames(note)
    for (const number of this.#cores.journals()) {
      // One behind the newest was begun and never named: it is the next one.
      if (number < this.#active.number) left.push({ kind: 'journal', number })
    }
    await this.#cores.deleteBuild('flush')
    // A merge goes on where it was cut off; runs that came since are newer than its own.
    const { runs } = this.#layout
    for (let from = 0; from < runs.length; from++) {
      const inputs = runs.slice(from)
      const name = mergeName(inputs)
      if (await this.#cores.hasBuild(name)) this.#unfinished ??= inputs
      // Cut off in its last moment, the name alone is left.
      else await this.#cores.deleteBuild(name)
    }
    for (const name of left) {
      const key = coreKey(name)
      if (!named.has(key) && !this.#replaced.has(key)) this.#goes(name)
    }
  }

  /** Between two small pieces of work. @throws `stopped` at the end of the index */
  async #turn(lane: Lane): Promise<void> {
    this.#wake()
    await this.#paces[lane].turn()
    // Cut off: at the next start a merge goes on from here, anything else is begun anew.
    if (this.#closed) throw stopped
  }

  /** Looks again when something is due: cores to delete, an index that is quiet. */
  #look(): void {
    if (this.#closed || this.#readOnly || this.#failure !== null) return
    const now = performance.now()
    let next = this.#needsTidying() ? this.#written + this.#limits.quietMs : Infinity
    let bytes = 0
    for (const one of this.#replaced.values()) if (!one.isGoing) bytes += one.bytes
    const bytesMax = Math.max(indexReplacedBytesMin, indexReplacedShare * this.#liveBytes())
    const early = Math.max(0, this.#limits.graceMs - indexGraceMinMs)
    for (const { at } of this.#history.values()) {
      if (at + this.#limits.historyMs > now) next = Math.min(next, at + this.#limits.historyMs)
    }
    // The oldest first.
    for (const [key, one] of this.#replaced) {
      // Who reads in an older state reads on in it, for as long as it takes.
      if (one.isGoing || [...this.#older.values()].some((keys) => keys.has(key))) continue
      const due = bytes <= bytesMax ? one.at : one.at - early
      if (due > now) {
        next = Math.min(next, due)
        continue
      }
      bytes -= one.bytes
      this.#goes(one.name)
      this.#offer()
    }
    if (this.#timer) clearTimeout(this.#timer)
    this.#timer = null
    if (next <= now && !this.#isWorking)
      void this.#tidy(false).catch((error: unknown) => this.#fail(error))
    else if (next < Infinity) {
      this.#timer = setTimeout(() => this.#look(), Math.max(next - now, 100)).unref()
    }
  }

  /** Deletes a core; until it is gone, the note names it. */
  #goes(name: CoreName): void {
    const key = coreKey(name)
    const going: Replaced = { name, at: 0, bytes: 0, isGoing: true }
    this.#replaced.set(key, going)
    void this.#cores.delete(name).then(() => {
      if (this.#replaced.get(key) === going) this.#replaced.delete(key)
    })
  }

  #needsTidying(): boolean {
    if (this.#environment.hasRoom?.() === false) return false
    return this.#hasLargeJournal() || this.#hasLargeRuns() || this.#hasOldHistory()
  }

  #hasLargeJournal(): boolean {
    const largest = this.#layout.runs.at(-1)?.entries ?? 0
    const { entries } = this.#active
    return entries >= Math.max(this.#limits.tidyEntriesMin, largest * indexTidyShare)
  }

  #hasLargeRuns(): boolean {
    const { runs } = this.#layout
    const upper = entriesOfRuns(runs.slice(0, -1))
    return (
      upper >= Math.max(this.#limits.tidyEntriesMin, (runs.at(-1)?.entries ?? 0) * indexTidyShare)
    )
  }

  #hasOldHistory(): boolean {
    return this.#trimmed(this.#layout).kept.length < this.#layout.kept.length
  }

  /** Of an index that is quiet: gives back the space of what was overwritten. */
  async #tidy(whole: boolean): Promise<void> {
    await this.#write(async () => {
      if (this.#active.entries === 0 || !(whole || this.#hasLargeJournal())) return
      await this.#keepPace(0)
      await this.#nextJournal()
    })
    this.#kick()
    await this.#worked()
    if (this.#closed || this.#failure !== null) return
    if (this.#layout.runs.length > 1 && (whole || this.#hasLargeRuns())) {
      this.#start('merge', () => this.#merge())
      await this.#lanes.merge
    }
    if (this.#hasOldHistory() && !this.#closed) {
      await this.#change((layout) => ({ ...this.#trimmed(layout), event: 'dropped' }))
    }
  }

  #fail(error: unknown): void {
    if (this.#closed || this.#failure !== null) return
    this.#failure = error
    this.#wake()
    this.#environment.failed(error)
  }

  #usable(): void {
    assert(!this.#readOnly, 'an index that may go on')
    if (this.#failure !== null) {
      throw new KVSwarmError('CLOSED', `the index stopped: ${messageOf(this.#failure)}`, {
        hint: 'restart the node; nothing that was not durable was acknowledged',
        cause: this.#failure
      })
    }
    if (this.#closed) throw new KVSwarmError('CLOSED', 'the index is closed')
  }
}

interface Replaced {
  readonly name: CoreName
  /** Monotonic milliseconds. */
  readonly at: number
  readonly bytes: number
  /** It is being deleted. */
  readonly isGoing: boolean
}

type Lane = 'flush' | 'merge'
type Task = () => Promise<void>

/** The name under which runs are merged: of these alone. */
function mergeName(runs: readonly RunState[]): string {
  const digest = createHash('sha256')
  for (const { hash } of runs) digest.update(hash)
  return `merge ${digest.digest('hex').slice(0, 16)}`
}

/** Ends a piece of work at the end of the index. */
const stopped: Error = new Error('the index is closed')

function entriesOfRuns(runs: readonly RunState[]): number {
  return runs.reduce((sum, { entries }) => sum + entries, 0)
}
