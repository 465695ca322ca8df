/**
 * Memory of a storage node as a process of its own: idle, and with a million small keys: while they are loaded,
 * after that, after a restart, and after many gets. What counts is the resident set as the kernel tells it.
 */
import { readFileSync } from 'node:fs'
import { setTimeout as wait } from 'node:timers/promises'
import { build } from './build.ts'
import { Cluster } from './cluster.ts'
import { run } from './program.ts'
import { load, preamble, print, progress, quantile, readOptions, show, table } from './report.ts'

const options = readOptions('memory.ts [--keys=1000000] [--gets=10000]', {
  keys: 1_000_000,
  gets: 10_000
})
const batch = 1000
const valueBytes = 100
const inFlight = 8
/** A line of the table for each so many keys. */
const stepKeys = 100_000
const sampleMs = 500
/** So long a state is watched before it is told: garbage goes, the store's own work ends. */
const settleMs = 20_000

/** Megabytes (2^20 bytes) of a process. */
interface Memory {
  readonly rss: number
  /** The most since the process began. */
  readonly peak: number
  /** Of rss: not backed by files. */
  readonly anonymous: number
}

function memoryOf(pid: number): Memory {
  const status = readFileSync(`/proc/${pid}/status`, 'utf8')
  const field = (name: string): number =>
    Number(new RegExp(`^${name}:\\s+(\\d+) kB`, 'm').exec(status)?.[1] ?? Number.NaN) / 1024
  return { rss: field('VmRSS'), peak: field('VmHWM'), anonymous: field('RssAnon') }
}

/** Looks at a process until `work` ends. @returns the samples of its resident set */
async function watched(pid: number, work: Promise<unknown>): Promise<number[]> {
  const samples = [memoryOf(pid).rss]
  const ended = work.then(() => true)
  while (!(await Promise.race([ended, wait(sampleMs, false)]))) samples.push(memoryOf(pid).rss)
  samples.push(memoryOf(pid).rss)
  return samples
}

const rows: (string | number)[][] = []

function told(what: string, pid: number, samples: readonly number[], speed = Number.NaN): void {
  const { rss, peak, anonymous } = memoryOf(pid)
  rows.push([what, rss, quantile(samples, 0.5), quantile(samples, 1), anonymous, peak, speed])
  progress(`${what}: ${show(rss)} MB, most ${show(quantile(samples, 1))}, ${show(speed)} op/s`)
}

async function main(): Promise<void> {
  preamble('Memory of a storage node')
  const worker = build()('bench/worker')
  const cluster = await Cluster.start({ worker, storage: 1, writers: 1 })
  try {
    const [storage] = cluster.storage
    const [writer] = cluster.writers
    if (storage === undefined || writer === undefined) throw new Error('no nodes')
    const settle = async (what: string): Promise<Memory> => {
      const { pid } = storage.worker
      told(what, pid, await watched(pid, wait(settleMs)))
      return memoryOf(pid)
    }
    const idle = await settle('idle: one writer connected, nothing stored')

    const { keys, gets } = options
    for (let first = 0; first < keys; first += stepKeys) {
      const count = Math.min(stepKeys, keys - first)
      const order = { first, count, batch, inFlight, valueBytes, receiptOnly: true }
      const from = performance.now()
      const samples = await watched(storage.worker.pid, writer.worker.ask('write', order))
      const speed = (1000 * count) / (performance.now() - from)
      told(`loading: ${first + count} keys`, storage.worker.pid, samples, speed)
    }
    const loaded = await settle(`${keys} keys, loaded`)
    progress(`the writer: ${show(memoryOf(writer.worker.pid).rss)} MB`)
    const writing = memoryOf(writer.worker.pid)

    await cluster.restart(storage, 'listen')
    const restarted = await settle(`${keys} keys, after a restart`)

    const wanted = Array.from({ length: gets }, (_, i) => Math.floor((i * keys) / gets))
    const reader = await cluster.reader()
    await reader.ask('start', { role: 'connect', peers: [storage.id] })
    const reading = reader.ask('readMany', { keys: wanted, inFlight: 16 })
    const samples = await watched(storage.worker.pid, reading)
    const remote = `${gets} gets of a fresh reader, 16 at a time`
    told(remote, storage.worker.pid, samples, (1000 * gets) / (await reading))
    const own = storage.worker.ask('readMany', { keys: wanted, inFlight: 16 })
    const ownSamples = await watched(storage.worker.pid, own)
    told(`${gets} gets of its own`, storage.worker.pid, ownSamples, (1000 * gets) / (await own))
    const read = await settle('after these gets')

    print(`- load at the end: ${show(load())}`)
    print(`- values of ${valueBytes} bytes, flushes of ${batch}, ${inFlight} in flight`)
    table(
      'Resident set of the storage node, MB',
      ['', 'now', 'median', 'most', 'anonymous now', 'most ever', 'op/s'],
      rows
    )
    print(
      `\nthe writer, when all was loaded: ${show(writing.rss)} MB (most: ${show(writing.peak)})`
    )
    print(`idle: ${show(idle.rss)} MB (to reach: under 120)`)
    const most = Math.max(loaded.rss, restarted.rss, read.rss)
    print(`with ${keys} keys: ${show(most)} MB (to reach: under 400)`)
  } finally {
    await cluster.close()
  }
}

run(main)
