/**
 * What the two kinds of simulated nodes share: coroutines that stop before each effect, and the start.
 *
 * A node here is a thin shell: it reads, writes, syncs and sends in the order in which the program does, and leaves
 * every decision to lib/protocol. Each `yield` is a moment at which anything else can happen, a crash as well.
 */
import {
  goesOnWithHashAt,
  isSuspect,
  nextGenerationAfter,
  type LastEnd
} from '../../lib/protocol/startup.ts'
import { Disk, type SimBlock, type SimMark } from './disk.ts'
import type { World } from './world.ts'

export type Task = Generator<string, void, void>

export interface Worker {
  readonly name: string
  readonly isReady: () => boolean
  readonly task: Task
  /** In the middle of something. */
  busy: boolean
}

const sealed: SimMark = { length: Number.MAX_SAFE_INTEGER, hashLength: 0, hash: 0 }

export abstract class SimNode {
  readonly id: string
  readonly name: string
  readonly kind: 'index' | 'outbox'
  readonly world: World
  readonly disk: Disk = new Disk()
  workers: Worker[] = []
  /** Runs, and has opened what it has. */
  isUp = false
  isRunning = false
  durability: 'sync' | 'os' = 'sync'

  constructor(world: World, id: string, name: string, kind: 'index' | 'outbox') {
    this.world = world
    this.id = id
    this.name = name
    this.kind = kind
  }

  start(): void {
    this.isRunning = true
    this.workers = []
    this.work('boot', () => true, this.boot())
  }

  stop(): void {
    this.isRunning = false
    this.isUp = false
    this.workers = []
    this.world.net.cut(this)
  }

  work(name: string, isReady: () => boolean, task: Task): void {
    this.workers.push({ name, isReady, task, busy: false })
  }

  protected abstract boot(): Task
  /** Both can talk to each other from now on. */
  abstract connected(other: SimNode): void
  abstract received(from: SimNode, message: Message): void
  abstract disconnected(other: SimNode): void

  /** The barrier: behind it, everything that was written before is on disk, and then the marks. */
  protected *barrier(marks: [string, SimMark][] = []): Task {
    const upTo = this.disk.beginSync()
    yield 'sync'
    this.disk.endSync(upTo)
    if (marks.length > 0) yield* this.mark(marks)
  }

  protected *mark(marks: [string, SimMark][]): Task {
    this.disk.beginMarks(marks)
    yield 'marks'
    this.disk.endMarks(marks)
  }

  /** As the store opens: what may have lost a tail is sealed before anything else. */
  protected *openStore(): Task {
    const { disk } = this
    yield* this.barrier()
    const last: LastEnd = disk.header
    const keys = this.ownKeys()
    const suspects = keys.filter((key) => isSuspect(this.kind, last) && key !== '')
    if (suspects.length > 0) yield* this.mark(suspects.map((key) => [key, sealed]))
    disk.header = { clean: false, durability: this.durability }
    yield 'opened'
  }

  protected abstract isOwn(key: string): boolean

  ownKeys(): string[] {
    const { marks, logs, header } = this.disk
    const keys = header === null ? logs.keys() : marks.keys()
    return [...keys].filter((key) => this.isOwn(key))
  }

  protected *isWhole(key: string): Generator<string, boolean, void> {
    const log = this.disk.logs.get(key) ?? { blocks: [], length: 0 }
    const mark = this.disk.marks.get(key) ?? null
    const hashLength = goesOnWithHashAt(mark, { length: log.length, contiguous: log.length })
    const whole =
      hashLength !== null && (hashLength === 0 || log.blocks[hashLength - 1]?.id === mark?.hash)
    if (!whole) yield* this.mark([[key, sealed]])
    return whole
  }

  /** Appends to a log of ours, behind the barrier unless the node does without for it. */
  protected *append(key: string, blocks: readonly SimBlock[], sync: boolean): Task {
    const { disk } = this
    yield 'append'
    disk.append(key, blocks)
    const log = disk.logs.get(key)
    if (sync && log) {
      const { length } = log
      const hash = log.blocks[length - 1]?.id ?? 0
      yield* this.barrier([[key, { length, hashLength: length, hash }]])
    }
    yield 'appended'
  }

  /** The number is used from here on, whatever becomes of it. */
  protected *begin(key: string): Task {
    this.disk.append(key, [])
    yield* this.barrier([[key, { length: 0, hashLength: 0, hash: 0 }]])
  }

  protected *deleteLogs(keys: readonly string[], own: boolean): Task {
    for (const key of keys) {
      yield 'delete'
      this.disk.write((logs) => logs.delete(key))
      if (!own) continue
      yield* this.barrier()
      this.disk.marks.delete(key)
    }
  }

  protected nextGeneration(numbers: readonly number[]): number {
    return nextGenerationAfter(numbers.at(-1) ?? null, this.world.now)
  }
}

export type Message =
  | { readonly type: 'record'; readonly generation: number }
  | { readonly type: 'length'; readonly generation: number; readonly length: number }
  | { readonly type: 'want'; readonly generation: number; readonly block: number }
  | {
      readonly type: 'block'
      readonly generation: number
      readonly block: number
      readonly length: number
      readonly data: SimBlock
    }
  | { readonly type: 'oldest' | 'rotate'; readonly generation: number }
  | { readonly type: 'ack'; readonly generation: number; readonly length: number }
  | { readonly type: 'head'; readonly generation: number; readonly length: number }
  | {
      readonly type: 'applied'
      readonly generation: number
      readonly length: number
      readonly head: { readonly generation: number; readonly length: number }
    }
