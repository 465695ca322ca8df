/**
 * A full copy of another node's index: it downloads the journals, and makes the runs itself, as their node did: same
 * entries, same blocks, same keys. Only what it cannot make (at its start, or when it was away for long) it downloads.
 *
 * Invariant: `head` names a state of which every block is here.
 */
import { indexReadingMs } from '../../config/limits.ts'
import { isKVSwarmError, KVSwarmError } from '../errors.ts'
import type { CoreLease, OwnIndexCores } from '../index-ports.ts'
import type { Head, Log } from '../ports.ts'
import type { Entries, StoredValue } from '../wire/index-blocks.ts'
import { compareTexts, type KeyText } from '../wire/index-bytes.ts'
import { decodeLayout, type IndexLayout, type RunState } from '../wire/index-state.ts'
import { entriesIn, entriesOf, makeRun, Pace, Progress, type Ingredients } from './compactor.ts'
import { readingOf } from './fetch.ts'
import { leftBehind, namesOf, runName } from './names.ts'
import { endable, LayoutScope } from './scope.ts'
import { entriesBefore } from './steps.ts'

export type CopyCores = Pick<
  OwnIndexCores,
  'open' | 'build' | 'deleteBuild' | 'blocks' | 'delete' | 'close'
>

/** Blocks that are asked for at a time. */
const aheadBlocks = 64

export class FullCopy {
  readonly #anchor: Log
  readonly #cores: CopyCores
  readonly #failed: (error: unknown) => void
  readonly #ended: AbortController = endable()
  readonly #pace = new Pace()
  readonly #listeners = new Set<() => void>()
  #layout: IndexLayout | null = null
  #scope: LayoutScope | null = null
  /** Blocks of the anchor that were followed. */
  #followed = 0
  #head: Head
  #stopNewest: () => void = () => {}
  #poked = true
  #wake: () => void = () => {}
  readonly #stopListening: () => void
  readonly #running: Promise<void>
  /** Runs that were made here, and that were downloaded; bytes of all blocks that were fetched. */
  readonly counts: { made: number; downloaded: number; bytes: number } = {
    made: 0,
    downloaded: 0,
    bytes: 0
  }

  /** @param failed told when the disk fails, or what the node signs makes no sense; it stops then */
  constructor(anchor: Log, cores: CopyCores, failed: (error: unknown) => void) {
    this.#anchor = anchor
    this.#cores = cores
    this.#failed = failed
    this.#head = { generation: anchor.generation, length: 0 }
    this.#stopListening = anchor.onChange(() => this.#poke())
    this.#running = this.#run()
  }

  /** All of it is here. */
  get head(): Head {
    return this.#head
  }

  /** Of which cores the index consists; all of them are here. */
  get layout(): IndexLayout | null {
    return this.#layout
  }

  onHead(listener: () => void): () => void {
    this.#listeners.add(listener)
    return () => this.#listeners.delete(listener)
  }

  async close(): Promise<void> {
    this.#ended.abort(new KVSwarmError('CLOSED', 'the copy is closed'))
    this.#stopListening()
    this.#stopNewest()
    this.#poke()
    await this.#running
    this.#scope?.release()
    await this.#cores.close()
    await this.#anchor.close()
  }

  #poke(): void {
    this.#poked = true
    this.#wake()
  }

  get #closed(): boolean {
    return this.#ended.signal.aborted
  }

  async #run(): Promise<void> {
    while (!this.#closed) {
      if (!this.#poked) await new Promise<void>((resolve) => (this.#wake = resolve))
      this.#poked = false
      try {
        await this.#follow()
        await this.#growth()
      } catch (error) {
        if (this.#closed) return
        // It was too slow: it goes on with the newest state.
        if (isKVSwarmError(error, 'INDEX_REPLACED', 'TIMEOUT')) {
          this.#followed = Math.max(this.#followed, this.#anchor.length - 1)
          this.#poked = true
          continue
        }
        return this.#failed(error)
      }
    }
  }

  async #follow(): Promise<void> {
    // From the start on it takes the newest state; what led to it is gone.
    if (this.#layout === null) this.#followed = Math.max(0, this.#anchor.length - 1)
    while (this.#followed < this.#anchor.length && !this.#closed) {
      const { signal } = this.#ended
      const block = await this.#anchor.get(this.#followed, { timeout: Infinity, signal })
      if (block === null) return
      this.counts.bytes += block.length
      await this.#adopt(decodeLayout(block))
      this.#followed++
    }
  }

  async #adopt(layout: IndexLayout): Promise<void> {
    const before = this.#layout
    const scope = new LayoutScope(this.#cores, layout)
    if (this.#followed + 1 < this.#anchor.length) scope.replaced()
    try {
      for (const { number, length } of [...layout.kept, ...layout.journals]) {
        await this.#fetchAll(await scope.lease({ kind: 'journal', number }), length)
      }
      for (const run of layout.runs.toReversed()) {
        if (before?.runs.some((one) => sameRun(one, run))) continue
        const ingredients = before ? await this.#ingredients(before, layout) : null
        if (ingredients && (await this.#make(ingredients, run))) continue
        await this.#fetchAll(await scope.lease(runName(run)), run.length)
        this.counts.downloaded++
      }
      // What it consists of is open from here on: it is not deleted under us.
      for (const name of namesOf(layout)) await scope.lease(name)
    } catch (error) {
      scope.release()
      throw error
    }
    this.#scope?.release()
    this.#scope = scope
    this.#layout = layout
    for (const name of before ? leftBehind(before, layout) : []) void this.#cores.delete(name)
    const newest = layout.journals.at(-1)
    if (!newest) return
    const lease = await scope.lease({ kind: 'journal', number: newest.number })
    this.#stopNewest()
    this.#stopNewest = lease.onChange(() => this.#poke())
    this.#moved(newest.base)
  }

  /** The newest journal, as far as it is known. */
  async #growth(): Promise<void> {
    const newest = this.#layout?.journals.at(-1)
    if (!newest || !this.#scope) return
    const lease = await this.#scope.lease({ kind: 'journal', number: newest.number })
    const { length } = lease
    await this.#fetchAll(lease, length)
    this.#moved(newest.base + length)
  }

  #moved(length: number): void {
    if (length <= this.#head.length) return
    this.#head = { ...this.#head, length }
    for (const listener of [...this.#listeners]) listener()
  }

  async #fetchAll(core: CoreLease, length: number): Promise<void> {
    const { signal } = this.#ended
    for (let from = 0; from < length; from += aheadBlocks) {
      const count = Math.min(aheadBlocks, length - from)
      const fetching = Array.from({ length: count }, async (_, at) => {
        const here = await core.get(from + at, { wait: false })
        if (here !== null) return
        const block = await core.get(from + at, { timeout: indexReadingMs, signal })
        this.counts.bytes += block?.length ?? 0
      })
      const ended = await Promise.allSettled(fetching)
      for (const one of ended) if (one.status === 'rejected') throw one.reason
    }
  }

  /** What the new run of a layout was made of; null when that cannot be told. */
  async #ingredients(before: IndexLayout, layout: IndexLayout): Promise<Ingredients | null> {
    if (layout.event === 'flushed') {
      const [journal] = before.journals
      const length = layout.kept.find(({ number }) => number === journal?.number)?.length
      if (!journal || !length) return null
      const entries = await this.#entriesOfJournal(journal.number, length)
      const isWhole = before.runs.length === 0
      return { parts: () => [entriesIn(entries)], entries: entries.keys.length, isWhole }
    }
    if (layout.event !== 'merged') return null
    const inputs = before.runs.filter((run) => !layout.runs.some((one) => sameRun(one, run)))
    const entries = inputs.reduce((sum, run) => sum + run.entries, 0)
    return { parts: () => inputs.map((run) => entriesOf(this.#cores, run)), entries, isWhole: true }
  }

  async #entriesOfJournal(number: number, length: number): Promise<Entries> {
    const core = await this.#cores.open({ kind: 'journal', number })
    try {
      const found = new Map<KeyText, StoredValue>()
      const steps = entriesBefore(core, length, () => readingOf({ wait: false }))
      for await (const { keys, values } of steps) {
        for (const [at, key] of keys.entries()) {
          if (!found.has(key)) found.set(key, values[at] as StoredValue)
        }
      }
      const keys = [...found.keys()].toSorted(compareTexts)
      return { keys, values: keys.map((key) => found.get(key) as StoredValue) }
    } finally {
      core.release()
    }
  }

  /** False: it came out as another run than its node's. */
  async #make(ingredients: Ingredients, expected: RunState): Promise<boolean> {
    await this.#cores.deleteBuild('copy')
    this.#pace.begin()
    const made = await makeRun(
      this.#cores,
      'copy',
      ingredients,
      new Progress(ingredients.entries),
      () => this.#turn(),
      () => Promise.resolve()
    )
    if (made.run === null) return false
    if (sameRun(made.run, expected)) {
      this.counts.made++
      return true
    }
    void this.#cores.delete(runName(made.run))
    return false
  }

  async #turn(): Promise<void> {
    await this.#pace.turn()
    this.#ended.signal.throwIfAborted()
  }
}

function sameRun(one: RunState, other: RunState): boolean {
  return one.length === other.length && Buffer.compare(one.hash, other.hash) === 0
}
