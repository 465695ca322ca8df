/**
 * Keys and values as JSON, exactly and both ways: what `get --json` and `list --json` print is what
 * `write --from` reads.
 *
 * - What JSON can say is itself: strings, finite numbers, booleans, null, lists, objects.
 * - All else is an object with one key that begins with `$`, such as `{"$bytes":"AAEC"}` (base64).
 * - An object of the user's that has exactly one key and that begins with `$` is written
 *   `{"$object":[["$key",value]]}`, so that nothing is mistaken.
 */
import { types } from 'node:util'
import { KVSwarmError } from '../lib/errors.ts'
import type { Key, KeyPart, Value } from '../lib/types.ts'

const typedArrays = {
  Int8Array,
  Uint8ClampedArray,
  Int16Array,
  Uint16Array,
  Int32Array,
  Uint32Array,
  Float32Array,
  Float64Array,
  BigInt64Array,
  BigUint64Array
} as const

type TypedName = keyof typeof typedArrays

function base64(view: ArrayBufferView): string {
  return Buffer.from(view.buffer, view.byteOffset, view.byteLength).toString('base64')
}

/** A value in its JSON form. */
export function valueToJson(value: Value): unknown {
  if (value === null || typeof value === 'string' || typeof value === 'boolean') return value
  if (value === undefined) return { $undefined: true }
  if (typeof value === 'bigint') return { $bigint: String(value) }
  if (typeof value === 'number') {
    return Number.isFinite(value) && !Object.is(value, -0)
      ? value
      : { $number: Object.is(value, -0) ? '-0' : String(value) }
  }
  if (value instanceof Date) {
    return { $date: Number.isNaN(value.getTime()) ? null : value.toISOString() }
  }
  if (value instanceof RegExp) return { $regexp: [value.source, value.flags] }
  if (value instanceof Map) {
    return { $map: Array.from(value, ([key, item]) => [valueToJson(key), valueToJson(item)]) }
  }
  if (value instanceof Set) return { $set: Array.from(value, (item) => valueToJson(item)) }
  if (types.isUint8Array(value)) return { $bytes: base64(value) }
  if (types.isAnyArrayBuffer(value))
    return { $typed: ['ArrayBuffer', base64(new Uint8Array(value))] }
  if (ArrayBuffer.isView(value)) return { $typed: [value.constructor.name, base64(value)] }
  if (Array.isArray(value)) return (value as readonly Value[]).map(valueToJson)
  const entries = Object.entries(value).map(([key, item]) => [key, valueToJson(item)])
  const [only] = entries
  if (entries.length === 1 && only !== undefined && String(only[0]).startsWith('$'))
    return { $object: entries }
  // fromEntries makes even `__proto__` an ordinary key.
  return Object.fromEntries(entries) as unknown
}

/** A key in its JSON form: a string, or a list of parts. */
export function keyToJson(key: Key): unknown {
  if (typeof key === 'string') return key
  const parts = key instanceof Uint8Array ? [key] : key
  return parts.map((part) => valueToJson(part))
}

/** A key as a person reads it: a plain string as it is, all else in its JSON form. */
export function keyToText(key: Key): string {
  return typeof key === 'string' ? key : JSON.stringify(keyToJson(key))
}

/** @throws KEY_INVALID */
export function keyFromJson(json: unknown): Key {
  if (typeof json === 'string') return json
  const parts = Array.isArray(json) ? json.map((part) => valueFromJson(part)) : []
  if (parts.length === 0 || !parts.every(isKeyPart)) {
    throw new KVSwarmError('KEY_INVALID', `${shown(json)} is no key`, {
      hint: 'give a string, or a list of strings, numbers and booleans'
    })
  }
  return parts
}

function isKeyPart(part: Value): part is KeyPart {
  return (
    ['string', 'number', 'bigint', 'boolean'].includes(typeof part) || part instanceof Uint8Array
  )
}

/** @throws VALUE_INVALID */
export function valueFromJson(json: unknown): Value {
  if (typeof json !== 'object' || json === null) return json as Value
  if (Array.isArray(json)) return json.map(valueFromJson)
  const entries = Object.entries(json)
  const [only] = entries
  if (entries.length === 1 && only !== undefined && only[0].startsWith('$')) {
    return marked(only[0], only[1])
  }
  return objectOf(entries)
}

function objectOf(entries: readonly (readonly [string, unknown])[]): Value {
  return Object.fromEntries(entries.map(([key, item]) => [key, valueFromJson(item)])) as Value
}

function marked(mark: string, content: unknown): Value {
  try {
    switch (mark) {
      case '$undefined':
        if (content === true) return undefined
        break
      case '$bigint':
        if (typeof content === 'string' && /^-?[0-9]+$/.test(content)) return BigInt(content)
        break
      case '$number':
        if (['NaN', 'Infinity', '-Infinity', '-0'].includes(content as string))
          return Number(content)
        break
      case '$date':
        return dateOf(content)
      case '$regexp':
        if (isList(content, 2)) return new RegExp(content[0] as string, content[1] as string)
        break
      case '$map':
        if (isList(content)) return new Map(content.map(pairOf))
        break
      case '$set':
        if (isList(content)) return new Set(content.map(valueFromJson))
        break
      case '$bytes':
        return bytesOf(content)
      case '$typed':
        if (isList(content, 2)) return typedOf(content[0], content[1])
        break
      case '$object':
        if (isList(content)) {
          return Object.fromEntries(content.map(pairOf)) as Value
        }
        break
      default:
    }
  } catch (error) {
    throw invalid(mark, content, error)
  }
  throw invalid(mark, content)
}

function invalid(mark: string, content: unknown, cause?: unknown): KVSwarmError {
  return new KVSwarmError('VALUE_INVALID', `${shown({ [mark]: content })} is no value`, {
    hint: `write an object with the one key ${JSON.stringify(mark)} as {"$object":[[${JSON.stringify(mark)},…]]}`,
    ...(cause === undefined ? {} : { cause })
  })
}

function isList(value: unknown, length?: number): value is unknown[] {
  return Array.isArray(value) && (length === undefined || value.length === length)
}

function pairOf(value: unknown): [Value, Value] {
  if (!isList(value, 2)) throw new TypeError('not a pair')
  return [valueFromJson(value[0]), valueFromJson(value[1])]
}

function dateOf(content: unknown): Date {
  const date = new Date(content === null ? Number.NaN : (content as string))
  if (content !== null && (typeof content !== 'string' || Number.isNaN(date.getTime()))) {
    throw new TypeError('not a date')
  }
  return date
}

function bytesOf(content: unknown): Uint8Array {
  if (typeof content !== 'string') throw new TypeError('not base64')
  const bytes = Buffer.from(content, 'base64')
  if (bytes.toString('base64').replace(/=+$/, '') !== content.replace(/=+$/, '')) {
    throw new TypeError('not base64')
  }
  return new Uint8Array(bytes)
}

function typedOf(name: unknown, content: unknown): Value {
  const { buffer } = bytesOf(content)
  if (name === 'ArrayBuffer') return buffer as unknown as Value
  if (name === 'DataView') return new DataView(buffer)
  if (typeof name !== 'string' || !Object.hasOwn(typedArrays, name)) {
    throw new TypeError('no such array')
  }
  return new typedArrays[name as TypedName](buffer as ArrayBuffer)
}

function shown(json: unknown): string {
  const text = JSON.stringify(json) ?? String(json)
  return text.length <= 60 ? text : `${text.slice(0, 59)}…`
}
