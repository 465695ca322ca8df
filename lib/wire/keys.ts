/**
 * Keys as bytes, so that the order of bytes is the documented order of keys.
 *
 * - Order: bytes < string < number < bigint < boolean, element by element, the shorter array first.
 *   Strings are ordered by their UTF-8 bytes, which is the order of code points (JavaScript's `<`, by
 *   UTF-16 units, differs above U+FFFF).
 * - One key, one encoding: no two keys share one, and the decoder refuses every other form of a key.
 *   A plain string (or bytes) is the same key as the array with that one part.
 * - Each part is a tag byte and a payload that tells its own end, so no part can pose as two.
 *   0x01 bytes and 0x02 string: 0x00 inside is written 0x00 0xFF, the end is 0x00. 0x03 number: 8 bytes,
 *   IEEE 754 big-endian, all bits flipped when negative, else the sign bit. 0x04 bigint: sign byte (0 negative,
 *   1 not), length of the magnitude (2 bytes), magnitude; length and magnitude complemented when negative.
 *   0x05 boolean: one byte.
 *
 * Source: ours; the escape is that of FoundationDB's tuple layer. The whole format: docs/formats.md.
 */
import { isUtf8 } from 'node:buffer'
import { types } from 'node:util'
import { keyBytesMax } from '../../config/limits.ts'
import { KVSwarmError } from '../errors.ts'
import type { Key, KeyPart } from '../types.ts'
import { corrupt, show } from './show.ts'

const tagBytes = 0x01
const tagString = 0x02
const tagNumber = 0x03
const tagBigint = 0x04
const tagBoolean = 0x05
/** Above every tag that a part can ever have. */
const tagsEnd = 0xff
/** First byte of the partition key of a hash tag; no part has it, so no encoded key begins with it. */
const hashTagMark = 0x00

/** The shortest part takes two bytes. */
const keyPartsMax = keyBytesMax / 2

const openBrace = 0x7b
const closeBrace = 0x7d

const utf8Encoder = new TextEncoder()
// ignoreBOM: a byte order mark at the start of a string belongs to it
const utf8Decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })

/** Bounds over encoded keys: gte <= key, and key < lt. */
export interface KeyRange {
  readonly gte: Uint8Array
  readonly lt: Uint8Array
}

/**
 * The bytes of a key, at most 1,024 of them.
 * @throws KEY_INVALID when it is empty, has a part of another type, a lone surrogate or NaN
 * @throws KEY_TOO_LARGE when it is longer than keyBytesMax once encoded
 */
export function encodeKey(key: Key): Uint8Array {
  const encoded = rangeBound(key)
  if (isEmptyKey(encoded)) {
    throw new KVSwarmError('KEY_INVALID', `key is empty: ${show(key)}`, {
      hint: 'a key needs at least one character, one byte, or one part that is not empty'
    })
  }
  return encoded
}

/**
 * The key of the bytes: a plain string or plain bytes when it has one part of that type, else an array.
 * The result shares no memory with `encoded`.
 * @throws CORRUPT unless the bytes are exactly what encodeKey() makes of some key
 */
export function decodeKey(encoded: Uint8Array): Key {
  if (encoded.length > keyBytesMax) throw corrupt(`key of ${encoded.length} bytes`)
  const parts: KeyPart[] = []
  for (let at = 0; at < encoded.length;) {
    const end = partEnd(encoded, at)
    if (end === -1) throw corrupt(`key with a broken part at byte ${at}`)
    parts.push(decodePart(encoded, at, end))
    at = end
  }
  if (isEmptyKey(encoded)) throw corrupt('empty key')
  const [first] = parts
  if (parts.length === 1 && (typeof first === 'string' || first instanceof Uint8Array)) return first
  return parts
}

/** True when the bytes are exactly what encodeKey() makes of some key; decodeKey() then succeeds. */
export function isEncodedKey(encoded: Uint8Array): boolean {
  if (encoded.length > keyBytesMax || isEmptyKey(encoded)) return false
  for (let at = 0; at < encoded.length;) {
    at = partEnd(encoded, at)
    if (at === -1) return false
  }
  return true
}

/**
 * What decides the address of a key: the whole encoded key, unless a string part has a hash tag `{...}`
 * with something inside (the part's first `{`, and the first `}` after it). The first string part that has
 * one counts, a tag never spans parts; the partition key then is a 0x00 and the tag's UTF-8 bytes,
 * without the braces. No encoded key begins with 0x00, so a tag never meets a whole key.
 *
 * @param encoded an encoded key; returned itself when it has no tag
 * @throws CORRUPT when it is not an encoded key and looks as if it had a tag
 */
export function partitionKeyOf(encoded: Uint8Array): Uint8Array {
  if (!encoded.includes(openBrace)) return encoded
  for (let at = 0; at < encoded.length;) {
    const end = partEnd(encoded, at)
    if (end === -1) throw corrupt(`key with a broken part at byte ${at}`)
    if (encoded[at] === tagString) {
      const text = unescape(encoded, at + 1, end - 1)
      const open = text.indexOf(openBrace)
      const close = open === -1 ? -1 : text.indexOf(closeBrace, open + 1)
      if (close > open + 1) {
        const tag = new Uint8Array(close - open)
        tag[0] = hashTagMark
        tag.set(text.subarray(open + 1, close), 1)
        return tag
      }
    }
    at = end
  }
  return encoded
}

/**
 * The keys that a prefix matches.
 *
 * - A string: every key whose first part is a string that begins with it, arrays with more parts included.
 *   `''` therefore matches every key that begins with a string.
 * - Bytes: the same for keys whose first part is bytes.
 * - An array: every key that begins with these parts and has at least one more, as in Deno KV: the key that
 *   consists of the prefix alone is not matched. `[]` matches every key.
 *
 * So `'users'` and `['users']`, though the same key, differ as prefixes: the first also matches
 * `'users2'` and `'users'`, the second only what lies below `users`.
 *
 * @throws KEY_INVALID, KEY_TOO_LARGE as encodeKey(); an empty prefix is allowed
 */
export function prefixRange(prefix: Key): KeyRange {
  if (Array.isArray(prefix)) {
    const parts = rangeBound(prefix)
    return { gte: append(parts, tagBytes), lt: append(parts, tagsEnd) }
  }
  const whole = rangeBound(prefix)
  const gte = whole.slice(0, -1) // without the end of the part
  let last = gte.length - 1
  // 0xFF is only ever the second half of an escape; the tag byte below it stops the loop
  while (gte[last] === 0xff) last--
  const lt = gte.slice(0, last + 1)
  lt[last] = (lt[last] ?? 0) + 1
  return { gte, lt }
}

/**
 * A key as the start or end of a range. Unlike encodeKey() it takes empty keys: `''` stands before every
 * key that begins with a string, `[]` before every key.
 * @throws KEY_INVALID, KEY_TOO_LARGE
 */
export function rangeBound(key: Key): Uint8Array {
  const writer = new KeyWriter(key)
  for (const part of partsOf(key, writer)) writer.part(part)
  return writer.bytes()
}

/** A copy of the parts, so that nothing runs or changes while they are written. */
function partsOf(key: unknown, writer: KeyWriter): readonly unknown[] {
  if (typeof key === 'string' || types.isUint8Array(key)) return [key]
  if (!Array.isArray(key)) throw writer.invalid(`key is ${describe(key)}`)
  if (key.length > keyPartsMax) throw writer.tooLarge()
  return Array.from(key as readonly unknown[])
}

/** Shared by all writers, which never overlap: encoding a key runs no code of anyone else. */
const scratch = new Uint8Array(keyBytesMax)
const scratchView = new DataView(scratch.buffer)

/** Writes the parts of one key into the scratch buffer and refuses what does not fit. */
class KeyWriter {
  readonly #key: unknown
  #at = 0

  constructor(key: unknown) {
    this.#key = key
  }

  bytes(): Uint8Array {
    return scratch.slice(0, this.#at)
  }

  part(part: unknown): void {
    if (typeof part === 'string') {
      if (!part.isWellFormed()) throw this.invalid(`key has a lone surrogate in ${show(part)}`)
      // each UTF-16 unit takes at least one byte: no need to encode megabytes to find them too many
      if (part.length > keyBytesMax) throw this.tooLarge()
      this.#escaped(tagString, utf8Encoder.encode(part))
    } else if (types.isUint8Array(part)) this.#escaped(tagBytes, part)
    else if (typeof part === 'number') this.#number(part)
    else if (typeof part === 'bigint') this.#bigint(part)
    else if (typeof part === 'boolean') {
      this.#reserve(2)
      this.#byte(tagBoolean)
      this.#byte(part ? 1 : 0)
    } else throw this.invalid(`key has a part that is ${describe(part)}`)
  }

  #escaped(tag: number, payload: Uint8Array): void {
    this.#reserve(payload.length + 2)
    this.#byte(tag)
    let from = 0
    for (let zero = payload.indexOf(0); zero !== -1; zero = payload.indexOf(0, from)) {
      this.#reserve(payload.length - from + 2)
      this.#raw(payload.subarray(from, zero + 1))
      this.#byte(0xff)
      from = zero + 1
    }
    this.#reserve(payload.length - from + 1)
    this.#raw(payload.subarray(from))
    this.#byte(0)
  }

  #number(value: number): void {
    if (Number.isNaN(value)) throw this.invalid('key has a part that is NaN, which has no order')
    this.#reserve(9)
    this.#byte(tagNumber)
    // -0 and 0 are equal, so they are one key
    scratchView.setFloat64(this.#at, value === 0 ? 0 : value)
    const flip = value < 0 ? 0xff : 0
    for (let i = 0; i < 8; i++) {
      const byte = scratch[this.#at] ?? 0
      this.#byte(flip === 0 && i === 0 ? byte ^ 0x80 : byte ^ flip)
    }
  }

  #bigint(value: bigint): void {
    const magnitude = magnitudeOf(value < 0n ? -value : value)
    this.#reserve(magnitude.length + 4)
    const flip = value < 0n ? 0xff : 0
    this.#byte(tagBigint)
    this.#byte(value < 0n ? 0 : 1)
    this.#byte((magnitude.length >>> 8) ^ flip)
    this.#byte((magnitude.length & 0xff) ^ flip)
    for (const byte of magnitude) this.#byte(byte ^ flip)
  }

  #byte(byte: number): void {
    scratch[this.#at++] = byte
  }

  #raw(bytes: Uint8Array): void {
    scratch.set(bytes, this.#at)
    this.#at += bytes.length
  }

  #reserve(bytes: number): void {
    if (this.#at + bytes > keyBytesMax) throw this.tooLarge()
  }

  tooLarge(): KVSwarmError {
    const message = `key is longer than ${keyBytesMax} bytes once encoded: ${show(this.#key)}`
    return new KVSwarmError('KEY_TOO_LARGE', message, {
      hint: `shorten it to ${keyBytesMax} bytes (UTF-8, and 2 bytes for each string or bytes part), or use its hash`
    })
  }

  invalid(message: string): KVSwarmError {
    return new KVSwarmError('KEY_INVALID', message, {
      hint: 'use a string, bytes, or an array of strings, bytes, numbers, bigints and booleans'
    })
  }
}

/** Nothing at all, or one empty string, or one empty bytes part. */
function isEmptyKey(encoded: Uint8Array): boolean {
  if (encoded.length === 0) return true
  return (
    encoded.length === 2 &&
    encoded[1] === 0 &&
    (encoded[0] === tagBytes || encoded[0] === tagString)
  )
}

/** Where the part that begins at `at` ends, or -1 when there is no canonical part. */
function partEnd(encoded: Uint8Array, at: number): number {
  switch (encoded[at]) {
    case tagBytes:
      return escapedEnd(encoded, at + 1)
    case tagString: {
      const end = escapedEnd(encoded, at + 1)
      return end !== -1 && isUtf8(unescape(encoded, at + 1, end - 1)) ? end : -1
    }
    case tagNumber: {
      const end = at + 9
      return end <= encoded.length && isCanonicalNumber(readNumber(encoded, at + 1)) ? end : -1
    }
    case tagBigint:
      return bigintEnd(encoded, at + 1)
    case tagBoolean:
      return (encoded[at + 1] ?? 2) <= 1 ? at + 2 : -1
    default:
      return -1
  }
}

/** Behind the 0x00 that ends an escaped payload, or -1. */
function escapedEnd(encoded: Uint8Array, from: number): number {
  let zero = encoded.indexOf(0, from)
  while (zero !== -1 && encoded[zero + 1] === 0xff) zero = encoded.indexOf(0, zero + 2)
  return zero === -1 ? -1 : zero + 1
}

/** The payload [from, to) without its escapes; a view of `encoded` when it has none. */
function unescape(encoded: Uint8Array, from: number, to: number): Uint8Array {
  const payload = encoded.subarray(from, to)
  if (!payload.includes(0)) return payload
  const plain = new Uint8Array(payload.length)
  let length = 0
  for (let i = 0; i < payload.length; i++) {
    const byte = payload[i] ?? 0
    plain[length++] = byte
    if (byte === 0) i++ // its 0xFF
  }
  return plain.subarray(0, length)
}

/** -0 is stored as 0, and NaN never. */
function isCanonicalNumber(value: number): boolean {
  return !Number.isNaN(value) && !Object.is(value, -0)
}

function readNumber(encoded: Uint8Array, at: number): number {
  const bits = new DataView(encoded.buffer, encoded.byteOffset + at, 8).getBigUint64(0)
  const negative = bits < 1n << 63n
  const plain = new DataView(new ArrayBuffer(8))
  plain.setBigUint64(0, negative ? ~bits : bits ^ (1n << 63n))
  return plain.getFloat64(0)
}

/** Behind a bigint whose sign byte is at `at`, or -1 when cut short or not minimal. */
function bigintEnd(encoded: Uint8Array, at: number): number {
  const sign = encoded[at]
  if (sign === undefined || sign > 1 || at + 3 > encoded.length) return -1
  const length = bigintLength(encoded, at)
  const end = at + 3 + length
  if (end > encoded.length) return -1
  // zero has no magnitude and no negative; a magnitude has no leading zero byte
  if (length === 0) return sign === 1 ? end : -1
  return encoded[at + 3] === (sign === 0 ? 0xff : 0) ? -1 : end
}

function bigintLength(encoded: Uint8Array, at: number): number {
  const flip = encoded[at] === 0 ? 0xff : 0
  return (((encoded[at + 1] ?? 0) ^ flip) << 8) | ((encoded[at + 2] ?? 0) ^ flip)
}

/** The value of a part that partEnd() has accepted. */
function decodePart(encoded: Uint8Array, at: number, end: number): KeyPart {
  switch (encoded[at]) {
    case tagBytes:
      return new Uint8Array(unescape(encoded, at + 1, end - 1))
    case tagString:
      return utf8Decoder.decode(unescape(encoded, at + 1, end - 1))
    case tagNumber:
      return readNumber(encoded, at + 1)
    case tagBigint: {
      const negative = encoded[at + 1] === 0
      const magnitude = new Uint8Array(encoded.subarray(at + 4, end)) // a copy: Buffer's slice() is none
      if (negative) for (const [i, byte] of magnitude.entries()) magnitude[i] = byte ^ 0xff
      const value = bigintOf(magnitude)
      return negative ? -value : value
    }
    default:
      return encoded[at + 1] === 1
  }
}

/** A bigint (not negative) as its shortest big-endian bytes; zero has none. */
export function magnitudeOf(value: bigint): Uint8Array {
  if (value === 0n) return new Uint8Array(0)
  const digits = value.toString(16)
  return new Uint8Array(Buffer.from(digits.length % 2 === 0 ? digits : `0${digits}`, 'hex'))
}

/** The bigint of big-endian bytes. */
export function bigintOf(magnitude: Uint8Array): bigint {
  if (magnitude.length === 0) return 0n
  return BigInt(
    `0x${Buffer.from(magnitude.buffer, magnitude.byteOffset, magnitude.length).toString('hex')}`
  )
}

function append(bytes: Uint8Array, byte: number): Uint8Array {
  const longer = new Uint8Array(bytes.length + 1)
  longer.set(bytes)
  longer[bytes.length] = byte
  return longer
}

function describe(value: unknown): string {
  return value === null || value === undefined ? String(value) : `${typeof value} ${show(value)}`
}
