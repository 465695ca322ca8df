/** A version of an index, held until it is closed. */
import type { Head, IndexChange, IndexRange, IndexSnapshot, ReadOptions } from '../ports.ts'
import type { Version } from './version.ts'

export class VersionSnapshot implements IndexSnapshot {
  readonly #version: Version
  #closed = false

  constructor(version: Version) {
    this.#version = version
    version.retain()
  }

  get head(): Head {
    return this.#version.head
  }

  get(key: Uint8Array, options?: ReadOptions): Promise<Uint8Array | null> {
    return this.#version.get(key, options)
  }

  range(
    range: IndexRange,
    options?: ReadOptions
  ): AsyncGenerator<{ key: Uint8Array; value: Uint8Array }> {
    return this.#version.range(range, options)
  }

  tellsSince(from: Head): boolean {
    return this.#version.tellsSince(from)
  }

  changes(from: Head, range: IndexRange, options?: ReadOptions): AsyncGenerator<IndexChange> {
    return this.#version.changes(from, range, options)
  }

  close(): Promise<void> {
    if (!this.#closed) this.#version.release()
    this.#closed = true
    return Promise.resolve()
  }
}
