/**
 * Random slicing: from one slice table to the next when capacities change.
 *
 * - What moves is exactly the surplus of those who have too much (lib/slices/draft.ts), the least possible.
 * - Slices stay few. Of the ways to move the same points the cheapest is taken, by the number of slices that
 *   it adds: a whole slice to its neighbour (-1, or -2 between two slices of the taker); a boundary shifted,
 *   or a whole slice to somebody else (0); a cut (+1), where it opens two givers at a time. Short slices go
 *   first, since more of them can go for the same points.
 * - Deterministic: every choice is made by integers, ties go to the smaller point or to the smaller id.
 *
 * Source: Miranda, Effert, Kang, Miller, Popov, Brinkmann, Friedetzky, Cortes: "Random Slicing: Efficient and
 * Scalable Data Placement for Large-Scale Storage Systems", ACM Transactions on Storage 10(3), 2014; what is
 * chosen among equal movements is ours.
 */
import type { NodeId } from '../types.ts'
import { sharesOf } from './capacity.ts'
import { Draft } from './draft.ts'
import { giveWholeSlices } from './resize-whole.ts'
import { openGivers, shiftBoundaries } from './resize-cut.ts'
import type { Move, Slice } from './space.ts'
import { SliceTable } from './table.ts'

export interface Resized {
  readonly table: SliceTable
  /** What passes from one node to another, in order of the points. */
  readonly moves: readonly Move[]
}

/** The table of a new system: one slice for each node that has a share, in order of the ids. */
export function newTable(capacities: ReadonlyMap<NodeId, bigint>): SliceTable {
  const shares = sharesOf(capacities)
  const slices: Slice[] = []
  let start = 0
  for (const [owner, points] of shares) {
    if (points > 0) slices.push({ start, end: start + points, owner })
    start += points
  }
  return SliceTable.of([...shares.keys()], slices)
}

/**
 * The table after a change of capacities.
 * @param capacities of all nodes that there are to be, in millionths, each above 0, at least one
 */
export function resize(table: SliceTable, capacities: ReadonlyMap<NodeId, bigint>): Resized {
  const shares = sharesOf(capacities)
  const draft = new Draft(table, shares)
  while (!draft.settled) {
    giveWholeSlices(draft)
    shiftBoundaries(draft)
    openGivers(draft)
  }
  const next = draft.table([...shares.keys()])
  return { table: next, moves: table.movesTo(next) }
}
