/**
 * Memory of each role at its largest, each a process of its own: a storage node with many connected writers, a
 * writer that streams a million puts, the storage node that takes them in, a reader that lists them all. What counts
 * is the resident set as the kernel tells it.
 */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as wait } from 'node:timers/promises'
import { Config } from '../config/index.ts'
import { build } from './build.ts'
import { Cluster } from './cluster.ts'
import { removeFolder, run, temporaryFolder } from './program.ts'
import { load, preamble, print, progress, quantile, readOptions, show, table } from './report.ts'
import { Worker } from './workers.ts'

const options = readOptions(
  'memory-roles.ts [--writers=200] [--each=500] [--puts=1000000] [--crowd=1] [--stream=1]',
  { writers: 200, each: 500, puts: 1_000_000, crowd: 1, stream: 1 }
)
const processes = 4
const batch = 1000
const valueBytes = 100
const sampleMs = 250
const settleMs = 10_000

/** Megabytes (2^20 bytes) of a process: resident now, and the most ever. */
function memoryOf(pid: number): { rss: number; peak: number } {
  const status = readFileSync(`/proc/${pid}/status`, 'utf8')
  const field = (name: string): number =>
    Number(new RegExp(`^${name}:\\s+(\\d+) kB`, 'm').exec(status)?.[1] ?? Number.NaN) / 1024
  return { rss: field('VmRSS'), peak: field('VmHWM') }
}

const rows: (string | number)[][] = []

async function watched<T>(what: string, pid: number, work: Promise<T>): Promise<T> {
  const samples = [memoryOf(pid).rss]
  const from = performance.now()
  const ended = work.then(() => true)
  while (!(await Promise.race([ended, wait(sampleMs, false)]))) samples.push(memoryOf(pid).rss)
  const seconds = (performance.now() - from) / 1000
  const { rss, peak } = memoryOf(pid)
  rows.push([what, rss, quantile(samples, 0.5), quantile(samples, 1), peak, seconds])
  progress(`${what}: ${show(rss)} MB, most ${show(peak)}, ${show(seconds)} s`)
  return await work
}

/** One storage node, and so many writers, each a whole node with its own directory and connection. */
async function crowd(file: string): Promise<void> {
  const host = '127.0.0.1'
  const folder = await temporaryFolder()
  const workers = Array.from({ length: processes + 2 }, () =>
    Worker.start(file, { nodeOptions: ['--expose-gc'] })
  )
  const [dht, storage, ...others] = workers as [Worker, Worker, ...Worker[]]
  try {
    const bootstrap = await dht.ask('runBootstrap', { host })
    const common = { bootstrap, host, durability: 'sync' } as const
    const directory = join(folder, 'storage')
    const id = await storage.ask('open', { ...common, directory, config: null })
    await storage.ask('close')
    const perProcess = Math.ceil(options.writers / processes)
    const directories = others.map((_, p) =>
      Array.from({ length: perProcess }, (__, i) => join(folder, `w${p}-${i}`))
    )
    const writers: string[] = []
    for (const [p, worker] of others.entries()) {
      writers.push(
        ...(await worker.ask('openCrowd', {
          ...common,
          config: null,
          directories: directories[p] ?? []
        }))
      )
      await worker.ask('close')
    }
    const config = new Config({ capacities: { [id]: 1 }, writers }).serialize()
    await storage.ask('open', { ...common, directory, config })
    await storage.ask('start', { role: 'listen', peers: [] })
    const { pid } = storage
    await watched('storage node, nobody connected', pid, wait(settleMs))
    const connecting = others.map(async (worker, p) => {
      await worker.ask('openCrowd', { ...common, config, directories: directories[p] ?? [] })
      await worker.ask('startCrowd')
    })
    const connected = async (): Promise<void> => {
      await Promise.all(connecting)
      while ((await storage.ask('status')).peers.length < writers.length) await wait(200)
    }
    await watched(`${writers.length} writers connect`, pid, connected())
    await watched('all connected, idle', pid, wait(settleMs))
    for (let round = 0; round < 3; round++) {
      const { each } = options
      const writing = others.map((worker, p) => {
        const first = (round * processes + p) * perProcess * each
        return worker.ask('crowdWrites', { first, each, valueBytes })
      })
      const written = Promise.all(writing).catch(async (error: unknown) => {
        const { inboxes, peers, index } = await storage.ask('status')
        const behind = inboxes.filter((one) => one.applied?.length !== one.known?.length)
        progress(`behind: ${JSON.stringify({ behind, index, peers: peers.length })}`)
        throw error
      })
      await watched(`each writes ${each} keys, receipted`, pid, written)
    }
    await watched('all connected, after that', pid, wait(settleMs))
    progress(JSON.stringify(await storage.ask('memory')))
    const most = memoryOf(pid).peak
    print(`storage node with ${writers.length} writers: ${show(most)} MB at most (to reach: 400)`)
  } finally {
    for (const worker of workers) worker.kill()
    await removeFolder(folder)
  }
}

async function streaming(file: string): Promise<void> {
  const cluster = await Cluster.start({ worker: file, storage: 1, writers: 1 })
  try {
    const [storage] = cluster.storage
    const [writer] = cluster.writers
    if (storage === undefined || writer === undefined) throw new Error('no nodes')
    const { puts: count } = options
    const order = { count, batch, valueBytes }
    await watched(
      `writer: ${count} puts, a flush each ${batch}`,
      writer.worker.pid,
      writer.worker.ask('stream', order)
    )
    const writing = memoryOf(writer.worker.pid).peak
    const applied = async (): Promise<void> => {
      const backlog = async (): Promise<number> =>
        (await writer.worker.ask('status')).outboxes.reduce(
          (sum, one) => sum + one.pendingBlocks,
          0
        )
      while ((await backlog()) > 0) await wait(500)
    }
    await watched('writer: until all is receipted', writer.worker.pid, applied())
    const taking = memoryOf(storage.worker.pid).peak
    const reader = await cluster.reader()
    await reader.ask('start', { role: 'connect', peers: [storage.id] })
    const listed = await watched(`reader: lists ${count} entries`, reader.pid, reader.ask('list'))
    if (listed !== count) throw new Error(`${listed} entries of ${count} were listed`)
    const again = await watched('reader: lists them again', reader.pid, reader.ask('list'))
    if (again !== count) throw new Error(`${again} entries of ${count} were listed`)
    print(`writer: ${show(writing)} MB at most while it streams (to reach: 250)`)
    print(`storage node that takes it in: ${show(taking)} MB at most`)
    print(`reader that lists it: ${show(memoryOf(reader.pid).peak)} MB at most`)
  } finally {
    await cluster.close()
  }
}

async function main(): Promise<void> {
  preamble('Memory of each role')
  const file = build()('bench/worker')
  if (options.crowd > 0) await crowd(file)
  if (options.stream > 0) await streaming(file)
  print(`- load at the end: ${show(load())}`)
  table('Resident set, MB', ['', 'now', 'median', 'most', 'most ever', 'seconds'], rows)
}

run(main)
