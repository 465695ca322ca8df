/**
 * What random slicing costs: milliseconds, slices, and bytes of configuration, for nodes that join one by one,
 * for random changes, and for the sequence on which implementations are compared.
 *
 * usage: npx tsx bench/slices.ts
 */
import { Config } from '../config/config.ts'
import { SPACE } from '../lib/slices/space.ts'
import { newTable, resize } from '../lib/slices/resize.ts'
import type { SliceTable } from '../lib/slices/table.ts'
import type { NodeId } from '../lib/types.ts'
import { apply, type Change, growth, slicingSequence } from '../test/slices/sequences.ts'

interface Row {
  readonly changes: number
  readonly nodes: number
  readonly slices: number
  /** Of all resizes so far. */
  readonly ms: number
  readonly slowestMs: number
  readonly bytes: number
  readonly bytesPerSlice: string
  readonly serializeMs: string
  readonly parseMs: string
  readonly lookupNs: number
}

/** Runs a sequence and measures after each of the given numbers of changes. */
function run(title: string, changes: Iterable<Change>, stops: readonly number[]): void {
  const capacities = new Map<NodeId, bigint>()
  const rows: Row[] = []
  let table: SliceTable | null = null
  let handle: Config | null = null
  let [done, ms, slowestMs] = [-1, 0, 0]
  for (const change of changes) {
    apply(capacities, change)
    const start = performance.now()
    table = table === null ? newTable(capacities) : resize(table, capacities).table
    const took = performance.now() - start
    ms += took
    slowestMs = Math.max(slowestMs, took)
    done++
    if (handle === null) handle = new Config({ capacities: change })
    else handle.update({ capacities: change })
    if (!stops.includes(done)) continue

    const written = performance.now()
    const text = handle.serialize()
    const parsed = performance.now()
    const same = Config.parse(text).slicesHash === handle.slicesHash
    const end = performance.now()
    if (!same) throw new Error('the configuration is not read as it was written')
    const bytes = Buffer.byteLength(text)
    rows.push({
      changes: done,
      nodes: capacities.size,
      slices: table.length,
      ms: Math.round(ms),
      slowestMs: Math.round(slowestMs),
      bytes,
      bytesPerSlice: ((bytes - 100 * capacities.size) / table.length).toFixed(1),
      serializeMs: (parsed - written).toFixed(1),
      parseMs: (end - parsed).toFixed(1),
      lookupNs: Math.round(lookupNs(table))
    })
  }
  console.log(`\n${title}`)
  console.table(rows)
}

/** Nanoseconds of one look-up, over points all over the space. */
function lookupNs(table: SliceTable): number {
  const points = Float64Array.from({ length: 65_536 }, () => Math.floor(Math.random() * SPACE))
  let owners = 0
  const start = performance.now()
  for (let round = 0; round < 10; round++) {
    for (const point of points) if (table.lookup(point) !== '') owners++
  }
  const ns = ((performance.now() - start) * 1e6) / owners
  if (owners !== 10 * points.length) throw new Error('a point without an owner')
  return ns
}

run('nodes of equal capacity join one by one', growth(200), [1, 9, 49, 99, 149, 199])
run('random changes at up to 200 nodes', slicingSequence(1000, 200), [100, 250, 500, 750, 1000])
run(
  'the slicing sequence: 200 changes at up to 50 nodes (with exact fractions: 3,265 slices, 585 kB, 86 s)',
  slicingSequence(),
  [50, 100, 150, 200]
)
