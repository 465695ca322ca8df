/**
 * What must hold in every schedule, whatever crashes. A finding is the first thing that does not.
 *
 * - P1: what was acknowledged to the caller is in the index in the end (but for what a restore took with it, or a
 *   power cut without syncs before its storage node had it);
 * - P2: it is there once; P4: in the order of its session;
 * - an ack only for what is durable, a receipt only for what a signed index shows;
 * - versionstamps of a storage node rise within an epoch, also above what a restore took with it;
 * - cursors never go back, no position of a log is ever signed with two blocks, nothing deleted is needed again;
 * - of a removed writer nothing behind its cut-off is applied.
 */
import { comparePositions, reaches } from '../../lib/protocol/positions.ts'
import type { Head, IndexChange } from '../../lib/ports.ts'
import type { Position } from '../../lib/types.ts'
import { compareStamps } from '../../lib/wire/stamps.ts'
import { Content } from './content.ts'
import type { SimBlock } from './disk.ts'
import type { SimInbox, SimStorage } from './storage.ts'
import type { SimWriter } from './writer.ts'
import type { World } from './world.ts'

interface Shown {
  readonly storage: SimStorage
  readonly head: Head
}

export class Checks {
  readonly #world: World
  readonly #signed = new Map<string, number[]>()
  /** In which signed heads an operation is. */
  readonly #shown = new Map<number, Shown[]>()
  /** What the present index of each storage node has applied. */
  readonly #lineage = new Map<SimStorage, Set<number>>()
  /** How much of each generation was acked. */
  readonly #acked = new Map<string, number>()
  /** Lost with something that nothing is promised for. */
  readonly exempt: Set<number> = new Set()
  /** Their writer has decided to delete its copy. */
  readonly #deleting = new Set<number>()
  readonly #restored = new Map<SimStorage, number>()
  /** The highest versionstamp that each storage node has ever given in each epoch. */
  readonly #stamped = new Map<string, string>()

  constructor(world: World) {
    this.#world = world
  }

  /** Blocks of a log that its peers can see from now on. */
  signed(key: string, blocks: readonly (SimBlock | undefined)[], length: number): void {
    const before = this.#signed.get(key) ?? []
    this.#signed.set(key, before)
    for (let i = 0; i < length; i++) {
      const id = blocks[i]?.id ?? 0
      const known = before[i]
      if (known !== undefined && known !== id) {
        this.#world.fail(`fork: block ${i} of ${key} was signed as ${known} and as ${id}`)
      }
      before[i] = id
      if (i > 0 && blocks[i - 1]?.content?.type === 'end') {
        this.#world.fail(`${key} was appended to behind its end`)
      }
    }
  }

  acked(storage: SimStorage, inbox: SimInbox, position: Position): void {
    const { writer, applied, logs } = inbox
    const { generation, length } = position
    const start = applied?.generation === generation ? applied.length : 0
    const log = storage.disk.durable.get(storage.inboxKey(writer, generation))
    for (let i = start; i < length && !reaches(applied, { generation, length }); i++) {
      if (log?.blocks[i]) continue
      this.#world.fail(
        `${storage.name} acked ${generation}:${length} of ${writer.name}, but block ${i} is not durable`
      )
    }
    for (const [other, { held }] of logs) {
      if (other > generation) continue
      const key = `${writer.name}/${storage.name}/${other}`
      const to = other === generation ? length : held
      this.#acked.set(key, Math.max(this.#acked.get(key) ?? 0, to))
    }
  }

  /** A storage node begins with nothing: also one that was restored from before its first index. */
  began(storage: SimStorage): void {
    for (const name of this.#stamped.keys()) {
      if (name.startsWith(`${storage.name}/`)) this.#stamped.delete(name)
    }
  }

  /** The index as it is after a start: its last append may be one that nobody was told of before. */
  opened(storage: SimStorage, blocks: readonly (SimBlock | undefined)[]): void {
    const { generation } = storage
    for (const [i, block] of blocks.entries()) {
      for (const { key } of block?.changes ?? []) {
        const operation = this.#world.operationOf(key)
        if (operation !== null) this.#show(operation, storage, { generation, length: i + 1 })
      }
    }
  }

  #show(operation: number, storage: SimStorage, head: Head): void {
    const shown = this.#shown.get(operation) ?? []
    shown.push({ storage, head })
    this.#shown.set(operation, shown)
    this.#lineageOf(storage).add(operation)
  }

  indexed(
    storage: SimStorage,
    before: Content,
    after: Content,
    changes: readonly IndexChange[]
  ): void {
    const world = this.#world
    if (after.rewritten > 0) world.fail(`${storage.name} applied an operation twice`)
    const durable = storage.disk.durable.get(`index/${storage.generation}`)
    if ((durable?.length ?? 0) < storage.visible) {
      world.fail(`${storage.name} shows an index that is not durable`)
    }
    for (const [writer, cursor] of after.cursors) {
      const earlier = before.cursors.get(writer) ?? null
      if (earlier && comparePositions(cursor, earlier) < 0) {
        world.fail(`the cursor of ${world.nameOf(writer)} at ${storage.name} went back`)
      }
      const cutOff = before.cutOffs.get(writer)
      if (cutOff && after.cutOffs.has(writer) && comparePositions(cursor, cutOff) > 0) {
        if (!reaches(earlier, cursor)) {
          world.fail(`${storage.name} applied ${world.nameOf(writer)} behind its cut-off`)
        }
      }
    }
    let count = 0
    for (const { key } of changes) {
      const operation = world.operationOf(key)
      if (operation === null) continue
      count++
      this.#show(operation, storage, storage.head)
      const stamp = after.entries.get(world.keyOf(operation)) ?? ''
      const name = `${storage.name}/${after.state?.epoch}`
      const last = this.#stamped.get(name)
      if (last !== undefined && compareStamps(stamp, last) <= 0) {
        world.fail(`${storage.name} gives versionstamp ${stamp} behind ${last}`)
      }
      this.#stamped.set(name, stamp)
    }
    const counted = (after.state?.counter ?? 0) - (before.state?.counter ?? 0)
    if (counted !== count) {
      world.fail(`${storage.name} evaluated ${counted} operations for ${count} entries`)
    }
  }

  receipt(
    writer: SimWriter,
    owner: SimStorage,
    operations: readonly number[],
    view: Head | null
  ): void {
    for (const operation of operations) {
      const shown = this.#shown.get(operation)?.some(({ storage, head }) => {
        return storage === owner && reaches(view, head)
      })
      if (!shown) {
        this.#world.fail(
          `${writer.name} told a receipt for operation ${operation}, which ${owner.name} does not show`
        )
      }
    }
  }

  /** A generation of an outbox is about to be deleted by its writer. */
  deleting(
    writer: SimWriter,
    told: {
      readonly owner: SimStorage
      readonly present: number | null
      readonly view: Head | null
    },
    blocks: readonly (SimBlock | undefined)[]
  ): void {
    const { owner } = told
    const newest = Math.max(told.present ?? 0, told.view?.generation ?? 0)
    const lineage = this.#lineageOf(owner)
    for (const operation of blocks.flatMap((block) => block?.operations ?? [])) {
      this.#deleting.add(operation)
      if (lineage.has(operation) || this.exempt.has(operation)) continue
      // It could not know yet that its storage node was restored.
      if ((this.#restored.get(owner) ?? 0) > newest) this.exempt.add(operation)
      else {
        this.#world.fail(
          `${writer.name} deletes operation ${operation}, which ${owner.name} has not applied`
        )
      }
    }
  }

  /** A writer has lost what was on its disk alone. */
  writerLost(writer: SimWriter): void {
    const here = new Set<number>()
    for (const { blocks } of writer.disk.logs.values()) {
      for (const block of blocks) for (const one of block?.operations ?? []) here.add(one)
    }
    for (const flush of writer.flushes) {
      if (!flush.resolved) flush.abandoned = true
      for (const [owner, operations] of flush.operations) {
        const part = flush.parts.get(owner)
        const key = `${writer.name}/${owner.name}/${part?.generation}`
        const acked = part !== undefined && part.to <= (this.#acked.get(key) ?? 0)
        for (const operation of operations) {
          if (acked || here.has(operation) || this.#lineageOf(owner).has(operation)) continue
          this.exempt.add(operation)
        }
      }
    }
  }

  /** A storage node was restored from an older copy: what no writer has any more, and it has not, is lost. */
  storageRestored(storage: SimStorage): void {
    const lineage = new Set<number>()
    const there = new Set<number>()
    for (const [key, { blocks }] of storage.disk.logs) {
      for (const block of blocks) {
        if (!key.startsWith('index/')) continue
        for (const { key: name } of block?.changes ?? []) {
          const operation = this.#world.operationOf(name)
          if (operation !== null) lineage.add(operation)
        }
      }
    }
    this.#lineage.set(storage, lineage)
    this.#restored.set(storage, this.#world.now)
    for (const key of this.#acked.keys()) {
      if (key.split('/')[1] === storage.name) this.#acked.delete(key)
    }
    for (const writer of this.#world.writers) {
      for (const [key, { blocks }] of writer.disk.logs) {
        if (!key.startsWith('outbox/')) continue
        for (const block of blocks) for (const one of block?.operations ?? []) there.add(one)
      }
      for (const { operations } of writer.flushes) {
        for (const operation of operations.get(storage) ?? []) {
          const stays = there.has(operation) && !this.#deleting.has(operation)
          if (!lineage.has(operation) && !stays) this.exempt.add(operation)
        }
      }
    }
  }

  /** Everything is well again and at rest. */
  atRest(): void {
    for (const storage of this.#world.storages) {
      for (const inbox of storage.inboxes) {
        if (inbox.stopped) this.#world.fail(`${storage.name} stands still: ${inbox.stopped}`)
      }
    }
    for (const writer of this.#world.writers) this.#session(writer)
  }

  #session(writer: SimWriter): void {
    const world = this.#world
    for (const storage of world.storages) {
      let last: { readonly operation: number; readonly stamp: string } | null = null
      for (const flush of writer.flushes) {
        const promised = flush.resolved && !flush.abandoned
        for (const operation of flush.operations.get(storage) ?? []) {
          const stamp = storage.content.entries.get(world.keyOf(operation))
          if (stamp === undefined) {
            if (promised && !this.exempt.has(operation)) {
              world.fail(`operation ${operation} of ${writer.name} for ${storage.name} is lost`)
            }
            continue
          }
          if (last && compareStamps(stamp, last.stamp) <= 0) {
            world.fail(
              `${storage.name} applied operation ${operation} of ${writer.name} before ${last.operation}`
            )
          }
          last = { operation, stamp }
        }
        // What was lost with unsynced writes is told only when a later generation is begun.
        const lost = flush.operations.get(storage)?.some((one) => this.exempt.has(one))
        const settled = flush.receipted.has(storage) || flush.lost.has(storage) || lost
        if (promised && flush.operations.has(storage) && !settled) {
          world.fail(`flush ${flush.request} of ${writer.name} has no receipt of ${storage.name}`)
        }
      }
      const { generations } = writer.channel(storage)
      if (generations.length > 1) {
        world.fail(`${writer.name} still has ${generations.length} generations for ${storage.name}`)
      }
    }
  }

  #lineageOf(storage: SimStorage): Set<number> {
    const lineage = this.#lineage.get(storage) ?? new Set()
    this.#lineage.set(storage, lineage)
    return lineage
  }
}
