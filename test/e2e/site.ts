/**
 * A private swarm of real processes: data directories with their ids, a configuration file, a DHT of this
 * machine. Storage nodes are called a, b, c, in the order of their ids, so that a key belongs to the same
 * one in every run; writers x, y, z; anything else is a reader.
 */
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Test } from 'tape'
import { Config } from '../../config/index.ts'
import { KVSwarm, type KVSwarmOptions } from '../../lib/index.ts'
import { cleanup } from '../helpers/cleanup.ts'
import { privateDht } from '../helpers/dht.ts'
import {
  type Finished,
  type ProcessOptions,
  run,
  type Running,
  spawnKvswarm
} from '../helpers/process.ts'
import { tmpdir } from '../helpers/tmp.ts'

/** Which nodes the configuration names. */
export interface SiteOptions {
  /** Capacities by name. @default the example's: a 5, b 10, c 7 */
  readonly capacities?: Readonly<Record<string, number>>
  /** @default x and y */
  readonly writers?: readonly string[]
}

/** Options of `run` with a bound for the process. */
export type RunOptions = ProcessOptions & { readonly timeoutMs?: number | undefined }

/** One private swarm; nothing of it runs at first but the DHT. */
export interface Site {
  readonly folder: string
  /** `host:port` of the DHT. */
  readonly bootstrap: string
  readonly config: Config
  readonly configPath: string
  /** Ids by name. */
  readonly ids: Readonly<Record<string, string>>
  /** The id of a node that the configuration names. */
  id(name: string): string
  /** The name of a node that the configuration names. */
  nameOf(id: string): string
  /** Data directory of a node. */
  directory(name: string): string
  /** Runs `kvswarm <args>` as the node to its end. */
  run(name: string, args: readonly string[], options?: RunOptions): Promise<Finished>
  /** Starts `kvswarm <args>` as the node. */
  start(name: string, args: readonly string[]): Running
  /** Starts storage nodes; resolves when each has printed its id. */
  listen(...names: string[]): Promise<Running[]>
  /** The node as a library handle of this process, closed after the test. */
  open(name: string, options?: Partial<KVSwarmOptions>): KVSwarm
  /** A key that begins with `prefix`, whose owner is the storage node of this name. */
  keyOf(owner: string, prefix?: string): string
}

/** The id of a data directory, which is made when it is missing. */
export async function idOf(storage: string): Promise<string> {
  const kv = new KVSwarm({ storage })
  await kv.ready()
  const { nodeId } = kv
  await kv.close()
  return nodeId
}

/** Makes the ids and the configuration. */
export async function makeSite(t: Test, options: SiteOptions = {}): Promise<Site> {
  const { capacities = { a: 5, b: 10, c: 7 }, writers = ['x', 'y'] } = options
  const folder = tmpdir(t)
  const bootstrap = await privateDht(t)
  const storage = Object.keys(capacities).toSorted()
  const names = [...storage, ...writers]
  const made = await Promise.all(
    names.map(async (_, i) => {
      const path = join(folder, `node-${i}`)
      return { path, id: await idOf(path) }
    })
  )
  const inOrder = made.slice(0, storage.length).toSorted((a, b) => (a.id < b.id ? -1 : 1))
  const nodes = [...inOrder, ...made.slice(storage.length)]
  const ids = Object.fromEntries(names.map((name, i) => [name, nodes[i]?.id ?? '']))
  const directory = (name: string): string => nodes[names.indexOf(name)]?.path ?? join(folder, name)
  const id = (name: string): string => {
    const found = ids[name]
    if (found === undefined) throw new Error(`the configuration names no node '${name}'`)
    return found
  }
  const config = new Config({
    capacities: Object.fromEntries(
      Object.entries(capacities).map(([name, capacity]) => [id(name), capacity])
    ),
    writers: writers.map(id)
  })
  const configPath = join(folder, 'config.json')
  writeFileSync(configPath, config.serialize())

  const env = { KVSWARM_BOOTSTRAP: bootstrap }
  const at = (name: string, args: readonly string[]): string[] => [
    '-c',
    configPath,
    '-d',
    directory(name),
    ...args
  ]
  const start = (name: string, args: readonly string[]): Running =>
    spawnKvswarm(t, at(name, args), { env, cwd: folder })
  return {
    folder,
    bootstrap,
    config,
    configPath,
    ids,
    id,
    nameOf: (id) => {
      const name = names.find((name) => ids[name] === id)
      if (name === undefined) throw new Error(`no node has the id ${id}`)
      return name
    },
    directory,
    run: (name, args, options = {}) =>
      run(at(name, args), { cwd: folder, ...options, env: { ...env, ...options.env } }),
    start,
    listen: async (...names) => {
      const listening = names.map((name) => start(name, ['listen']))
      await Promise.all(listening.map((node) => node.line()))
      return listening
    },
    open: (name, options = {}) => {
      const kv = new KVSwarm({ storage: directory(name), config, bootstrap, ...options })
      kv.on('warning', (message) => t.comment(`${name}: ${message}`))
      cleanup(t, () => kv.close())
      return kv
    },
    keyOf: (owner, prefix = 'key') => {
      for (let i = 0; ; i++) {
        const key = `${prefix}-${i}`
        if (config.ownerOf(key) === id(owner)) return key
      }
    }
  }
}

/** Kills the process as a crash does, and resolves when it is gone. */
export async function crash(node: Running): Promise<void> {
  node.kill('SIGKILL')
  await node.exit
}

/** What the lock file of a data directory tells about its holder; null when there is none. */
export function holderOf(directory: string): { pid: number; roles: readonly string[] } | null {
  try {
    return JSON.parse(readFileSync(join(directory, 'kvswarm.lock'), 'utf8')) as {
      pid: number
      roles: readonly string[]
    }
  } catch {
    return null // not there, or just being written
  }
}
