/**
 * Structured values as CBOR (RFC 8949), so that what is put is what is got.
 *
 * - One value, one form: shortest heads, definite lengths. Integers from -2^32 to 2^32 - 1 are CBOR integers (but -0),
 *   all other numbers 64-bit floats, so that number and bigint stay apart: a bigint is always tag 2 or 3.
 * - Tags: 1 Date (seconds), 2 and 3 bigint, 27 [name, ...arguments] for RegExp, DataView and ArrayBuffer, 68 to 86
 *   typed arrays (RFC 8746, little-endian), 258 Set, 259 Map. A plain object is a map without a tag, and its keys
 *   are text; Uint8Array is a byte string without one.
 * - What would come back as something else is refused: functions, symbols, instances of classes, holes in
 *   arrays, lone surrogates, cycles. Not kept, as with structuredClone(): which of two places held the same
 *   object, properties that are not enumerable, and named properties of arrays, maps and the like.
 *
 * cbor-x cannot be set up to do this: it loses -0, renames `__proto__`, makes `{}` of a DataView, bytes of an
 * ArrayBuffer and plain objects of class instances, and replaces lone surrogates. It reads what is written here.
 */
import { types } from 'node:util'
import { KVSwarmError } from '../errors.ts'
import { magnitudeOf } from './keys.ts'
import { show } from './show.ts'

/** Arrays, objects, maps and sets inside each other. */
export const valueDepthMax = 100
/**
 * Everything in one value that is an object to JavaScript, so bytes and dates too. Without it, the 8 MiB of a hostile
 * value become 1.9 GB of empty Uint8Arrays in 7 s (measured); with it, 250 MB in 0.4 s at the worst.
 */
export const valueObjectsMax = 500_000

/** CBOR's major types. */
export const major = {
  unsigned: 0,
  negative: 1,
  bytes: 2,
  text: 3,
  array: 4,
  map: 5,
  tag: 6,
  simple: 7
} as const

/** First bytes of what has no length. */
export const simple = {
  false: 0xf4,
  true: 0xf5,
  null: 0xf6,
  undefined: 0xf7,
  float64: 0xfb
} as const

export const tags = {
  date: 1,
  bigint: 2,
  bigintNegative: 3,
  object: 27,
  set: 258,
  map: 259
} as const

/** Tags of typed arrays, all little-endian. Uint8Array needs none. */
export const typedArrayTags: ReadonlyMap<string, number> = new Map([
  ['Uint8ClampedArray', 68],
  ['Uint16Array', 69],
  ['Uint32Array', 70],
  ['BigUint64Array', 71],
  ['Int8Array', 72],
  ['Int16Array', 77],
  ['Int32Array', 78],
  ['BigInt64Array', 79],
  ['Float32Array', 85],
  ['Float64Array', 86]
])

const bufferBytesMin = 256
/** A head, or a number with its head. */
const headBytesMax = 9
const uint32Max = 2 ** 32 - 1

// The getter itself, since a value may carry a property of its own with that name.
const typedArrayName = Object.getOwnPropertyDescriptor(
  Object.getPrototypeOf(Uint8Array.prototype) as object,
  Symbol.toStringTag
)

/**
 * Collects the bytes of one value, at most `bytesMax`.
 * Each value has a writer of its own: getters and proxies inside may encode other values meanwhile.
 */
export class CborWriter {
  readonly #bytesMax: number
  /** What holds the present place, outermost first; tells a cycle from mere depth. */
  readonly #path: object[] = []
  #buffer = Buffer.allocUnsafeSlow(bufferBytesMin)
  #at = 0
  #objects = 0

  constructor(bytesMax: number) {
    this.#bytesMax = bytesMax
  }

  /** A copy of what was written. */
  bytes(): Uint8Array {
    return new Uint8Array(this.#buffer.subarray(0, this.#at))
  }

  byte(byte: number): void {
    this.#reserve(1)
    this.#buffer[this.#at++] = byte
  }

  /** @throws VALUE_INVALID, VALUE_TOO_LARGE */
  value(value: unknown): void {
    switch (typeof value) {
      case 'string':
        return this.#text(value)
      case 'number':
        return this.#number(value)
      case 'bigint':
        return this.#bigint(value)
      case 'boolean':
        return this.byte(value ? simple.true : simple.false)
      case 'undefined':
        return this.byte(simple.undefined)
      case 'object':
        return value === null ? this.byte(simple.null) : this.#object(value)
      default:
        throw invalidValue(`${typeof value} ${show(value)} cannot be stored`)
    }
  }

  #object(value: object): void {
    if (++this.#objects > valueObjectsMax) {
      throw new KVSwarmError('VALUE_TOO_LARGE', `value has more than ${valueObjectsMax} objects`, {
        hint: 'split it over several keys'
      })
    }
    if (types.isUint8Array(value)) this.#bytes(value)
    else if (types.isDate(value)) {
      this.#instance(value, 2)
      this.#head(major.tag, tags.date)
      this.#number(value.getTime() / 1000)
    } else if (types.isRegExp(value)) {
      this.#instance(value, 2)
      this.#named('RegExp', value.source, value.flags)
    } else if (types.isDataView(value)) {
      this.#instance(value, 2)
      this.#named('DataView', new Uint8Array(value.buffer, value.byteOffset, value.byteLength))
    } else if (types.isTypedArray(value)) this.#typedArray(value)
    else if (types.isArrayBuffer(value)) {
      this.#instance(value, 2)
      this.#named('ArrayBuffer', new Uint8Array(value))
    } else this.#container(value)
  }

  #container(value: object): void {
    if (this.#path.length === valueDepthMax) {
      const problem = this.#path.includes(value) ? 'contains itself' : 'is nested too deeply'
      throw invalidValue(
        `value ${problem}: ${show(value)}`,
        `nest at most ${valueDepthMax} arrays, objects, maps and sets, without cycles`
      )
    }
    this.#path.push(value)
    if (Array.isArray(value)) {
      this.#instance(value, 2)
      this.#array(value)
    } else if (types.isMap(value)) {
      this.#instance(value, 2)
      this.#map(Array.from(Map.prototype.entries.call(value) as Iterable<[unknown, unknown]>))
    } else if (types.isSet(value)) {
      this.#instance(value, 2)
      this.#head(major.tag, tags.set)
      this.#array(Array.from(Set.prototype.values.call(value) as Iterable<unknown>))
    } else this.#plain(value)
    this.#path.pop()
  }

  #array(values: readonly unknown[]): void {
    const { length } = values
    this.#head(major.array, length)
    for (let i = 0; i < length; i++) {
      const value = values[i]
      if (value === undefined && !(i in values)) {
        throw invalidValue(
          `array has a hole at ${i}: ${show(values)}`,
          'write undefined or null there'
        )
      }
      this.value(value)
    }
  }

  #map(entries: readonly (readonly [unknown, unknown])[]): void {
    this.#head(major.tag, tags.map)
    this.#head(major.map, entries.length)
    for (const [key, value] of entries) {
      this.value(key)
      this.value(value)
    }
  }

  #plain(value: object): void {
    if (!isPlainObject(value)) {
      throw invalidValue(`instance of a class cannot be stored: ${show(value)}`)
    }
    if (Object.getOwnPropertySymbols(value).length > 0) {
      throw invalidValue(`object has a symbol as key: ${show(value)}`, 'use strings as keys')
    }
    const keys = Object.keys(value)
    this.#head(major.map, keys.length)
    for (const key of keys) {
      this.#text(key)
      this.value((value as Record<string, unknown>)[key])
    }
  }

  #typedArray(value: NodeJS.TypedArray): void {
    const name = String(typedArrayName?.get?.call(value))
    const tag = typedArrayTags.get(name)
    if (tag === undefined) throw invalidValue(`${name} cannot be stored: ${show(value)}`)
    this.#instance(value, 3)
    const bytes = new Uint8Array(value.buffer, value.byteOffset, value.byteLength)
    this.#head(major.tag, tag)
    this.#bytes(toLittleEndian(bytes, value.BYTES_PER_ELEMENT))
  }

  /** Tag 27: the name of a class, and what its constructor takes. */
  #named(name: string, ...parts: readonly (string | Uint8Array)[]): void {
    this.#head(major.tag, tags.object)
    this.#head(major.array, parts.length + 1)
    this.#text(name)
    for (const part of parts) this.value(part)
  }

  #number(value: number): void {
    if (Number.isInteger(value) && value >= -uint32Max - 1 && value <= uint32Max) {
      if (value > 0 || Object.is(value, 0)) return this.#head(major.unsigned, value)
      if (value < 0) return this.#head(major.negative, -1 - value)
    }
    this.#reserve(headBytesMax)
    this.#buffer[this.#at++] = simple.float64
    // NaN has many bit patterns, and which one a machine makes is its own affair
    if (Number.isNaN(value)) this.#buffer.writeBigUInt64BE(0x7ff8_0000_0000_0000n, this.#at)
    else this.#buffer.writeDoubleBE(value, this.#at)
    this.#at += 8
  }

  #bigint(value: bigint): void {
    this.#head(major.tag, value < 0n ? tags.bigintNegative : tags.bigint)
    this.#bytes(magnitudeOf(value < 0n ? -1n - value : value))
  }

  #text(text: string): void {
    if (!text.isWellFormed()) {
      throw invalidValue(`string has a lone surrogate: ${show(text)}`, 'store its bytes instead')
    }
    // each UTF-16 unit takes at least one byte
    if (text.length > this.#bytesMax) throw this.#tooLarge()
    const length = Buffer.byteLength(text)
    this.#head(major.text, length)
    this.#reserve(length)
    this.#at += this.#buffer.write(text, this.#at)
  }

  #bytes(bytes: Uint8Array): void {
    this.#head(major.bytes, bytes.length)
    this.#reserve(bytes.length)
    this.#buffer.set(bytes, this.#at)
    this.#at += bytes.length
  }

  #head(type: number, length: number): void {
    this.#reserve(headBytesMax)
    const first = type << 5
    if (length < 24) this.#buffer[this.#at++] = first | length
    else if (length <= 0xff) {
      this.#buffer[this.#at++] = first | 24
      this.#buffer[this.#at++] = length
    } else if (length <= 0xffff) {
      this.#buffer[this.#at++] = first | 25
      this.#at = this.#buffer.writeUInt16BE(length, this.#at)
    } else if (length <= uint32Max) {
      this.#buffer[this.#at++] = first | 26
      this.#at = this.#buffer.writeUInt32BE(length, this.#at)
    } else throw this.#tooLarge()
  }

  /** Refuses a subclass, of which only the parent would come back: `depth` prototypes are its own class's. */
  #instance(value: object, depth: number): void {
    let prototype: unknown = value
    for (let i = 0; i <= depth && prototype !== null; i++)
      prototype = Object.getPrototypeOf(prototype)
    if (prototype !== null)
      throw invalidValue(`instance of a class cannot be stored: ${show(value)}`)
  }

  /** Room for `bytes` more; heads are reserved at their longest, so the bound itself is checked here. */
  #reserve(bytes: number): void {
    const needed = this.#at + bytes
    if (needed - headBytesMax > this.#bytesMax) throw this.#tooLarge()
    if (needed <= this.#buffer.length) return
    const larger = Buffer.allocUnsafeSlow(Math.max(needed, this.#buffer.length * 2))
    this.#buffer.copy(larger, 0, 0, this.#at)
    this.#buffer = larger
  }

  #tooLarge(): KVSwarmError {
    return valueTooLarge(this.#bytesMax)
  }
}

/** True for what `{}` or Object.create(null) makes, in whatever realm. */
export function isPlainObject(value: object): boolean {
  const prototype: unknown = Object.getPrototypeOf(value)
  return prototype === null || Object.getPrototypeOf(prototype) === null
}

const isLittleEndian = new Uint8Array(Uint16Array.of(1).buffer)[0] === 1

/** Elements in the byte order of the format, on whatever machine; the same call leads back. */
export function toLittleEndian(bytes: Uint8Array, elementBytes: number): Uint8Array {
  if (isLittleEndian || elementBytes === 1) return bytes
  const swapped = Buffer.from(bytes)
  if (elementBytes === 2) return swapped.swap16()
  return elementBytes === 4 ? swapped.swap32() : swapped.swap64()
}

export function invalidValue(
  message: string,
  hint = 'store bytes, strings, numbers, bigints, booleans, null, dates, and arrays, objects, maps and sets of them'
): KVSwarmError {
  return new KVSwarmError('VALUE_INVALID', message, { hint })
}

export function valueTooLarge(bytesMax: number): KVSwarmError {
  return new KVSwarmError(
    'VALUE_TOO_LARGE',
    `value is longer than ${bytesMax} bytes once encoded`,
    {
      hint: 'split it over several keys'
    }
  )
}
