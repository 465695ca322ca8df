/**
 * What an outbox remembers of the generations that it has deleted: that there were such, and where the newest
 * requests of them lay. Without it a flush that is sent again (its answer was lost with the process that held the
 * directory) would be written twice, and the receipt of an old flush would be unknown.
 *
 * Invariant: it is noted, durably, beside the newest generation before anything of it is deleted.
 */
import { deletedGenerationsMax, deletedRequestsMax } from '../../config/limits.ts'
import type { Log } from '../ports.ts'
import { isKVSwarmError } from '../errors.ts'
import type { FlushPart, NodeId, Position } from '../types.ts'
import type { DecodedBlock } from '../wire/blocks.ts'
import { decodeDeleted, encodeDeleted, type DeletedRequest } from '../wire/deleted.ts'

export class OutboxMemory {
  /** Oldest first. */
  #deleted: Position[] = []
  #requests: DeletedRequest[] = []
  /** Appended by this process, and not deleted yet. */
  #appended: DeletedRequest[] = []
  /** The first block of each generation that this process has appended. */
  readonly #firsts = new Map<number, number>()

  /** How many deleted generations are remembered. */
  get generations(): number {
    return this.#deleted.length
  }

  /** Adds what an earlier note has; the newest note has the most. Damaged ones have nothing. */
  load(note: Uint8Array): void {
    try {
      const { generations, requests } = decodeDeleted(note)
      this.#deleted = [...generations]
      this.#requests = [...requests]
    } catch (error) {
      if (!isKVSwarmError(error, 'CORRUPT')) throw error
    }
  }

  appended(request: DeletedRequest): void {
    const { generation, from } = request
    if (!this.#firsts.has(generation)) this.#firsts.set(generation, from)
    this.#appended.push(request)
    // Not at every append: the list is moved as a whole.
    if (this.#appended.length >= 2 * deletedRequestsMax) {
      this.#appended = this.#appended.slice(-deletedRequestsMax)
    }
  }

  /**
   * Remembers a generation that is about to be deleted.
   * @param read one of its blocks; for what an earlier process has appended
   */
  async take(log: Log, read: (block: number) => Promise<DecodedBlock | null>): Promise<void> {
    const { generation, length } = log
    const end = this.#firsts.get(generation) ?? length
    const earlier: DeletedRequest[] = []
    for (let block = Math.max(0, end - deletedRequestsMax); block < end; block++) {
      const content = await read(block)
      if (content?.type !== 'operations') continue
      for (const { request } of content.segments) {
        const last = earlier.at(-1)
        if (last && Buffer.from(last.request).equals(request)) {
          earlier[earlier.length - 1] = { ...last, to: block + 1 }
        } else {
          earlier.push({ request, generation, from: block, to: block + 1 })
        }
      }
    }
    const mine = this.#appended.filter((one) => one.generation === generation)
    this.#appended = this.#appended.filter((one) => one.generation !== generation)
    this.#firsts.delete(generation)
    if (this.#deleted.some((one) => one.generation === generation)) return
    this.#deleted = [...this.#deleted, { generation, length }].slice(-deletedGenerationsMax)
    this.#requests = [...this.#requests, ...earlier, ...mine].slice(-deletedRequestsMax)
  }

  note(): Uint8Array {
    return encodeDeleted({ generations: this.#deleted, requests: this.#requests })
  }

  /** Whether the part lay in a generation that was deleted, so that it has its receipt. */
  holds(part: FlushPart): boolean {
    return this.#deleted.some(
      ({ generation, length }) => generation === part.generation && part.to <= length
    )
  }

  /** Where a request lay, if that is remembered. */
  find(owner: NodeId, request: Uint8Array): FlushPart | null {
    const found = this.#requests.findLast((one) => Buffer.from(one.request).equals(request))
    return found ? { owner, generation: found.generation, from: found.from, to: found.to } : null
  }
}
