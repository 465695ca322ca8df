/**
 * Flushes to this machine's disk, with and without the barrier: rate and latency for 1, 8 and 32 flushers.
 *
 * One writer in a process of its own, not connected: flushers that share one handle, whose flushes the library puts
 * together, and flushers with a handle each on the same directory, whose flushes come in one by one. In each round the two settings follow each other, on new
 * directories, in turns first; what counts is the median of the rounds' ratios.
 */
import { join } from 'node:path'
import { Config } from '../config/index.ts'
import { build } from './build.ts'
import type { FlushTimes } from './commands.ts'
import { removeFolder, run, temporaryFolder } from './program.ts'
import { undisturbed } from './quiet.ts'
import {
  load,
  median,
  p50p99,
  preamble,
  print,
  progress,
  readOptions,
  show,
  table
} from './report.ts'
import { Worker } from './workers.ts'

const options = readOptions('flush.ts [--rounds=5] [--flushes=800] [--quiet=100]', {
  /** Odd, so that the median is one of them. */
  rounds: 5,
  /** Of one run with one flusher; four times as many with more. */
  flushes: 800,
  /** What others may take of the processors, percent; a run with more of it is made again. */
  quiet: 100
})
const flushersOf = [1, 8, 32]
const valueBytes = 100
const warmUps = 300
/** A storage node that nobody runs. */
const away = 'cd'.repeat(32)
const goal = 0.8

const ways = ['one handle', 'a handle each'] as const
type Way = (typeof ways)[number]
type Durability = 'sync' | 'os'

/** One run for each way and number of flushers, by `way number`, on one new directory. */
async function measure(file: string, durability: Durability): Promise<Map<string, FlushTimes>> {
  const folder = await temporaryFolder()
  const worker = Worker.start(file)
  try {
    const directory = join(folder, 'writer')
    const order = {
      directory,
      bootstrap: '127.0.0.1:1',
      host: '127.0.0.1',
      durability,
      shared: true
    }
    const id = await worker.ask('open', { ...order, config: null })
    await worker.ask('close')
    const config = new Config({ capacities: { [away]: 1 }, writers: [id] }).serialize()
    await worker.ask('open', { ...order, config })
    let first = 0
    const flush = async (way: Way, flushers: number, count: number): Promise<FlushTimes> => {
      const handles = way === 'one handle' ? null : directory
      const asked = { flushers, count, first, valueBytes, handles }
      first += count
      return await worker.ask('flush', asked)
    }
    const times = new Map<string, FlushTimes>()
    for (const way of ways) {
      await flush(way, 8, warmUps)
      for (const flushers of flushersOf) {
        const count = options.flushes * (flushers === 1 ? 1 : 4)
        times.set(`${way}, ${flushers}`, await flush(way, flushers, count))
      }
    }
    return times
  } finally {
    await worker.end()
    await removeFolder(folder)
  }
}

const rate = ({ ms, totalMs }: FlushTimes): number => (1000 * ms.length) / totalMs

async function main(): Promise<void> {
  preamble('Flushes')
  const file = build()('bench/worker')
  const runs: Record<Durability, Map<string, FlushTimes>[]> = { sync: [], os: [] }
  for (let round = 1; round <= options.rounds; round++) {
    const order: Durability[] = round % 2 === 1 ? ['sync', 'os'] : ['os', 'sync']
    for (const durability of order) {
      const { value } = await undisturbed(options.quiet / 100, () => measure(file, durability))
      runs[durability].push(value)
      const rates = [...value].map(([name, times]) => `${name}: ${show(rate(times))}`)
      progress(`round ${round}, ${durability}: ${rates.join(', ')} flushes/s`)
    }
  }
  print(`- load at the end: ${show(load())}; values of ${valueBytes} bytes, one put a flush`)
  const names = ways.flatMap((way) => flushersOf.map((flushers) => `${way}, ${flushers}`))
  const rows = names.map((name) => {
    const of = (durability: Durability): FlushTimes[] =>
      runs[durability].flatMap((round) => round.get(name) ?? [])
    const ratios = of('sync').map((times, round) => {
      const without = of('os')[round]
      return without === undefined ? Number.NaN : rate(times) / rate(without)
    })
    const syncs = of('sync').map((times) => times.syncs / times.ms.length)
    return [
      name,
      median(of('sync').map(rate)),
      p50p99(of('sync').flatMap(({ ms }) => ms)),
      median(of('os').map(rate)),
      p50p99(of('os').flatMap(({ ms }) => ms)),
      `${show(median(ratios))} (${ratios.map(show).join(', ')})`,
      median(syncs)
    ]
  })
  table(
    `Flushes of one put, ${options.rounds} interleaved rounds; ms p50 / p99 of flush()`,
    ['flushers', 'with barrier/s', 'ms', 'without/s', 'ms', 'ratio', 'syncs a flush'],
    rows
  )
  print(`\nto reach: at least ${goal} with 32 flushers`)
}

run(main)
