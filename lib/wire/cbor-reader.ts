/**
 * Reads structured values (cbor-form.ts) from bytes that anyone may have made.
 *
 * - Nothing is allocated on the word of a length: what a head announces must lie in the bytes that are left. What
 *   they may become is bounded by valueObjectsMax.
 * - Depth is bounded as when writing. No name leads to anything of the program; a regular expression is parsed, never run.
 * - An own property `__proto__` is data like any other.
 * - Any other form (another tag, indefinite lengths, heads that are not the shortest, a key twice) is refused.
 */
import { isUtf8 } from 'node:buffer'
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
import { bigintOf } from './keys.ts'
import { corrupt } from './show.ts'

type TypedArrayConstructor = new (buffer: ArrayBuffer) => NodeJS.TypedArray

/** By tag: the class and the bytes of one element. */
const typedArrays = new Map<number, { create: TypedArrayConstructor; elementBytes: number }>()
for (const [create, elementBytes] of [
  [Uint8ClampedArray, 1],
  [Uint16Array, 2],
  [Uint32Array, 4],
  [BigUint64Array, 8],
  [Int8Array, 1],
  [Int16Array, 2],
  [Int32Array, 4],
  [BigInt64Array, 8],
  [Float32Array, 4],
  [Float64Array, 8]
] as const) {
  typedArrays.set(typedArrayTags.get(create.name) as number, { create, elementBytes })
}

const dateMsMax = 8.64e15
const shortTextMax = 23

/** Reads one value that takes all bytes from `from` on. The result shares no memory with them. @throws CORRUPT */
export function readCbor(bytes: Uint8Array, from: number): unknown {
  const reader = new CborReader(bytes, from)
  const value = reader.value(0)
  reader.end()
  return value
}

class CborReader {
  readonly #buffer: Buffer
  #at: number
  #objects = 0

  constructor(bytes: Uint8Array, from: number) {
    this.#buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length)
    this.#at = from
  }

  end(): void {
    const left = this.#buffer.length - this.#at
    if (left > 0) throw corrupt(`value with ${left} bytes behind it`)
  }

  /** @param depth how many containers are open */
  value(depth: number): unknown {
    const first = this.#byte()
    const type = first >> 5
    if (type === major.simple) return this.#simple(first)
    const length = this.#length(first & 0x1f)
    switch (type) {
      case major.unsigned:
        return length
      case major.negative:
        return -1 - length
      case major.bytes:
        this.#count()
        return new Uint8Array(this.#take(length))
      case major.text:
        return this.#textOf(length)
      case major.array:
        return this.#array(length, depth)
      case major.map:
        return this.#object(length, depth)
      default:
        return this.#tagged(length, depth)
    }
  }

  #simple(first: number): unknown {
    switch (first) {
      case simple.false:
        return false
      case simple.true:
        return true
      case simple.null:
        return null
      case simple.undefined:
        return undefined
      case simple.float64:
        return this.#float()
      default:
        throw corrupt(`value with a byte ${first.toString(16)}`)
    }
  }

  #float(): number {
    const bytes = this.#take(8)
    const value = bytes.readDoubleBE()
    if (Number.isNaN(value) && bytes.readBigUInt64BE() !== 0x7ff8_0000_0000_0000n) {
      throw corrupt('value with another NaN')
    }
    if (
      Number.isInteger(value) &&
      value >= -(2 ** 32) &&
      value < 2 ** 32 &&
      !Object.is(value, -0)
    ) {
      throw corrupt(`integer ${value} as a float`)
    }
    return value
  }

  #array(length: number, depth: number): unknown[] {
    this.#enter(length, 1, depth)
    const values: unknown[] = []
    for (let i = 0; i < length; i++) values.push(this.value(depth + 1))
    return values
  }

  #object(length: number, depth: number): object {
    this.#enter(length, 2, depth)
    const object: Record<string, unknown> = {}
    for (let i = 0; i < length; i++) {
      const key = this.#text()
      if (Object.hasOwn(object, key)) throw corrupt('object with a key twice')
      const value = this.value(depth + 1)
      if (key !== '__proto__') object[key] = value
      else {
        const attributes = { value, writable: true, enumerable: true, configurable: true }
        Object.defineProperty(object, key, attributes)
      }
    }
    return object
  }

  #map(depth: number): Map<unknown, unknown> {
    const length = this.#head(major.map)
    this.#enter(length, 2, depth)
    const map = new Map<unknown, unknown>()
    for (let i = 0; i < length; i++) map.set(this.value(depth + 1), this.value(depth + 1))
    if (map.size !== length) throw corrupt('map with a key twice')
    return map
  }

  #set(depth: number): Set<unknown> {
    const length = this.#head(major.array)
    const set = new Set(this.#array(length, depth))
    if (set.size !== length) throw corrupt('set with a member twice')
    return set
  }

  #tagged(tag: number, depth: number): unknown {
    switch (tag) {
      case tags.date:
        return this.#date()
      case tags.bigint:
        return this.#magnitude()
      case tags.bigintNegative:
        return -1n - this.#magnitude()
      case tags.object:
        return this.#named()
      case tags.set:
        return this.#set(depth)
      case tags.map:
        return this.#map(depth)
      default:
        return this.#typedArray(tag)
    }
  }

  #date(): Date {
    this.#count()
    const seconds = this.#number()
    // Whole seconds and the rest are each exact; seconds * 1000 at once would be wrong by 1 ms now and then.
    const whole = Math.trunc(seconds)
    const ms = whole * 1000 + Math.round((seconds - whole) * 1000)
    const exact =
      Number.isNaN(seconds) || (Math.abs(ms) <= dateMsMax && Object.is(ms / 1000, seconds))
    if (!exact) throw corrupt(`date at ${seconds} s`)
    return new Date(ms)
  }

  /** An item that must be a number; nothing can be inside it. */
  #number(): number {
    const first = this.#byte()
    const type = first >> 5
    if (first === simple.float64) return this.#float()
    if (type > major.negative) throw corrupt('date that is no number')
    const length = this.#length(first & 0x1f)
    return type === major.unsigned ? length : -1 - length
  }

  #magnitude(): bigint {
    const bytes = this.#take(this.#head(major.bytes))
    if (bytes[0] === 0) throw corrupt('bigint with a leading zero')
    return bigintOf(bytes)
  }

  #named(): RegExp | DataView | ArrayBuffer {
    this.#count()
    const length = this.#head(major.array)
    const name = this.#text()
    if (name === 'RegExp' && length === 3) return this.#regExp(this.#text(), this.#text())
    if ((name === 'DataView' || name === 'ArrayBuffer') && length === 2) {
      const { buffer } = new Uint8Array(this.#take(this.#head(major.bytes)))
      return name === 'DataView' ? new DataView(buffer) : buffer
    }
    throw corrupt('object of an unknown class')
  }

  #regExp(source: string, flags: string): RegExp {
    if (source.length > valueRegExpUnitsMax) throw corrupt('regular expression that is too long')
    let expression: RegExp
    try {
      expression = new RegExp(source, flags)
    } catch {
      throw corrupt('regular expression that is none')
    }
    if (expression.source !== source || expression.flags !== flags) {
      throw corrupt('regular expression in another form')
    }
    return expression
  }

  #typedArray(tag: number): NodeJS.TypedArray {
    this.#count()
    const type = typedArrays.get(tag)
    if (type === undefined) throw corrupt(`value with tag ${tag}`)
    const length = this.#head(major.bytes)
    if (length % type.elementBytes !== 0) throw corrupt(`typed array of ${length} bytes`)
    const bytes = new Uint8Array(toLittleEndian(this.#take(length), type.elementBytes))
    return new type.create(bytes.buffer)
  }

  #text(): string {
    return this.#textOf(this.#head(major.text))
  }

  #textOf(length: number): string {
    if (length <= shortTextMax && this.#isAscii(length)) {
      return this.#buffer.toString('latin1', this.#at, (this.#at += length))
    }
    const bytes = this.#take(length)
    if (!isUtf8(bytes)) throw corrupt('string that is not UTF-8')
    return bytes.toString('utf8')
  }

  /** Whether the next bytes are there and ASCII; cheaper than isUtf8() when they are few. */
  #isAscii(length: number): boolean {
    const end = this.#at + length
    for (let i = this.#at; i < end; i++) if ((this.#buffer[i] ?? 0x80) >= 0x80) return false
    return true
  }

  /** Before a container is read: its least size fits, and it is not too deep. */
  #enter(length: number, bytesEach: number, depth: number): void {
    this.#count()
    if (depth === valueDepthMax) throw corrupt('value that is nested too deeply')
    if (length > (this.#buffer.length - this.#at) / bytesEach)
      throw corrupt('value that is cut short')
  }

  /** One more object. */
  #count(): void {
    if (++this.#objects > valueObjectsMax) throw corrupt('value with too many objects')
  }

  /** The length of an item that must be of this type. */
  #head(type: number): number {
    const first = this.#byte()
    if (first >> 5 !== type) throw corrupt(`item of type ${first >> 5} where ${type} is due`)
    return this.#length(first & 0x1f)
  }

  #length(info: number): number {
    if (info < 24) return info
    const length = this.#longLength(info)
    const shortest = length < 24 ? 0 : length <= 0xff ? 24 : length <= 0xffff ? 25 : 26
    if (info !== shortest) throw corrupt('value with a head that is not the shortest')
    return length
  }

  #longLength(info: number): number {
    if (info === 24) return this.#byte()
    if (info === 25) return this.#take(2).readUInt16BE()
    if (info === 26) return this.#take(4).readUInt32BE()
    throw corrupt('value with a length of another form')
  }

  #byte(): number {
    const byte = this.#buffer[this.#at]
    if (byte === undefined) throw corrupt('value that is cut short')
    this.#at++
    return byte
  }

  /** The next bytes, as a view. */
  #take(length: number): Buffer {
    if (length > this.#buffer.length - this.#at) throw corrupt('value that is cut short')
    return this.#buffer.subarray(this.#at, (this.#at += length))
  }
}
