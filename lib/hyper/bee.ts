/**
 * An index on hyperbee, behind the Index and IndexView ports; nothing else in kvswarm knows hyperbee.
 *
 * - apply() is one append (after the header block of a new tree), behind the barrier of its log;
 * - single gets go through the one long-lived tree, whose cache they share; a snapshot has its own;
 * - a view is of somebody else's index: its blocks are checked before they are followed (bee-guard.ts);
 * - the extension stays on at both ends: it saves a distant reader two of three round trips (measured).
 */
import Hyperbee from 'hyperbee'
import type { Node } from 'hyperbee'
import { hintBlocksMax, hintsMax, hintTimeoutMs } from '../../config/limits.ts'
import { assert } from '../assert.ts'
import { KVSwarmError } from '../errors.ts'
import type {
  Head,
  Index,
  IndexChange,
  IndexRange,
  IndexSnapshot,
  IndexView,
  ReadOptions
} from '../ports.ts'
import type { NodeId } from '../types.ts'
import { guardSession, faultOfBlocks, RangeCheck, ReadBudget } from './bee-guard.ts'
import { boundCache, shareCache } from './tree-cache.ts'
import { cancellable, storageError, type HyperLog } from './log.ts'

class BeeReader {
  readonly log: HyperLog
  protected readonly tree: Hyperbee

  constructor(log: HyperLog) {
    this.log = log
    this.tree = new Hyperbee(log.core, {
      keyEncoding: 'binary',
      valueEncoding: 'binary',
      extension: true
    })
    boundHints(this.tree, log)
    walkDown(this.tree)
  }

  get node(): NodeId {
    return this.log.name.node
  }

  protected async opened(): Promise<void> {
    await this.tree.ready()
    boundCache(this.tree)
  }

  get head(): Head {
    return { generation: this.log.generation, length: this.log.length }
  }

  get(key: Uint8Array, options: ReadOptions = {}): Promise<Uint8Array | null> {
    return readOne(this.tree, this.log, key, options)
  }

  snapshot(): IndexSnapshot {
    const head = this.head
    // A checkout of an empty tree would follow it; there is nothing to read in one.
    if (head.length < 2) return new EmptySnapshot(head)
    return new BeeSnapshot(this.tree, this.log, head)
  }

  onHead(listener: () => void): () => void {
    this.log.core.on('append', listener)
    return () => this.log.core.off('append', listener)
  }

  async close(): Promise<void> {
    await this.tree.close()
    await this.log.close()
  }
}

export class BeeIndex extends BeeReader implements Index {
  /** Opens (or begins) this node's own index on a log of its own. */
  static async open(log: HyperLog): Promise<BeeIndex> {
    const index = new BeeIndex(log)
    await index.opened()
    return index
  }

  async apply(changes: readonly IndexChange[]): Promise<Head> {
    const batch = this.tree.batch()
    try {
      for (const { key, value } of changes) {
        if (value === null) await batch.del(key)
        else await batch.put(key, value)
      }
      await batch.flush()
    } catch (error) {
      await batch.close().catch(() => {})
      throw storageError(error, 'writing the index')
    }
    return this.head
  }
}

export class BeeView extends BeeReader implements IndexView {
  static async open(log: HyperLog): Promise<BeeView> {
    guardSession(log.core, log.name.node)
    const view = new BeeView(log)
    await view.opened()
    return view
  }
}

/** Trees' batches that walk down already: one kind for all trees. */
const walking = new WeakSet()

/**
 * Makes a get look for its key in the tree alone. Upstream's takes a short cut: when the block that holds a node
 * on the way was written for that very key, it gives that block's value. But that block may be of an older write,
 * kept because of the node: a deleted key then comes back with an old value (hyperbee 2.27.3; found by the fault
 * runs, shown by test/hyper/bee-model.test.ts).
 */
function walkDown(tree: Hyperbee): void {
  const batch = tree.batch() as unknown as BatchInternals & { close(): Promise<void> }
  const batches = Object.getPrototypeOf(batch) as BatchInternals
  void batch.close()
  if (walking.has(batches)) return
  if (typeof batches._getBlock !== 'function') {
    throw new KVSwarmError('INTERNALS_CHANGED', 'missing in hyperbee: Batch._getBlock()', {
      hint: 'install the exact versions of package-lock.json (npm ci)'
    })
  }
  walking.add(batches)
  const { _getBlock: getBlock } = batches
  batches._getBlock = async function (this: BatchInternals, seq) {
    const block = await getBlock.call(this, seq)
    block.isTarget = () => false
    return block
  }
}

/** What walkDown() changes in hyperbee. */
interface BatchInternals {
  _getBlock(seq: number): Promise<{ isTarget(key: Uint8Array): boolean }>
}

/**
 * Bounds hyperbee's hints ("you will want these blocks"). Upstream downloads whatever any peer names, for ever.
 * Here an own index takes none, a view takes them from the node whose index it is, and few at a time.
 */
function boundHints(tree: Hyperbee, log: HyperLog): void {
  const { extension } = tree
  const owner = Buffer.from(log.name.node, 'hex')
  let following = 0
  let answering = 0
  extension.oncache = (hint, from) => {
    const { blocks } = hint
    if (log.writable || log.isShort() || following >= hintsMax || blocks.length > hintBlocksMax)
      return
    if (!owner.equals(from.remotePublicKey)) return
    if (blocks.some((block) => block >= log.length)) return
    following++
    const download = log.core.download({ blocks })
    const timer = setTimeout(() => download.destroy(), hintTimeoutMs)
    timer.unref()
    const ended = (): void => {
      clearTimeout(timer)
      download.destroy()
      following--
    }
    download.done().then(ended, ended)
  }
  // A question is answered from blocks that are here; one that comes while too many are is left unanswered.
  for (const method of ['onget', 'oniterator'] as const) {
    const answer = extension[method].bind(extension)
    extension[method] = (message, from) => {
      if (answering >= hintsMax) return
      answering++
      const done = (): void => {
        answering--
      }
      Promise.resolve(answer(message, from)).then(done, done)
    }
  }
}

class BeeSnapshot implements IndexSnapshot {
  readonly head: Head
  readonly #tree: Hyperbee
  /** Open, and with the cache of the tree that it is a snapshot of. */
  readonly #ready: Promise<void>
  readonly #log: HyperLog
  #closed = false

  constructor(tree: Hyperbee, log: HyperLog, head: Head) {
    const snapshot = tree.checkout(head.length)
    this.#tree = snapshot
    this.#ready = snapshot.ready().then(() => shareCache(snapshot, tree))
    this.#ready.catch(() => {}) // told to whoever reads
    this.#log = log
    this.head = head
  }

  async get(key: Uint8Array, options: ReadOptions = {}): Promise<Uint8Array | null> {
    await this.#opened()
    return await readOne(this.#tree, this.#log, key, options)
  }

  async *range(
    range: IndexRange,
    options: ReadOptions = {}
  ): AsyncGenerator<{ key: Uint8Array; value: Uint8Array }> {
    await this.#opened()
    const activeRequests: unknown[] = []
    const check = new RangeCheck(this.#log.name.node, range)
    const wait = options.wait !== false && !this.#log.isShort()
    const stream = this.#tree.createReadStream(
      { ...range, limit: range.limit ?? -1 },
      { activeRequests, wait, onseq: check.budget.spend }
    )
    const iterator = stream[Symbol.asyncIterator]()
    try {
      for (;;) {
        // The wait is bounded between two entries: a caller may take as long as it likes with one.
        const step = await cancellable(
          options,
          'the next entry',
          () => iterator.next().catch((error: unknown) => cannotRead(error, this.#log, options)),
          activeRequests
        )
        if (step.done) return
        const { key, value } = step.value
        check.take(key)
        if (value !== null) yield { key, value }
      }
    } finally {
      stream.destroy()
    }
  }

  async *changes(
    from: Head,
    range: IndexRange,
    options: ReadOptions = {}
  ): AsyncGenerator<IndexChange> {
    assert(from.length < 2 || from.generation === this.head.generation, 'one generation')
    if (from.length >= this.head.length) return
    if (from.length < 2) return yield* this.range(range, options)
    const activeRequests: unknown[] = []
    const before = this.#tree.checkout(from.length)
    // What two trees have in common is not read: whole subtrees are skipped by their blocks' numbers.
    const check = new RangeCheck(this.#log.name.node, range)
    const stream = this.#tree.createDiffStream(before, range, {
      activeRequests,
      wait: options.wait !== false && !this.#log.isShort()
    })
    const iterator = stream[Symbol.asyncIterator]()
    try {
      for (;;) {
        const step = await cancellable(
          options,
          'the next change',
          () => iterator.next().catch((error: unknown) => cannotRead(error, this.#log, options)),
          activeRequests
        )
        if (step.done) return
        const { left, right } = step.value
        const key = left?.key ?? right?.key
        if (key === undefined) continue
        check.take(key)
        yield { key, value: left === null ? null : left.value }
      }
    } finally {
      stream.destroy()
      await before.close()
    }
  }

  async close(): Promise<void> {
    if (this.#closed) return
    this.#closed = true
    await this.#tree.close()
  }

  async #opened(): Promise<void> {
    try {
      await this.#ready
    } catch (error) {
      throw storageError(error, 'opening a snapshot of the index')
    }
  }
}

class EmptySnapshot implements IndexSnapshot {
  readonly head: Head

  constructor(head: Head) {
    this.head = head
  }

  get(): Promise<null> {
    return Promise.resolve(null)
  }

  async *range(): AsyncGenerator<never> {
    // Nothing to yield.
  }

  async *changes(): AsyncGenerator<never> {
    // Nothing to yield.
  }

  async close(): Promise<void> {
    // Nothing to close.
  }
}

async function readOne(
  tree: Hyperbee,
  log: HyperLog,
  key: Uint8Array,
  options: ReadOptions
): Promise<Uint8Array | null> {
  const wait = options.wait !== false && !log.isShort()
  const onseq = new ReadBudget(log.name.node).spend
  const node: Node | null = await cancellable(options, 'a block of the index', (activeRequests) =>
    tree
      .get(key, { activeRequests, wait, onseq })
      .catch((error: unknown) => cannotRead(error, log, options))
  )
  return node === null ? null : node.value
}

/**
 * A read failed: by blocks that make no sense, or by a block that is elsewhere, with `wait: false` or on a full disk:
 * that must not look like "no such key".
 */
function cannotRead(error: unknown, log: HyperLog, options: ReadOptions): never {
  if ((error as { code?: string }).code === 'BLOCK_NOT_AVAILABLE') {
    if (options.wait !== false) {
      throw new KVSwarmError(
        'DISK_FULL',
        'a block of the index is not on this machine, and its disk has no room for it',
        { hint: 'free space on the disk of the data directory; it goes on by itself' }
      )
    }
    throw new KVSwarmError('OWNER_UNREACHABLE', 'a block of the index is not on this machine', {
      hint: 'connect, or read without `wait: false`'
    })
  }
  throw faultOfBlocks(error, log.name.node) ?? error
}
