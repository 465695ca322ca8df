/**
 * Reads: warm gets, and cold gets of fresh readers (empty directories) over a link with a delay. Bootstrap node,
 * storage nodes and the writer that loads them are in one network namespace, the readers in another.
 */
import { Config } from '../config/index.ts'
import { build } from './build.ts'
import { Cluster } from './cluster.ts'
import type { ReadTimes } from './commands.ts'
import { keyOf } from './data.ts'
import { Link } from './link/link.ts'
import { run } from './program.ts'
import {
  load,
  median,
  preamble,
  print,
  progress,
  quantile,
  readOptions,
  show,
  table
} from './report.ts'

const options = readOptions('read.ts [--keys=100000] [--gets=40] [--readers=3] [--delay=10]', {
  keys: 100_000,
  /** Of each reader. */
  gets: 40,
  /** Fresh readers, one after the other, for each number of storage nodes. */
  readers: 3,
  /** Of one direction, milliseconds. */
  delay: 10
})
const batch = 1000
const valueBytes = 100
const loadInFlight = 8
const pings = 30
/** Warm gets go over the same keys so many times. */
const warmRounds = 10

/** One cold get. */
interface Sample {
  readonly ms: number
  readonly trips: number
  readonly bytes: number
  readonly deviceBytes: number
}

interface Figures {
  readonly stores: number
  /** The first get of an owner, which asks it for its head; the others. */
  readonly first: Sample[]
  readonly following: Sample[]
  readonly pingMs: number[]
  /** Milliseconds of a warm get at a reader: what it has read is on its disk and in its memory. */
  readonly warmMs: number[]
  /** At the storage nodes, of their own keys. */
  readonly ownMs: number[]
}

/** Different keys for each reader, from all over the store. */
function wanted(reader: number): number[] {
  const { keys, gets, readers } = options
  return Array.from({ length: gets }, (_, i) =>
    Math.floor(((i * readers + reader) * keys) / (gets * readers))
  )
}

async function readCold(
  cluster: Cluster,
  link: Link,
  number: number,
  figures: Figures
): Promise<void> {
  const { namespace, address } = link.b
  const reader = await cluster.reader({ namespace, host: address })
  await reader.ask('start', { role: 'connect', peers: cluster.storage.map(({ id }) => id) })
  const keys = wanted(number)
  const before = link.ping(pings)
  const times: ReadTimes = await reader.ask('read', { keys, valueBytes })
  const roundTrips = [...before, ...link.ping(pings)]
  const roundTrip = median(roundTrips)
  figures.pingMs.push(...roundTrips)
  const config = Config.parse(cluster.config)
  const asked = new Set<string>()
  for (const [i, key] of keys.entries()) {
    const owner = config.ownerOf(keyOf(key))
    const ms = times.ms[i] ?? Number.NaN
    const sample = {
      ms,
      trips: ms / roundTrip,
      bytes: times.bytes[i] ?? Number.NaN,
      deviceBytes: times.deviceBytes[i] ?? Number.NaN
    }
    ;(asked.has(owner) ? figures.following : figures.first).push(sample)
    asked.add(owner)
  }
  const again = Array.from({ length: warmRounds }, () => keys).flat()
  const warm = await reader.ask('readMany', { keys: again, inFlight: 1 })
  figures.warmMs.push(warm / again.length)
  await cluster.end(reader)
}

async function readOwn(cluster: Cluster, figures: Figures): Promise<void> {
  const config = Config.parse(cluster.config)
  for (const { id, worker } of cluster.storage) {
    const all = Array.from({ length: options.readers }, (_, i) => wanted(i)).flat()
    const own = all.filter((key) => config.ownerOf(keyOf(key)) === id)
    await worker.ask('readMany', { keys: own, inFlight: 1 })
    const again = Array.from({ length: warmRounds }, () => own).flat()
    const ms = await worker.ask('readMany', { keys: again, inFlight: 1 })
    figures.ownMs.push(ms / again.length)
  }
}

async function measure(worker: string, link: Link, stores: number): Promise<Figures> {
  const figures: Figures = { stores, first: [], following: [], pingMs: [], warmMs: [], ownMs: [] }
  const { namespace, address: host } = link.a
  const cluster = await Cluster.start({ worker, storage: stores, writers: 1, namespace, host })
  try {
    const [writer] = cluster.writers
    if (writer === undefined) throw new Error('no writer')
    progress(`${stores} storage nodes: loading ${options.keys} keys`)
    await writer.worker.ask('write', {
      first: 0,
      count: options.keys,
      batch,
      inFlight: loadInFlight,
      valueBytes,
      receiptOnly: true
    })
    await cluster.end(writer.worker)
    for (let reader = 0; reader < options.readers; reader++) {
      progress(`reader ${reader + 1} of ${options.readers}`)
      await readCold(cluster, link, reader, figures)
    }
    await readOwn(cluster, figures)
    return figures
  } finally {
    await cluster.close()
  }
}

function printCold(all: readonly Figures[]): void {
  const rows = all.flatMap(({ stores, first, following }) =>
    [
      { which: 'first get of an owner', samples: first },
      { which: 'following gets', samples: following }
    ].map(({ which, samples }) => {
      const pick = (name: keyof Sample): number[] => samples.map((sample) => sample[name])
      const mean = (list: readonly number[]): number =>
        list.reduce((sum, value) => sum + value, 0) / list.length
      const kilobytes = (value: number): string => show(value / 1000)
      return [
        String(stores),
        which,
        String(samples.length),
        `${show(median(pick('ms')))} / ${show(quantile(pick('ms'), 0.95))}`,
        `${show(median(pick('trips')))} / ${show(mean(pick('trips')))} / ${show(quantile(pick('trips'), 0.95))}`,
        `${kilobytes(median(pick('bytes')))} / ${kilobytes(mean(pick('bytes')))} / ${kilobytes(quantile(pick('bytes'), 0.95))}`,
        `${kilobytes(median(pick('deviceBytes')))} / ${kilobytes(mean(pick('deviceBytes')))}`
      ]
    })
  )
  table(
    `Cold gets at ${options.keys} keys, ${options.readers} fresh readers`,
    [
      'storage nodes',
      '',
      'n',
      'ms p50 / p95',
      'round trips p50 / mean / p95',
      'kB at the sockets p50 / mean / p95',
      'kB at the device p50 / mean'
    ],
    rows
  )
}

async function main(): Promise<void> {
  preamble('Reads')
  const worker = build()('bench/worker')
  const link = await Link.open(options.delay)
  const all: Figures[] = []
  try {
    for (const stores of [1, 3]) all.push(await measure(worker, link, stores))
  } finally {
    await link.close()
  }
  const pingMs = all.flatMap((figures) => figures.pingMs)
  print(`- load at the end: ${show(load())}`)
  print(
    `- round trip by ping: ${show(median(pingMs))} ms (p95 ${show(quantile(pingMs, 0.95))}, n ${pingMs.length})`
  )
  printCold(all)
  table(
    'Warm gets, one after the other: median ms of a get',
    ['storage nodes', 'at a reader', 'at the owner'],
    all.map(({ stores, warmMs, ownMs }) => [String(stores), median(warmMs), median(ownMs)])
  )
  const following = all[0]?.following ?? []
  const trips = median(following.map((sample) => sample.trips))
  const kilobytes = median(following.map((sample) => sample.bytes)) / 1000
  print(
    `\na cold get after the first: ${show(trips)} round trips (to reach: at most 4.5), ` +
      `${show(kilobytes)} kB (to reach: at most 20)`
  )
}

run(main)
