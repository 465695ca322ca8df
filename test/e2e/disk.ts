/**
 * What lies on the disk of a data directory, read without the process that holds it: after a kill this is
 * all that there is. Nothing is written.
 */
import { HyperIndexCores } from '../../lib/hyper/index-cores.ts'
import { namesOf } from '../../lib/lsm/names.ts'
import { FollowedIndex } from '../../lib/lsm/view.ts'
import { decodeLayout } from '../../lib/wire/index-state.ts'
import type { HyperLog } from '../../lib/hyper/log.ts'
import { Store } from '../../lib/hyper/store.ts'
import type { LogName, NodeId, Position } from '../../lib/types.ts'
import { decodeBlock } from '../../lib/wire/blocks.ts'
import { cursorKey, decodeCursor } from '../../lib/wire/records.ts'

/** A storage node's side of one writer's outbox. */
export interface Taken {
  /** Blocks from the start of the generation that are held without a gap. */
  readonly held: number
  /** The cursor in its index: how far the outbox is applied. */
  readonly applied: Position | null
}

/** A data directory as it was at one moment. */
export class Disk {
  readonly #store: Store

  private constructor(store: Store) {
    this.#store = store
  }

  /** Reads a directory, held or not, and calls `use`. */
  static async look<T>(directory: string, use: (disk: Disk) => Promise<T>): Promise<T> {
    const step = async <R>(what: string, run: () => Promise<R>): Promise<R> => {
      try {
        return await run()
      } catch (error) {
        throw new Error(`${what} of ${directory}: ${String(error)}`, { cause: error })
      }
    }
    const store = await step('opening', () =>
      Store.open({ directory, durability: 'sync', readOnly: true })
    )
    try {
      return await step('reading', () => use(new Disk(store)))
    } finally {
      await step('closing', () => store.close())
    }
  }

  /** The newest generation of this node's own index; null: there is none. */
  newest(kind: 'index'): number | null {
    return this.#store.newestGeneration({ kind, node: this.#store.nodeId })
  }

  /** Blocks in this writer's outbox for `owner`. */
  async outbox(owner: NodeId, generation: number): Promise<number> {
    const name: LogName = { kind: 'outbox', node: this.#store.nodeId, owner }
    return (await this.#use(name, generation, async (log) => log.length)) ?? 0
  }

  /** A generation of the outbox for `owner` was ended by a rotation, and may be deleted already. */
  async rotated(owner: NodeId, generation: number): Promise<boolean> {
    const name: LogName = { kind: 'outbox', node: this.#store.nodeId, owner }
    const last = await this.#use(name, generation, async (log) =>
      log.length === 0 ? null : await log.get(log.length - 1, { wait: false })
    )
    if (last !== null) return decodeBlock(last).type === 'end'
    return (this.#store.newestGeneration(name) ?? 0) > generation
  }

  /** What this storage node has of the outbox of `writer`; `index` is the generation of its own index. */
  async inbox(writer: NodeId, generation: number, index: number): Promise<Taken> {
    const owner = this.#store.nodeId
    const outbox: LogName = { kind: 'outbox', node: writer, owner }
    const held = await this.#use(outbox, generation, async (log) => log.firstMissing(0))
    const tree: LogName = { kind: 'index', node: owner }
    const cursor = await this.#use(tree, index, async (log) => {
      const cores = new HyperIndexCores(this.#store, owner, index)
      const view = await FollowedIndex.open(log, cores, { deletes: false })
      const value = await view.get(cursorKey(writer, owner), { wait: false })
      await view.close()
      return value
    })
    return { held: held ?? 0, applied: cursor === null ? null : decodeCursor(cursor) }
  }

  /** Bytes of the cores that this storage node's index consists of. */
  async indexBytes(generation: number): Promise<number> {
    const { nodeId } = this.#store
    const bytes = await this.#use({ kind: 'index', node: nodeId }, generation, async (log) => {
      const newest = await log.get(log.length - 1, { wait: false })
      if (newest === null) throw new Error('the newest state of the index is not here')
      const cores = new HyperIndexCores(this.#store, nodeId, generation)
      for (const name of namesOf(decodeLayout(newest))) await cores.open(name)
      const sum = cores.logs.reduce((all, core) => all + core.bytes, log.bytes)
      await cores.close()
      return sum
    })
    return bytes ?? 0
  }

  /** One generation of a log; null when it is not on this disk. */
  async #use<T>(
    name: LogName,
    generation: number,
    use: (log: HyperLog) => Promise<T>
  ): Promise<T | null> {
    if (!(await this.#store.has(name, generation))) return null
    const log = await this.#store.peerLog(name, generation)
    try {
      return await use(log)
    } finally {
      await log.close()
    }
  }
}
