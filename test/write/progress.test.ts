/** What a storage node says of a writer's outbox, and what of it the writer believes. */
import test from 'tape'
import { headsAwaitedMax } from '../../config/limits.ts'
import type { Head } from '../../lib/ports.ts'
import type { Position } from '../../lib/types.ts'
import { Progress } from '../../lib/write/progress.ts'
import { until } from '../helpers/events.ts'

const at = (length: number, generation = 1): Position => ({ generation, length })

/** A writer with an outbox of 10 blocks, and an index whose cursor can be set. */
function stand(): {
  progress: Progress
  index: { end: Position | null; head: Head | null; cursor: Position | null; reads: number }
} {
  const index = {
    end: at(10) as Position | null,
    head: null as Head | null,
    cursor: null as Position | null,
    reads: 0
  }
  const progress = new Progress('owner', {
    end: () => index.end,
    viewHead: () => index.head,
    readCursor: async () => {
      index.reads++
      return index.cursor
    }
  })
  return { progress, index }
}

test('progress: what is said to be applied is no receipt before the signed cursor shows it', async (t) => {
  const { progress, index } = stand()
  index.head = at(50)
  // A head that the view has, and a position that its index does not show.
  progress.announce(at(7), at(40), 0, index.head)
  await until(() => index.reads === 1)
  t.equal(progress.applied, null, 'the message alone gives nothing')
  index.cursor = at(3)
  index.head = at(60)
  progress.announce(at(7), at(60), 0, index.head)
  await until(() => progress.applied !== null)
  t.deepEqual(progress.applied, at(3), 'the cursor counts')
  index.cursor = at(2)
  progress.announce(at(9), at(60), 0, at(60))
  await until(() => index.reads >= 3)
  t.deepEqual(progress.applied, at(3), 'and never goes back')
})

test('progress: nothing behind the end of the outbox is acked or applied in advance', async (t) => {
  const { progress, index } = stand()
  progress.ack(at(1_000_000))
  t.deepEqual(progress.acked, at(10), 'what is there at most')
  progress.ack({ generation: Number.MAX_SAFE_INTEGER, length: Number.MAX_SAFE_INTEGER })
  t.deepEqual(progress.acked, at(10))
  index.cursor = { generation: 99, length: 5 }
  index.head = at(1)
  progress.poll(index.head)
  await until(() => progress.applied !== null)
  t.deepEqual(progress.applied, at(10))
  index.end = at(11)
  t.deepEqual([progress.acked, progress.applied], [at(10), at(10)], 'the next block is not')
  const nothing = stand()
  nothing.index.end = null
  nothing.progress.ack(at(1))
  t.equal(nothing.progress.acked, null, 'nothing of an outbox that there is not')
})

test('progress: a million announcements of heads that never come are remembered as a few', async (t) => {
  const { progress, index } = stand()
  for (let i = 0; i < 1_000_000; i++) progress.announce(at(1 + (i % 9)), at(1_000 + i), 0, at(5))
  t.equal(index.reads, 0, 'no head was reached, nothing was read')
  index.cursor = at(9)
  // All of them are reached at once: one look.
  progress.viewMoved(at(2_000_000))
  await until(() => progress.applied !== null)
  t.ok(index.reads <= 2, `${index.reads} reads`)
  t.ok(headsAwaitedMax < 1_000, `${headsAwaitedMax} are kept`)
})

test('progress: who waits looks at a head once, and at new ones less and less often', async (t) => {
  const { progress, index } = stand()
  index.head = at(5)
  for (let i = 0; i < 100; i++) progress.poll(index.head)
  await until(() => index.reads > 0)
  for (let i = 0; i < 100; i++) progress.poll(index.head)
  t.equal(index.reads, 1, 'one look at one head')
  for (let i = 0; i < 100; i++) progress.poll(at(6 + i))
  t.equal(index.reads, 1, 'and the next one later')
})

test('progress: a look that fails is no look', async (t) => {
  let fails = true
  const progress = new Progress('owner', {
    end: () => at(10),
    viewHead: () => at(5),
    readCursor: () => (fails ? Promise.reject(new Error('not here')) : Promise.resolve(at(4)))
  })
  progress.announce(at(4), at(5), 0, at(5))
  await new Promise(setImmediate)
  t.equal(progress.applied, null)
  fails = false
  progress.announce(at(4), at(5), 0, at(5))
  await until(() => progress.applied !== null)
  t.deepEqual(progress.applied, at(4))
})
