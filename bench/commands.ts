/**
 * What a process of a benchmark can do when it is asked to: run one kvswarm node, load it, read from it, and
 * measure that inside the process, so that the questions do not count.
 */
import { readFileSync } from 'node:fs'
import { setTimeout as wait } from 'node:timers/promises'
import { Config } from '../config/index.ts'
import {
  hyperswarmNetwork,
  KVSwarm,
  startBootstrap,
  type BootstrapNode,
  type FlushResult,
  type Status
} from '../lib/index.ts'
import { type BeeLoad, type BeeTimes, loadBee } from './bee.ts'
import { keyOf, valueOf } from './data.ts'
import { type Profile, startProfile, stopProfile } from './profiler.ts'

/** Between two looks at something that sends no event. */
const lookMs = 2
/** No single wait of a benchmark may take longer. */
const patienceMs = 120_000

export interface OpenOrder {
  readonly directory: string
  /** As Config.serialize() gives it; null: the node has only its id. */
  readonly config: string | null
  readonly bootstrap: string
  /** Address to bind to. */
  readonly host: string
  readonly durability: 'sync' | 'os'
  /** Serves other handles of the directory. @default false */
  readonly shared?: boolean
}

export interface StartOrder {
  readonly role: 'listen' | 'connect'
  /** Nodes to be connected with before it resolves. */
  readonly peers: readonly string[]
}

export interface WriteOrder {
  /** Numbers of the keys: [first, first + count). */
  readonly first: number
  readonly count: number
  /** Operations of one flush. */
  readonly batch: number
  /** Flushes that may wait for their receipts at a time. */
  readonly inFlight: number
  readonly valueBytes: number
  /** True: each flush waits for its receipt alone; false: for its ack, too, and both are measured. */
  readonly receiptOnly: boolean
}

/** Milliseconds from the call of flush() for each flush, and for all of them together. */
export interface WriteTimes {
  readonly totalMs: number
  readonly durableMs: number[]
  readonly ackMs: number[]
  readonly receiptMs: number[]
}

export interface FlushOrder {
  /** Flushers at a time; each puts one key and flushes it, again and again. */
  readonly flushers: number
  /** Flushes of all together. */
  readonly count: number
  /** Number of the first key. */
  readonly first: number
  readonly valueBytes: number
  /** The directory, when each flusher has a handle of its own (and goes through the control socket). */
  readonly handles: string | null
}

/** Milliseconds of each flush() and of all together; syncs are those of the disk meanwhile. */
export interface FlushTimes {
  readonly totalMs: number
  readonly ms: number[]
  readonly syncs: number
}

export interface ReadTimes {
  /** Milliseconds of each get(). */
  readonly ms: number[]
  /** Bytes that came in during each get(), as kvswarm counts them at its sockets. */
  readonly bytes: number[]
  /** The same at the network device of the process's namespace, packet headers included; 0: there is none. */
  readonly deviceBytes: number[]
}

/** Numbers of the keys to get, and how. */
export interface ReadOrder {
  readonly keys: readonly number[]
  readonly valueBytes: number
}

/** Many nodes in one process: their directories, from a common beginning. */
export interface CrowdOrder extends Omit<OpenOrder, 'directory'> {
  readonly directories: readonly string[]
}

export interface StreamOrder {
  readonly count: number
  /** Puts between two flushes, each of which is waited for. */
  readonly batch: number
  readonly valueBytes: number
}

let kv: KVSwarm | null = null
let crowd: KVSwarm[] = []
let bootstrap: BootstrapNode | null = null

function node(): KVSwarm {
  if (kv === null) throw new Error('open comes first')
  return kv
}

async function until(holds: () => Promise<boolean>, what: string): Promise<void> {
  const start = performance.now()
  while (!(await holds())) {
    if (performance.now() - start > patienceMs) throw new Error(`waited too long for ${what}`)
    await wait(lookMs)
  }
}

async function open(order: OpenOrder): Promise<string> {
  kv = await opened(order)
  return kv.nodeId
}

async function opened(order: OpenOrder): Promise<KVSwarm> {
  const node = new KVSwarm({
    storage: order.directory,
    ...(order.config === null ? {} : { config: Config.parse(order.config) }),
    network: hyperswarmNetwork({ bootstrap: [order.bootstrap], host: order.host }),
    durability: order.durability,
    coordination: order.shared ? 'auto' : 'single',
    timeout: patienceMs
  })
  node.on('warning', (message) => process.stderr.write(`warning: ${message}\n`))
  node.on('error', (error) => {
    process.stderr.write(`error: ${error.message}\n`)
    process.exit(1)
  })
  await node.ready()
  return node
}

async function openCrowd({ directories, ...order }: CrowdOrder): Promise<string[]> {
  for (const directory of directories) crowd.push(await opened({ ...order, directory }))
  return crowd.map(({ nodeId }) => nodeId)
}

/** Each of the crowd writes so many keys and waits for its receipt, all at the same time. */
async function crowdWrites({
  first,
  each,
  valueBytes
}: Parameters<Commands['crowdWrites']>[0]): Promise<void> {
  await Promise.all(
    crowd.map(async (node, i) => {
      for (let n = 0; n < each; n++) {
        const number = first + i * each + n
        node.put(keyOf(number), valueOf(number, valueBytes))
      }
      await node.flush({ receipt: true }).catch(async (error: unknown) => {
        const { outboxes, views, peers } = await node.status()
        const state = { at: Date.now(), node: node.nodeId, outboxes, views, peers }
        process.stderr.write(`not receipted: ${JSON.stringify(state)}\n`)
        throw error
      })
    })
  )
}

/** Puts and flushes one after the other, as a program does that copies something into kvswarm. */
async function stream({ count, batch, valueBytes }: StreamOrder): Promise<void> {
  for (let n = 0; n < count;) {
    const to = Math.min(n + batch, count)
    for (; n < to; n++) node().put(keyOf(n), valueOf(n, valueBytes))
    await node().flush()
  }
}

async function list(): Promise<number> {
  let count = 0
  for await (const _ of node().list()) count++
  return count
}

/** Takes part in the swarm; resolves when these nodes are connected. */
async function start({ role, peers }: StartOrder): Promise<void> {
  await (role === 'listen' ? node().listen() : node().connect())
  await until(async () => {
    const connected = new Set((await node().status()).peers.map((peer) => peer.node))
    return peers.every((id) => connected.has(id))
  }, `connections to ${peers.length} nodes`)
}

async function write(order: WriteOrder): Promise<WriteTimes> {
  const { first, count, batch, inFlight, valueBytes, receiptOnly } = order
  const durableMs: number[] = []
  const ackMs: number[] = []
  const receiptMs: number[] = []
  const start = performance.now()
  let next = first
  const settle = async (flushed: Promise<FlushResult>, from: number): Promise<void> => {
    const { id } = await flushed
    durableMs.push(performance.now() - from)
    const acked = receiptOnly
      ? null
      : node()
          .receipt(id, { ack: true })
          .then(() => ackMs.push(performance.now() - from))
    await node().receipt(id)
    receiptMs.push(performance.now() - from)
    await acked
  }
  const line = async (): Promise<void> => {
    while (next < first + count) {
      const to = Math.min(next + batch, first + count)
      for (; next < to; next++) node().put(keyOf(next), valueOf(next, valueBytes))
      const from = performance.now()
      await settle(node().flush(), from)
    }
  }
  await Promise.all(Array.from({ length: inFlight }, line))
  return { totalMs: performance.now() - start, durableMs, ackMs, receiptMs }
}

async function flush(order: FlushOrder): Promise<FlushTimes> {
  const { flushers, count, first, valueBytes, handles } = order
  const stores = Array.from({ length: flushers }, () =>
    handles === null ? node() : new KVSwarm({ storage: handles, timeout: patienceMs })
  )
  await Promise.all(stores.map((store) => store.ready()))
  const ms: number[] = []
  const before = (await node().status()).barrier.syncs
  const start = performance.now()
  let next = first
  const line = async (store: KVSwarm): Promise<void> => {
    while (next < first + count) {
      const n = next++
      const from = performance.now()
      void store.put(keyOf(n), valueOf(n, valueBytes))
      await store.flush()
      ms.push(performance.now() - from)
    }
  }
  await Promise.all(stores.map(line))
  const totalMs = performance.now() - start
  const { syncs } = (await node().status()).barrier
  if (handles !== null) await Promise.all(stores.map((store) => store.close()))
  return { totalMs, ms, syncs: syncs - before }
}

function deviceBytes(): number {
  for (const line of readFileSync('/proc/net/dev', 'utf8').split('\n')) {
    const [name = '', ...counts] = line.trim().split(/[:\s]+/)
    if (name.startsWith('kvs')) return Number(counts[0])
  }
  return 0
}

async function socketBytes(): Promise<number> {
  const { peers } = await node().status()
  return peers.reduce((sum, peer) => sum + peer.bytesReceived, 0)
}

/** Gets the keys one after the other, and checks what they give. */
async function read({ keys, valueBytes }: ReadOrder): Promise<ReadTimes> {
  const times: ReadTimes = { ms: [], bytes: [], deviceBytes: [] }
  for (const n of keys) {
    const before = await socketBytes()
    const deviceBefore = deviceBytes()
    const from = performance.now()
    const value = await node().get(keyOf(n))
    times.ms.push(performance.now() - from)
    times.bytes.push((await socketBytes()) - before)
    times.deviceBytes.push(deviceBytes() - deviceBefore)
    if (!(value instanceof Uint8Array) || !Buffer.from(value).equals(valueOf(n, valueBytes))) {
      throw new Error(`key ${n} gave another value than was put`)
    }
  }
  return times
}

async function readMany({ keys, inFlight }: Parameters<Commands['readMany']>[0]): Promise<number> {
  let next = 0
  const from = performance.now()
  const line = async (): Promise<void> => {
    for (let n = keys[next++]; n !== undefined; n = keys[next++]) {
      if ((await node().get(keyOf(n))) === null) throw new Error(`key ${n} is missing`)
    }
  }
  await Promise.all(Array.from({ length: inFlight }, line))
  return performance.now() - from
}

async function runBootstrap({ host }: { readonly host: string }): Promise<string> {
  bootstrap = await startBootstrap({ host })
  return bootstrap.address
}

async function close(): Promise<void> {
  await kv?.close()
  await Promise.all(crowd.map((one) => one.close()))
  await bootstrap?.close()
  crowd = []
  kv = null
  bootstrap = null
}

/** By name; each takes one argument and resolves with something that JSON can hold. */
export interface Commands {
  open(order: OpenOrder): Promise<string>
  start(order: StartOrder): Promise<void>
  write(order: WriteOrder): Promise<WriteTimes>
  /** Flushes to the disk of this machine alone. */
  flush(order: FlushOrder): Promise<FlushTimes>
  read(order: ReadOrder): Promise<ReadTimes>
  /** Gets the keys, so many at a time; resolves with the milliseconds for all. */
  readMany(order: { readonly keys: readonly number[]; readonly inFlight: number }): Promise<number>
  status(): Promise<Status>
  /** Opens more nodes in this process; resolves with the ids of all of them. */
  openCrowd(order: CrowdOrder): Promise<string[]>
  startCrowd(): Promise<void>
  crowdWrites(order: {
    readonly first: number
    readonly each: number
    readonly valueBytes: number
  }): Promise<void>
  stream(order: StreamOrder): Promise<void>
  /** All entries of the swarm; resolves with how many there are. */
  list(): Promise<number>
  /** Resolves with 'host:port'. */
  runBootstrap(order: { readonly host: string }): Promise<string>
  /** Megabytes of this process, by kind, as node counts them. */
  memory(): Promise<Record<string, number>>
  /** Milliseconds of the processor that this process has taken, all threads. */
  processor(): Promise<number>
  loadBee(order: BeeLoad): Promise<BeeTimes>
  startProfile(): Promise<void>
  stopProfile(): Promise<Profile>
  close(): Promise<void>
}

export const commands: Commands = {
  open,
  start,
  write,
  flush,
  read,
  readMany,
  status: () => node().status(),
  openCrowd,
  startCrowd: async () => {
    await Promise.all(crowd.map((one) => one.connect()))
  },
  crowdWrites,
  stream,
  list,
  runBootstrap,
  memory: () => {
    // With --expose-gc: what is alive, without what only waits to be collected.
    ;(globalThis as { gc?: () => void }).gc?.()
    const used = Object.entries(process.memoryUsage())
    return Promise.resolve(Object.fromEntries(used.map(([kind, bytes]) => [kind, bytes / 2 ** 20])))
  },
  processor: () => {
    const { user, system } = process.cpuUsage()
    return Promise.resolve((user + system) / 1000)
  },
  loadBee,
  startProfile,
  stopProfile,
  close
}
