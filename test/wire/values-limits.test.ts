import { isDeepStrictEqual } from 'node:util'
import test from 'tape'
import { valueBytesMax } from '../../config/limits.ts'
import { isKVSwarmError } from '../../lib/errors.ts'
import type { Value } from '../../lib/types.ts'
import { valueDepthMax, valueObjectsMax, valueRegExpUnitsMax } from '../../lib/wire/cbor-form.ts'
import { decodeValue, encodeValue, isEncodedValue } from '../../lib/wire/values.ts'

function code(run: () => unknown): string {
  try {
    run()
    return 'none'
  } catch (error) {
    return isKVSwarmError(error) && error.hint !== '' ? error.code : `another: ${String(error)}`
  }
}

test('values: 8 MiB and no more', (t) => {
  const most = valueBytesMax - 1
  t.equal(encodeValue('x'.repeat(most)).length, valueBytesMax, 'string')
  t.equal(encodeValue(new Uint8Array(most)).length, valueBytesMax, 'bytes')
  t.equal(encodeValue([new Uint8Array(most - 6)]).length, valueBytesMax, 'structured')
  const tooLarge: [string, unknown][] = [
    ['string', 'x'.repeat(most + 1)],
    ['string of two-byte characters', 'é'.repeat(valueBytesMax / 2)],
    ['bytes', new Uint8Array(most + 1)],
    ['structured by one byte', [new Uint8Array(most - 5)]],
    ['string inside', ['x'.repeat(valueBytesMax)]],
    ['bigint', 1n << BigInt(8 * valueBytesMax)]
  ]
  // ten arrays, each ten times the one before: 10^10 elements if nobody stopped it
  let bomb: unknown = [0]
  for (let i = 0; i < 10; i++) bomb = Array.from({ length: 10 }, () => bomb)
  tooLarge.push(['bomb', bomb])
  const expression = new RegExp('a'.repeat(valueRegExpUnitsMax))
  t.ok(
    isDeepStrictEqual(decodeValue(encodeValue(expression)), expression),
    'the longest regular expression'
  )
  tooLarge.push(['a longer one', new RegExp(`${expression.source}a`)])
  const longer = Buffer.concat([
    Buffer.from('02d81b83665265674578707a00010001', 'hex'),
    Buffer.alloc(valueRegExpUnitsMax + 1, 'a'),
    Buffer.from([0x60])
  ])
  t.equal(
    code(() => decodeValue(longer)),
    'CORRUPT',
    'a longer one, read'
  )
  const objects = Array.from({ length: valueObjectsMax - 1 }, () => new Date(0))
  t.equal(
    (decodeValue(encodeValue(objects)) as unknown[]).length,
    valueObjectsMax - 1,
    'as many objects as can be'
  )
  tooLarge.push(['one object too many', [...objects, new Uint8Array(0)]])
  for (const [name, value] of tooLarge) {
    t.equal(
      code(() => encodeValue(value as Value)),
      'VALUE_TOO_LARGE',
      name
    )
  }
  t.equal(
    code(() => decodeValue(new Uint8Array(valueBytesMax + 1))),
    'CORRUPT',
    'read'
  )
  t.notOk(isEncodedValue(new Uint8Array(valueBytesMax + 1)), 'at a glance')
  for (const item of ['40', 'a0', '80', 'c100', 'd84840', 'd9010280', 'd90103a0']) {
    const head = Buffer.from([0x02, 0x9a, 0, 0, 0, 0])
    head.writeUInt32BE(valueObjectsMax, 2)
    const items = Array.from({ length: valueObjectsMax }, () => Buffer.from(item, 'hex'))
    const bytes = Buffer.concat([head, ...items])
    t.equal(
      code(() => decodeValue(bytes)),
      'CORRUPT',
      `half a million times ${item}`
    )
    head.writeUInt32BE(70_000, 2)
    const fewer = Buffer.concat([head, ...items.slice(0, 70_000)])
    t.equal(
      code(() => decodeValue(fewer)),
      'none',
      'though 70,000 times it is a value'
    )
  }
  t.end()
})

test('values: any other form is refused', (t) => {
  const others: Record<string, string> = {
    nothing: '',
    'unknown tag': '05',
    'string that is not UTF-8': '01ff',
    'no item': '02',
    'two items': '0200 00',
    'string alone': '02 6161',
    'bytes alone': '02 4161',
    'head that is not the shortest': '02 1817',
    'integer in eight bytes': '02 1b0000000100000000',
    'integer as a float': '02 fb3ff0000000000000',
    'half float': '02 f93c00',
    'another NaN': '02 fb7ff8000000000001',
    'indefinite array': '02 9fff',
    'indefinite string': '02 7f6161ff',
    'unknown simple value': '02 e0',
    'break alone': '02 ff',
    'array cut short': '02 8201',
    'array of 4 billion': '02 9affffffff00',
    'bytes cut short': '02 5a00ffffff00',
    'text that is not UTF-8': '02 61ff',
    'map key that is no text': '02 a10101',
    'key twice': '02 a2616101616102',
    '__proto__ twice': '02 a2695f5f70726f746f5f5f01695f5f70726f746f5f5f02',
    'key twice in a Map': '02 d90103a201010102',
    'member twice': '02 d90102820101',
    'unknown tag inside': '02 c401',
    'date that is a string': '02 c06161',
    'date with no number': '02 c16161',
    'date with an array': '02 c180',
    'date beyond the last': '02 c1fb42c0000000000000',
    'bigint with a leading zero': '02 c24100',
    'bigint of text': '02 c26161',
    'record of cbor-x': '02 d9dfff8319e00081616101',
    'shared value of cbor-x': '02 d81c80',
    'error of cbor-x': '02 d81b82654572726f726178',
    'function by name': '02 d81b836846756e6374696f6e6161 6162',
    'RegExp that is none': '02 d81b83665265674578706128 60',
    'RegExp with unknown flags': '02 d81b8366526567457870616161 71',
    'typed array of a broken size': '02 d84543000000'
  }
  for (const [name, hex] of Object.entries(others)) {
    const bytes = Buffer.from(hex.replaceAll(' ', ''), 'hex')
    t.equal(
      code(() => decodeValue(bytes)),
      'CORRUPT',
      name
    )
  }
  const nested = Buffer.alloc(valueDepthMax + 3, 0x81)
  nested[0] = 0x02
  nested[nested.length - 1] = 0
  t.equal(
    code(() => decodeValue(nested)),
    'CORRUPT',
    'too deep'
  )
  for (const [name, item] of Object.entries({
    dates: 'c1',
    sets: 'd90102',
    maps: 'd90103',
    bigints: 'c2'
  })) {
    const bytes = Buffer.concat([
      Buffer.from([0x02]),
      Buffer.alloc(300_000, Buffer.from(item, 'hex'))
    ])
    t.equal(
      code(() => decodeValue(bytes)),
      'CORRUPT',
      `${name} inside ${name}`
    )
  }
  t.end()
})
