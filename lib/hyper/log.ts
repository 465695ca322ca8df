/**
 * One generation of a log on a hypercore: ours (signed here, behind the barrier) or a peer's (verified).
 *
 * Invariants:
 * - hypercore advances its length, and tells peers, only after the store has flushed; for our own logs the
 *   barrier is part of that flush (patched: append's `postappend` stalls replication for ever, measured), so
 *   nothing of ours is announced before it is durable;
 * - every append of ours goes through one queue per log, so that its high-water mark names the right length;
 * - nothing here calls clear().
 */
import Hypercore, { type SessionState } from 'hypercore'
import type { WaitOptions, Log } from '../ports.ts'
import type { LogName } from '../types.ts'
import { KVSwarmError, messageOf } from '../errors.ts'
import { timerMsMax } from '../wait.ts'
import type { Barrier } from './barrier.ts'
import { diskError, troubleOf } from './disk-errors.ts'
import type { Mark } from './marks.ts'
import { checkInternals } from './replication.ts'
import type { Reserve } from './reserve.ts'

/** How the appends of a log of ours reach the disk. */
export interface Durable {
  readonly barrier: Barrier<Mark>
  /** False: `durability: 'os'`, the operating system writes when it likes. */
  readonly sync: boolean
  readonly reserve: Reserve
  /** An append failed below: what is on disk is uncertain, and the node must stop. */
  readonly failed: (error: KVSwarmError) => void
  /** Another version of it is signed with our key: it is over. */
  readonly forked: () => void
}

/** The disk as a log of a peer needs it. */
export interface Disk {
  /** There is no room for blocks of others. */
  readonly isShort: () => boolean
  /** A block that had arrived could not be stored. */
  readonly failed: (error: KVSwarmError) => void
}

/** Beside the core, in its user data. */
const noteKey = 'kvswarm/note'

/** The libraries are looked at once in the life of a process. */
let checked = false

export class HyperLog implements Log {
  readonly name: LogName
  readonly generation: number
  /** For lib/hyper/ alone. */
  readonly core: Hypercore
  #barrier: Barrier<Mark> | null = null
  /** True: the disk has no room for blocks of others, not even for those that a read asks for. */
  readonly isShort: () => boolean
  #closed = false

  private constructor(name: LogName, generation: number, core: Hypercore, isShort: () => boolean) {
    this.isShort = isShort
    this.name = name
    this.generation = generation
    this.core = core
  }

  /** A log of a peer, or one of ours for reading. */
  static async open(
    name: LogName,
    generation: number,
    core: Hypercore,
    { isShort, failed }: Disk = { isShort: () => false, failed: () => {} }
  ): Promise<HyperLog> {
    try {
      await core.ready()
    } catch (error) {
      throw storageError(error, `opening the ${name.kind} log`)
    }
    if (!checked) checkInternals(core)
    checked = true
    core.setMaxListeners(0)
    if (!core.writable) watch(core.core, name, failed)
    watchReads(core.core, name, failed)
    return new HyperLog(name, generation, core, isShort)
  }

  /** A log that this node signs: appends pass the barrier. */
  static async openOwn(
    name: LogName,
    generation: number,
    core: Hypercore,
    durable: Durable
  ): Promise<HyperLog> {
    const { failed } = durable
    const log = await HyperLog.open(name, generation, core, { isShort: () => false, failed })
    if (!core.writable) {
      throw new KVSwarmError(
        'INTERNAL',
        `log ${name.kind} ${generation} of ${name.node} is not ours`
      )
    }
    log.#barrier = durable.barrier
    if (durable.sync) guard(log, durable.barrier)
    bound(log, durable)
    return log
  }

  get length(): number {
    return this.core.length
  }

  get bytes(): number {
    return this.#closed ? 0 : this.core.core.state.byteLength
  }

  get writable(): boolean {
    return this.core.writable
  }

  async append(blocks: readonly Uint8Array[]): Promise<number> {
    this.#open()
    try {
      const { length } = await this.core.append([...blocks])
      return length
    } catch (error) {
      throw storageError(error, `appending to ${this.name.kind} log`)
    }
  }

  has(block: number): boolean {
    return !this.#closed && this.core.core.bitfield.get(block)
  }

  firstMissing(from: number): number {
    if (this.#closed) return from
    const first = this.core.core.bitfield.firstUnset(from)
    return first === -1
      ? Math.max(from, this.length)
      : Math.min(Math.max(first, from), Math.max(from, this.length))
  }

  async get(
    block: number,
    options: WaitOptions & { readonly wait?: boolean } = {}
  ): Promise<Uint8Array | null> {
    this.#open()
    if (options.wait === false) {
      try {
        return await this.core.get(block, { wait: false })
      } catch (error) {
        throw storageError(error, `reading block ${block} of ${this.name.kind} log`)
      }
    }
    return await cancellable(options, `block ${block} of ${this.name.kind} log`, (activeRequests) =>
      this.core.get(block, { activeRequests, wait: true })
    )
  }

  async bytesFrom(block: number): Promise<number> {
    this.#open()
    const { state } = this.core.core
    if (block >= state.length) return 0
    try {
      return state.byteLength - (await bytesBefore(state, block))
    } catch (error) {
      throw storageError(error, `reading the ${this.name.kind} log`)
    }
  }

  async note(): Promise<Uint8Array | null> {
    this.#open()
    return await this.core.getUserData(noteKey)
  }

  async setNote(note: Uint8Array): Promise<void> {
    this.#open()
    try {
      // Between two appends: the barrier of a write beside one would note the append's mark before its blocks.
      await inTurn(this.core, () => this.core.setUserData(noteKey, note))
      await this.#barrier?.sync()
    } catch (error) {
      throw storageError(error, `writing to ${this.name.kind} log`)
    }
  }

  treeHash(): Promise<Uint8Array> {
    return this.treeHashAt(this.length)
  }

  /** Hash over the first `length` blocks. */
  treeHashAt(length: number): Promise<Uint8Array> {
    this.#open()
    return Hypercore.treeHashFromStorage(this.core, length).catch((error: unknown) => {
      throw storageError(error, `reading the ${this.name.kind} log`)
    })
  }

  onChange(listener: () => void): () => void {
    this.core.on('append', listener)
    this.core.on('download', listener)
    return () => {
      this.core.off('append', listener)
      this.core.off('download', listener)
    }
  }

  onEnd(listener: (reason: 'conflict' | 'closed') => void): () => void {
    const onConflict = (): void => listener('conflict')
    const onClose = (): void => {
      if (!this.#closed) listener('closed')
    }
    this.core.on('conflict', onConflict)
    this.core.on('close', onClose)
    // Seen by an earlier session: hypercore keeps that, and says nothing of it when the core is opened again.
    if (this.core.core.header.frozen) queueMicrotask(onConflict)
    return () => {
      this.core.off('conflict', onConflict)
      this.core.off('close', onClose)
    }
  }

  async close(): Promise<void> {
    if (this.#closed) return
    this.#closed = true
    const { core, writable } = this.core
    await this.core.close()
    if (!writable) release(core)
  }

  #open(): void {
    if (this.#closed) throw new KVSwarmError('CLOSED', `the ${this.name.kind} log is closed`)
  }
}

/**
 * Takes a core that nobody reads any more off its connections. Its store would keep it, and a channel on each
 * connection, for as long as those last.
 */
function release(core: Hypercore['core']): void {
  if (core.closed || core.hasSession()) return
  for (const peer of [...core.replicator.peers]) {
    core.replicator.detachFrom(peer.protomux)
    peer.channel.close()
  }
}

const watched = new WeakSet<object>()

/**
 * Tells when what arrived cannot be stored: replication drops the error, and would ask again and again for what the
 * disk does not take.
 */
function watch(
  core: Hypercore['core'],
  { kind }: LogName,
  failed: (error: KVSwarmError) => void
): void {
  if (watched.has(core)) return
  watched.add(core)
  const { state } = core
  const flush = state.flush.bind(state)
  state.flush = async () => {
    try {
      return await flush()
    } catch (error) {
      // At its end the store refuses everything.
      const ended = core.closed || /closed/i.test(messageOf(error))
      if (!ended) failed(storageError(error, `storing a block of an ${kind} log`))
      throw error
    }
  }
}

const watchedReads = new WeakSet<object>()

/** Tells when a block is damaged: replication ends the connection of whoever asked for it, again and again. */
function watchReads(
  { storage }: Hypercore['core'],
  { kind }: LogName,
  failed: (error: KVSwarmError) => void
): void {
  if (watchedReads.has(storage)) return
  watchedReads.add(storage)
  const read = storage.read.bind(storage)
  storage.read = (...given) => {
    const batch = read(...given)
    const getBlock = batch.getBlock.bind(batch)
    batch.getBlock = (index) => {
      const block = getBlock(index)
      block.catch((error: unknown) => {
        if (troubleOf(error) !== 'damaged') return
        failed(storageError(error, `reading block ${index} of an ${kind} log`))
      })
      return block
    }
    return batch
  }
}

/** Refuses what the disk has no room for, before anything of it is written; tells of what fails all the same. */
function bound({ core, name }: HyperLog, { reserve, failed, forked }: Durable): void {
  core.once('conflict', forked)
  const append = core.append.bind(core)
  core.append = async (blocks) => {
    const list = Array.isArray(blocks) ? blocks : [blocks]
    // An index waits before it collects what it applies (lib/apply/apply-loop.ts).
    if (name.kind === 'outbox')
      await reserve.take(list.reduce((sum, block) => sum + block.length, 0))
    try {
      return await append(list)
    } catch (error) {
      const wrapped = storageError(error, `appending to ${name.kind} log`)
      if (wrapped.code !== 'CLOSED') failed(wrapped)
      throw wrapped
    }
  }
}

/** Puts the barrier into the store's flush of this core, and a queue and a mark around its appends. */
function guard(log: HyperLog, barrier: Barrier<Mark>): void {
  const { core } = log
  const guarded = guardOf(core.core, barrier)
  const append = core.append.bind(core)
  core.append = (blocks) => {
    const list = Array.isArray(blocks) ? blocks : [blocks]
    return inTurn(core, async () => {
      const hashLength = core.length
      const hash =
        hashLength === 0
          ? new Uint8Array(32)
          : await Hypercore.treeHashFromStorage(core, hashLength)
      guarded.pending = {
        name: log.name,
        generation: log.generation,
        length: hashLength + list.length,
        hashLength,
        hash
      }
      try {
        return await append(list)
      } finally {
        guarded.pending = undefined
      }
    })
  }
}

/** Runs a write of a log of ours behind those that were begun before. */
function inTurn<T>(core: Hypercore, write: () => Promise<T>): Promise<T> {
  const guarded = guardedCores.get(core.core)
  if (!guarded) return write()
  const next = guarded.tail.then(write)
  guarded.tail = next.catch(() => {})
  return next
}

/**
 * Bytes of the blocks before one, by the sizes in the tree over them. (hypercore's byteOffset() is not a number behind
 * the first root of a tree that has several.)
 */
async function bytesBefore(state: SessionState, block: number): Promise<number> {
  let bytes = 0
  let first = 0
  for (const root of state.roots) {
    // The root over 2^n blocks from `first` on has the number 2 first + 2^n - 1.
    let blocks = root.index - 2 * first + 1
    if (block >= first + blocks) {
      bytes += root.size
      first += blocks
      continue
    }
    while (blocks > 1 && block > first) {
      blocks /= 2
      if (block < first + blocks) continue
      bytes += await sizeOf(state, 2 * first + blocks - 1)
      first += blocks
    }
    return bytes
  }
  return bytes
}

async function sizeOf(state: SessionState, index: number): Promise<number> {
  const read = state.storage.read()
  const reading = read.getTreeNode(index)
  read.tryFlush()
  const node = await reading
  if (node === null) throw new KVSwarmError('INTERNAL', `node ${index} of a log's tree is missing`)
  return node.size
}

/** What all sessions of one core share: its flush is patched once, however often it is opened. */
interface Guarded {
  pending: Mark | undefined
  tail: Promise<unknown>
}

const guardedCores = new WeakMap<object, Guarded>()

function guardOf(core: Hypercore['core'], barrier: Barrier<Mark>): Guarded {
  const known = guardedCores.get(core)
  if (known) return known
  const guarded: Guarded = { pending: undefined, tail: Promise.resolve() }
  guardedCores.set(core, guarded)
  const { state } = core
  const flush = state.flush.bind(state)
  state.flush = async () => {
    const flushed = await flush()
    await barrier.sync(guarded.pending)
    return flushed
  }
  return guarded
}

/**
 * Runs a hypercore request that ends with the caller's timeout or signal, and takes its requests off the
 * wire when it does.
 * @throws TIMEOUT, ABORTED
 */
export async function cancellable<T>(
  { timeout = Infinity, signal }: WaitOptions,
  what: string,
  start: (activeRequests: unknown[]) => Promise<T>,
  activeRequests: unknown[] = []
): Promise<T> {
  if (signal?.aborted) throw aborted(what, signal)
  let ended: KVSwarmError | null = null
  const end = (error: KVSwarmError): void => {
    ended = error
    Hypercore.destroyRequests(activeRequests, error)
  }
  const onAbort = (): void => end(aborted(what, signal))
  const timer =
    timeout > timerMsMax
      ? null
      : setTimeout(
          () =>
            end(
              new KVSwarmError('TIMEOUT', `${what} did not arrive within ${timeout} ms`, {
                hint: 'check that a node that holds it is reachable, or allow more time'
              })
            ),
          timeout
        )
  signal?.addEventListener('abort', onAbort, { once: true })
  try {
    return await start(activeRequests)
  } catch (error) {
    throw ended ?? storageError(error, `reading ${what}`)
  } finally {
    if (timer) clearTimeout(timer)
    signal?.removeEventListener('abort', onAbort)
  }
}

function aborted(what: string, signal: AbortSignal | undefined): KVSwarmError {
  // The node's own end comes as a reason of ours.
  if (signal?.reason instanceof KVSwarmError) return signal.reason
  return new KVSwarmError('ABORTED', `waiting for ${what} was aborted`)
}

/** Wraps once what comes from below. */
export function storageError(error: unknown, doing: string): KVSwarmError {
  if (error instanceof KVSwarmError) return error
  const code = (error as { code?: string }).code ?? ''
  if (
    code === 'SESSION_CLOSED' ||
    code === 'REQUEST_CANCELLED' ||
    code === 'SESSION_NOT_WRITABLE'
  ) {
    return new KVSwarmError('CLOSED', `${doing}: the store is closed`, { cause: error })
  }
  return diskError(error, doing)
}
