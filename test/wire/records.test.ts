import test from 'tape'
import { groupOperationsMax } from '../../config/limits.ts'
import type { OperationPlace } from '../../lib/types.ts'
import { encodeKey, prefixRange } from '../../lib/wire/keys.ts'
import {
  cursorKey,
  cursorsRange,
  cutOffKey,
  cutOffsRange,
  dataKey,
  dataRange,
  decodeCursor,
  decodeEntry,
  decodeIndexState,
  decodeResult,
  decodeResultKey,
  decodeTombstone,
  encodeCursor,
  encodeEntry,
  encodeIndexState,
  encodeResult,
  encodeTombstone,
  expiryKey,
  expiryRange,
  indexStateKey,
  keyOfData,
  parseIndexKey,
  resultKey,
  resultsRange,
  tombstoneKey,
  tombstonesRange,
  type Result
} from '../../lib/wire/records.ts'
import {
  compareStamps,
  decodeStamp,
  encodeStamp,
  isVersionstamp,
  makeStamp,
  stampCounterMax,
  stampEpochMax,
  stampFields,
  stampSerialMax,
  type StampFields
} from '../../lib/wire/stamps.ts'
import { encodeValue } from '../../lib/wire/values.ts'
import { random as randomOf } from '../helpers/random.ts'
import { randomKey } from './generate.ts'

const writer = 'aa'.repeat(32)
const owner = 'ff'.repeat(32) // ends of ranges have to carry over 0xFF
const other = '00'.repeat(32)
const stamp = makeStamp({ epoch: 3, serial: 2, counter: 1 })
const key = encodeKey(['users', 'alice'])

interface Bounds {
  readonly gte?: Uint8Array
  readonly gt?: Uint8Array
  readonly lt?: Uint8Array
  readonly lte?: Uint8Array
}

function inside(key: Uint8Array, { gte, gt, lt, lte }: Bounds): boolean {
  return (
    (gte === undefined || Buffer.compare(gte, key) <= 0) &&
    (gt === undefined || Buffer.compare(gt, key) < 0) &&
    (lt === undefined || Buffer.compare(key, lt) < 0) &&
    (lte === undefined || Buffer.compare(key, lte) <= 0)
  )
}

const place = (generation: number, block: number, place: number): OperationPlace => ({
  writer,
  owner,
  generation,
  block,
  place
})

test('versionstamps: one order as fields, digits and bytes', (t) => {
  const random = randomOf(t)
  let wrong = 0
  for (let i = 0; i < 5000; i++) {
    const fields = (): StampFields => ({
      epoch: random.pick([0, 1, 255, 256, stampEpochMax]),
      serial: random.pick([0, 255, 256, stampSerialMax]),
      counter: random.pick([
        0,
        2 ** 32 - 1,
        2 ** 32,
        stampCounterMax,
        random.int(0, stampCounterMax)
      ])
    })
    const [a, b] = [fields(), fields()]
    const expected = Math.sign(a.epoch - b.epoch || a.serial - b.serial || a.counter - b.counter)
    const [x, y] = [makeStamp(a), makeStamp(b)]
    const bytes = Buffer.compare(encodeStamp(x), encodeStamp(y))
    if (compareStamps(x, y) !== expected || bytes !== expected) wrong++
    if (JSON.stringify(stampFields(x)) !== JSON.stringify(a)) wrong++
    if (decodeStamp(Buffer.from(encodeStamp(x))) !== x) wrong++
  }
  t.equal(wrong, 0, '5,000 pairs')
  for (const fields of [
    { epoch: stampEpochMax + 1, serial: 0, counter: 0 },
    { epoch: 0, serial: stampSerialMax + 1, counter: 0 },
    { epoch: 0, serial: 0, counter: stampCounterMax + 1 },
    { epoch: -1, serial: 0, counter: 0 },
    { epoch: 0.5, serial: 0, counter: 0 }
  ]) {
    t.throws(() => makeStamp(fields), /invariant/, JSON.stringify(fields))
  }
  t.ok(isVersionstamp(stamp))
  t.notOk(isVersionstamp(stamp.toUpperCase().replace('0', 'A')), 'upper case')
  t.notOk(isVersionstamp(`${stamp}0`), 'too long')
  t.throws(() => decodeStamp(new Uint8Array(9)), /do not decode/, 'too short')
  t.end()
})

test('index keys: each is read as what it is', (t) => {
  const group = { epoch: 7, from: other }
  t.deepEqual(parseIndexKey(indexStateKey), { type: 'state' })
  t.deepEqual(parseIndexKey(cutOffKey(writer, owner)), { type: 'cutOff', writer, owner })
  t.deepEqual(parseIndexKey(cursorKey(writer, owner)), {
    type: 'cursor',
    group: null,
    writer,
    owner
  })
  t.deepEqual(parseIndexKey(cursorKey(writer, owner, group)), {
    type: 'cursor',
    group,
    writer,
    owner
  })
  t.deepEqual(parseIndexKey(resultKey(place(5, 6, 7))), { type: 'result', place: place(5, 6, 7) })
  t.deepEqual(decodeResultKey(resultKey(place(5, 6, 7))), place(5, 6, 7))
  t.deepEqual(parseIndexKey(expiryKey(1e12, key)), { type: 'expiry', time: 1e12, key })
  t.deepEqual(parseIndexKey(tombstoneKey(9, key)), { type: 'tombstone', epoch: 9, key })
  t.deepEqual(parseIndexKey(dataKey(key)), { type: 'data', key })
  t.deepEqual(keyOfData(Buffer.from(dataKey(key))), key)
  t.throws(() => keyOfData(indexStateKey), /state where an entry is due/)
  t.throws(() => decodeResultKey(dataKey(key)), /data where a result is due/)
  for (const bytes of [
    [],
    [0x05],
    [0x00, 0x03],
    [0x00, 0x01, 0x00],
    [0x10],
    [0x10, 0x66],
    [0x01, 0x02]
  ]) {
    t.throws(() => parseIndexKey(Uint8Array.from(bytes)), /do not decode/, `[${bytes.join()}]`)
  }
  t.end()
})

test('index keys: ranges hold all of theirs and nothing else', (t) => {
  const group = { epoch: 7, from: owner }
  const ranges: Record<string, Bounds> = {
    cutOffs: cutOffsRange(),
    base: cursorsRange(),
    group: cursorsRange(group),
    results: resultsRange(writer, owner),
    'results from a place on': resultsRange(writer, owner, { generation: 5, block: 6, place: 7 }),
    'expired before 1,000': expiryRange(1000),
    tombstones: tombstonesRange(255),
    data: dataRange(),
    'data by prefix': dataRange(prefixRange(['users'])),
    'data behind a key': dataRange({ gt: key }),
    'data up to a key': dataRange({ lte: key })
  }
  const cases: [string, Uint8Array, string[]][] = [
    ['state', indexStateKey, []],
    ['cut-off', cutOffKey(owner, owner), ['cutOffs']],
    ['cursor', cursorKey(owner, owner), ['base']],
    ['cursor of a group', cursorKey(owner, owner, group), ['group']],
    ['cursor of another group', cursorKey(owner, owner, { epoch: 8, from: other }), []],
    ['first result', resultKey(place(0, 0, 0)), ['results']],
    ['result before', resultKey(place(5, 6, 6)), ['results']],
    ['result there', resultKey(place(5, 6, 7)), ['results', 'results from a place on']],
    [
      'last result',
      resultKey(place(2 ** 53 - 1, 2 ** 53 - 1, 2 ** 32 - 1)),
      ['results', 'results from a place on']
    ],
    ['result of another log', resultKey({ ...place(5, 6, 7), writer: owner, owner: other }), []],
    ['expiry', expiryKey(999, key), ['expired before 1,000']],
    ['later expiry', expiryKey(1000, key), []],
    ['tombstone', tombstoneKey(255, key), ['tombstones']],
    ['tombstone of the next epoch', tombstoneKey(256, key), []],
    ['entry', dataKey(key), ['data', 'data by prefix', 'data up to a key']],
    [
      'entry behind',
      dataKey(encodeKey(['users', 'bob'])),
      ['data', 'data by prefix', 'data behind a key']
    ],
    ['last entry', dataKey(encodeKey([true])), ['data', 'data behind a key']],
    ['first entry', dataKey(encodeKey([Uint8Array.of(0)])), ['data', 'data up to a key']]
  ]
  for (const [name, at, expected] of cases) {
    const found = Object.keys(ranges).filter((range) => inside(at, ranges[range] as Bounds))
    t.deepEqual(found, expected, name)
  }
  t.deepEqual(dataRange({ reverse: true, limit: 3 }), { ...dataRange(), reverse: true, limit: 3 })
  t.end()
})

test('index keys: entries lie in key order', (t) => {
  const random = randomOf(t)
  let wrong = 0
  for (let i = 0; i < 5000; i++) {
    const [a, b] = [encodeKey(randomKey(random)), encodeKey(randomKey(random))]
    if (Buffer.compare(dataKey(a), dataKey(b)) !== Buffer.compare(a, b)) wrong++
  }
  t.equal(wrong, 0, '5,000 pairs')
  t.ok(
    Buffer.compare(resultKey(place(1, 2, 300)), resultKey(place(1, 3, 0))) < 0,
    'results by place'
  )
  t.ok(
    Buffer.compare(resultKey(place(255, 9, 9)), resultKey(place(256, 0, 0))) < 0,
    'and generation'
  )
  t.end()
})

test('records: what is encoded comes back', (t) => {
  const state = {
    epoch: 300,
    configHash: 'ab'.repeat(32),
    serial: 2,
    counter: 2 ** 40 - 1,
    now: 1_700_000_000_000
  }
  t.deepEqual(decodeIndexState(encodeIndexState(state)), state)
  const cursor = { generation: 1_700_000_000_000, length: 70_000 }
  t.deepEqual(decodeCursor(Buffer.from(encodeCursor(cursor))), cursor)
  t.equal(decodeTombstone(encodeTombstone(stamp)), stamp)
  for (const expireAt of [0, 1_700_000_000_000]) {
    const entry = { value: encodeValue({ a: 1 }), versionstamp: stamp, expireAt }
    t.deepEqual(
      decodeEntry(dataKey(key), encodeEntry(entry)),
      { key, ...entry },
      `expireAt ${expireAt}`
    )
  }
  const results: Result[] = [
    { type: 'ok', versionstamp: stamp },
    { type: 'failed', checks: [] },
    {
      type: 'failed',
      checks: [
        { index: 0, found: null },
        { index: 999, found: stamp }
      ]
    },
    { type: 'rejected', reason: 'too-large', text: 'a key of 1,025 bytes' },
    { type: 'rejected', reason: 'of-a-later-version', text: '' }
  ]
  for (const result of results)
    t.deepEqual(decodeResult(encodeResult(result)), result, JSON.stringify(result))
  const long = decodeResult(
    encodeResult({ type: 'rejected', reason: 'invalid', text: 'é😀'.repeat(100) })
  )
  t.equal(
    long.type === 'rejected' && long.text,
    `${'é😀'.repeat(42)}é`,
    'a long text is cut between characters'
  )
  t.end()
})

test('records: any other form is refused', (t) => {
  const entry = encodeEntry({ value: encodeValue('v'), versionstamp: stamp, expireAt: 5 })
  const change = (bytes: Uint8Array, at: number, byte: number): Uint8Array => {
    const changed = new Uint8Array(bytes)
    changed[at] = byte
    return changed
  }
  const result = encodeResult({ type: 'ok', versionstamp: stamp })
  const failed = encodeResult({ type: 'failed', checks: [{ index: 1, found: null }] })
  const rejected = encodeResult({ type: 'rejected', reason: 'invalid', text: 'a' })
  const readEntry = (bytes: Uint8Array) => (): unknown => decodeEntry(dataKey(key), bytes)
  const cases: [string, () => unknown][] = [
    ['later version of an entry', readEntry(change(entry, 0, 2))],
    ['unknown flag', readEntry(change(entry, 1, 2))],
    ['entry without a value', readEntry(entry.subarray(0, 13))],
    ['entry with an unknown value', readEntry(change(entry, 13, 9))],
    ['entry that expires at 0', readEntry(change(entry, 12, 0))],
    ['later version of a cursor', () => decodeCursor(Uint8Array.of(2, 1, 1))],
    ['cursor with more behind it', () => decodeCursor(Uint8Array.of(1, 1, 1, 1))],
    ['cursor cut short', () => decodeCursor(Uint8Array.of(1, 1))],
    ['state cut short', () => decodeIndexState(Uint8Array.of(1, 1))],
    ['tombstone cut short', () => decodeTombstone(Uint8Array.of(1, 1))],
    ['later version of a result', () => decodeResult(change(result, 0, 2))],
    ['unknown kind of result', () => decodeResult(change(result, 1, 3))],
    ['more checks than a group has', () => decodeResult(Uint8Array.of(1, 1, 0xfd, 0xe9, 0x03))],
    ['more checks than there are', () => decodeResult(change(failed, 2, 9))],
    ['reason with a space', () => decodeResult(change(rejected, 4, 0x20))],
    ['text that is not UTF-8', () => decodeResult(change(rejected, rejected.length - 1, 0xff))]
  ]
  for (const [name, run] of cases) t.throws(run, /do not decode/, name)
  t.throws(
    () => encodeResult({ type: 'rejected', reason: 'No Reason', text: '' }),
    /invariant/,
    'an ill-formed reason is ours'
  )
  const checks = Array.from({ length: groupOperationsMax + 1 }, () => ({ index: 0, found: null }))
  t.throws(() => encodeResult({ type: 'failed', checks }), /invariant/, 'too many checks are ours')
  t.end()
})
