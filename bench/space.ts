/**
 * The space that an index takes while it is overwritten again and again, and after a minute of quiet: what the data
 * directory takes on the disk, over the live bytes, besides what an empty store sets aside.
 */
import { setTimeout as wait } from 'node:timers/promises'
import type HypercoreStorage from 'hypercore-storage'
import { hashedKeyOf, valueOf } from './data.ts'
import { diskOf, type Disk } from './disk.ts'
import { openOurs } from './index-stores.ts'
import { removeFolder, run, temporaryFolder } from './program.ts'
import { load, preamble, print, progress, quantile, readOptions, show, table } from './report.ts'

const options = readOptions(
  'space.ts [--keys=100000] [--value=100] [--batch=500] [--rounds=20] [--quiet=60]',
  {
    keys: 100_000,
    value: 100,
    batch: 500,
    rounds: 20,
    /** Seconds without a write, at the end. */
    quiet: 60
  }
)
const keyBytes = 37
const sampleMs = 1000
/** Each round has another order of the keys: multiples of a prime. */
const primes = [7919, 104_729, 1_299_709, 15_485_863, 32_452_843]
const worstMax = 6
const quietMax = 1.6

interface Sample {
  readonly second: number
  readonly disk: Disk
}

/** What is stored, by what it is: keys and values as the store below has them. */
async function contents({ db }: HypercoreStorage): Promise<Map<string, number>> {
  const kinds = ['heads', '', '', 'blocks', 'tree nodes', 'bitfields', 'names', 'local', 'marks']
  const sums = new Map<string, number>()
  for await (const { key, value } of db.iterator({}, { capacity: 256 })) {
    const [area = 0, first = 0] = key
    // The pointer of the core: one byte up to 251, else as many as that byte tells, behind it.
    const kind = key[first < 0xfc ? 2 : 2 + 2 ** (first - 0xfb)]
    const name = area === 4 ? kinds[kind ?? 1] || 'other' : 'cores'
    sums.set(name, (sums.get(name) ?? 0) + key.length + value.length)
  }
  return sums
}

async function main(): Promise<void> {
  preamble('Space of an index that is overwritten')
  const { keys, value: valueBytes, batch, rounds, quiet } = options
  const live = keys * (keyBytes + valueBytes)

  const emptyFolder = await temporaryFolder()
  const empty = await openOurs(emptyFolder)
  const { all: fixed } = diskOf(emptyFolder)
  await empty.close()
  await removeFolder(emptyFolder)

  const directory = await temporaryFolder()
  const ours = await openOurs(directory)
  const { index } = ours
  const began = performance.now()
  const samples: Sample[] = []
  const sample = (): void => {
    const second = (performance.now() - began) / 1000
    samples.push({ second, disk: diskOf(directory) })
  }
  const timer = setInterval(sample, sampleMs)
  const over = (disk: Disk): number => (disk.all - fixed) / live
  const written = (disk: Disk): number => (disk.all - disk.ahead) / live

  const ms: number[] = []
  for (let round = 0; round <= rounds; round++) {
    const prime = primes[round % primes.length] as number
    for (let n = 0; n < keys; n += batch) {
      const changes = []
      for (let at = n; at < Math.min(n + batch, keys); at++) {
        const key = (at * prime + round * batch) % keys
        const value = valueOf(round * keys + key, valueBytes)
        changes.push({ key: Buffer.from(hashedKeyOf(key)), value })
      }
      const from = performance.now()
      await ours.write(changes)
      ms.push(performance.now() - from)
    }
    if (round % 5 === 0) progress(`round ${round}: ${show(over(diskOf(directory)))} of live`)
  }
  const loadMs = performance.now() - began
  const loadedAt = samples.length
  for (let second = 0; second < quiet; second += 10) {
    await wait(10_000)
    const { runs, journals, kept } = index.shape
    progress(
      `quiet for ${second + 10} s: ${show(over(diskOf(directory)))} of live; runs of ` +
        `${runs.map(({ entries }) => entries).join(', ')}; ${journals.length} journals, ${kept.length} kept`
    )
  }
  clearInterval(timer)
  sample()
  const end = diskOf(directory)
  const stored = await contents(ours.storage)
  const { runs, kept } = index.shape
  const runBytes = runs.reduce((sum, { bytes }) => sum + bytes, 0)
  await ours.close()
  await removeFolder(directory)

  const mb = (bytes: number): string => show(bytes / 2 ** 20)
  print(
    `- ${show(keys)} keys of ${keyBytes} bytes, values of ${valueBytes}: ${mb(live)} MB live; ` +
      `overwritten ${rounds} times, ${batch} a batch: ${show((keys * (rounds + 1) * 1000) / loadMs)} writes/s, ` +
      `p99 ${show(quantile(ms, 0.99))} ms, most ${show(quantile(ms, 1))} ms`
  )
  print(`- an empty store takes ${mb(fixed)} MB, set aside for its logs: that is taken off`)
  print(`- load at the end: ${show(load())}`)
  const row = (what: string, of: readonly Sample[], most: number): (string | number)[] => {
    const overs = of.map(({ disk }) => over(disk))
    const worst = quantile(overs, 1)
    const worstWritten = quantile(
      of.map(({ disk }) => written(disk)),
      1
    )
    // What a log took of what was set aside for it is not there any more when it is gone.
    const isReached = Math.max(worst, worstWritten) <= most
    return [
      what,
      quantile(overs, 0.5),
      worst,
      worstWritten,
      `at most ${most}`,
      isReached ? 'reached' : 'MISSED'
    ]
  }
  table(
    'The data directory over the live bytes',
    ['', 'median', 'most', 'most that is written', 'to reach', ''],
    [
      row('while it is overwritten', samples.slice(0, loadedAt), worstMax),
      row('in the quiet behind it', samples.slice(loadedAt), worstMax),
      row(`after ${quiet} s`, samples.slice(-1), quietMax)
    ]
  )
  table(
    'What is taken at the end, MB',
    ['', 'MB'],
    [
      ['tables of the store', end.tables / 2 ** 20],
      ['large blocks beside them', end.blobs / 2 ** 20],
      ['written in its logs', end.logs / 2 ** 20],
      ['set aside for what grows', end.ahead / 2 ** 20],
      ['other files', (end.all - end.tables - end.blobs - end.logs - end.ahead) / 2 ** 20],
      ...[...stored].map(([name, bytes]) => [`stored: ${name}`, bytes / 2 ** 20]),
      [`entries of ${runs.length} runs`, runBytes / 2 ** 20],
      ['kept journals', kept.length]
    ]
  )
  table(
    'Over the live bytes, by the second',
    ['second', 'all', 'tables', 'large blocks', 'logs'],
    samples
      .filter((_, at) => at % Math.ceil(samples.length / 25) === 0)
      .map(({ second, disk }) => [
        second,
        over(disk),
        disk.tables / live,
        disk.blobs / live,
        disk.logs / live
      ])
  )
}

run(main)
