// Applying blocks: entries, cursors, results and stops, each in the one set of changes that is appended.
import test from 'tape'
import { evaluate, logId, type PlacedBlock } from '../../lib/protocol/evaluate.ts'
import type { DecodedOperation } from '../../lib/wire/blocks.ts'
import { decodeBlock, encodeBlock } from '../../lib/wire/blocks.ts'
import { encodeKey } from '../../lib/wire/keys.ts'
import {
  cursorKey,
  dataKey,
  decodeCursor,
  decodeEntry,
  decodeIndexState,
  decodeResult,
  indexStateKey,
  resultKey,
  type IndexState
} from '../../lib/wire/records.ts'
import { stampCounterMax } from '../../lib/wire/stamps.ts'
import { encodeValue } from '../../lib/wire/values.ts'

const writer = '11'.repeat(32)
const another = '22'.repeat(32)
const owner = '33'.repeat(32)
const before: IndexState = {
  epoch: 3,
  configHash: '00'.repeat(32),
  serial: 1,
  counter: 41,
  now: 1000
}
const all = { owns: (): boolean => true }

function put(key: string, value: string): DecodedOperation {
  return { type: 'put', key: encodeKey(key), value: encodeValue(value) }
}

function block(
  number: number,
  operations: DecodedOperation[],
  by = writer,
  epoch = 3
): PlacedBlock {
  const segments = [{ request: new Uint8Array(16), total: operations.length, operations }]
  return {
    writer: by,
    owner,
    generation: 7,
    block: number,
    content: { type: 'operations', epoch, seen: null, segments }
  }
}

function lookUp(
  changes: readonly { key: Uint8Array; value: Uint8Array | null }[],
  key: Uint8Array
): Uint8Array | null | undefined {
  return changes.find((change) => Buffer.from(change.key).equals(key))?.value
}

test('entries, cursor and state in one set of changes', (t) => {
  const { changes, state, cursors } = evaluate(
    before,
    [block(4, [put('a', '1'), put('b', '2'), put('a', '3'), { type: 'del', key: encodeKey('c') }])],
    all,
    2000
  )
  t.equal(changes.length, 5, 'a, b, c, the cursor, the state: one change for each index key')
  const a = dataKey(encodeKey('a'))
  const entry = decodeEntry(a, lookUp(changes, a) as Uint8Array)
  t.deepEqual(entry.value, encodeValue('3'), 'the last operation on a key wins')
  t.equal(
    entry.versionstamp,
    '00000300010000000000'.slice(0, 10) + (44).toString(16).padStart(10, '0')
  )
  t.equal(lookUp(changes, dataKey(encodeKey('c'))), null, 'deleted')
  const cursor = decodeCursor(lookUp(changes, cursorKey(writer, owner)) as Uint8Array)
  t.deepEqual(cursor, { generation: 7, length: 5 })
  t.deepEqual(cursors.get(logId(writer, owner)), cursor)
  t.deepEqual(decodeIndexState(lookUp(changes, indexStateKey) as Uint8Array), state)
  t.equal(state.counter, 44)
  t.equal(state.now, 2000)
  t.equal(
    evaluate(state, [block(5, [put('a', '4')])], all, 10).state.now,
    2000,
    'now never goes back'
  )
  t.end()
})

test('what cannot be applied is rejected, place by place, and nothing stops', (t) => {
  const broken = decodeBlock(Uint8Array.of(1, 2, 255))
  const blocks: PlacedBlock[] = [
    block(0, [
      put('mine', '1'),
      put('theirs', '2'),
      { type: 'invalid', reason: 'too-large', text: 'huge' },
      { type: 'sum', key: encodeKey('n'), value: Uint8Array.of(3, 0, 0, 0, 0, 0, 0, 0, 1) },
      put('also mine', '3')
    ]),
    { ...block(1, []), content: broken },
    block(2, [put('after', '4')])
  ]
  const theirs = Buffer.from(encodeKey('theirs'))
  const outcome = evaluate(before, blocks, { owns: (key) => !theirs.equals(key) }, 0)
  t.deepEqual(
    outcome.rejected.map(({ place }) => [place.block, place.place]),
    [
      [0, 1],
      [0, 2],
      [0, 3],
      [1, 0]
    ]
  )
  const result = lookUp(
    outcome.changes,
    resultKey({ writer, owner, generation: 7, block: 0, place: 1 })
  )
  const decoded = decodeResult(result as Uint8Array)
  t.equal(decoded.type === 'rejected' && decoded.reason, 'not-allowed')
  for (const key of ['mine', 'also mine', 'after']) {
    t.ok(lookUp(outcome.changes, dataKey(encodeKey(key))), `${key} is applied`)
  }
  t.deepEqual(outcome.cursors.get(logId(writer, owner)), { generation: 7, length: 3 })
  t.end()
})

test('a newer epoch or block format stops one log before it, and no other', (t) => {
  const outcome = evaluate(
    before,
    [
      block(0, [put('a', '1')]),
      block(1, [put('b', '1')], writer, 4),
      block(2, [put('c', '1')]),
      block(0, [put('d', '1')], another),
      { ...block(1, [], another), content: decodeBlock(Uint8Array.of(9, 9)) }
    ],
    all,
    0
  )
  t.deepEqual(outcome.cursors.get(logId(writer, owner)), { generation: 7, length: 1 })
  t.deepEqual(outcome.cursors.get(logId(another, owner)), { generation: 7, length: 1 })
  t.match(outcome.stopped.get(logId(writer, owner)) ?? '', /epoch 4/)
  t.match(outcome.stopped.get(logId(another, owner)) ?? '', /format 9/)
  t.equal(
    lookUp(outcome.changes, dataKey(encodeKey('c'))),
    undefined,
    'nothing behind a stop is applied'
  )
  t.ok(lookUp(outcome.changes, dataKey(encodeKey('d'))))
  t.end()
})

test('a counter that is used up goes on with the next serial', (t) => {
  const full = { ...before, counter: stampCounterMax - 1 }
  const { changes, state } = evaluate(full, [block(0, [put('a', '1'), put('b', '1')])], all, 0)
  const stamps = ['a', 'b'].map((name) => {
    const key = dataKey(encodeKey(name))
    return decodeEntry(key, lookUp(changes, key) ?? new Uint8Array()).versionstamp
  })
  t.deepEqual(stamps, ['0000030001ffffffffff', '00000300020000000001'])
  t.deepEqual([state.serial, state.counter], [2, 1])
  t.end()
})

test('heads, marks and ends move the cursor alone', (t) => {
  const bytes = [
    encodeBlock({ type: 'head', created: 1, epoch: 3, continues: { generation: 5, length: 2 } }),
    encodeBlock({ type: 'mark', epoch: 3, configHash: 'ab'.repeat(32), lengths: [] }),
    encodeBlock({ type: 'end', next: 9 })
  ]
  const blocks = bytes.map((data, number) => ({ ...block(number, []), content: decodeBlock(data) }))
  const outcome = evaluate(before, blocks, all, 0)
  t.equal(outcome.changes.length, 2, 'cursor and state')
  t.equal(outcome.state.counter, 41, 'no versionstamp is used')
  t.deepEqual(outcome.cursors.get(logId(writer, owner)), { generation: 7, length: 3 })
  t.end()
})
