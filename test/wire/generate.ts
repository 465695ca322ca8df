/**
 * Random keys, values and operations for the tests of this room, with a bias for what is hard: zero bytes, borders of
 * encodings, names like `__proto__`.
 */
import type { Key, KeyPart, Mutation, Operation, Value } from '../../lib/types.ts'
import { encodeKey } from '../../lib/wire/keys.ts'
import { makeStamp } from '../../lib/wire/stamps.ts'
import { encodeCounter, encodeValue } from '../../lib/wire/values.ts'
import type { Random } from '../helpers/random.ts'

const characters = [
  'a',
  'b',
  '\0',
  '\x01',
  '\xff',
  'é',
  '{',
  '}',
  '￿',
  '',
  '𐀀',
  '😀',
  '\ufeff',
  '/'
]
const numbers = [
  0,
  -0,
  1,
  -1,
  0.5,
  -0.5,
  Infinity,
  -Infinity,
  Number.MIN_VALUE,
  -Number.MIN_VALUE,
  Number.MAX_VALUE,
  Number.MAX_SAFE_INTEGER,
  2 ** 32,
  2 ** 32 - 1,
  -(2 ** 32),
  -(2 ** 32) - 1,
  255,
  256,
  65_535,
  65_536
]

export function randomText(random: Random, lengthMax: number): string {
  return Array.from({ length: random.int(0, lengthMax) }, () => random.pick(characters)).join('')
}

export function randomNumber(random: Random): number {
  if (random.chance(0.5)) return random.pick(numbers)
  const view = new DataView(new ArrayBuffer(8))
  view.setUint32(0, random.int(0, 2 ** 32 - 1))
  view.setUint32(4, random.int(0, 2 ** 32 - 1))
  const value = view.getFloat64(0)
  return Number.isNaN(value) ? random.int(0, 999) - 500 : value
}

export function randomBigint(random: Random): bigint {
  const bits = BigInt(random.pick([1, 7, 8, 9, 63, 64, 65, 255, 256, 600]))
  let value = 0n
  for (let i = 0n; i < bits; i += 32n) value = (value << 32n) | BigInt(random.int(0, 2 ** 32 - 1))
  value = BigInt.asUintN(Number(bits), value)
  return random.chance(0.5) ? -value : value
}

export function randomPart(random: Random): KeyPart {
  switch (random.int(0, 5)) {
    case 0:
      return Uint8Array.from({ length: random.int(0, 3) }, () => random.pick([0, 1, 0xfe, 0xff]))
    case 1:
    case 2:
      return randomText(random, 4)
    case 3:
      return randomNumber(random)
    case 4:
      return randomBigint(random)
    default:
      return random.chance(0.5)
  }
}

/** Parts of a key; never the empty key. */
export function randomParts(random: Random): KeyPart[] {
  for (;;) {
    const parts = Array.from({ length: random.int(0, 3) }, () => randomPart(random))
    const [first] = parts
    const empty = parts.length === 1 && (typeof first === 'string' || first instanceof Uint8Array)
    if (parts.length > 0 && !(empty && first.length === 0)) return parts
  }
}

export function randomKey(random: Random): Key {
  return random.chance(0.5) ? `k${randomText(random, 6)}` : randomParts(random)
}

/** A value of any kind that there is. */
export function randomValue(random: Random, depth = 0): Value {
  const kinds = depth < 4 ? 15 : 9
  switch (random.int(0, kinds - 1)) {
    case 0:
      return random.chance(0.5)
        ? randomNumber(random)
        : random.chance(0.1)
          ? NaN
          : random.int(0, 299)
    case 1:
      return randomText(random, random.pick([3, 30, 300]))
    case 2:
      return randomBigint(random)
    case 3:
      return random.chance(0.5)
    case 4:
      return random.chance(0.5) ? null : undefined
    case 5:
      return random.bytes(random.int(0, 39))
    case 6:
      return new Date(Math.trunc((random.next() * 2 - 1) * 8.64e15))
    case 7:
      return random.pick([/a+/, /^\/[\u{1F600}x]$/giu, new RegExp(''), /(?<n>\d)/dsy])
    case 8:
      return randomView(random)
    case 9:
    case 10:
      return Array.from({ length: random.int(0, 4) }, () => randomValue(random, depth + 1))
    case 11:
    case 12: {
      const entries = Array.from({ length: random.int(0, 4) }, () => {
        const name = random.pick(['a', '1', '__proto__', 'toString', 'constructor', 'é', ''])
        return [name, randomValue(random, depth + 1)] as const
      })
      return Object.fromEntries(entries)
    }
    case 13:
      return new Map(
        Array.from({ length: random.int(0, 4) }, () => [
          randomValue(random, depth + 1),
          randomValue(random, depth + 1)
        ])
      )
    default:
      return new Set(Array.from({ length: random.int(0, 4) }, () => randomValue(random, depth + 1)))
  }
}

const views: readonly (new (buffer: ArrayBuffer) => ArrayBufferView)[] = [
  Uint8ClampedArray,
  Uint16Array,
  Uint32Array,
  BigUint64Array,
  Int8Array,
  Int16Array,
  Int32Array,
  BigInt64Array,
  DataView
]

function randomView(random: Random): ArrayBufferView {
  if (random.chance(0.2)) return Float64Array.of(0.5, -0, Infinity)
  const create = random.pick(views)
  return new create(new Uint8Array(random.bytes(8 * random.int(0, 3))).buffer)
}

export function randomMutation(random: Random): Mutation {
  const key = encodeKey(randomKey(random))
  switch (random.int(0, 5)) {
    case 0:
      return { type: 'del', key }
    case 1:
      return {
        type: random.pick(['sum', 'min', 'max'] as const),
        key,
        value: random.chance(0.5) ? encodeCounter('u64', 2n ** 63n) : encodeCounter('i64', -1n)
      }
    case 2:
      return {
        type: 'put',
        key,
        value: encodeValue(randomValue(random)),
        expireIn: random.int(0, 2 ** 32 - 1)
      }
    case 3:
      return { type: 'put', key, value: encodeValue(1), expireAt: 1_700_000_000_000 }
    default:
      return { type: 'put', key, value: encodeValue(randomText(random, 100)) }
  }
}

export function randomOperation(random: Random): Operation {
  if (!random.chance(0.2)) return randomMutation(random)
  return {
    type: 'group',
    checks: Array.from({ length: random.int(0, 3) }, () => ({
      key: encodeKey(randomKey(random)),
      versionstamp: random.chance(0.5)
        ? null
        : makeStamp({ epoch: random.int(0, 999), serial: 1, counter: random.int(0, 2 ** 32 - 1) })
    })),
    mutations: Array.from({ length: 1 + random.int(0, 4) }, () => randomMutation(random))
  }
}
