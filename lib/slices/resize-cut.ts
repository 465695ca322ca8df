/**
 * The part of a resize that cuts slices, when none can go as a whole.
 *
 * - Shifting the boundary between a giver and a taker adds no slice.
 * - A giver that no taker lies beside is opened: a cut at the boundary of two such givers adds one slice and
 *   opens both, so as many of them as possible are paired.
 */
import { assert } from '../assert.ts'
import { type Draft, none } from './draft.ts'
import { Heap } from './heap.ts'
import { sortByLength } from './resize-whole.ts'

/** Gives points across every boundary between a giver and a taker; afterwards no giver lies beside a taker. */
export function shiftBoundaries(draft: Draft): void {
  const slices: number[] = []
  for (let slice = draft.first; slice !== none; slice = draft.after(slice)) {
    if (
      draft.surplus(slice) > 0 &&
      draft.need(draft.before(slice)) + draft.need(draft.after(slice)) > 0
    ) {
      slices.push(slice)
    }
  }
  // short slices get shorter, so that they can go as a whole next time
  sortByLength(draft, slices)
  for (const slice of slices) {
    const toBefore = Math.min(draft.surplus(slice), draft.need(draft.before(slice)))
    if (toBefore > 0) draft.giveFirst(slice, draft.owner(draft.before(slice)), toBefore)
    const toAfter = Math.min(draft.surplus(slice), draft.need(draft.after(slice)))
    if (toAfter > 0) draft.giveLast(slice, draft.owner(draft.after(slice)), toAfter)
  }
}

/**
 * Lets takers in between givers that none of them lies beside. At least one point moves, unless all have
 * their shares.
 */
export function openGivers(draft: Draft): void {
  if (draft.settled || openPairs(draft)) return
  for (let giver = 0; giver < draft.nodes; giver++) cutFromLongest(draft, giver)
}

/**
 * Pairs givers that lie side by side and cuts the first of each pair at their boundary; the second one's
 * boundary is shifted in the next round.
 * @returns false when there are no such givers
 */
function openPairs(draft: Draft): boolean {
  const boundaries = boundariesOfGivers(draft)
  const openOf = (giver: number): number => boundaries.get(giver)?.size ?? 0
  // who has the fewest possible partners first: the others find one more easily
  const fewest = (givers: Iterable<number>): number => {
    let best = none
    for (const giver of givers) {
      if (openOf(giver) === 0) continue
      const better = best === none ? -1 : openOf(giver) - openOf(best) || giver - best
      if (better < 0) best = giver
    }
    return best
  }
  let paired = false
  for (;;) {
    const giver = fewest(boundaries.keys())
    const taker = draft.neediest()
    if (giver === none || taker === none) return paired
    const partners = boundaries.get(giver) as Map<number, number>
    const partner = fewest(partners.keys())
    const slice = partners.get(partner) as number
    const points = Math.min(draft.surplus(slice), draft.needOf(taker), draft.length(slice))
    draft.giveLast(slice, taker, points)
    paired = true
    for (const done of [giver, partner]) {
      for (const other of boundaries.get(done)?.keys() ?? []) boundaries.get(other)?.delete(done)
      boundaries.delete(done)
    }
  }
}

/** For each giver the givers that lie beside it, with the slice on the left of their first boundary. */
function boundariesOfGivers(draft: Draft): Map<number, Map<number, number>> {
  const boundaries = new Map<number, Map<number, number>>()
  const add = (giver: number, partner: number, slice: number): void => {
    const partners = boundaries.get(giver)
    if (partners === undefined) boundaries.set(giver, new Map([[partner, slice]]))
    else if (!partners.has(partner)) partners.set(partner, slice)
  }
  for (let slice = draft.first; slice !== none; slice = draft.after(slice)) {
    const after = draft.after(slice)
    if (draft.surplus(slice) === 0 || draft.surplus(after) === 0) continue
    add(draft.owner(slice), draft.owner(after), slice)
    add(draft.owner(after), draft.owner(slice), slice)
  }
  return boundaries
}

/** Gives a giver's surplus from the ends of its longest slices, to the neediest node each time. */
function cutFromLongest(draft: Draft, giver: number): void {
  if ((draft.balance[giver] as number) <= 0) return
  const longest = new Heap<{ slice: number; start: number; length: number }>((a, b) =>
    a.length === b.length ? a.start < b.start : a.length > b.length
  )
  const offer = (slice: number): void =>
    longest.push({ slice, start: draft.start(slice), length: draft.length(slice) })
  for (let slice = draft.first; slice !== none; slice = draft.after(slice)) {
    if (draft.owner(slice) === giver) offer(slice)
  }
  while ((draft.balance[giver] as number) > 0) {
    const taker = draft.neediest()
    const next = longest.pop()
    assert(taker !== none && next !== undefined, 'what one has too much another one lacks')
    const points = Math.min(draft.surplus(next.slice), draft.needOf(taker), next.length)
    draft.giveLast(next.slice, taker, points)
    if (points < next.length) offer(next.slice)
  }
}
