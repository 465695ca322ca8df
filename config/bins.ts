/**
 * From bins as they were read to a slice table: the slices have to cover the space exactly once, and what each
 * node owns has to be the share of its capacity, as near as rounding allows.
 */
import { sharesOf } from '../lib/slices/capacity.ts'
import { SPACE } from '../lib/slices/space.ts'
import { SliceTable } from '../lib/slices/table.ts'
import type { NodeId } from '../lib/types.ts'
import { type Fault, pathOf } from './faults.ts'
import type { Bin } from './schema.ts'

/** The table of bins that coverageFaults() finds nothing wrong with. */
export function tableOf(bins: ReadonlyMap<NodeId, Bin>): SliceTable {
  const slices = [...bins]
    .flatMap(([owner, bin]) => bin.slices.map(({ start, end }) => ({ start, end, owner })))
    .filter(({ start, end }) => start < end)
    .toSorted((a, b) => a.start - b.start)
  return SliceTable.of([...bins.keys()].toSorted(), slices)
}

/** Every overlap and every gap. */
export function coverageFaults(bins: Iterable<Pick<Bin, 'key' | 'slices'>>): Fault[] {
  const slices = Array.from(bins, ({ key, slices }) =>
    slices.map(({ start, end }, place) => ({ start, end, key, place }))
  )
    .flat()
    .filter(({ start, end }) => start < end)
    .toSorted((a, b) => a.start - b.start || a.end - b.end)
  const path = ({ key, place }: { key: string; place: number }): string =>
    pathOf(['bins', key, 'slices', place])
  const faults: Fault[] = []
  let covered = 0
  /** The slice that reaches furthest. */
  let last: (typeof slices)[number] | undefined
  const gapBefore = (end: number): void => {
    if (covered === end) return
    faults.push({ path: 'bins', message: `no slice covers ${points(covered, end)}` })
  }
  for (const slice of slices) {
    if (last !== undefined && slice.start < covered) {
      const shared = points(slice.start, Math.min(slice.end, covered))
      faults.push({ path: path(slice), message: `overlaps ${path(last)} in ${shared}` })
    } else gapBefore(slice.start)
    if (slice.end > covered) {
      covered = slice.end
      last = slice
    }
  }
  gapBefore(SPACE)
  return faults
}

/**
 * What is wrong with how much each node owns: nothing while it is its capacity's share to within one point, and
 * one more for each slice, which is what the fractions of the old form lose when they become points.
 */
export function shareFaults(bins: ReadonlyMap<NodeId, Bin>, table: SliceTable): Fault[] {
  const shares = sharesOf(new Map(Array.from(bins, ([id, { size }]) => [id, size])))
  const faults: Fault[] = []
  for (const [id, { key, slices }] of bins) {
    const has = table.shareOf(id)
    const share = shares.get(id) ?? 0
    if (Math.abs(has - share) <= 1 + slices.length) continue
    faults.push({
      path: pathOf(['bins', key]),
      message: `its slices are ${percent(has)} of the space, its size asks for ${percent(share)}`
    })
  }
  return faults
}

function points(start: number, end: number): string {
  return `the points ${start} to ${end - 1}`
}

function percent(share: number): string {
  return `${Number(((share / SPACE) * 100).toPrecision(6))} %`
}
