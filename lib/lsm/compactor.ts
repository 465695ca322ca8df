/**
 * The work of an index in the background, a little at a time: journals become runs, runs are merged, dead large values
 * are left behind.
 *
 * - It works a moment and rests as long, unless somebody waits for it; a journal that waits goes before a merge.
 * - `progress` says how much of it is done, so that a writer can be held to the pace at which it is.
 * - What it makes depends on the entries alone: who has the journals can make the same runs.
 */
import { indexSliceMs, indexTopBytesMax } from '../../config/limits.ts'
import type { CoreName, OwnIndexCores } from '../index-ports.ts'
import { assert } from '../assert.ts'
import { decodeEntries, kindOf, type Entries, type StoredValue } from '../wire/index-blocks.ts'
import type { RunState } from '../wire/index-state.ts'
import { RunBuilder } from './builder.ts'
import { mergeParts } from './merge.ts'

/** What a run is made of. */
export interface Ingredients {
  /** In the order of their age, the newest first. */
  readonly parts: readonly AsyncGenerator<Entries>[]
  /** Entries of all of them: how much work it is. */
  readonly entries: number
  /** Nothing older is left that a deletion would have to hide. */
  readonly isWhole: boolean
}

export interface Made {
  /** Null: there is nothing in it. */
  readonly run: RunState | null
  /** Bytes of large values that belong to no entry any more, by journal. */
  readonly dead: ReadonlyMap<number, number>
}

/** How far a piece of work has come. */
export class Progress {
  readonly total: number
  done = 0

  constructor(total: number) {
    this.total = Math.max(1, total)
  }

  get share(): number {
    return Math.min(1, this.done / this.total)
  }
}

/** Rests between two moments of work, so that others have their turn. */
export class Pace {
  #worked = performance.now()
  #hurried = false
  #wake: (() => void) | null = null

  /** Somebody waits: no rests for now. */
  hurry(hurried: boolean): void {
    this.#hurried = hurried
    if (hurried) this.#wake?.()
  }

  /** To be called between two small pieces of work. */
  async turn(): Promise<void> {
    const worked = performance.now() - this.#worked
    if (worked < indexSliceMs) return
    await new Promise<void>((resolve) => {
      if (this.#hurried) {
        setImmediate(resolve)
        return
      }
      const timer = setTimeout(resolve, worked)
      this.#wake = () => {
        clearTimeout(timer)
        setImmediate(resolve)
      }
    })
    this.#wake = null
    this.#worked = performance.now()
  }
}

/** Blocks that are appended to a run at a time. */
const appendBlocks = 128

/**
 * Writes a run. Resolves when it is durable.
 * @param name of what is being written; one at a time has it
 * @param about told of the run's name just before it comes to be
 * @throws IO_ERROR, CLOSED, DATADIR_DAMAGED
 */
export async function makeRun(
  cores: Pick<OwnIndexCores, 'build' | 'deleteBuild'>,
  name: string,
  { parts, isWhole }: Ingredients,
  progress: Progress,
  turn: () => Promise<void>,
  about: (run: CoreName) => Promise<void>
): Promise<Made> {
  const dead = new Map<number, number>()
  const dropped = (value: StoredValue): void => {
    progress.done++
    if (value === null || value instanceof Uint8Array) return
    dead.set(value.journal, (dead.get(value.journal) ?? 0) + value.length)
  }
  await cores.deleteBuild(name)
  const file = await cores.build(name, about)
  const builder = new RunBuilder(0)
  let waiting: Uint8Array[] = []
  const merged = mergeParts(parts, false, dropped)
  try {
    for await (const { keys, values } of merged) {
      for (const [at, key] of keys.entries()) {
        const value = values[at] as StoredValue
        if (value !== null || !isWhole) builder.add(key, value)
      }
      progress.done += keys.length
      waiting.push(...builder.take())
      if (waiting.length >= appendBlocks) {
        await file.append(waiting)
        waiting = []
      }
      await turn()
    }
    if (builder.entries === 0) {
      await file.leave()
      await cores.deleteBuild(name)
      return { run: null, dead }
    }
    const { top, entries, bytes } = builder.finish()
    await file.append([...waiting, ...builder.take()])
    const { hash, length } = await file.finish()
    const told = top.length <= indexTopBytesMax ? top : new Uint8Array(0)
    return { run: { hash, length, entries, bytes, top: told }, dead }
  } catch (error) {
    await file.leave().catch(() => {})
    throw error
  } finally {
    await merged.return(undefined)
  }
}

/** The entries of a run of ours, from the disk, past the cache of blocks that reads use. */
export async function* entriesOf(
  cores: Pick<OwnIndexCores, 'blocks'>,
  { hash, length }: RunState
): AsyncGenerator<Entries> {
  let keys = 0
  for await (const block of cores.blocks({ kind: 'run', hash, length }, 0, length)) {
    // The fences come behind.
    if (block[0] === kindOf.fence) break
    const entries = decodeEntries(block)
    keys += entries.keys.length
    yield entries
  }
  assert(keys > 0, 'a run with entries')
}

/** The entries of sources in memory. */
export async function* entriesIn(entries: Entries): AsyncGenerator<Entries> {
  if (entries.keys.length > 0) yield entries
}
