/**
 * Random SIGKILLs of storage nodes and writers under load, 60 of them, or KVSWARM_TEST_KILLS. What the writers' callers were told is kept
 * here, outside kvswarm; the final state must agree with it: every flushed operation applied exactly once,
 * in order (load.ts tells how that shows).
 *
 * At each kill everything else stands still (SIGSTOP) while the disks are read: what was acked is held, what
 * was receipted is applied, what was flushed is in the outbox; and the kill counts as one in mid-flight when
 * something in an outbox was not applied at that moment.
 *
 * time limit: 60 min
 */
import test from 'tape'
import type { KVEntry, Status } from '../../lib/index.ts'
import { reaches } from '../../lib/protocol/positions.ts'
import { deadline, until } from '../helpers/events.ts'
import { random } from '../helpers/random.ts'
import { compiled } from './compiled.ts'
import { Crowd, type Member, storageNames, writerFile, writerNames } from './crowd.ts'
import { Disk, type Taken } from './disk.ts'
import { type Facts, judge } from './load.ts'
import { makeSite, type Site } from './site.ts'

const kills = Number(process.env['KVSWARM_TEST_KILLS'] ?? 60)
/** In the long run more of them come at once, and sooner after each other. */
const isLong = kills > 100
/** So many kills must come while operations are unacked or unapplied. */
const midFlightMin = Math.floor(kills * (isLong ? 0.5 : 0.75))
/** Most receipts that are waited for between two kills. */
const receiptsMax = isLong ? 12 : 80
/** The same when the victim may be a node that is still starting. */
const receiptsSoon = 5
/** How often the victim may be a node that is just starting, how often several are killed at once, how many. */
const anybodyChance = 0.25
const togetherChance = isLong ? 0.8 : 0.2
const togetherMax = isLong ? 4 : 2

/** Blocks of outboxes as their callers know them: the newest by writer and owner. */
type Told = Map<string, { generation: number; to: number }>

function told(facts: Facts, which: 'parts' | 'acked' | 'receipted'): Told {
  const newest: Told = new Map()
  for (const flush of facts.all) {
    if (flush.parts === null || (which !== 'parts' && !flush[which])) continue
    for (const { owner, generation, to } of flush.parts) {
      const key = `${flush.writer}/${owner}`
      const before = newest.get(key)
      const position = { generation, length: to }
      if (!before || reaches(position, { generation: before.generation, length: before.to })) {
        newest.set(key, { generation, to })
      }
    }
  }
  return newest
}

/** What the disks show at a kill. */
interface Inspection {
  /** Something was in an outbox and not applied, at the victim or by it. */
  readonly midFlight: boolean
  /** Promises that were not kept. */
  readonly faults: readonly string[]
}

/** Reads the disks of the victim and of all that it deals with; nothing moves meanwhile. */
async function inspect(
  site: Site,
  facts: Facts,
  victim: Member,
  indexes: ReadonlyMap<string, number>
): Promise<Inspection> {
  const flushed = told(facts, 'parts')
  const acked = told(facts, 'acked')
  const receipted = told(facts, 'receipted')
  const storage = victim.isWriter ? storageNames : [victim.name]
  const writers = victim.isWriter ? [victim.name] : writerNames
  const keyOf = (writer: string, owner: string): string => `${writer}/${site.id(owner)}`

  const lengths = new Map<string, number>()
  for (const writer of writers) {
    await Disk.look(site.directory(writer), async (disk) => {
      for (const owner of storage) {
        const part = flushed.get(keyOf(writer, owner))
        if (part === undefined) continue
        lengths.set(keyOf(writer, owner), await disk.outbox(site.id(owner), part.generation))
      }
    })
  }
  const taken = new Map<string, Taken>()
  for (const owner of storage) {
    await Disk.look(site.directory(owner), async (disk) => {
      for (const writer of writers) {
        const part = flushed.get(keyOf(writer, owner))
        if (part === undefined) continue
        const index = indexes.get(owner) ?? 0
        const found = await disk.inbox(site.id(writer), part.generation, index)
        taken.set(keyOf(writer, owner), found)
      }
    })
  }

  const faults: string[] = []
  let midFlight = false
  for (const [key, { held, applied }] of taken) {
    const length = lengths.get(key) ?? 0
    const has = applied?.length ?? 0
    if (has < length) midFlight = true
    const promises = [
      ['in the outbox', length, flushed.get(key)?.to],
      ['held', held, acked.get(key)?.to],
      ['applied', has, receipted.get(key)?.to]
    ] as const
    for (const [what, blocks, promised = 0] of promises) {
      if (blocks < promised) faults.push(`${key}: ${blocks} ${what}, ${promised} were told`)
    }
  }
  return { midFlight, faults }
}

async function indexGenerations(site: Site): Promise<Map<string, number>> {
  const generations = new Map<string, number>()
  for (const name of storageNames) {
    const { stdout } = await site.run(name, ['status', '--json'])
    const { index } = JSON.parse(stdout) as Status
    generations.set(name, index?.generation ?? 0)
  }
  return generations
}

test(`${kills} random kills under load`, async (t) => {
  const source = random(t)
  const site = await makeSite(t, { writers: writerNames })
  const crowd = new Crowd(t, site, source, undefined, isLong ? compiled(t, writerFile) : null)
  const { facts } = crowd
  for (const name of storageNames) crowd.start(name)
  await until(() => crowd.members.every(({ ready }) => ready), { what: 'the storage nodes' })
  const indexes = await indexGenerations(site)
  for (const name of writerNames) crowd.start(name)

  const faults: string[] = []
  const counts = { storage: 0, writers: 0, starting: 0, together: 0 }
  let midFlight = 0
  const from = performance.now()
  for (let left = kills; left > 0;) {
    const anybody = source.chance(anybodyChance)
    const receipts = facts.receipts + source.int(1, anybody ? receiptsSoon : receiptsMax)
    const together = source.chance(togetherChance) ? Math.min(source.int(2, togetherMax), left) : 1
    const candidates = await until(
      () => {
        crowd.hear()
        const found = crowd.members.filter(({ ready }) => ready || anybody)
        return facts.receipts >= receipts && found.length >= together ? found : null
      },
      { what: `${receipts} receipts`, timeoutMs: 120_000 }
    )
    const victims = source.shuffle(candidates).slice(0, together)
    left -= together
    if (together > 1) counts.together += together
    await crowd.crash(victims, async () => {
      for (const victim of victims) {
        if (!victim.wasReady) counts.starting++
        if (victim.isWriter) counts.writers++
        else counts.storage++
        const found = await inspect(site, facts, victim, indexes)
        if (found.midFlight) midFlight++
        faults.push(...found.faults)
      }
    })
    for (const { name } of victims) crowd.start(name)
  }
  const seconds = (performance.now() - from) / 1000
  t.comment(
    `${counts.storage} kills of storage nodes and ${counts.writers} of writers, ` +
      `${counts.starting} of them while they started, ${counts.together} with others`
  )
  t.comment(`${seconds.toFixed(0)} s, ${(crowd.lookMs / 1000).toFixed(0)} s to read the disks`)
  t.deepEqual(faults, [], 'at every kill what was told was on disk')
  t.ok(midFlight >= midFlightMin, `${midFlight} of ${kills} kills in mid-flight`)

  await until(() => crowd.members.every(({ ready }) => ready), { what: 'all to be back' })
  await crowd.endWriters()
  const draining = writerNames.map((name) => crowd.start(name, 'drain'))
  for (const { life, name } of draining) {
    // It ends by itself when everything that was ever written has its receipt.
    const { code } = await deadline(life.exit, 60_000, `all receipts of ${name}`)
    t.equal(code, 0, `${name}: everything has its receipt`)
  }
  crowd.hear()

  const reader = site.open('reader')
  await reader.connect()
  const entries: KVEntry[] = []
  for await (const entry of reader.list({}, { fresh: true })) entries.push(entry)
  const verdict = judge(facts, entries, site.config)
  const { all } = facts
  t.comment(
    `${all.length} flushes, ${verdict.applied} operations applied (${verdict.overwritten} overwritten), ` +
      `${facts.acks} acks and ${facts.receipts} receipts told, ${entries.length} keys`
  )
  t.comment(
    `${verdict.unknown} flushes were cut off, ${verdict.unknownApplied} parts of them applied; ` +
      `${crowd.warnings} warnings`
  )
  t.deepEqual(verdict.faults.slice(0, 20), [], 'every flush applied exactly once, in order')
  t.ok(verdict.overwritten > 0 && verdict.unknown > 0, 'keys were overwritten, flushes cut off')
  for (const name of storageNames) {
    const { stdout } = await site.run(name, ['status', '--json'])
    const { inboxes, index, roles } = JSON.parse(stdout) as Status
    t.ok(roles.includes('listen'), `${name} is up`)
    t.equal(index?.generation, indexes.get(name), `${name} is in its first generation`)
    t.deepEqual(
      inboxes.map(({ rejected, stopped }) => ({ rejected, stopped })),
      writerNames.map(() => ({ rejected: 0, stopped: null })),
      'nothing was rejected, no log stands still'
    )
  }
})
