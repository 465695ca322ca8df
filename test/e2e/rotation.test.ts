/**
 * Load with rotations, reconnects and restarts: everything is applied exactly once, nobody waits long while all
 * are up, and neither side's disk grows (but for the index: that comes with an index of our own).
 *
 * Runs for KVSWARM_LOAD_SECONDS, with a fault about every KVSWARM_LOAD_FAULT_SECONDS (0: none); the long run is
 * described in docs/reliability.md.
 *
 * time limit: 15 min
 */
import { readdirSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import test from 'tape'
import type { KVEntry, Status } from '../../lib/index.ts'
import { deadline, until } from '../helpers/events.ts'
import { random } from '../helpers/random.ts'
import { Crowd, storageNames, writerNames } from './crowd.ts'
import { judge } from './load.ts'
import { makeSite, type Site } from './site.ts'

const seconds = Number(process.env['KVSWARM_LOAD_SECONDS'] ?? 25)
const faultSeconds = Number(process.env['KVSWARM_LOAD_FAULT_SECONDS'] ?? 3)
/** A short run sees many rotations by small bounds; a long one takes those of the program. */
const isShort = seconds < 120 && process.env['KVSWARM_LOAD_BIG'] === undefined
const load = isShort
  ? { padding: 300, rotation: { bytes: 65_536, askedBytesMin: 8_192 } }
  : { padding: 4000, rotation: {} }
/** Where the watchdog has to act it may take so long; nothing else may. */
const stallMsMax = 8_000

function diskBytes(site: Site, name: string): number {
  let bytes = 0
  const folder = join(site.directory(name), 'db')
  for (const file of readdirSync(folder)) {
    try {
      bytes += statSync(join(folder, file)).blocks * 512
    } catch {
      // It has just gone.
    }
  }
  return bytes
}

/** Null: it was killed meanwhile. */
async function statusOf(site: Site, name: string): Promise<Status | null> {
  const { stdout, code } = await site.run(name, ['status', '--json'])
  return code === 0 ? (JSON.parse(stdout) as Status) : null
}

const mega = (bytes: number): string => (bytes / 1e6).toFixed(1)

test(`${seconds} s of load with rotations, a fault every ${faultSeconds} s`, async (t) => {
  const source = random(t)
  const site = await makeSite(t, { writers: writerNames })
  const crowd = new Crowd(t, site, source, load)
  const { facts } = crowd
  for (const name of storageNames) crowd.start(name)
  await until(() => crowd.members.every(({ ready }) => ready), { what: 'the storage nodes' })
  for (const name of writerNames) crowd.start(name)

  const from = performance.now()
  const end = from + seconds * 1000
  const faults = { killed: 0, stopped: 0 }
  /** Receipts of each writer, and when the last one came: one pair of nodes that stalls fills its writer's window. */
  const heard = new Map(writerNames.map((name) => [name, { receipts: 0, at: from }]))
  let longest = 0
  let mostApplied = 0
  let mostWriter = 0
  const generations = new Map<string, Set<number>>()
  const isOver = (): boolean => performance.now() >= end

  /** How long a writer had no receipt while all were up. */
  const hear = setInterval(() => {
    crowd.hear()
    const now = performance.now()
    for (const [writer, last] of heard) {
      const receipts = facts.receiptsOf(writer)
      if (receipts > last.receipts || isDisturbed || !allReady()) {
        last.receipts = receipts
        last.at = now
      }
      longest = Math.max(longest, now - last.at)
    }
  }, 10)
  const allReady = (): boolean => crowd.members.every(({ ready }) => ready)
  let isDisturbed = false

  const look = async (): Promise<void> => {
    while (!isOver()) {
      for (const member of crowd.members) {
        if (!member.ready || isOver()) continue
        if (member.isWriter) mostWriter = Math.max(mostWriter, diskBytes(site, member.name))
        const status = await statusOf(site, member.name)
        let applied = 0
        for (const inbox of status?.inboxes ?? []) applied += inbox.appliedBytes
        mostApplied = Math.max(mostApplied, applied)
        for (const { owner, generation } of status?.outboxes ?? []) {
          const key = `${member.name} ${owner}`
          generations.set(key, (generations.get(key) ?? new Set()).add(generation))
        }
      }
    }
  }
  const disturb = async (): Promise<void> => {
    if (faultSeconds === 0) return
    while (!isOver()) {
      const at = performance.now() + faultSeconds * 1000 * (0.5 + source.next())
      await until(() => (performance.now() >= at && allReady()) || isOver(), {
        what: 'the next fault',
        timeoutMs: 120_000
      })
      if (isOver()) return
      const victim = source.pick(crowd.members)
      if (source.chance(0.7)) {
        faults.killed++
        await crowd.crash([victim], () => Promise.resolve())
        crowd.start(victim.name)
        await until(allReady, { what: `${victim.name} to be back`, timeoutMs: 60_000 })
      } else {
        // A machine that sleeps, for less time than its connections are kept.
        faults.stopped++
        isDisturbed = true
        victim.life.kill('SIGSTOP')
        await pause(source.int(100, 1500))
        victim.life.kill('SIGCONT')
        isDisturbed = false
      }
    }
  }
  try {
    await Promise.all([look(), disturb(), pause(seconds * 1000)])
  } finally {
    clearInterval(hear)
  }
  await until(() => crowd.members.every(({ ready }) => ready), { what: 'all to be back' })
  const statuses = await Promise.all(
    crowd.members.map(async ({ name }) => await statusOf(site, name))
  )
  let interventions = 0
  for (const status of statuses) interventions += status?.watchdog.interventions ?? 0
  await crowd.endWriters()
  const draining = writerNames.map((name) => crowd.start(name, 'drain'))
  for (const { life, name } of draining) {
    const { code } = await deadline(life.exit, 120_000, `all receipts of ${name}`)
    t.equal(code, 0, `${name}: everything has its receipt`)
  }
  crowd.hear()

  const reader = site.open('reader')
  await reader.connect()
  const entries: KVEntry[] = []
  for await (const entry of reader.list({}, { fresh: true, timeout: 120_000 })) entries.push(entry)
  const verdict = judge(facts, entries, site.config, load.padding)
  t.deepEqual(verdict.faults.slice(0, 20), [], 'every flush applied exactly once, in order')

  const rotated = [...generations.values()].map(({ size }) => size - 1)
  const rotations = rotated.reduce((sum, count) => sum + count, 0)
  t.comment(
    `${verdict.applied} operations in ${facts.all.length} flushes; ${faults.killed} processes killed, ${faults.stopped} stopped for a while`
  )
  t.comment(
    `${rotations} rotations seen; longest time of a writer without a receipt while all were up ${longest.toFixed(0)} ms; ` +
      `the watchdog acted ${interventions} times in the last lives`
  )
  t.comment(
    `most applied inbox bytes of a storage node ${mega(mostApplied)} MB; most disk of a writer ${mega(mostWriter)} MB`
  )
  t.ok(rotations >= (isShort ? 5 : 1), `${rotations} rotations`)
  t.ok(longest < stallMsMax, `no stall over ${stallMsMax} ms: ${longest.toFixed(0)} ms`)
  t.ok(mostApplied <= 64 * 1024 * 1024, 'applied blocks that are kept stay below their bound')
  if (faultSeconds === 0) t.equal(interventions, 0, 'the watchdog had nothing to do')
  for (const name of writerNames) {
    const bytes = diskBytes(site, name)
    t.ok(bytes < 250_000_000, `${name} has ${mega(bytes)} MB on disk in the end`)
  }
})
