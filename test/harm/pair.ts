/** One storage node and one writer over the memory network, each with its data where the test wants it. */
import type { Test } from 'tape'
import { Config } from '../../config/index.ts'
import { KVSwarm, type KVSwarmOptions, MemoryHub } from '../../lib/index.ts'
import { cleanup } from '../helpers/cleanup.ts'

export interface Pair {
  readonly config: Config
  /** Opens the storage node (`s`) or the writer (`x`); closed after the test. */
  open(name: 's' | 'x', options?: Partial<KVSwarmOptions>): KVSwarm
}

export async function makePair(t: Test, folders: { s: string; x: string }): Promise<Pair> {
  const hub = new MemoryHub()
  const idOf = async (storage: string): Promise<string> => {
    const kv = new KVSwarm({ storage })
    await kv.ready()
    await kv.close()
    return kv.nodeId
  }
  const config = new Config({
    capacities: { [await idOf(folders.s)]: 1 },
    writers: [await idOf(folders.x)]
  })
  const open = (name: 's' | 'x', options: Partial<KVSwarmOptions> = {}): KVSwarm => {
    const kv = new KVSwarm({
      storage: folders[name],
      config,
      network: hub.network(),
      timeout: 15_000,
      ...options
    })
    kv.on('warning', (message) => t.comment(`${name}: ${message}`))
    kv.on('error', (error) => t.comment(`${name}: error event: ${error.code} ${error.message}`))
    cleanup(t, async () => await kv.close().catch((error: unknown) => t.comment(String(error))))
    return kv
  }
  return { config, open }
}
