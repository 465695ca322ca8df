/**
 * The indexes that bench/index.ts compares, in one form: ours as a storage node opens it, hyperbee and hyperbee2 as
 * their users do, each on a corestore of its own in a folder.
 */
import { open } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import Corestore from 'corestore'
import Hyperbee from 'hyperbee'
import Hyperbee2 from 'hyperbee2'
import type Hypercore from 'hypercore'
import HypercoreStorage from 'hypercore-storage'
import { HyperIndexCores } from '../lib/hyper/index-cores.ts'
import { Store } from '../lib/hyper/store.ts'
import type { CoreName, RunFile } from '../lib/index-ports.ts'
import { OwnIndex } from '../lib/lsm/own-index.ts'
import type { Log } from '../lib/ports.ts'

export const kinds = ['ours', 'ours-unsynced', 'hyperbee', 'hyperbee2'] as const
export type Kind = (typeof kinds)[number]

export interface Change {
  readonly key: Buffer
  readonly value: Uint8Array
}

/** Bytes of blocks that were appended. */
export interface Written {
  /** Of changes; of the bees: all. */
  journals: number
  runs: number
  anchor: number
}

export interface BenchIndex {
  readonly storage: HypercoreStorage
  /** Resolves when it counts as written: with ours, behind the barrier. */
  write(changes: readonly Change[]): Promise<void>
  get(key: Buffer): Promise<Uint8Array | null>
  /** All entries, in order. */
  entries(): AsyncIterable<{ readonly value: Uint8Array | null }>
  /** Resolves when nothing is to be done in the background. */
  settled(): Promise<void>
  /** Since it was opened. */
  written(): Written
  close(): Promise<void>
}

export async function openIndex(kind: Kind, directory: string): Promise<BenchIndex> {
  if (kind === 'hyperbee') return await openBee(directory)
  if (kind === 'hyperbee2') return await openBee2(directory)
  if (kind === 'ours-unsynced') await stopSyncs()
  return await openOurs(directory)
}

/** Ours, as a storage node opens it. */
export interface Ours extends BenchIndex {
  readonly index: OwnIndex
}

export async function openOurs(directory: string): Promise<Ours> {
  const store = await Store.open({ directory, durability: 'sync' })
  const name = { kind: 'index', node: store.nodeId } as const
  const anchor = (await store.ownGenerations(name)).at(-1)?.log ?? (await store.begin(name, 1))
  const cores = new CountedCores(store, store.nodeId, anchor.generation)
  count(anchor, (bytes) => {
    cores.bytes.anchor += bytes
  })
  const failed = (error: unknown): never => {
    throw error
  }
  const index = await OwnIndex.open(anchor, { cores, failed })
  return {
    index,
    storage: storageOf(anchor.core),
    write: async (changes) => {
      await index.apply(changes)
    },
    get: (key) => index.get(key),
    entries: async function* () {
      const snapshot = index.snapshot()
      yield* snapshot.range({})
      await snapshot.close()
    },
    settled: () => index.settled(),
    written: () => ({ ...cores.bytes }),
    close: async () => {
      await index.close()
      await store.close()
    }
  }
}

/** Writes the store's tables anew, with nothing in them that was deleted. */
export async function compact({ db }: HypercoreStorage): Promise<void> {
  await db.flush()
  await db.compactRange(Buffer.from([0]), Buffer.from([0xff]))
  await db.flush()
}

class CountedCores extends HyperIndexCores {
  readonly bytes: Written = { journals: 0, runs: 0, anchor: 0 }

  override async begin(number: number): Promise<Log> {
    return this.#journal(await super.begin(number))
  }

  override async resume(number: number): Promise<Log> {
    return this.#journal(await super.resume(number))
  }

  override async build(name: string, about: (run: CoreName) => Promise<void>): Promise<RunFile> {
    const file = await super.build(name, about)
    const append = file.append.bind(file)
    return Object.assign(file, {
      append: (blocks: readonly Uint8Array[]) => {
        this.bytes.runs += sizeOf(blocks)
        return append(blocks)
      }
    })
  }

  #journal(log: Log): Log {
    count(log, (bytes) => {
      this.bytes.journals += bytes
    })
    return log
  }
}

function count(log: Log, appended: (bytes: number) => void): void {
  const append = log.append.bind(log)
  Object.assign(log, {
    append: (blocks: readonly Uint8Array[]) => {
      appended(sizeOf(blocks))
      return append(blocks)
    }
  })
}

function sizeOf(blocks: readonly Uint8Array[]): number {
  return blocks.reduce((sum, { length }) => sum + length, 0)
}

/** Of the whole store that a core lies in. */
function storageOf(core: Hypercore): HypercoreStorage {
  const { storage } = core.core.state as unknown as { storage: { store: HypercoreStorage } }
  return storage.store
}

/** In this process no file is synced any more by us; the store below goes on syncing its tables, as with the bees. */
async function stopSyncs(): Promise<void> {
  const folder = await open(tmpdir(), 'r')
  const { prototype } = folder.constructor as unknown as { prototype: Record<string, unknown> }
  await folder.close()
  const nothing = (): Promise<void> => Promise.resolve()
  Object.assign(prototype, { sync: nothing, datasync: nothing })
}

async function coreIn(directory: string): Promise<{
  store: Corestore
  storage: HypercoreStorage
  core: Hypercore
}> {
  const storage = new HypercoreStorage(directory)
  const store = new Corestore(storage)
  await store.ready()
  const core = store.get({ keyPair: await store.createKeyPair('bench') })
  await core.ready()
  return { store, storage, core }
}

function growthOf(core: Hypercore): () => Written {
  const before = core.core.state.byteLength
  return () => ({ journals: core.core.state.byteLength - before, runs: 0, anchor: 0 })
}

const settled = (): Promise<void> => Promise.resolve()

async function openBee(directory: string): Promise<BenchIndex> {
  const { store, storage, core } = await coreIn(directory)
  const bee = new Hyperbee(core, { keyEncoding: 'binary', valueEncoding: 'binary' })
  await bee.ready()
  return {
    storage,
    write: async (changes) => {
      const batch = bee.batch()
      for (const { key, value } of changes) await batch.put(key, value)
      await batch.flush()
    },
    get: async (key) => (await bee.get(key))?.value ?? null,
    entries: () => bee.createReadStream({}),
    settled,
    written: growthOf(core),
    close: async () => {
      await bee.close()
      await store.close()
    }
  }
}

async function openBee2(directory: string): Promise<BenchIndex> {
  const { store, storage, core } = await coreIn(directory)
  const bee = new Hyperbee2(store, { core })
  await bee.ready()
  return {
    storage,
    write: async (changes) => {
      const batch = bee.write()
      for (const { key, value } of changes) batch.tryPut(key, value)
      await batch.flush()
    },
    get: async (key) => (await bee.get(key))?.value ?? null,
    entries: () => bee.createReadStream(),
    settled,
    written: growthOf(core),
    close: async () => {
      await bee.close()
      await store.close()
    }
  }
}
