/**
 * Who waits for the lock of a data directory: a small file for each waiting process, for `status` to tell.
 *
 * The files are information only; the lock alone decides. One whose process is gone is removed by whoever looks.
 */
import { readFile, readdir, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { waiterBytesMax } from './limits.ts'

const prefix = 'kvswarm.waiter-'
let count = 0

/** A process that waits. */
export interface Waiter {
  readonly pid: number
  /** Unix milliseconds. */
  readonly since: number
}

/** Says that this process waits; the returned call takes that back. Never rejects. */
export async function announceWaiter(directory: string): Promise<() => Promise<void>> {
  const path = join(directory, `${prefix}${process.pid}-${++count}`)
  const waiter: Waiter = { pid: process.pid, since: Date.now() }
  await writeFile(path, JSON.stringify(waiter), { mode: 0o600 }).catch(() => {})
  return () => rm(path, { force: true }).catch(() => {})
}

/** Those who wait now, longest first. Never rejects. */
export async function waitersOf(directory: string): Promise<Waiter[]> {
  const names = await readdir(directory).catch(() => [])
  const waiters: Waiter[] = []
  for (const name of names.filter((one) => one.startsWith(prefix))) {
    const path = join(directory, name)
    const waiter = await readWaiter(path)
    if (waiter !== null && isAlive(waiter.pid)) waiters.push(waiter)
    else if (waiter !== null) await rm(path, { force: true }).catch(() => {})
  }
  return waiters.toSorted((a, b) => a.since - b.since)
}

async function readWaiter(path: string): Promise<Waiter | null> {
  try {
    const text = await readFile(path, 'utf8')
    if (text.length > waiterBytesMax) return null
    const { pid, since } = JSON.parse(text) as Waiter
    return Number.isSafeInteger(pid) && pid > 0 && Number.isSafeInteger(since)
      ? { pid, since }
      : null
  } catch {
    // Being written, or gone by now.
    return null
  }
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0)
    return true
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM'
  }
}
