/**
 * The disk of a simulated node: logs that share one write-ahead log, and two files beside it that are synced by
 * themselves (high-water marks, state).
 *
 * Invariant: a power cut keeps what was synced, and of the rest of the write-ahead log a prefix; a killed process
 * loses nothing of it, but nothing of it is synced by that either.
 */
import type { IndexChange } from '../../lib/ports.ts'
import type { DecodedBlock } from '../../lib/wire/blocks.ts'
import type { Random } from '../helpers/random.ts'

export interface SimBlock {
  /** No two blocks that were ever made have the same. */
  readonly id: number
  /** Of an outbox; null in an index. */
  readonly content: DecodedBlock | null
  /** Of an index. */
  readonly changes: readonly IndexChange[]
  /** The operations in it. */
  readonly operations: readonly number[]
  /** The flushes that they are of. */
  readonly requests: readonly number[]
}

/** One generation of a log. */
export interface SimLog {
  readonly blocks: (SimBlock | undefined)[]
  /** Blocks that are known to exist. */
  length: number
}

export type Logs = Map<string, SimLog>

export interface SimMark {
  readonly length: number
  readonly hashLength: number
  /** Id of the last block that was hashed: no other log has it. */
  readonly hash: number
}

type Change = (logs: Logs) => void

export interface Image {
  readonly logs: Logs
  readonly state: Map<string, unknown>
}

export class Disk {
  /** As the process sees it. */
  logs: Logs = new Map()
  marks: Map<string, SimMark> = new Map()
  header: { readonly clean: boolean; readonly durability: 'sync' | 'os' } | null = null
  state: Map<string, unknown> = new Map()
  #durable: Logs = new Map()
  #pending: Change[] = []
  #count = 0
  #marking: [string, SimMark][][] = []

  get durable(): Logs {
    return this.#durable
  }

  write(change: Change): void {
    change(this.logs)
    this.#pending.push(change)
  }

  append(key: string, blocks: readonly SimBlock[]): void {
    this.write((logs) => {
      const log = logs.get(key) ?? { blocks: [], length: 0 }
      logs.set(key, log)
      for (const block of blocks) log.blocks[log.length++] = block
    })
  }

  /** What a sync that begins now will have synced. */
  beginSync(): number {
    return this.#count + this.#pending.length
  }

  endSync(upTo: number): void {
    while (this.#count < upTo) {
      this.#pending.shift()?.(this.#durable)
      this.#count++
    }
  }

  beginMarks(marks: [string, SimMark][]): void {
    this.#marking.push(marks)
  }

  endMarks(marks: [string, SimMark][]): void {
    this.#marking = this.#marking.filter((other) => other !== marks)
    for (const [key, mark] of marks) this.marks.set(key, mark)
  }

  kill(): void {
    for (const marks of this.#marking) this.endMarks(marks)
  }

  /** @returns how many writes were lost */
  power({ int, chance }: Random): number {
    const kept = int(0, this.#pending.length)
    const lost = this.#pending.length - kept
    this.endSync(this.#count + kept)
    this.#pending = []
    this.#count += lost
    this.logs = copyOf(this.#durable)
    for (const marks of this.#marking) {
      for (const mark of marks) if (chance(0.5)) this.marks.set(...mark)
    }
    this.#marking = []
    return lost
  }

  image(): Image {
    return { logs: copyOf(this.#durable), state: new Map(this.state) }
  }

  restore({ logs, state }: Image): void {
    this.#durable = copyOf(logs)
    this.logs = copyOf(logs)
    this.state = new Map(state)
    this.#pending = []
    this.#marking = []
    // A copy says of none of its logs that it is whole.
    this.marks.clear()
    this.header = null
  }
}

function copyOf(logs: Logs): Logs {
  const copy: Logs = new Map()
  for (const [key, { blocks, length }] of logs) copy.set(key, { blocks: [...blocks], length })
  return copy
}
