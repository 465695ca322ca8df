/**
 * The write cache: put and del since the last flush, in memory only.
 *
 * Invariant: an operation leaves the cache exactly when it is in an outbox, or when it is known that it will be
 * found there by its request id.
 */
import { cacheBytesMax, cacheOperationsMax } from '../config/limits.ts'
import { KVSwarmError } from './errors.ts'
import type { Operation } from './types.ts'
import { operationBytes } from './wire/blocks.ts'

export class WriteCache {
  #operations: Operation[] = []
  #bytes = 0

  get size(): number {
    return this.#operations.length
  }

  /** @throws CACHE_FULL */
  add(operation: Operation): void {
    const bytes = operationBytes(operation)
    if (this.#bytes + bytes > cacheBytesMax || this.#operations.length >= cacheOperationsMax) {
      throw new KVSwarmError(
        'CACHE_FULL',
        `the write cache holds ${this.#operations.length} operations of ${this.#bytes} bytes`,
        { hint: 'call flush() and wait for it before more is put' }
      )
    }
    this.#operations.push(operation)
    this.#bytes += bytes
  }

  /** Everything in it, in order; it is empty afterwards. */
  take(): Operation[] {
    const taken = this.#operations
    this.#operations = []
    this.#bytes = 0
    return taken
  }

  /** Puts operations back in front: they did not get into an outbox. */
  restore(operations: readonly Operation[]): void {
    for (const operation of operations) this.#bytes += operationBytes(operation)
    this.#operations = [...operations, ...this.#operations]
  }
}
