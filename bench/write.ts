/**
 * Writes: one storage node and one writer, each a process of its own, over loopback, beside hyperbee alone.
 *
 * Everything is repeated in rounds, each run on new directories, and the runs of a round follow each other, so
 * that what else the machine does falls on all alike; what counts is the median of the rounds.
 */
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { build } from './build.ts'
import { Cluster } from './cluster.ts'
import type { BeeTimes } from './bee.ts'
import type { WriteOrder, WriteTimes } from './commands.ts'
import { removeFolder, run, temporaryFolder } from './program.ts'
import { undisturbed } from './quiet.ts'
import {
  median,
  p50p99,
  preamble,
  print,
  progress,
  quantile,
  readOptions,
  show,
  table
} from './report.ts'
import { Worker } from './workers.ts'

const options = readOptions('write.ts [--rounds=5] [--keys=20000] [--singles=300] [--quiet=100]', {
  /** Odd, so that the median is one of them. */
  rounds: 5,
  /** Of one bulk load. */
  keys: 20_000,
  /** Single puts of one kind in one run. */
  singles: 300,
  /** What others may take of the processors, percent; a run with more of it is made again. */
  quiet: 100
})
const batch = 1000
const valueBytes = 100
/** Flushes that wait for their receipts at a time. */
const pipelined = 8
const parallel = 64
/** Before single puts are measured: their code is compiled, and what the load has left behind is done. */
const warmUps = 50

/** `memory`: all data in memory, where syncing costs nothing, at either end. */
const settings = {
  sync: { durability: 'sync', parent: tmpdir(), says: 'barrier at both ends' },
  os: { durability: 'os', parent: tmpdir(), says: "durability 'os': barrier at the storage node" },
  memory: { durability: 'sync', parent: '/dev/shm', says: 'data in memory: no disk at all' }
} as const
type Setting = keyof typeof settings

/** One run on new directories. */
interface Run {
  readonly bulk: WriteTimes
  /** Milliseconds of the processor for the bulk load: storage node, writer. */
  readonly storageMs: number
  readonly writerMs: number
  /** Each waits for its ack and its receipt; then for the receipt alone; then many at a time. */
  readonly single: WriteTimes
  readonly receipted: WriteTimes
  readonly parallel: WriteTimes
  /** Of the storage node's and the writer's stores, for one single put that waits for its receipt alone. */
  readonly syncs: number
}

/** Runs of one setting and one way of bulk loading, one for each round. */
interface Series {
  readonly setting: Setting
  readonly inFlight: number
  readonly runs: Run[]
}

async function measure(worker: string, setting: Setting, inFlight: number): Promise<Run> {
  const { durability, parent } = settings[setting]
  const cluster = await Cluster.start({ worker, storage: 1, writers: 1, durability, parent })
  try {
    const [storage] = cluster.storage
    const [writer] = cluster.writers
    if (storage === undefined || writer === undefined) throw new Error('no nodes')
    const { keys, singles } = options
    const write = (order: Partial<WriteOrder>): Promise<WriteTimes> =>
      writer.worker.ask('write', {
        first: keys,
        count: singles,
        batch: 1,
        inFlight: 1,
        valueBytes,
        receiptOnly: false,
        ...order
      })
    const syncs = async (): Promise<number> => {
      const nodes = [...cluster.storage, ...cluster.writers]
      const all = await Promise.all(nodes.map((node) => node.worker.ask('status')))
      return all.reduce((sum, { barrier }) => sum + barrier.syncs, 0)
    }
    const processor = (): Promise<[number, number]> =>
      Promise.all([storage.worker.ask('processor'), writer.worker.ask('processor')])
    const [storageBefore, writerBefore] = await processor()
    const bulk = await write({ first: 0, count: keys, batch, inFlight })
    const [storageAfter, writerAfter] = await processor()
    await write({ count: warmUps })
    const before = await syncs()
    const receipted = await write({ receiptOnly: true })
    const perPut = ((await syncs()) - before) / singles
    const single = await write({})
    const many = await write({ count: 4 * singles, inFlight: parallel, receiptOnly: true })
    return {
      bulk,
      storageMs: storageAfter - storageBefore,
      writerMs: writerAfter - writerBefore,
      single,
      receipted,
      parallel: many,
      syncs: perPut
    }
  } finally {
    await cluster.close()
  }
}

async function beeAlone(worker: string): Promise<BeeTimes> {
  const folder = await temporaryFolder()
  const alone = Worker.start(worker)
  try {
    const { keys: count } = options
    const directory = join(folder, 'bee')
    return await alone.ask('loadBee', { directory, count, batch, valueBytes })
  } finally {
    await alone.end()
    await removeFolder(folder)
  }
}

const rate = (count: number, { totalMs }: { totalMs: number }): number => (1000 * count) / totalMs

function printBulk(series: readonly Series[], bee: readonly BeeTimes[]): void {
  const { keys, rounds } = options
  const beeRates = bee.map((times) => rate(keys, times))
  const rows = series.map(({ setting, inFlight, runs }) => {
    const rates = runs.map(({ bulk }) => rate(keys, bulk))
    const ratios = rates.map((value, round) => value / (beeRates[round] ?? Number.NaN))
    const all = (pick: (times: WriteTimes) => number[]): number[] =>
      runs.flatMap(({ bulk }) => pick(bulk))
    return [
      settings[setting].says,
      inFlight === 1 ? 'one by one' : `${inFlight} in flight`,
      median(rates),
      `${show(median(ratios))} (${ratios.map(show).join(', ')})`,
      p50p99(all((times) => times.durableMs)),
      p50p99(all((times) => times.ackMs)),
      p50p99(all((times) => times.receiptMs)),
      `${show(median(runs.map((one) => one.storageMs)) / keys)} + ${show(median(runs.map((one) => one.writerMs)) / keys)}`
    ]
  })
  rows.push([
    'hyperbee alone, no sync',
    'one by one',
    median(beeRates),
    '1',
    '-',
    '-',
    '-',
    show(median(bee.map((times) => times.processorMs)) / keys)
  ])
  table(
    `Flushes of ${batch}: ${keys} new keys a run, ${rounds} rounds; ms p50 / p99 from flush()`,
    [
      '',
      'flushes',
      'receipted op/s',
      'of hyperbee alone',
      'durable',
      'ack',
      'receipt',
      'processor ms/op, storage + writer'
    ],
    rows
  )
}

function printSingles(series: readonly Series[]): void {
  const { singles, rounds } = options
  const rows = (Object.keys(settings) as Setting[]).map((setting) => {
    const runs = series.filter((one) => one.setting === setting).flatMap((one) => one.runs)
    const all = (pick: (run: Run) => number[]): number[] => runs.flatMap(pick)
    return [
      settings[setting].says,
      p50p99(all((one) => one.single.durableMs)),
      p50p99(all((one) => one.single.ackMs)),
      p50p99(all((one) => one.single.receiptMs)),
      p50p99(all((one) => one.receipted.receiptMs)),
      median(runs.map((one) => rate(singles, one.receipted))),
      median(runs.map((one) => rate(4 * singles, one.parallel))),
      median(runs.map((one) => one.syncs))
    ]
  })
  table(
    `Single puts: ${2 * rounds} runs of ${singles}, behind a load of ${options.keys}; ms p50 / p99 from flush()`,
    [
      '',
      'durable',
      'ack',
      'receipt',
      'receipt alone',
      'receipted op/s',
      `the same, ${parallel} at a time`,
      'syncs a put'
    ],
    rows
  )
}

async function main(): Promise<void> {
  preamble('Writes')
  const worker = build()('bench/worker')
  const series: Series[] = (Object.keys(settings) as Setting[]).flatMap((setting) =>
    [1, pipelined].map((inFlight) => ({ setting, inFlight, runs: [] }))
  )
  const bee: BeeTimes[] = []
  const disturbances: number[] = []
  const quietly = async <T>(what: () => Promise<T>): Promise<T> => {
    const { value, others } = await undisturbed(options.quiet / 100, what)
    disturbances.push(others)
    return value
  }
  for (let round = 1; round <= options.rounds; round++) {
    progress(`round ${round} of ${options.rounds}`)
    bee.push(await quietly(() => beeAlone(worker)))
    // Every other round backwards, so that nothing always stands beside hyperbee.
    for (const { setting, inFlight, runs } of round % 2 === 1 ? series : series.toReversed()) {
      const one = await quietly(() => measure(worker, setting, inFlight))
      runs.push(one)
      progress(`${setting}, ${inFlight} in flight: ${show(rate(options.keys, one.bulk))} op/s`)
    }
  }
  const percent = disturbances.map((share) => 100 * share)
  print(
    `- others took ${show(median(percent))} % of the processors in the median run, ` +
      `${show(Math.max(...percent))} % at most`
  )
  print(`- values of ${valueBytes} bytes, keys of 22; a storage node, a writer, a bootstrap node`)
  printBulk(series, bee)
  printSingles(series)
  const sync = series.filter(({ setting }) => setting === 'sync')
  for (const { inFlight, runs } of sync) {
    const ratios = runs.map(({ bulk }, round) => (bee[round]?.totalMs ?? Number.NaN) / bulk.totalMs)
    const how = inFlight === 1 ? 'one by one' : `${inFlight} in flight`
    print(
      `\nreceipted bulk writes / hyperbee alone, ${how}: ${show(median(ratios))} (to reach: 0.6)`
    )
  }
  const receipts = sync.flatMap(({ runs }) => runs.flatMap(({ receipted }) => receipted.receiptMs))
  print(`\na single receipted put, p50: ${show(quantile(receipts, 0.5))} ms (to reach: under 15)`)
}

run(main)
