/**
 * Data directories to be harmed: a storage node's and a writer's, each as it is while it is open (its data in the
 * write-ahead log) and after it was closed (its data in table files), with all that must be found in them.
 */
import { copyFileSync, mkdirSync, readdirSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Test } from 'tape'
import { KVSwarm, type KVSwarmOptions, type KVEntry, type MemoryHub } from '../../lib/index.ts'
import { Store } from '../../lib/hyper/store.ts'
import type { Config } from '../../config/index.ts'
import { makeSwarm } from '../kvswarm/swarm.ts'
import { tmpdir } from '../helpers/tmp.ts'

export interface Template {
  readonly name: string
  /** The files, without the one that ties a directory to its place. */
  readonly folder: string
  readonly role: 'storage' | 'writer'
  readonly nodeId: string
}

export interface Templates {
  readonly list: readonly Template[]
  readonly config: Config
  readonly hub: MemoryHub
  /** What is applied: what the storage node has to give. */
  readonly applied: ReadonlyMap<string, unknown>
  /** What lies in the writer's outbox, undelivered. */
  readonly waiting: ReadonlyMap<string, unknown>
  /** The writer's outbox and the storage node's index, block by block. */
  readonly logs: ReadonlyMap<string, readonly string[]>
  open(folder: string, options?: Partial<KVSwarmOptions>): KVSwarm
}

const waits = 40

export async function makeTemplates(t: Test): Promise<Templates> {
  const swarm = await makeSwarm(t, { storage: 1, writers: 1, capacities: [1] })
  const { storage, writers, config, hub, ids, path } = swarm
  const [s] = storage as [KVSwarm]
  const [w] = writers as [KVSwarm]
  const applied = new Map<string, unknown>()
  for (let round = 0; round < 4; round++) {
    for (let i = 0; i < 50; i++) {
      // The store keeps what is larger than 4 KiB in files of their own.
      const value = i % 10 === 9 ? `${round} `.repeat(4000) : `value ${round} of ${i}`
      const key = `key ${(round * 25 + i) % 100}`
      w.put(key, value)
      applied.set(key, value)
    }
    await w.flush({ receipt: true })
  }
  await w.close()
  const offline = swarm.open('w0')
  const waiting = new Map<string, unknown>()
  for (let i = 0; i < waits; i++) {
    await offline.set(`wait ${i}`, `${i} `.repeat(i === 7 ? 4000 : 10))
    waiting.set(`wait ${i}`, `${i} `.repeat(i === 7 ? 4000 : 10))
  }
  const root = tmpdir(t)
  const make = (name: string, role: Template['role'], of: string): Template => {
    const folder = join(root, name)
    copyDirectory(path(of), folder)
    return { name, folder, role, nodeId: (role === 'storage' ? ids.storage : ids.writers)[0] ?? '' }
  }
  const open = [make('storage-open', 'storage', 's0'), make('writer-open', 'writer', 'w0')]
  await s.close()
  await offline.close()
  const closed = [make('storage-closed', 'storage', 's0'), make('writer-closed', 'writer', 'w0')]
  const logs = new Map<string, readonly string[]>()
  for (const name of ['s0', 'w0'])
    logs.set(name === 's0' ? 'storage' : 'writer', await ownLogs(path(name)))
  return {
    list: [...open, ...closed],
    config,
    hub,
    applied,
    waiting,
    logs,
    open: (folder, options = {}) =>
      new KVSwarm({ storage: folder, config, network: hub.network(), timeout: 10_000, ...options })
  }
}

/** Every block of every log that the node of a directory signs, oldest first. */
export async function ownLogs(directory: string): Promise<string[]> {
  const store = await Store.open({ directory, durability: 'sync' })
  const blocks: string[] = []
  try {
    for (const kind of ['outbox', 'index'] as const) {
      for (const name of store.ownNames(kind)) {
        for (const { log } of await store.ownGenerations(name)) {
          for (let i = 0; i < log.length; i++) {
            const data = await log.get(i, { wait: false })
            blocks.push(data === null ? 'not here' : Buffer.from(data).toString('base64'))
          }
          await log.close()
        }
      }
    }
  } finally {
    await store.close()
  }
  return blocks
}

/** Files that are not part of a copy: lock, socket, and what ties a directory to its place. */
const unlike = /^(?:kvswarm\.(?:lock|sock)|CORESTORE|LOCK|LOG.*)$/

function copyDirectory(from: string, to: string): void {
  mkdirSync(to, { recursive: true, mode: 0o700 })
  for (const name of readdirSync(from)) {
    if (unlike.test(name)) continue
    const path = join(from, name)
    if (statSync(path).isDirectory()) copyDirectory(path, join(to, name))
    else copyFileSync(path, join(to, name))
  }
}

/** A directory like the template, at a place of its own, that its store takes for the original. */
export function settle(template: Template, to: string): void {
  copyDirectory(template.folder, to)
  const path = join(to, 'CORESTORE')
  writeFileSync(path, '')
  const { ino } = statSync(path)
  const lines = [`device/platform=${process.platform}`, `device/inode=${ino}`]
  writeFileSync(path, `${lines.join('\n')}\ndevice/created=${Date.now()}\n`)
}

/** Files of a settled directory, by their path in it. */
export function filesOf(directory: string, under = ''): string[] {
  return readdirSync(join(directory, under)).flatMap((name) => {
    const path = join(under, name)
    return statSync(join(directory, path)).isDirectory() ? filesOf(directory, path) : [path]
  })
}

/** All that a node gives, by key. */
export async function allOf(kv: KVSwarm): Promise<Map<string, unknown>> {
  const found = new Map<string, unknown>()
  const entries: AsyncIterable<KVEntry> = kv.list({}, { wait: false })
  for await (const { key, value } of entries) found.set(String(key), value)
  return found
}
