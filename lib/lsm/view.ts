/**
 * The index of any node, followed from afar: its anchor, and the cores that the anchor names.
 *
 * Invariants:
 * - the head never goes back; what the anchor says is checked before it is followed;
 * - a read whose cores are gone, because the index has gone on, is made again in the newer state;
 * - cores that the index has replaced are deleted here, too, unless they are this node's own.
 */
import {
  indexForgetMax,
  indexLayoutsBurstMax,
  indexLayoutsPerSecondMax,
  indexLookBackBlocksMax,
  indexReadingMs,
  indexReplacedWaitMs
} from '../../config/limits.ts'
import { isKVSwarmError, KVSwarmError } from '../errors.ts'
import { coreKey, type CoreLease, type CoreName, type IndexCores } from '../index-ports.ts'
import type { Head, IndexSnapshot, IndexView, Log, ReadOptions } from '../ports.ts'
import type { NodeId } from '../types.ts'
import { pause, remaining } from '../wait.ts'
import { kindOf } from '../wire/index-blocks.ts'
import { decodeLayout, type IndexLayout } from '../wire/index-state.ts'
import { corrupt } from '../wire/show.ts'
import { keysOf, leftBehind, runName } from './names.ts'
import { endable, giveBack, LayoutScope } from './scope.ts'
import { VersionSnapshot } from './snapshot.ts'
import { Version } from './version.ts'

/** The cores of an index that is followed. */
export interface FollowedCores extends IndexCores {
  /** Deletes a core here, when nobody reads it any more. */
  delete(name: CoreName): void
  /** Deletes all that lie here but those with these keys. */
  sweep(kept: ReadonlySet<string>): Promise<void>
  close(): Promise<void>
}

export class FollowedIndex implements IndexView {
  readonly node: NodeId
  readonly #anchor: Log
  readonly #cores: FollowedCores
  /** False: the cores are this node's own, and deleted by the index itself. */
  readonly #deletes: boolean
  readonly #listeners = new Set<() => void>()
  readonly #ended: AbortController = endable()
  readonly #stopListening: () => void
  /** The anchor's length at which it was last looked at. */
  #seen = 0
  #layout: IndexLayout | null = null
  #scope: LayoutScope | null = null
  #newest: CoreLease | null = null
  #stopNewest: () => void = () => {}
  #version: Version | null = null
  /** The newest version that was opened: all that a read begins with is here. */
  #opened: Version | null = null
  #looking: Promise<void> | null = null
  /** Ends the wait for an anchor's block when there is a newer one. */
  #outdated: AbortController | null = null
  /** Opened before the anchor names them. */
  readonly #expected = new Map<string, Promise<CoreLease>>()
  #expecting: NodeJS.Timeout | null = null
  /** When the newest block of the anchor was asked for, monotonic milliseconds. */
  #askedAt = 0
  /** Of the head that was told last. */
  #lengthTold = 0
  #opening = false
  #readAt = -Infinity
  #sweeping: Promise<void> | null = null
  /** Layouts that may be followed now, and since when. */
  #allowance = { left: indexLayoutsBurstMax, at: performance.now() }
  /** Why the newest state makes no sense. */
  #fault: unknown = null
  #closed = false

  private constructor(anchor: Log, cores: FollowedCores, deletes: boolean) {
    this.node = anchor.name.node
    this.#anchor = anchor
    this.#cores = cores
    this.#deletes = deletes
    this.#stopListening = anchor.onChange(() => this.#look())
  }

  /** @param deletes whether cores that were replaced are deleted here. */
  static async open(
    anchor: Log,
    cores: FollowedCores,
    { deletes }: { readonly deletes: boolean }
  ): Promise<FollowedIndex> {
    const view = new FollowedIndex(anchor, cores, deletes)
    await view.#useLocal()
    view.#look()
    return view
  }

  /**
   * Opens cores that the index consists of, by what its node says of them, before the anchor is here to tell: a core's
   * first block takes two round trips. What the anchor does not name then is closed again.
   */
  expect(names: readonly CoreName[]): void {
    // Said again while they are open, it opens no more of them.
    if (this.#closed || this.#layout !== null || this.#expected.size > 0) return
    for (const [key, name] of new Map(names.map((one) => [coreKey(one), one]))) {
      const opening = this.#cores.open(name)
      this.#expected.set(key, opening)
      opening.then(
        // Its newest block is what is read of it first.
        (lease) => this.#fetchLast(lease),
        () => {}
      )
    }
    this.#expecting ??= setTimeout(() => this.#unexpect(), indexReadingMs).unref()
  }

  #fetchLast(lease: CoreLease): void {
    const { signal } = this.#ended
    const fetch = (): void => {
      if (lease.length === 0) return
      stop()
      lease.get(lease.length - 1, { timeout: indexReadingMs, signal }).catch(() => {})
    }
    const stop = lease.onChange(fetch)
    fetch()
  }

  #unexpect(): void {
    if (this.#expecting) clearTimeout(this.#expecting)
    this.#expecting = null
    for (const opening of this.#expected.values()) giveBack(opening)
    this.#expected.clear()
  }

  get head(): Head {
    const { generation } = this.#anchor
    const newest = this.#layout?.journals.at(-1)
    if (!newest || !this.#newest) return { generation, length: 0 }
    return { generation, length: newest.base + this.#newest.length }
  }

  async get(key: Uint8Array, options: ReadOptions = {}): Promise<Uint8Array | null> {
    const started = performance.now()
    for (;;) {
      const version = this.#current(options)
      if (version === null) return null
      const timeout = remaining(options.timeout ?? Infinity, started)
      version.retain()
      try {
        return await version.get(key, { ...options, timeout })
      } catch (error) {
        if (!isKVSwarmError(error, 'INDEX_REPLACED')) {
          const older = options.wait === false ? await this.#older(version, error) : null
          if (older === null) throw error
          return await older.get(key, options)
        }
      } finally {
        version.release()
      }
    }
  }

  snapshot(): IndexSnapshot {
    const version = this.#current({})
    return version === null ? new EmptySnapshot(this.head) : new VersionSnapshot(version)
  }

  get fault(): unknown {
    return this.#fault
  }

  onHead(listener: () => void): () => void {
    this.#listeners.add(listener)
    return () => this.#listeners.delete(listener)
  }

  async close(): Promise<void> {
    if (this.#closed) return
    this.#closed = true
    this.#stopListening()
    this.#stopNewest()
    this.#unexpect()
    this.#ended.abort(new KVSwarmError('CLOSED', 'the index is closed'))
    await this.#looking
    await this.#sweeping
    this.#version?.release()
    this.#opened?.release()
    this.#scope?.release()
    await this.#cores.close()
    await this.#anchor.close()
  }

  /** The version to read. @throws CORRUPT */
  #current({ wait = true }: ReadOptions): Version | null {
    if (this.#closed) throw new KVSwarmError('CLOSED', 'the index is closed')
    if (this.#fault !== null && this.#layout === null) throw this.#fault
    if (!this.#scope) return null
    const { head } = this
    if (head.length === 0) return null
    if (wait) this.#readAt = performance.now()
    if (this.#version?.head.length !== head.length) {
      this.#version?.release()
      this.#version = new Version(this.#scope, head, null)
    }
    return this.#version
  }

  /** For a read that takes only what is here: the newest state of which that is enough. */
  async #older(version: Version, error: unknown): Promise<Version | null> {
    if (!isKVSwarmError(error, 'OWNER_UNREACHABLE')) return null
    const known = this.#opened
    if (known && known !== version) return known
    if (known || !this.#scope || !this.#newest || !this.#layout) return null
    const { base } = this.#layout.journals.at(-1) ?? { base: 0 }
    const end = Math.min(this.#newest.length, version.head.length - base)
    for (let block = end - 1; block >= Math.max(0, end - indexLookBackBlocksMax); block--) {
      const bytes = await this.#newest.get(block, { wait: false })
      if (bytes?.[0] !== kindOf.step) continue
      this.#opened = new Version(this.#scope, { ...this.head, length: base + block + 1 }, null)
      return this.#opened
    }
    return null
  }

  /** At the start: the newest state of the anchor that is here. */
  async #useLocal(): Promise<void> {
    const { length } = this.#anchor
    for (let block = length - 1; block >= Math.max(0, length - indexLookBackBlocksMax); block--) {
      const bytes = await this.#anchor.get(block, { wait: false })
      if (bytes === null) continue
      try {
        await this.#use(decodeLayout(bytes), block + 1)
      } catch (error) {
        this.#fault = error
      }
      return
    }
  }

  /** The anchor may have grown. */
  #look(): void {
    if (this.#closed || this.#anchor.length <= this.#seen) return
    // What is on its way comes soon; else a newer one may be to be had.
    if (performance.now() - this.#askedAt > indexReplacedWaitMs) this.#outdated?.abort(newer)
    this.#looking ??= this.#follow().finally(() => {
      this.#looking = null
      if (this.#anchor.length > this.#seen) this.#look()
    })
  }

  async #follow(): Promise<void> {
    while (!this.#closed && this.#anchor.length > this.#seen) {
      const { length } = this.#anchor
      const outdated = new AbortController()
      this.#outdated = outdated
      this.#askedAt = performance.now()
      const signal = AbortSignal.any([outdated.signal, this.#ended.signal])
      try {
        const bytes = await this.#anchor.get(length - 1, { timeout: Infinity, signal })
        if (bytes !== null) await this.#use(decodeLayout(bytes), length)
        this.#seen = length
      } catch (error) {
        if (this.#closed) return
        // Its signer has signed nonsense: what was known before stays in use.
        if (isKVSwarmError(error, 'CORRUPT')) {
          this.#fault = error
          this.#seen = length
          for (const listener of [...this.#listeners]) listener()
        } else if (outdated.signal.aborted) continue
        // The disk, perhaps: the same state is tried again.
        else await pause(indexReplacedWaitMs, this.#ended.signal)
      }
      await this.#pause()
    }
  }

  /** Each layout may open cores: who signs them without end is followed at a bounded pace. */
  async #pause(): Promise<void> {
    const now = performance.now()
    const more = ((now - this.#allowance.at) / 1000) * indexLayoutsPerSecondMax
    const left = Math.min(indexLayoutsBurstMax, this.#allowance.left + more) - 1
    this.#allowance = { left, at: now }
    if (left >= 0) return
    await pause((-left / indexLayoutsPerSecondMax) * 1000, this.#ended.signal)
  }

  async #use(layout: IndexLayout, seen: number): Promise<void> {
    const newest = layout.journals.at(-1)
    const before = this.#layout
    if (!newest) return
    const last = before?.journals.at(-1)
    if (
      last &&
      (newest.number === last.number
        ? newest.base !== last.base
        : newest.number < last.number || newest.base < this.head.length)
    ) {
      throw corrupt('a state of an index that goes back')
    }
    const scope = new LayoutScope(this.#cores, layout)
    let lease: CoreLease
    try {
      lease = await scope.lease({ kind: 'journal', number: newest.number })
    } catch (error) {
      scope.release()
      throw error
    }
    if (this.#closed) return scope.release()
    const old = { scope: this.#scope, version: this.#version, opened: this.#opened }
    this.#layout = layout
    this.#scope = scope
    this.#newest = lease
    this.#seen = seen
    this.#version = null
    this.#opened = null
    this.#fault = null
    this.#stopNewest()
    this.#stopNewest = lease.onChange(() => this.#moved())
    old.version?.release()
    old.opened?.release()
    old.scope?.replaced()
    old.scope?.release()
    if (this.#deletes) this.#forget(before, layout)
    this.#useExpected(scope)
    this.#moved()
  }

  /** Runs that were expected: somebody wants to read, and they stay open. */
  #useExpected(scope: LayoutScope): void {
    for (const name of scope.layout.runs.map(runName)) {
      if (!this.#expected.has(coreKey(name))) continue
      this.#readAt = performance.now()
      scope.lease(name).catch(() => {})
    }
    this.#unexpect()
  }

  /** Deletes what the index does not consist of any more. */
  #forget(before: IndexLayout | null, layout: IndexLayout): void {
    if (before === null) {
      this.#sweeping ??= this.#cores.sweep(keysOf(layout))
      return
    }
    const gone = leftBehind(before, layout)
    // An honest index leaves some behind at a time. Of thousands, only what lies here is worth a look.
    if (gone.length <= indexForgetMax) for (const name of gone) this.#cores.delete(name)
    else {
      this.#sweeping = Promise.resolve(this.#sweeping).then(() =>
        this.#cores.sweep(keysOf(this.#layout ?? layout))
      )
    }
  }

  #moved(): void {
    const { length } = this.head
    if (length === this.#lengthTold || this.#closed) return
    this.#lengthTold = length
    this.#openAhead()
    for (const listener of [...this.#listeners]) listener()
  }

  /** Who has read lately reads again: what each read begins with is fetched as it comes. */
  #openAhead(): void {
    if (this.#opening || performance.now() - this.#readAt > indexReadingMs) return
    const readAt = this.#readAt
    const version = this.#current({})
    this.#readAt = readAt
    if (version === null) return
    this.#opening = true
    version.retain()
    version
      .open({ timeout: indexReadingMs, signal: this.#ended.signal })
      .then(
        () => {
          if (this.#closed || version !== this.#version) return
          this.#opened?.release()
          version.retain()
          this.#opened = version
        },
        () => {} // told to whoever reads
      )
      .finally(() => {
        version.release()
        this.#opening = false
        if (!this.#closed && this.head.length !== version.head.length) this.#openAhead()
      })
      .catch(() => {})
  }
}

/** Why a block of an anchor is not waited for any more. */
const newer: Error = new Error('there is a newer state')

class EmptySnapshot implements IndexSnapshot {
  readonly head: Head

  constructor(head: Head) {
    this.head = head
  }

  get(): Promise<null> {
    return Promise.resolve(null)
  }

  async *range(): AsyncGenerator<never> {
    // Nothing to yield.
  }

  tellsSince(): boolean {
    return true
  }

  async *changes(): AsyncGenerator<never> {
    // Nothing to yield.
  }

  async close(): Promise<void> {
    // Nothing to close.
  }
}
