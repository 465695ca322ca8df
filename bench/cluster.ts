/**
 * A private swarm for one measurement: a bootstrap node, storage nodes and writers, each a process of its own,
 * their data in one temporary folder that goes with them.
 */
import { join } from 'node:path'
import { Config } from '../config/index.ts'
import { removeFolder, temporaryFolder } from './program.ts'
import { Worker, type WorkerOptions } from './workers.ts'

export interface ClusterOptions {
  /** The compiled bench/worker. */
  readonly worker: string
  readonly storage: number
  readonly writers: number
  /** Of the writers' own outboxes. @default 'sync' */
  readonly durability?: 'sync' | 'os'
  /** Where the data lies. @default the folder for temporary files */
  readonly parent?: string
  /** Address that everything here binds to. @default 127.0.0.1 */
  readonly host?: string
  /** Network namespace of everything here. @default this process's */
  readonly namespace?: string
  /** Options of node for the storage nodes and the writers. */
  readonly nodeOptions?: readonly string[]
}

/** A node that was started: its process and how to start it again. */
export interface Member {
  readonly id: string
  readonly directory: string
  worker: Worker
}

export class Cluster {
  readonly #options: ClusterOptions
  readonly #folder: string
  readonly #host: string
  readonly config: string
  readonly bootstrap: string
  readonly storage: readonly Member[]
  readonly writers: readonly Member[]
  readonly #running: Set<Worker>
  #names = 0

  private constructor(
    options: ClusterOptions,
    made: {
      folder: string
      host: string
      config: string
      bootstrap: string
      storage: readonly Member[]
      writers: readonly Member[]
      running: Set<Worker>
    }
  ) {
    this.#options = options
    this.#folder = made.folder
    this.#host = made.host
    this.config = made.config
    this.bootstrap = made.bootstrap
    this.storage = made.storage
    this.writers = made.writers
    this.#running = made.running
  }

  /** Starts everything; storage nodes and writers are connected when it resolves. */
  static async start(options: ClusterOptions): Promise<Cluster> {
    const { host = '127.0.0.1', namespace } = options
    const folder = await temporaryFolder(options.parent)
    const dht = Worker.start(options.worker, { namespace })
    const running = new Set([dht])
    try {
      const bootstrap = await dht.ask('runBootstrap', { host })
      const make = async (name: string): Promise<Member> => {
        const { nodeOptions } = options
        const worker = Worker.start(options.worker, { namespace, nodeOptions })
        running.add(worker)
        const directory = join(folder, name)
        // Once without a configuration: that is made of the ids.
        const order = { directory, bootstrap, host, config: null, durability: 'sync' } as const
        const id = await worker.ask('open', order)
        await worker.ask('close')
        return { id, directory, worker }
      }
      const many = (name: string, count: number): Promise<Member[]> =>
        Promise.all(Array.from({ length: count }, (_, i) => make(name + i)))
      const storage = await many('storage', options.storage)
      const writers = await many('writer', options.writers)
      const config = new Config({
        capacities: Object.fromEntries(storage.map(({ id }) => [id, 1])),
        writers: writers.map(({ id }) => id)
      }).serialize()
      const made = { folder, host, config, bootstrap, storage, writers, running }
      const cluster = new Cluster(options, made)
      await Promise.all([...storage, ...writers].map((member) => cluster.#open(member)))
      const ids = (members: readonly Member[]): string[] => members.map(({ id }) => id)
      await Promise.all([
        ...storage.map(({ worker }) =>
          worker.ask('start', { role: 'listen', peers: ids(writers) })
        ),
        ...writers.map(({ worker }) =>
          worker.ask('start', { role: 'connect', peers: ids(storage) })
        )
      ])
      return cluster
    } catch (error) {
      for (const worker of running) worker.kill()
      await removeFolder(folder)
      throw error
    }
  }

  /** A new process with an empty directory that reads. It is not connected yet. */
  async reader(options: WorkerOptions & { readonly host?: string } = {}): Promise<Worker> {
    const worker = Worker.start(this.#options.worker, {
      namespace: this.#options.namespace,
      ...options
    })
    this.#running.add(worker)
    await worker.ask('open', {
      directory: join(this.#folder, `reader${this.#names++}`),
      config: this.config,
      bootstrap: this.bootstrap,
      host: options.host ?? this.#host,
      durability: 'sync'
    })
    return worker
  }

  /** Ends a node in good order and starts it again in a new process. */
  async restart(
    member: Member,
    role: 'listen' | 'connect',
    nodeOptions: string[] = []
  ): Promise<void> {
    await this.end(member.worker)
    const { namespace } = this.#options
    member.worker = Worker.start(this.#options.worker, { namespace, nodeOptions })
    this.#running.add(member.worker)
    await this.#open(member)
    await member.worker.ask('start', { role, peers: [] })
  }

  async end(worker: Worker): Promise<void> {
    this.#running.delete(worker)
    await worker.end()
  }

  /** Ends all processes in good order and deletes the data. */
  async close(): Promise<void> {
    try {
      // The bootstrap node last: the others say good-bye to it.
      for (const worker of [...this.#running].toReversed()) await this.end(worker)
    } finally {
      for (const worker of this.#running) worker.kill()
      await removeFolder(this.#folder)
    }
  }

  async #open(member: Member): Promise<void> {
    const { directory, worker } = member
    const { config, bootstrap } = this
    const durability = this.writers.includes(member) ? (this.#options.durability ?? 'sync') : 'sync'
    await worker.ask('open', { directory, config, bootstrap, host: this.#host, durability })
  }
}
