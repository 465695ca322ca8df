/**
 * What trees keep of blocks that they have read: as much as fits into so many bytes, over all trees of a process.
 *
 * hyperbee's own cache counts entries; but one entry can be a value of 8 MiB, and the last block of an apply batch
 * holds a thousand tree nodes, which are half a megabyte once they are decoded (measured: 300 MB of them in a storage
 * node that had taken in a million keys). Blocks never change, so a snapshot shares what its tree keeps.
 */
import type Hyperbee from 'hyperbee'
import { treeCacheBytesMax } from '../../config/limits.ts'
import { KVSwarmError } from '../errors.ts'

/** Besides its bytes, what an entry costs: objects, buffers, its place in the maps. */
const entryBytes = 400
/** Decoded, tree nodes take so many times the bytes of their encoding: numbers of 8 bytes in arrays with room. */
const decodedFactor = 8

/** A block as hyperbee keeps it, or a key. */
type Kept =
  | {
      readonly key: Uint8Array
      readonly value: Uint8Array | null
      readonly index: Uint8Array | null
    }
  | Uint8Array

/** All trees' caches, which share one bound. */
export class CacheBudget {
  readonly #max: number
  readonly #caches = new Set<TreeCache>()
  #bytes = 0

  constructor(bytesMax: number) {
    this.#max = bytesMax
  }

  get bytes(): number {
    return this.#bytes
  }

  /** A cache within this budget, as hyperbee calls it. */
  cache(): TreeCache {
    return new TreeCache(this)
  }

  /** An eighth for one entry at most: a large value must not drive out everything else. */
  admits(bytes: number): boolean {
    return bytes <= this.#max / 8
  }

  changed(cache: TreeCache, bytes: number): void {
    this.#bytes += bytes
    if (cache.bytes > 0) this.#caches.add(cache)
    else this.#caches.delete(cache)
    while (this.#bytes > this.#max) {
      let largest: TreeCache | null = null
      for (const one of this.#caches) if (one.bytes > (largest?.bytes ?? 0)) largest = one
      if (largest === null) return
      largest.forgetOldest()
    }
  }
}

/** What hyperbee takes for its cache: entries by block, the one that was used longest ago first. */
export class TreeCache {
  readonly #budget: CacheBudget
  readonly #entries = new Map<number, { readonly kept: Kept; readonly bytes: number }>()
  #bytes = 0

  constructor(budget: CacheBudget) {
    this.#budget = budget
  }

  get bytes(): number {
    return this.#bytes
  }

  get(block: number): Kept | undefined {
    const entry = this.#entries.get(block)
    if (entry === undefined) return undefined
    this.#entries.delete(block)
    this.#entries.set(block, entry)
    return entry.kept
  }

  set(block: number, kept: Kept): void {
    this.delete(block)
    const bytes = bytesOf(kept)
    if (!this.#budget.admits(bytes)) return
    this.#entries.set(block, { kept, bytes })
    this.#bytes += bytes
    this.#budget.changed(this, bytes)
  }

  delete(block: number): boolean {
    const entry = this.#entries.get(block)
    if (entry === undefined) return false
    this.#entries.delete(block)
    this.#bytes -= entry.bytes
    this.#budget.changed(this, -entry.bytes)
    return true
  }

  clear(): void {
    const bytes = this.#bytes
    this.#entries.clear()
    this.#bytes = 0
    this.#budget.changed(this, -bytes)
  }

  forgetOldest(): void {
    for (const [block] of this.#entries) {
      this.delete(block)
      return
    }
  }
}

function bytesOf(kept: Kept): number {
  if (kept instanceof Uint8Array) return entryBytes + kept.byteLength
  const { key, value, index } = kept
  const nodes = decodedFactor * (index?.byteLength ?? 0)
  return entryBytes + key.byteLength + (value?.byteLength ?? 0) + nodes
}

const shared: CacheBudget = new CacheBudget(treeCacheBytesMax)

/** Gives an open tree a cache within the process's bound. @throws INTERNALS_CHANGED */
export function boundCache(tree: Hyperbee): void {
  const { _keyCache: keys, _nodeCache: nodes } = tree
  if (typeof keys?.keys?.get !== 'function' || typeof nodes?.keys?.get !== 'function') {
    throw new KVSwarmError('INTERNALS_CHANGED', 'hyperbee lacks its caches', {
      hint: 'install the exact versions of package-lock.json'
    })
  }
  keys.keys = shared.cache()
  nodes.keys = shared.cache()
}

/** Lets an open snapshot use what its tree keeps. */
export function shareCache(snapshot: Hyperbee, tree: Hyperbee): void {
  snapshot._keyCache = tree._keyCache
  snapshot._nodeCache = tree._nodeCache
}
