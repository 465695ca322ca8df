/**
 * Power cuts on a recording, checked one after the other, in a process of its own (a store may end it).
 *
 * Argument: JSON `Checks`. For each cut it makes the disks as they can be after it, opens the stores, and
 * prints a line of JSON, `Checked`. What is checked:
 *
 * - every store opens, and is the node whose id was told;
 * - before anything else happens: what was flushed is in the outbox, what was acked is held, what was
 *   receipted is applied;
 * - connected, all goes on to the end: everything in the outboxes is applied, exactly once and in order
 *   (load.ts), no log stands still, no index began a new generation;
 * - nodes that were not cut (they have all that they wrote, and perhaps what others no longer have) go on
 *   with those that were.
 */
import { existsSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { Config } from '../../../config/index.ts'
import { KVSwarm, MemoryHub, type KVEntry } from '../../../lib/index.ts'
import { Store } from '../../../lib/hyper/store.ts'
import { reaches } from '../../../lib/protocol/positions.ts'
import { deadline, until } from '../../helpers/events.ts'
import { randomOf, type Random } from '../../helpers/random.ts'
import { Disk } from '../../e2e/disk.ts'
import { Facts, judge } from '../../e2e/load.ts'
import { cutModes, type CutMode, Disks, sameDevice } from './image.ts'
import { readJournal } from './journal.ts'
import { nodeNames, nodePath, type Recording, storageNames, writerNames } from './record.ts'

export interface Checks {
  readonly recording: Recording
  /** Temporary. */
  readonly folder: string
  readonly cuts: readonly { readonly place: number; readonly seed: number }[]
}

export interface Checked {
  readonly place: number
  readonly seed: number
  readonly modes: Readonly<Record<string, CutMode>>
  readonly faults: readonly string[]
  /** Flushes that had resolved, acks and receipts told before the cut. */
  readonly flushed: number
  readonly acked: number
  readonly receipted: number
  readonly ms: number
}

const waitMs = 40_000

class Check {
  readonly #checks: Checks
  readonly #disks: Disks
  readonly #random: Random
  readonly #folder: string
  readonly #marks: readonly string[]
  readonly faults: string[] = []
  /** Outboxes whose last generation that was told of is ended, `writer/owner`. */
  readonly #rotated = new Set<string>()
  readonly modes: Record<string, CutMode> = {}
  readonly facts: Facts = new Facts()

  constructor(checks: Checks, disks: Disks, seed: number, marks: readonly string[]) {
    this.#checks = checks
    this.#disks = disks
    this.#random = randomOf(seed)
    this.#folder = mkdtempSync(join(checks.folder, 'cut-'))
    this.#marks = marks
  }

  async run(): Promise<void> {
    try {
      if (!(await this.#opens())) return
      await this.#kept()
      await this.#goesOn()
    } catch (error) {
      this.faults.push(error instanceof Error ? (error.stack ?? error.message) : String(error))
    } finally {
      rmSync(this.#folder, { recursive: true, force: true, maxRetries: 3 })
    }
  }

  #directory(name: string): string {
    return join(this.#folder, nodePath(name))
  }

  #id(name: string): string {
    return this.#checks.recording.ids[name] ?? ''
  }

  /** Makes the disks: one node is cut, some, or all; the others are as a kill leaves them. */
  cut(): void {
    const random = this.#random
    const all = random.chance(0.25)
    const first = random.pick(nodeNames)
    mkdirSync(join(this.#folder, 'nodes'), { mode: 0o700 })
    for (const name of nodeNames) {
      const cut = all || name === first || random.chance(0.4)
      const mode = cut ? random.pick(cutModes.slice(0, -1)) : 'all'
      this.modes[name] = mode
      this.#disks.write(nodePath(name), mode, random, this.#folder, sameDevice)
    }
    this.#hear()
  }

  #hear(): void {
    for (const name of writerNames) {
      const text = this.#disks.text(`/told-${name}`)
      const lines = text
        .slice(0, text.lastIndexOf('\n') + 1)
        .split('\n')
        .slice(0, -1)
      for (const line of lines) this.facts.add(name, line)
    }
  }

  /** @returns whether all nodes are there, so that they can go on together */
  async #opens(): Promise<boolean> {
    const told = new Set(
      this.#marks.filter((mark) => mark.startsWith('id ')).map((mark) => mark.split(' ')[1])
    )
    let complete = true
    for (const name of nodeNames) {
      if (!told.has(name)) complete = false
      // Nothing was told of it: it must open, as whatever it is.
      if (told.has(name) && !existsSync(this.#directory(name))) {
        this.faults.push(`${name}: its directory is gone, its id was told`)
        complete = false
        continue
      }
      try {
        const store = await Store.open({ directory: this.#directory(name), durability: 'sync' })
        const { nodeId } = store
        await store.close()
        if (told.has(name) && nodeId !== this.#id(name)) {
          this.faults.push(`${name}: has another id than was told`)
          complete = false
        }
      } catch (error) {
        this.faults.push(`${name} does not open: ${String(error)}`)
        complete = false
      }
    }
    return complete
  }

  /** What was told is on the disks. */
  async #kept(): Promise<void> {
    const promised = new Map<string, { generation: number; to: number }>()
    const promise = (key: string, generation: number, to: number): void => {
      const before = promised.get(key)
      const length = before?.to ?? 0
      if (
        !before ||
        reaches({ generation, length: to }, { generation: before.generation, length })
      ) {
        promised.set(key, { generation, to })
      }
    }
    for (const { writer, parts, acked, receipted } of this.facts.all) {
      for (const { owner, generation, to } of parts ?? []) {
        promise(`${writer}/${owner}/flushed`, generation, to)
        if (acked) promise(`${writer}/${owner}/held`, generation, to)
        if (receipted) promise(`${writer}/${owner}/applied`, generation, to)
      }
    }
    const broken = (key: string, has: number, told: number): void => {
      if (has < told) this.faults.push(`${key}: ${has} blocks, ${told} were told`)
    }
    for (const writer of writerNames) {
      if (![...promised.keys()].some((key) => key.startsWith(`${writer}/`))) continue
      await Disk.look(this.#directory(writer), async (disk) => {
        for (const owner of storageNames) {
          const key = `${writer}/${this.#id(owner)}/flushed`
          const told = promised.get(key)
          if (!told) continue
          const rotated = await disk.rotated(this.#id(owner), told.generation)
          if (rotated) this.#rotated.add(`${writer}/${this.#id(owner)}`)
          const length = await disk.outbox(this.#id(owner), told.generation)
          // Whole generations go when they are applied; that it was, the final state shows.
          if (!rotated || length > 0) broken(key, length, told.to)
        }
      })
    }
    for (const owner of storageNames) {
      const keys = [...promised.keys()].filter((key) => key.includes(this.#id(owner)))
      if (!keys.some((key) => /held|applied/.test(key))) continue
      await Disk.look(this.#directory(owner), async (disk) => {
        const index = disk.newest('index') ?? 0
        for (const writer of writerNames) {
          for (const what of ['held', 'applied'] as const) {
            const key = `${writer}/${this.#id(owner)}/${what}`
            const told = promised.get(key)
            if (!told) continue
            const found = await disk.inbox(this.#id(writer), told.generation, index)
            const { applied } = found
            const has = what === 'held' ? found.held : (applied?.length ?? 0)
            if (what === 'applied' && applied && applied.generation > told.generation) continue
            // Applied blocks of an earlier generation need not be held for ever.
            if (what === 'held' && applied && applied.generation > told.generation) continue
            broken(key, has, told.to)
          }
        }
      })
    }
  }

  async #goesOn(): Promise<void> {
    const config = Config.parse(this.#checks.recording.configs.at(-1) ?? '')
    const hub = new MemoryHub()
    const nodes = new Map<string, KVSwarm>()
    for (const name of nodeNames) {
      const kv = new KVSwarm({
        storage: this.#directory(name),
        config,
        network: hub.network(),
        coordination: 'single',
        timeout: waitMs
      })
      kv.on('error', (error) => this.faults.push(`${name}: ${String(error)}`))
      nodes.set(name, kv)
    }
    const get = (name: string): KVSwarm => nodes.get(name) as KVSwarm
    try {
      const opened = await Promise.allSettled(nodeNames.map((name) => get(name).ready()))
      for (const [i, result] of opened.entries()) {
        const name = nodeNames[i] ?? ''
        if (result.status === 'rejected') {
          this.faults.push(`${name} does not open: ${String(result.reason)}`)
        } else if (get(name).nodeId !== this.#id(name)) {
          this.faults.push(`${name}: has another id than was told`)
        }
      }
      if (this.faults.length > 0) return
      await Promise.all(storageNames.map((name) => get(name).listen()))
      await Promise.all(writerNames.map((name) => get(name).connect()))
      for (const name of writerNames) {
        await until(
          async () =>
            (await get(name).status()).outboxes.every(({ pendingBlocks }) => pendingBlocks === 0),
          { timeoutMs: waitMs, what: `everything of ${name} to be applied` }
        )
      }
      const entries: KVEntry[] = []
      for await (const entry of get('x').list({}, { fresh: true })) entries.push(entry)
      this.faults.push(...judge(this.facts, entries, config, 0, config.epoch).faults)
      for (const name of storageNames) {
        const { inboxes, index } = await get(name).status()
        if (index?.serial !== 1) this.faults.push(`${name}: serial ${index?.serial}`)
        for (const { writer, rejected, stopped } of inboxes) {
          if (rejected > 0 || stopped !== null) {
            this.faults.push(`${name}: the log of ${writer}: ${rejected} rejected, ${stopped}`)
          }
        }
      }
      for (const name of writerNames) {
        // Synced, and therefore whole: no outbox had to begin again, but by a rotation.
        for (const { owner, generation } of (await get(name).status()).outboxes) {
          const told = this.facts.of(name).flatMap(({ parts }) => parts ?? [])
          const last = told.findLast((part) => part.owner === owner)
          const rotated = this.#rotated.has(`${name}/${owner}`)
          if (last && last.generation !== generation && !rotated) {
            this.faults.push(`${name}: its outbox for ${owner} began again`)
          }
        }
      }
    } finally {
      await Promise.all(
        [...nodes.values()].map((kv) => deadline(kv.close(), waitMs, 'close()').catch(() => {}))
      )
    }
  }
}

const checks = JSON.parse(process.argv[2] ?? '') as Checks
const records = readJournal(checks.recording.journal)
const disks = new Disks()
const marks: string[] = []

async function finish(check: Check, place: number, seed: number): Promise<void> {
  const from = performance.now()
  await check.run()
  const { modes, faults, facts } = check
  const checked: Checked = {
    place,
    seed,
    modes,
    faults,
    flushed: facts.all.filter(({ parts }) => parts !== null).length,
    acked: facts.acks,
    receipted: facts.receipts,
    ms: Math.round(performance.now() - from)
  }
  process.stdout.write(`${JSON.stringify(checked)}\n`)
}

/** Most of a check is waiting. */
const checksAtATime = 3
const running = new Set<Promise<void>>()
for (const { place, seed } of checks.cuts.toSorted((a, b) => a.place - b.place)) {
  for (const record of records.slice(disks.place, place)) {
    disks.add(record)
    if (record.type === 'mark') marks.push(record.path)
  }
  const check = new Check(checks, disks, seed, [...marks])
  check.cut()
  const done = finish(check, place, seed).finally(() => running.delete(done))
  running.add(done)
  if (running.size >= checksAtATime) await Promise.race(running)
}
await Promise.all(running)
