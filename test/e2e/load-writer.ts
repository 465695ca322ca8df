/**
 * A writer under load, in a process of its own, to be killed at any moment.
 *
 * Argument: JSON `Order`. It tells what its caller knows, line by line, each line written before the next
 * thing happens, so that a kill takes none back:
 *
 *     up                        connected
 *     call N TAG:COUNT …        flush N is called now, with these operations (operationsOf)
 *     done N PARTS              it resolved; PARTS is JSON
 *     ack N, receipt N          as they came
 *     drained                   mode 'drain': everything in the outboxes has its receipt
 *     failed TEXT               anything that must not happen; it ends with 1
 *
 * Flushes are numbered from `next` on. In mode 'load' it calls flush() again whenever one has resolved, a few
 * at a time, as long as no more than `window` are without a receipt, until SIGTERM: so that there is always
 * something on its way. In mode 'drain' it writes nothing and ends when all is receipted.
 */
import { openSync, readFileSync, writeSync } from 'node:fs'
import { Config } from '../../config/index.ts'
import { KVSwarm } from '../../lib/index.ts'
import type { RotationLimits } from '../../lib/protocol/rotation.ts'
import { until } from '../helpers/events.ts'
import { randomOf } from '../helpers/random.ts'
import { operationsOf, type TagCount } from './load.ts'

/** What the process is told. */
export interface Order {
  readonly mode: 'load' | 'drain'
  readonly writer: string
  readonly storage: string
  readonly configPath: string
  readonly bootstrap: string
  readonly seed: number
  readonly next: number
  readonly window: number
  /** Tags that this writer puts keys under. */
  readonly tags: readonly string[]
  /** Bytes more in each value. */
  readonly padding: number
  /** When its outboxes are rotated. */
  readonly rotation: Partial<RotationLimits>
  /** A file that the lines are added to. @default stdout */
  readonly told?: string
  /** @default 'sync' */
  readonly durability?: 'sync' | 'os'
}

const order = JSON.parse(process.argv[2] ?? '') as Order
const told = order.told === undefined ? 1 : openSync(order.told, 'a', 0o600)

/** One line, in the kernel's hands when it returns. */
function say(line: string): void {
  const bytes = Buffer.from(`${line}\n`)
  for (let at = 0; at < bytes.length;) {
    try {
      at += writeSync(told, bytes, at)
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EAGAIN') throw error
    }
  }
}

function fail(error: unknown): void {
  say(`failed ${error instanceof Error ? (error.stack ?? error.message) : String(error)}`)
  process.exit(1)
}

/** Calls of flush() at a time; those that wait together share a block. */
const callsMax = 2

const kv = new KVSwarm({
  storage: order.storage,
  config: Config.parse(readFileSync(order.configPath, 'utf8')),
  bootstrap: order.bootstrap,
  durability: order.durability ?? 'sync',
  timeout: Infinity,
  rotation: order.rotation
})
kv.on('error', fail)
kv.on('warning', (message) => process.stderr.write(`${message}\n`))

const random = randomOf(order.seed)
let next = order.next
/** Flushes that have not resolved, and those without a receipt. */
let called = 0
let underWay = 0
let ending = false

function newFlush(): void {
  const n = next++
  const tags: TagCount[] = random
    .shuffle(order.tags)
    .slice(0, random.int(1, 3))
    .map((tag) => ({ tag, count: random.int(1, 3) }))
  say(`call ${n} ${tags.map(({ tag, count }) => `${tag}:${count}`).join(' ')}`)
  for (const { key, value } of operationsOf(order.writer, n, tags, order.padding))
    kv.put(key, value)
  called++
  underWay++
  finish(n, kv.flush()).catch(fail)
}

async function finish(n: number, flush: ReturnType<KVSwarm['flush']>): Promise<void> {
  const { id, parts } = await flush
  say(`done ${n} ${JSON.stringify(parts)}`)
  called--
  fill()
  const acked = kv.receipt(id, { ack: true }).then(() => say(`ack ${n}`))
  await Promise.all([acked, kv.receipt(id).then(() => say(`receipt ${n}`))]).catch((error) => {
    if (!ending) throw error // close() ends all waits
  })
  underWay--
  fill()
}

function fill(): void {
  if (ending) return
  while (called < callsMax && underWay < order.window) newFlush()
}

async function drain(): Promise<void> {
  await until(
    async () => (await kv.status()).outboxes.every(({ pendingBlocks }) => pendingBlocks === 0),
    { timeoutMs: Infinity }
  )
  say('drained')
  await kv.close()
}

process.on('SIGTERM', () => {
  ending = true
  kv.close().catch(fail)
})
try {
  await kv.connect()
  say('up')
  if (order.mode === 'drain') await drain()
  else fill()
} catch (error) {
  fail(error)
}
