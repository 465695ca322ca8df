/**
 * The blocks of an index's anchor: of which cores the index consists from then on.
 *
 * Bytes: kind, what happened (0 began, 1 journal, 2 flushed, 3 merged, 4 dropped), journals, each: number, base, length
 * (0 for the last one, which grows), runs, each: key of its content (32), blocks, entries, bytes, its topmost fence
 * (without bytes when it is large: it is the run's last block); kept journals, each: number, base, blocks, bytes of large values, those that nobody points to any more.
 *
 * - Journals rise in number and in base; the base of one is the base of the one before and its length.
 * - The newest journal comes before the older ones, they before the runs, and these are told newest first: what a newer
 *   one says of a key holds.
 * - A kept journal is in a run already, but for its large values, which runs point to. Together with the others it
 *   tells what changed lately.
 */
import {
  indexBlocksMax,
  indexCoreBlocksMax,
  indexJournalsMax,
  indexKeptMax,
  indexRunsMax,
  indexTopBytesMax
} from '../../config/limits.ts'
import { ByteWriter, readWhole, type ByteReader } from './index-bytes.ts'
import { kindOf, mustBe } from './index-blocks.ts'
import { corrupt } from './show.ts'

/** What a block of the anchor tells of: how the index came from the state before to this one. */
export type StateEvent = 'began' | 'journal' | 'flushed' | 'merged' | 'dropped'
const events: readonly StateEvent[] = ['began', 'journal', 'flushed', 'merged', 'dropped']

/** A journal that is part of the index. */
export interface JournalState {
  readonly number: number
  /** Blocks of all journals before it: heads count through. */
  readonly base: number
  /** Its blocks; 0 for the newest, which grows. */
  readonly length: number
}

/** A run: a core of sorted entries that never changes. */
export interface RunState {
  /** Root hash of its blocks, which its core's key follows from. */
  readonly hash: Uint8Array
  /** Blocks. */
  readonly length: number
  readonly entries: number
  /** Bytes of its blocks of entries. */
  readonly bytes: number
  /** Its topmost fence, encoded: block `length` - 1; empty when it is too large to be told. */
  readonly top: Uint8Array
}

/** A journal that is in a run, kept for its large values, or as history for who follows. */
export interface KeptState {
  readonly number: number
  readonly base: number
  readonly length: number
  /** Bytes of its large values. */
  readonly bytes: number
  /** Of these, how many belong to no entry any more. */
  readonly dead: number
}

export interface IndexLayout {
  readonly event: StateEvent
  /** Oldest first; the last one grows. */
  readonly journals: readonly JournalState[]
  /** Newest first. */
  readonly runs: readonly RunState[]
  readonly kept: readonly KeptState[]
}

export function encodeLayout({ event, journals, runs, kept }: IndexLayout): Uint8Array {
  const writer = new ByteWriter()
  writer.byte(kindOf.state)
  writer.byte(events.indexOf(event))
  writer.uint(journals.length)
  for (const { number, base, length } of journals) {
    for (const value of [number, base, length]) writer.uint(value)
  }
  writer.uint(runs.length)
  for (const { hash, length, entries, bytes, top } of runs) {
    writer.bytes(hash)
    for (const value of [length, entries, bytes, top.length]) writer.uint(value)
    writer.bytes(top)
  }
  writer.uint(kept.length)
  for (const { number, base, length, bytes, dead } of kept) {
    for (const value of [number, base, length, bytes, dead]) writer.uint(value)
  }
  return writer.take()
}

/** @throws CORRUPT */
export function decodeLayout(bytes: Uint8Array): IndexLayout {
  return readWhole(bytes, 'state of an index', (reader) => {
    mustBe(reader, kindOf.state)
    const event = events[reader.byte()]
    if (event === undefined) throw corrupt('an event that is not known')
    return { event, journals: readJournals(reader), runs: readRuns(reader), kept: readKept(reader) }
  })
}

function readJournals(reader: ByteReader): JournalState[] {
  const journals: JournalState[] = []
  const count = bounded(reader.count(3), indexJournalsMax, 'journals')
  if (count === 0) throw corrupt('no journal')
  for (let at = 0; at < count; at++) {
    const journal = { number: reader.uint(), base: reader.uint(), length: reader.uint() }
    bounded(journal.base, indexBlocksMax, 'blocks')
    bounded(journal.length, indexCoreBlocksMax, 'blocks')
    const before = journals.at(-1)
    if (before && journal.number <= before.number) throw corrupt('journals that do not rise')
    if (before && journal.base !== before.base + before.length) throw corrupt('a gap of journals')
    if ((at === count - 1) !== (journal.length === 0)) throw corrupt('a journal of this length')
    journals.push(journal)
  }
  return journals
}

function readRuns(reader: ByteReader): RunState[] {
  const runs: RunState[] = []
  const count = bounded(reader.count(37), indexRunsMax, 'runs')
  for (let at = 0; at < count; at++) {
    const hash = Uint8Array.from(reader.bytes(32))
    const [length, entries, bytes] = [reader.uint(), reader.uint(), reader.uint()]
    const top = Uint8Array.from(reader.bytes(bounded(reader.uint(), indexTopBytesMax, 'bytes')))
    if (length < 2 || entries === 0) throw corrupt(`a run of ${length} blocks`)
    bounded(length, indexCoreBlocksMax, 'blocks')
    runs.push({ hash, length, entries, bytes, top })
  }
  return runs
}

function readKept(reader: ByteReader): KeptState[] {
  const kept: KeptState[] = []
  const count = bounded(reader.count(5), indexKeptMax, 'kept journals')
  for (let at = 0; at < count; at++) {
    const number = reader.uint()
    const base = reader.uint()
    const [length, bytes, dead] = [reader.uint(), reader.uint(), reader.uint()]
    bounded(base, indexBlocksMax, 'blocks')
    bounded(length, indexCoreBlocksMax, 'blocks')
    if (number <= (kept.at(-1)?.number ?? -1)) throw corrupt('kept journals that do not rise')
    if (dead > bytes) throw corrupt(`${dead} bytes of ${bytes}`)
    kept.push({ number, base, length, bytes, dead })
  }
  return kept
}

function bounded(value: number, max: number, what: string): number {
  if (value > max) throw corrupt(`${value} ${what}`)
  return value
}
