/**
 * The cores of an index in memory, on a disk that outlives crashes: thousands of lives take seconds.
 *
 * - Each change takes effect after a moment, in the order in which the moments end. A life can be set to end at any one
 *   of them, just before or just after its effect; from then on nothing of that life does anything, and what it has
 *   asked for never resolves.
 * - Leases and deletions behave as those of lib/hyper/index-cores.ts do.
 */
import { createHash } from 'node:crypto'
import {
  coreKey,
  type CoreLease,
  type CoreName,
  type OwnIndexCores,
  type RunFile
} from '../../lib/index-ports.ts'
import type { Log, ReadOptions } from '../../lib/ports.ts'
import { namesOf } from '../../lib/lsm/names.ts'
import { decodeLayout } from '../../lib/wire/index-state.ts'
import type { LogName } from '../../lib/types.ts'
import type { Random } from '../helpers/random.ts'

/** What is on the disk: it is there after a crash. */
export class MemoryDisk {
  readonly anchor: Uint8Array[] = []
  note: Uint8Array | null = null
  readonly cores: Map<string, { readonly name: CoreName; readonly blocks: Uint8Array[] }> =
    new Map()
  readonly builds: Map<string, Uint8Array[]> = new Map()
  /** Bytes that were ever written to journals, and to runs. */
  journalBytes = 0
  runBytes = 0
}

function bytesOf(blocks: readonly Uint8Array[]): number {
  return blocks.reduce((sum, { length }) => sum + length, 0)
}

export type Effect =
  'begin' | 'append' | 'anchor' | 'note' | 'build' | 'finish' | 'delete' | 'delete build'

const node = 'a'.repeat(64)
const effectsMax = 200_000

/** A new one each time: who waits for one promise is held by it. */
const never = (): Promise<never> => new Promise(() => {})
let ids = 0

/** What one life of the node does with the disk. */
export class MemoryCores implements OwnIndexCores {
  readonly disk: MemoryDisk
  readonly random: Random
  /** Resolves when the life has ended by itself, with what it was about to do. */
  readonly crashed: Promise<Effect>
  /** Effects until the end of this life. */
  left: number = Infinity
  /** It ended by itself. */
  hasCrashed = false
  /** Cores that were deleted, or made again, in this life. */
  readonly dealtWith: Set<string> = new Set()
  #effects = 0
  #dead = false
  #crash: (effect: Effect) => void = () => {}
  readonly #ids = new Map<string, number>()
  readonly #leases = new Map<string, number>()
  readonly #doomed = new Map<string, CoreName>()
  readonly #deleting = new Map<string, Promise<void>>()
  readonly #unfinished = new Set<MemoryRun>()
  #notes: Promise<void> = Promise.resolve()
  #offered: ReadonlySet<string> = new Set()

  constructor(disk: MemoryDisk, random: Random) {
    this.disk = disk
    this.random = random
    this.crashed = new Promise((resolve) => {
      this.#crash = resolve
    })
  }

  /** A change of the disk; `effect` is the moment of it. */
  async change<T>(kind: Effect, effect: () => T): Promise<T> {
    await this.#moment()
    if (this.#dead) return await never()
    // Without this a loop of them would go on for ever: no timer would have its turn.
    if (++this.#effects > effectsMax) throw new Error('a life that does not come to an end')
    if (--this.left > 0) return effect()
    if (this.random.chance(0.5)) effect()
    this.#dead = true
    this.hasCrashed = true
    for (const run of this.#unfinished) run.crash()
    this.#crash(kind)
    return await never()
  }

  anchor(generation: number): Log {
    return new MemoryLog(this, { kind: 'index', node }, generation, this.disk.anchor, 'anchor')
  }

  async begin(number: number): Promise<Log> {
    const name: CoreName = { kind: 'journal', number }
    return await this.change('begin', () => {
      const known = this.disk.cores.get(coreKey(name))
      if (known && known.blocks.length > 0) throw new Error(`journal ${number} was used before`)
      this.disk.cores.set(coreKey(name), { name, blocks: [] })
      return this.#journal(number)
    })
  }

  async resume(number: number): Promise<Log> {
    await this.#moment()
    return this.#journal(number)
  }

  /** In the order of the calls. */
  setNote(note: Uint8Array): Promise<void> {
    this.#notes = this.#notes.then(() =>
      this.change('note', () => {
        this.disk.note = note
      })
    )
    return this.#notes
  }

  isWhole(): boolean {
    return true
  }

  journals(): number[] {
    const names = [...this.disk.cores.values()].map(({ name }) => name)
    return names.flatMap((name) => (name.kind === 'journal' ? [name.number] : []))
  }

  async build(name: string, about: (run: CoreName) => Promise<void>): Promise<RunFile> {
    const blocks = await this.change('build', () => {
      const known = this.disk.builds.get(name) ?? []
      this.disk.builds.set(name, known)
      return known
    })
    const run = new MemoryRun(this, name, blocks, about)
    this.#unfinished.add(run)
    return run
  }

  async hasBuild(name: string): Promise<boolean> {
    await this.#moment()
    return this.disk.builds.has(name)
  }

  async deleteBuild(name: string): Promise<void> {
    await this.change('delete build', () => this.disk.builds.delete(name))
  }

  offer(names: readonly CoreName[]): void {
    this.#offered = new Set(names.map(coreKey))
    for (const name of names) this.#doomed.delete(coreKey(name))
  }

  /** Who reads a new state asks for its cores at once, and once. */
  mustOffer(states: readonly Uint8Array[]): void {
    for (const name of namesOf(decodeLayout(states.at(-1) as Uint8Array))) {
      const isFirst = this.disk.anchor.length === 0
      if (!isFirst && !this.#offered.has(coreKey(name))) {
        throw new Error(`${coreKey(name)} is told of, and not offered`)
      }
    }
  }

  /** A core that is about to be made is not deleted any more, and one that is being deleted has gone. */
  async spare(name: CoreName): Promise<void> {
    this.#doomed.delete(coreKey(name))
    await this.#deleting.get(coreKey(name))
  }

  delete(name: CoreName): Promise<void> {
    const key = coreKey(name)
    if (this.#dead) return never()
    if ((this.#leases.get(key) ?? 0) === 0) return this.#deleteNow(name)
    this.#doomed.set(key, name)
    return never()
  }

  open(name: CoreName): Promise<CoreLease> {
    const key = coreKey(name)
    this.#leases.set(key, (this.#leases.get(key) ?? 0) + 1)
    return this.#open(name)
  }

  async *blocks(name: CoreName, from: number, to: number): AsyncGenerator<Uint8Array> {
    const lease = await this.open(name)
    try {
      for (let block = from; block < to; block++) {
        const bytes = await lease.get(block, { wait: false })
        if (bytes === null) throw new Error(`block ${block} of ${coreKey(name)} is not here`)
        yield bytes
      }
    } finally {
      lease.release()
    }
  }

  async close(): Promise<void> {
    await this.idle()
    this.#dead = true
  }

  /** Resolves when nothing is being deleted. */
  async idle(): Promise<void> {
    while (this.#deleting.size > 0) await Promise.all(this.#deleting.values())
    if (this.#dead) await never()
  }

  async #open(name: CoreName): Promise<CoreLease> {
    const key = coreKey(name)
    await this.#deleting.get(key)
    await this.#moment()
    const id = this.#ids.get(key) ?? ++ids
    this.#ids.set(key, id)
    const blocks = (): readonly Uint8Array[] => this.disk.cores.get(key)?.blocks ?? []
    let released = false
    return {
      id,
      get length() {
        return blocks().length
      },
      get: async (block: number, options: ReadOptions = {}) => {
        await this.#moment()
        if (released) throw new Error(`${key} is read after its release`)
        if (this.#dead) return await never()
        const bytes = blocks()[block]
        if (bytes !== undefined) return bytes
        return options.wait === false ? null : await aborted(options.signal)
      },
      onChange: () => () => {},
      release: () => {
        if (released) return
        released = true
        const left = (this.#leases.get(key) ?? 0) - 1
        this.#leases.set(key, left)
        if (left === 0 && this.#doomed.delete(key)) void this.#deleteNow(name)
      }
    }
  }

  #deleteNow(name: CoreName): Promise<void> {
    const key = coreKey(name)
    this.#ids.delete(key)
    const deleting = this.change('delete', () => {
      this.dealtWith.add(key)
      this.disk.cores.delete(key)
      this.#deleting.delete(key)
    })
    this.#deleting.set(key, deleting)
    return deleting
  }

  #journal(number: number): Log {
    const core = this.disk.cores.get(coreKey({ kind: 'journal', number }))
    if (!core) throw new Error(`journal ${number} is not on the disk`)
    return new MemoryLog(this, { kind: 'journal', node, index: 1 }, number, core.blocks, 'append')
  }

  async #moment(): Promise<void> {
    if (this.#dead) return await never()
    if (this.random.chance(0.9)) return
    const turns = this.random.int(1, 3)
    for (let turn = 0; turn < turns; turn++) await new Promise((resolve) => setImmediate(resolve))
  }
}

function aborted(signal: AbortSignal | undefined): Promise<never> {
  if (!signal) return never()
  return new Promise((_, reject) => {
    const abort = (): void => reject(signal.reason as Error)
    if (signal.aborted) abort()
    else signal.addEventListener('abort', abort, { once: true })
  })
}

class MemoryRun implements RunFile {
  readonly #cores: MemoryCores
  readonly #name: string
  readonly #blocks: Uint8Array[]
  readonly #about: (run: CoreName) => Promise<void>
  #finished = false

  constructor(
    cores: MemoryCores,
    name: string,
    blocks: Uint8Array[],
    about: (run: CoreName) => Promise<void>
  ) {
    this.#cores = cores
    this.#name = name
    this.#blocks = blocks
    this.#about = about
  }

  get length(): number {
    return this.#blocks.length
  }

  get(block: number): Promise<Uint8Array> {
    return Promise.resolve(this.#blocks[block] as Uint8Array)
  }

  async append(blocks: readonly Uint8Array[]): Promise<void> {
    await this.#cores.change('build', () => {
      this.#cores.disk.runBytes += bytesOf(blocks)
      this.#blocks.push(...blocks)
    })
  }

  async finish(): Promise<{ hash: Uint8Array; length: number }> {
    const sum = createHash('sha256')
    for (const block of this.#blocks) sum.update(`${block.length} `).update(block)
    const run: CoreName = {
      kind: 'run',
      hash: Uint8Array.from(sum.digest()),
      length: this.#blocks.length
    }
    await this.#about(run)
    await this.#cores.spare(run)
    await this.#cores.change('finish', () => {
      const { disk, dealtWith } = this.#cores
      dealtWith.add(coreKey(run))
      if (!disk.cores.has(coreKey(run))) {
        disk.cores.set(coreKey(run), { name: run, blocks: [...this.#blocks] })
      }
      disk.builds.delete(this.#name)
      this.#finished = true
    })
    return run
  }

  leave(): Promise<void> {
    return Promise.resolve()
  }

  /** What was not finished is not all on the disk. */
  crash(): void {
    if (this.#finished) return
    this.#blocks.length = this.#cores.random.int(0, this.#blocks.length)
  }
}

class MemoryLog implements Log {
  readonly name: LogName
  readonly generation: number
  readonly writable = true
  readonly #cores: MemoryCores
  readonly #blocks: Uint8Array[]
  readonly #kind: Effect

  constructor(
    cores: MemoryCores,
    name: LogName,
    generation: number,
    blocks: Uint8Array[],
    kind: Effect
  ) {
    this.name = name
    this.generation = generation
    this.#cores = cores
    this.#blocks = blocks
    this.#kind = kind
  }

  get length(): number {
    return this.#blocks.length
  }

  get bytes(): number {
    return bytesOf(this.#blocks)
  }

  async append(blocks: readonly Uint8Array[]): Promise<number> {
    return await this.#cores.change(this.#kind, () => {
      if (this.#kind === 'append') this.#cores.disk.journalBytes += bytesOf(blocks)
      else this.#cores.mustOffer(blocks)
      return this.#blocks.push(...blocks)
    })
  }

  has(block: number): boolean {
    return block < this.#blocks.length
  }

  firstMissing(from: number): number {
    return Math.max(from, this.#blocks.length)
  }

  get(block: number): Promise<Uint8Array | null> {
    return Promise.resolve(this.#blocks[block] ?? null)
  }

  bytesFrom(block: number): Promise<number> {
    return Promise.resolve(bytesOf(this.#blocks.slice(block)))
  }

  note(): Promise<Uint8Array | null> {
    return Promise.resolve(this.#cores.disk.note)
  }

  setNote(note: Uint8Array): Promise<void> {
    return this.#cores.setNote(note)
  }

  treeHash(): Promise<Uint8Array> {
    return Promise.resolve(new Uint8Array(32))
  }

  onChange(): () => void {
    return () => {}
  }

  onEnd(): () => void {
    return () => {}
  }

  close(): Promise<void> {
    return Promise.resolve()
  }
}
