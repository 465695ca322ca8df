/**
 * One life of an own index in a process that is killed, or whose disk is cut off. Argument: JSON `Life`.
 *
 * It opens the index, checks that it holds what was told, whole, and that no cores lie there that nothing names; prints
 * `holds N`, and applies batches until it is killed. Each one that is applied is a line in the file `told`. With small
 * bounds there is always a journal that becomes a run, or runs that are merged.
 */
import { deepStrictEqual } from 'node:assert'
import { existsSync, openSync, readFileSync, writeSync } from 'node:fs'
import { coreKey } from '../../lib/index-ports.ts'
import type { IndexLimits } from '../../lib/lsm/index-limits.ts'
import { namesOf } from '../../lib/lsm/names.ts'
import { until } from '../helpers/events.ts'
import { batchOf, lastTold, numberKey, stateAfter, textOf, type Life } from './batches.ts'
import { openOwn, type Opened } from './own.ts'

const limits: Partial<IndexLimits> = {
  journalEntriesMin: 20,
  journalBytesMax: 16_384,
  upperRunsMax: 2,
  tidyEntriesMin: 10,
  graceMs: 0,
  historyMs: 0,
  historyBytesMin: 0
}

/** @returns how many batches it holds */
async function check({ index }: Opened, seed: number, told: number): Promise<number> {
  const bytes = await index.get(numberKey)
  const number = bytes === null ? 0 : Number(textOf(bytes))
  if (number < told) throw new Error(`batch ${told} was told, it holds ${number}`)
  const found: [string, string][] = []
  const snapshot = index.snapshot()
  for await (const { key, value } of snapshot.range({})) found.push([textOf(key), textOf(value)])
  await snapshot.close()
  deepStrictEqual(found, stateAfter(seed, number), `the state after batch ${number}`)
  return number
}

/** What lies on the disk is what the index consists of. */
async function noOrphans({ index, cores }: Opened): Promise<void> {
  await index.settled()
  const look = async (): Promise<string> => {
    const names = (await cores.stored()).filter(({ kind }) => kind === 'run')
    for (const number of cores.journals()) names.push({ kind: 'journal', number })
    const wanted = namesOf(index.shape)
    const next = `journal ${(index.shape.journals.at(-1)?.number ?? 0) + 1}`
    const found = names.map(coreKey).filter((key) => key !== next)
    return JSON.stringify([found.toSorted(), wanted.map(coreKey).toSorted()])
  }
  const same = await until(
    async () => {
      const [found, wanted] = JSON.parse(await look()) as [string[], string[]]
      return found.join() === wanted.join()
    },
    { timeoutMs: 10_000, what: 'no cores but those that are named' }
  ).catch(async () => look())
  if (same !== true) throw new Error(`on disk, and named: ${same}`)
}

async function live({ directory, told, seed, batches }: Life): Promise<void> {
  const opened = await openOwn(directory, 1, limits)
  opened.cores.onDeleteFailed = (error) => opened.failures.push(error)
  const newest = existsSync(told) ? lastTold(readFileSync(told, 'utf8')) : 0
  let number = await check(opened, seed, newest)
  process.stdout.write(`holds ${number}\n`)
  if (batches === 0) {
    await noOrphans(opened)
    await check(opened, seed, number)
    // It goes on.
    for (let left = 20; left > 0; left--) await opened.index.apply(batchOf(seed, ++number))
    await check(opened, seed, number)
  }
  const file = openSync(told, 'a', 0o600)
  for (let left = batches; left > 0; left--) {
    await opened.index.apply(batchOf(seed, ++number))
    writeSync(file, `${number}\n`)
    if (opened.failures.length > 0) break
  }
  const { runs, kept } = opened.index.shape
  await opened.close()
  if (opened.failures.length > 0) throw new Error('it failed', { cause: opened.failures[0] })
  process.stdout.write(`ends ${number}, ${runs.length} runs, ${kept.length} kept\n`)
}

await live(JSON.parse(process.argv[2] ?? '') as Life)
