/**
 * A fault run: real processes (three storage nodes; two writers' directories, each with two client processes; a
 * reader), faults by seed, clients that put, delete and read, and in the end a judgement of all that they saw.
 *
 * Every process is loaded with disk.c, which makes its disk slow, loses its datagrams and cuts it off, and with
 * libfaketime where the machine has it; the machine's own clock, disk and network are never touched.
 */
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Test } from 'tape'
import type { KVEntry } from '../../../lib/index.ts'
import { hasCapability } from '../../../scripts/capabilities.ts'
import { cleanup } from '../../helpers/cleanup.ts'
import { deadline } from '../../helpers/events.ts'
import { commandLine, type Running, spawnProgram, spawnSource } from '../../helpers/process.ts'
import { randomOf } from '../../helpers/random.ts'
import type { Order } from '../../e2e/load-writer.ts'
import { makeSite, type Site } from '../../e2e/site.ts'
import { buildDisk } from '../disk/journal.ts'
import { graceMs, judgeHistory, type Made, type Verdict } from '../history/promises.ts'
import type { Answer, Call, ClientOrder } from './client.ts'
import { findFaketime } from './faketime.ts'
import { type Fault, type FaultKind, scheduleOf } from './schedule.ts'

const storage = ['a', 'b', 'c']
const writers = ['x', 'y']
/** Client processes and their directories. */
const clients = { x1: 'x', x2: 'x', y1: 'y', y2: 'y', z1: 'z' } as const
type ClientName = keyof typeof clients
const clientNames = Object.keys(clients) as ClientName[]
/** The longest timeout of a call, its grace, and what a fault may keep a process from running. */
const silenceMaxMs = 8_000 + graceMs + 20_000

interface Life {
  readonly running: Running
  /** It was killed by us. */
  killed: boolean
  read: number
}

/** A call whose answer may come. */
type Open = { -readonly [K in keyof Made]: Made[K] }

export interface FaultResult extends Verdict {
  readonly injected: Readonly<Record<string, number>>
}

export async function faultRun(t: Test, seed: number, durationMs: number): Promise<FaultResult> {
  const run = new FaultRun(t, seed, durationMs, await makeSite(t, { writers }))
  return await run.run()
}

class FaultRun {
  readonly #t: Test
  readonly #site: Site
  readonly #library: string
  readonly #faketime: string | null
  readonly #schedule: readonly Fault[]
  readonly #seeds: Map<string, ReturnType<typeof randomOf>>
  readonly #lives = new Map<string, Life>()
  readonly #lifeOf = new Map<string, number>()
  readonly #history: Open[] = []
  readonly #open = new Map<string, Open>()
  readonly #faults: string[] = []
  readonly #injected: Record<string, number> = {}
  readonly #durationMs: number
  #start = 0

  constructor(t: Test, seed: number, durationMs: number, site: Site) {
    this.#t = t
    this.#site = site
    this.#durationMs = durationMs
    this.#library = buildDisk(site.folder)
    this.#faketime = hasCapability('libfaketime') === true ? findFaketime() : null
    const kinds: FaultKind[] = ['kill', 'kill', 'stop', 'cut off', 'lossy', 'slow disk']
    if (this.#faketime !== null) kinds.push('clock')
    const random = randomOf(seed)
    this.#schedule = scheduleOf(random, [...storage, ...clientNames], kinds, durationMs)
    this.#seeds = new Map(clientNames.map((name) => [name, randomOf(random.int(0, 2 ** 31 - 1))]))
  }

  async run(): Promise<FaultResult> {
    for (const name of [...storage, ...clientNames]) {
      this.#control(name, [0, 0, 0])
      writeFileSync(this.#clock(name), '+0\n')
    }
    this.#start = monotonic()
    for (const name of storage) this.#launch(name)
    for (const name of storage) await this.#lives.get(name)?.running.line(0, 60_000)
    this.#start = monotonic()
    for (const name of clientNames) this.#launch(name)
    for (const name of clientNames) await this.#lives.get(name)?.running.line(0, 60_000)

    const from = monotonic()
    const ends: Promise<void>[] = []
    for (const fault of this.#schedule) {
      await sleepUntil(from + fault.at)
      this.#hear()
      ends.push(this.#inject(fault))
    }
    await sleepUntil(from + this.#durationMs)
    await Promise.all(ends)
    await this.#end()
    return await this.#judge()
  }

  #control(name: string, values: readonly [number, number, number]): void {
    // Written in place: it is mapped.
    writeFileSync(
      this.#path(name, 'control'),
      Uint8Array.from(Buffer.from(Uint32Array.from(values).buffer)),
      {
        flag: this.#lives.has(name) ? 'r+' : 'w'
      }
    )
  }

  #path(name: string, what: string): string {
    return join(this.#site.folder, `${name}.${what}`)
  }

  #clock(name: string): string {
    return this.#path(name, 'clock')
  }

  #launch(name: string): void {
    const env = {
      LD_PRELOAD: [this.#library, ...(this.#faketime === null ? [] : [this.#faketime])].join(' '),
      KVS_DISK_ROOT: this.#site.folder,
      KVS_DISK_CONTROL: this.#path(name, 'control'),
      UV_USE_IO_URING: '0',
      KVSWARM_BOOTSTRAP: this.#site.bootstrap,
      FAKETIME_TIMESTAMP_FILE: this.#clock(name),
      FAKETIME_NO_CACHE: '1',
      FAKETIME_DONT_FAKE_MONOTONIC: '1',
      NO_FAKE_STAT: '1'
    }
    const running = storage.includes(name)
      ? spawnProgram(
          this.#t,
          [
            ...commandLine(),
            '-c',
            this.#site.configPath,
            '-d',
            this.#site.directory(name),
            'listen'
          ],
          { env }
        )
      : spawnSource(
          this.#t,
          'test/fault/driver/client.ts',
          [JSON.stringify(this.#order(name as ClientName))],
          {
            env
          }
        )
    const life: Life = { running, killed: false, read: 0 }
    this.#lives.set(name, life)
    this.#watch(name, life)
    this.#lifeOf.set(name, (this.#lifeOf.get(name) ?? 0) + 1)
  }

  #order(name: ClientName): ClientOrder {
    const calls = this.#history.filter(({ client }) => client === name).length
    return {
      name,
      storage: this.#site.directory(clients[name]),
      configPath: this.#site.configPath,
      bootstrap: this.#site.bootstrap,
      seed: this.#seeds.get(name)?.int(0, 2 ** 31 - 1) ?? 0,
      next: calls,
      writes: writers.includes(clients[name]),
      start: this.#start
    }
  }

  async #inject({ kind, target, lastsMs, amount }: Fault): Promise<void> {
    const life = this.#lives.get(target)
    if (life === undefined || life.killed) return
    this.#injected[kind] = (this.#injected[kind] ?? 0) + 1
    if (kind === 'clock') {
      writeFileSync(this.#clock(target), `${amount < 0 ? '' : '+'}${amount}\n`)
      return
    }
    if (kind === 'kill') {
      life.killed = true
      life.running.kill('SIGKILL')
      await life.running.exit
      this.#hear()
      await sleepUntil(monotonic() + lastsMs)
      this.#launch(target)
      return
    }
    if (kind === 'stop') life.running.kill('SIGSTOP')
    else if (kind === 'slow disk') this.#control(target, [amount, amount / 10, 0])
    else this.#control(target, [0, 0, amount])
    await sleepUntil(monotonic() + lastsMs)
    if (kind === 'stop') life.running.kill('SIGCONT')
    else this.#control(target, [0, 0, 0])
  }

  /** Takes in what the clients have told. */
  #hear(): void {
    for (const name of clientNames) {
      const life = this.#lives.get(name)
      if (life === undefined) continue
      const { stdout } = life.running
      const end = stdout.lastIndexOf('\n') + 1
      const lines = stdout.slice(life.read, end).split('\n').slice(0, -1)
      life.read = end
      for (const line of lines) this.#line(name, JSON.parse(line) as Call | Answer | string)
    }
  }

  /** What must not happen to a process. */
  #watch(name: string, life: Life): void {
    const { running } = life
    running.exit.then(
      ({ code, signal }) => {
        if (/^error: /m.test(running.stderr)) {
          this.#faults.push(`${name}: ${running.stderr.slice(0, 500)}`)
        }
        if (life.killed) return
        life.killed = true
        this.#faults.push(`${name} ended: ${signal ?? code}: ${running.stderr.slice(-800)}`)
      },
      (error: Error) => this.#faults.push(`${name}: ${error.message}`)
    )
  }

  #line(client: string, line: Call | Answer | string): void {
    if (typeof line === 'string') return
    if ('call' in line) {
      const made = { ...line, client, life: this.#lifeOf.get(client) ?? 0, answer: null }
      this.#history.push(made)
      this.#open.set(`${client}/${line.call}`, made)
    } else {
      const made = this.#open.get(`${client}/${line.done}`)
      if (made) made.answer = line
    }
  }

  /** All is well again: the clients end after the call that they are in, and all outboxes are emptied. */
  async #end(): Promise<void> {
    const ending = clientNames.flatMap((name) => {
      const life = this.#lives.get(name)
      return life === undefined || life.killed ? [] : [{ name, life }]
    })
    // One that has just been started again would not know the signal.
    for (const { life } of ending) await life.running.line(0, 60_000)
    for (const { life } of ending) {
      life.killed = true
      life.running.kill('SIGTERM')
    }
    for (const { name, life } of ending) {
      const { stdout } = life.running
      const { code } = await deadline(life.running.exit, silenceMaxMs, `the end of ${name}`).catch(
        (error: Error) => {
          throw new Error(`${error.message}; ${stdout.slice(-300)}; ${life.running.stderr}`)
        }
      )
      if (code !== 0) this.#faults.push(`${name} ended with ${code}: ${life.running.stderr}`)
    }
    this.#hear()
    for (const name of storage) await this.#lives.get(name)?.running.line(0, 60_000)
    for (const writer of writers) {
      const order: Order = {
        mode: 'drain',
        writer,
        storage: this.#site.directory(writer),
        configPath: this.#site.configPath,
        bootstrap: this.#site.bootstrap,
        seed: 0,
        next: 0,
        window: 1,
        tags: [],
        padding: 0,
        rotation: {}
      }
      const life = spawnSource(this.#t, 'test/e2e/load-writer.ts', [JSON.stringify(order)])
      const { code } = await deadline(life.exit, 60_000, `all receipts of ${writer}`)
      if (code !== 0) this.#faults.push(`${writer}: not all has its receipt: ${life.stdout}`)
    }
  }

  async #judge(): Promise<FaultResult> {
    const reader = this.#site.open('judge')
    cleanup(this.#t, () => reader.close())
    await reader.connect()
    const entries: KVEntry[] = []
    for await (const entry of reader.list({}, { fresh: true })) entries.push(entry)
    const verdict = judgeHistory(this.#history, entries, this.#site.config)
    return { ...verdict, faults: [...this.#faults, ...verdict.faults], injected: this.#injected }
  }
}

function monotonic(): number {
  return Number(process.hrtime.bigint()) / 1e6
}

/** The schedule's moments are times, not events. */
function sleepUntil(at: number): Promise<void> {
  return new Promise((resolve) => {
    setTimeout(resolve, Math.max(0, at - monotonic()))
  })
}
