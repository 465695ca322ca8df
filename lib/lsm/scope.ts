/**
 * The cores of one layout of an index, with a lease on each that was needed. Versions of one layout share it; the
 * leases go back when nobody needs the layout any more.
 *
 * Once the index has gone on with another layout, the old cores may be deleted at any time: a block that does not
 * come within a moment then is given up with INDEX_REPLACED, and is read anew from the newer state.
 */
import { setMaxListeners } from 'node:events'
import { indexKeptOpenMax, indexReplacedWaitMs } from '../../config/limits.ts'
import { assert } from '../assert.ts'
import { KVSwarmError } from '../errors.ts'
import type { ReadOptions } from '../ports.ts'
import type { IndexLayout, JournalState } from '../wire/index-state.ts'
import { coreKey, type CoreLease, type CoreName, type IndexCores } from '../index-ports.ts'

export class LayoutScope {
  readonly layout: IndexLayout
  readonly #cores: IndexCores
  readonly #leases = new Map<string, Promise<CoreLease>>()
  /** Of journals, for their large values: there can be many, so only the last ones that were used stay open. */
  readonly #used = new Map<string, { readonly lease: Promise<CoreLease>; uses: number }>()
  #journals: Map<number, JournalState> | null = null
  readonly #fetching = new Set<AbortController>()
  readonly #ended: () => void
  #uses = 1
  #replaced = false

  /** @param ended called when nobody needs the layout any more */
  constructor(cores: IndexCores, layout: IndexLayout, ended: () => void = () => {}) {
    this.#cores = cores
    this.layout = layout
    this.#ended = ended
  }

  /** A lease that the scope gives back. */
  lease(name: CoreName): Promise<CoreLease> {
    assert(this.#uses > 0, 'a layout that is in use')
    const key = coreKey(name)
    const known = this.#leases.get(key)
    if (known) return known
    const opening = this.#cores.open(name).then((lease) => this.#guarded(lease))
    this.#leases.set(key, opening)
    // Tried again the next time.
    opening.catch(() => this.#leases.delete(key))
    return opening
  }

  /** A journal of the layout, or one that is kept; null: it is not part of it. */
  journal(number: number): JournalState | null {
    const { journals, kept } = this.layout
    this.#journals ??= new Map([...kept, ...journals].map((one) => [one.number, one]))
    return this.#journals.get(number) ?? null
  }

  /** Runs with a core that is open at least as long. */
  async using<T>(name: CoreName, run: (core: CoreLease) => Promise<T>): Promise<T> {
    assert(this.#uses > 0, 'a layout that is in use')
    const key = coreKey(name)
    const known = this.#leases.get(key)
    if (known) return await run(await known)
    const used = this.#used.get(key) ?? {
      lease: this.#cores.open(name).then((lease) => this.#guarded(lease)),
      uses: 0
    }
    used.uses++
    this.#used.delete(key)
    this.#used.set(key, used)
    try {
      return await run(await used.lease)
    } catch (error) {
      // Tried again the next time.
      used.lease.catch(() => this.#used.delete(key))
      throw error
    } finally {
      used.uses--
      this.#closeIdle()
    }
  }

  #closeIdle(): void {
    for (const [key, { lease, uses }] of this.#used) {
      if (this.#used.size <= indexKeptOpenMax) return
      if (uses > 0) continue
      this.#used.delete(key)
      giveBack(lease)
    }
  }

  retain(): void {
    this.#uses++
  }

  release(): void {
    if (--this.#uses > 0) return
    for (const opening of this.#leases.values()) giveBack(opening)
    this.#leases.clear()
    for (const { lease } of this.#used.values()) giveBack(lease)
    this.#used.clear()
    this.#ended()
  }

  /** The index has gone on with another layout. */
  replaced(): void {
    if (this.#replaced) return
    this.#replaced = true
    for (const fetching of this.#fetching) this.#giveUpLater(fetching)
  }

  #guarded(lease: CoreLease): CoreLease {
    return {
      id: lease.id,
      get length() {
        return lease.length
      },
      get: async (block, options = {}) => {
        const here = await lease.get(block, { wait: false })
        if (here !== null || options.wait === false) return here
        return await this.#fetch(lease, block, options)
      },
      onChange: (listener) => lease.onChange(listener),
      release: () => lease.release()
    }
  }

  async #fetch(
    lease: CoreLease,
    block: number,
    { timeout, signal }: ReadOptions
  ): Promise<Uint8Array | null> {
    const fetching = new AbortController()
    const abort = (): void => fetching.abort(signal?.reason)
    if (signal?.aborted) abort()
    signal?.addEventListener('abort', abort, { once: true })
    this.#fetching.add(fetching)
    if (this.#replaced) this.#giveUpLater(fetching)
    try {
      return await lease.get(block, { timeout, signal: fetching.signal })
    } catch (error) {
      if (fetching.signal.reason instanceof KVSwarmError) throw fetching.signal.reason
      throw error
    } finally {
      this.#fetching.delete(fetching)
      signal?.removeEventListener('abort', abort)
    }
  }

  #giveUpLater(fetching: AbortController): void {
    const timer = setTimeout(() => {
      if (this.#fetching.has(fetching)) fetching.abort(replacedError())
    }, indexReplacedWaitMs)
    timer.unref()
  }
}

/** Gives back a lease that is being opened, when it is. */
export function giveBack(opening: Promise<CoreLease>): void {
  opening.then(
    (lease) => lease.release(),
    () => {}
  )
}

/** What many waits end with. */
export function endable(): AbortController {
  const controller = new AbortController()
  setMaxListeners(0, controller.signal)
  return controller
}

function replacedError(): KVSwarmError {
  return new KVSwarmError('INDEX_REPLACED', 'the index has gone on while it was read', {
    hint: 'read again: the newer state has it'
  })
}
