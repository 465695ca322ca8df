/**
 * Sequences of capacity changes for tests and benchmarks: each step names the capacities that change, 0 removes
 * a node.
 */
import { createHash } from 'node:crypto'
import { millionthsOf } from '../../lib/slices/capacity.ts'
import type { NodeId } from '../../lib/types.ts'
import type { Random } from '../helpers/random.ts'

export type Change = Readonly<Record<NodeId, number>>

/** An id for a name, the same everywhere. */
export function idFor(name: string): NodeId {
  return createHash('sha256').update(name).digest('hex')
}

/**
 * The sequence on which implementations of random slicing are compared: it begins with five nodes of capacity 10.
 * With exact fractions 200 changes leave 3,265 slices.
 */
export function* slicingSequence(changes = 200, nodesMax = 50): Generator<Change> {
  let state = 7
  const random = (): number => {
    // the product is rounded as a double, the same on every machine
    state = (state * 1_103_515_245 + 12_345) % 2_147_483_648
    return state / 2_147_483_648
  }
  const capacity = (): number => 1 + Math.floor(random() * 20)
  const names = Array.from({ length: 5 }, (_, i) => `n${i}`)
  yield Object.fromEntries(names.map((name) => [idFor(name), 10]))
  for (let i = 0; i < changes; i++) {
    const kind = random()
    if (kind < 0.4 && names.length < nodesMax) {
      names.push(`n${100 + i}`)
      yield { [idFor(`n${100 + i}`)]: capacity() }
    } else {
      const place = Math.floor(random() * names.length)
      const name = names[place] as string
      if (kind < 0.5 && names.length > 3) {
        names.splice(place, 1)
        yield { [idFor(name)]: 0 }
      } else yield { [idFor(name)]: capacity() }
    }
  }
}

/** Nodes of equal capacity that join one by one. */
export function* growth(nodes: number): Generator<Change> {
  for (let i = 0; i < nodes; i++) yield { [idFor(`m${i}`)]: 10 }
}

/** Endless changes of one to many nodes at a time, between 1 and `nodesMax` nodes, of very different sizes. */
export function* randomChanges(random: Random, nodesMax: number): Generator<Change> {
  const nodes = new Set<NodeId>()
  const capacity = (): number => {
    if (random.chance(0.05)) return random.int(1, 9) / 1_000_000
    if (random.chance(0.05)) return random.int(1, 1_000_000_000)
    return random.chance(0.5) ? random.int(1, 20) : random.int(1, 100_000_000) / 1_000_000
  }
  for (;;) {
    const change: Record<NodeId, number> = {}
    const count =
      nodes.size === 0 ? random.int(1, nodesMax) : random.pick([1, 1, 1, 1, 2, 5, nodesMax])
    for (let i = 0; i < count; i++) {
      const leaves = nodes.size > 1 && random.chance(0.3)
      const known = nodes.size > 0 && (leaves || nodes.size >= nodesMax || random.chance(0.5))
      const id = known ? random.pick([...nodes]) : idFor(random.text(10))
      if (Object.hasOwn(change, id)) continue
      change[id] = leaves ? 0 : capacity()
      if (leaves) nodes.delete(id)
      else nodes.add(id)
    }
    yield change
  }
}

/** Applies a step to capacities in millionths. */
export function apply(capacities: Map<NodeId, bigint>, change: Change): void {
  for (const [id, capacity] of Object.entries(change)) {
    const millionths = millionthsOf(capacity)
    if (millionths === null) throw new Error(`capacity ${capacity} has more than six decimals`)
    if (millionths === 0n) capacities.delete(id)
    else capacities.set(id, millionths)
  }
}
