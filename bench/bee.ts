/**
 * What kvswarm's bulk writes are held against: hyperbee alone, on a corestore of its own, as its users load it.
 * No network, no outbox, no durability barrier (hypercore does not sync).
 */
import Corestore from 'corestore'
import Hyperbee from 'hyperbee'
import HypercoreStorage from 'hypercore-storage'
import { keyOf, valueOf } from './data.ts'

export interface BeeLoad {
  readonly directory: string
  readonly count: number
  readonly batch: number
  readonly valueBytes: number
}

/** Milliseconds of the loading alone: on the clock, and of the processor by all threads. */
export interface BeeTimes {
  readonly totalMs: number
  readonly processorMs: number
}

/** Loads the keys in batches, one after the other. */
export async function loadBee({ directory, count, batch, valueBytes }: BeeLoad): Promise<BeeTimes> {
  const store = new Corestore(new HypercoreStorage(directory))
  await store.ready()
  const core = store.get({ keyPair: await store.createKeyPair('bench') })
  const bee = new Hyperbee(core, { keyEncoding: 'binary', valueEncoding: 'binary' })
  await bee.ready()
  const processor = process.cpuUsage()
  const start = performance.now()
  for (let first = 0; first < count; first += batch) {
    const changes = bee.batch()
    for (let n = first; n < Math.min(first + batch, count); n++) {
      await changes.put(Buffer.from(keyOf(n)), valueOf(n, valueBytes))
    }
    await changes.flush()
  }
  const totalMs = performance.now() - start
  const { user, system } = process.cpuUsage(processor)
  await bee.close()
  await store.close()
  return { totalMs, processorMs: (user + system) / 1000 }
}
