/**
 * Deleting a core whole: the only way in which space comes back, since nothing calls clear() on a live one.
 *
 * hypercore's own purge() is broken, and the storage's deleteCore() leaves the blocks (measured: 16 MB stay 16 MB).
 * So head, tree and blocks go in one write of the store: after a crash the core is there whole, or not at all.
 * The disk gets its space back when the store writes its tables anew: Reclaimer.
 */
import type Corestore from 'corestore'
import type Hypercore from 'hypercore'
import type HypercoreStorage from 'hypercore-storage'
import keys from 'hypercore-storage/lib/keys.js'
import { reclaimBytes, reclaimLateShare, reclaimMs, reclaimShare } from '../../config/limits.ts'
import { KVSwarmError } from '../errors.ts'

/**
 * Deletes a core of which `session` is the only open session. It closes it, and takes it off its connections.
 * Resolves when it is written, before the barrier, with the number of the data range that can be reclaimed.
 * @throws INTERNAL when it is open elsewhere: then nothing is deleted
 */
export async function deleteCore(corestore: Corestore, session: Hypercore): Promise<number> {
  const { core, discoveryKey } = session
  const { corePointer, dataPointer } = core.state.storage.core
  await session.close()
  if (core.hasSession()) {
    throw new KVSwarmError('INTERNAL', 'a log was to be deleted that is still in use')
  }
  for (const peer of [...core.replicator.peers]) {
    core.replicator.detachFrom(peer.protomux)
    peer.channel.close()
  }
  await core.close()
  corestore.cores.map.delete(Buffer.from(discoveryKey).toString('hex'))
  const write = corestore.storage.db.write({ autoDestroy: true })
  // The keys lie in one shared buffer.
  const key = (bytes: Uint8Array): Buffer => Buffer.from(bytes)
  write.tryDelete(key(keys.store.core(discoveryKey)))
  write.tryDeleteRange(key(keys.core.core(corePointer)), key(keys.core.core(corePointer + 1)))
  write.tryDeleteRange(key(keys.core.data(dataPointer)), key(keys.core.data(dataPointer + 1)))
  await write.flush()
  return dataPointer
}

/**
 * Takes the old name off what has become another core: the two share one place in the store (corestore's staticify()
 * leaves both names). @param session of the old name; it is closed
 */
export async function forgetName(corestore: Corestore, session: Hypercore): Promise<void> {
  const { core, discoveryKey } = session
  await session.close()
  await core.close()
  await deleteName(corestore, discoveryKey)
}

/** Deletes a name, and nothing of what it leads to. It must not be open. */
export async function deleteName(corestore: Corestore, discoveryKey: Uint8Array): Promise<void> {
  corestore.cores.map.delete(Buffer.from(discoveryKey).toString('hex'))
  const write = corestore.storage.db.write({ autoDestroy: true })
  write.tryDelete(Buffer.from(keys.store.core(discoveryKey)))
  await write.flush()
}

interface Deleted {
  readonly dataPointer: number
  readonly bytes: number
}

/**
 * Gives the space of deleted cores back to the file system, many at a time, in the background.
 *
 * What is not deleted is written anew with it, all of the store in the end: so it waits until what was deleted is a
 * share of that, and does it once for all that was deleted.
 */
export class Reclaimer {
  readonly #storage: HypercoreStorage
  readonly #failed: (error: unknown) => void
  #deleted: Deleted[] = []
  #timer: NodeJS.Timeout | null = null
  #running: Promise<void> | null = null
  #closed = false

  constructor(storage: HypercoreStorage, failed: (error: unknown) => void) {
    this.#storage = storage
    this.#failed = failed
  }

  add(dataPointer: number, bytes: number): void {
    if (this.#closed) return
    this.#deleted.push({ dataPointer, bytes })
    if (this.#bytes >= reclaimBytes) this.#start(reclaimShare)
    else this.#wait()
  }

  /** Begins no more, and resolves when what is under way has ended. */
  async close(): Promise<void> {
    this.#closed = true
    this.#stopTimer()
    await this.#running
  }

  get #bytes(): number {
    let sum = 0
    for (const { bytes } of this.#deleted) sum += bytes
    return sum
  }

  #wait(): void {
    this.#timer ??= setTimeout(() => {
      this.#timer = null
      this.#start(reclaimLateShare)
    }, reclaimMs).unref()
  }

  #start(share: number): void {
    if (this.#running) return
    this.#running = this.#run(share).finally(() => {
      this.#running = null
      if (this.#deleted.length > 0 && !this.#closed) this.#wait()
      else this.#stopTimer()
    })
  }

  /** @param share of what the store holds that must have been deleted */
  async #run(share: number): Promise<void> {
    try {
      const { db } = this.#storage
      const stored = await db.approximateSize(Buffer.from([0]), Buffer.from([0xff]))
      if (this.#bytes < share * stored || this.#closed) return
      const pointers = this.#deleted.map(({ dataPointer }) => dataPointer)
      this.#deleted = []
      // What was deleted lies in the memory table and the log until then.
      await db.flush()
      const from = Buffer.from(keys.core.data(Math.min(...pointers)))
      await db.compactRange(from, Buffer.from(keys.core.data(Math.max(...pointers) + 1)))
    } catch (error) {
      this.#failed(error)
    }
  }

  #stopTimer(): void {
    if (this.#timer) clearTimeout(this.#timer)
    this.#timer = null
  }
}
