// When an outbox is rotated, what can be deleted, and whom a storage node asks.
import test from 'tape'
import { isKVSwarmError } from '../../lib/errors.ts'
import {
  deletable,
  relieve,
  rotationLimits,
  rotationOf,
  shouldRotate,
  stillStands,
  type Rotatable,
  type Stored
} from '../../lib/protocol/rotation.ts'
import { random } from '../helpers/random.ts'

const { bytes, quietBytes, quietMs, askedBytesMin, appliedBytesMax } = rotationLimits

test('an outbox is rotated when it is large, asked for, or quiet and receipted', (t) => {
  const quiet: Rotatable = { bytes: 0, quietMs: 0, receipted: false, asked: false }
  const cases: [string, Partial<Rotatable>, boolean][] = [
    ['small and busy', {}, false],
    ['large', { bytes }, true],
    ['almost large', { bytes: bytes - 1 }, false],
    ['asked for', { bytes: askedBytesMin, asked: true }, true],
    ['asked for, and next to nothing', { bytes: askedBytesMin - 1, asked: true }, false],
    ['quiet and receipted', { bytes: quietBytes, quietMs, receipted: true }, true],
    ['quiet, not receipted', { bytes: quietBytes, quietMs }, false],
    ['quiet not long enough', { bytes: quietBytes, quietMs: quietMs - 1, receipted: true }, false],
    ['quiet and small', { bytes: quietBytes - 1, quietMs, receipted: true }, false]
  ]
  for (const [name, state, expected] of cases) {
    t.equal(shouldRotate({ ...quiet, ...state }), expected, name)
  }
  t.end()
})

test('what is behind the cursor can go, the newest never', (t) => {
  t.deepEqual(deletable([1, 2, 3], null), [], 'nothing is applied')
  t.deepEqual(deletable([3, 1, 2], { generation: 3, length: 1 }), [1, 2])
  t.deepEqual(deletable([1, 2, 3], { generation: 2, length: 9 }), [1])
  t.deepEqual(deletable([1, 2, 3], { generation: 9, length: 1 }), [1, 2], 'its number is kept')
  t.deepEqual(deletable([5], { generation: 9, length: 1 }), [])
  t.end()
})

test('what an index showed counts as long as nothing tells of a later generation of it', (t) => {
  const view = { generation: 5, length: 9 }
  t.ok(stillStands(5, { present: 5, view }))
  t.notOk(stillStands(5, { present: 7, view }), 'its owner has told of it')
  t.notOk(stillStands(5, { present: 5, view: { generation: 7, length: 2 } }), 'it is seen')
  t.notOk(stillStands(5, { present: null, view }))
  t.notOk(stillStands(5, { present: 5, view: null }))
  t.end()
})

test('the bounds can be given, and are checked', (t) => {
  t.deepEqual(rotationOf(), rotationLimits)
  t.equal(rotationOf({ bytes: 5 }).bytes, 5)
  for (const wrong of [{ bytes: 0 }, { bytes: 1.5 }, { quietMs: NaN }, { other: 1 }]) {
    try {
      rotationOf(wrong)
      t.fail(JSON.stringify(wrong))
    } catch (error) {
      t.ok(isKVSwarmError(error, 'INVALID_ARGUMENT'), String(error))
    }
  }
  t.end()
})

test('a storage node asks as many as it needs, the largest first, and drops what is nobody there for', (t) => {
  const source = random(t)
  for (let round = 0; round < 500; round++) {
    const count = source.int(0, 300)
    const inboxes: Stored[] = Array.from({ length: count }, (_, i) => ({
      writer: String(i),
      bytes: Math.floor((source.next() ** 6 * appliedBytesMax) / source.int(1, 40)),
      connected: source.chance(0.5),
      idle: source.chance(0.8)
    }))
    const { ask, drop } = relieve(inboxes)
    const chosen = [...ask, ...drop]
    const find = (writer: string): Stored => inboxes[Number(writer)] as Stored
    let total = 0
    for (const inbox of inboxes) total += inbox.bytes
    let left = total
    for (const writer of chosen) left -= find(writer).bytes
    const wrong = [
      ...ask.filter((writer) => !find(writer).connected),
      ...drop.filter((writer) => find(writer).connected || !find(writer).idle)
    ]
    if (wrong.length > 0) t.fail(`round ${round}: ${wrong.join()} cannot do that`)
    if (total <= appliedBytesMax / 2 && chosen.length > 0) t.fail(`round ${round}: asked too early`)
    const others = inboxes.filter(
      ({ writer, bytes: size, connected, idle }) =>
        !chosen.includes(writer) && size >= askedBytesMin && (connected || idle)
    )
    if (left > appliedBytesMax / 2 && others.length > 0) t.fail(`round ${round}: asked too few`)
    const least = Math.min(...chosen.map((writer) => find(writer).bytes))
    if (others.some(({ bytes: size }) => size > least)) t.fail(`round ${round}: not the largest`)
  }
  t.pass('500 rounds')
  t.end()
})
