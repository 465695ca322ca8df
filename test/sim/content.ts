/**
 * What a simulated index holds, read from its records as any reader would.
 */
import type { IndexChange } from '../../lib/ports.ts'
import type { NodeId, Position, Versionstamp } from '../../lib/types.ts'
import {
  decodeCursor,
  decodeEntry,
  decodeIndexState,
  parseIndexKey,
  type IndexState
} from '../../lib/wire/records.ts'

export class Content {
  state: IndexState | null = null
  cursors: ReadonlyMap<NodeId, Position> = new Map()
  cutOffs: ReadonlyMap<NodeId, Position> = new Map()
  /** Versionstamps by key. Shared with what follows, which only adds to it. */
  entries: Map<string, Versionstamp> = new Map()
  /** Entries that were there already when they were put. */
  rewritten = 0
  #records = new Map<string, IndexChange>()

  /** The content behind one more append. */
  with(changes: readonly IndexChange[]): Content {
    const next = new Content()
    next.state = this.state
    next.cursors = this.cursors
    next.cutOffs = this.cutOffs
    next.entries = this.entries
    next.#records = this.#records
    next.apply(changes)
    return next
  }

  apply(changes: readonly IndexChange[]): void {
    for (const change of changes) this.#applyOne(change)
  }

  /** All records but the state. */
  copied(): IndexChange[] {
    return [...this.#records.values()]
  }

  #applyOne(change: IndexChange): void {
    const { key, value } = change
    const parsed = parseIndexKey(key)
    const name = nameOf(key)
    if (parsed.type === 'state') {
      if (value) this.state = decodeIndexState(value)
      return
    }
    if (value === null) this.#records.delete(name)
    else this.#records.set(name, change)
    if (parsed.type === 'cursor') this.cursors = changed(this.cursors, parsed.writer, value)
    else if (parsed.type === 'cutOff') this.cutOffs = changed(this.cutOffs, parsed.writer, value)
    else if (parsed.type === 'data' && value) {
      if (this.entries.has(name)) this.rewritten++
      this.entries.set(name, decodeEntry(key, value).versionstamp)
    }
  }
}

export function nameOf(key: Uint8Array): string {
  return Buffer.from(key.buffer, key.byteOffset, key.byteLength).toString('latin1')
}

function changed(
  positions: ReadonlyMap<NodeId, Position>,
  writer: NodeId,
  value: Uint8Array | null
): ReadonlyMap<NodeId, Position> {
  const next = new Map(positions)
  if (value === null) next.delete(writer)
  else next.set(writer, decodeCursor(value))
  return next
}
