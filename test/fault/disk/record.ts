/**
 * A recording for power cuts: two storage nodes and two writers, each a process of the real program, under
 * load for a while, with everything that they do to their disks in a journal, from the very first start.
 * Nodes are stopped and started again meanwhile, and a second configuration is adopted.
 *
 * What callers were told is in the journal, too: `told-x` holds the lines of load-writer.ts; marks tell of
 * the rest.
 */
import { existsSync, readFileSync, renameSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Test } from 'tape'
import { Config } from '../../../config/index.ts'
import {
  commandLine,
  runProgram,
  type Running,
  spawnProgram,
  spawnSource
} from '../../helpers/process.ts'
import { cleanup } from '../../helpers/cleanup.ts'
import { deadline, until } from '../../helpers/events.ts'
import type { Random } from '../../helpers/random.ts'
import type { Order } from '../../e2e/load-writer.ts'
import { Journal, journalledRoot } from './journal.ts'

export const storageNames: readonly string[] = ['a', 'b']
export const writerNames: readonly string[] = ['x', 'y']
export const nodeNames: readonly string[] = [...storageNames, ...writerNames]

/** Flushes without a receipt that a writer keeps under way. */
const window = 6

export interface Recording {
  readonly journal: string
  readonly root: string
  /** Canonical texts of the configurations, oldest first. */
  readonly configs: readonly string[]
  readonly ids: Readonly<Record<string, string>>
}

export interface RecordingOptions {
  readonly library: string
  readonly bootstrap: string
  readonly folder: string
  /** It ends when each writer was told so many receipts. */
  readonly receipts: number
  readonly durability?: 'sync' | 'os'
  /** Storage nodes run with the barrier taken out. */
  readonly noBarrier?: boolean
}

/** Where the data directory of a node is, from the root. */
export function nodePath(name: string): string {
  return `/nodes/${name}`
}

export async function record(
  t: Test,
  random: Random,
  options: RecordingOptions
): Promise<Recording> {
  const { library, bootstrap, folder, durability = 'sync' } = options
  const prepared = journalledRoot(folder, 'nodes', library)
  const { root, path } = prepared
  const journal = new Journal(path)
  cleanup(t, () => journal.close())
  const env = { ...prepared.env, KVSWARM_BOOTSTRAP: bootstrap }
  const directory = (name: string): string => join(root, nodePath(name))

  const ids: Record<string, string> = {}
  await Promise.all(
    nodeNames.map(async (name) => {
      const command = [...commandLine(), 'id', '-d', directory(name)]
      const { code, stdout, stderr } = await runProgram(command, { env })
      if (code !== 0) throw new Error(`id of ${name}: ${stderr}`)
      ids[name] = stdout.trim()
      journal.mark(`id ${name} ${ids[name]}`)
    })
  )
  const id = (name: string): string => ids[name] ?? ''
  const first = new Config({
    capacities: Object.fromEntries(storageNames.map((name, i) => [id(name), 5 + i])),
    writers: writerNames.map(id)
  })
  const second = Config.parse(first.serialize())
  second.addWriter(id('a'))
  const configPath = join(folder, 'config.json')
  writeFileSync(configPath, first.serialize())

  const patch = { NODE_OPTIONS: `--import ${new URL('no-barrier.mjs', import.meta.url).href}` }
  const running = new Map<string, Running>()
  const told = new Map<string, number>()
  const start = async (name: string, next: number): Promise<void> => {
    if (storageNames.includes(name)) {
      const command = [...commandLine(), '-c', configPath, '-d', directory(name), 'listen']
      const life = spawnProgram(t, command, {
        env: { ...env, ...(options.noBarrier === true ? patch : {}) }
      })
      running.set(name, life)
      await life.line(0, 60_000)
      return
    }
    const own = Array.from({ length: 4 }, (_, i) => `${name}${i}`)
    const order: Order = {
      mode: 'load',
      writer: name,
      storage: directory(name),
      configPath,
      bootstrap,
      seed: random.int(0, 2 ** 31 - 1),
      next,
      window,
      tags: [...own, 'all0', 'all1'],
      told: join(root, `told-${name}`),
      durability,
      padding: 0,
      // Small generations, so that cuts come between the steps of rotations and deletions too.
      rotation: { bytes: 16_384, askedBytesMin: 4096 }
    }
    const lives = linesIn(join(root, `told-${name}`), 'up')
    const life = spawnSource(t, 'test/e2e/load-writer.ts', [JSON.stringify(order)], { env })
    running.set(name, life)
    await until(() => linesIn(join(root, `told-${name}`), 'up') > lives, {
      timeoutMs: 60_000,
      what: `${name} to be up`
    })
  }
  const stop = async (name: string): Promise<void> => {
    const life = running.get(name)
    life?.kill('SIGTERM')
    const { code } = (await (life && deadline(life.exit, 30_000, `the end of ${name}`))) ?? {}
    if (code !== 0 && code !== 143) throw new Error(`${name} ended with ${code}: ${life?.stderr}`)
    told.set(name, linesIn(join(root, `told-${name}`), 'call'))
  }
  await Promise.all(nodeNames.map((name) => start(name, 0)))

  const lines = (word: string): number =>
    Math.min(...writerNames.map((name) => linesIn(join(root, `told-${name}`), word)))
  const heard = (count: number): Promise<unknown> =>
    until(() => lines('receipt') >= count, { timeoutMs: 120_000, what: `${count} receipts` })
  const stops = random.shuffle(nodeNames)
  for (const [i, name] of stops.entries()) {
    await heard(Math.ceil(((i + 1) / (stops.length + 1)) * options.receipts))
    if (i === 0) {
      writeFileSync(`${configPath}.new`, second.serialize())
      renameSync(`${configPath}.new`, configPath)
    }
    await stop(name)
    await start(name, told.get(name) ?? 0)
  }
  await heard(options.receipts)
  await Promise.all(nodeNames.map(stop))
  return { journal: path, root, configs: [first.serialize(), second.serialize()], ids }
}

/** Lines that begin with this word. */
function linesIn(path: string, word: string): number {
  const text = existsSync(path) ? readFileSync(path, 'utf8') : ''
  return text.split('\n').filter((line) => line === word || line.startsWith(`${word} `)).length
}
