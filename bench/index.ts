/**
 * Our index beside hyperbee and hyperbee2, in one run: a table for each size of batches. Each measurement is a
 * process of its own (memory), one after the other, all kinds in each round, and medians over the rounds.
 *
 * Ours runs twice: with the durability barrier, as storage nodes use it, and with nothing synced, as the bees are.
 * Cold gets over a link: bench/read.ts.
 */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { build } from './build.ts'
import type { Disk } from './disk.ts'
import { kinds, type Kind } from './index-stores.ts'
import type { Order, ReadFigures, Task, WriteFigures } from './index-worker.ts'
import { removeFolder, run, temporaryFolder } from './program.ts'
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

const options = readOptions(
  'index.ts [--keys=100000] [--value=100] [--batches=1,10,100,1000] [--rounds=3] [--writes=0] ' +
    '[--gets=10000] [--only=ours,ours-unsynced,hyperbee,hyperbee2] [--profile]',
  {
    keys: 100_000,
    /** Bytes. */
    value: 100,
    batches: '1,10,100,1000',
    rounds: 3,
    /** Entries that are overwritten; 0: all, and of batches under 100 a fifth. */
    writes: 0,
    gets: 10_000,
    only: kinds.join(','),
    profile: false
  }
)
const keyBytes = 37
/** Functions of a profile that are told. */
const functionsMax = 15

interface Figures {
  readonly write: WriteFigures
  readonly compacted: Disk
  readonly read: ReadFigures
}

async function measure<T>(worker: string, what: Task, order: Order): Promise<T> {
  const child = spawn(process.execPath, [worker, what, JSON.stringify(order)], {
    stdio: ['ignore', 'inherit', 'inherit', 'ipc']
  })
  let figures: T | null = null
  child.on('message', (message) => {
    figures = message as T
  })
  await once(child, 'close')
  if (figures === null) throw new Error(`${order.kind}: ended with code ${child.exitCode}`)
  return figures
}

async function measureKind(worker: string, kind: Kind, batch: number): Promise<Figures> {
  const { keys, value: valueBytes, gets, profile } = options
  const writes = options.writes || (batch < 100 ? keys / 5 : keys)
  const directory = await temporaryFolder()
  const order = { kind, directory, keys, valueBytes, batch, writes, gets, profile }
  try {
    const write = await measure<WriteFigures>(worker, 'write', order)
    const disk = await measure<Disk>(worker, 'compacted', order)
    const read = await measure<ReadFigures>(worker, 'read', order)
    progress(
      `${kind}, batches of ${batch}: ${show(write.speed)} writes/s, most ` +
        `${show(quantile(write.ms, 1))} ms, ${show(read.gets)} gets/s, load ${show(load())}`
    )
    return { write, compacted: disk, read }
  } finally {
    await removeFolder(directory)
  }
}

function printBatch(batch: number, of: ReadonlyMap<Kind, readonly Figures[]>): void {
  const live = options.keys * (keyBytes + options.value)
  const rows = [...of]
  const middle = (all: readonly Figures[], value: (one: Figures) => number): number =>
    median(all.map(value))
  const overLive = ({ all, ahead }: Disk): number => (all - ahead) / live
  const bees = of.get('hyperbee')
  const beeSpeeds = bees?.map(({ write }) => write.speed) ?? []
  const ratios = (all: readonly Figures[]): string =>
    beeSpeeds.length < all.length
      ? '-'
      : show(median(all.map(({ write }, round) => write.speed / (beeSpeeds[round] ?? Number.NaN))))
  table(
    `Batches of ${batch}: writing`,
    ['', 'writes/s', 'of hyperbee', 'merging included', 'p50 ms', 'p99 ms', 'max ms', 'load/s'],
    rows.map(([kind, all]) => [
      kind,
      middle(all, ({ write }) => write.speed),
      ratios(all),
      middle(all, ({ write }) => write.settledSpeed),
      middle(all, ({ write }) => quantile(write.ms, 0.5)),
      middle(all, ({ write }) => quantile(write.ms, 0.99)),
      middle(all, ({ write }) => quantile(write.ms, 1)),
      middle(all, ({ write }) => write.loadSpeed)
    ])
  )
  table(
    `Batches of ${batch}: bytes for an entry, and disk over live bytes`,
    ['', 'log', 'of it runs', 'anchor', 'to the disk', 'disk', 'compacted', 'MB set aside'],
    rows.map(([kind, all]) => [
      kind,
      middle(all, ({ write: { journals, runs, anchor } }) => journals + runs + anchor),
      middle(all, ({ write }) => write.runs),
      middle(all, ({ write }) => write.anchor),
      middle(all, ({ write }) => write.device),
      middle(all, ({ write }) => overLive(write.disk)),
      middle(all, ({ compacted }) => overLive(compacted)),
      middle(all, ({ write }) => write.disk.ahead / 2 ** 20)
    ])
  )
  table(
    `Batches of ${batch}: reading in a new process, and memory (MB)`,
    ['', 'gets/s', 'scan/s', 'open ms', 'written', 'opened', 'after gets', 'after the scan'],
    rows.map(([kind, all]) => [
      kind,
      middle(all, ({ read }) => read.gets),
      middle(all, ({ read }) => read.scanned),
      middle(all, ({ read }) => read.openMs),
      middle(all, ({ write }) => write.rss),
      middle(all, ({ read }) => read.openRss),
      middle(all, ({ read }) => read.getsRss),
      middle(all, ({ read }) => read.rss)
    ])
  )
  for (const [kind, all] of of) {
    const profile = all.at(-1)?.write.profile
    if (!profile) continue
    const busy = profile.packages.reduce((sum, { ms }) => sum + ms, 0)
    const share = (ms: number): string => `${show((100 * ms) / busy)} %`
    table(
      `Batches of ${batch}, ${kind}: main thread ${show(profile.busyMs)} of ` +
        `${show(profile.wallMs)} ms busy, all threads ${show(profile.cpuMs)} ms`,
      ['where', 'share'],
      [...profile.packages.slice(0, functionsMax), ...profile.functions.slice(0, functionsMax)].map(
        ({ name, ms }) => [name, share(ms)]
      )
    )
  }
}

async function main(): Promise<void> {
  const names = options.only.split(',')
  const chosen = kinds.filter((kind) => names.includes(kind))
  const batches = options.batches.split(',').map(Number)
  if (chosen.length < names.length || !batches.every((batch) => batch > 0)) {
    throw new Error(`--only has some of ${kinds.join(',')}, --batches numbers`)
  }
  const worker = build()('bench/index-worker')
  preamble('The index, beside hyperbee and hyperbee2')
  print(
    `- ${show(options.keys)} keys of ${keyBytes} bytes, values of ${options.value} bytes, ` +
      `medians of ${options.rounds} rounds; loaded in batches of 1,000, then overwritten`
  )
  for (const batch of batches) {
    const figures = new Map<Kind, Figures[]>(chosen.map((kind) => [kind, []]))
    for (let round = 0; round < options.rounds; round++) {
      for (const kind of chosen) {
        figures.get(kind)?.push(await measureKind(worker, kind, batch))
      }
    }
    printBatch(batch, figures)
  }
  print(`\n- load at the end: ${show(load())}`)
}

run(main)
