/**
 * The process that holds a data directory: it has the lock, the store is open, and others are served.
 *
 * - The lock is taken before the store is opened, and released after it is closed.
 * - The socket is served by the holder alone, and removed before the lock is released.
 */
import { rm } from 'node:fs/promises'
import type { DirectoryLock, Sidecar } from './lock.ts'
import { RoleTable } from './roles.ts'
import type { Seat } from './seat.ts'
import { ControlServer } from './server.ts'
import { prepareSocket, socketPaths } from './socket-path.ts'
import { waitersOf } from './waiters.ts'
import { KVSwarmError, messageOf } from '../errors.ts'
import type {
  Engine,
  EngineReadOptions,
  EngineTailOptions,
  IndexRange,
  Role,
  Status,
  TailEvent,
  WaitOptions,
  WriteOptions,
  WriteRequest
} from '../ports.ts'
import type { Entry, FlushResult } from '../types.ts'

/** What a holder needs besides its engine and lock. */
export interface HolderOptions {
  /** Absolute and without links. */
  readonly directory: string
  readonly version: string
  /** False: nobody is served (`coordination: 'single'`). */
  readonly serve: boolean
  /** Fail when the socket cannot be served; otherwise warn. */
  readonly mustServe: boolean
  readonly onWarning: (message: string) => void
  readonly onStop: () => void
  /** A configuration was set, by this process or by a client. */
  readonly onConfig: (text: string) => void
}

/** The seat of the process that has the lock. */
export class HolderSeat implements Seat {
  readonly kind = 'holder'
  readonly nodeId: string
  readonly #engine: Engine
  readonly #lock: DirectoryLock
  readonly #options: HolderOptions
  readonly #roles: RoleTable
  readonly #server: ControlServer
  readonly #since: number
  #socket: string | null = null
  #state: Sidecar['state'] = 'alone'
  #closed: Promise<void> | null = null

  private constructor(engine: Engine, lock: DirectoryLock, since: number, options: HolderOptions) {
    this.#since = since
    this.nodeId = engine.nodeId
    this.#engine = engine
    this.#lock = lock
    this.#options = options
    this.#roles = new RoleTable(engine, () => this.#note())
    this.#server = new ControlServer({
      engine,
      roles: this.#roles,
      hello: async () => ({
        nodeId: engine.nodeId,
        pid: process.pid,
        version: options.version,
        config: await engine.config()
      }),
      status: () => this.status(),
      setConfig: (text) => this.setConfig(text),
      onStop: options.onStop
    })
  }

  /**
   * Opens the engine under the lock, then serves it. When anything fails, nothing stays open and the
   * lock is released.
   */
  static async open(
    lock: DirectoryLock,
    openEngine: () => Promise<Engine>,
    options: HolderOptions
  ): Promise<HolderSeat> {
    let seat: HolderSeat | null = null
    const since = Date.now()
    try {
      await lock.write(facts(options.version, since, 'opening', null, []))
      seat = new HolderSeat(await openEngine(), lock, since, options)
      await lock.keepName()
      if (options.serve) await seat.#serve()
      await seat.#note()
      return seat
    } catch (error) {
      await (seat === null ? lock.release() : seat.close())
      throw error
    }
  }

  /** Serves on the first path that can be served on. */
  async #serve(): Promise<void> {
    const { directory, mustServe, onWarning } = this.#options
    const problems: string[] = []
    for (const path of socketPaths(directory)) {
      try {
        await prepareSocket(directory, path)
        await this.#server.listen(path)
        this.#socket = path
        this.#state = 'serving'
        return
      } catch (error) {
        problems.push(messageOf(error))
      }
    }
    const message = `no control socket can be served for ${directory}: ${problems.join('; ') || 'all paths are too long'}`
    if (mustServe) {
      throw new KVSwarmError('IO_ERROR', message, {
        hint: 'set XDG_RUNTIME_DIR to a short path of your own'
      })
    }
    onWarning(`${message}; other processes cannot use the directory meanwhile`)
  }

  #note(): Promise<void> {
    const { roles } = this.#roles
    return this.#lock.write(
      facts(this.#options.version, this.#since, this.#state, this.#socket, roles)
    )
  }

  config(): Promise<string | null> {
    return this.#engine.config()
  }

  async setConfig(text: string): Promise<void> {
    await this.#engine.setConfig(text)
    this.#options.onConfig(text)
    this.#server.announceConfig(text)
  }

  async status(): Promise<Status> {
    const lock = {
      holder: { pid: process.pid, since: this.#since },
      taken: this.#lock.taken,
      waiting: await waitersOf(this.#options.directory),
      leases: this.#server.leases
    }
    return { ...(await this.#engine.status()), lock }
  }

  write(request: WriteRequest, options: WriteOptions): Promise<FlushResult> {
    return this.#engine.write(request, options)
  }

  receipt(id: string, options: WaitOptions & { readonly ack?: boolean }): Promise<FlushResult> {
    return this.#engine.receipt(id, options)
  }

  getMany(keys: readonly Uint8Array[], options: EngineReadOptions): Promise<(Entry | null)[]> {
    return this.#engine.getMany(keys, options)
  }

  list(range: IndexRange, options: EngineReadOptions): AsyncIterable<Entry> {
    return this.#engine.list(range, options)
  }

  refresh(options: WaitOptions): Promise<void> {
    return this.#engine.refresh(options)
  }

  tail(bookmark: string | null, options: EngineTailOptions): AsyncIterable<TailEvent> {
    return this.#engine.tail(bookmark, options)
  }

  start(role: Role): Promise<() => Promise<void>> {
    return this.#roles.hold(role)
  }

  close(): Promise<void> {
    this.#closed ??= this.#close()
    return this.#closed
  }

  async #close(): Promise<void> {
    this.#state = 'closing'
    try {
      await this.#note()
      if (this.#socket !== null) {
        await this.#server.close()
        await rm(this.#socket, { force: true })
        this.#socket = null
      }
      await this.#roles.endAll()
    } finally {
      try {
        await this.#engine.close()
      } finally {
        await this.#lock.release()
      }
    }
  }
}

function facts(
  version: string,
  since: number,
  state: Sidecar['state'],
  socket: string | null,
  roles: readonly Role[]
): Sidecar {
  return { pid: process.pid, socket, since, state, roles, version }
}
