/**
 * A client of the fault runs, in a process of its own: one call after the other through the library, each told
 * before it is made and when it has ended, with the monotonic time.
 *
 * Argument: JSON `ClientOrder`. Lines on stdout are JSON, `Call` and `Answer`; the last one is `"closed"`.
 * Every put and del carries a second operation in the same flush: a key of its own for that call, which tells
 * whether the flush was applied, and where in the order. SIGTERM ends it after the call under way.
 */
import { readFileSync, writeSync } from 'node:fs'
import { Config } from '../../../config/index.ts'
import { isKVSwarmError, KVSwarm } from '../../../lib/index.ts'
import { randomOf } from '../../helpers/random.ts'

export interface ClientOrder {
  readonly name: string
  readonly storage: string
  readonly configPath: string
  readonly bootstrap: string
  readonly seed: number
  /** Of the first call. */
  readonly next: number
  /** False: it reads. */
  readonly writes: boolean
  /** Monotonic milliseconds from which the windows are counted. */
  readonly start: number
}

export interface Call {
  readonly call: number
  readonly at: number
  readonly type: 'put' | 'del' | 'fresh' | 'get'
  readonly tag: string
  readonly timeout: number
}

export interface Answer {
  readonly done: number
  readonly at: number
  /** Code of the error; unset: it went well. */
  readonly error?: string
  /** What a read gave. */
  readonly value?: string | null
  readonly stamp?: string | null
  /** Lengths of the views after a read: which head it was at least from. */
  readonly heads?: string
  /** Milliseconds for which this process did not run: it was stopped, or starved. */
  readonly idle: number
}

/** So many keys are used at a time, for so long: many clients meet, and no key has too much of a history. */
export const keysAtATime = 3
export const windowMs = 2_000

/** The two keys of a call; one tag, so one owner. */
export function keysOf(tag: string, client: string, call: number): { main: string; own: string } {
  return { main: `{${tag}}/v`, own: `{${tag}}/${client}/${call}` }
}

const beatMs = 50

async function run(order: ClientOrder): Promise<void> {
  const say = (line: Call | Answer | 'closed' | 'up'): void => {
    const bytes = Buffer.from(`${JSON.stringify(line)}\n`)
    for (let at = 0; at < bytes.length;) {
      try {
        at += writeSync(1, bytes, at)
      } catch (error) {
        // Whoever reads it is slow.
        if ((error as NodeJS.ErrnoException).code !== 'EAGAIN') throw error
      }
    }
  }
  const now = (): number => Number(process.hrtime.bigint()) / 1e6
  const random = randomOf(order.seed)
  const kv = new KVSwarm({
    storage: order.storage,
    config: Config.parse(readFileSync(order.configPath, 'utf8')),
    bootstrap: order.bootstrap
  })
  kv.on('warning', (message) => process.stderr.write(`${message}\n`))
  kv.on('error', (error) => process.stderr.write(`error: ${String(error)}\n`))
  const end = { wanted: false }
  process.on('SIGTERM', () => {
    end.wanted = true
  })
  let idle = 0
  let beat = now()
  const timer = setInterval(() => {
    const late = now() - beat - beatMs
    if (late > beatMs) idle += late
    beat = now()
  }, beatMs)
  await kv.connect()
  say('up')
  for (let n = order.next; !end.wanted; n++) {
    const type = order.writes
      ? random.pick(['put', 'put', 'put', 'put', 'del', 'fresh', 'fresh', 'get'] as const)
      : random.pick(['fresh', 'get'] as const)
    const window = Math.floor((now() - order.start) / windowMs)
    const tag = `w${window}-${random.int(0, keysAtATime - 1)}`
    const timeout = random.int(1000, 8000)
    const { main, own } = keysOf(tag, order.name, n)
    const call: Call = { call: n, at: now(), type, tag, timeout }
    const idleBefore = idle
    say(call)
    let answer: Partial<Answer> = {}
    try {
      if (type === 'put' || type === 'del') {
        if (type === 'put') kv.put(main, `${order.name} ${n}`)
        else kv.del(main)
        kv.put(own, '')
        await kv.flush({ receipt: true, timeout })
      } else {
        const entry = await kv.getEntry(main, { fresh: type === 'fresh', timeout })
        const { views } = await kv.status()
        answer = {
          heads: views.map(({ head }) => head.length).join(),
          value: entry === null ? null : (entry.value as string),
          stamp: entry?.versionstamp ?? null
        }
      }
    } catch (error) {
      answer = { error: isKVSwarmError(error) ? error.code : String(error) }
    }
    const at = now()
    // What the timer has not seen yet.
    const late = Math.max(0, at - beat - beatMs)
    say({ done: n, at, idle: idle - idleBefore + late, ...answer })
  }
  clearInterval(timer)
  await kv.close()
  say('closed')
}

const [, file, argument] = process.argv
if (file?.endsWith('driver/client.ts') && argument !== undefined) {
  await run(JSON.parse(argument) as ClientOrder)
}
