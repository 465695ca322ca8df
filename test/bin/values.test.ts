/** Keys and values as JSON and back, and what is printed for a person. */
import { inspect, isDeepStrictEqual } from 'node:util'
import test from 'tape'
import {
  keyFromJson,
  keyToJson,
  keyToText,
  valueFromJson,
  valueToJson
} from '../../bin/json-values.ts'
import { escapeControls, escapeForTerminal } from '../../bin/print.ts'
import { isKVSwarmError } from '../../lib/errors.ts'
import type { Value } from '../../lib/types.ts'
import { type Random, random } from '../helpers/random.ts'

/** Through JSON text and back, as between list --json and write --from. */
function through(value: Value): Value {
  return valueFromJson(JSON.parse(JSON.stringify(valueToJson(value))))
}

test('the JSON form of each kind of value', (t) => {
  const proto = JSON.parse('{"__proto__":1}') as Value
  const table: [Value, string][] = [
    ['007', '"007"'],
    ['', '""'],
    [7, '7'],
    [-0, '{"$number":"-0"}'],
    [Number.NaN, '{"$number":"NaN"}'],
    [-Infinity, '{"$number":"-Infinity"}'],
    [true, 'true'],
    [null, 'null'],
    [undefined, '{"$undefined":true}'],
    [12n, '{"$bigint":"12"}'],
    [-(2n ** 70n), '{"$bigint":"-1180591620717411303424"}'],
    [new Uint8Array([0, 1, 2]), '{"$bytes":"AAEC"}'],
    [new Date(0), '{"$date":"1970-01-01T00:00:00.000Z"}'],
    [/a\/b/gi, '{"$regexp":["a\\\\/b","gi"]}'],
    [new Map<Value, Value>([[1, 'x']]), '{"$map":[[1,"x"]]}'],
    [new Set<Value>(['a', 1]), '{"$set":["a",1]}'],
    [new Float64Array([1]), '{"$typed":["Float64Array","AAAAAAAA8D8="]}'],
    [['a', [1n]], '["a",[{"$bigint":"1"}]]'],
    [{ a: { b: undefined } }, '{"a":{"b":{"$undefined":true}}}'],
    [{ $bytes: 'AAEC' }, '{"$object":[["$bytes","AAEC"]]}'],
    [{ $object: [] }, '{"$object":[["$object",[]]]}'],
    [{ $a: 1, $b: 2 }, '{"$a":1,"$b":2}'],
    [proto, '{"__proto__":1}']
  ]
  for (const [value, json] of table) {
    t.equal(JSON.stringify(valueToJson(value)), json, json)
    t.ok(isDeepStrictEqual(through(value), value), 'and back')
  }
  t.ok(Number.isNaN((through(new Date(Number.NaN)) as Date).getTime()), 'an invalid date')
  t.equal(({} as Record<string, unknown>)['a'], undefined, 'nothing is polluted')
  t.end()
})

test('any value is what it was after JSON', (t) => {
  const rng = random(t)
  let different = 0
  for (let i = 0; i < 3_000; i++) {
    const value = anyValue(rng, 4)
    if (!isDeepStrictEqual(through(value), value)) different++
  }
  t.equal(different, 0, '3000 random values')
  t.end()
})

function anyValue(rng: Random, depth: number): Value {
  const many = <T>(make: () => T): T[] => Array.from({ length: rng.int(0, 3) }, make)
  const deeper = (): Value => anyValue(rng, depth - 1)
  const key = (): string => rng.pick(['a', '$bytes', '$object', '$map', '__proto__', '', '$', 'é'])
  const leaves: (() => Value)[] = [
    () => rng.text(rng.int(0, 5)),
    () => rng.int(-5, 5),
    () => rng.next() * 1e9,
    () => rng.pick([-0, Number.NaN, Infinity, true, false, null, undefined]),
    () => BigInt(rng.int(-1000, 1000)) ** 9n,
    () => rng.bytes(rng.int(0, 5)),
    () => new Date(rng.int(0, 2 ** 31)),
    () => new Int16Array([rng.int(-9, 9)])
  ]
  if (depth === 0) return rng.pick(leaves)()
  const nodes: (() => Value)[] = [
    () => many(deeper),
    () => new Map(many((): [Value, Value] => [deeper(), deeper()])),
    () => new Set(many(deeper)),
    () => Object.fromEntries(many((): [string, Value] => [key(), deeper()]))
  ]
  return rng.pick([...leaves, ...nodes, ...nodes])()
}

test('what is no value in JSON is refused', (t) => {
  for (const json of [
    '{"$bytes":"%"}',
    '{"$bytes":7}',
    '{"$bigint":"1.5"}',
    '{"$bigint":12}',
    '{"$number":"7"}',
    '{"$date":"soon"}',
    '{"$date":7}',
    '{"$regexp":["("," "]}',
    '{"$map":[[1]]}',
    '{"$set":7}',
    '{"$typed":["Array","AA=="]}',
    '{"$typed":["__proto__","AA=="]}',
    '{"$typed":["Float64Array","AA=="]}',
    '{"$object":[1]}',
    '{"$other":1}'
  ]) {
    try {
      const value = valueFromJson(JSON.parse(json))
      t.fail(`${json} is ${inspect(value)}`)
    } catch (error) {
      t.ok(isKVSwarmError(error, 'VALUE_INVALID'), json)
    }
  }
  t.end()
})

test('keys', (t) => {
  const key = ['users', new Uint8Array([1]), 7n, 1.5, true]
  const json = ['users', { $bytes: 'AQ==' }, { $bigint: '7' }, 1.5, true]
  t.deepEqual(keyToJson(key), json)
  t.deepEqual(keyFromJson(json), key)
  t.equal(keyFromJson('a.b'), 'a.b')
  t.deepEqual(keyToJson(new Uint8Array([1])), [{ $bytes: 'AQ==' }])
  t.equal(keyToText('a b'), 'a b')
  t.equal(keyToText(['a', 1]), '["a",1]')
  for (const bad of [null, 7, {}, [], [null], [[]], [{ $date: null }]]) {
    try {
      keyFromJson(bad)
      t.fail(JSON.stringify(bad))
    } catch (error) {
      t.ok(isKVSwarmError(error, 'KEY_INVALID'), JSON.stringify(bad))
    }
  }
  t.end()
})

test('nothing that is printed for a person acts on a terminal', (t) => {
  const hostile = 'a\u001b[2J\u0007\r\n\tb\u009b1m\u202ec\u2028\u0000\u007fé😀'
  t.equal(escapeControls(hostile), String.raw`a\x1b[2J\x07\r\n\tb\x9b1m\u202ec\u2028\x00\x7fé😀`)
  t.equal(
    escapeForTerminal(hostile),
    'a\\x1b[2J\\x07\\r\n\tb\\x9b1m\\u202ec\\u2028\\x00\\x7fé😀',
    'lines and tabs stay'
  )
  t.end()
})
