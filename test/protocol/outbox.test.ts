// Where an outbox goes on, and what a position in it says of a flush.
import test from 'tape'
import { coverage, goOn, numberToBegin, runsOf, shouldContinue } from '../../lib/protocol/outbox.ts'

test('a whole generation goes on, unless it is ended; one that may have lost a tail does not', (t) => {
  const head = { type: 'head', created: 1, epoch: 1, continues: null } as const
  t.deepEqual(goOn({ whole: true, last: head }), { append: true, next: null })
  t.deepEqual(goOn({ whole: true, last: { type: 'end', next: 9 } }), { append: false, next: 9 })
  t.deepEqual(goOn({ whole: false, last: { type: 'end', next: 9 } }), { append: false, next: null })
  t.end()
})

test('what was lost is continued at once, unless its storage node has everything', (t) => {
  t.ok(shouldContinue({ whole: false, receipted: false }))
  t.notOk(shouldContinue({ whole: false, receipted: true }))
  t.notOk(shouldContinue({ whole: true, receipted: false }), 'it goes on by itself')
  t.end()
})

test('the number that an end names is used once', (t) => {
  const numbers = { named: 9, highest: 7, empty: [], fresh: 20 }
  t.equal(numberToBegin(numbers), 9)
  t.equal(numberToBegin({ ...numbers, named: null }), 20, 'none is named')
  t.equal(numberToBegin({ ...numbers, highest: 9 }), 20, 'it was used')
  t.equal(numberToBegin({ ...numbers, highest: 9, empty: [9] }), 9, 'it was only begun')
  t.equal(numberToBegin({ ...numbers, highest: 12, empty: [9] }), 20, 'a later one was used')
  t.end()
})

test('runs of one epoch keep the order', (t) => {
  const group = [1, 1, 2, 2, 1].map((epoch, i) => ({ epoch, i }))
  t.deepEqual(
    runsOf(group).map((run) => run.map(({ i }) => i)),
    [[0, 1], [2, 3], [4]]
  )
  t.end()
})

test('a position covers what lies before it, and tells what was lost', (t) => {
  const ends = new Map([[5, 3]])
  const part = { generation: 5, to: 4 }
  t.equal(coverage(null, part, ends), 'open')
  t.equal(coverage({ generation: 4, length: 9 }, part, ends), 'open')
  t.equal(coverage({ generation: 5, length: 2 }, part, ends), 'open')
  t.equal(coverage({ generation: 5, length: 3 }, part, new Map()), 'open', 'more may come')
  t.equal(coverage({ generation: 5, length: 3 }, part, ends), 'lost', 'no more comes')
  t.equal(coverage({ generation: 5, length: 4 }, part, ends), 'covered')
  t.equal(coverage({ generation: 6, length: 1 }, part, ends), 'lost')
  t.equal(coverage({ generation: 6, length: 1 }, { generation: 5, to: 3 }, ends), 'covered')
  t.end()
})
