/**
 * The last block of each append to a journal of an index: what was appended, and what the journal is made of.
 *
 * Bytes: kind, own number - number of the append's first block, blocks of large values, blocks of entries, [entries in
 * this block itself: length and, when there are no blocks of them, they], number of sources, and each of them, the
 * newest first: kind (0 small, 1 fence, 2 directory), own number - its block, entries; of a small one the tags.
 *
 * - An append is: large values, entries, fences and directories, this block. So whoever has this block can walk back.
 * - A source is a part of the journal with each key at most once: a step whose entries are in its last block (small), a
 *   step under a fence, or several steps under a directory. What a newer one says of a key holds.
 */
import {
  indexEntriesBytesMax,
  indexSourcesMax,
  indexStepBlocksMax,
  indexStepBytesMax
} from '../../config/limits.ts'
import { ByteWriter, readWhole, type ByteReader } from './index-bytes.ts'
import { atMost, kindOf, mustBe, readEntries, writeEntry, type Entries } from './index-blocks.ts'
import { corrupt } from './show.ts'

const sourceKinds = ['small', 'fence', 'directory'] as const

export interface StepSource {
  readonly kind: (typeof sourceKinds)[number]
  /** small: the step's last block; else the topmost fence or the only page. */
  readonly block: number
  /** How many entries. */
  readonly count: number
  /** small: two bytes of each key's hash; empty for the step that tells it, whose entries are beside. */
  readonly tags: readonly number[]
}

export interface Step {
  /** Number of the first block of the append. */
  readonly first: number
  /** Blocks of large values, from `first` on. */
  readonly values: number
  /** Blocks of entries, behind them. */
  readonly data: number
  /** The entries, when there are no blocks of them. */
  readonly inline: Entries | null
  /** The newest first. */
  readonly sources: readonly StepSource[]
}

/** @param own the number that the block will have */
export function encodeStep(step: Step, own: number): Uint8Array {
  const writer = new ByteWriter()
  writer.byte(kindOf.step)
  writer.uint(own - step.first)
  writer.uint(step.values)
  writer.uint(step.data)
  if (step.data === 0) {
    const inline = new ByteWriter()
    let before = ''
    for (const [at, key] of (step.inline?.keys ?? []).entries()) {
      writeEntry(inline, before, key, step.inline?.values[at] ?? null)
      before = key
    }
    const bytes = inline.take()
    writer.uint(bytes.length)
    writer.bytes(bytes)
  }
  writer.uint(step.sources.length)
  for (const { kind, block, count, tags } of step.sources) {
    writer.byte(sourceKinds.indexOf(kind))
    writer.uint(own - block)
    writer.uint(count)
    if (kind !== 'small' || block === own) continue
    for (const tag of tags) writer.uint16(tag)
  }
  return writer.take()
}

/** @param own the block's number. @throws CORRUPT */
export function decodeStep(bytes: Uint8Array, own: number): Step {
  atMost(bytes.length, indexStepBytesMax)
  return readWhole(bytes, 'step of an index', (reader) => {
    mustBe(reader, kindOf.step)
    const back = (distance: number): number => {
      if (distance > own) throw corrupt(`${distance} blocks before block ${own}`)
      return own - distance
    }
    const first = back(reader.uint())
    const values = reader.uint()
    const data = reader.uint()
    if (Math.max(values, data) > indexStepBlocksMax || first + values + data > own)
      throw corrupt(`${values + data} blocks from ${first} on`)
    const inline =
      data > 0
        ? null
        : readWhole(reader.bytes(inlineLength(reader)), 'entries of a step', readEntries)
    const sources: StepSource[] = []
    const number = reader.count(3)
    if (number > indexSourcesMax) throw corrupt(`${number} sources`)
    let before = Infinity
    for (let at = 0; at < number; at++) {
      const kind = sourceKinds[reader.byte()]
      if (kind === undefined) throw corrupt('a source of a kind that is not known')
      const block = back(reader.uint())
      if (block >= before) throw corrupt('sources that are not in order')
      before = block
      const count = reader.uint()
      if (count === 0) throw corrupt('an empty source')
      const tags: number[] = []
      if (kind === 'small' && block !== own) {
        if (count * 2 > reader.left) throw corrupt(`${count} tags in ${reader.left} bytes`)
        for (let tag = 0; tag < count; tag++) tags.push(reader.uint16())
      }
      sources.push({ kind, block, count, tags })
    }
    return { first, values, data, inline, sources }
  })
}

function inlineLength(reader: ByteReader): number {
  const length = reader.uint()
  atMost(length, indexEntriesBytesMax)
  return length
}
