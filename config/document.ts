/**
 * The immutable document behind a Config, and what makes one from another.
 *
 * - `capacities` and `writers` are sorted by id, and `capacities` is never empty.
 * - The table's nodes are those of `capacities`.
 * - Nothing here counts epochs: config/config.ts does, once for each call.
 */
import { newTable, resize } from '../lib/slices/resize.ts'
import type { Move } from '../lib/slices/space.ts'
import type { SliceTable } from '../lib/slices/table.ts'
import type { NodeId } from '../lib/types.ts'
import { coverageFaults, shareFaults, tableOf } from './bins.ts'
import { configInvalid } from './faults.ts'
import { type Read, readOptions, readText } from './read.ts'
import type { Sections } from './schema.ts'

/**
 * The hash key of a Config that was made without one, and of the old form: the ASCII text `kvswarm/hash-key`.
 * So two processes that make the same Config agree on every address.
 */
export const defaultHashKey = '6b76737761726d2f686173682d6b6579'

export interface ConfigDocument {
  readonly epoch: number
  /** 32 lower-case hex digits. */
  readonly hashKey: string
  /** Millionths. */
  readonly capacities: ReadonlyMap<NodeId, bigint>
  readonly table: SliceTable
  readonly writers: readonly NodeId[]
  /** `host:port` of nodes that a private swarm bootstraps from. */
  readonly bootstrap: readonly string[] | undefined
}

/** @throws CONFIG_INVALID */
export function documentOfOptions(options: unknown): ConfigDocument {
  return documentOf(readOptions(options), { adjusts: true, nodes: 'capacities' })
}

/** @throws CONFIG_INVALID */
export function documentOfText(text: string): ConfigDocument {
  const read = readText(text)
  return documentOf(read, { adjusts: read.old, nodes: 'bins' })
}

/** The document with these capacities instead, and what moves. @param capacities at least one, above 0 */
export function withCapacities(
  document: ConfigDocument,
  capacities: ReadonlyMap<NodeId, bigint>
): { document: ConfigDocument; moves: readonly Move[] } {
  const sorted = sortedById(capacities)
  const { table, moves } = resize(document.table, sorted)
  return { document: { ...document, capacities: sorted, table }, moves }
}

interface Rules {
  /** True where slices that do not fit their capacities are adjusted, false where they are a fault. */
  readonly adjusts: boolean
  /** The section that names the storage nodes. */
  readonly nodes: keyof Sections
}

/** @throws CONFIG_INVALID */
function documentOf(read: Read, rules: Rules): ConfigDocument {
  const { bins, capacities, writers = [], hashKey = defaultHashKey, epoch = 1 } = read.sections
  const slices = bins ? [...bins.values()] : read.slices
  const uncovered = slices.length > 0 ? coverageFaults(slices) : []
  const faults = [...read.faults, ...uncovered]
  const sizes = new Map(Array.from(bins ?? [], ([id, { size }]) => [id, size]))
  const table = bins && sizes.size > 0 && uncovered.length === 0 ? tableOf(bins) : null
  const misfits = bins && table ? shareFaults(bins, table) : []
  if (!rules.adjusts) faults.push(...misfits)
  const wanted = new Map([...sizes, ...(capacities ?? [])])
  // when the whole is no object, or these sections are faulty, that has been said already
  if (wanted.size === 0 && !read.faults.some(({ path }) => /^(?:$|bins|capacities)/.test(path))) {
    faults.push({ path: rules.nodes, message: 'no storage node is named' })
  }
  if (faults.length > 0) throw configInvalid(faults)

  const nodes = sortedById(wanted)
  const document = { epoch, hashKey, writers, bootstrap: read.sections.bootstrap }
  if (table === null) return { ...document, capacities: nodes, table: newTable(nodes) }
  const asRead = { ...document, capacities: sortedById(sizes), table }
  return misfits.length > 0 || capacities ? withCapacities(asRead, nodes).document : asRead
}

function sortedById(capacities: ReadonlyMap<NodeId, bigint>): ReadonlyMap<NodeId, bigint> {
  return new Map([...capacities].toSorted(([a], [b]) => (a < b ? -1 : 1)))
}
