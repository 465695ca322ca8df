/** Opens an own index in a folder, as a storage node does, and closes it with its store. */
import { HyperIndexCores } from '../../lib/hyper/index-cores.ts'
import { Store } from '../../lib/hyper/store.ts'
import type { IndexLimits } from '../../lib/lsm/index-limits.ts'
import { OwnIndex } from '../../lib/lsm/own-index.ts'

export interface Opened {
  readonly store: Store
  readonly index: OwnIndex
  readonly cores: HyperIndexCores
  readonly failures: unknown[]
  close(): Promise<void>
}

export async function openOwn(
  directory: string,
  generation = 1,
  limits: Partial<IndexLimits> = {}
): Promise<Opened> {
  const store = await Store.open({ directory, durability: 'sync' })
  const name = { kind: 'index', node: store.nodeId } as const
  const known = store.newestGeneration(name)
  const anchor =
    known === null
      ? await store.begin(name, generation)
      : ((await store.ownGenerations(name)).at(-1)?.log ?? null)
  if (anchor === null) throw new Error('no index here')
  const cores = new HyperIndexCores(store, store.nodeId, anchor.generation)
  const failures: unknown[] = []
  const index = await OwnIndex.open(anchor, {
    cores,
    limits,
    failed: (error) => failures.push(error)
  })
  return {
    store,
    index,
    cores,
    failures,
    close: async () => {
      await index.close()
      await store.close()
    }
  }
}
