/**
 * What else the machine does while something is measured, and measuring again when that was too much.
 * All of it from /proc: where there is none, everything counts as undisturbed.
 */
import { readFileSync } from 'node:fs'
import { cpus } from 'node:os'
import { setTimeout as wait } from 'node:timers/promises'
import { progress, show } from './report.ts'

/** The kernel counts processor time in hundredths of a second. */
const tickMs = 10
const lookMs = 1000
/** So often a measurement is made again; then the least disturbed one counts. */
const triesMax = 3
/** So long a quiet moment is waited for, for each try. */
const patienceMs = 20_000

/** Milliseconds of processor time since some beginning. */
interface Times {
  readonly at: number
  /** Of everything on this machine. */
  readonly all: number
  /** Of this process and those that it has started, also those that have ended. */
  readonly own: number
}

function fieldsOf(path: string): number[] {
  // The name of the program, in brackets, may hold spaces.
  return (readFileSync(path, 'utf8').split(') ').at(-1) ?? '').split(' ').map(Number)
}

/** User and system time of a process, and of its children that have ended. */
function ticksOf(pid: number | 'self'): number {
  return fieldsOf(`/proc/${pid}/stat`)
    .slice(11, 15)
    .reduce((sum, ticks) => sum + ticks, 0)
}

function now(): Times {
  const at = performance.now()
  try {
    const [line = ''] = readFileSync('/proc/stat', 'utf8').split('\n')
    const [user = 0, nice = 0, system = 0, , , irq = 0, softirq = 0] = line
      .split(/\s+/)
      .slice(1)
      .map(Number)
    const children = readFileSync(`/proc/self/task/${process.pid}/children`, 'utf8')
    const living = children.split(' ').filter((pid) => pid !== '')
    const own = living.reduce((sum, pid) => sum + ticksOf(Number(pid)), ticksOf('self'))
    return { at, all: (user + nice + system + irq + softirq) * tickMs, own: own * tickMs }
  } catch {
    return { at, all: 0, own: 0 }
  }
}

/** The share of all processors that others took between the two. */
function othersBetween(from: Times, to: Times): number {
  const others = to.all - from.all - (to.own - from.own)
  return Math.max(0, others / (cpus().length * (to.at - from.at)))
}

/** What was measured, and the share of all processors (0 to 1) that others took meanwhile. */
export interface Measured<T> {
  readonly value: T
  readonly others: number
}

/**
 * Measures; again when others took more than `share`, each time after waiting for a quiet moment.
 * @param share 1 or more: once, whatever the others do
 */
export async function undisturbed<T>(
  share: number,
  measure: () => Promise<T>
): Promise<Measured<T>> {
  let best: Measured<T> | null = null
  for (let tries = 1; ; tries++) {
    if (share < 1) await quiet(share)
    const from = now()
    const value = await measure()
    const others = othersBetween(from, now())
    if (best === null || others < best.others) best = { value, others }
    if (others <= share || tries === triesMax) return best
    progress(`others took ${show(100 * others)} % of the processors: once more`)
  }
}

async function quiet(share: number): Promise<void> {
  const since = performance.now()
  for (;;) {
    const from = now()
    await wait(lookMs)
    if (othersBetween(from, now()) <= share || performance.now() - since > patienceMs) return
  }
}
