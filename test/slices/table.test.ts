import test from 'tape'
import { newTable, resize } from '../../lib/slices/resize.ts'
import { type Slice, SPACE } from '../../lib/slices/space.ts'
import { SliceTable } from '../../lib/slices/table.ts'
import type { NodeId } from '../../lib/types.ts'
import { random } from '../helpers/random.ts'
import { apply, randomChanges } from './sequences.ts'

const third = 3_002_399_751_580_331
const slices: readonly Slice[] = [
  { start: 0, end: third, owner: 'b' },
  { start: third, end: 2 * third, owner: 'a' },
  { start: 2 * third, end: SPACE, owner: 'b' }
]

test('a table says who owns a point, and how much each owns', (t) => {
  const table = SliceTable.of(['a', 'b', 'c'], slices)
  t.equal(table.length, 3)
  t.deepEqual([...table], slices)
  for (const [point, owner] of [
    [0, 'b'],
    [third - 1, 'b'],
    [third, 'a'],
    [2 * third - 1, 'a'],
    [2 * third, 'b'],
    [SPACE - 1, 'b']
  ] as const) {
    t.equal(table.lookup(point), owner, String(point))
  }
  t.equal(table.shareOf('a'), third)
  t.equal(table.shareOf('b'), SPACE - third)
  t.equal(table.shareOf('c'), 0)
  t.equal(table.shareOf('nobody'), 0)
  t.end()
})

test('look-up agrees with a linear search', (t) => {
  const source = random(t)
  const capacities = new Map<NodeId, bigint>()
  let table: SliceTable | null = null
  let step = 0
  let wrong = 0
  for (const change of randomChanges(source, 40)) {
    apply(capacities, change)
    table = table === null ? newTable(capacities) : resize(table, capacities).table
    const all = [...table]
    const points = all.flatMap(({ start, end }) => [start, end - 1])
    for (let i = 0; i < 20; i++) points.push(Math.floor(source.next() * SPACE))
    for (const point of points.slice(-200)) {
      const found = all.find(({ start, end }) => start <= point && point < end)
      if (found?.owner !== table.lookup(point)) wrong++
    }
    if (++step === 100) break
  }
  t.equal(wrong, 0)
  t.end()
})

test('neighbouring slices of one owner are one slice', (t) => {
  const split = slices.flatMap(({ start, end, owner }) => [
    { start, end: start + 5, owner },
    { start: start + 5, end, owner }
  ])
  t.ok(SliceTable.of(['a', 'b'], split).equals(SliceTable.of(['a', 'b'], slices)))
  t.end()
})

test('tables are equal when every point has the same owner', (t) => {
  const table = SliceTable.of(['a', 'b'], slices)
  t.ok(table.equals(SliceTable.of(['a', 'b', 'c'], slices)), 'a node more that owns nothing')
  const swapped = slices.map((slice) => ({ ...slice, owner: slice.owner === 'a' ? 'b' : 'a' }))
  t.notOk(table.equals(SliceTable.of(['a', 'b'], swapped)))
  const shifted = slices.map(({ start, end, owner }) => ({
    start: start === third ? start + 1 : start,
    end: end === third ? end + 1 : end,
    owner
  }))
  t.notOk(table.equals(SliceTable.of(['a', 'b'], shifted)))
  t.end()
})

test('moves from one table to another: in order, and as few as say it', (t) => {
  const table = SliceTable.of(['a', 'b'], slices)
  t.deepEqual(table.movesTo(table), [])
  const next = SliceTable.of(
    ['b', 'c'],
    [
      { start: 0, end: 10, owner: 'b' },
      { start: 10, end: third + 10, owner: 'c' },
      { start: third + 10, end: SPACE, owner: 'b' }
    ]
  )
  t.deepEqual(table.movesTo(next), [
    { from: 'b', to: 'c', start: 10, end: third },
    { from: 'a', to: 'c', start: third, end: third + 10 },
    { from: 'a', to: 'b', start: third + 10, end: 2 * third }
  ])
  t.end()
})

test('what is no table is a defect of the caller', (t) => {
  const cases: readonly [string, () => unknown, RegExp][] = [
    ['gap', () => SliceTable.of(['a'], [{ start: 1, end: SPACE, owner: 'a' }]), /starts where/],
    ['end', () => SliceTable.of(['a'], [{ start: 0, end: SPACE - 1, owner: 'a' }]), /ends where/],
    ['nothing', () => SliceTable.of(['a'], []), /ends where/],
    [
      'stranger',
      () => SliceTable.of(['a'], [{ start: 0, end: SPACE, owner: 'z' }]),
      /storage node/
    ],
    ['unsorted ids', () => SliceTable.of(['b', 'a'], slices), /sorted/],
    ['point outside', () => SliceTable.of(['a', 'b'], slices).lookup(SPACE), /lies in the space/],
    ['negative point', () => SliceTable.of(['a', 'b'], slices).lookup(-1), /lies in the space/],
    [
      'neighbours of one owner',
      () => new SliceTable(['a'], Float64Array.of(0, 5), Uint32Array.of(0, 0)),
      /different owners/
    ],
    [
      'no points',
      () => new SliceTable(['a', 'b'], Float64Array.of(0, 0), Uint32Array.of(0, 1)),
      /has points/
    ]
  ]
  for (const [name, make, message] of cases) t.throws(make, message, name)
  t.end()
})
