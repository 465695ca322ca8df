/**
 * One measurement of bench/index.ts, in a process of its own: loads and overwrites an index, or reads one that was
 * written by another process. What to do comes as its argument, what was measured goes to whoever started it.
 */
import { readFileSync } from 'node:fs'
import { hashedKeyOf, valueOf } from './data.ts'
import { diskOf, type Disk } from './disk.ts'
import { compact, openIndex, type BenchIndex, type Change, type Kind } from './index-stores.ts'
import { startProfile, stopProfile, type Profile } from './profiler.ts'

export type Task = 'write' | 'compacted' | 'read'

export interface Order {
  readonly kind: Kind
  readonly directory: string
  readonly keys: number
  readonly valueBytes: number
  /** Entries of a batch, and how many entries are overwritten. */
  readonly batch: number
  readonly writes: number
  readonly gets: number
  readonly profile: boolean
}

export interface WriteFigures {
  /** Entries per second of the load, in batches of 1,000. */
  readonly loadSpeed: number
  /** Of the overwriting, until the last batch is written, and until nothing is left to be done. */
  readonly speed: number
  readonly settledSpeed: number
  /** Milliseconds of each batch. */
  readonly ms: readonly number[]
  /** Bytes for an entry. */
  readonly journals: number
  readonly runs: number
  readonly anchor: number
  /** What the process gave to the kernel to be written. */
  readonly device: number
  /** When nothing is left to be done; for an entry. */
  readonly disk: Disk
  /** Megabytes. */
  readonly rss: number
  readonly profile: Profile | null
}

export interface ReadFigures {
  readonly openMs: number
  /** A second. */
  readonly gets: number
  readonly scanned: number
  /** Megabytes: opened, after the gets, after the scan. */
  readonly openRss: number
  readonly getsRss: number
  readonly rss: number
}

const loadBatch = 1000
/** Entries are overwritten in steps of this many: a prime, so that all have their turn. */
const step = 7919
/** After the opening: what is left from before is deleted. */
const collectMs = 2000

async function write(order: Order): Promise<WriteFigures> {
  const { kind, directory, keys, valueBytes, batch, writes } = order
  const index = await openIndex(kind, directory)
  const changesAt = (from: number, to: number, version: number): Change[] => {
    const changes: Change[] = []
    for (let n = from; n < to; n++) {
      const key = version === 0 ? n : (n * step) % keys
      const value = valueOf(key + version * keys, valueBytes)
      changes.push({ key: Buffer.from(hashedKeyOf(key)), value })
    }
    return changes
  }
  let start = performance.now()
  for (let n = 0; n < keys; n += loadBatch) {
    await index.write(changesAt(n, Math.min(n + loadBatch, keys), 0))
  }
  const loadSpeed = (1000 * keys) / (performance.now() - start)
  await index.settled()

  const before = index.written()
  const deviceBefore = deviceBytes()
  const ms: number[] = []
  if (order.profile) await startProfile()
  start = performance.now()
  for (let n = 0; n < writes; n += batch) {
    const version = 1 + Math.floor(n / keys)
    const changes = changesAt(n, Math.min(n + batch, writes), version)
    const from = performance.now()
    await index.write(changes)
    ms.push(performance.now() - from)
  }
  const wallMs = performance.now() - start
  await index.settled()
  const settledMs = performance.now() - start
  const profile = order.profile ? await stopProfile() : null
  const after = index.written()
  const device = (deviceBytes() - deviceBefore) / writes
  const figures = {
    loadSpeed,
    speed: (1000 * writes) / wallMs,
    settledSpeed: (1000 * writes) / settledMs,
    ms,
    journals: (after.journals - before.journals) / writes,
    runs: (after.runs - before.runs) / writes,
    anchor: (after.anchor - before.anchor) / writes,
    device,
    disk: diskOf(directory),
    rss: rssNow(),
    profile
  }
  await index.close()
  return figures
}

async function read(order: Order): Promise<ReadFigures> {
  const { kind, directory, keys, valueBytes, gets } = order
  const start = performance.now()
  const index = await openIndex(kind, directory)
  const openMs = performance.now() - start
  const openRss = rssNow()
  await getMany(index, Math.ceil(gets / 4), order)
  const getSpeed = await getMany(index, gets, order)
  const getsRss = rssNow()
  const scanStart = performance.now()
  let scanned = 0
  for await (const { value } of index.entries()) if (value?.length === valueBytes) scanned++
  const scanSpeed = (1000 * scanned) / (performance.now() - scanStart)
  if (scanned !== keys) throw new Error(`${kind}: ${scanned} entries of ${keys}`)
  const rss = rssNow()
  await index.close()
  return { openMs, gets: getSpeed, scanned: scanSpeed, openRss, getsRss, rss }
}

/** @returns what is taken when the store's tables have been written anew */
async function compacted({ kind, directory }: Order): Promise<Disk> {
  const index = await openIndex(kind, directory)
  await new Promise((resolve) => setTimeout(resolve, collectMs))
  await compact(index.storage)
  const disk = diskOf(directory)
  await index.close()
  return disk
}

/** Gets of keys from all over, one after the other. @returns a second */
async function getMany(index: BenchIndex, count: number, order: Order): Promise<number> {
  const start = performance.now()
  for (let i = 0; i < count; i++) {
    const value = await index.get(Buffer.from(hashedKeyOf((i * step) % order.keys)))
    if (value?.length !== order.valueBytes) throw new Error(`${order.kind}: a value is missing`)
  }
  return (1000 * count) / (performance.now() - start)
}

function rssNow(): number {
  return process.memoryUsage().rss / 2 ** 20
}

/** NaN where the kernel does not tell. */
function deviceBytes(): number {
  try {
    return Number(/^write_bytes: (\d+)/m.exec(readFileSync('/proc/self/io', 'utf8'))?.[1])
  } catch {
    return Number.NaN
  }
}

const tasks: Readonly<Record<Task, (order: Order) => Promise<unknown>>> = {
  write,
  compacted,
  read
}
const [, , what, argument = '{}'] = process.argv
const order = JSON.parse(argument) as Order
process.send?.(await tasks[what as Task](order))
process.disconnect()
