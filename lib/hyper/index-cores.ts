/**
 * The cores of one generation of a node's index, on hypercores: this node's own, or another's that it reads.
 *
 * - A core is open while it is leased; a run that is open here, or a journal, is shared by all who lease it.
 * - A core that was given up is deleted whole as soon as nobody has a lease on it.
 * - Others' cores are attached to connections by whoever is told of them (onOpen); own ones are found by their
 *   discovery key when a peer asks for one (serve).
 */
import type { CoreLease, CoreName, OwnIndexCores, RunFile } from '../index-ports.ts'
import { coreKey } from '../index-ports.ts'
import { assert } from '../assert.ts'
import { isKVSwarmError, KVSwarmError } from '../errors.ts'
import type { Log } from '../ports.ts'
import type { LogName, NodeId } from '../types.ts'
import { storageError, type HyperLog } from './log.ts'
import type { Store } from './store.ts'

interface Open {
  readonly id: number
  readonly name: CoreName
  readonly opening: Promise<HyperLog>
  log: HyperLog | null
  leases: number
}

const deleteTriesMax = 10
const deleteRetryMs = 200

/** A core that others may ask for. */
interface Offer {
  readonly name: CoreName
  lease: Promise<CoreLease> | null
}

function giveBack(lease: CoreLease): void {
  lease.release()
}

/**
 * Tells cores apart over the life of the process, for caches: also those of one name in two stores, which may hold
 * two versions of it (a copy, a backup).
 */
let ids = 0

export class HyperIndexCores implements OwnIndexCores {
  readonly node: NodeId
  /** Of the index. */
  readonly generation: number
  readonly #store: Store
  readonly #open = new Map<string, Open>()
  readonly #ids = new Map<string, number>()
  /** To be deleted when the leases on it are back; who waits for that is told. */
  readonly #doomed = new Map<
    string,
    { readonly name: CoreName; readonly gone: Promise<void>; readonly tell: () => void }
  >()
  /** Cores that are being closed or deleted. */
  readonly #ending = new Set<Promise<void>>()
  /** Of these, what has to be over before a core is opened again: by core. */
  readonly #closing = new Map<string, Promise<void>>()
  readonly #going = new Map<string, Promise<void>>()
  /** Journals of ours that may go on, by number. */
  readonly #whole = new Set<number>()
  #users = 1
  /** By discovery key. */
  readonly #offered = new Map<string, Offer>()
  /** Called with each core that was opened, until it is closed. */
  onOpen: (log: HyperLog) => void = () => {}
  /** Called when a core could not be deleted; nothing is lost by that but space. */
  onDeleteFailed: (error: unknown) => void = () => {}

  constructor(store: Store, node: NodeId, generation: number) {
    this.#store = store
    this.node = node
    this.generation = generation
  }

  /** The cores that are open. */
  get logs(): HyperLog[] {
    return [...this.#open.values()].flatMap(({ log }) => (log ? [log] : []))
  }

  get isOpen(): boolean {
    return this.#users > 0
  }

  /** One more user: close() is called by each of them. */
  share(): this {
    this.#users++
    return this
  }

  /** These cores others may ask for, and no others. */
  offer(names: readonly CoreName[]): void {
    // An index with large values has thousands of journals.
    const before = new Map<string, readonly [discoveryKey: string, offer: Offer]>()
    for (const [discoveryKey, offer] of this.#offered) {
      before.set(coreKey(offer.name), [discoveryKey, offer])
    }
    this.#offered.clear()
    for (const [key, name] of new Map(names.map((one) => [coreKey(one), one]))) {
      this.#doomed.delete(key)
      const known = before.get(key)
      before.delete(key)
      this.#offered.set(
        known?.[0] ?? this.#store.discoveryKeyOf(this.#journal(), name),
        known?.[1] ?? { name, lease: null }
      )
    }
    for (const [, { lease }] of before.values()) lease?.then(giveBack, () => {})
  }

  /** The core with this discovery key (hex), for a peer that asks for it; null: it is not offered. */
  async find(discoveryKey: string): Promise<HyperLog | null> {
    const offered = this.#offered.get(discoveryKey)
    if (!offered || this.#users === 0) return null
    offered.lease ??= this.open(offered.name)
    await offered.lease.catch(() => {
      offered.lease = null
    })
    return this.#open.get(coreKey(offered.name))?.log ?? null
  }

  /** Those that lie here. Looks at every core of the store: slow. */
  stored(): Promise<CoreName[]> {
    return this.#store.storedCores(this.node, this.generation)
  }

  /** Deletes all that lie here but those with these keys. */
  async sweep(kept: ReadonlySet<string>): Promise<void> {
    try {
      const names = await this.stored()
      if (this.#users === 0) return
      for (const name of names) if (!kept.has(coreKey(name))) void this.delete(name)
    } catch (error) {
      this.onDeleteFailed(error)
    }
  }

  async open(name: CoreName): Promise<CoreLease> {
    const key = coreKey(name)
    let open = this.#open.get(key)
    if (!open) {
      open = { id: this.#idOf(key), name, opening: this.#openLog(key, name), log: null, leases: 0 }
      this.#open.set(key, open)
    }
    const leased = open
    leased.leases++
    try {
      leased.log = await leased.opening
    } catch (error) {
      this.#giveBack(key, leased)
      throw error
    }
    return this.#lease(key, leased, leased.log)
  }

  async begin(number: number): Promise<Log> {
    const log = await this.#store.begin(this.#journal(), number)
    this.#whole.add(number)
    return log
  }

  async resume(number: number): Promise<Log> {
    const { log, whole } = await this.#store.ownJournal(this.generation, number)
    if (whole) this.#whole.add(number)
    return log
  }

  isWhole(number: number): boolean {
    return this.#whole.has(number)
  }

  journals(): number[] {
    assert(this.node === this.#store.nodeId, 'an index of this node')
    return this.#store.generationsOf(this.#journal())
  }

  async build(name: string, about: (run: CoreName) => Promise<void>): Promise<RunFile> {
    const { generation } = this
    const store = this.#store
    const core = await store.buildRun(generation, name)
    const failed = (error: unknown): never => {
      throw storageError(error, 'writing a run of the index')
    }
    return {
      get length() {
        return core.length
      },
      get: async (block) => {
        const bytes = await core.get(block, { wait: false }).catch(failed)
        if (bytes === null) throw new KVSwarmError('INTERNAL', `block ${block} is missing`)
        return bytes
      },
      append: async (blocks) => {
        await core.append([...blocks]).catch(failed)
      },
      finish: () =>
        store.finishRun(core, generation, async (run) => {
          const name: CoreName = { kind: 'run', ...run }
          await about(name)
          // The very same blocks may lie here, about to go: then they stay, or are made again.
          this.#doomed.delete(coreKey(name))
          await this.#going.get(coreKey(name))
        }),
      leave: () => core.close()
    }
  }

  hasBuild(name: string): Promise<boolean> {
    return this.#store.hasBuild(this.generation, name)
  }

  async deleteBuild(name: string): Promise<void> {
    await this.#store.deleteBuild(this.generation, name)
  }

  delete(name: CoreName): Promise<void> {
    const key = coreKey(name)
    const going = this.#going.get(key) ?? this.#doomed.get(key)?.gone
    if (going) return going
    if (!this.#open.has(key)) return this.#deleteNow(key, name)
    let tell = (): void => {}
    const gone = new Promise<void>((resolve) => {
      tell = resolve
    })
    this.#doomed.set(key, { name, gone, tell })
    return gone
  }

  async *blocks(name: CoreName, from: number, to: number): AsyncGenerator<Uint8Array> {
    const lease = await this.open(name)
    try {
      const log = this.#open.get(coreKey(name))?.log
      if (!log) return
      for await (const { value } of log.core.core.storage.createBlockStream({
        gte: from,
        lt: to
      })) {
        yield value
      }
    } catch (error) {
      throw storageError(error, 'reading a run of the index')
    } finally {
      lease.release()
    }
  }

  /** Closes what is open; what was to be deleted is deleted, as far as nobody uses it. */
  async close(): Promise<void> {
    if (--this.#users > 0) return
    this.#offered.clear()
    const open = [...this.#open.values()]
    this.#open.clear()
    for (const { opening } of open) {
      const log = await opening.catch(() => null)
      await log?.close()
    }
    await Promise.allSettled(this.#ending)
  }

  #journal(): LogName {
    return { kind: 'journal', node: this.node, index: this.generation }
  }

  async #openLog(key: string, name: CoreName): Promise<HyperLog> {
    await this.#closing.get(key)
    await this.#going.get(key)
    const log =
      name.kind === 'journal'
        ? await this.#store.peerLog(this.#journal(), name.number)
        : await this.#store.run(this.node, this.generation, name)
    this.onOpen(log)
    return log
  }

  #lease(key: string, open: Open, log: HyperLog): CoreLease {
    let released = false
    return {
      id: open.id,
      get length() {
        return log.length
      },
      get: async (block, options = {}) => {
        if (options.wait === false || !log.isShort()) return await log.get(block, options)
        const here = await log.get(block, { wait: false })
        if (here !== null) return here
        throw new KVSwarmError(
          'DISK_FULL',
          'a block of the index is not on this machine, and its disk has no room for it',
          { hint: 'free space on the disk of the data directory; it goes on by itself' }
        )
      },
      onChange: (listener) => log.onChange(listener),
      release: () => {
        if (released) return
        released = true
        this.#giveBack(key, open)
      }
    }
  }

  #giveBack(key: string, open: Open): void {
    if (--open.leases > 0 || this.#open.get(key) !== open) return
    this.#open.delete(key)
    const closing = open.opening.then(
      (log) => log.close(),
      () => {}
    )
    const closed = this.#track(closing).then(() => {
      if (this.#closing.get(key) === closed) this.#closing.delete(key)
    })
    this.#closing.set(key, closed)
    const doomed = this.#doomed.get(key)
    if (!doomed) return
    this.#doomed.delete(key)
    void this.#deleteNow(key, doomed.name, closing).then(doomed.tell)
  }

  /** Resolves in any case; whether it failed, onDeleteFailed() tells. */
  #deleteNow(
    key: string,
    name: CoreName,
    before: Promise<void> = Promise.resolve()
  ): Promise<void> {
    this.#ids.delete(key)
    const deleting = this.#track(before.then(() => this.#deleteAgain(name, deleteTriesMax)))
    const going = deleting.then(() => {
      this.#going.delete(key)
    })
    this.#going.set(key, going)
    return going
  }

  /** Whoever looks at all cores of the store has one open for a moment. */
  async #deleteAgain(name: CoreName, tries: number): Promise<void> {
    try {
      if (name.kind === 'journal') await this.#store.delete(this.#journal(), name.number)
      else await this.#store.deleteRun(this.node, this.generation, name)
    } catch (error) {
      if (tries <= 1 || this.#users === 0 || !isKVSwarmError(error, 'INTERNAL')) throw error
      await new Promise<void>((resolve) => setTimeout(resolve, deleteRetryMs).unref())
      await this.#deleteAgain(name, tries - 1)
    }
  }

  #track(work: Promise<void>): Promise<void> {
    const tracked: Promise<void> = work
      .catch((error: unknown) => this.onDeleteFailed(error))
      .then(() => {
        this.#ending.delete(tracked)
      })
    this.#ending.add(tracked)
    return tracked
  }

  #idOf(key: string): number {
    let id = this.#ids.get(key)
    if (id === undefined) {
      id = ++ids
      this.#ids.set(key, id)
    }
    return id
  }
}
