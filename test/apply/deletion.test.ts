// What a storage node deletes of an outbox that it has applied, and how it goes on when the writer has deleted more.
import test from 'tape'
import { cleanup } from '../helpers/cleanup.ts'
import { until } from '../helpers/events.ts'
import { applying, FakeOutbox, headBlock, puts, within } from './fakes.ts'

test('a generation is deleted when the cursor is in a later one, and it is closed', async (t) => {
  const outbox = new FakeOutbox()
  outbox.put(5, [headBlock(null), ...puts(3)])
  const inbox = outbox.inbox()
  cleanup(t, () => inbox.close())
  const places = applying(outbox, inbox)
  inbox.announce(5)
  await within(
    until(() => inbox.applied?.length === 4),
    'the first generation'
  )
  t.ok(inbox.appliedBytes > 0, 'it is counted')
  t.deepEqual(outbox.deleted, [], 'the generation of the cursor stays')
  outbox.put(9, [headBlock({ generation: 5, length: 4 }), ...puts(1)])
  inbox.announce(9)
  await within(
    until(() => outbox.deleted.length > 0 && places.length === 6),
    'the deletion'
  )
  t.deepEqual(outbox.deleted, [5])
  t.deepEqual(places, ['5/0', '5/1', '5/2', '5/3', '9/0', '9/1'])
  t.deepEqual(outbox.failures, [], 'it was not open')
})

test('a deletion that fails stops nothing', async (t) => {
  const outbox = new FakeOutbox()
  outbox.deleteError = new Error('disk')
  outbox.put(5, [headBlock(null), ...puts(1)])
  outbox.put(9, [headBlock({ generation: 5, length: 2 }), ...puts(2)])
  const inbox = outbox.inbox()
  cleanup(t, () => inbox.close())
  const places = applying(outbox, inbox)
  inbox.announce(9)
  await within(
    until(() => places.includes('9/2')),
    'the next generation'
  )
  t.match(outbox.warnings.join(), /could not be deleted: disk/)
  t.deepEqual(outbox.failures, [])
})

test('a copy that is dropped is fetched on from the cursor', async (t) => {
  const outbox = new FakeOutbox()
  outbox.put(5, [headBlock(null), ...puts(2)])
  const inbox = outbox.inbox()
  cleanup(t, () => inbox.close())
  const places = applying(outbox, inbox)
  inbox.announce(5)
  await within(
    until(() => inbox.idleGeneration === 5 && inbox.applied?.length === 3),
    'all of it to be applied'
  )
  inbox.discard(5)
  t.equal(inbox.appliedBytes, 0)
  await within(
    until(() => outbox.deleted.length === 1 && [...outbox.open].length === 1),
    'the copy to be deleted, and its log to be open again'
  )
  outbox.put(5, [headBlock(null), ...puts(4)])
  await within(
    until(() => places.length === 5),
    'what is new'
  )
  t.deepEqual(places, ['5/0', '5/1', '5/2', '5/3', '5/4'], 'nothing is applied twice')
  const stored = outbox.stored.get(5)
  t.deepEqual([...(stored?.here.keys() ?? [])], [3, 4], 'nothing is fetched twice')
})

test('an inbox with something to apply, or under way, is not dropped', async (t) => {
  const outbox = new FakeOutbox()
  outbox.serves = false
  outbox.put(5, [headBlock(null), ...puts(2)])
  const inbox = outbox.inbox({ generation: 5, length: 1 })
  cleanup(t, () => inbox.close())
  inbox.announce(5)
  await within(
    until(() => outbox.pending.length > 0),
    'a request'
  )
  t.equal(inbox.idleGeneration, null, 'a block is under way')
  outbox.deliver(5, 1)
  outbox.deliver(5, 2)
  await within(
    until(() => inbox.isReady),
    'the blocks to be held'
  )
  t.equal(inbox.idleGeneration, null, 'a block is to be applied')
})

test('an index that is older than what the writer has deleted goes on with what there is', async (t) => {
  const outbox = new FakeOutbox()
  // The index says that it has applied two blocks of generation 5; the writer has deleted 5 and 7.
  outbox.put(9, [headBlock({ generation: 7, length: 4 }), ...puts(2)])
  outbox.put(11, [headBlock({ generation: 9, length: 3 }), ...puts(1)])
  const inbox = outbox.inbox({ generation: 5, length: 2 })
  cleanup(t, () => inbox.close())
  const places = applying(outbox, inbox)
  inbox.announce(11)
  await within(
    until(() => outbox.opened.some(({ generation }) => generation === 7)),
    'the search for generation 7'
  )
  t.deepEqual(places, [], 'without word from the writer nothing is skipped')
  t.equal(inbox.startAt(9), false, 'something is missing')
  await within(
    until(() => places.length === 5),
    'the generations that there are'
  )
  t.deepEqual(places, ['9/0', '9/1', '9/2', '11/0', '11/1'])
  t.deepEqual(inbox.acked, { generation: 11, length: 2 })
})

test('an index that has everything is told nothing new by it', async (t) => {
  const outbox = new FakeOutbox()
  outbox.put(9, [headBlock({ generation: 7, length: 4 }), ...puts(2)])
  const inbox = outbox.inbox({ generation: 9, length: 1 })
  cleanup(t, () => inbox.close())
  const places = applying(outbox, inbox)
  t.equal(inbox.startAt(9), true)
  inbox.announce(9)
  await within(
    until(() => places.length === 2),
    'the rest'
  )
  t.deepEqual(places, ['9/1', '9/2'])
  t.equal(inbox.startAt(3), true, 'an older word changes nothing')
})
