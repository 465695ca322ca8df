/**
 * What one outbox holds that has no receipt yet: bytes and blocks, known at once and without reading the log.
 *
 * Invariants: nothing is counted twice, and nothing longer than until its last block is applied; flushes that
 * share a block count its bytes each and the block once. What was on disk at the start is counted as one whole
 * (`found`), which the writer measures anew as it shrinks.
 */
import { backlogEntriesMax } from '../../config/limits.ts'
import { comparePositions, reaches } from '../protocol/positions.ts'
import type { FlushPart, Position } from '../types.ts'

interface Entry {
  /** Its last block's end. */
  end: Position
  bytes: number
  blocks: number
}

export class Backlog {
  /** What was there at the start; null: nothing is left of it. */
  #found: Entry | null = null
  #entries: Entry[] = []
  #applied: Position | null = null
  #end: Position | null = null
  #bytes = 0
  #blocks = 0

  get bytes(): number {
    return this.#bytes + (this.#found?.bytes ?? 0)
  }

  get blocks(): number {
    return this.#blocks + (this.#found?.blocks ?? 0)
  }

  /** Where what was found at the start ends; null when all of it is applied. */
  get found(): Position | null {
    return this.#found?.end ?? null
  }

  /** What was found at the start, up to `end`, now measures so much. */
  measured(end: Position, bytes: number, blocks: number): void {
    this.#found = reaches(this.#applied, end) || blocks === 0 ? null : { end, bytes, blocks }
  }

  /** Bytes and blocks of what was appended here since the start. */
  get own(): { readonly bytes: number; readonly blocks: number } {
    return { bytes: this.#bytes, blocks: this.#blocks }
  }

  /** A part of a flush was appended. */
  add({ generation, from, to }: FlushPart, bytes: number): void {
    const end: Position = { generation, length: to }
    const before = this.#end?.generation === generation ? this.#end.length : 0
    const blocks = Math.max(0, to - Math.max(from, before))
    if (this.#end === null || comparePositions(end, this.#end) > 0) this.#end = end
    if (reaches(this.#applied, end)) return
    this.#bytes += bytes
    this.#blocks += blocks
    const last = this.#entries.at(-1)
    const same = last !== undefined && comparePositions(last.end, end) >= 0
    if (last && (same || this.#entries.length >= backlogEntriesMax)) {
      last.bytes += bytes
      last.blocks += blocks
      if (!same) last.end = end
    } else {
      this.#entries.push({ end, bytes, blocks })
    }
  }

  /** Everything up to here is applied, and its receipt can be had. */
  applied(position: Position): void {
    if (reaches(this.#applied, position)) return
    this.#applied = position
    if (this.#found && reaches(position, this.#found.end)) this.#found = null
    const first = this.#entries.findIndex(({ end }) => !reaches(position, end))
    const gone = first === -1 ? this.#entries : this.#entries.slice(0, first)
    this.#entries = first === -1 ? [] : this.#entries.slice(first)
    for (const { bytes, blocks } of gone) {
      this.#bytes -= bytes
      this.#blocks -= blocks
    }
  }
}
