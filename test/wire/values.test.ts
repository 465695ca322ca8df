import { isDeepStrictEqual } from 'node:util'
import { runInNewContext } from 'node:vm'
import { Decoder } from 'cbor-x'
import test from 'tape'
import { isKVSwarmError } from '../../lib/errors.ts'
import type { Value } from '../../lib/types.ts'
import { valueDepthMax } from '../../lib/wire/cbor-form.ts'
import {
  decodeCounter,
  decodeValue,
  encodeCounter,
  encodeValue,
  type ValueEncoding
} from '../../lib/wire/values.ts'
import { random as randomOf } from '../helpers/random.ts'
import { randomValue } from './generate.ts'

function back(value: unknown, encoding?: ValueEncoding): unknown {
  const encoded = encodeValue(value as Value, encoding)
  // as it comes from a log: a Buffer in the middle of a larger one
  const larger = Buffer.concat([Buffer.from('before'), encoded, Buffer.from('after')])
  return decodeValue(larger.subarray(6, -5), encoding)
}

function code(run: () => unknown): string {
  try {
    run()
    return 'none'
  } catch (error) {
    return isKVSwarmError(error) && error.hint !== '' ? error.code : `another: ${String(error)}`
  }
}

const polluting = JSON.parse('{"__proto__":{"x":1},"constructor":1,"toString":2}') as Value

test('values: what is put is what is got', (t) => {
  const values: [string, unknown][] = [
    ['empty string', ''],
    ['string', 'hé😀\0\ufeff'],
    ['string with a byte order mark first', '\ufeffx'],
    ['007', '007'],
    ['empty bytes', new Uint8Array(0)],
    ['bytes', Uint8Array.of(0, 255, 1)],
    ['null', null],
    ['undefined', undefined],
    ['true', true],
    ['false', false],
    ['0', 0],
    ['-0', -0],
    ['NaN', NaN],
    ['Infinity', -Infinity],
    ['2^32 - 1', 2 ** 32 - 1],
    ['2^32', 2 ** 32],
    ['-2^32', -(2 ** 32)],
    ['-2^32 - 1', -(2 ** 32) - 1],
    ['2^53', 2 ** 53],
    ['least', 5e-324],
    ['0n', 0n],
    ['-1n', -1n],
    ['2^64', 2n ** 64n],
    ['-2^64', -(2n ** 64n)],
    ['a bigint of 1,000 digits', 7n ** 1183n],
    ['date', new Date(1_500_000_000_123)],
    ['date before 1970', new Date(-1)],
    ['last date', new Date(8.64e15)],
    ['first date', new Date(-8.64e15)],
    ['RegExp', /a+\/\n/giu],
    [
      'map with keys of all kinds',
      new Map<unknown, unknown>([
        [1, 'a'],
        ['1', 'b'],
        [{ a: 1 }, new Map()]
      ])
    ],
    ['set', new Set([1, '1', null])],
    ['object', { a: 1, b: { c: [] }, '': 0, 7: 'x' }],
    ['nested maps and objects', { a: new Map([['b', { c: new Map([[1, 2]]) }]]) }],
    ['undefined inside', { a: undefined, b: [undefined, null] }],
    ['own __proto__', polluting],
    ['Float32Array', Float32Array.of(1.5, -0, NaN)],
    ['BigInt64Array', BigInt64Array.of(-1n, 2n ** 62n)],
    ['Uint8ClampedArray', Uint8ClampedArray.of(1, 2)],
    ['DataView', new DataView(Uint8Array.of(1, 2, 3).buffer)],
    ['ArrayBuffer', Uint8Array.of(1, 2, 3).buffer],
    ['bytes inside', [Uint8Array.of(1)]],
    ['deep', deep(valueDepthMax)]
  ]
  for (const [name, value] of values) t.ok(isDeepStrictEqual(back(value), value), name)

  // isDeepStrictEqual() takes no invalid date for equal to another
  t.ok(Number.isNaN((back(new Date(NaN)) as Date).getTime()), 'invalid date')

  const random = randomOf(t)
  let wrong = 0
  for (let i = 0; i < 20_000; i++) {
    const value = randomValue(random)
    if (isDeepStrictEqual(back(value), value)) continue
    if (wrong++ === 0) t.fail(Buffer.from(encodeValue(value)).toString('hex'))
  }
  t.equal(wrong, 0, '20,000 random values')
  t.end()
})

test('values: every date comes back to the millisecond', (t) => {
  const random = randomOf(t)
  let wrong = 0
  for (let i = 0; i < 50_000; i++) {
    const ms = Math.trunc(
      (random.next() * 2 - 1) * random.pick([8.64e15, 4.45e15, 2.25e15, 1.7e12, 1e6])
    )
    if ((back(new Date(ms)) as Date).getTime() !== ms) wrong++
  }
  t.equal(wrong, 0)
  t.end()
})

test('values: what comes back as something like it', (t) => {
  const buffer = back(Buffer.from([1, 2])) as Uint8Array
  t.ok(isDeepStrictEqual(buffer, Uint8Array.of(1, 2)), 'a Buffer is bytes: a Uint8Array')
  t.ok(isDeepStrictEqual(back([Buffer.from([1])]), [Uint8Array.of(1)]), 'inside, too')
  const bare = Object.assign(Object.create(null) as object, { a: 1 })
  t.ok(isDeepStrictEqual(back(bare), { a: 1 }), 'an object without a prototype is an ordinary one')
  const foreign: unknown = runInNewContext('({ a: [1, new Map([[1, new Date(5)]])] })')
  t.ok(isDeepStrictEqual(back(foreign), { a: [1, new Map([[1, new Date(5)]])] }), 'another realm')
  const twice = [1]
  const [first, second] = back([twice, twice]) as unknown[]
  t.notEqual(first, second, 'two places of one object are two objects')
  t.end()
})

test('values: nothing is shared, nothing polluted', (t) => {
  const bytes = Uint8Array.of(1, 2, 3)
  const encoded = encodeValue(bytes)
  bytes[0] = 9
  const got = decodeValue(encoded) as Uint8Array
  t.deepEqual(got, Uint8Array.of(1, 2, 3), 'copied when put')
  encoded[1] = 9
  t.deepEqual(got, Uint8Array.of(1, 2, 3), 'copied when got')
  const inner = encodeValue([bytes])
  const gotInner = decodeValue(inner) as Uint8Array[]
  inner.fill(0)
  t.deepEqual(gotInner, [Uint8Array.of(9, 2, 3)], 'inside, too')

  const read = back(polluting) as Record<string, unknown>
  t.deepEqual(Object.keys(read), ['__proto__', 'constructor', 'toString'])
  t.equal(Object.getPrototypeOf(read), Object.prototype, 'the prototype is left alone')
  t.equal(({} as Record<string, unknown>).x, undefined)

  const nested = {
    get a() {
      return encodeValue({ b: 'meanwhile'.repeat(100) }).length
    },
    c: 'x'.repeat(300)
  }
  t.ok(
    isDeepStrictEqual(back(nested), { a: nested.a, c: nested.c }),
    'a getter may encode meanwhile'
  )
  t.end()
})

test('values: what could not be given back is refused', (t) => {
  class Point {
    x = 1
  }
  const cycle: unknown[] = []
  cycle.push({ cycle })
  const map = new Map<string, unknown>()
  map.set('self', map)
  const holes: unknown[] = [1]
  holes[2] = 3
  const refused: [string, unknown, RegExp][] = [
    ['function', () => 1, /function/],
    ['function inside', { a: [() => 1] }, /function/],
    ['symbol', Symbol('s'), /symbol Symbol\(s\)/],
    ['symbol as key', { [Symbol('s')]: 1 }, /symbol as key/],
    ['instance of a class', new Point(), /instance of a class.*Point \{ x: 1 \}/],
    ['error', new Error('x'), /instance of a class/],
    ['promise', Promise.resolve(1), /instance of a class/],
    ['subclass of Map', new (class More extends Map {})(), /instance of a class/],
    ['subclass of Array', new (class More extends Array {})(), /instance of a class/],
    ['subclass of Date', new (class More extends Date {})(), /instance of a class/],
    ['subclass of Int8Array', new (class More extends Int8Array {})(), /instance of a class/],
    ['boxed', Object(1), /instance of a class/],
    ['SharedArrayBuffer', new SharedArrayBuffer(1), /instance of a class/],
    ['hole in an array', holes, /hole at 1/],
    ['lone surrogate', 'a\ud800', /lone surrogate/],
    ['lone surrogate inside', ['\udc00a'], /lone surrogate/],
    ['lone surrogate in a name', { '\ud800': 1 }, /lone surrogate/],
    ['cycle', cycle, /contains itself/],
    ['cycle through a map', map, /contains itself/],
    ['too deep', deep(valueDepthMax + 1), /nested too deeply/]
  ]
  for (const [name, value, message] of refused) {
    t.equal(
      code(() => encodeValue(value as Value)),
      'VALUE_INVALID',
      name
    )
    t.throws(() => encodeValue(value as Value), message, `${name}, by name`)
  }
  t.end()
})

test('values: encodings that fix one type', (t) => {
  t.ok(isDeepStrictEqual(back(Uint8Array.of(1), 'binary'), Uint8Array.of(1)), 'binary')
  t.equal(back('a', 'utf-8'), 'a', 'utf-8')
  const json = { a: [1, 'b', null, true, -0.5, {}], __proto__x: 1 }
  t.ok(isDeepStrictEqual(back(json, 'json'), json), 'json')
  t.equal(back('a', 'json'), 'a', 'json string')
  t.ok(isDeepStrictEqual(decodeValue(encodeValue(json, 'json')), json), 'json is read by all')

  const refused: [ValueEncoding, unknown][] = [
    ['binary', 'a'],
    ['binary', [1]],
    ['utf-8', Uint8Array.of(1)],
    ['utf-8', 1],
    ['json', Uint8Array.of(1)],
    ['json', undefined],
    ['json', { a: undefined }],
    ['json', [NaN]],
    ['json', 1n],
    ['json', { a: { b: new Date(0) } }],
    ['json', new Map()]
  ]
  for (const [encoding, value] of refused) {
    t.equal(
      code(() => encodeValue(value as Value, encoding)),
      'VALUE_INVALID',
      `${encoding} put`
    )
  }
  t.ok(isDeepStrictEqual(decodeValue(encodeValue('é'), 'binary'), Uint8Array.of(0xc3, 0xa9)))
  t.equal(decodeValue(encodeValue(Buffer.from('é')), 'utf-8'), 'é')
  const notRead: [ValueEncoding, Uint8Array][] = [
    ['binary', encodeValue([1])],
    ['utf-8', encodeValue(Uint8Array.of(0xff))],
    ['utf-8', encodeValue(null)],
    ['json', encodeValue(Uint8Array.of(1))],
    ['json', encodeValue(new Set([1]))],
    ['json', encodeCounter('u64', 1n)]
  ]
  for (const [encoding, bytes] of notRead) {
    t.equal(
      code(() => decodeValue(bytes, encoding)),
      'VALUE_INVALID',
      `${encoding} read`
    )
  }
  t.end()
})

test('values: counters', (t) => {
  const ends = { u64: [0n, 2n ** 64n - 1n], i64: [-(2n ** 63n), 2n ** 63n - 1n] } as const
  for (const type of ['u64', 'i64'] as const) {
    for (const value of ends[type]) {
      t.deepEqual(decodeCounter(encodeCounter(type, value)), { type, value }, `${type} ${value}`)
      t.equal(decodeValue(encodeCounter(type, value)), value, 'as a value it is a bigint')
    }
    t.equal(
      code(() => encodeCounter(type, ends[type][1] + 1n)),
      'VALUE_INVALID',
      `${type} above`
    )
    t.equal(
      code(() => encodeCounter(type, ends[type][0] - 1n)),
      'VALUE_INVALID',
      `${type} below`
    )
  }
  t.equal(
    code(() => decodeCounter(encodeValue(1n))),
    'CORRUPT',
    'another value'
  )
  t.equal(
    code(() => decodeCounter(Uint8Array.of(3, 0))),
    'CORRUPT',
    'cut short'
  )
  t.end()
})

test('values: cbor-x, which is not ours, reads the same', (t) => {
  const decoder = new Decoder({ mapsAsObjects: true, useRecords: false, copyBuffers: true })
  const values: Value[] = [
    null,
    [1, -1, 255, 256, 65_536, 2 ** 32, 1.5, -(2 ** 31), true, false, null, undefined],
    { a: 'b', c: { d: ['é', 'x'.repeat(300)] } },
    [2n ** 70n, -(2n ** 70n), 5n],
    [new Date(1_500_000_000_123), new Date(5000)],
    new Map<Value, Value>([
      [1, 'a'],
      ['b', new Set([1, 2])]
    ]),
    [/a+/gi],
    [Float64Array.of(1.5), Int16Array.of(-2), Uint8ClampedArray.of(3)]
  ]
  for (const value of values) {
    const read: unknown = decoder.decode(Buffer.from(encodeValue(value).subarray(1)))
    t.ok(
      isDeepStrictEqual(read, value),
      Buffer.from(encodeValue(value)).toString('hex').slice(0, 60)
    )
  }
  t.end()
})

/** So many arrays inside each other. */
function deep(levels: number): unknown {
  let value: unknown = []
  for (let i = 1; i < levels; i++) value = [value]
  return value
}
