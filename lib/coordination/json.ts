/**
 * How operations, entries, options and errors travel over the control socket: JSON, bytes as base64.
 *
 * - Decoders take bytes from another process: a shape that is not exactly as expected is refused with
 *   PROTOCOL_ERROR, nothing is guessed.
 * - A timeout of Infinity is written `"none"`, since JSON has no Infinity; absent means the default.
 * - An error crosses with its code, hint and facts, and is a KVSwarmError again on the other side.
 */
import { jsonDepthMax, operationOverheadBytes } from './limits.ts'
import { type ErrorCode, KVSwarmError, isKVSwarmError, messageOf } from '../errors.ts'
import type {
  EngineReadOptions,
  IndexRange,
  WaitOptions,
  TailEvent,
  WriteOptions
} from '../ports.ts'
import type { Check, Entry, Mutation, Operation } from '../types.ts'

/** An object as JSON gives it. */
export type Fields = Readonly<Record<string, unknown>>

/** The error for anything that does not follow the protocol. */
export function protocolError(what: string): KVSwarmError {
  return new KVSwarmError('PROTOCOL_ERROR', `the control socket: ${what}`, {
    hint: 'use the same version of kvswarm in all processes of a data directory'
  })
}

/**
 * Parses JSON whose nesting is bounded before anything is built.
 * @throws PROTOCOL_ERROR
 */
export function parseJson(text: string): unknown {
  checkDepth(text)
  try {
    return JSON.parse(text) as unknown
  } catch (error) {
    throw protocolError(`not JSON: ${messageOf(error)}`)
  }
}

/** Strings are skipped by search, so megabytes of base64 cost next to nothing. */
function checkDepth(text: string): void {
  let depth = 0
  for (let i = 0; i < text.length; i++) {
    const c = text.charCodeAt(i)
    if (c === 0x22) i = endOfString(text, i)
    else if (c === 0x5b || c === 0x7b) {
      if (++depth > jsonDepthMax) throw protocolError(`nested deeper than ${jsonDepthMax}`)
    } else if (c === 0x5d || c === 0x7d) depth--
  }
}

function endOfString(text: string, start: number): number {
  let at = start
  for (;;) {
    at = text.indexOf('"', at + 1)
    if (at === -1) return text.length
    let slashes = 0
    while (text.charCodeAt(at - 1 - slashes) === 0x5c) slashes++
    if (slashes % 2 === 0) return at
  }
}

/** @throws PROTOCOL_ERROR when it is no object */
export function fieldsOf(value: unknown, what: string): Fields {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw protocolError(`${what} is not an object`)
  }
  return value as Fields
}

/** @throws PROTOCOL_ERROR when it is no string */
export function textOf(value: unknown, what: string): string {
  if (typeof value !== 'string') throw protocolError(`${what} is not a string`)
  return value
}

function listOf(value: unknown, what: string): readonly unknown[] {
  if (!Array.isArray(value)) throw protocolError(`${what} is not a list`)
  return value
}

/** A whole number from 0 to the largest safe one. @throws PROTOCOL_ERROR */
export function countOf(value: unknown, what: string): number {
  if (!Number.isSafeInteger(value) || (value as number) < 0) {
    throw protocolError(`${what} is not a count`)
  }
  return value as number
}

function flagOf(value: unknown, what: string): boolean {
  if (value === undefined) return false
  if (typeof value !== 'boolean') throw protocolError(`${what} is not a flag`)
  return value
}

/** Bytes as base64. */
export function packBytes(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('base64')
}

/** @throws PROTOCOL_ERROR when it is not base64 */
export function unpackBytes(value: unknown, what: string): Uint8Array {
  const text = textOf(value, what)
  const bytes = Buffer.from(text, 'base64')
  // The decoder skips what is not base64, and then gives less than the text promises.
  if (text.length % 4 !== 0 || bytes.length !== Buffer.byteLength(text, 'base64')) {
    throw protocolError(`${what} is not base64`)
  }
  return new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.byteLength)
}

/** Bytes that an operation occupies in memory, as both ends count them. */
export function operationCost(operation: Operation): number {
  if (operation.type === 'group') {
    let bytes = operationOverheadBytes
    for (const check of operation.checks) bytes += check.key.length + operationOverheadBytes
    for (const mutation of operation.mutations) bytes += operationCost(mutation)
    return bytes
  }
  const value = operation.type === 'del' ? 0 : operation.value.length
  return operation.key.length + value + operationOverheadBytes
}

/** An operation as JSON. */
export function packOperation(operation: Operation): Fields {
  if (operation.type !== 'group') return packMutation(operation)
  return {
    type: 'group',
    checks: operation.checks.map(({ key, versionstamp }) => ({
      key: packBytes(key),
      versionstamp
    })),
    mutations: operation.mutations.map(packMutation)
  }
}

function packMutation(mutation: Mutation): Fields {
  const key = packBytes(mutation.key)
  if (mutation.type === 'del') return { type: 'del', key }
  const packed = { type: mutation.type, key, value: packBytes(mutation.value) }
  if (mutation.type !== 'put') return packed
  const { expireIn, expireAt } = mutation
  return {
    ...packed,
    ...(expireIn === undefined ? {} : { expireIn }),
    ...(expireAt === undefined ? {} : { expireAt })
  }
}

/** @throws PROTOCOL_ERROR */
export function unpackOperation(value: unknown): Operation {
  const fields = fieldsOf(value, 'an operation')
  if (fields['type'] !== 'group') return unpackMutation(fields)
  return {
    type: 'group',
    checks: listOf(fields['checks'], 'checks').map(unpackCheck),
    mutations: listOf(fields['mutations'], 'mutations').map(unpackMutation)
  }
}

function unpackCheck(value: unknown): Check {
  const fields = fieldsOf(value, 'a check')
  const stamp = fields['versionstamp']
  return {
    key: unpackBytes(fields['key'], 'the key of a check'),
    versionstamp: stamp === null ? null : textOf(stamp, 'a versionstamp')
  }
}

function unpackMutation(value: unknown): Mutation {
  const fields = fieldsOf(value, 'a mutation')
  const key = unpackBytes(fields['key'], 'a key')
  const type = fields['type']
  if (type === 'del') return { type, key }
  const bytes = unpackBytes(fields['value'], 'a value')
  if (type === 'sum' || type === 'min' || type === 'max') return { type, key, value: bytes }
  if (type !== 'put') throw protocolError('an operation of unknown type')
  const { expireIn, expireAt } = fields
  return {
    type,
    key,
    value: bytes,
    ...(expireIn === undefined ? {} : { expireIn: countOf(expireIn, 'expireIn') }),
    ...(expireAt === undefined ? {} : { expireAt: countOf(expireAt, 'expireAt') })
  }
}

/** An entry as JSON, null stays null. */
export function packEntry(entry: Entry | null): Fields | null {
  if (entry === null) return null
  const { key, value, versionstamp, expireAt } = entry
  return { key: packBytes(key), value: packBytes(value), versionstamp, expireAt }
}

/** @throws PROTOCOL_ERROR */
export function unpackEntry(value: unknown): Entry | null {
  if (value === null) return null
  const fields = fieldsOf(value, 'an entry')
  return {
    key: unpackBytes(fields['key'], 'the key of an entry'),
    value: unpackBytes(fields['value'], 'the value of an entry'),
    versionstamp: textOf(fields['versionstamp'], 'a versionstamp'),
    expireAt: countOf(fields['expireAt'], 'expireAt')
  }
}

const bounds = ['gt', 'gte', 'lt', 'lte'] as const

/** A range as JSON. */
export function packRange(range: IndexRange): Fields {
  const packed: Record<string, unknown> = {}
  for (const bound of bounds) {
    const bytes = range[bound]
    if (bytes !== undefined) packed[bound] = packBytes(bytes)
  }
  if (range.reverse === true) packed['reverse'] = true
  if (range.limit !== undefined && range.limit !== Infinity) packed['limit'] = range.limit
  return packed
}

/** @throws PROTOCOL_ERROR */
export function unpackRange(value: unknown): IndexRange {
  const fields = fieldsOf(value, 'a range')
  const range: { -readonly [K in keyof IndexRange]: IndexRange[K] } = {}
  for (const bound of bounds) {
    const bytes = fields[bound]
    if (bytes !== undefined) range[bound] = unpackBytes(bytes, `the bound ${bound}`)
  }
  if (flagOf(fields['reverse'], 'reverse')) range.reverse = true
  if (fields['limit'] !== undefined) range.limit = countOf(fields['limit'], 'limit')
  return range
}

/** A timeout as JSON; undefined (the default) is left out. */
export function packTimeout(timeout: number | undefined): Fields {
  if (timeout === undefined) return {}
  return { timeout: timeout === Infinity ? 'none' : timeout }
}

/** @throws PROTOCOL_ERROR */
export function unpackTimeout(fields: Fields): WaitOptions {
  const { timeout } = fields
  if (timeout === undefined) return {}
  if (timeout === 'none') return { timeout: Infinity }
  if (typeof timeout !== 'number' || !(timeout >= 0)) throw protocolError('a timeout is no number')
  return { timeout }
}

/** Options of a read as JSON; the signal stays behind and acts on the connection. */
export function packRead(options: EngineReadOptions): Fields {
  const { timeout, wait, fresh, after } = options
  return {
    ...packTimeout(timeout),
    ...(wait === undefined ? {} : { wait }),
    ...(fresh === undefined ? {} : { fresh }),
    ...(after === undefined ? {} : { after })
  }
}

/** @throws PROTOCOL_ERROR */
export function unpackRead(value: unknown): EngineReadOptions {
  const fields = fieldsOf(value, 'read options')
  return {
    ...unpackTimeout(fields),
    ...(fields['wait'] === undefined ? {} : { wait: flagOf(fields['wait'], 'wait') }),
    ...(flagOf(fields['fresh'], 'fresh') ? { fresh: true } : {}),
    ...(fields['after'] === undefined ? {} : { after: textOf(fields['after'], 'after') })
  }
}

/** Any error as it crosses the socket. */
export function packError(error: unknown): Fields {
  if (isKVSwarmError(error)) return error.toJSON()
  return { code: 'INTERNAL', message: messageOf(error), hint: 'please report it' }
}

/** The same error for a write of which nobody can say whether it was appended. */
export function uncertainError(error: KVSwarmError): KVSwarmError {
  return new KVSwarmError(error.code, `${error.message} (whether it was written is not known)`, {
    hint: error.hint,
    cause: error,
    data: { ...error.data, uncertain: true }
  })
}

/** The error that the other side met, as one of ours. */
export function unpackError(value: unknown): KVSwarmError {
  const fields = fieldsOf(value, 'an error')
  const code = textOf(fields['code'], 'a code')
  if (!/^[A-Z][A-Z_]{1,40}$/.test(code)) throw protocolError('an error without a code')
  const { hint, durable, flushId, data } = fields
  return new KVSwarmError(code as ErrorCode, textOf(fields['message'], 'a message'), {
    ...(typeof hint === 'string' ? { hint } : {}),
    ...(durable === true ? { durable: true } : {}),
    ...(typeof flushId === 'string' ? { flushId } : {}),
    ...(data === undefined ? {} : { data: fieldsOf(data, 'the facts of an error') })
  })
}

export { flagOf, listOf }

/** Options of a write that only the engine's queue knows. */
export function packWriteOptions({ onFull, calls }: WriteOptions): Fields {
  return {
    ...(onFull === undefined ? {} : { onFull }),
    ...(calls === undefined ? {} : { calls })
  }
}

/** @throws PROTOCOL_ERROR */
export function unpackWriteOptions({ onFull, calls }: Fields): WriteOptions {
  if (onFull !== undefined && onFull !== 'wait' && onFull !== 'reject') {
    throw protocolError('onFull is neither wait nor reject')
  }
  return {
    ...(onFull === undefined ? {} : { onFull }),
    ...(calls === undefined ? {} : { calls: countOf(calls, 'calls') })
  }
}

/** An event of a tail as JSON. */
export function packTail(event: TailEvent): Fields {
  if (event.type === 'put') return { type: event.type, entry: packEntry(event.entry) }
  return event.type === 'del' ? { type: event.type, key: packBytes(event.key) } : { ...event }
}

/** @throws PROTOCOL_ERROR */
export function unpackTail(value: unknown): TailEvent {
  const { type, entry, key, bookmark } = fieldsOf(value, 'an event')
  if (type === 'reset') return { type }
  if (type === 'del') return { type, key: unpackBytes(key, 'a key') }
  if (type === 'bookmark') return { type, bookmark: textOf(bookmark, 'a bookmark') }
  const unpacked = type === 'put' ? unpackEntry(entry) : null
  if (unpacked === null) throw protocolError('an event of no known type')
  return { type: 'put', entry: unpacked }
}
