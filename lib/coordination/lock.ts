/**
 * The lock of a data directory: a sidecar file with an operating system's lock on it.
 *
 * - The lock alone decides who holds the directory; it ends with the process, however that ends.
 * - What the file says (process, socket, roles) is information and may be missing or old. It is
 *   rewritten by its holder at any time and never deleted: a deleted file could be locked twice.
 */
import { closeSync, constants, openSync } from 'node:fs'
import { readFile, rename, stat } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import RandomAccessFile from 'random-access-file'
import { sidecarBytes } from './limits.ts'
import { KVSwarmError, messageOf } from '../errors.ts'
import type { Role } from '../ports.ts'

/** Name of the sidecar in the data directory. */
export const sidecarName = 'kvswarm.lock'

/** What the holder of a directory says about itself. */
export interface Sidecar {
  readonly pid: number
  /** Where it serves others; null: it does not (yet). */
  readonly socket: string | null
  /** Unix milliseconds: when it took the lock. */
  readonly since: number
  readonly state: 'opening' | 'serving' | 'alone' | 'closing'
  readonly roles: readonly Role[]
  /** The holder's version of kvswarm. */
  readonly version: string
}

/** What the directory's holder last said, or null when there is nothing readable. */
export async function readSidecar(directory: string): Promise<Sidecar | null> {
  try {
    const value = JSON.parse(await readFile(join(directory, sidecarName), 'utf8')) as Sidecar
    const whole =
      Number.isSafeInteger(value.pid) &&
      Number.isSafeInteger(value.since) &&
      (value.socket === null || typeof value.socket === 'string') &&
      Array.isArray(value.roles)
    return whole ? value : null
  } catch {
    return null
  }
}

/** How often the lock was taken so far, as far as the sidecar tells. */
async function readTaken(directory: string): Promise<number> {
  try {
    const { taken } = JSON.parse(await readFile(join(directory, sidecarName), 'utf8')) as {
      taken?: unknown
    }
    return Number.isSafeInteger(taken) && (taken as number) > 0 ? (taken as number) : 0
  } catch {
    return 0
  }
}

/** The lock while this process has it. */
export class DirectoryLock {
  readonly #file: RandomAccessFile
  /** How often the lock was taken since the directory was made, this time included. */
  readonly taken: number
  /** Writes follow one another, so that the newest content wins. */
  #writes: Promise<void> = Promise.resolve()

  private constructor(file: RandomAccessFile, taken: number) {
    this.#file = file
    this.taken = taken
  }

  /**
   * Takes the lock, or gives null when somebody has it (also another handle of this process).
   * @throws DATADIR_UNREADABLE when the sidecar cannot be made or locked
   */
  static async tryAcquire(directory: string): Promise<DirectoryLock | null> {
    const path = join(directory, sidecarName)
    try {
      // Made here and not by the library, for its mode.
      closeSync(openSync(path, constants.O_RDWR | constants.O_CREAT, 0o600))
      const file = new RandomAccessFile(path, { lock: true, writable: true })
      if (!(await opens(file))) return null
      if (!(await isStillAt(file, path))) {
        await closed(file)
        return null
      }
      return new DirectoryLock(file, (await readTaken(directory)) + 1)
    } catch (error) {
      throw new KVSwarmError(
        'DATADIR_UNREADABLE',
        `the data directory ${directory} cannot be locked: ${messageOf(error)}`,
        { hint: 'check that it exists and that you may write there', cause: error }
      )
    }
  }

  /** True when locks work here: a second one on the same file is refused. */
  async isProven(): Promise<boolean> {
    const second = new RandomAccessFile(this.#file.filename, { lock: true, writable: true })
    if (!(await opens(second))) return true
    await closed(second)
    return false
  }

  /**
   * Puts the sidecar back under its name. hypercore-storage, when it makes a store, moves every file that
   * it does not know into its own folder; the lock goes with the file.
   */
  async keepName(): Promise<void> {
    const path = this.#file.filename
    if (await isStillAt(this.#file, path)) return
    const moved = join(dirname(path), 'db', sidecarName)
    if (await isStillAt(this.#file, moved)) await rename(moved, path)
  }

  /** Rewrites what the sidecar says. That it fails is no reason to stop: it is only information. */
  write(sidecar: Sidecar): Promise<void> {
    const text = JSON.stringify({ ...sidecar, taken: this.taken })
    return this.#put(Buffer.from(text.padEnd(sidecarBytes - 1) + '\n'))
  }

  /** Gives the directory to others. */
  async release(): Promise<void> {
    const text = JSON.stringify({ taken: this.taken })
    await this.#put(Buffer.from(text.padEnd(sidecarBytes - 1) + '\n'))
    await closed(this.#file)
  }

  #put(bytes: Buffer): Promise<void> {
    this.#writes = this.#writes.then(
      () =>
        new Promise((resolve) => {
          this.#file.write(0, bytes, () => resolve())
        })
    )
    return this.#writes
  }
}

/** Opens and locks the file; false when the lock is somebody else's. */
function opens(file: RandomAccessFile): Promise<boolean> {
  return new Promise((resolve, reject) => {
    file.open((error) => {
      if (error === null) resolve(true)
      else if ((error as NodeJS.ErrnoException).code === 'ELOCKED') resolve(false)
      else reject(error)
    })
  })
}

function closed(file: RandomAccessFile): Promise<void> {
  return new Promise((resolve) => {
    file.close(() => resolve())
  })
}

/** False when the file was deleted or replaced between its opening and its locking. */
async function isStillAt(file: RandomAccessFile, path: string): Promise<boolean> {
  const locked = await new Promise<{ ino: number }>((resolve, reject) => {
    // The library gives what fstat gives.
    file.stat((error, found) =>
      error === null ? resolve(found as { size: number; ino: number }) : reject(error)
    )
  })
  try {
    return (await stat(path)).ino === locked.ino
  } catch {
    return false
  }
}
