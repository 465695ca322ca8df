/**
 * The work of an index in the background, a little at a time: journals become runs, runs are merged, dead large values
 * are left behind.
 *
 * - It works a moment and rests as long, unless somebody waits for it; a journal that waits goes before a merge.
 * - `progress` says how much of it is done, so that a writer can be held to the pace at which it is.
 * - What it makes depends on the entries alone: who has the journals can make the same runs.
 */
import { indexRestMaxMs, indexSliceMs, indexTopBytesMax } from '../../config/limits.ts'
import type { CoreName, OwnIndexCores, RunFile } from '../index-ports.ts'
import {
  decodeEntries,
  kindOf,
  lastNotAbove,
  type Entries,
  type StoredValue
} from '../wire/index-blocks.ts'
import type { KeyText } from '../wire/index-bytes.ts'
import type { RunState } from '../wire/index-state.ts'
import { RunBuilder } from './builder.ts'
import { mergeParts } from './merge.ts'
import { runName } from './names.ts'

/** What a run is made of. */
export interface Ingredients {
  /** What comes behind a key (null: everything), in the order of their age, the newest first. */
  readonly parts: (after: KeyText | null) => readonly AsyncGenerator<Entries>[]
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
  /** It was begun before the last start: of what was done then, `dead` knows nothing. */
  readonly resumed: boolean
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

  /** Work begins now; it rested before. */
  begin(): void {
    this.#worked = performance.now()
  }

  /** Somebody waits: no rests for now. */
  hurry(hurried: boolean): void {
    this.#hurried = hurried
    if (hurried) this.#wake?.()
  }

  /** To be called between two small pieces of work. */
  async turn(): Promise<void> {
    const worked = performance.now() - this.#worked
    if (worked < indexSliceMs) return
    // A piece that took long by itself waited for the disk, most likely.
    const rest = Math.min(worked, indexRestMaxMs)
    await new Promise<void>((resolve) => {
      if (this.#hurried) {
        setImmediate(resolve)
        return
      }
      const timer = setTimeout(resolve, rest)
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
 * Writes a run, or goes on with it where an earlier session ended. Resolves when it is durable.
 * @param name of what is being written; it stands for these ingredients, or what lies under it is deleted before
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
  let file = await cores.build(name, about)
  let begun = await readBegun(file)
  if (begun === null) {
    // Its fences are there already: it was about to be finished.
    await file.leave()
    await cores.deleteBuild(name)
    file = await cores.build(name, about)
    begun = { builder: new RunBuilder(0), last: null }
  }
  const { builder, last } = begun
  progress.done += builder.entries
  let waiting: Uint8Array[] = []
  const merged = mergeParts(parts(last), false, dropped)
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
      return { run: null, dead, resumed: last !== null }
    }
    const { top, entries, bytes } = builder.finish()
    await file.append([...waiting, ...builder.take()])
    const { hash, length } = await file.finish()
    const told = top.length <= indexTopBytesMax ? top : new Uint8Array(0)
    return { run: { hash, length, entries, bytes, top: told }, dead, resumed: last !== null }
  } catch (error) {
    await file.leave().catch(() => {})
    throw error
  } finally {
    await merged.return(undefined)
  }
}

/** A builder as it was when what is in the file was made. Null: it has got to the fences. */
async function readBegun(
  file: RunFile
): Promise<{ builder: RunBuilder; last: KeyText | null } | null> {
  const builder = new RunBuilder(0)
  let last: KeyText | null = null
  for (let at = 0; at < file.length; at++) {
    const block = await file.get(at)
    if (block[0] === kindOf.fence) return null
    const { keys, values } = decodeEntries(block)
    for (const [place, key] of keys.entries()) builder.add(key, values[place] as StoredValue)
    last = keys.at(-1) ?? last
  }
  // What comes next begins a block, as it did.
  builder.end()
  builder.take()
  return { builder, last }
}

/**
 * The entries of a run of ours, from the disk, past the cache of blocks that reads use.
 * @param after from behind this key on; null: all
 */
export async function* entriesOf(
  cores: Pick<OwnIndexCores, 'blocks' | 'open'>,
  run: RunState,
  after: KeyText | null = null
): AsyncGenerator<Entries> {
  const { length } = run
  const name = runName(run)
  const from = after === null ? 0 : await firstBlockAfter(cores, name, length, after)
  for await (const block of cores.blocks(name, from, length)) {
    // The fences come behind.
    if (block[0] === kindOf.fence) return
    const { keys, values } = decodeEntries(block)
    const skip = after === null ? 0 : lastNotAbove(keys, after) + 1
    if (skip < keys.length) yield { keys: keys.slice(skip), values: values.slice(skip) }
  }
}

/** The last block of entries that begins at or before a key, or the first one. */
async function firstBlockAfter(
  cores: Pick<OwnIndexCores, 'open'>,
  name: CoreName,
  length: number,
  key: KeyText
): Promise<number> {
  const core = await cores.open(name)
  try {
    let low = 0
    let high = length
    while (low + 1 < high) {
      const middle = (low + high) >>> 1
      const block = await core.get(middle, { wait: false })
      const isBefore =
        block?.[0] === kindOf.entries && (decodeEntries(block).keys[0] as KeyText) <= key
      if (isBefore) low = middle
      else high = middle
    }
    return low
  } finally {
    core.release()
  }
}

/** The entries of sources in memory. */
export async function* entriesIn(entries: Entries): AsyncGenerator<Entries> {
  if (entries.keys.length > 0) yield entries
}
