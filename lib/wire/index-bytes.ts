/**
 * Writing and reading the blocks of an index, fast: they are made and read by the hundred thousand a second.
 *
 * - Keys are strings of one character a byte (latin1): they compare, hash and join faster than buffers do.
 * - Numbers are compact-encoding's uint, as everywhere (codec.ts). A text in order is front-coded: how many bytes it
 *   shares with the one before, how many follow, and these.
 */
import { decodeWith, uint, type State } from './codec.ts'
import { corrupt } from './show.ts'

/** A key of an index, one character a byte. */
export type KeyText = string

export function keyText(key: Uint8Array): KeyText {
  return Buffer.from(key.buffer, key.byteOffset, key.byteLength).toString('latin1')
}

export function keyBytes(text: KeyText): Uint8Array {
  const buffer = Buffer.from(text, 'latin1')
  return new Uint8Array(buffer.buffer, buffer.byteOffset, buffer.byteLength)
}

/** The order of keys. */
export function compareTexts(a: KeyText, b: KeyText): number {
  return a < b ? -1 : a > b ? 1 : 0
}

/** How many leading characters two texts have in common. */
export function sharedLength(a: string, b: string): number {
  const end = Math.min(a.length, b.length)
  let at = 0
  while (at < end && a.charCodeAt(at) === b.charCodeAt(at)) at++
  return at
}

/** The shortest text that is above `before` and not above `text`. */
export function separator(before: string, text: string): string {
  return text.slice(0, sharedLength(before, text) + 1)
}

export function uintLength(value: number): number {
  return value <= 0xfc ? 1 : value <= 0xffff ? 3 : value <= 0xffffffff ? 5 : 9
}

/** Bytes that grow at their end. */
export class ByteWriter {
  #buffer: Buffer
  #length = 0

  constructor(bytes = 1024) {
    this.#buffer = Buffer.allocUnsafe(bytes)
  }

  get length(): number {
    return this.#length
  }

  /** The bytes so far, as a copy; it begins anew. */
  take(): Uint8Array {
    const bytes = new Uint8Array(this.#length)
    bytes.set(this.#buffer.subarray(0, this.#length))
    this.#length = 0
    return bytes
  }

  byte(value: number): void {
    this.#room(1)
    this.#buffer[this.#length++] = value
  }

  uint(value: number): void {
    this.#room(9)
    const buffer = this.#buffer
    if (value <= 0xfc) buffer[this.#length++] = value
    else if (value <= 0xffff) {
      buffer[this.#length] = 0xfd
      this.#length = buffer.writeUInt16LE(value, this.#length + 1)
    } else if (value <= 0xffffffff) {
      buffer[this.#length] = 0xfe
      this.#length = buffer.writeUInt32LE(value, this.#length + 1)
    } else {
      buffer[this.#length] = 0xff
      this.#length = buffer.writeBigUInt64LE(BigInt(value), this.#length + 1)
    }
  }

  uint16(value: number): void {
    this.#room(2)
    this.#length = this.#buffer.writeUInt16LE(value, this.#length)
  }

  bytes(bytes: Uint8Array): void {
    this.#room(bytes.length)
    this.#buffer.set(bytes, this.#length)
    this.#length += bytes.length
  }

  /** `text` behind `before`, front-coded. */
  text(before: string, text: string): void {
    const shared = sharedLength(before, text)
    this.uint(shared)
    this.uint(text.length - shared)
    this.#room(text.length - shared)
    const rest = shared === 0 ? text : text.slice(shared)
    this.#length += this.#buffer.write(rest, this.#length, 'latin1')
  }

  #room(bytes: number): void {
    if (this.#length + bytes <= this.#buffer.length) return
    const larger = Buffer.allocUnsafe(Math.max(2 * this.#buffer.length, this.#length + bytes))
    larger.set(this.#buffer.subarray(0, this.#length))
    this.#buffer = larger
  }
}

/** Reads what ByteWriter wrote; whatever comes in, it gives a value or throws CORRUPT. */
export class ByteReader {
  readonly #buffer: Buffer
  readonly #state: State

  constructor(bytes: Uint8Array) {
    this.#buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
    this.#state = {
      start: 0,
      end: bytes.length,
      buffer: new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.byteLength)
    }
  }

  get left(): number {
    return this.#state.end - this.#state.start
  }

  byte(): number {
    if (this.left < 1) throw corrupt('it ends too early')
    return this.#state.buffer[this.#state.start++] as number
  }

  uint(): number {
    if (this.left < 1) throw corrupt('it ends too early')
    const first = this.#state.buffer[this.#state.start] as number
    if (first > 0xfc) return uint.decode(this.#state)
    this.#state.start++
    return first
  }

  uint16(): number {
    this.#need(2)
    const value = this.#buffer.readUInt16LE(this.#state.start)
    this.#state.start += 2
    return value
  }

  /** So many bytes, as a view. */
  bytes(length: number): Uint8Array {
    this.#need(length)
    return this.#state.buffer.subarray(this.#state.start, (this.#state.start += length))
  }

  /** A count of things of at least `bytesMin` bytes each. */
  count(bytesMin: number): number {
    const count = this.uint()
    if (count * bytesMin > this.left) throw corrupt(`count of ${count} in ${this.left} bytes`)
    return count
  }

  text(before: string, lengthMax: number): string {
    const shared = this.uint()
    const rest = this.uint()
    if (shared > before.length) throw corrupt(`${shared} bytes shared of ${before.length}`)
    if (shared + rest > lengthMax) throw corrupt(`a key of ${shared + rest} bytes`)
    this.#need(rest)
    const from = this.#state.start
    this.#state.start += rest
    const text = this.#buffer.toString('latin1', from, from + rest)
    // One form for each text: it shares all that it can.
    if (rest > 0 && shared < before.length && text.charCodeAt(0) === before.charCodeAt(shared)) {
      throw corrupt('a text that shares more with the one before')
    }
    return shared === 0 ? text : before.slice(0, shared) + text
  }

  #need(bytes: number): void {
    if (bytes > this.left) throw corrupt(`${bytes} bytes announced, ${this.left} are left`)
  }
}

/** Decodes all of the bytes. @param what names the format in the error. @throws CORRUPT */
export function readWhole<T>(bytes: Uint8Array, what: string, read: (reader: ByteReader) => T): T {
  return decodeWith(
    {
      decode: (state) => {
        const reader = new ByteReader(state.buffer.subarray(state.start, state.end))
        const value = read(reader)
        state.start = state.end - reader.left
        return value
      }
    },
    bytes,
    what
  )
}
