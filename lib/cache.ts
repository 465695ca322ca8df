/**
 * The write cache: put and del since the last flush, in memory only.
 *
 * Invariant: an operation leaves the cache for good exactly when it is in an outbox; until then it counts against
 * the cache's bounds.
 */
import { cacheBytesMax, cacheOperationsMax } from '../config/limits.ts'
import { KVSwarmError } from './errors.ts'
import type { Operation } from './types.ts'
import { operationBytes } from './wire/blocks.ts'

/** Operations that were taken out to be written, with their places; both in the order of the calls. */
export interface Taken {
  readonly operations: readonly Operation[]
  readonly places: readonly number[]
  readonly bytes: number
}

export class WriteCache {
  readonly #bytesMax: number
  readonly #operationsMax: number
  #operations: Operation[] = []
  /** The running number of each operation, rising: which ones a call of flush() means. */
  #places: number[] = []
  #next = 0
  /** Bytes in here, and bytes and operations that are taken and not settled. */
  #bytes = 0
  #takenBytes = 0
  #takenCount = 0

  /** @param bounds for tests; bytes and operations. @default those of config/limits.ts */
  constructor(bounds: { readonly bytes?: number; readonly operations?: number } = {}) {
    this.#bytesMax = bounds.bytes ?? cacheBytesMax
    this.#operationsMax = bounds.operations ?? cacheOperationsMax
  }

  /** Operations in here, without those that are taken. */
  get size(): number {
    return this.#operations.length
  }

  /** The place that the next operation gets: everything put so far is below it. */
  get end(): number {
    return this.#next
  }

  /** Bytes of all that counts against the bound. */
  get bytes(): number {
    return this.#bytes + this.#takenBytes
  }

  /** Operations that count against the bound. */
  get held(): number {
    return this.size + this.#takenCount
  }

  /** @returns the operation's place. @throws CACHE_FULL */
  add(operation: Operation): number {
    const bytes = operationBytes(operation)
    const { bytes: heldBytes, held } = this
    if (heldBytes + bytes > this.#bytesMax || held >= this.#operationsMax) {
      throw new KVSwarmError(
        'CACHE_FULL',
        `the write cache holds ${held} operations of ${heldBytes} bytes`,
        { hint: 'call flush() and wait for it before more is put' }
      )
    }
    this.#operations.push(operation)
    this.#places.push(this.#next)
    this.#bytes += bytes
    return this.#next++
  }

  /** Forgets the operations with these places, as far as they are in here. */
  drop(places: ReadonlySet<number>): void {
    if (places.size === 0 || !this.#places.some((place) => places.has(place))) return
    const kept = [...this.#places.keys()].filter((at) => !places.has(this.#places[at] as number))
    this.#operations = pick(this.#operations, kept)
    this.#places = pick(this.#places, kept)
    this.#bytes = bytesOf(this.#operations)
  }

  /** Forgets everything that is not taken. */
  clear(): void {
    this.#operations = []
    this.#places = []
    this.#bytes = 0
  }

  /** Takes out what has a place below `end`, to be given to settle() later. */
  take(end: number): Taken {
    const operations = this.#operations
    const places = this.#places
    let count = places.length
    if ((places.at(-1) ?? -1) >= end) count = places.findIndex((place) => place >= end)
    this.#operations = operations.splice(count)
    this.#places = places.splice(count)
    const restBytes = bytesOf(this.#operations)
    const bytes = this.#bytes - restBytes
    this.#bytes = restBytes
    this.#takenBytes += bytes
    this.#takenCount += operations.length
    return { operations, places, bytes }
  }

  /** Of what was taken, `unwritten` (positions in it, rising) goes back in front; the rest is in an outbox. */
  settle(taken: Taken, unwritten: readonly number[] | 'all'): void {
    this.#takenBytes -= taken.bytes
    this.#takenCount -= taken.operations.length
    if (unwritten.length === 0) return
    const back = unwritten === 'all' ? taken.operations : pick(taken.operations, unwritten)
    const places = unwritten === 'all' ? taken.places : pick(taken.places, unwritten)
    this.#operations = [...back, ...this.#operations]
    this.#places = [...places, ...this.#places]
    this.#bytes += bytesOf(back)
  }
}

function bytesOf(operations: readonly Operation[]): number {
  let bytes = 0
  for (const operation of operations) bytes += operationBytes(operation)
  return bytes
}

function pick<T>(list: readonly T[], positions: readonly number[]): T[] {
  return positions.filter((at) => at < list.length).map((at) => list[at] as T)
}
