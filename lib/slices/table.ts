/**
 * The slice table: which storage node owns which points. Immutable.
 *
 * - The slices cover [0, SPACE) exactly once, in order: slice i is [starts[i], starts[i + 1]), the last one ends
 *   at SPACE.
 * - No two neighbouring slices have one owner, so a table has exactly one form.
 * - `ids` is sorted and may hold nodes that own nothing (a capacity so small beside the others that its share
 *   is 0 points).
 */
import { assert } from '../assert.ts'
import type { NodeId } from '../types.ts'
import { type Move, type Slice, SPACE } from './space.ts'

export class SliceTable {
  /** All storage nodes, sorted. */
  readonly ids: readonly NodeId[]
  readonly #starts: Float64Array
  /** Places in `ids`. */
  readonly #owners: Uint32Array
  readonly #shares: Float64Array

  /**
   * Takes the arrays over: the caller does not touch them any more.
   * @throws AssertionError when an invariant above does not hold
   */
  constructor(ids: readonly NodeId[], starts: Float64Array, owners: Uint32Array) {
    assert(
      ids.every((id, i) => i === 0 || (ids[i - 1] as NodeId) < id),
      'node ids sorted, each once'
    )
    assert(starts.length > 0 && starts.length === owners.length, 'an owner for each slice')
    assert(starts[0] === 0, 'the first slice starts at 0')
    this.ids = ids
    this.#starts = starts
    this.#owners = owners
    this.#shares = new Float64Array(ids.length)
    for (let i = 0; i < starts.length; i++) {
      const start = starts[i] as number
      const end = starts[i + 1] ?? SPACE
      const owner = owners[i] as number
      assert(Number.isSafeInteger(start) && start < end, 'every slice has points')
      assert(owner < ids.length, 'every slice has an owner')
      assert(owner !== owners[i + 1], 'neighbouring slices have different owners')
      this.#shares[owner] = (this.#shares[owner] as number) + (end - start)
    }
  }

  /**
   * A table of slices in order, which cover the space exactly once; neighbours of one owner are merged.
   * @param ids all storage nodes, sorted; every owner is one of them
   */
  static of(ids: readonly NodeId[], slices: Iterable<Slice>): SliceTable {
    const placeOf = new Map(ids.map((id, place) => [id, place]))
    const starts: number[] = []
    const owners: number[] = []
    let covered = 0
    for (const { start, end, owner } of slices) {
      assert(start === covered, 'every slice starts where the one before ends')
      const place = placeOf.get(owner)
      assert(place !== undefined, 'every owner is a storage node')
      if (owners.at(-1) !== place) {
        starts.push(start)
        owners.push(place)
      }
      covered = end
    }
    assert(covered === SPACE, 'the last slice ends where the space does')
    return new SliceTable(ids, Float64Array.from(starts), Uint32Array.from(owners))
  }

  /** Number of slices. */
  get length(): number {
    return this.#starts.length
  }

  /** The owner of a point, an integer in [0, SPACE). */
  lookup(point: number): NodeId {
    assert(point >= 0 && point < SPACE, 'a point lies in the space')
    const starts = this.#starts
    let low = 0
    let high = starts.length
    // starts[low] <= point < starts[high]
    while (high - low > 1) {
      const middle = (low + high) >>> 1
      if ((starts[middle] as number) <= point) low = middle
      else high = middle
    }
    return this.ids[this.#owners[low] as number] as NodeId
  }

  /** The points that a node owns: 0 when it owns none or is no storage node. */
  shareOf(id: NodeId): number {
    const place = this.ids.indexOf(id)
    return place === -1 ? 0 : (this.#shares[place] as number)
  }

  /** All slices in order. */
  *[Symbol.iterator](): IterableIterator<Slice> {
    for (let i = 0; i < this.#starts.length; i++) yield this.#slice(i)
  }

  /** True when every point has the same owner in both. Nodes that own nothing do not count. */
  equals(other: SliceTable): boolean {
    return this.length === other.length && this.movesTo(other).length === 0
  }

  /**
   * What passes from one node to another when `next` replaces this table: in order of the points, neighbouring
   * ones with the same two nodes as one.
   */
  movesTo(next: SliceTable): Move[] {
    const moves: Move[] = []
    let i = 0
    let j = 0
    for (let at = 0; at < SPACE;) {
      const before = this.#slice(i)
      const after = next.#slice(j)
      const end = Math.min(before.end, after.end)
      if (before.owner !== after.owner) {
        const last = moves.at(-1)
        if (last?.end === at && last.from === before.owner && last.to === after.owner) {
          moves[moves.length - 1] = { ...last, end }
        } else moves.push({ from: before.owner, to: after.owner, start: at, end })
      }
      if (before.end === end) i++
      if (after.end === end) j++
      at = end
    }
    return moves
  }

  #slice(i: number): Slice {
    return {
      start: this.#starts[i] as number,
      end: this.#starts[i + 1] ?? SPACE,
      owner: this.ids[this.#owners[i] as number] as NodeId
    }
  }
}
