/**
 * The durability barrier: the one place where everything passes before it is announced, acked or receipted.
 *
 * hypercore's append resolves without any fsync (measured: 0 in 20 appends), and a power cut then takes
 * blocks that peers have seen already; appending again forks the log for ever. So:
 * - sync() resolves when every byte that the store had written before the call is on disk: it syncs *every*
 *   live write-ahead-log file from the last synced one to the present one, and the folder when one is new;
 * - all who wait while one sync runs share the next one (group commit);
 * - high-water marks are written after the log is synced and before anyone is told, so that a mark is
 *   never ahead of its log;
 * - a failed sync is final: what the kernel dropped cannot be synced by trying again (fsyncgate), so
 *   every later call fails too.
 */
import { open, readdir, type FileHandle } from 'node:fs/promises'
import { basename, join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import { handlesRetryMs, handlesWaitMs } from '../../config/limits.ts'
import { KVSwarmError, messageOf } from '../errors.ts'
import { troubleOf } from './disk-errors.ts'
import type { SyncedLog } from './wal.ts'

/** The part of rocksdb-native that the barrier needs. */
export interface WalSource {
  /** Folder of the write-ahead-log files. */
  readonly path: string
  currentWalFile(): Promise<{ path: string; number: number } | null>
}

/**
 * Writes what must be on disk beside the log, behind it. Resolves when it is durable.
 * @param synced up to where the log is on disk
 */
export type WriteMarks<M> = (marks: readonly M[], synced: SyncedLog) => Promise<void>

interface Waiter<M> {
  readonly mark: M | undefined
  readonly resolve: () => void
  readonly reject: (error: unknown) => void
}

export interface BarrierStats {
  /** Physical syncs of the store's log. */
  readonly syncs: number
  /** Callers that shared a sync with another one. */
  readonly shared: number
  readonly failures: number
}

/** How often the log may be replaced between being named and being opened. */
const triesMax = 100

export class Barrier<M> {
  readonly #source: WalSource
  readonly #writeMarks: WriteMarks<M>
  #waiting: Waiter<M>[] = []
  #running: Promise<void> | null = null
  #file: { number: number; handle: FileHandle } | null = null
  #failure: KVSwarmError | null = null
  #syncs = 0
  #shared = 0
  #failures = 0

  constructor(source: WalSource, writeMarks: WriteMarks<M>) {
    this.#source = source
    this.#writeMarks = writeMarks
  }

  get stats(): BarrierStats {
    return { syncs: this.#syncs, shared: this.#shared, failures: this.#failures }
  }

  /** The error that ended it, or null. */
  get failure(): KVSwarmError | null {
    return this.#failure
  }

  /**
   * Resolves when all that was written to the store before is on disk, and `mark` behind it.
   * @throws IO_ERROR when a sync failed, now or ever before
   */
  sync(mark?: M): Promise<void> {
    if (this.#failure) return Promise.reject(this.#failure)
    return new Promise((resolve, reject) => {
      this.#waiting.push({ mark, resolve, reject })
      this.#running ??= this.#run()
    })
  }

  async #run(): Promise<void> {
    // One turn of the event loop lets appends that end together share this sync.
    await Promise.resolve()
    while (this.#waiting.length > 0) {
      const group = this.#waiting
      this.#waiting = []
      try {
        if (this.#failure) throw this.#failure
        const synced = await this.#syncLogs()
        const marks = group.flatMap((waiter) => (waiter.mark === undefined ? [] : [waiter.mark]))
        await this.#writeMarks(marks, synced)
        this.#syncs++
        this.#shared += group.length - 1
        for (const waiter of group) waiter.resolve()
      } catch (error) {
        this.#failures++
        this.#failure ??= new KVSwarmError(
          'IO_ERROR',
          `syncing the data directory failed: ${messageOf(error)}`,
          {
            hint:
              troubleOf(error) === 'handles'
                ? 'this process may not open more files: raise the limit (ulimit -n) and restart the node; nothing after the failure was acknowledged'
                : 'check the disk; restart the node when it is well: nothing after the failure was acknowledged',
            cause: error
          }
        )
        for (const waiter of group) waiter.reject(this.#failure)
      }
    }
    this.#running = null
  }

  async #syncLogs(): Promise<SyncedLog> {
    // A log can be gone before it is opened: all that was in it is then in a table file, which the store has synced.
    for (let tries = 0; tries < triesMax; tries++) {
      const synced = await this.#syncOnce()
      if (synced !== null) return synced
    }
    throw new Error('the write-ahead log of the store is missing')
  }

  /** Null: the log was replaced meanwhile. */
  async #syncOnce(): Promise<SyncedLog | null> {
    const current = await this.#source.currentWalFile()
    if (current === null) throw new Error('the store names no write-ahead log')
    const previous = this.#file
    if (previous?.number !== current.number) {
      // A switch: whatever lies between the last synced file and this one must be synced too.
      const from = previous?.number ?? 0
      for (const number of await this.#logNumbers()) {
        if (number < from || number >= current.number) continue
        if (previous && number === previous.number) await previous.handle.datasync()
        else await this.#syncFile(number)
      }
      const handle = await openIfThere(join(this.#source.path, basename(current.path)))
      if (handle === null) return null
      this.#file = { number: current.number, handle }
      await previous?.handle.close()
      await syncFolder(this.#source.path)
    }
    const { handle, number } = this.#file as { number: number; handle: FileHandle }
    const { size } = await handle.stat()
    await handle.datasync()
    return { number, bytes: size }
  }

  async #logNumbers(): Promise<number[]> {
    const names = await readdir(this.#source.path)
    return names
      .filter((name) => /^\d+\.log$/.test(name))
      .map((name) => Number.parseInt(name, 10))
      .sort((a, b) => a - b)
  }

  async #syncFile(number: number): Promise<void> {
    const path = join(this.#source.path, `${String(number).padStart(6, '0')}.log`)
    const handle = await openIfThere(path)
    // The store deletes a log after its content is synced in a table file: then there is nothing to do.
    if (handle === null) return
    try {
      await handle.datasync()
    } finally {
      await handle.close()
    }
  }

  async close(): Promise<void> {
    await this.#running
    await this.#file?.handle.close()
    this.#file = null
  }
}

/**
 * Opens a file of the log, null when it is not there; while this process has no handle left, again and again within
 * a bound. Nothing is lost meanwhile: a sync that did not begin can be done later, unlike one that failed.
 */
async function openIfThere(path: string): Promise<FileHandle | null> {
  try {
    return await openWaiting(path, 'r+')
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return null
    throw error
  }
}

async function openWaiting(path: string, flags: string): Promise<FileHandle> {
  const end = performance.now() + handlesWaitMs
  for (;;) {
    try {
      return await open(path, flags)
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException
      if ((code !== 'EMFILE' && code !== 'ENFILE') || performance.now() >= end) throw error
      await pause(handlesRetryMs)
    }
  }
}

/** Makes the names in a folder durable. */
export async function syncFolder(path: string): Promise<void> {
  const handle = await openWaiting(path, 'r')
  try {
    await handle.sync()
  } finally {
    await handle.close()
  }
}
