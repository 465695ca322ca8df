/**
 * Several processes on one data directory: one holds it and serves the others.
 *
 * Entry point of the room: coordinate() for whoever opens a data directory, stopHolder() for whoever
 * wants its processes to end.
 */
import { mkdir, realpath } from 'node:fs/promises'
import { resolve } from 'node:path'
import { networkFileSystem } from './network-fs.ts'
import { SharedEngine, type SharedEngineOptions } from './shared-engine.ts'
import { KVSwarmError } from '../errors.ts'
import type { Engine } from '../ports.ts'

export { type Sidecar, readSidecar, sidecarName } from './lock.ts'
export { socketName } from './socket-path.ts'
export { stopHolder } from './stop.ts'

/** How a data directory is opened. */
export interface CoordinateOptions extends Omit<SharedEngineOptions, 'version'> {
  /**
   * - `'auto'`: shares the directory when that is possible; warns on a network file system.
   * - `'required'`: fails when it cannot be shared safely.
   * - `'single'`: takes the directory for itself alone; a held one is refused at once.
   */
  readonly mode: 'auto' | 'required' | 'single'
  /** Opens the store; called under the lock only. It is given the newest configuration known here. */
  readonly openEngine: (configText: string | null) => Promise<Engine>
  /** Makes and checks the directory, before anything is written there. @default makes it, mode 0700 */
  readonly prepare?: () => Promise<unknown>
  /** This program's version, for others to see. @default '' */
  readonly version?: string
}

/**
 * Opens a data directory together with other processes: as its holder, or as a client of the holder.
 * Both look the same to the caller.
 * @throws DATADIR_IN_USE when the holder does not answer within `lockTimeoutMs`; CONFIG_CONFLICT,
 *   CONFIG_STALE; what `prepare` and `openEngine` throw; in mode 'required' IO_ERROR and
 *   STORAGE_UNSUPPORTED
 */
export async function coordinate(options: CoordinateOptions): Promise<Engine> {
  const directory = resolve(options.directory)
  await (options.prepare === undefined
    ? mkdir(directory, { recursive: true, mode: 0o700 })
    : options.prepare())
  await checkFileSystem(directory, options)
  const version = options.version ?? ''
  return await SharedEngine.open({ ...options, version, directory: await realpath(directory) })
}

async function checkFileSystem(directory: string, options: CoordinateOptions): Promise<void> {
  const type = await networkFileSystem(directory)
  if (type === null) return
  const message = `the data directory ${directory} is on a network file system (${type}), where locks may not hold`
  const hint = 'keep the data directory on a local disk'
  if (options.mode === 'required') throw new KVSwarmError('STORAGE_UNSUPPORTED', message, { hint })
  options.onWarning(`${message}; ${hint}`)
}
