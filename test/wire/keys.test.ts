import test from 'tape'
import { keyBytesMax } from '../../config/limits.ts'
import { isKVSwarmError } from '../../lib/errors.ts'
import type { Key, KeyPart } from '../../lib/types.ts'
import {
  decodeKey,
  encodeKey,
  isEncodedKey,
  partitionKeyOf,
  prefixRange,
  rangeBound
} from '../../lib/wire/keys.ts'
import { random as randomOf } from '../helpers/random.ts'
import { randomParts } from './generate.ts'

/** The documented order, written down a second time. */
function compareParts(a: KeyPart, b: KeyPart): number {
  const rank = (part: KeyPart): number =>
    part instanceof Uint8Array
      ? 0
      : ['string', 'number', 'bigint', 'boolean'].indexOf(typeof part) + 1
  if (rank(a) !== rank(b)) return rank(a) - rank(b)
  if (a instanceof Uint8Array) return Buffer.compare(a, b as Uint8Array)
  if (typeof a !== 'string') return a === b ? 0 : a < b ? -1 : 1
  const left = Array.from(a, (character) => character.codePointAt(0) ?? 0)
  const right = Array.from(b as string, (character) => character.codePointAt(0) ?? 0)
  return compareLists(left, right, (x, y) => x - y)
}

function compareLists<T>(
  a: readonly T[],
  b: readonly T[],
  compare: (x: T, y: T) => number
): number {
  for (let i = 0; i < Math.min(a.length, b.length); i++) {
    const order = compare(a[i] as T, b[i] as T)
    if (order !== 0) return order
  }
  return a.length - b.length
}

function partsOf(key: Key): readonly KeyPart[] {
  return typeof key === 'string' || key instanceof Uint8Array ? [key] : key
}

function startsWith(part: KeyPart | undefined, prefix: string | Uint8Array): boolean {
  if (typeof prefix === 'string') return typeof part === 'string' && part.startsWith(prefix)
  if (!(part instanceof Uint8Array)) return false
  return Buffer.compare(part.subarray(0, prefix.length), prefix) === 0
}

function inside(key: Uint8Array, { gte, lt }: { gte: Uint8Array; lt: Uint8Array }): boolean {
  return Buffer.compare(gte, key) <= 0 && Buffer.compare(key, lt) < 0
}

const text = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex')

test('keys: the order of bytes is the documented order, and no two keys share their bytes', (t) => {
  const random = randomOf(t)
  let wrong = 0
  for (let i = 0; i < 30_000; i++) {
    const a = randomParts(random)
    // half of the time a key that differs little
    const b = random.chance(0.5) ? randomParts(random) : [...a.slice(0, -1), ...randomParts(random)]
    const expected = Math.sign(compareLists(a, b, compareParts))
    const found = Math.sign(Buffer.compare(encodeKey(a), encodeKey(b)))
    if (expected === found) continue
    if (wrong++ === 0)
      t.fail(`${JSON.stringify(a.map(String))} and ${JSON.stringify(b.map(String))}`)
  }
  t.equal(wrong, 0, '30,000 pairs')
  t.end()
})

test('keys: what is encoded comes back', (t) => {
  const random = randomOf(t)
  for (let i = 0; i < 20_000; i++) {
    const parts = randomParts(random)
    const encoded = encodeKey(parts)
    const decoded = decodeKey(encoded)
    const same = compareLists(partsOf(decoded), parts, compareParts) === 0
    if (same && isEncodedKey(encoded) && text(encodeKey(decoded)) === text(encoded)) continue
    t.fail(`${text(encoded)} is ${JSON.stringify(partsOf(decoded).map(String))}`)
    break
  }
  t.equal(decodeKey(encodeKey(['one'])), 'one', 'one string part is a plain string')
  t.deepEqual(decodeKey(encodeKey([Uint8Array.of(7)])), Uint8Array.of(7), 'one bytes part is bytes')
  t.deepEqual(decodeKey(encodeKey([7])), [7], 'one number stays an array')
  t.deepEqual(decodeKey(encodeKey(['', 'a'])), ['', 'a'], 'empty parts in longer arrays')
  t.equal(text(encodeKey([-0])), text(encodeKey([0])), '-0 is 0')
  t.equal(decodeKey(encodeKey('\ufeffx')), '\ufeffx', 'a byte order mark belongs to the string')
  t.end()
})

test('keys: any other form of a key is refused', (t) => {
  const random = randomOf(t)
  let accepted = 0
  for (let i = 0; i < 50_000; i++) {
    const encoded = Buffer.from(encodeKey(randomParts(random)))
    for (let n = random.int(0, 2); n >= 0; n--)
      encoded[random.int(0, encoded.length - 1)] = random.int(0, 255)
    const before = text(encoded)
    let decoded: Key | null = null
    try {
      decoded = decodeKey(encoded)
    } catch (error) {
      if (!isKVSwarmError(error, 'CORRUPT')) t.fail(`${before}: ${String(error)}`)
    }
    if ((decoded !== null) !== isEncodedKey(encoded)) t.fail(`isEncodedKey(${before})`)
    if (text(encoded) !== before) t.fail(`decoding has changed ${before}`)
    if (decoded === null) continue
    accepted++
    if (text(encodeKey(decoded)) !== before) t.fail(`${before} is not the only form of its key`)
  }
  t.ok(accepted > 1000, `${accepted} of 50,000 were keys`)
  const others = {
    'no end': '0261',
    'behind the end': '02610061',
    'unknown tag': '0661',
    'cut number': '03800000',
    '-0': '037fffffffffffffff',
    NaN: '03fff8000000000000',
    'boolean 2': '0502',
    'bigint with a leading zero': '0401000200ff',
    'negative zero': '0400ffff',
    'cut bigint': '04010002ff',
    'not UTF-8': '02ff00',
    'surrogate in UTF-8': '02eda08000',
    overlong: '02c08000',
    'empty string': '0200',
    'empty bytes': '0100',
    nothing: ''
  }
  for (const [name, hex] of Object.entries(others)) {
    const bytes = Buffer.from(hex, 'hex')
    t.throws(() => decodeKey(bytes), /CORRUPT|do not decode/, name)
    t.notOk(isEncodedKey(bytes), `${name}, at a glance`)
  }
  t.notOk(isEncodedKey(new Uint8Array(keyBytesMax + 1).fill(0x05)), 'too long')
  t.end()
})

test('keys: what is no key is refused, by name', (t) => {
  const cases: [unknown, string, RegExp][] = [
    ['', 'KEY_INVALID', /empty/],
    [[], 'KEY_INVALID', /empty/],
    [[''], 'KEY_INVALID', /empty/],
    [new Uint8Array(0), 'KEY_INVALID', /empty/],
    ['a\ud800', 'KEY_INVALID', /lone surrogate in 'a\\ud800'/i],
    [['ok', '\udc00'], 'KEY_INVALID', /lone surrogate/],
    [[NaN], 'KEY_INVALID', /NaN/],
    [5, 'KEY_INVALID', /number 5/],
    [null, 'KEY_INVALID', /null/],
    [undefined, 'KEY_INVALID', /undefined/],
    [['a', null], 'KEY_INVALID', /null/],
    [['a', { b: 1 }], 'KEY_INVALID', /object \{ b: 1 \}/],
    [[new Uint16Array(1)], 'KEY_INVALID', /Uint16Array/],
    [Array.from({ length: 3 }), 'KEY_INVALID', /undefined/],
    ['x'.repeat(keyBytesMax - 1), 'KEY_TOO_LARGE', /'x{40}'/],
    ['é'.repeat(keyBytesMax / 2), 'KEY_TOO_LARGE', /1024 bytes/],
    ['\0'.repeat(keyBytesMax / 2), 'KEY_TOO_LARGE', /1024 bytes/],
    [new Uint8Array(keyBytesMax), 'KEY_TOO_LARGE', /1024 bytes/],
    [[2n ** 9000n], 'KEY_TOO_LARGE', /1024 bytes/],
    [Array.from({ length: 1e5 }), 'KEY_TOO_LARGE', /1024 bytes/]
  ]
  for (const [key, code, message] of cases) {
    try {
      encodeKey(key as Key)
      t.fail(`${code} is due`)
    } catch (error) {
      const right = isKVSwarmError(error, code as 'KEY_INVALID') && message.test(error.message)
      t.ok(right && error.hint !== '', `${code}: ${(error as Error).message}`)
    }
  }
  t.equal(encodeKey('x'.repeat(keyBytesMax - 2)).length, keyBytesMax, 'the longest key')
  const buffer = Buffer.from([0, 1])
  t.deepEqual(decodeKey(encodeKey(buffer)), Uint8Array.of(0, 1), 'a Buffer is bytes')
  t.end()
})

test('keys: hash tags', (t) => {
  const cases: [string, Key, string][] = [
    ['no tag', 'user:7', text(encodeKey('user:7'))],
    ['a tag', 'a{42}b', '003432'],
    ['another key with it', ['x', 1, 'c{42}'], '003432'],
    ['first brace, first closing one after it', '}a{{x}}', '007b78'],
    ['an empty one is none', 'a{}{x}', text(encodeKey('a{}{x}'))],
    ['then the next string part counts', ['{}', '{x}'], '0078'],
    ['the first part that has one', ['{x}', '{y}'], '0078'],
    ['never across parts', ['{a', 'b}'], text(encodeKey(['{a', 'b}']))],
    ['not in bytes', Buffer.from('{x}'), text(encodeKey(Buffer.from('{x}')))],
    ['not in a number that has such bytes', [-2.0e-5, '{q}'], '0071'],
    ['a tag with a zero byte', '{a\0b}', '00610062'],
    ['a tag in another script', '{é}', '00c3a9']
  ]
  for (const [name, key, expected] of cases) {
    t.equal(text(partitionKeyOf(encodeKey(key))), expected, name)
  }
  t.throws(() => partitionKeyOf(Uint8Array.of(0x02, 0x7b)), /do not decode/, 'no key')
  t.end()
})

test('keys: prefixes match what they say', (t) => {
  const random = randomOf(t)
  let matched = 0
  let wrong = 0
  for (let i = 0; i < 30_000; i++) {
    const parts = randomParts(random)
    const taken = random.chance(0.5) ? parts : randomParts(random)
    const [head] = taken
    const simple = typeof head === 'string' || head instanceof Uint8Array ? head : ''
    const prefix = random.chance(0.5)
      ? taken.slice(0, random.int(0, taken.length))
      : simple.slice(0, random.int(0, simple.length))
    if (typeof prefix === 'string' && !prefix.isWellFormed()) continue
    const found = inside(encodeKey(parts), prefixRange(prefix))
    const expected = Array.isArray(prefix)
      ? parts.length > prefix.length &&
        compareLists(prefix, parts.slice(0, prefix.length), compareParts) === 0
      : startsWith(parts[0], prefix)
    if (expected) matched++
    if (found !== expected) wrong++
  }
  t.equal(wrong, 0, 'right each time')
  t.ok(matched > 1000, `${matched} matched`)
  t.notOk(
    inside(encodeKey('users'), prefixRange(['users'])),
    'the prefix alone is not below itself'
  )
  t.ok(inside(encodeKey(['users', 1]), prefixRange(['users'])), 'what is below it is')
  t.notOk(inside(encodeKey('users\0x'), prefixRange(['users'])), 'nor is a longer string')
  t.ok(inside(encodeKey('users\0x'), prefixRange('users')), 'which the string matches')
  t.end()
})

test('keys: bounds of ranges may be empty', (t) => {
  t.equal(text(rangeBound([])), '', 'before every key')
  t.equal(text(rangeBound('')), '0200', 'before every key that begins with a string')
  t.equal(text(rangeBound('a')), text(encodeKey('a')), 'else the key itself')
  t.throws(() => rangeBound([NaN]), /NaN/, 'no less strict')
  t.end()
})
