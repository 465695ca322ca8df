/**
 * The blocks of an index (docs/formats.md, "Blocks of an index"): entries in order, fences over them, directories.
 *
 * - The first byte tells kind and version: what a later version wrote is refused, never guessed.
 * - entries: for each, key (front-coded), then 0: deleted; 1: journal, block, length of a value that lies elsewhere;
 *   n: a value of n - 2 bytes, and these. Keys rise strictly.
 * - fence: level, first child, number of children, filter, and for each child the lowest text that leads to it (the
 *   first one is empty). Children are neighbours and lie before their fence, one level lower. A fence of level 1 over
 *   entries has a filter over all their keys.
 * - directory: for each entry of several steps, in order of keys: the lowest text that leads to it, one byte of its
 *   key's hash, and the block in which it lies. Its fences have no filters.
 */
import {
  indexChildrenMax,
  indexDirectoryBytesMax,
  indexEntriesBytesMax,
  indexFenceBytesMax,
  indexKeyBytesMax,
  indexLevelsMax
} from '../../config/limits.ts'
import { ByteReader, ByteWriter, readWhole, uintLength, type KeyText } from './index-bytes.ts'
import { corrupt } from './show.ts'

export const kindOf = {
  value: 0x11,
  entries: 0x12,
  fence: 0x13,
  directory: 0x14,
  step: 0x15,
  state: 0x16
} as const

/** A value that lies in a block of its own. */
export interface ValuePointer {
  /** Number of the journal. */
  readonly journal: number
  readonly block: number
  /** Bytes of the value. */
  readonly length: number
}

/** What an index keeps for a key; null: deleted. */
export type StoredValue = Uint8Array | ValuePointer | null

/** Entries in order of their keys. */
export interface Entries {
  readonly keys: readonly KeyText[]
  readonly values: readonly StoredValue[]
}

export function isPointer(value: StoredValue): value is ValuePointer {
  return value !== null && !(value instanceof Uint8Array)
}

/** Bytes of an entry in its block, at most. */
export function entryBytes(key: KeyText, value: StoredValue): number {
  return uintLength(key.length) + 1 + key.length + storedBytes(value)
}

function storedBytes(value: StoredValue): number {
  if (value === null) return 1
  if (value instanceof Uint8Array) return uintLength(value.length + 2) + value.length
  return 1 + uintLength(value.journal) + uintLength(value.block) + uintLength(value.length)
}

/** Writes one entry behind the one with key `before`. */
export function writeEntry(
  writer: ByteWriter,
  before: KeyText,
  key: KeyText,
  value: StoredValue
): void {
  writer.text(before, key)
  if (value === null) writer.byte(0)
  else if (value instanceof Uint8Array) {
    writer.uint(value.length + 2)
    writer.bytes(value)
  } else {
    writer.byte(1)
    writer.uint(value.journal)
    writer.uint(value.block)
    writer.uint(value.length)
  }
}

/** Values are views. @throws CORRUPT */
export function readEntries(reader: ByteReader): Entries {
  const keys: KeyText[] = []
  const values: StoredValue[] = []
  let before = ''
  while (reader.left > 0) {
    const key = reader.text(before, indexKeyBytesMax)
    if (keys.length > 0 && key <= before) throw corrupt('keys that do not rise')
    const kind = reader.uint()
    if (kind === 0) values.push(null)
    else if (kind === 1) {
      values.push({ journal: reader.uint(), block: reader.uint(), length: reader.uint() })
    } else values.push(reader.bytes(kind - 2))
    keys.push(key)
    before = key
  }
  return { keys, values }
}

/** @throws CORRUPT */
export function decodeEntries(bytes: Uint8Array): Entries {
  atMost(bytes.length, indexEntriesBytesMax)
  return readWhole(bytes, 'entries of an index', (reader) => {
    mustBe(reader, kindOf.entries)
    const entries = readEntries(reader)
    if (entries.keys.length === 0) throw corrupt('a block without entries')
    return entries
  })
}

/** Which of several neighbouring blocks leads to a key. */
export interface Fence {
  /** 1: over entries or directory pages; n: over fences of level n - 1. */
  readonly level: number
  /** Number of the first child. */
  readonly first: number
  /** The lowest text of each child; the first is empty. */
  readonly lowest: readonly string[]
  /** Filter over the keys of all children, or null. */
  readonly filter: Uint8Array | null
}

export function encodeFence({ level, first, lowest, filter }: Fence): Uint8Array {
  const writer = new ByteWriter()
  writer.byte(kindOf.fence)
  writer.byte(level)
  writer.uint(first)
  writer.uint(lowest.length)
  writer.uint(filter?.length ?? 0)
  if (filter) writer.bytes(filter)
  let before = ''
  for (const text of lowest) {
    writer.text(before, text)
    before = text
  }
  return writer.take()
}

/**
 * @param own the number of the fence's own block: its children lie before it
 * @throws CORRUPT
 */
export function decodeFence(bytes: Uint8Array, own: number): Fence {
  atMost(bytes.length, indexFenceBytesMax)
  return readWhole(bytes, 'fence of an index', (reader) => {
    mustBe(reader, kindOf.fence)
    const level = reader.byte()
    if (level < 1 || level > indexLevelsMax) throw corrupt(`a fence of level ${level}`)
    const first = reader.uint()
    const count = reader.count(2)
    const filterBytes = reader.uint()
    if (count === 0 || count > indexChildrenMax || first + count > own)
      throw corrupt(`${count} children from ${first} on`)
    if (filterBytes > 0 && level > 1) throw corrupt('a filter above the lowest level')
    const filter = filterBytes > 0 ? reader.bytes(filterBytes) : null
    const lowest: string[] = []
    let before = ''
    for (let child = 0; child < count; child++) {
      const text = reader.text(before, indexKeyBytesMax)
      if (child === 0 ? text !== '' : text <= before) throw corrupt('fences that do not rise')
      lowest.push(text)
      before = text
    }
    return { level, first, lowest, filter }
  })
}

/** One page of a directory: where entries of several steps lie. */
export interface Directory {
  /** The lowest text that leads to each entry. */
  readonly lowest: readonly string[]
  /** One byte of the hash of each entry's key. */
  readonly marks: readonly number[]
  /** The block in which each entry lies. */
  readonly blocks: readonly number[]
}

/** @throws CORRUPT */
export function decodeDirectory(bytes: Uint8Array, own: number): Directory {
  atMost(bytes.length, indexDirectoryBytesMax)
  return readWhole(bytes, 'directory of an index', (reader) => {
    mustBe(reader, kindOf.directory)
    const lowest: string[] = []
    const marks: number[] = []
    const blocks: number[] = []
    let before = ''
    while (reader.left > 0) {
      const text = reader.text(before, indexKeyBytesMax)
      if (lowest.length > 0 && text <= before) throw corrupt('a directory that does not rise')
      marks.push(reader.byte())
      const block = reader.uint()
      if (block >= own) throw corrupt(`an entry in block ${block}, behind its directory`)
      blocks.push(block)
      lowest.push(text)
      before = text
    }
    if (lowest.length === 0) throw corrupt('an empty directory')
    return { lowest, marks, blocks }
  })
}

/** One entry of a directory, behind the one with `before`. */
export function writeDirectoryEntry(
  writer: ByteWriter,
  before: string,
  lowest: string,
  mark: number,
  block: number
): void {
  writer.text(before, lowest)
  writer.byte(mark)
  writer.uint(block)
}

/** A large value in a block of its own. */
export function encodeValueBlock(value: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(1 + value.length)
  bytes[0] = kindOf.value
  bytes.set(value, 1)
  return bytes
}

/** The value, as a view. @throws CORRUPT when it is not the one that the pointer means */
export function decodeValueBlock(bytes: Uint8Array, length: number): Uint8Array {
  if (bytes[0] !== kindOf.value || bytes.length !== length + 1) {
    throw corrupt(`a value of ${length} bytes was due`)
  }
  return new Uint8Array(bytes.buffer, bytes.byteOffset + 1, length)
}

/** @throws CORRUPT */
export function atMost(bytes: number, max: number): void {
  if (bytes > max) throw corrupt(`a block of ${bytes} bytes`)
}

/** @throws CORRUPT */
export function mustBe(reader: ByteReader, kind: number): void {
  const found = reader.byte()
  if (found !== kind) throw corrupt(`a block of kind ${found} where ${kind} is due`)
}

/** The position of the last text that is not above `key`; -1: none. */
export function lastNotAbove(texts: readonly string[], key: string): number {
  let low = 0
  let high = texts.length
  while (low < high) {
    const middle = (low + high) >>> 1
    if ((texts[middle] as string) <= key) low = middle + 1
    else high = middle
  }
  return low - 1
}
