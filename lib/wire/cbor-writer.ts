/**
 * Writes structured values in the form that cbor-form.ts describes, and refuses what would come back as something else.
 *
 * - Refused: functions, symbols, instances of classes, holes in arrays, lone surrogates, cycles.
 * - Not kept, as with structuredClone(): which of two places held the same object, properties that are not
 *   enumerable, and named properties of arrays, maps and the like.
 */
import { types } from 'node:util'
import { KVSwarmError } from '../errors.ts'
import {
  major,
  simple,
  tags,
  toLittleEndian,
  typedArrayTags,
  valueDepthMax,
  valueObjectsMax,
  valueRegExpUnitsMax
} from './cbor-form.ts'
import { magnitudeOf } from './keys.ts'
import { show } from './show.ts'

const bufferBytesMin = 256
/** A head, or a number with its head. */
const headBytesMax = 9
const uint32Max = 2 ** 32 - 1
/** So long a text has its length in its first byte. */
const shortTextMax = 23
/** More than was ever reserved and not written. */
const reservedBytesMax = headBytesMax + shortTextMax

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
      const { source, flags } = value
      if (source.length > valueRegExpUnitsMax) {
        const message = `regular expression of ${source.length} characters`
        throw new KVSwarmError('VALUE_TOO_LARGE', message, {
          hint: `at most ${valueRegExpUnitsMax} can be stored as one; store its source as a string`
        })
      }
      this.#named('RegExp', source, flags)
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
    if (text.length <= shortTextMax && this.#shortAscii(text)) return
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

  /** Most names are short and ASCII, for which calls into the engine cost more than they do. */
  #shortAscii(text: string): boolean {
    this.#reserve(headBytesMax + shortTextMax)
    const start = this.#at + 1
    for (let i = 0; i < text.length; i++) {
      const unit = text.charCodeAt(i)
      if (unit >= 0x80) return false
      this.#buffer[start + i] = unit
    }
    this.#buffer[this.#at] = (major.text << 5) | text.length
    this.#at = start + text.length
    return true
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

  /** Room for `bytes` more. What is reserved beyond what is written is found out in the end. */
  #reserve(bytes: number): void {
    const needed = this.#at + bytes
    if (needed - reservedBytesMax > this.#bytesMax) throw this.#tooLarge()
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
