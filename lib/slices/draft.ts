/**
 * A slice table while it is changed: a doubly linked list of slices, and how far each node is from its share.
 *
 * - The slices in the list cover the space exactly once at every moment.
 * - `balance` adds up to 0. Points only ever go from a node with a positive balance (a giver) to one with a
 *   negative balance (a taker), never more than either has; so at the end exactly the surplus has moved, which
 *   is the least that any change can move.
 * - Neighbours of one owner become one slice at once, so what is left of two keeps the number of the left one.
 */
import { assert } from '../assert.ts'
import type { NodeId } from '../types.ts'
import { SPACE } from './space.ts'
import { SliceTable } from './table.ts'

/** No slice: before the first one, behind the last one. */
export const none = -1

export class Draft {
  /** Points of each node above (> 0) or below (< 0) its share, by its place among the nodes. */
  readonly balance: Float64Array
  /** Nodes of the old and of the new table, sorted. */
  readonly #ids: readonly NodeId[]
  readonly #starts: number[] = []
  /** Place of each slice's owner; `none` once the slice is gone. */
  readonly #owners: number[] = []
  readonly #before: number[] = []
  readonly #after: number[] = []
  #first = 0
  /** Points that still have to move. */
  #surplus = 0

  constructor(table: SliceTable, shares: ReadonlyMap<NodeId, number>) {
    this.#ids = [...new Set([...table.ids, ...shares.keys()])].toSorted()
    const placeOf = new Map(this.#ids.map((id, place) => [id, place]))
    this.balance = new Float64Array(this.#ids.length)
    for (const [place, id] of this.#ids.entries()) {
      const balance = table.shareOf(id) - (shares.get(id) ?? 0)
      this.balance[place] = balance
      if (balance > 0) this.#surplus += balance
    }
    let slice = 0
    for (const { start, owner } of table) {
      this.#starts.push(start)
      this.#owners.push(placeOf.get(owner) as number)
      this.#before.push(slice - 1)
      this.#after.push(slice + 1)
      slice++
    }
    this.#after[slice - 1] = none
  }

  /** True when every node has its share. */
  get settled(): boolean {
    return this.#surplus === 0
  }

  /** Number of nodes. */
  get nodes(): number {
    return this.#ids.length
  }

  /** The slice that begins at 0. */
  get first(): number {
    return this.#first
  }

  /** The neighbour on the left; `none` for the first slice and for `none`. */
  before(slice: number): number {
    return slice === none ? none : (this.#before[slice] as number)
  }

  /** The neighbour on the right; `none` for the last slice and for `none`. */
  after(slice: number): number {
    return slice === none ? none : (this.#after[slice] as number)
  }

  start(slice: number): number {
    return this.#starts[slice] as number
  }

  length(slice: number): number {
    const after = this.after(slice)
    return (after === none ? SPACE : this.start(after)) - this.start(slice)
  }

  /** The owner's place; `none` for a slice that is gone and for `none`. */
  owner(slice: number): number {
    return slice === none ? none : (this.#owners[slice] as number)
  }

  /** Points that the slice's owner has too many; 0 when it has none, or there is no slice. */
  surplus(slice: number): number {
    const owner = this.owner(slice)
    return owner === none ? 0 : Math.max(0, this.balance[owner] as number)
  }

  /** Points that the slice's owner lacks; 0 when it lacks none, or there is no slice. */
  need(slice: number): number {
    const owner = this.owner(slice)
    return owner === none ? 0 : Math.max(0, -(this.balance[owner] as number))
  }

  /** Points that a node lacks; 0 when it lacks none. */
  needOf(node: number): number {
    return Math.max(0, -(this.balance[node] as number))
  }

  /** The node that lacks the most points, the smallest id among equals; `none` when nobody lacks any. */
  neediest(): number {
    let neediest = none
    for (let node = 0; node < this.balance.length; node++) {
      if (this.needOf(node) > (neediest === none ? 0 : this.needOf(neediest))) neediest = node
    }
    return neediest
  }

  /** The slice goes to `taker` as a whole. Returns the slice that now holds it. */
  give(slice: number, taker: number): number {
    this.#pay(slice, taker, this.length(slice))
    this.#owners[slice] = taker
    const after = this.after(slice)
    if (this.owner(after) === taker) this.#joinLeft(after)
    const before = this.before(slice)
    if (this.owner(before) !== taker) return slice
    this.#joinLeft(slice)
    return before
  }

  /** The first `points` of the slice go to `taker`. Returns the slice that now holds them. */
  giveFirst(slice: number, taker: number, points: number): number {
    if (points === this.length(slice)) return this.give(slice, taker)
    this.#pay(slice, taker, points)
    const start = this.start(slice)
    this.#starts[slice] = start + points
    const before = this.before(slice)
    return this.owner(before) === taker ? before : this.#insert(before, start, taker, slice)
  }

  /** The last `points` of the slice go to `taker`. Returns the slice that now holds them. */
  giveLast(slice: number, taker: number, points: number): number {
    if (points === this.length(slice)) return this.give(slice, taker)
    const start = this.start(slice) + this.length(slice) - points
    this.#pay(slice, taker, points)
    const after = this.after(slice)
    if (this.owner(after) !== taker) return this.#insert(slice, start, taker, after)
    this.#starts[after] = start
    return after
  }

  /** The table. @param ids its storage nodes, sorted */
  table(ids: readonly NodeId[]): SliceTable {
    const placeOf = new Map(ids.map((id, place) => [id, place]))
    const starts: number[] = []
    const owners: number[] = []
    for (let slice = this.#first; slice !== none; slice = this.after(slice)) {
      starts.push(this.start(slice))
      owners.push(placeOf.get(this.#ids[this.owner(slice)] as NodeId) as number)
    }
    return new SliceTable(ids, Float64Array.from(starts), Uint32Array.from(owners))
  }

  #pay(slice: number, taker: number, points: number): void {
    const giver = this.owner(slice)
    const left = (this.balance[giver] as number) - points
    const missing = (this.balance[taker] as number) + points
    assert(points > 0 && left >= 0 && missing <= 0, 'points go from a giver to a taker')
    this.balance[giver] = left
    this.balance[taker] = missing
    this.#surplus -= points
  }

  /** The slice becomes a part of the one before it. */
  #joinLeft(slice: number): void {
    const before = this.before(slice)
    const after = this.after(slice)
    this.#after[before] = after
    if (after !== none) this.#before[after] = before
    this.#owners[slice] = none
  }

  #insert(before: number, start: number, owner: number, after: number): number {
    const slice = this.#starts.length
    this.#starts.push(start)
    this.#owners.push(owner)
    this.#before.push(before)
    this.#after.push(after)
    if (before === none) this.#first = slice
    else this.#after[before] = slice
    if (after !== none) this.#before[after] = slice
    return slice
  }
}
