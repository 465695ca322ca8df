import test from 'tape'
import { newTable, resize } from '../../lib/slices/resize.ts'
import { type Move, SPACE } from '../../lib/slices/space.ts'
import type { SliceTable } from '../../lib/slices/table.ts'
import type { NodeId } from '../../lib/types.ts'
import { random } from '../helpers/random.ts'
import { apply, type Change, growth, randomChanges, slicingSequence } from './sequences.ts'

/** Every property that a resize must have, checked from the outside; the first that does not hold, or null. */
function violation(
  before: SliceTable,
  after: SliceTable,
  moves: readonly Move[],
  capacities: ReadonlyMap<NodeId, bigint>
): string | null {
  let covered = 0
  let last: NodeId | null = null
  const shares = new Map<NodeId, number>()
  for (const { start, end, owner } of after) {
    if (start !== covered || end <= start) return `the slice at ${start} does not follow ${covered}`
    if (owner === last) return `two slices of one owner meet at ${start}`
    if (!capacities.has(owner)) return `${owner} owns a slice and has no capacity`
    shares.set(owner, (shares.get(owner) ?? 0) + (end - start))
    covered = end
    last = owner
  }
  if (covered !== SPACE) return `the slices end at ${covered}`

  const sum = [...capacities.values()].reduce((a, b) => a + b, 0n)
  for (const [id, capacity] of capacities) {
    const points = BigInt(shares.get(id) ?? 0)
    // |points - SPACE * capacity / sum| < 1, in integers
    const off = points * sum - BigInt(SPACE) * capacity
    if (off >= sum || off <= -sum) return `${id} owns ${points} points`
    if (after.shareOf(id) !== Number(points)) return `shareOf(${id})`
  }

  const surplus = before.ids.reduce(
    (total, id) => total + Math.max(0, before.shareOf(id) - (shares.get(id) ?? 0)),
    0
  )
  let moved = 0
  let end = 0
  for (const move of moves) {
    if (move.start < end || move.end <= move.start) return `move at ${move.start} out of order`
    for (const point of [move.start, move.end - 1]) {
      if (before.lookup(point) !== move.from) return `${point} did not belong to the giver`
      if (after.lookup(point) !== move.to) return `${point} does not belong to the taker`
    }
    if (move.from === move.to) return `move at ${move.start} to the same node`
    moved += move.end - move.start
    end = move.end
  }
  return moved === surplus ? null : `${moved} points moved, ${surplus} had to`
}

/** A table from which the moves lead to another: to see that they say everything that changed. */
function movedTable(
  before: SliceTable,
  moves: readonly Move[],
  points: readonly number[]
): NodeId[] {
  return points.map((point) => {
    const move = moves.find(({ start, end }) => start <= point && point < end)
    return move?.to ?? before.lookup(point)
  })
}

for (const [nodesMax, changes] of [
  [3, 1000],
  [12, 1500],
  [60, 600]
] as const) {
  test(`${changes} random changes of up to ${nodesMax} nodes keep every property`, (t) => {
    const source = random(t)
    const capacities = new Map<NodeId, bigint>()
    let table: SliceTable | null = null
    let step = 0
    for (const change of randomChanges(source, nodesMax)) {
      apply(capacities, change)
      const before: SliceTable = table ?? newTable(capacities)
      const { table: after, moves } = resize(before, capacities)
      const found = violation(before, after, moves, capacities)
      if (found !== null) {
        t.fail(`change ${step}: ${found}`)
        break
      }
      const shuffled = new Map(source.shuffle([...capacities]))
      if (
        !resize(before, shuffled).table.equals(after) ||
        !newTable(shuffled).equals(newTable(capacities))
      ) {
        t.fail(`change ${step} depends on the order of the capacities`)
        break
      }
      const points = Array.from({ length: 10 }, () => Math.floor(source.next() * SPACE))
      const expected = points.map((point) => after.lookup(point))
      if (movedTable(before, moves, points).join() !== expected.join()) {
        t.fail(`change ${step}: the moves do not lead to the new table`)
        break
      }
      table = after
      if (++step === changes) break
    }
    t.equal(step, changes, 'every change was checked')
    t.end()
  })
}

function tableAfter(changes: Iterable<Change>): { table: SliceTable; cpuMs: number } {
  const capacities = new Map<NodeId, bigint>()
  let table: SliceTable | null = null
  const start = process.cpuUsage()
  for (const change of changes) {
    apply(capacities, change)
    table = table === null ? newTable(capacities) : resize(table, capacities).table
  }
  const { user, system } = process.cpuUsage(start)
  if (table === null) throw new Error('no change')
  return { table, cpuMs: (user + system) / 1000 }
}

test('slices stay few on the sequence that implementations are compared on', (t) => {
  const { table } = tableAfter(slicingSequence())
  t.equal(table.ids.length, 49)
  t.ok(table.length <= 0.65 * 3265, `${table.length} slices, 3,265 with exact fractions`)
  t.end()
})

test('nodes that join one by one take from two neighbours at a time', (t) => {
  const { table } = tableAfter(growth(100))
  // each newcomer needs a cut from everyone, and one new slice can hold two of them
  const ideal = Array.from({ length: 100 }, (_, n) => Math.ceil(n / 2)).reduce((a, b) => a + b, 0)
  t.ok(table.length <= 1.05 * ideal, `${table.length} slices, ${ideal} at best`)
  t.end()
})

test('1,000 changes at up to 200 nodes take less than ten seconds', (t) => {
  const { table, cpuMs } = tableAfter(slicingSequence(1000, 200))
  t.ok(table.ids.length > 150, `${table.ids.length} nodes, ${table.length} slices`)
  t.ok(cpuMs < 10_000, `${Math.round(cpuMs)} ms of CPU`)
  t.end()
})

test('a change of everything at once, and back to one node', (t) => {
  const { table } = tableAfter(growth(60))
  const ids = table.ids
  const capacities = new Map(ids.map((id, i) => [id, BigInt(1 + ((i * 37) % 60)) * 1_000_000n]))
  const all = resize(table, capacities)
  t.equal(violation(table, all.table, all.moves, capacities), null)
  const [survivor] = ids as [NodeId]
  const alone = new Map([[survivor, 1n]])
  const one = resize(all.table, alone)
  t.equal(violation(all.table, one.table, one.moves, alone), null)
  t.deepEqual([...one.table], [{ start: 0, end: SPACE, owner: survivor }])
  t.end()
})

test('nothing moves when the proportions stay', (t) => {
  const { table } = tableAfter(slicingSequence(50))
  const capacities = new Map(table.ids.map((id) => [id, BigInt(table.shareOf(id))]))
  const { table: same, moves } = resize(table, capacities)
  t.deepEqual(moves, [])
  t.ok(same.equals(table))
  t.end()
})

test('what joins nodes that have nothing in common with the old ones takes everything', (t) => {
  const before = newTable(
    new Map([
      ['a', 1n],
      ['b', 2n]
    ])
  )
  const { table, moves } = resize(
    before,
    new Map([
      ['c', 1n],
      ['d', 2n]
    ])
  )
  t.deepEqual(table.ids, ['c', 'd'])
  t.equal(
    moves.reduce((sum, { start, end }) => sum + (end - start), 0),
    SPACE
  )
  t.end()
})

test('a node whose capacity is nothing beside the others owns no point, and still is a node', (t) => {
  const capacities = new Map([
    ['a', 10n ** 15n],
    ['b', 1n],
    ...Array.from({ length: 20 }, (_, i) => [`c${i}`, 10n ** 15n] as const)
  ])
  const table = newTable(capacities)
  t.equal(table.shareOf('b'), 0)
  t.ok(table.ids.includes('b'))
  const { table: next } = resize(
    table,
    new Map([
      ['a', 1n],
      ['b', 1n]
    ])
  )
  t.equal(next.shareOf('b'), SPACE / 2)
  t.end()
})
