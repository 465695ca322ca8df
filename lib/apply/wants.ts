/**
 * Blocks of one writer's outbox that are asked for: each can be given up by itself.
 *
 * Invariant: one request for a block at a time. One that ended with its log is forgotten, and made again at the
 * next look.
 */
import type { Log } from '../ports.ts'

export interface WantsEnvironment {
  /** A block came, and is stored. */
  arrived(generation: number, block: number, data: Uint8Array): void
  /** A request ended without its block; not for those that were given up. */
  failed(error: unknown): void
}

interface Want {
  readonly generation: number
  readonly block: number
  readonly abort: AbortController
}

export class Wants {
  readonly #environment: WantsEnvironment
  /** By `generation/block`. */
  readonly #wants = new Map<string, Want>()

  constructor(environment: WantsEnvironment) {
    this.#environment = environment
  }

  get size(): number {
    return this.#wants.size
  }

  /** Asks for a block, unless it is asked for already. @param wait false: only if it is here */
  ask(log: Log, block: number, wait: boolean): void {
    const { generation } = log
    const key = `${generation}/${block}`
    if (this.#wants.has(key)) return
    const want: Want = { generation, block, abort: new AbortController() }
    this.#wants.set(key, want)
    const request = wait
      ? log.get(block, { signal: want.abort.signal, timeout: Infinity })
      : log.get(block, { wait: false })
    const isCurrent = (): boolean => this.#wants.get(key) === want && this.#wants.delete(key)
    request.then(
      (data) => {
        isCurrent()
        // Given up, but it came all the same: it is here.
        if (data !== null) this.#environment.arrived(generation, block, data)
      },
      (error: unknown) => {
        if (isCurrent()) this.#environment.failed(error)
      }
    )
  }

  /** Gives up every request that is not to be kept. */
  keep(test: (generation: number, block: number) => boolean): void {
    for (const [key, { generation, block, abort }] of this.#wants) {
      if (test(generation, block)) continue
      this.#wants.delete(key)
      abort.abort()
    }
  }
}
