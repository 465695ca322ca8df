import test from 'tape'
import Config, { type ConfigOptions } from '../../config/index.ts'
import { isKVSwarmError } from '../../lib/errors.ts'
import { A, B, C, D, refusal, zD } from './ids.ts'

const good = new Config({ capacities: { [A]: 1, [B]: 1 }, writers: [C] }).serialize()
const value = (): Record<string, unknown> => JSON.parse(good) as Record<string, unknown>
const parse = (change: object): string =>
  refusal(() => Config.parse(JSON.stringify({ ...value(), ...change })))
const make = (options: object): string =>
  refusal(() => new Config({ capacities: { [A]: 1 }, ...options }))

test('what is not JSON', (t) => {
  t.match(
    refusal(() => Config.parse('')),
    /^not JSON: /
  )
  t.match(
    refusal(() => Config.parse('{\n  "a": 1,\n}')),
    /^not JSON: .*line 3 column 1/
  )
  t.match(
    refusal(() => Config.parse(`${good}x`)),
    /^not JSON: /
  )
  t.match(
    refusal(() => Config.parse(`\uFEFF${good}`)),
    /^not JSON: /
  )
  t.match(
    refusal(() => Config.parse(good.replaceAll('"', "'"))),
    /^not JSON: /
  )
  t.match(
    refusal(() => Config.parse(Buffer.from(good) as unknown as string)),
    /expected JSON text, got object/
  )
  t.match(
    refusal(() => Config.parse(undefined as unknown as string)),
    /expected JSON text, got undefined/
  )
  t.end()
})

test('JSON that is no object', (t) => {
  for (const text of [
    'null',
    '5',
    '"x"',
    '[]',
    'true',
    '['.repeat(100_000) + ']'.repeat(100_000)
  ]) {
    t.match(
      refusal(() => Config.parse(text)),
      /^expected an object, got [^;]*$/,
      text.slice(0, 10)
    )
  }
  t.end()
})

test('duplicate keys at any depth', (t) => {
  const twice = (key: string): string =>
    refusal(() => Config.parse(good.replace(`"${key}":`, `"${key}":1,"${key}":`)))
  t.match(twice('epoch'), /^epoch: duplicate key$/)
  t.match(twice('size'), /^bins\.a1\w+\.size: duplicate key$/)
  t.match(twice(A), /^bins\.a1\w+: duplicate key$/)
  t.match(
    refusal(() => Config.parse(good.replace('"epoch":', '"\\u0065poch":1,"epoch":'))),
    /^epoch: duplicate key$/,
    'also when one is written with an escape'
  )
  t.match(
    refusal(() =>
      Config.parse(good.replace('"epoch":', '"x":[{"a":{},"b":"{\\"}"},{"c":1,"c":2}],"epoch":'))
    ),
    /^x\[1\]\.c: duplicate key; x: unknown key$/
  )
  t.end()
})

test('unknown keys at any depth', (t) => {
  t.match(parse({ mirrors: {} }), /^mirrors: unknown key$/)
  t.match(
    parse({ moves: [], prevHash: '', admin: '', copies: 2 }),
    /^moves: unknown key; prevHash: unknown key; admin: unknown key; copies: unknown key$/
  )
  t.match(
    parse({ bins: { [A]: { size: 1, slices: '0+W00000000', x: 1 } } }),
    /^bins\.a1\w+\.x: unknown key$/
  )
  t.match(make({ writer: [] }), /^writer: unknown key$/)
  t.match(make({ 'a b\n': [] }), /^\["a b\\n"\]: unknown key$/)
  t.end()
})

test('__proto__ and its like are unknown keys, and pollute nothing', (t) => {
  const hostile = JSON.parse('{"__proto__": {"size": 1, "slices": "0+W00000000"}}') as object
  const inBin = JSON.parse('{"size": 1, "slices": "0+W00000000", "__proto__": {"x": 1}}') as object
  t.match(
    refusal(() => Config.parse(good.replace('"epoch":', '"__proto__":{"polluted":1},"epoch":'))),
    /^__proto__: unknown key$/
  )
  t.match(parse({ bins: hostile }), /^bins\.__proto__: unknown key/)
  t.match(parse({ bins: { [A]: inBin } }), /^bins\.a1\w+\.__proto__: unknown key$/)
  t.match(
    parse({ bins: { constructor: { size: 1, slices: '' } } }),
    /^bins\.constructor: unknown key/
  )
  t.match(
    make({ capacities: JSON.parse('{"__proto__": 5}') as object }),
    /^capacities\.__proto__: unknown key$/
  )
  t.match(make({ capacities: { prototype: 5 } }), /^capacities\.prototype: unknown key$/)
  t.match(make({ writers: ['__proto__'] }), /^writers\[0\]: expected a node id/)
  t.equal(({} as { polluted?: number }).polluted, undefined)
  t.end()
})

test('ids that are none, and one node named twice', (t) => {
  t.match(
    parse({ writers: ['x', C, 5] }),
    /^writers\[0\]: expected a node id \(64 hex digits or 52 characters of z-base-32\), got 'x'; writers\[2\]: .*got 5$/
  )
  t.match(parse({ writers: [zD, D] }), /^writers\[1\]: the same node as \[0\]$/)
  t.match(parse({ writers: { [A]: 1 } }), /^writers: expected an array of node ids, got \{/)
  t.match(
    parse({ bins: { [A.slice(1)]: { size: 1, slices: '0+W00000000' } } }),
    /^bins\.1a1\w+: expected a node id/
  )
  t.match(make({ capacities: { [D]: 1, [zD]: 1 } }), /^capacities\.4mj\w+: the same node as d2\w+$/)
  t.match(make({ capacities: { [A]: 1, [A.toUpperCase()]: 1 } }), /the same node as/)
  t.end()
})

test('capacities that are none', (t) => {
  const form = 'expected a capacity from 0.000001 to 1000000000 with at most six decimals'
  for (const capacity of [
    0,
    -0,
    -1,
    NaN,
    Infinity,
    -Infinity,
    1e-7,
    1.1234567,
    0.1 + 0.2,
    1e9 + 1,
    1e300,
    '5',
    '',
    null,
    true,
    [5],
    {},
    5n
  ]) {
    const message = make({ capacities: { [A]: capacity } })
    t.ok(message.includes(form), message)
  }
  t.match(make({ capacities: { [A]: undefined } }), /got undefined/)
  for (const size of [0, -1, '5', null, 1e10]) {
    t.match(
      parse({ bins: { [A]: { size, slices: '0+W00000000' } } }),
      /^bins\.a1\w+\.size: expected a capacity/
    )
  }
  t.match(parse({ bins: { [A]: { slices: '0+W00000000' } } }), /^bins\.a1\w+\.size: missing$/)
  t.match(parse({ bins: { [A]: 5 } }), /^bins\.a1\w+: expected an object, got 5$/)
  t.end()
})

test('no capacities at all', (t) => {
  for (const options of [
    {},
    { capacities: {} },
    { bins: {} },
    { capacities: undefined, writers: [A] }
  ]) {
    t.match(
      refusal(() => new Config(options)),
      /^capacities: no storage node is named$/
    )
  }
  t.match(
    refusal(() => new Config(undefined as unknown as ConfigOptions)),
    /^expected an object, got undefined$/
  )
  t.match(
    refusal(() => new Config({ capacities: 5 } as unknown as ConfigOptions)),
    /^capacities: expected an object, got 5$/
  )
  t.match(parse({ bins: {} }), /^bins: no storage node is named$/)
  t.match(parse({ bins: undefined }), /^bins: missing/)
  t.end()
})

test('epochs, versions, hash keys and bootstrap nodes that are none', (t) => {
  for (const epoch of [0, -1, 1.5, NaN, Infinity, 2 ** 53, 16_777_216, '1', null, 1n]) {
    t.match(
      make({ epoch }),
      /^epoch: expected a whole number from 1 to 16777215, got /,
      String(epoch)
    )
  }
  for (const version of [1, 3, '2', null]) {
    t.match(
      parse({ version }),
      /^version: expected 2, the only version that this program reads, got /
    )
  }
  t.match(parse({ version: undefined }), /^version: missing$/)
  t.match(parse({ epoch: undefined }), /^epoch: missing$/)
  for (const hashKey of ['', '00', 'g'.repeat(32), '0'.repeat(33), 5]) {
    t.match(make({ hashKey }), /^hashKey: expected 32 hex digits, got /)
  }
  for (const node of [
    '',
    'x',
    'x:',
    ':5',
    'x:0',
    'x:65536',
    'x:5 ',
    'a b:5',
    'x:05x',
    '::1:5',
    5,
    null
  ]) {
    t.match(
      make({ bootstrap: [node] }),
      /^bootstrap\[0\]: expected `host:port`, got /,
      String(node)
    )
  }
  t.match(make({ bootstrap: [] }), /^bootstrap: expected at least one/)
  t.match(make({ bootstrap: 'x:5' }), /^bootstrap: expected an array/)
  t.end()
})

test('slices that are none, overlap or leave a gap', (t) => {
  const bins = (a: unknown, b: unknown): string =>
    parse({ bins: { [A]: { size: 1, slices: a }, [B]: { size: 1, slices: b } } })
  for (const text of [
    '0',
    '0+',
    '+1',
    '0+0',
    '00+1',
    '0+01',
    '0+1 ',
    ' 0+1',
    '0+1,2+1',
    '0+W00000001',
    '0+10000000000',
    'W00000000+1',
    'V________+2',
    '0+é',
    5,
    null,
    []
  ]) {
    const message = bins(text, '')
    t.match(message, /^bins\.a1\w+\.slices: expected slices inside the space/, String(text))
  }
  t.match(
    bins('0+G00000000', 'G00000001+Fzzzzzzzz'),
    /^bins: no slice covers the points 4503599627370496 to 4503599627370496; bins: no slice covers/
  )
  t.match(
    bins('0+G00000000 1+1', 'G00000000+G00000000'),
    /^bins\.a1\w+\.slices\[1\]: overlaps bins\.a1\w+\.slices\[0\] in the points 1 to 1$/
  )
  t.match(
    bins('0+G00000001', 'G00000000+G00000000'),
    /^bins\.b2\w+\.slices\[0\]: overlaps bins\.a1\w+\.slices\[0\] in the points 4503599627370496 to 4503599627370496$/
  )
  t.end()
})

test('slices that do not fit the sizes: somebody has edited one of them', (t) => {
  const message = parse({
    bins: {
      [A]: { size: 3, slices: '0+G00000000' },
      [B]: { size: 1, slices: 'G00000000+G00000000' }
    }
  })
  t.match(
    message,
    /^bins\.a1\w+: its slices are 50 % of the space, its size asks for 75 %; bins\.b2\w+: its slices are 50 % of the space, its size asks for 25 %$/
  )
  t.end()
})

test('every fault is named, in every section, up to ten', (t) => {
  const message = parse({
    epoch: 0,
    hashKey: 'x',
    writers: ['x'],
    unknown: 1,
    bins: {
      [A]: { size: -1, slices: '0+G00000000' },
      [B]: { size: 1, slices: 'G00000001+FzzzzzzzZ', x: 1 }
    }
  })
  for (const part of [
    'epoch: expected',
    'hashKey: expected',
    `bins.${A}.size: expected`,
    `bins.${B}.x: unknown key`,
    'writers[0]: expected',
    'unknown: unknown key',
    'bins: no slice covers the points 4503599627370496 to 4503599627370496'
  ]) {
    t.ok(message.includes(part), part)
  }
  const many = make({ writers: Array.from({ length: 15 }, () => 'x') })
  t.match(many, /^writers\[0\]: .*; writers\[9\]: [^;]*; and 5 more$/)
  t.end()
})

test('a refusal is a CONFIG_INVALID with a hint and the faults as data', (t) => {
  try {
    Config.parse(good.replace('"epoch": 1', '"epoch": 0'))
    t.fail('refused')
  } catch (error) {
    t.ok(isKVSwarmError(error, 'CONFIG_INVALID'))
    if (!isKVSwarmError(error)) return
    t.match(error.hint, /kvswarm init/)
    t.deepEqual(error.data, {
      faults: [{ path: 'epoch', message: 'expected a whole number from 1 to 16777215, got 0' }]
    })
  }
  t.end()
})
