/**
 * The canonical JSON of a document: equal documents give equal bytes, on every machine.
 *
 * - Keys are sorted at every level; writers too. `bootstrap` is in its own order, and absent when there is none.
 * - One line for each storage node and each writer, two spaces of indentation a level, a newline at the end;
 *   UTF-8, which here is ASCII.
 * - A size is the shortest decimal, without an exponent; the slices of a node: config/slices-text.ts.
 */
import { hash } from 'hypercore-crypto'
import { capacityText } from '../lib/slices/capacity.ts'
import type { Slice } from '../lib/slices/space.ts'
import type { SliceTable } from '../lib/slices/table.ts'
import type { NodeId } from '../lib/types.ts'
import { idBytes } from '../lib/wire/ids.ts'
import type { ConfigDocument } from './document.ts'
import { documentVersion } from './schema.ts'
import { writeSlices } from './slices-text.ts'

/** Before everything that a hash over slices covers, so that it is no hash of anything else. */
const slicesDomain = 'kvswarm/slices'

/** The canonical text. */
export function serializeDocument(document: ConfigDocument): string {
  const { bootstrap, capacities, epoch, hashKey, table, writers } = document
  const slices = slicesByOwner(table)
  const bins = Array.from(capacities, ([id, size]) => {
    const text = writeSlices(slices.get(id) ?? [])
    return `${JSON.stringify(id)}: {"size":${capacityText(size)},"slices":${JSON.stringify(text)}}`
  })
  const entries = [
    `"bins": ${block('{', bins, '}')}`,
    ...(bootstrap === undefined ? [] : [`"bootstrap": ${JSON.stringify(bootstrap)}`]),
    `"epoch": ${epoch}`,
    `"hashKey": ${JSON.stringify(hashKey)}`,
    `"version": ${documentVersion}`,
    `"writers": ${block(
      '[',
      writers.map((id) => JSON.stringify(id)),
      ']'
    )}`
  ]
  return `{\n  ${entries.join(',\n  ')}\n}\n`
}

/** The slices of each node that has any, as the configuration writes them. */
export function slicesByOwner(table: SliceTable): Map<NodeId, Slice[]> {
  const byOwner = new Map<NodeId, Slice[]>()
  for (const slice of table) {
    const slices = byOwner.get(slice.owner)
    if (slices === undefined) byOwner.set(slice.owner, [slice])
    else slices.push(slice)
  }
  return byOwner
}

/** BLAKE2b of the canonical text; 64 hex digits. */
export function documentHash(document: ConfigDocument): string {
  return hash(Buffer.from(serializeDocument(document))).toString('hex')
}

/**
 * BLAKE2b over what decides where a key lives, and nothing else: the ASCII text `kvswarm/slices`, the hash key,
 * and for each slice in order its start (8 bytes, big-endian) and its owner (32 bytes). 64 hex digits.
 */
export function slicesHash(document: ConfigDocument): string {
  const parts: Uint8Array[] = [Buffer.from(slicesDomain), Buffer.from(document.hashKey, 'hex')]
  for (const { start, owner } of document.table) {
    const bytes = Buffer.alloc(8)
    bytes.writeBigUInt64BE(BigInt(start))
    parts.push(bytes, idBytes(owner))
  }
  return hash(parts).toString('hex')
}

function block(open: string, lines: readonly string[], close: string): string {
  if (lines.length === 0) return open + close
  return `${open}\n    ${lines.join(',\n    ')}\n  ${close}`
}
