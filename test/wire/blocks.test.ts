import { isDeepStrictEqual } from 'node:util'
import test from 'tape'
import {
  blockBytesMax,
  blockBytesTarget,
  blockOperationsMax,
  groupBytesMax,
  groupOperationsMax,
  keyBytesMax,
  valueBytesMax
} from '../../config/limits.ts'
import { isKVSwarmError } from '../../lib/errors.ts'
import type { Mutation, Operation } from '../../lib/types.ts'
import {
  type Block,
  checkOperation,
  decodeBlock,
  type DecodedOperation,
  encodeBlock,
  type Flush,
  operationBytes,
  packBlocks
} from '../../lib/wire/blocks.ts'
import { encodeKey } from '../../lib/wire/keys.ts'
import { readOperation } from '../../lib/wire/operations.ts'
import { encodeValue } from '../../lib/wire/values.ts'
import { type Random, random as randomOf } from '../helpers/random.ts'
import { randomOperation } from './generate.ts'

const request = new Uint8Array(16).fill(7)
const value = encodeValue('v')
const put: Mutation = { type: 'put', key: encodeKey('k'), value }
const hex = (text: string): Uint8Array =>
  new Uint8Array(Buffer.from(text.replaceAll(' ', ''), 'hex'))
const id = (random: Random): string => Buffer.from(random.bytes(32)).toString('hex')

/** A block of one segment whose operations are these bytes, whatever they are. */
function blockOf(...operations: readonly Uint8Array[]): Uint8Array {
  const framed = operations.map((bytes) => Buffer.concat([Uint8Array.of(bytes.length), bytes]))
  const head = Uint8Array.of(1, 2, 3, 0, 1)
  const counts = Uint8Array.of(operations.length, operations.length)
  return Buffer.concat([head, request, counts, ...framed])
}

/** What became of the operations of a block. */
function operationsOf(bytes: Uint8Array): readonly DecodedOperation[] {
  const block = decodeBlock(bytes)
  return block.type === 'operations' ? block.segments.flatMap((segment) => segment.operations) : []
}

/** `type/reason` of what one operation decodes to. */
function fate(bytes: Uint8Array): string {
  const operation = readOperation(bytes)
  return operation.type === 'invalid' ? `invalid/${operation.reason}` : operation.type
}

function code(run: () => unknown): string {
  try {
    run()
    return 'none'
  } catch (error) {
    return isKVSwarmError(error) && error.hint !== '' ? error.code : `another: ${String(error)}`
  }
}

test('blocks: what is encoded comes back', (t) => {
  const random = randomOf(t)
  let wrong = 0
  for (let i = 0; i < 3000; i++) {
    const block = randomBlock(random)
    const bytes = encodeBlock(block)
    // as it comes from a log: a Buffer in the middle of a larger one
    const buffer = Buffer.concat([Uint8Array.of(9), bytes, Uint8Array.of(9)]).subarray(1, -1)
    if (!isDeepStrictEqual(decodeBlock(buffer), block)) wrong++
    if (wrong === 1) t.fail(Buffer.from(bytes).toString('hex'))
  }
  t.equal(wrong, 0, '3,000 blocks')
  t.end()
})

test('blocks: operationBytes() is exact', (t) => {
  const random = randomOf(t)
  let wrong = 0
  for (let i = 0; i < 2000; i++) {
    const operation = randomOperation(random)
    const with1 = encodeBlock(operationsBlock([put, operation])).length
    const without = encodeBlock(operationsBlock([put])).length
    if (with1 - without !== operationBytes(operation)) wrong++
  }
  t.equal(wrong, 0, '2,000 operations')
  t.end()
})

test('blocks: a bad operation is told at its place, and spoils no other', (t) => {
  const good = hex('01 00 03 026b00 02 0176') // put k
  const bad: [string, Uint8Array, string][] = [
    ['nothing', hex(''), 'invalid/invalid'],
    ['unknown code', hex('08 03 026b00'), 'invalid/unsupported'],
    ['code 0', hex('00'), 'invalid/unsupported'],
    ['check alone', hex('06 03 026b00 00'), 'invalid/invalid'],
    ['unknown flags', hex('01 04 03 026b00 02 0176'), 'invalid/unsupported'],
    ['two expiries', hex('01 03 03 026b00 01 01 02 0176'), 'invalid/invalid'],
    ['no key', hex('01 00 03 066b00 02 0176'), 'invalid/invalid'],
    ['empty key', hex('02 02 0200'), 'invalid/invalid'],
    ['key beyond the operation', hex('02 ff'), 'invalid/invalid'],
    ['key longer than what is left', hex('02 09 026b00'), 'invalid/invalid'],
    ['no value', hex('01 00 03 026b00'), 'invalid/invalid'],
    ['empty value', hex('01 00 03 026b00 00'), 'invalid/invalid'],
    ['value with an unknown tag', hex('01 00 03 026b00 01 09'), 'invalid/invalid'],
    ['string value that is not UTF-8', hex('01 00 03 026b00 02 01ff'), 'invalid/invalid'],
    ['more behind it', hex('02 03 026b00 00'), 'invalid/invalid'],
    ['length in a longer form', hex('02 fd0300 026b00'), 'invalid/invalid'],
    ['sum of a string', hex('03 03 026b00 02 0176'), 'invalid/invalid'],
    ['empty group', hex('07 00'), 'invalid/invalid'],
    ['group in a group', hex('07 01 07 01 02 03 026b00'), 'invalid/invalid'],
    ['check behind a mutation', hex('07 02 02 03 026b00 06 03 026b00 00'), 'invalid/invalid'],
    ['check with a third kind', hex('07 01 06 03 026b00 02'), 'invalid/invalid'],
    ['group with a bad operation', hex('07 02 02 03 026b00 02 03 066b00'), 'invalid/invalid'],
    ['group that promises more', hex('07 fe00ffffff 02 03 026b00'), 'invalid/invalid']
  ]
  for (const [name, bytes, expected] of bad) {
    t.equal(fate(bytes), expected, name)
    const operations = operationsOf(blockOf(good, bytes, good))
    t.deepEqual(
      operations.map((operation) => operation.type),
      ['put', 'invalid', 'put'],
      'in place'
    )
  }
  t.end()
})

test('blocks: what is beyond a limit is told so', (t) => {
  const longKey = new Uint8Array(keyBytesMax + 1).fill(0x61)
  longKey[0] = 0x02
  longKey[keyBytesMax] = 0
  const longValue = new Uint8Array(valueBytesMax + 1)
  const many: Operation = {
    type: 'group',
    checks: [],
    mutations: Array.from({ length: groupOperationsMax + 1 }, () => put)
  }
  const heavy: Operation = {
    type: 'group',
    checks: [],
    mutations: Array.from({ length: 2 }, () => ({
      ...put,
      value: new Uint8Array(groupBytesMax / 2)
    }))
  }
  const cases: [string, Operation, string][] = [
    ['key', { type: 'del', key: longKey }, 'KEY_TOO_LARGE'],
    ['value', { type: 'put', key: put.key, value: longValue }, 'VALUE_TOO_LARGE'],
    ['group of many', many, 'VALUE_TOO_LARGE'],
    ['heavy group', heavy, 'VALUE_TOO_LARGE']
  ]
  for (const [name, operation, expected] of cases) {
    t.equal(
      code(() => checkOperation(operation)),
      expected,
      `${name}: refused when written`
    )
    // as of a writer that does not check
    t.equal(fate(unchecked(operation)), 'invalid/too-large', `${name}: rejected when read`)
  }
  const wrong: [string, Operation, string][] = [
    ['no encoded key', { type: 'del', key: hex('66') }, 'KEY_INVALID'],
    ['no encoded value', { ...put, value: hex('09') }, 'VALUE_INVALID'],
    ['no counter', { type: 'sum', key: put.key, value }, 'VALUE_INVALID'],
    ['expiry before 1970', { ...put, expireAt: -1 }, 'VALUE_INVALID'],
    ['expiry of half a millisecond', { ...put, expireIn: 0.5 }, 'VALUE_INVALID'],
    ['two expiries', { ...put, expireIn: 1, expireAt: 1 }, 'VALUE_INVALID'],
    ['empty group', { type: 'group', checks: [], mutations: [] }, 'VALUE_INVALID'],
    [
      'check of no key',
      { type: 'group', checks: [{ key: hex(''), versionstamp: null }], mutations: [] },
      'KEY_INVALID'
    ]
  ]
  for (const [name, operation, expected] of wrong) {
    t.equal(
      code(() => checkOperation(operation)),
      expected,
      name
    )
  }
  t.end()
})

test('blocks: broken framing makes one invalid block, a later version another thing', (t) => {
  const good = encodeBlock(operationsBlock([put, put]))
  t.deepEqual(decodeBlock(hex('02 02 00')), { type: 'unknown', version: 2 }, 'version 2')
  t.deepEqual(decodeBlock(hex('00')), { type: 'unknown', version: 0 }, 'version 0')
  const broken: [string, Uint8Array, string][] = [
    ['nothing', hex(''), 'invalid'],
    ['no type', hex('01'), 'invalid'],
    ['unknown type', hex('01 09 00'), 'unsupported'],
    ['cut short', good.subarray(0, -1), 'invalid'],
    ['more behind it', Buffer.concat([good, Uint8Array.of(0)]), 'invalid'],
    ['no segments', hex('01 02 03 00 00'), 'invalid'],
    ['a billion segments', hex('01 02 03 00 fe00ca9a3b'), 'invalid'],
    [
      'more operations than in the whole flush',
      Buffer.concat([hex('01 02 03 00 01'), request, hex('01 02 00 00')]),
      'invalid'
    ],
    [
      'segment without operations',
      Buffer.concat([hex('01 02 03 00 01'), request, hex('01 00 00')]),
      'invalid'
    ],
    ['head cut short', hex('01 01 05'), 'invalid'],
    [
      'mark with too few lengths',
      Buffer.concat([hex('01 03 05'), new Uint8Array(32), hex('02')]),
      'invalid'
    ],
    ['number in a longer form', hex('01 04 fd0500'), 'invalid'],
    ['number above 2^53', hex('01 04 ffffffffffffffff7f'), 'invalid'],
    ['longer than any block', new Uint8Array(blockBytesMax + 1).fill(1), 'too-large'],
    ['too many operations', tooMany(), 'too-large']
  ]
  for (const [name, bytes, reason] of broken) {
    const block = decodeBlock(bytes)
    t.ok(
      block.type === 'invalid' && block.reason === reason && block.text !== '',
      `${name}: ${JSON.stringify(block)}`
    )
  }
  t.end()
})

test('packing: order, bounds, and as few blocks as can be', (t) => {
  const random = randomOf(t)
  for (let round = 0; round < 20; round++) {
    const flushes = Array.from({ length: random.int(0, 6) }, () => randomFlush(random))
    const { blocks, parts } = packBlocks({ epoch: 5, seen: null, flushes })
    const decoded = blocks.map((bytes) => decodeBlock(bytes))
    const perFlush = flushes.map((): DecodedOperation[] => [])
    let problem = ''
    for (const [b, block] of decoded.entries()) {
      if (block.type !== 'operations') {
        problem = block.type
        continue
      }
      const operations = block.segments.flatMap((segment) => segment.operations)
      const bytes = (blocks[b] as Uint8Array).length
      if (bytes > blockBytesTarget && operations.length > 1) problem = `${bytes} bytes`
      if (bytes > blockBytesMax || operations.length > blockOperationsMax)
        problem = 'beyond a bound'
      for (const segment of block.segments) {
        const f = flushes.findIndex((flush) => Buffer.compare(flush.request, segment.request) === 0)
        perFlush[f]?.push(...segment.operations)
        const part = parts[f]
        if (!part || b < part.from || b >= part.to) problem = `block ${b} is not in its part`
        if (segment.total !== flushes[f]?.operations.length) problem = `total ${segment.total}`
      }
      const next = decoded[b + 1]
      const first = next?.type === 'operations' ? next.segments[0]?.operations[0] : undefined
      if (first && first.type !== 'invalid') {
        const room = blockBytesTarget - bytes - operationBytes(first)
        // the packer reserves the longest form of each count, and a new segment needs its head
        const slack = 3 * (block.segments.length + 2) + 16 + 3
        if (room > slack && operations.length < blockOperationsMax)
          problem = `${room} bytes left in block ${b}`
      }
    }
    const same = flushes.every((flush, f) => isDeepStrictEqual(perFlush[f], flush.operations))
    for (const [f, part] of parts.entries()) {
      if (flushes[f]?.operations.length === 0 && part.from !== part.to)
        problem = 'empty flush with blocks'
    }
    t.ok(same && problem === '', problem || `${flushes.length} flushes in ${blocks.length} blocks`)
  }
  t.end()
})

test('packing: ends of ranges', (t) => {
  t.deepEqual(
    packBlocks({ epoch: 1, seen: null, flushes: [] }),
    { blocks: [], parts: [] },
    'nothing'
  )
  const many = Array.from({ length: blockOperationsMax + 1 }, () => put)
  const packed = packBlocks({ epoch: 1, seen: null, flushes: [{ request, operations: many }] })
  t.deepEqual(packed.parts, [{ from: 0, to: 2 }], '10,001 small operations take two blocks')

  const large: Operation = { ...put, value: encodeValue(new Uint8Array(valueBytesMax - 1)) }
  const three = packBlocks({
    epoch: 1,
    seen: null,
    flushes: [{ request, operations: [put, large, put] }]
  })
  t.deepEqual(
    three.blocks.map((bytes) => operationsOf(bytes).length),
    [1, 1, 1],
    'a large one is alone'
  )

  const two = [request, new Uint8Array(16).fill(8)].map((request) => ({
    request,
    operations: [put]
  }))
  const shared = packBlocks({ epoch: 9, seen: { generation: 3, length: 4 }, flushes: two })
  t.deepEqual(
    shared.parts,
    [
      { from: 0, to: 1 },
      { from: 0, to: 1 }
    ],
    'two flushes share a block'
  )
  const block = decodeBlock(shared.blocks[0] as Uint8Array)
  t.ok(
    block.type === 'operations' && block.epoch === 9 && block.seen?.length === 4,
    'with its epoch'
  )
  const bad: Flush = { request, operations: [{ type: 'del', key: hex('66') }] }
  t.equal(
    code(() => packBlocks({ epoch: 1, seen: null, flushes: [bad] })),
    'KEY_INVALID',
    'checked'
  )
  t.end()
})

function operationsBlock(operations: readonly Operation[]): Block {
  const segments = [{ request, total: operations.length, operations }]
  return { type: 'operations', epoch: 3, seen: null, segments }
}

function randomBlock(random: Random): Block {
  const position = { generation: random.int(0, 2 ** 41), length: random.int(0, 70_000) }
  switch (random.int(0, 4)) {
    case 0:
      return {
        type: 'head',
        created: 1_700_000_000_000,
        epoch: 7,
        continues: random.chance(0.5) ? null : position
      }
    case 1:
      return {
        type: 'mark',
        epoch: random.int(0, 300),
        configHash: id(random),
        lengths: Array.from({ length: random.int(0, 5) }, () => ({ node: id(random), ...position }))
      }
    case 2:
      return { type: 'end', next: position.generation }
    default: {
      const segments = Array.from({ length: random.int(1, 4) }, () => {
        const operations = Array.from({ length: random.int(1, 5) }, () => randomOperation(random))
        return {
          request: random.bytes(16),
          total: operations.length + random.int(0, 9),
          operations
        }
      })
      return {
        type: 'operations',
        epoch: 300,
        seen: random.chance(0.5) ? null : position,
        segments
      }
    }
  }
}

function randomFlush(random: Random): Flush {
  const operations = Array.from({ length: random.pick([0, 1, 10, 1000]) }, () =>
    randomOperation(random)
  )
  if (random.chance(0.5)) {
    const value = encodeValue(new Uint8Array(random.pick([1000, 100_000, 300_000])))
    operations.push({ type: 'put', key: put.key, value }, { type: 'put', key: put.key, value })
  }
  return { request: random.bytes(16), operations }
}

/** One operation too many, each of no bytes. */
function tooMany(): Uint8Array {
  const count = blockOperationsMax + 1
  const counts = Uint8Array.of(0xfd, count & 0xff, count >> 8, 0xfd, count & 0xff, count >> 8)
  return Buffer.concat([hex('01 02 03 00 01'), request, counts, new Uint8Array(count)])
}

/** The bytes of an operation as a writer would write them that checks nothing. */
function unchecked(operation: Operation): Uint8Array {
  const block = encodeBlock(operationsBlock([operation]))
  const head = 5 + request.length + 2
  const frame = { 0xfd: 3, 0xfe: 5 }[block[head] ?? 0] ?? 1
  return block.subarray(head + frame)
}
