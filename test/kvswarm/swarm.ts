/** A swarm in one process over the in-memory network: storage nodes and writers in temporary folders. */
import { join } from 'node:path'
import type { Test } from 'tape'
import { Config } from '../../config/index.ts'
import { KVSwarm, MemoryHub, type KVSwarmOptions } from '../../lib/index.ts'
import { cleanup } from '../helpers/cleanup.ts'
import { tmpdir } from '../helpers/tmp.ts'

export interface Swarm {
  readonly hub: MemoryHub
  readonly config: Config
  readonly storage: KVSwarm[]
  readonly writers: KVSwarm[]
  /** Ids of the storage nodes and of the writers, in their order. */
  readonly ids: { readonly storage: string[]; readonly writers: string[] }
  /** The data directory of a node. */
  path(name: string): string
  /** Opens a node on a folder of its own (or an earlier one's), closed after the test. */
  open(name: string, options?: Partial<KVSwarmOptions>): KVSwarm
}

export interface SwarmOptions {
  readonly storage?: number
  readonly writers?: number
  readonly capacities?: readonly number[]
  /** False: the nodes have their ids, but nothing is connected. @default true */
  readonly start?: boolean
  /** When outboxes are rotated. */
  readonly rotation?: KVSwarmOptions['rotation']
}

export async function makeSwarm(t: Test, options: SwarmOptions = {}): Promise<Swarm> {
  const {
    storage: stores = 3,
    writers = 2,
    capacities = [5, 10, 7],
    start = true,
    rotation
  } = options
  const folder = tmpdir(t)
  const hub = new MemoryHub()
  const names = {
    storage: Array.from({ length: stores }, (_, i) => `s${i}`),
    writers: Array.from({ length: writers }, (_, i) => `w${i}`)
  }
  const idOf = async (name: string): Promise<string> => {
    const kv = new KVSwarm({ storage: join(folder, name) })
    await kv.ready()
    const { nodeId } = kv
    await kv.close()
    return nodeId
  }
  const ids = {
    storage: await Promise.all(names.storage.map(idOf)),
    writers: await Promise.all(names.writers.map(idOf))
  }
  const config = new Config({
    capacities: Object.fromEntries(ids.storage.map((id, i) => [id, capacities[i] ?? 10])),
    writers: ids.writers
  })
  const open = (name: string, extra: Partial<KVSwarmOptions> = {}): KVSwarm => {
    const kv = new KVSwarm({
      storage: join(folder, name),
      config,
      network: hub.network(),
      timeout: 15_000,
      ...(rotation ? { rotation } : {}),
      ...extra
    })
    kv.on('warning', (message) => t.comment(`${name}: ${message}`))
    cleanup(t, () => kv.close())
    return kv
  }
  const storage = names.storage.map((name) => open(name))
  const writing = names.writers.map((name) => open(name))
  if (start) {
    await Promise.all(storage.map((kv) => kv.listen()))
    await Promise.all(writing.map((kv) => kv.connect()))
  }
  return { hub, config, storage, writers: writing, ids, open, path: (name) => join(folder, name) }
}
