/** Asking the processes of a data directory to end. */
import { realpath, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { HolderClient } from './client.ts'
import { HolderGone } from './exchange.ts'
import { helloTimeoutMs } from './limits.ts'
import { DirectoryLock, readSidecar, sidecarName } from './lock.ts'
import { isTrustedSocket, socketPaths } from './socket-path.ts'
import { inUse, retryMs } from './take-seat.ts'
import { KVSwarmError, isKVSwarmError } from '../errors.ts'
import type { WaitOptions } from '../ports.ts'
import { abortedError, pause } from '../wait.ts'

/**
 * Asks the holder of a data directory, and its clients with roles, to end, and waits until nobody holds
 * the directory.
 * @returns the process ids of those that were asked, in order; empty: nobody held it
 * @throws DATADIR_UNREADABLE when there is no such directory; DATADIR_IN_USE when the holder does not
 *   answer or does not end in time; ABORTED
 */
export async function stopHolder(
  path: string,
  { timeout = Infinity, signal }: WaitOptions = {}
): Promise<number[]> {
  const directory = await realpath(path).catch((error: unknown) => {
    throw new KVSwarmError('DATADIR_UNREADABLE', `there is no data directory ${path}`, {
      hint: 'check the path',
      cause: error
    })
  })
  const asked: number[] = []
  const deadline = performance.now() + timeout
  for (;;) {
    if (signal?.aborted) throw abortedError(signal, 'stopping')
    if (await isFree(directory)) return asked
    const pid = await ask(directory)
    if (pid !== null && !asked.includes(pid)) asked.push(pid)
    const sidecar = await readSidecar(directory)
    const left = deadline - performance.now()
    if (left <= 0 || sidecar?.state === 'alone') throw inUse(directory, sidecar)
    await pause(Math.min(left, retryMs()), signal)
  }
}

async function isFree(directory: string): Promise<boolean> {
  try {
    await stat(join(directory, sidecarName))
  } catch {
    // Never held: nothing is made here only to find that out.
    return true
  }
  const lock = await DirectoryLock.tryAcquire(directory)
  await lock?.release()
  return lock !== null
}

/** The process id of a holder that has heard, or null. */
async function ask(directory: string): Promise<number | null> {
  const sidecar = await readSidecar(directory)
  const paths = new Set([...(sidecar?.socket ? [sidecar.socket] : []), ...socketPaths(directory)])
  for (const path of paths) {
    if (!(await isTrustedSocket(directory, path))) continue
    const client = new HolderClient(path)
    try {
      return await client.stop(helloTimeoutMs)
    } catch (error) {
      if (!(error instanceof HolderGone) && !isKVSwarmError(error, 'TIMEOUT')) throw error
    } finally {
      await client.close()
    }
  }
  return null
}
