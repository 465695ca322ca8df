/**
 * One operation as it stands in a block: what a writer asks its owner to do.
 *
 * - First byte the code: 1 put, 2 del, 3 sum, 4 min, 5 max, 6 check (only inside a group), 7 group.
 * - put: flags (bit 0: expireIn, bit 1: expireAt, never both), key, [milliseconds], value. del: key. sum, min, max:
 *   key, counter value. check: key, versionstamp or none. group: count, then so many operations, the checks
 *   first. Keys and values have their length before them.
 * - Encoding trusts what checkOperation() has passed. Decoding trusts nothing: what is not exactly an operation
 *   within the published limits comes out as `invalid` with a reason, so that its owner can reject that place.
 */
import {
  groupBytesMax,
  groupOperationsMax,
  keyBytesMax,
  valueBytesMax
} from '../../config/limits.ts'
import { assert } from '../assert.ts'
import { KVSwarmError } from '../errors.ts'
import type { Check, Mutation, Operation } from '../types.ts'
import {
  decodeCount,
  lengthPrefixed,
  nullable,
  sizeOf,
  type State,
  stateOf,
  uint,
  uint8
} from './codec.ts'
import { isEncodedKey } from './keys.ts'
import { Refusal, type RejectReason } from './results.ts'
import { stampCodec } from './stamps.ts'
import { isCounter, isEncodedValue } from './values.ts'

const codes = { put: 1, del: 2, sum: 3, min: 4, max: 5, check: 6, group: 7 } as const
const flagExpireIn = 1
const flagExpireAt = 2

/** A place of a block that holds no operation that this version can apply. */
export interface InvalidOperation {
  readonly type: 'invalid'
  readonly reason: RejectReason
  /** For people. */
  readonly text: string
}

export type DecodedOperation = Operation | InvalidOperation

const nullableStamp = nullable(stampCodec)

/**
 * Refuses what an owner would reject, before it gets into an outbox.
 * @throws KEY_INVALID, KEY_TOO_LARGE, VALUE_INVALID, VALUE_TOO_LARGE
 */
export function checkOperation(operation: Operation): void {
  if (operation.type !== 'group') {
    checkMutation(operation)
    return
  }
  for (const check of operation.checks) checkKey(check.key)
  for (const mutation of operation.mutations) checkMutation(mutation)
  const count = operation.checks.length + operation.mutations.length
  if (count === 0 || count > groupOperationsMax) {
    throw new KVSwarmError(
      count === 0 ? 'VALUE_INVALID' : 'VALUE_TOO_LARGE',
      `atomic group of ${count} operations`,
      { hint: `an atomic group holds 1 to ${groupOperationsMax} checks and mutations: split it` }
    )
  }
  const bytes = bodyBytes(operation)
  if (bytes > groupBytesMax) {
    throw new KVSwarmError('VALUE_TOO_LARGE', `atomic group of ${bytes} bytes`, {
      hint: `an atomic group takes at most ${groupBytesMax} bytes: split it`
    })
  }
}

function checkMutation(mutation: Mutation): void {
  checkKey(mutation.key)
  if (mutation.type === 'del') return
  if (mutation.value.length > valueBytesMax) {
    throw new KVSwarmError('VALUE_TOO_LARGE', `value of ${mutation.value.length} bytes`, {
      hint: `a value takes at most ${valueBytesMax} bytes once encoded: split it`
    })
  }
  const valid = mutation.type === 'put' ? isEncodedValue(mutation.value) : isCounter(mutation.value)
  if (!valid) {
    throw new KVSwarmError(
      'VALUE_INVALID',
      `the bytes of a ${mutation.type} are no encoded value`,
      {
        hint: 'encode it with encodeValue(), a counter with encodeCounter()'
      }
    )
  }
  if (mutation.type !== 'put') return
  const { expireIn, expireAt } = mutation
  for (const time of [expireIn ?? 0, expireAt ?? 0]) {
    if (Number.isSafeInteger(time) && time >= 0) continue
    throw new KVSwarmError('VALUE_INVALID', `expiry of ${time} milliseconds`, {
      hint: 'give whole milliseconds, not negative'
    })
  }
  if (expireIn !== undefined && expireAt !== undefined) {
    throw new KVSwarmError(
      'VALUE_INVALID',
      `expireIn ${expireIn} and expireAt ${expireAt} at once`,
      {
        hint: 'give one of them'
      }
    )
  }
}

function checkKey(key: Uint8Array): void {
  if (key.length > keyBytesMax) {
    throw new KVSwarmError('KEY_TOO_LARGE', `encoded key of ${key.length} bytes`, {
      hint: `a key takes at most ${keyBytesMax} bytes once encoded`
    })
  }
  if (!isEncodedKey(key)) {
    const bytes = Buffer.from(key.subarray(0, 16)).toString('hex')
    throw new KVSwarmError('KEY_INVALID', `the bytes ${bytes} are no encoded key`, {
      hint: 'encode it with encodeKey()'
    })
  }
}

/** Exact bytes that the operation takes in a block, its length before it included. */
export function operationBytes(operation: Operation): number {
  const bytes = bodyBytes(operation)
  return bytes + sizeOf(uint, bytes)
}

/** Writes an operation with its length before it. */
export function writeOperation(state: State, operation: Operation): void {
  uint.encode(state, bodyBytes(operation))
  if (operation.type === 'group') writeGroup(state, operation.checks, operation.mutations)
  else writeMutation(state, operation)
}

function bodyBytes(operation: Operation): number {
  if (operation.type !== 'group') return mutationBytes(operation)
  const { checks, mutations } = operation
  let bytes = 1 + sizeOf(uint, checks.length + mutations.length)
  for (const { key, versionstamp } of checks) {
    bytes += 1 + sizeOf(lengthPrefixed, key) + sizeOf(nullableStamp, versionstamp)
  }
  for (const mutation of mutations) bytes += mutationBytes(mutation)
  return bytes
}

function mutationBytes(mutation: Mutation): number {
  const bytes = 1 + sizeOf(lengthPrefixed, mutation.key)
  if (mutation.type === 'del') return bytes
  const withValue = bytes + sizeOf(lengthPrefixed, mutation.value)
  if (mutation.type !== 'put') return withValue
  const expiry = mutation.expireIn ?? mutation.expireAt
  return withValue + 1 + (expiry === undefined ? 0 : sizeOf(uint, expiry))
}

function writeGroup(state: State, checks: readonly Check[], mutations: readonly Mutation[]): void {
  uint8.encode(state, codes.group)
  uint.encode(state, checks.length + mutations.length)
  for (const { key, versionstamp } of checks) {
    uint8.encode(state, codes.check)
    lengthPrefixed.encode(state, key)
    nullableStamp.encode(state, versionstamp)
  }
  for (const mutation of mutations) writeMutation(state, mutation)
}

function writeMutation(state: State, mutation: Mutation): void {
  uint8.encode(state, codes[mutation.type])
  if (mutation.type === 'put') {
    const { expireIn, expireAt } = mutation
    assert(expireIn === undefined || expireAt === undefined, 'one expiry at most')
    uint8.encode(
      state,
      (expireIn === undefined ? 0 : flagExpireIn) | (expireAt === undefined ? 0 : flagExpireAt)
    )
    lengthPrefixed.encode(state, mutation.key)
    const expiry = expireIn ?? expireAt
    if (expiry !== undefined) uint.encode(state, expiry)
  } else lengthPrefixed.encode(state, mutation.key)
  if (mutation.type !== 'del') lengthPrefixed.encode(state, mutation.value)
}

/** The operation of one place, without the length before it. Its keys and values are views of `bytes`. */
export function readOperation(bytes: Uint8Array): DecodedOperation {
  const state = stateOf(bytes)
  try {
    const code = uint8.decode(state)
    const operation = code === codes.group ? readGroup(state) : readMutation(state, code)
    if (state.start !== state.end) {
      throw new Refusal('invalid', `${state.end - state.start} bytes behind the operation`)
    }
    return operation
  } catch (error) {
    const reason = error instanceof Refusal ? error.reason : 'invalid'
    return { type: 'invalid', reason, text: (error as Error).message }
  }
}

function readGroup(state: State): Operation {
  if (state.end > groupBytesMax)
    throw new Refusal('too-large', `atomic group of ${state.end} bytes`)
  const count = decodeCount(state, 2)
  if (count === 0) throw new Refusal('invalid', 'empty atomic group')
  if (count > groupOperationsMax) {
    throw new Refusal('too-large', `atomic group of ${count} operations`)
  }
  const checks: Check[] = []
  const mutations: Mutation[] = []
  for (let i = 0; i < count; i++) {
    const code = uint8.decode(state)
    if (code === codes.group) throw new Refusal('invalid', 'atomic group inside a group')
    if (code !== codes.check) mutations.push(readMutation(state, code))
    else if (mutations.length > 0) throw new Refusal('invalid', 'check behind a mutation')
    else checks.push({ key: readKey(state), versionstamp: nullableStamp.decode(state) })
  }
  return { type: 'group', checks, mutations }
}

function readMutation(state: State, code: number): Mutation {
  switch (code) {
    case codes.put:
      return readPut(state)
    case codes.del:
      return { type: 'del', key: readKey(state) }
    case codes.sum:
      return { type: 'sum', key: readKey(state), value: readCounter(state) }
    case codes.min:
      return { type: 'min', key: readKey(state), value: readCounter(state) }
    case codes.max:
      return { type: 'max', key: readKey(state), value: readCounter(state) }
    case codes.check:
      throw new Refusal('invalid', 'check outside an atomic group')
    default:
      throw new Refusal('unsupported', `operation of code ${code}`)
  }
}

function readPut(state: State): Mutation {
  const flags = uint8.decode(state)
  if (flags > (flagExpireIn | flagExpireAt))
    throw new Refusal('unsupported', `put with flags ${flags}`)
  if (flags === (flagExpireIn | flagExpireAt)) throw new Refusal('invalid', 'put with two expiries')
  const key = readKey(state)
  if (flags === flagExpireIn) {
    return { type: 'put', key, expireIn: uint.decode(state), value: readValue(state) }
  }
  if (flags === flagExpireAt) {
    return { type: 'put', key, expireAt: uint.decode(state), value: readValue(state) }
  }
  return { type: 'put', key, value: readValue(state) }
}

function readKey(state: State): Uint8Array {
  const key = lengthPrefixed.decode(state)
  if (key.length > keyBytesMax) throw new Refusal('too-large', `key of ${key.length} bytes`)
  if (!isEncodedKey(key)) throw new Refusal('invalid', 'key that is no encoding of one')
  return key
}

function readValue(state: State): Uint8Array {
  const value = lengthPrefixed.decode(state)
  if (value.length > valueBytesMax) throw new Refusal('too-large', `value of ${value.length} bytes`)
  if (!isEncodedValue(value)) throw new Refusal('invalid', 'value that is no encoding of one')
  return value
}

function readCounter(state: State): Uint8Array {
  const value = lengthPrefixed.decode(state)
  if (!isCounter(value)) throw new Refusal('invalid', 'operand that is no counter')
  return value
}
