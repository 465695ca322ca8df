/** Two stores on one connection in memory: one has an index of its own, the other reads it. */
import NoiseSecretStream from '@hyperswarm/secret-stream'
import type { Test } from 'tape'
import { HyperIndexCores } from '../../lib/hyper/index-cores.ts'
import type { HyperLog } from '../../lib/hyper/log.ts'
import { WireEnd } from '../../lib/hyper/memory-link.ts'
import { BoundedMux, serveOnDemand } from '../../lib/hyper/mux.ts'
import { Store } from '../../lib/hyper/store.ts'
import { cleanup } from '../helpers/cleanup.ts'
import { tmpdir } from '../helpers/tmp.ts'
import type { Opened } from './own.ts'

export interface Linked {
  readonly store: Store
  /** The index's anchor, as the reader has it. */
  readonly anchor: HyperLog
  readonly cores: HyperIndexCores
  /** Ends the connection; connect() begins another one. */
  disconnect(): void
  connect(): void
}

/** A reader of the index, connected to it. */
export async function readerOf(t: Test, owner: Opened): Promise<Linked> {
  const store = await Store.open({ directory: tmpdir(t), durability: 'sync' })
  const { generation } = owner.cores
  const anchor = await store.peerLog({ kind: 'index', node: owner.store.nodeId }, generation)
  const cores = new HyperIndexCores(store, owner.store.nodeId, generation)
  const served = await owner.store.peerLog({ kind: 'index', node: owner.store.nodeId }, generation)
  let muxes: BoundedMux[] = []
  const connect = (): void => {
    const [here, there] = WireEnd.pair({ delayMs: 0, bytesPerSecond: Infinity })
    const [a, b] = [new NoiseSecretStream(true, here), new NoiseSecretStream(false, there)]
    for (const stream of [a, b]) stream.on('error', () => {})
    const [ours, theirs] = [new BoundedMux(a), new BoundedMux(b)]
    muxes = [ours, theirs]
    served.core.replicate(ours)
    serveOnDemand(ours, async (discoveryKey) => {
      const log = await owner.cores.find(discoveryKey)
      log?.core.replicate(ours)
    })
    anchor.core.replicate(theirs)
    for (const log of cores.logs) log.core.replicate(theirs)
    cores.onOpen = (log) => log.core.replicate(theirs)
  }
  const disconnect = (): void => {
    for (const mux of muxes) mux.stream.destroy()
  }
  connect()
  cleanup(t, async () => {
    disconnect()
    await served.close()
    await store.close()
  })
  return { store, anchor, cores, connect, disconnect }
}
