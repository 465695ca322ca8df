/**
 * The part of a resize that cuts nothing: slices that change hands as a whole.
 *
 * A slice that goes to a neighbour vanishes, so that comes first, shortest first. A giver that no taker lies
 * beside has to be cut somewhere, unless one of its short slices goes whole to somebody afar; that opens its
 * neighbours to the taker as well.
 */
import { type Draft, none } from './draft.ts'
import { Heap } from './heap.ts'

/** Gives whole slices until none can be given that would save a cut. */
export function giveWholeSlices(draft: Draft): void {
  for (let given = true; given;) {
    const absorber = new Absorber(draft)
    absorber.offerAll()
    absorber.run()
    given = giveAfar(draft, absorber)
  }
}

/**
 * Gives slices of givers that no taker lies beside to the neediest node, shortest first, and whatever can be
 * absorbed after each.
 * @returns true when any was given
 */
function giveAfar(draft: Draft, absorber: Absorber): boolean {
  const reached = absorber.reached()
  const candidates: number[] = []
  for (let slice = draft.first; slice !== none; slice = draft.after(slice)) {
    const surplus = draft.surplus(slice)
    if (surplus > 0 && reached[draft.owner(slice)] === 0 && draft.length(slice) <= surplus) {
      candidates.push(slice)
    }
  }
  sortByLength(draft, candidates)
  let given = false
  for (const slice of candidates) {
    const giver = draft.owner(slice)
    if (giver === none || reached[giver] === 1) continue
    const length = draft.length(slice)
    if (draft.surplus(slice) < length) continue
    const taker = draft.neediest()
    if (taker === none || draft.needOf(taker) < length) break
    absorber.changed(draft.give(slice, taker))
    absorber.run()
    given = true
  }
  return given
}

/** Shortest first, then by their points. */
export function sortByLength(draft: Draft, slices: number[]): void {
  slices.sort((a, b) => draft.length(a) - draft.length(b) || draft.start(a) - draft.start(b))
}

/** A slice that its neighbours could take as a whole. */
interface Candidate {
  readonly slice: number
  readonly start: number
  readonly length: number
  /** What is done first: 0 it lies between two slices of its taker, 1 all else. */
  readonly rank: 0 | 1
}

/** Gives whole slices to the takers beside them. */
class Absorber {
  readonly #draft: Draft
  readonly #reached: Uint8Array
  readonly #candidates: Heap<Candidate> = new Heap((a, b) => {
    if (a.rank !== b.rank) return a.rank < b.rank
    return a.length === b.length ? a.start < b.start : a.length < b.length
  })

  constructor(draft: Draft) {
    this.#draft = draft
    this.#reached = new Uint8Array(draft.nodes)
  }

  /** Considers all slices. */
  offerAll(): void {
    const draft = this.#draft
    for (let slice = draft.first; slice !== none; slice = draft.after(slice)) this.#offer(slice)
  }

  /** Considers what lies beside a slice that a taker has got. */
  changed(slice: number): void {
    const draft = this.#draft
    this.#offer(draft.before(slice))
    this.#offer(draft.after(slice))
  }

  /** Gives until nothing more can be given. */
  run(): void {
    for (let next = this.#candidates.pop(); next !== undefined; next = this.#candidates.pop()) {
      const { slice, rank } = next
      const present = this.#rankOf(slice)
      if (present === rank) this.#absorb(slice)
      else if (present !== null) this.#offer(slice)
    }
  }

  /** For each node: 1 when it is a giver and one of its slices lies beside a taker. Kept up from here on. */
  reached(): Uint8Array {
    this.#reached.fill(0)
    // nothing can be absorbed after run(), so this only marks
    this.offerAll()
    return this.#reached
  }

  #offer(slice: number): void {
    const draft = this.#draft
    if (draft.surplus(slice) === 0) return
    if (draft.need(draft.before(slice)) + draft.need(draft.after(slice)) === 0) return
    this.#reached[draft.owner(slice)] = 1
    const rank = this.#rankOf(slice)
    if (rank === null) return
    this.#candidates.push({ slice, start: draft.start(slice), length: draft.length(slice), rank })
  }

  /** Null when its neighbours cannot take the whole slice, or it need not be given. */
  #rankOf(slice: number): 0 | 1 | null {
    const draft = this.#draft
    if (draft.owner(slice) === none) return null
    const length = draft.length(slice)
    if (draft.surplus(slice) < length) return null
    const [before, after] = [draft.before(slice), draft.after(slice)]
    if (draft.owner(before) === draft.owner(after)) return draft.need(before) >= length ? 0 : null
    return draft.need(before) + draft.need(after) >= length ? 1 : null
  }

  #absorb(slice: number): void {
    const draft = this.#draft
    const [before, after] = [draft.before(slice), draft.after(slice)]
    const [needBefore, needAfter] = [draft.need(before), draft.need(after)]
    const length = draft.length(slice)
    // to the one that it fits more tightly: the other one may have room for another slice
    if (needBefore >= length && (needAfter < length || needBefore <= needAfter)) {
      this.changed(draft.give(slice, draft.owner(before)))
      return
    }
    if (needAfter < length) {
      this.changed(draft.giveFirst(slice, draft.owner(before), length - needAfter))
    }
    this.changed(draft.give(slice, draft.owner(after)))
  }
}
