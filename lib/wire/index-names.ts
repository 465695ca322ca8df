/**
 * The note beside an index's anchor: cores that may lie here although the index does not consist of them.
 * For each: 0, number: a journal; 1, root hash (32), blocks: a run. It is this node's own, and never sent.
 */
import type { CoreName } from '../index-ports.ts'
import { ByteWriter, readWhole } from './index-bytes.ts'
import { corrupt } from './show.ts'

export function encodeNames(names: readonly CoreName[]): Uint8Array {
  const writer = new ByteWriter()
  for (const name of names) {
    writer.byte(name.kind === 'journal' ? 0 : 1)
    if (name.kind === 'journal') writer.uint(name.number)
    else {
      writer.bytes(name.hash)
      writer.uint(name.length)
    }
  }
  return writer.take()
}

/** @throws CORRUPT */
export function decodeNames(bytes: Uint8Array): CoreName[] {
  return readWhole(bytes, 'note of an index', (reader) => {
    const names: CoreName[] = []
    while (reader.left > 0) {
      const kind = reader.byte()
      if (kind === 0) names.push({ kind: 'journal', number: reader.uint() })
      else if (kind === 1) {
        const hash = Uint8Array.from(reader.bytes(32))
        names.push({ kind: 'run', hash, length: reader.uint() })
      } else throw corrupt(`a name of kind ${kind}`)
    }
    return names
  })
}
