/**
 * The store of one data directory: identity, logs and indexes on one corestore, behind one barrier.
 *
 * - Every core's key follows from node ids and numbers (lib/wire/namespaces.ts), so a core is opened by its
 *   manifest alone; `{ key, manifest }` together is never passed, since a manifest that does not hash to the
 *   key is accepted and kept (measured).
 * - Nothing replicates the store as a whole: logs are attached one by one to the connections that may have
 *   them (attach()), since anyone who knows a core's key could read it otherwise.
 * - No log is ever truncated: who signs a shorter one under a higher fork number is not followed. What was read
 *   or acked of it stays as it is.
 * - The store opens with a recovery mode that reports a damaged write-ahead log instead of cutting it off,
 *   and without upstream's habit of deleting that log on one kind of damage.
 */
import { readdirSync, renameSync } from 'node:fs'
import { readdir } from 'node:fs/promises'
import { join } from 'node:path'
import Corestore from 'corestore'
import Hypercore, { type Manifest } from 'hypercore'
import HypercoreStorage from 'hypercore-storage'
import { storeBufferBytes } from '../../config/limits.ts'
import { KVSwarmError } from '../errors.ts'
import type { CoreName } from '../index-ports.ts'
import type { Log, OwnGeneration, OwnLogs } from '../ports.ts'
import { goesOnWithHashAt, isSuspect, nextGenerationAfter } from '../protocol/startup.ts'
import type { KeyPair, LogName, NodeId } from '../types.ts'
import { idBytes, idOf } from '../wire/ids.ts'
import { buildNamespace, logNamespace, signedManifest, staticManifest } from '../wire/namespaces.ts'
import { Barrier, syncFolder } from './barrier.ts'
import { deleteCore, deleteName, forgetName, Reclaimer } from './delete-core.ts'
import { contents, fileIn, prepareDirectory, removeTornDevice, syncFile } from './datadir.ts'
import { damagedError, openingError } from './disk-errors.ts'
import { HyperLog, storageError, type Disk } from './log.ts'
import { isSealed, logKey, Marks, type LastSession, type Mark } from './marks.ts'
import { Reserve } from './reserve.ts'
import { checkLogs, cutTornLogs } from './wal.ts'

/** Names the log in its own core, so that our logs can be found again when the marks are lost. */
const nameKey = 'kvswarm/log'
/** The same for runs of indexes. */
const runNameKey = 'kvswarm/run'
/** Reports a damaged write-ahead log, and accepts a torn last record (measured). */
export const walRecoveryTolerateTail = 0

export interface StoreOptions {
  readonly directory: string
  /** `os`: this node's own outboxes are not synced; everything else always is. */
  readonly durability: 'sync' | 'os'
  /** Kept free on the disk; null or unset: by the size of the disk (config/limits.ts). */
  readonly diskReserveBytes?: number | null
  /** Opens a held directory as it is now, for inspection: nothing is written, nothing follows. */
  readonly readOnly?: boolean
}

/** A generation of a log of ours, with what lib/hyper/ needs of it. */
interface HyperGeneration extends OwnGeneration {
  readonly log: HyperLog
}

export class Store implements OwnLogs {
  readonly directory: string
  readonly keyPair: KeyPair
  readonly nodeId: NodeId
  readonly readOnly: boolean
  readonly #corestore: Corestore
  readonly #marks: Marks | null
  readonly #barrier: Barrier<Mark> | null
  readonly #durability: 'sync' | 'os'
  readonly reserve: Reserve
  /** Called when an append of ours failed below: the node must stop. */
  onFailure: (error: KVSwarmError) => void = () => {}
  /** How the last session ended; null when the marks were missing or damaged. */
  readonly last: LastSession | null
  /** Called when two versions of a log of ours were seen: a copy of this directory is in use as well. */
  onForked: (name: LogName, generation: number) => void = () => {}
  /** Called when space could not be given back to the file system; nothing is lost by that. */
  onReclaimFailed: (error: unknown) => void = () => {}
  readonly #known: Map<string, number[]>
  readonly #reclaimer: Reclaimer
  /** Generations that are being deleted; none is opened again before that is done. */
  readonly #deleting = new Map<string, Promise<void>>()
  /** Runs that are open, by key. */
  readonly #runs = new Map<string, Set<Promise<HyperLog>>>()

  private constructor(
    options: StoreOptions,
    corestore: Corestore,
    keyPair: KeyPair,
    marks: Marks | null,
    barrier: Barrier<Mark> | null,
    known: Map<string, number[]>
  ) {
    this.directory = options.directory
    this.readOnly = options.readOnly === true
    this.keyPair = keyPair
    this.nodeId = idOf(keyPair.publicKey)
    this.#corestore = corestore
    this.#marks = marks
    this.#barrier = barrier
    this.#durability = options.durability
    this.reserve = new Reserve(options.directory, options.diskReserveBytes ?? null)
    this.last = marks?.last ?? null
    this.#known = known
    this.#reclaimer = new Reclaimer(corestore.storage, (error) => this.onReclaimFailed(error))
  }

  /**
   * Opens the directory, making it when it is missing (not with `readOnly`).
   * @throws DATADIR_UNREADABLE, DATADIR_OPEN, DATADIR_FOREIGN, DATADIR_MOVED, DATADIR_DAMAGED,
   * DATADIR_IN_USE, INTERNALS_CHANGED
   */
  static async open(options: StoreOptions): Promise<Store> {
    const { directory, durability } = options
    const readOnly = options.readOnly === true
    const existed = await prepareDirectory(directory, !readOnly)
    if (readOnly && !existed) {
      throw new KVSwarmError('DATADIR_UNREADABLE', `there is no store in ${directory}`, {
        hint: 'open it without `readOnly` to make one'
      })
    }
    try {
      const synced = await Marks.synced(fileIn(directory, 'marks'))
      if (!readOnly) {
        await removeTornDevice(directory)
        if (synced !== null && synced !== 'nothing') {
          await cutTornLogs(fileIn(directory, 'database'), synced)
        }
      }
      // In a first start that was cut off nothing was promised, and anything may be torn.
      const known = synced === 'nothing' ? { number: 0, bytes: 0 } : synced
      await checkLogs(fileIn(directory, 'database'), known)
    } catch (error) {
      throw openingError(error, directory)
    }
    const { established, tied } = await contents(directory)
    const storage = new HypercoreStorage(directory, {
      walRecoveryMode: walRecoveryTolerateTail,
      readOnly,
      writeBufferSize: storeBufferBytes,
      // A store whose files are gone must not begin anew, as somebody else and empty.
      createIfMissing: !established
    })
    storage._maybeRecoverLater = () => {}
    if (!readOnly) bringBack(directory)
    const corestore = new Corestore(storage, { readOnly })
    try {
      if (established) await checkIdentity(storage, directory)
      await corestore.ready()
    } catch (error) {
      await corestore.close().catch(() => {})
      throw openingError(error, directory)
    }
    const opened: { close(): Promise<void> }[] = []
    try {
      const keyPair = await corestore.createKeyPair('kvswarm/identity')
      if (readOnly) {
        return new Store(
          options,
          corestore,
          keyPair,
          null,
          null,
          await namesInStore(corestore, idOf(keyPair.publicKey))
        )
      }
      checkInternals(storage)
      const marks = await Marks.open(
        fileIn(directory, 'marks'),
        idOf(keyPair.publicKey),
        durability
      )
      opened.push({ close: () => marks.close(false) })
      const barrier = new Barrier<Mark>(storage.rocks, (list, synced) => {
        if (list.some(({ name }) => name.kind === 'outbox')) marks.outboxSyncs++
        return marks.write(list, synced)
      })
      opened.push(barrier)
      if (marks.last === null) {
        // Three of 54 early power cuts made stores that never open again without this (measured).
        await syncFile(fileIn(directory, 'device'))
        await syncFolder(fileIn(directory, 'database'))
      }
      // The identity itself must survive a power cut before anyone hears of it.
      await barrier.sync()
      const known = await knownLogs(marks, corestore, existed, tied, idOf(keyPair.publicKey))
      await marks.begin()
      const store = new Store(options, corestore, keyPair, marks, barrier, known)
      await store.reserve.open()
      return store
    } catch (error) {
      for (const each of [corestore, ...opened]) await each.close().catch(() => {})
      throw openingError(error, directory)
    }
  }

  /** Syncs that made at least one outbox durable. */
  get outboxSyncs(): number {
    return this.#marks?.outboxSyncs ?? 0
  }

  get stats(): { syncs: number; shared: number; failures: number } {
    return this.#barrier?.stats ?? { syncs: 0, shared: 0, failures: 0 }
  }

  /** The error that ended the barrier, or null. */
  get failure(): KVSwarmError | null {
    return this.#barrier?.failure ?? null
  }

  /** Resolves when all that the store wrote before is on disk. @throws IO_ERROR */
  async sync(): Promise<void> {
    await this.#barrier?.sync()
  }

  /** The names of this node's own logs of one kind that are on disk. */
  ownNames(kind: LogName['kind']): LogName[] {
    return [...this.#known.keys()].map(parseLogKey).filter((name) => name.kind === kind)
  }

  newestGeneration(name: LogName): number | null {
    return this.#known.get(logKey(name))?.at(-1) ?? null
  }

  /** The numbers of all of them that are on disk, oldest first. */
  generationsOf(name: LogName): number[] {
    return [...(this.#known.get(logKey(name)) ?? [])]
  }

  /** Every generation of one of this node's own logs that is on disk, oldest first. */
  async ownGenerations(name: LogName): Promise<HyperGeneration[]> {
    const generations: HyperGeneration[] = []
    for (const generation of this.#known.get(logKey(name)) ?? []) {
      const log = await this.#openOwn(name, generation)
      const whole = await this.#isWhole(log).catch(async (error: unknown) => {
        await log.close().catch(() => {})
        throw storageError(error, `reading the ${name.kind} log`)
      })
      if (!whole) await this.#marks?.seal([{ name, generation }])
      generations.push({ generation, log, whole })
    }
    return generations
  }

  /**
   * Begins a generation of a log of our own. Nothing is announced before its first append.
   * @param generation above every one that this log ever had: nextGeneration()
   */
  async begin(name: LogName, generation: number): Promise<HyperLog> {
    await this.reserve.take(0)
    const log = await this.#openOwn(name, generation)
    if (log.length > 0) {
      throw new KVSwarmError(
        'INTERNAL',
        `generation ${generation} of the ${name.kind} log was used before`
      )
    }
    try {
      await tag(log.core, name, generation)
    } catch (error) {
      throw storageError(error, `beginning an ${name.kind} log`)
    }
    // Its number is used from here on, whatever becomes of it.
    await this.#barrier?.sync({
      name,
      generation,
      length: 0,
      hashLength: 0,
      hash: new Uint8Array(32)
    })
    const key = logKey(name)
    const others = (this.#known.get(key) ?? []).filter((other) => other !== generation)
    this.#known.set(
      key,
      [...others, generation].toSorted((a, b) => a - b)
    )
    return log
  }

  /** max(highest known + 1, present Unix milliseconds): a restored copy never takes a number that was used. */
  nextGeneration(name: LogName): number {
    const highest = this.#known.get(logKey(name))?.at(-1) ?? null
    return nextGenerationAfter(highest, Date.now())
  }

  /** Whether anything of a log lies here. A store that is only read must not open what is not: that would make it. */
  async has(name: LogName, generation: number): Promise<boolean> {
    const key = Hypercore.key(manifestOf(name, generation))
    return await this.#corestore.storage.hasCore(Hypercore.discoveryKey(key))
  }

  /** A log of another node, or one of ours for reading. */
  async peerLog(name: LogName, generation: number): Promise<HyperLog> {
    await this.#deleting.get(generationKey(name, generation))
    const core = this.#corestore.get({
      manifest: manifestOf(name, generation),
      writable: false,
      allowFork: false
    })
    const log = await HyperLog.open(name, generation, core, this.#diskOfPeers())
    // By its name it is found again when it is to be deleted.
    if (log.length === 0 && !this.readOnly) await tag(core, name, generation)
    return log
  }

  /** A journal of this node's own index, to go on with. @throws DATADIR_DAMAGED when blocks of it are missing */
  async ownJournal(index: number, number: number): Promise<{ log: HyperLog; whole: boolean }> {
    const name: LogName = { kind: 'journal', node: this.nodeId, index }
    const log = await this.#openOwn(name, number)
    try {
      return { log, whole: await this.#isWhole(log) }
    } catch (error) {
      await log.close().catch(() => {})
      throw error
    }
  }

  /** A run of somebody's index, for reading. */
  async run(node: NodeId, generation: number, run: RunCore): Promise<HyperLog> {
    const key = runKey(run)
    while (this.#deleting.has(key)) await this.#deleting.get(key)?.catch(() => {})
    const opening = this.#openRun(node, generation, run)
    const open = this.#runs.get(key) ?? new Set()
    this.#runs.set(key, open.add(opening))
    const closed = (): void => {
      open.delete(opening)
      if (open.size === 0 && this.#runs.get(key) === open) this.#runs.delete(key)
    }
    opening.then(({ core }) => core.once('close', closed), closed)
    return await opening
  }

  async #openRun(node: NodeId, generation: number, run: RunCore): Promise<HyperLog> {
    const core = this.#corestore.get({ manifest: manifestOfRun(run), writable: false })
    const name: LogName = { kind: 'index', node }
    const log = await HyperLog.open(name, generation, core, this.#diskOfPeers())
    // Its key comes from its content alone: another node may have the same one, or say so. It stays with the first.
    if (!this.readOnly && (await core.getUserData(runNameKey)) === null)
      await core.setUserData(runNameKey, encodeRunTag({ node, generation, ...run }))
    return log
  }

  /** The run that was being written under this name, or a new one; nobody but the caller sees it. */
  async buildRun(index: number, name: string): Promise<Hypercore> {
    const core = this.#corestore.get({
      manifest: signedManifest(this.keyPair.publicKey, buildNamespace(index, name)),
      keyPair: this.keyPair,
      allowFork: false
    })
    await core.ready()
    return core
  }

  /**
   * Makes what is in `core` a core that never changes, and closes it. Resolves when that is durable.
   * @param index the generation of our index that it is for
   * @param about told of its name just before it comes to be
   */
  async finishRun(
    core: Hypercore,
    index: number,
    about: (run: RunCore) => Promise<void>
  ): Promise<RunCore> {
    try {
      const hash = Uint8Array.from(await Hypercore.treeHashFromStorage(core, core.length))
      const run: RunCore = { hash, length: core.length }
      await about(run)
      await this.#deleteInTurn(runKey(run), async () => {
        const tag = encodeRunTag({ node: this.nodeId, generation: index, ...run })
        // The same blocks under the same name: there is no second one to make.
        if (await this.#takeOver(run, tag)) {
          await deleteCore(this.#corestore, core)
          return
        }
        await this.staticOf(core, tag)
        await forgetName(this.#corestore, core)
      })
      await this.#barrier?.sync()
      return run
    } catch (error) {
      throw storageError(error, 'writing a run of the index')
    }
  }

  /**
   * True: the run lies here whole, and is ours from now on. A part of it is a copy that somebody's reader has begun,
   * since another node says that it has the same run (whoever follows us can tell before we have made it): it goes.
   */
  async #takeOver(run: RunCore, tag: Uint8Array): Promise<boolean> {
    const manifest = manifestOfRun(run)
    const discoveryKey = Hypercore.discoveryKey(Hypercore.key(manifest))
    if (!(await this.#corestore.storage.hasCore(discoveryKey))) return false
    const core = this.#corestore.get({ manifest, writable: false })
    await core.ready()
    const missing = core.core.bitfield.firstUnset(0)
    const isWhole = core.length === run.length && (missing === -1 || missing >= run.length)
    if (isWhole) await core.setUserData(runNameKey, tag)
    await core.close()
    if (isWhole) return true
    for (const opening of this.#runs.get(runKey(run)) ?? []) {
      await (await opening.catch(() => null))?.close()
    }
    await this.#deleteByManifest(manifest)
    return false
  }

  /** What a peer asks for a core of an index by: hex. @param journal the name of the index's journals */
  discoveryKeyOf(journal: LogName, core: CoreName): string {
    const manifest =
      core.kind === 'journal' ? manifestOf(journal, core.number) : manifestOfRun(core)
    return Hypercore.discoveryKey(Hypercore.key(manifest)).toString('hex')
  }

  /** A core that never changes, of the blocks in `core`; both names lead to them. */
  async staticOf(core: Hypercore, tag?: Uint8Array): Promise<void> {
    const made = await this.#corestore.staticify(core, { writable: false })
    if (tag) await made.setUserData(runNameKey, tag)
    await made.close()
  }

  /**
   * Deletes a run of this index whole; nothing when it is not here, or is another's. It must not be open.
   * @throws INTERNAL when it is open
   */
  deleteRun(node: NodeId, generation: number, run: RunCore): Promise<void> {
    return this.#deleteInTurn(runKey(run), async () => {
      const manifest = manifestOfRun(run)
      const discoveryKey = Hypercore.discoveryKey(Hypercore.key(manifest))
      if (!(await this.#corestore.storage.hasCore(discoveryKey))) return
      const core = this.#corestore.get({ manifest, writable: false })
      await core.ready()
      const data = await core.getUserData(runNameKey)
      await core.close()
      const tag = data === null ? null : decodeRunTag(data)
      if (tag !== null && (tag.node !== node || tag.generation !== generation)) return
      await this.#deleteByManifest(manifest)
    })
  }

  /** True when something was being written under this name, and is a run of its own still. */
  async hasBuild(index: number, name: string): Promise<boolean> {
    const key = Hypercore.key(signedManifest(this.keyPair.publicKey, buildNamespace(index, name)))
    const auth = await this.#corestore.storage.getAuth(Hypercore.discoveryKey(key))
    return auth !== null && Buffer.compare(auth.key, key) === 0
  }

  /** Deletes what was being written under this name. */
  async deleteBuild(index: number, name: string): Promise<void> {
    const manifest = signedManifest(this.keyPair.publicKey, buildNamespace(index, name))
    const key = Hypercore.key(manifest)
    const auth = await this.#corestore.storage.getAuth(Hypercore.discoveryKey(key))
    // Cut off while it was finished, its name leads to the run, or to nothing any more: then only the name goes.
    if (auth && Buffer.compare(auth.key, key) === 0) await this.#deleteByManifest(manifest)
    else await deleteName(this.#corestore, Hypercore.discoveryKey(key))
  }

  /** The cores of one generation of a node's index that lie here, but its anchor. Looks at every core: slow. */
  async storedCores(node: NodeId, index: number): Promise<CoreName[]> {
    const found: CoreName[] = []
    for await (const { log, run } of this.#tags()) {
      if (run && run.node === node && run.generation === index) {
        found.push({ kind: 'run', hash: run.hash, length: run.length })
      }
      const name = log?.name
      if (log && name?.kind === 'journal' && name.node === node && name.index === index) {
        found.push({ kind: 'journal', number: log.generation })
      }
    }
    return found
  }

  /** The generations of logs of one kind that lie here, ours and others'. Looks at every core: slow. */
  async stored(kind: LogName['kind']): Promise<{ name: LogName; generation: number }[]> {
    const found: LogTag[] = []
    for await (const { log } of this.#tags()) if (log?.name.kind === kind) found.push(log)
    return found
  }

  /** What each core that lies here is, as it says beside itself. */
  async *#tags(): AsyncGenerator<Tags> {
    try {
      yield* tagsIn(this.#corestore)
    } catch (error) {
      throw storageError(error, 'looking for what lies here')
    }
  }

  /**
   * Deletes a generation whole, with its mark; nothing when it is not here. Resolves when that is durable; the
   * disk gets its space back later. It must not be open, but in one session of ours for serving it: `log`.
   * @throws INTERNAL when it is open, IO_ERROR
   */
  delete(name: LogName, generation: number, log?: Log): Promise<void> {
    return this.#deleteInTurn(generationKey(name, generation), () =>
      this.#delete(name, generation, log as HyperLog | undefined)
    )
  }

  #deleteInTurn(key: string, run: () => Promise<void>): Promise<void> {
    const deleting = (this.#deleting.get(key) ?? Promise.resolve()).catch(() => {}).then(run)
    this.#deleting.set(key, deleting)
    const done = (): void => {
      if (this.#deleting.get(key) === deleting) this.#deleting.delete(key)
    }
    deleting.then(done, done)
    return deleting
  }

  /** Serves the log on (and takes it in from) a connection; ends with the connection. */
  attach(log: HyperLog, muxer: unknown): void {
    log.core.replicate(muxer)
  }

  /** @throws what the disk throws; the directory is free all the same, and its end no clean one */
  async close(): Promise<void> {
    await Promise.allSettled(this.#deleting.values())
    await this.#reclaimer.close()
    let failure: unknown = null
    this.reserve.close()
    try {
      await this.#corestore.close()
    } catch (error) {
      failure = error
    }
    try {
      await this.#barrier?.close()
      // Whatever was still being written is synced now, so that a clean end is one on disk too.
      const clean = failure === null && this.#barrier !== null && this.#barrier.failure === null
      if (clean) await syncAllLogs(this.directory)
      await this.#marks?.close(clean)
    } catch (error) {
      failure ??= error
      await this.#marks?.close(false).catch(() => {})
    }
    if (failure !== null) throw storageError(failure, `closing ${this.directory}`)
  }

  async #delete(name: LogName, generation: number, log: HyperLog | undefined): Promise<void> {
    const manifest = manifestOf(name, generation)
    await log?.close()
    // Cut off between the two, a mark without its log must not look like damage.
    if (name.node === this.nodeId) await this.#marks?.seal([{ name, generation }])
    await this.#deleteByManifest(manifest)
    if (name.node !== this.nodeId) return
    // First the log, then its mark: a log of ours without a mark would never be found again.
    await this.#barrier?.sync()
    await this.#marks?.remove(name, generation)
    const key = logKey(name)
    const left = (this.#known.get(key) ?? []).filter((other) => other !== generation)
    if (left.length > 0) this.#known.set(key, left)
    else this.#known.delete(key)
  }

  #diskOfPeers(): Disk {
    return {
      isShort: () => this.reserve.room === 'low',
      failed: (error) => this.onFailure(error)
    }
  }

  async #deleteByManifest(manifest: Manifest): Promise<void> {
    const discoveryKey = Hypercore.discoveryKey(Hypercore.key(manifest))
    if (!(await this.#corestore.storage.hasCore(discoveryKey))) return
    const core = this.#corestore.get({ manifest, writable: false })
    await core.ready()
    const bytes = core.core.state.byteLength
    const dataPointer = await deleteCore(this.#corestore, core)
    this.#reclaimer.add(dataPointer, bytes)
  }

  async #openOwn(name: LogName, generation: number): Promise<HyperLog> {
    const core: Hypercore = this.#corestore.get({
      manifest: manifestOf(name, generation),
      allowFork: false,
      ...(this.readOnly ? { writable: false } : { keyPair: this.keyPair })
    })
    if (this.#barrier === null) return await HyperLog.open(name, generation, core)
    return await HyperLog.openOwn(name, generation, core, {
      barrier: this.#barrier,
      sync: this.#durability === 'sync' || name.kind !== 'outbox',
      reserve: this.reserve,
      failed: (error) => this.onFailure(error),
      forked: () => {
        // Nobody takes any more of it, and the storage library forgets that at its end (measured).
        this.#marks?.seal([{ name, generation }]).catch((error: unknown) => {
          this.onFailure(storageError(error, 'sealing a forked log'))
        })
        this.onForked(name, generation)
      }
    })
  }

  async #isWhole(log: HyperLog): Promise<boolean> {
    if (this.#marks === null) return true
    const mark = this.#marks.find(log.name, log.generation)
    if (mark === null || isSealed(mark)) return false
    await this.#mustFit(log, mark)
    return true
  }

  /** A log of ours has all that its mark names. @throws DATADIR_DAMAGED */
  async checkMark(mark: Mark): Promise<void> {
    const { name, generation } = mark
    if (mark.length === 0) return
    const core = this.#corestore.get({ manifest: manifestOf(name, generation), writable: false })
    let log: HyperLog
    try {
      log = await HyperLog.open(name, generation, core)
    } catch (error) {
      // The library below wants to make what is not there, and cannot in a store that is only read.
      throw damagedError(
        `the ${name.kind} log (${generation}) in ${this.directory} is missing`,
        fileIn(this.directory, 'database'),
        error
      )
    }
    try {
      await this.#mustFit(log, mark)
    } finally {
      await log.close()
    }
  }

  async #mustFit(log: HyperLog, mark: Mark): Promise<void> {
    // A mark is written behind its log's sync: a log that has less was damaged, and what it had is lost.
    if (log.length < mark.length) {
      throw this.#lost(log, `it has ${log.length} blocks of ${mark.length}`)
    }
    const contiguous = log.firstMissing(0)
    const hashLength = goesOnWithHashAt(mark, { length: log.length, contiguous })
    if (hashLength === null) throw this.#lost(log, `block ${contiguous} is missing`)
    if (hashLength === 0) return
    const hash = await log.treeHashAt(hashLength)
    if (Buffer.from(hash).equals(Buffer.from(mark.hash))) return
    throw this.#lost(log, `its first ${hashLength} blocks are others than were noted`)
  }

  #lost({ name, generation }: HyperLog, what: string): KVSwarmError {
    const marks = fileIn(this.directory, 'marks')
    return new KVSwarmError(
      'DATADIR_DAMAGED',
      `the ${name.kind} log (${generation}) in ${fileIn(this.directory, 'database')} has lost what was written: ${what}`,
      {
        hint: `restore the directory from a backup (kvswarm restore); or, to go on with what is left of it, remove ${marks}`,
        data: { file: fileIn(this.directory, 'database'), log: logKey(name), generation }
      }
    )
  }
}

function manifestOf(
  name: LogName,
  generation: number
): { version: 1; signers: { publicKey: Uint8Array; namespace: Uint8Array }[] } {
  return signedManifest(idBytes(name.node), logNamespace(name, generation))
}

function groupMarks(marks: readonly Mark[]): Map<string, number[]> {
  const known = new Map<string, number[]>()
  for (const { name, generation } of marks) {
    const key = logKey(name)
    known.set(
      key,
      [...(known.get(key) ?? []), generation].toSorted((a, b) => a - b)
    )
  }
  return known
}

/**
 * The generations of our own logs that are on disk. Those that may have lost a tail, or that another copy may have
 * continued, are sealed before anything else is noted: all when the marks are missing or damaged, or what ties the
 * directory to its place is gone; outboxes after an unclean end without syncs.
 */
async function knownLogs(
  marks: Marks,
  corestore: Corestore,
  existed: boolean,
  tied: boolean,
  node: NodeId
): Promise<Map<string, number[]>> {
  const { last } = marks
  const known =
    last === null && existed ? await namesInStore(corestore, node) : groupMarks(marks.all())
  const suspect = [...known].flatMap(([key, generations]) => {
    const name = parseLogKey(key)
    return !tied || isSuspect(name.kind, last)
      ? generations.map((generation) => ({ name, generation }))
      : []
  })
  await marks.seal(suspect)
  return known
}

/** Finds our own logs by the names in their cores; slow, and only needed when the marks are lost. */
async function namesInStore(corestore: Corestore, node: NodeId): Promise<Map<string, number[]>> {
  const known = new Map<string, number[]>()
  for await (const { log } of tagsIn(corestore)) {
    if (log?.name.node !== node) continue
    const { name, generation } = log
    const key = logKey(name)
    known.set(
      key,
      [...(known.get(key) ?? []), generation].toSorted((a, b) => a - b)
    )
  }
  return known
}

/** Names a log in its core. */
interface LogTag {
  readonly name: LogName
  readonly generation: number
}

/** What lies beside a core: whose log it is, or whose run. */
interface Tags {
  readonly log: LogTag | null
  readonly run: RunTag | null
}

async function* tagsIn(corestore: Corestore): AsyncGenerator<Tags> {
  for await (const discoveryKey of corestore.list()) {
    // Below hypercore: what is opened there cannot be deleted meanwhile, and a name may lead nowhere.
    const core = await corestore.storage.resumeCore(discoveryKey)
    if (core === null) continue
    try {
      const read = core.read()
      const reading = Promise.all([read.getUserData(nameKey), read.getUserData(runNameKey)])
      read.tryFlush()
      const [log, run] = await reading
      yield {
        log: log === null ? null : (JSON.parse(log.toString()) as LogTag),
        run: run === null ? null : decodeRunTag(run)
      }
    } finally {
      await core.close()
    }
  }
}

/** A run by what its core's key follows from. */
export interface RunCore {
  readonly hash: Uint8Array
  /** Blocks. */
  readonly length: number
}

/** Names a run in its core: whose index it belongs to. */
export interface RunTag extends RunCore {
  readonly node: NodeId
  readonly generation: number
}

function runKey({ hash, length }: RunCore): string {
  return `run/${Buffer.from(hash).toString('hex')}/${length}`
}

function manifestOfRun({ hash, length }: RunCore): Manifest {
  return staticManifest(hash, length)
}

function encodeRunTag({ node, generation, hash, length }: RunTag): Uint8Array {
  const text = { node, generation, hash: Buffer.from(hash).toString('hex'), length }
  return Buffer.from(JSON.stringify(text))
}

function decodeRunTag(bytes: Uint8Array): RunTag {
  const tag = JSON.parse(Buffer.from(bytes).toString()) as Omit<RunTag, 'hash'> & { hash: string }
  return { ...tag, hash: Buffer.from(tag.hash, 'hex') }
}

async function tag(core: Hypercore, name: LogName, generation: number): Promise<void> {
  await core.setUserData(nameKey, Buffer.from(JSON.stringify({ name, generation })))
}

function generationKey(name: LogName, generation: number): string {
  return `${logKey(name)}/${generation}`
}

function parseLogKey(key: string): LogName {
  const [kind, node = '', other = '', epoch = '0'] = key.split('/')
  if (kind === 'outbox') return { kind, node, owner: other }
  if (kind === 'handoff') return { kind, node, to: other, epoch: Number(epoch) }
  if (kind === 'journal') return { kind, node, index: Number(other) }
  return { kind: 'index', node }
}

async function syncAllLogs(directory: string): Promise<void> {
  const folder = fileIn(directory, 'database')
  for (const name of await readdir(folder)) {
    if (/^\d+\.log$/.test(name)) await syncFile(join(folder, name))
  }
}

/**
 * Where there is no `CORESTORE` yet, the storage library's constructor moves every file of the directory into
 * `db/`, as if it were of an older layout: ours go back at once.
 */
function bringBack(directory: string): void {
  const folder = fileIn(directory, 'database')
  let names: string[]
  try {
    names = readdirSync(folder)
  } catch {
    return
  }
  for (const name of names) {
    if (name.startsWith('kvswarm.')) renameSync(join(folder, name), join(directory, name))
  }
}

/** Without its seed the storage library would make a new identity, and nothing would be found again. */
async function checkIdentity(storage: HypercoreStorage, directory: string): Promise<void> {
  await storage.ready()
  if ((await storage.getSeed()) !== null) return
  throw damagedError(
    `the store in ${directory} has lost its identity: a file in db/ is missing`,
    fileIn(directory, 'database')
  )
}

/** What is patched upstream must look as it did when it was tested. @throws INTERNALS_CHANGED */
function checkInternals(storage: HypercoreStorage): void {
  const { rocks } = storage
  const missing = [
    typeof rocks?.currentWalFile === 'function' ? '' : 'hypercore-storage rocks.currentWalFile()',
    typeof rocks?.path === 'string' ? '' : 'hypercore-storage rocks.path'
  ].filter((name) => name !== '')
  if (missing.length > 0) {
    throw new KVSwarmError(
      'INTERNALS_CHANGED',
      `missing in the storage library: ${missing.join(', ')}`,
      {
        hint: 'install the exact versions of package-lock.json (npm ci)'
      }
    )
  }
}
