/**
 * An index that is read from afar while its owner writes, merges and deletes what it has replaced: each read gives a
 * state that was there between its beginning and its end, and ends in time; what was replaced goes here, too.
 */
import { setImmediate } from 'node:timers/promises'
import test from 'tape'
import { HyperIndexCores } from '../../lib/hyper/index-cores.ts'
import { MemoryHub } from '../../lib/hyper/memory-network.ts'
import { serveOnDemand } from '../../lib/hyper/mux.ts'
import { Store } from '../../lib/hyper/store.ts'
import { isKVSwarmError } from '../../lib/errors.ts'
import { coreKey } from '../../lib/index-ports.ts'
import { namesOf } from '../../lib/lsm/names.ts'
import { FollowedIndex } from '../../lib/lsm/view.ts'
import { cleanup } from '../helpers/cleanup.ts'
import { deadline, until } from '../helpers/events.ts'
import { random } from '../helpers/random.ts'
import { tmpdir } from '../helpers/tmp.ts'
import { pair } from '../network/pair.ts'
import { batchOf, numberKey, stateAfter, textOf } from './batches.ts'
import { openOwn } from './own.ts'

const batches = 150
const hangMs = 20_000

test('a reader beside a writer that merges and deletes', (t) => follow(t, 50, 0))

test('a far reader of an index that deletes at once what it has replaced', (t) => follow(t, 0, 30))

/** @param delayMs of the wire, each way */
async function follow(t: test.Test, graceMs: number, delayMs: number): Promise<void> {
  const { seed } = random(t)
  const hub = new MemoryHub()
  const { a, b, toB: toReader, toA: toOwner } = await pair(t, hub)
  hub.delay(a.id, b.id, delayMs)
  const own = await openOwn(tmpdir(t), 1, {
    journalEntriesMin: 60,
    upperRunsMax: 2,
    graceMs,
    historyMs: 0,
    historyBytesMin: 0
  })
  cleanup(t, () => own.close())
  const node = own.store.nodeId
  const served = await own.store.peerLog({ kind: 'index', node }, 1)
  cleanup(t, () => served.close())
  own.store.attach(served, toReader.muxer)
  serveOnDemand(toReader.muxer, async (discoveryKey) => {
    const log = await own.cores.find(discoveryKey)
    if (log) own.store.attach(log, toReader.muxer)
  })

  const store = await Store.open({ directory: tmpdir(t), durability: 'os' })
  cleanup(t, () => store.close())
  const anchor = await store.peerLog({ kind: 'index', node }, 1)
  store.attach(anchor, toOwner.muxer)
  const cores = new HyperIndexCores(store, node, 1)
  cores.onOpen = (log) => store.attach(log, toOwner.muxer)
  const view = await FollowedIndex.open(anchor, cores, { deletes: true })
  cleanup(t, () => view.close())

  /** Heads that were told, by number of the batch. */
  const heads: number[] = [0]
  let number = 0
  const write = async (): Promise<void> => {
    while (number < batches) {
      const { length } = await own.index.apply(batchOf(seed, number + 1))
      heads[++number] = length
    }
  }
  const reads = { ranges: 0, gets: 0, replaced: 0 }
  let slowest = 0
  const timed = async <T>(what: string, read: () => Promise<T>): Promise<T> => {
    const from = performance.now()
    const result = await deadline(read(), hangMs, what)
    slowest = Math.max(slowest, performance.now() - from)
    return result
  }
  /** The newest batch that a head has. */
  const numberAt = (length: number): number => heads.findLastIndex((head) => head <= length)
  const readRange = async (): Promise<void> => {
    const snapshot = view.snapshot()
    try {
      const found: [string, string][] = []
      for await (const { key, value } of snapshot.range({}))
        found.push([textOf(key), textOf(value)])
      const at = Number(found.find(([key]) => key === textOf(numberKey))?.[1] ?? 0)
      await until(() => number >= at)
      if (at !== numberAt(snapshot.head.length)) t.fail(`the state of batch ${at} at another head`)
      if (JSON.stringify(found) !== JSON.stringify(stateAfter(seed, at))) t.fail(`state ${at}`)
      reads.ranges++
    } catch (error) {
      // The reader begins anew then.
      if (!isKVSwarmError(error, 'INDEX_REPLACED')) throw error
      reads.replaced++
    } finally {
      await snapshot.close()
    }
  }
  const readOne = async (): Promise<void> => {
    const atLeast = numberAt(view.head.length)
    const value = await view.get(numberKey)
    const at = value === null ? 0 : Number(textOf(value))
    if (at < atLeast) t.fail(`batch ${at} after ${atLeast}`)
    if (at > number + 1) t.fail(`batch ${at}, of which nothing was written`)
    reads.gets++
  }
  const read = async (one: () => Promise<void>, what: string): Promise<void> => {
    for (;;) {
      if (number >= batches) return
      await timed(what, one)
      // What is in memory is read without a turn of the event loop.
      await setImmediate()
    }
  }
  await Promise.all([write(), read(readRange, 'a range'), read(readOne, 'a get')])
  t.ok(reads.ranges > 0 && reads.gets > 0, `${JSON.stringify(reads)}, slowest ${slowest | 0} ms`)

  await own.index.settled(true)
  await until(() => view.head.length >= own.index.head.length, { what: 'the newest head' })
  const wanted = namesOf(own.index.shape).map(coreKey)
  const read2 = async (): Promise<number> => {
    const before = reads.ranges
    await timed('a range', readRange)
    return reads.ranges - before
  }
  await until(read2, { what: 'a range in the newest state' })
  const lying = async (): Promise<string[]> => {
    const names = await cores.stored()
    return names.map(coreKey).filter((key) => !wanted.includes(key))
  }
  const clean = await until(async () => (await lying()).length === 0).catch(lying)
  t.equal(clean, true, 'what was replaced is deleted here')
}
