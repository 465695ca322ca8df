/**
 * The formats by example: each case is a value and what encodes and decodes it; golden.json has its bytes. They are
 * never changed, only added to: data that was stored with one version has to be read by all later ones.
 */
import { keyPair } from 'hypercore-crypto'
import type { Key, Operation, Value } from '../../lib/types.ts'
import { type Block, decodeBlock, encodeBlock } from '../../lib/wire/blocks.ts'
import { decodeDeleted, encodeDeleted } from '../../lib/wire/deleted.ts'
import { indexCases } from './golden-index.ts'
import { decodeFlushId, encodeFlushId, type FlushId } from '../../lib/wire/flush-id.ts'
import {
  type GenerationRecord,
  openGeneration,
  signGeneration
} from '../../lib/wire/generations.ts'
import { idOf } from '../../lib/wire/ids.ts'
import { decodeKey, encodeKey, partitionKeyOf, prefixRange } from '../../lib/wire/keys.ts'
import { decodeMessage, encodeMessage, type Message } from '../../lib/wire/messages.ts'
import { logNamespace } from '../../lib/wire/namespaces.ts'
import {
  cursorKey,
  cutOffKey,
  dataKey,
  decodeCursor,
  decodeEntry,
  decodeIndexState,
  decodeResult,
  decodeTombstone,
  encodeCursor,
  encodeEntry,
  encodeIndexState,
  encodeResult,
  encodeTombstone,
  expiryKey,
  expiryValue,
  type IndexKey,
  indexStateKey,
  parseIndexKey,
  type Result,
  resultKey,
  tombstoneKey
} from '../../lib/wire/records.ts'
import { decodeStamp, encodeStamp, makeStamp } from '../../lib/wire/stamps.ts'
import { decodeCounter, decodeValue, encodeCounter, encodeValue } from '../../lib/wire/values.ts'

export interface GoldenCase {
  readonly name: string
  readonly bytes: Uint8Array
  /** What the bytes decode to, and what decodes them; unset for hashes and bounds. */
  readonly value?: unknown
  readonly decode?: (bytes: Uint8Array) => unknown
}

const keys = keyPair(new Uint8Array(32).fill(1))
const node = idOf(keys.publicKey)
const owner = 'bb'.repeat(32)
const third = 'cc'.repeat(32)
const request = Uint8Array.from({ length: 16 }, (_, i) => i)
const position = { generation: 1_700_000_000_000, length: 300 }
const stamp = makeStamp({ epoch: 1, serial: 2, counter: 3 })
const alice = encodeKey(['users', 'alice'])
const beans = encodeValue('beans')

const keyCases: readonly [string, Key][] = [
  ['plain string', 'greeting'],
  ['tuple', ['users', 'alice', 42]],
  ['zero byte in a string', 'a\0b'],
  ['bytes', Uint8Array.of(0, 0xff)],
  ['empty part', ['', 'x']],
  ['number 0', [0]],
  ['number 1.5', [1.5]],
  ['number -1.5', [-1.5]],
  ['infinities', [-Infinity, Infinity]],
  ['bigint 0', [0n]],
  ['bigint 256', [256n]],
  ['bigint -256', [-256n]],
  ['booleans', [false, true]],
  ['beyond the basic plane', '😀']
]

const valueCases: readonly [string, Value][] = [
  ['string', 'beans'],
  ['empty string', ''],
  ['bytes', Uint8Array.of(0, 0xff)],
  ['null', null],
  ['undefined', undefined],
  ['booleans', [true, false]],
  ['integers', [0, 23, 24, 255, 256, 65_536, 2 ** 32 - 1, -1, -(2 ** 32)]],
  ['floats', [-0, 1.5, NaN, Infinity, 2 ** 32, -(2 ** 32) - 1]],
  ['bigints', [0n, 255n, -256n, 2n ** 64n]],
  ['dates', [new Date(0), new Date(1_500_000_000_123)]],
  ['object', { a: 'b', c: [1, { d: null }] }],
  ['own __proto__', JSON.parse('{"__proto__":1}') as Value],
  [
    'map',
    new Map<Value, Value>([
      [1, 'a'],
      ['1', 'b']
    ])
  ],
  ['set', new Set([1, 'a'])],
  ['regular expression', /a+\//gi],
  ['bytes inside', [Uint8Array.of(1, 2)]],
  ['typed arrays', [Uint16Array.of(1, 256), Float64Array.of(1.5), BigInt64Array.of(-2n)]],
  ['data view', new DataView(Uint8Array.of(1, 2, 3).buffer)]
]

const operations: readonly Operation[] = [
  { type: 'put', key: alice, value: beans },
  { type: 'put', key: alice, value: beans, expireIn: 60_000 },
  { type: 'put', key: alice, value: beans, expireAt: 1_700_000_000_000 },
  { type: 'del', key: alice },
  { type: 'sum', key: alice, value: encodeCounter('u64', 5n) },
  { type: 'min', key: alice, value: encodeCounter('i64', -5n) },
  { type: 'max', key: alice, value: encodeCounter('u64', 7n) },
  {
    type: 'group',
    checks: [
      { key: alice, versionstamp: stamp },
      { key: encodeKey('absent'), versionstamp: null }
    ],
    mutations: [
      { type: 'put', key: alice, value: beans },
      { type: 'del', key: encodeKey('absent') }
    ]
  }
]

const blockCases: readonly [string, Block][] = [
  ['first head', { type: 'head', created: 1_700_000_000_000, epoch: 1, continues: null }],
  ['later head', { type: 'head', created: 1_700_000_000_001, epoch: 300, continues: position }],
  [
    'operations',
    {
      type: 'operations',
      epoch: 1,
      seen: null,
      segments: [{ request, total: operations.length, operations }]
    }
  ],
  [
    'two flushes',
    {
      type: 'operations',
      epoch: 2,
      seen: position,
      segments: [
        { request, total: 1, operations: operations.slice(0, 1) },
        { request: request.toReversed(), total: 300, operations: operations.slice(3, 4) }
      ]
    }
  ],
  [
    'mark',
    {
      type: 'mark',
      epoch: 2,
      configHash: 'ab'.repeat(32),
      lengths: [
        { node: owner, ...position },
        { node: third, generation: 5, length: 1 }
      ]
    }
  ],
  ['end', { type: 'end', next: 1_700_000_000_002 }]
]

const place = { writer: node, owner, generation: 5, block: 6, place: 7 }
const group = { epoch: 7, from: third }
const indexKeyCases: readonly [string, Uint8Array, IndexKey][] = [
  ['state', indexStateKey, { type: 'state' }],
  ['cut-off', cutOffKey(node, owner), { type: 'cutOff', writer: node, owner }],
  ['cursor', cursorKey(node, owner), { type: 'cursor', group: null, writer: node, owner }],
  [
    'cursor of a move',
    cursorKey(node, owner, group),
    { type: 'cursor', group, writer: node, owner }
  ],
  ['result', resultKey(place), { type: 'result', place }],
  [
    'expiry',
    expiryKey(1_700_000_000_000, alice),
    { type: 'expiry', time: 1_700_000_000_000, key: alice }
  ],
  ['tombstone', tombstoneKey(9, alice), { type: 'tombstone', epoch: 9, key: alice }],
  ['data', dataKey(alice), { type: 'data', key: alice }]
]

const resultCases: readonly [string, Result][] = [
  ['ok', { type: 'ok', versionstamp: stamp }],
  [
    'failed',
    {
      type: 'failed',
      checks: [
        { index: 0, found: stamp },
        { index: 1, found: null }
      ]
    }
  ],
  ['rejected', { type: 'rejected', reason: 'too-large', text: 'key of 1,025 bytes' }]
]

const generationCases: readonly [string, GenerationRecord][] = [
  ['index', { name: { kind: 'index', node }, generation: 5, serial: 2, continues: position }],
  [
    'outbox',
    { name: { kind: 'outbox', node, owner }, generation: 5, serial: null, continues: null }
  ],
  [
    'handoff',
    {
      name: { kind: 'handoff', node, to: owner, epoch: 7 },
      generation: 5,
      serial: null,
      continues: null
    }
  ]
]

const messageCases: readonly [string, Message][] = [
  ['hello', { type: 'hello', protocolVersion: 1, epoch: 3, configHash: 'ab'.repeat(32) }],
  [
    'records',
    { type: 'records', records: generationCases.map(([, record]) => signGeneration(record, keys)) }
  ],
  ['ack', { type: 'ack', ...position }],
  ['applied', { type: 'applied', ...position, index: { generation: 4, length: 5 }, rejected: 1 }],
  ['headRequest', { type: 'headRequest', id: 1 }],
  ['head', { type: 'head', id: 1, ...position }],
  ['ping', { type: 'ping', id: 2 }],
  ['pong', { type: 'pong', id: 2 }],
  ['rotate', { type: 'rotate', generation: 1_700_000_000_000 }],
  ['oldest', { type: 'oldest', generation: 1_700_000_000_000 }]
]

const flushId: FlushId = {
  request,
  operations: 2,
  parts: [
    { owner, generation: 1_700_000_000_000, from: 1, to: 2 },
    { owner: third, generation: 5, from: 300, to: 302 }
  ]
}

const deleted = {
  generations: [
    { generation: 4, length: 300 },
    { generation: 1_700_000_000_000, length: 2 }
  ],
  requests: [{ request, generation: 4, from: 298, to: 300 }]
}

const state = {
  epoch: 3,
  configHash: 'ab'.repeat(32),
  serial: 2,
  counter: 9,
  now: 1_700_000_000_000
}
const entry = { key: alice, value: beans, versionstamp: stamp }

export const goldenCases: readonly GoldenCase[] = [
  ...keyCases.map(([name, value]) => ({
    name: `key: ${name}`,
    bytes: encodeKey(value),
    value,
    decode: decodeKey
  })),
  { name: 'partition key: hash tag', bytes: partitionKeyOf(encodeKey(['a{}', 'user:{42}:name'])) },
  { name: 'partition key: none', bytes: partitionKeyOf(encodeKey(['a{}', 'b'])) },
  { name: 'prefix of a string: from', bytes: prefixRange('ab').gte },
  { name: 'prefix of a string: to', bytes: prefixRange('ab').lt },
  { name: 'prefix of a tuple: from', bytes: prefixRange(['ab']).gte },
  { name: 'prefix of a tuple: to', bytes: prefixRange(['ab']).lt },
  ...valueCases.map(([name, value]) => ({
    name: `value: ${name}`,
    bytes: encodeValue(value),
    value,
    decode: (bytes: Uint8Array) => decodeValue(bytes)
  })),
  ...(['u64', 'i64'] as const).map((type) => ({
    name: `value: counter ${type}`,
    bytes: encodeCounter(type, 258n),
    value: { type, value: 258n },
    decode: decodeCounter
  })),
  {
    name: 'value: counter below 0',
    bytes: encodeCounter('i64', -2n),
    value: { type: 'i64', value: -2n },
    decode: decodeCounter
  },
  { name: 'versionstamp', bytes: encodeStamp(stamp), value: stamp, decode: decodeStamp },
  ...blockCases.map(([name, value]) => ({
    name: `block: ${name}`,
    bytes: encodeBlock(value),
    value,
    decode: decodeBlock
  })),
  ...indexKeyCases.map(([name, bytes, value]) => ({
    name: `index key: ${name}`,
    bytes,
    value,
    decode: parseIndexKey
  })),
  ...resultCases.map(([name, value]) => ({
    name: `result: ${name}`,
    bytes: encodeResult(value),
    value,
    decode: decodeResult
  })),
  { name: 'record: state', bytes: encodeIndexState(state), value: state, decode: decodeIndexState },
  { name: 'record: cursor', bytes: encodeCursor(position), value: position, decode: decodeCursor },
  {
    name: 'record: tombstone',
    bytes: encodeTombstone(stamp),
    value: stamp,
    decode: decodeTombstone
  },
  { name: 'record: expiry', bytes: expiryValue },
  ...[0, 1_700_000_000_000].map((expireAt) => ({
    name: `record: entry, expireAt ${expireAt}`,
    bytes: encodeEntry({ ...entry, expireAt }),
    value: { ...entry, expireAt },
    decode: (bytes: Uint8Array) => decodeEntry(dataKey(alice), bytes)
  })),
  ...generationCases.map(([name, value]) => ({
    name: `generation record: ${name}`,
    bytes: signGeneration(value, keys),
    value,
    decode: openGeneration
  })),
  ...generationCases.map(([name, record]) => ({
    name: `namespace: ${name}`,
    bytes: logNamespace(record.name, record.generation)
  })),
  {
    name: 'deleted generations',
    bytes: encodeDeleted(deleted),
    value: deleted,
    decode: decodeDeleted
  },
  ...messageCases.map(([name, value]) => ({
    name: `message: ${name}`,
    bytes: encodeMessage(value),
    value,
    decode: decodeMessage
  })),
  ...indexCases(node),
  {
    name: 'flush id',
    bytes: new Uint8Array(Buffer.from(encodeFlushId(flushId))),
    value: flushId,
    decode: (bytes) => decodeFlushId(Buffer.from(bytes).toString('latin1'))
  }
]
