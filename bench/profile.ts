/**
 * Where the time of a write goes: profiles of the writer and of the storage node, for single receipted puts and
 * for a bulk load, over loopback. The profiler itself takes time: compare shares, not speeds.
 */
import { build } from './build.ts'
import { Cluster, type Member } from './cluster.ts'
import type { WriteOrder } from './commands.ts'
import type { Profile } from './profiler.ts'
import { run } from './program.ts'
import { load, preamble, print, progress, readOptions, show, table } from './report.ts'

const options = readOptions('profile.ts [--keys=30000] [--singles=1000]', {
  /** Of the bulk load. */
  keys: 30_000,
  singles: 1000
})
const batch = 1000
const valueBytes = 100
const inFlight = 8
/** Packages that take less of the busy time than this are not told. */
const shareMin = 0.01

async function profiled(
  cluster: Cluster,
  order: Pick<WriteOrder, 'first' | 'count' | 'batch' | 'inFlight'>
): Promise<Map<string, Profile>> {
  const nodes: [string, Member][] = [
    ...cluster.storage.map((node): [string, Member] => ['storage node', node]),
    ...cluster.writers.map((node): [string, Member] => ['writer', node])
  ]
  await Promise.all(nodes.map(([, { worker }]) => worker.ask('startProfile')))
  await nodes.at(-1)?.[1].worker.ask('write', { ...order, valueBytes, receiptOnly: true })
  const profiles = nodes.map(async ([name, { worker }]): Promise<[string, Profile]> => [
    name,
    await worker.ask('stopProfile')
  ])
  return new Map(await Promise.all(profiles))
}

function printProfiles(
  what: string,
  operations: number,
  profiles: ReadonlyMap<string, Profile>
): void {
  table(
    `${what}: ms for one operation`,
    ['', 'wall', 'main thread busy', 'processor, all threads'],
    [...profiles].map(([name, { wallMs, busyMs, cpuMs }]) => [
      name,
      wallMs / operations,
      busyMs / operations,
      cpuMs / operations
    ])
  )
  for (const [name, { packages, functions }] of profiles) {
    const all = packages.reduce((sum, { ms }) => sum + ms, 0)
    const share = (ms: number): string => `${show((100 * ms) / all)} %`
    table(
      `${what}, ${name}: main thread by package`,
      ['package', 'share', 'ms for one operation'],
      packages
        .filter(({ ms }) => ms / all >= shareMin)
        .map(({ name: of, ms }) => [of, share(ms), (ms / operations).toFixed(4)])
    )
    table(
      `${what}, ${name}: by function`,
      ['function', 'share'],
      functions.map(({ name: of, ms }) => [of, share(ms)])
    )
  }
}

async function main(): Promise<void> {
  preamble('Profile of writes')
  const worker = build()('bench/worker')
  const cluster = await Cluster.start({ worker, storage: 1, writers: 1 })
  try {
    const [writer] = cluster.writers
    const { keys, singles } = options
    progress('warming up')
    const warmUp = { first: 2 * keys, count: keys, batch, inFlight, valueBytes, receiptOnly: true }
    await writer?.worker.ask('write', warmUp)
    progress('bulk')
    const bulk = await profiled(cluster, { first: 0, count: keys, batch, inFlight })
    progress('single puts')
    const order = { first: 2 * keys, count: singles, batch: 1, inFlight: 1 }
    const single = await profiled(cluster, order)
    print(`- load at the end: ${show(load())}`)
    printProfiles(`Bulk, flushes of ${batch}, ${inFlight} in flight`, keys, bulk)
    printProfiles('Single receipted puts', singles, single)
  } finally {
    await cluster.close()
  }
}

run(main)
