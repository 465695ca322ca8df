/**
 * Values as bytes: what is put is what is got.
 *
 * - First byte the tag: 0x00 bytes, 0x01 a string as UTF-8, 0x02 a structured value as CBOR (cbor-writer.ts),
 *   0x03 and 0x04 counters of 64 bits, without and with sign, big-endian.
 * - Buffers and other Uint8Arrays come back as Uint8Array. Encoding copies: later changes of the value do not show.
 * - A value is at most valueBytesMax bytes, its tag included.
 */
import { isUtf8 } from 'node:buffer'
import { types } from 'node:util'
import { valueBytesMax } from '../../config/limits.ts'
import { KVSwarmError } from '../errors.ts'
import type { Value } from '../types.ts'
import { readCbor } from './cbor-reader.ts'
import { CborWriter, invalidValue, isPlainObject, valueTooLarge } from './cbor-writer.ts'
import { corrupt, show } from './show.ts'

/**
 * Which values are taken and given.
 *
 * - `any`: everything, each as what it was.
 * - `binary`: bytes only. A string that was stored by somebody else is read as its UTF-8 bytes.
 * - `utf-8`: strings only. Bytes that were stored by somebody else are read as a string, when they are UTF-8.
 * - `json`: what JSON can say (strings, finite numbers, booleans, null, arrays, plain objects), stored as with
 *   `any`, so that others read it as well.
 */
export type ValueEncoding = 'any' | 'binary' | 'utf-8' | 'json'

/** The counters: without a sign (64 bits), or with. */
export type CounterType = 'u64' | 'i64'

const tagBytes = 0x00
const tagString = 0x01
const tagStructured = 0x02
const counterTags = { u64: 0x03, i64: 0x04 } as const
const counterBytes = 9

/**
 * The bytes of a value, at most 8 MiB.
 * @throws VALUE_INVALID when it, or something in it, could not be given back as it is, or is not of `encoding`
 * @throws VALUE_TOO_LARGE
 */
export function encodeValue(value: Value, encoding: ValueEncoding = 'any'): Uint8Array {
  refuseOther(value, encoding)
  if (types.isUint8Array(value)) {
    if (value.length >= valueBytesMax) throw valueTooLarge(valueBytesMax)
    const encoded = new Uint8Array(value.length + 1)
    encoded[0] = tagBytes
    encoded.set(value, 1)
    return encoded
  }
  if (typeof value === 'string') return encodeString(value)
  const writer = new CborWriter(valueBytesMax)
  writer.byte(tagStructured)
  writer.value(value)
  const encoded = writer.bytes()
  if (encoded.length > valueBytesMax) throw valueTooLarge(valueBytesMax)
  if (encoding === 'json') {
    // after writing, which has found any cycle
    const other = findNotJson(value)
    if (other !== null) {
      throw invalidValue(
        `JSON has no ${show(other.found)}`,
        "leave it out, or use valueEncoding 'any'"
      )
    }
  }
  return encoded
}

/**
 * The value of the bytes; it shares no memory with them. A counter is a bigint.
 * @throws CORRUPT when the bytes are no encoded value
 * @throws VALUE_INVALID when the value is none that `encoding` has
 */
export function decodeValue(bytes: Uint8Array, encoding: ValueEncoding = 'any'): Value {
  if (bytes.length > valueBytesMax) throw corrupt(`value of ${bytes.length} bytes`)
  switch (bytes[0]) {
    case tagBytes:
      if (encoding === 'utf-8' && isUtf8(bytes.subarray(1))) return decodeString(bytes)
      if (encoding === 'utf-8' || encoding === 'json') throw otherStored('bytes', encoding)
      return new Uint8Array(bytes.subarray(1))
    case tagString:
      if (!isUtf8(bytes.subarray(1))) throw corrupt('string value that is not UTF-8')
      return encoding === 'binary' ? new Uint8Array(bytes.subarray(1)) : decodeString(bytes)
    case tagStructured: {
      const value = readCbor(bytes, 1) as Value
      // each has a tag of its own, and no value has two forms
      if (typeof value === 'string' || types.isUint8Array(value)) {
        throw corrupt('string or bytes alone as a structured value')
      }
      const json = encoding === 'json' && findNotJson(value) === null
      if (encoding !== 'any' && !json) throw otherStored(show(value), encoding)
      return value
    }
    case counterTags.u64:
    case counterTags.i64: {
      const counter = decodeCounter(bytes).value
      if (encoding !== 'any') throw otherStored('a counter', encoding)
      return counter
    }
    default:
      throw corrupt(bytes.length === 0 ? 'empty value' : `value with tag ${bytes[0]}`)
  }
}

/**
 * True when the bytes are a value as far as that can be told at a glance: within the limit, a known tag, UTF-8,
 * a counter of the right size. What is inside a structured value is found out by decodeValue().
 */
export function isEncodedValue(bytes: Uint8Array): boolean {
  if (bytes.length > valueBytesMax) return false
  switch (bytes[0]) {
    case tagBytes:
      return true
    case tagString:
      return isUtf8(bytes.subarray(1))
    case tagStructured:
      return bytes.length > 1
    default:
      return isCounter(bytes)
  }
}

/** True when the bytes are an encoded counter. */
export function isCounter(bytes: Uint8Array): boolean {
  const known = bytes[0] === counterTags.u64 || bytes[0] === counterTags.i64
  return known && bytes.length === counterBytes
}

/** @throws VALUE_INVALID when the number does not fit its 64 bits */
export function encodeCounter(type: CounterType, value: bigint): Uint8Array {
  const fits = type === 'u64' ? BigInt.asUintN(64, value) : BigInt.asIntN(64, value)
  if (fits !== value) {
    throw invalidValue(`${show(value)} is no ${type}`, 'a counter has 64 bits')
  }
  const encoded = new Uint8Array(counterBytes)
  encoded[0] = counterTags[type]
  new DataView(encoded.buffer).setBigUint64(1, BigInt.asUintN(64, value))
  return encoded
}

/** @throws CORRUPT when the bytes are no counter */
export function decodeCounter(bytes: Uint8Array): { type: CounterType; value: bigint } {
  if (!isCounter(bytes)) throw corrupt('counter of another form')
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length)
  return bytes[0] === counterTags.u64
    ? { type: 'u64', value: view.getBigUint64(1) }
    : { type: 'i64', value: view.getBigInt64(1) }
}

function encodeString(text: string): Uint8Array {
  if (!text.isWellFormed()) {
    throw invalidValue(`string has a lone surrogate: ${show(text)}`, 'store its bytes instead')
  }
  // each UTF-16 unit takes at least one byte: no need to count those of a string that is far too long
  const length = text.length >= valueBytesMax ? text.length : Buffer.byteLength(text)
  if (length >= valueBytesMax) throw valueTooLarge(valueBytesMax)
  const encoded = new Uint8Array(length + 1)
  encoded[0] = tagString
  new TextEncoder().encodeInto(text, encoded.subarray(1))
  return encoded
}

function decodeString(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset + 1, bytes.length - 1).toString('utf8')
}

/** What an encoding does not take at all; what is inside a JSON value is looked at later. */
function refuseOther(value: unknown, encoding: ValueEncoding): void {
  if (encoding === 'binary' && !types.isUint8Array(value)) {
    throw invalidValue(
      `${show(value)} is not bytes`,
      "give a Uint8Array, or use valueEncoding 'any'"
    )
  }
  if (encoding === 'utf-8' && typeof value !== 'string') {
    throw invalidValue(
      `${show(value)} is not a string`,
      "give a string, or use valueEncoding 'any'"
    )
  }
  if (encoding === 'json' && types.isUint8Array(value)) {
    throw invalidValue(`JSON has no ${show(value)}`, "leave it out, or use valueEncoding 'any'")
  }
}

/** The first part of a value that JSON cannot say; the value is a tree of bounded depth. */
function findNotJson(value: unknown): { found: unknown } | null {
  if (value === null || typeof value === 'string' || typeof value === 'boolean') return null
  if (typeof value === 'number' && Number.isFinite(value)) return null
  if (typeof value !== 'object' || !(Array.isArray(value) || isPlainObject(value))) {
    return { found: value }
  }
  const parts: unknown[] = Array.isArray(value) ? value : Object.values(value)
  for (const part of parts) {
    const other = findNotJson(part)
    if (other !== null) return other
  }
  return null
}

function otherStored(what: string, encoding: ValueEncoding): KVSwarmError {
  return new KVSwarmError(
    'VALUE_INVALID',
    `the stored value is ${what}, which is not ${encoding}`,
    {
      hint: "read it with valueEncoding 'any'"
    }
  )
}
