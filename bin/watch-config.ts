/**
 * Watches a configuration file and tells when a higher epoch appears in it.
 *
 * The *folder* is watched: a watch on the file goes deaf when an editor or a tool replaces it. Where the
 * path is a link, the folder of its target is watched too. Whatever happens there, the file is read when
 * it has changed; what is broken or lower is reported once and ignored.
 */
import { type FSWatcher, watch } from 'node:fs'
import { realpath, stat } from 'node:fs/promises'
import { dirname } from 'node:path'
import { readConfig } from './store.ts'
import type { Config } from '../config/index.ts'
import { KVSwarmError, messageOf } from '../lib/errors.ts'

/** A file that is being written comes in several events; it is read once they have ended. */
const settleMs = 100

/** What the watcher needs. */
export interface WatchOptions {
  readonly path: string
  /** The configuration in use: its epoch and hash decide what is new. */
  readonly current: () => Config | null
  /** Takes a configuration over; what it throws is reported. */
  readonly onConfig: (config: Config) => Promise<void>
  readonly onProblem: (message: string) => void
}

/** Watches until closed. */
export class ConfigWatch {
  readonly #options: WatchOptions
  readonly #watchers = new Map<string, FSWatcher>()
  #seen = ''
  #timer: NodeJS.Timeout | undefined
  #reading: Promise<void> = Promise.resolve()
  #closed = false

  private constructor(options: WatchOptions) {
    this.#options = options
  }

  /** Begins to watch; a file that changed since it was read is noticed, too. */
  static async open(options: WatchOptions): Promise<ConfigWatch> {
    const config = new ConfigWatch(options)
    await config.#follow()
    config.#changed()
    return config
  }

  /** Ends; what is being read is waited for. */
  async close(): Promise<void> {
    this.#closed = true
    clearTimeout(this.#timer)
    for (const watcher of this.#watchers.values()) watcher.close()
    await this.#reading
  }

  /** Watches the folder of the path, and of what it points to now. */
  async #follow(): Promise<void> {
    const { path, onProblem } = this.#options
    const target = await realpath(path).catch(() => path)
    for (const folder of [dirname(path), dirname(target)]) {
      if (this.#watchers.has(folder) || this.#closed) continue
      try {
        const watcher = watch(folder, () => this.#changed())
        watcher.on('error', (error) => onProblem(notWatched(path, error)))
        this.#watchers.set(folder, watcher)
      } catch (error) {
        onProblem(notWatched(path, error))
      }
    }
  }

  #changed(): void {
    // Not begun anew by every event: in a busy folder it would never end.
    if (this.#closed || this.#timer !== undefined) return
    this.#timer = setTimeout(() => {
      this.#timer = undefined
      this.#reading = this.#reading.then(() => this.#read())
    }, settleMs)
  }

  async #read(): Promise<void> {
    const { path, current, onConfig, onProblem } = this.#options
    try {
      const { ino, size, mtimeNs } = await stat(path, { bigint: true })
      const seen = `${ino} ${size} ${mtimeNs}`
      if (seen === this.#seen || this.#closed) return
      this.#seen = seen
      await this.#follow()
      const config = await readConfig(path)
      const used = current()
      if (used !== null && config.hash === used.hash) return
      if (used !== null && config.epoch <= used.epoch) throw notNewer(path, config, used)
      await onConfig(config)
    } catch (error) {
      onProblem(`the configuration stays as it is: ${messageOf(error)}`)
    }
  }
}

function notNewer(path: string, config: Config, used: Config): KVSwarmError {
  return config.epoch === used.epoch
    ? new KVSwarmError(
        'CONFIG_CONFLICT',
        `${path} has epoch ${config.epoch} like the one in use, but is another one`
      )
    : new KVSwarmError(
        'CONFIG_STALE',
        `${path} has epoch ${config.epoch}, and ${used.epoch} is in use`
      )
}

function notWatched(path: string, error: unknown): string {
  return `changes of ${path} are not noticed: ${messageOf(error)}`
}
