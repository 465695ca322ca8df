/**
 * What the history of a fault run must fulfil, each promise by itself:
 *
 * - fresh reads and writes of a key are linearizable (linear.ts);
 * - a value has one versionstamp for ever (a write that was applied twice would have two), and was written by
 *   somebody before it was read;
 * - a reader never goes back, and sees what it was receipted for;
 * - what was receipted is in the final state; each applied put took one versionstamp, and nothing else did;
 * - one client's writes to one owner are in the order of its calls;
 * - every call ended within its timeout and a grace.
 */
import type { Config } from '../../../config/index.ts'
import type { KVEntry } from '../../../lib/index.ts'
import { stampFields } from '../../../lib/wire/stamps.ts'
import { keysOf, type Answer, type Call } from '../driver/client.ts'
import { isLinearizable, type Op } from './linear.ts'

/** What may pass beyond a call's timeout on a machine that is busy, not counting time without processor. */
export const graceMs = 5_000

/** One call of a client, in one of its lives. */
export interface Made extends Call {
  readonly client: string
  readonly life: number
  readonly answer: Answer | null
}

export interface Verdict {
  readonly faults: readonly string[]
  readonly calls: number
  readonly keys: number
  /** Writes of which nobody was told what became, and how many of them were applied. */
  readonly unknown: number
  readonly unknownApplied: number
  readonly opsPerKeyMax: number
  /** The history of the first key of which something is wrong, line by line. */
  readonly shown: readonly string[]
}

export function judgeHistory(
  history: readonly Made[],
  entries: readonly KVEntry[],
  config: Config
): Verdict {
  const faults: string[] = []
  const byTag = new Map<string, Made[]>()
  for (const made of history) byTag.set(made.tag, [...(byTag.get(made.tag) ?? []), made])
  let opsPerKeyMax = 0
  let shown: string[] = []
  for (const [tag, all] of byTag) {
    const ops = operationsOf(all)
    opsPerKeyMax = Math.max(opsPerKeyMax, ops.length)
    const outcome = isLinearizable(ops)
    if (outcome !== 'yes') faults.push(`key ${tag}: linearizable: ${outcome}`)
    faults.push(...values(tag, all), ...sessions(tag, all))
    if (faults.length > 0 && shown.length === 0) shown = show(all)
  }
  for (const { client, call, type, timeout, at, answer } of history) {
    if (answer === null) continue
    const ms = answer.at - at - answer.idle
    if (ms > timeout + graceMs) {
      faults.push(
        `${client} ${call}: ${type} took ${ms.toFixed(0)} ms with a timeout of ${timeout}`
      )
    }
  }
  const end = finalState(history, entries, config)
  faults.push(...end.faults)
  return { ...end, faults, calls: history.length, keys: byTag.size, opsPerKeyMax, shown }
}

function show(all: readonly Made[]): string[] {
  const start = Math.min(...all.map(({ at }) => at))
  return all
    .toSorted((a, b) => a.at - b.at)
    .map(({ client, life, call, type, at, answer }) => {
      const { error, value = '', stamp = '', heads = '', at: end = Infinity } = answer ?? {}
      const times = `${(at - start).toFixed(1)} to ${(end - start).toFixed(1)} ms`
      return `${client}.${life} ${call} ${type}: ${times} ${error ?? `${value} ${stamp} ${heads}`}`
    })
}

function isWrite({ type }: Call): boolean {
  return type === 'put' || type === 'del'
}

function valueOf({ client, call, type }: Made): string | null {
  return type === 'put' ? `${client} ${call}` : null
}

function operationsOf(all: readonly Made[]): Op[] {
  return all.flatMap((made): Op[] => {
    const { client, at: called, answer } = made
    const isGood = answer !== null && answer.error === undefined
    const answered = isGood ? answer.at : Infinity
    if (isWrite(made)) return [{ client, write: valueOf(made), called, answered }]
    if (made.type !== 'fresh' || !isGood) return []
    return [{ client, read: answer.value ?? null, called, answered }]
  })
}

function readsOf(
  all: readonly Made[]
): { made: Made; value: string | null; stamp: string | null; at: number }[] {
  return all.flatMap((made) => {
    const { answer } = made
    if (isWrite(made) || answer === null || answer.error !== undefined) return []
    return [{ made, value: answer.value ?? null, stamp: answer.stamp ?? null, at: answer.at }]
  })
}

function values(tag: string, all: readonly Made[]): string[] {
  const faults: string[] = []
  const written = new Map(all.filter(isWrite).map((made) => [valueOf(made), made.at]))
  const stamps = new Map<string, string>()
  for (const { value, stamp, at } of readsOf(all)) {
    if (value === null || stamp === null) continue
    const called = written.get(value)
    if (called === undefined || called > at)
      faults.push(`key ${tag}: '${value}' was read, not written`)
    const known = stamps.get(value) ?? stamp
    if (known !== stamp) faults.push(`key ${tag}: '${value}' has the stamps ${known} and ${stamp}`)
    stamps.set(value, stamp)
  }
  return faults
}

/** Reads of one life of a client never go back, whatever kind they are. */
function sessions(tag: string, all: readonly Made[]): string[] {
  const faults: string[] = []
  const stamps = new Map(readsOf(all).map(({ value, stamp }) => [value, stamp]))
  const deleted = all.filter(({ type }) => type === 'del').map(({ at }) => at)
  const firstDelete = Math.min(...deleted, Infinity)
  const lives = new Map<string, Made[]>()
  for (const made of all) {
    const key = `${made.client}/${made.life}`
    lives.set(key, [...(lives.get(key) ?? []), made])
  }
  for (const life of lives.values()) {
    /** The newest state that this life knows of. */
    let least = ''
    for (const made of life.toSorted((a, b) => a.call - b.call)) {
      const { answer, client, call } = made
      if (answer === null || answer.error !== undefined) continue
      if (made.type === 'put') least = newer(least, stamps.get(valueOf(made)) ?? '')
      if (isWrite(made)) continue
      const { stamp = null } = answer
      if (stamp !== null && stamp < least) {
        faults.push(`key ${tag}: ${client} ${call} read ${stamp} after ${least}`)
      }
      if (stamp === null && least !== '' && firstDelete > answer.at) {
        faults.push(`key ${tag}: ${client} ${call} read nothing after ${least}`)
      }
      least = newer(least, stamp ?? '')
    }
  }
  return faults
}

function newer(a: string, b: string): string {
  return a > b ? a : b
}

function finalState(
  history: readonly Made[],
  entries: readonly KVEntry[],
  config: Config
): { faults: string[]; unknown: number; unknownApplied: number } {
  const faults: string[] = []
  const found = new Map(entries.map((entry) => [String(entry.key), entry]))
  if (found.size !== entries.length) {
    const keys = entries.map(({ key }) => String(key))
    const twice = keys.filter((key, i) => keys.indexOf(key) !== i)
    faults.push(`listed more than once: ${twice.slice(0, 5).join(', ')}`)
  }
  const puts = new Map<string, number>()
  const highest = new Map<string, string>()
  for (const { key, versionstamp } of entries) {
    const owner = config.ownerOf(key)
    highest.set(owner, newer(highest.get(owner) ?? '', versionstamp))
  }
  let unknown = 0
  let unknownApplied = 0
  const placed: { made: Made; owner: string; stamp: string }[] = []
  for (const made of history.filter(isWrite)) {
    const { own, main } = keysOf(made.tag, made.client, made.call)
    const entry = found.get(own)
    const isKnown = made.answer !== null && made.answer.error === undefined
    if (!isKnown) unknown++
    if (entry === undefined) {
      if (isKnown) faults.push(`${made.client} ${made.call}: receipted, and not there`)
      continue
    }
    if (!isKnown) unknownApplied++
    const owner = config.ownerOf(main)
    puts.set(owner, (puts.get(owner) ?? 0) + (made.type === 'put' ? 2 : 1))
    placed.push({ made, owner, stamp: entry.versionstamp })
  }
  for (const [owner, stamp] of highest) {
    const { counter } = stampFields(stamp)
    const applied = puts.get(owner) ?? 0
    if (counter !== applied) faults.push(`${owner} took ${counter} stamps for ${applied} puts`)
  }
  faults.push(...orders(placed))
  return { faults, unknown, unknownApplied }
}

/** A call that came after another one was answered was applied after it, at the same owner. */
function orders(placed: readonly { made: Made; owner: string; stamp: string }[]): string[] {
  const faults: string[] = []
  const groups = new Map<string, { made: Made; stamp: string }[]>()
  for (const { made, owner, stamp } of placed) {
    const key = `${made.client}/${owner}`
    groups.set(key, [...(groups.get(key) ?? []), { made, stamp }])
  }
  for (const group of groups.values()) {
    let before = ''
    for (const { made, stamp } of group.toSorted((a, b) => a.made.call - b.made.call)) {
      if (stamp <= before)
        faults.push(`${made.client} ${made.call}: applied before an earlier call`)
      if (made.answer !== null && made.answer.error === undefined) before = newer(before, stamp)
    }
  }
  return faults
}
