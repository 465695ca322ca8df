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

test('progress: what is said to be applied counts when the view has the head that shows it', async (t) => {
  const { progress, index } = stand()
  index.head = at(30)
  progress.announce(at(7), at(40), 0, index.head)
  t.equal(progress.applied, null, 'the view has not come to that head')
  t.deepEqual(progress.acked, at(7))
  progress.viewMoved(at(39))
  t.equal(progress.applied, null)
  progress.viewMoved(at(40))
  t.deepEqual(progress.applied, at(7))
  progress.announce(at(6), at(60), 0, at(60))
  t.deepEqual(progress.applied, at(7), 'it never goes back')
  progress.announce(at(9), at(50), 0, at(20))
  progress.announce(at(10), at(45), 0, at(20))
  progress.viewMoved(at(45))
  t.deepEqual(progress.applied, at(7), 'heads rise: what names an older one waits for the newer')
  progress.viewMoved(at(50))
  t.deepEqual(progress.applied, at(10))
  t.equal(index.reads, 0, 'nothing was read for it')
})

test('progress: nothing behind the end of the outbox is acked or applied in advance', async (t) => {
  const { progress, index } = stand()
  progress.ack(at(1_000_000))
  t.deepEqual(progress.acked, at(10), 'what is there at most')
  progress.ack({ generation: Number.MAX_SAFE_INTEGER, length: Number.MAX_SAFE_INTEGER })
  t.deepEqual(progress.acked, at(10), 'nothing of a generation that is not')
  progress.announce(at(1_000_000), at(5), 0, at(5))
  t.deepEqual(progress.applied, at(10))
  index.end = at(11)
  t.deepEqual([progress.acked, progress.applied], [at(10), at(10)], 'the next block is not')
  const nothing = stand()
  nothing.index.end = null
  nothing.progress.ack(at(1))
  t.equal(nothing.progress.acked, null, 'nothing of an outbox that there is not')
})

test('progress: a signed cursor in a generation that this node does not have is told as it is', async (t) => {
  const { progress, index } = stand()
  index.cursor = { generation: 99, length: 5 }
  index.head = at(1)
  progress.poll(index.head)
  await until(() => progress.applied !== null)
  t.deepEqual(progress.applied, { generation: 99, length: 5 })
})

test('progress: a million announcements of heads that never come are remembered as a few', async (t) => {
  const { progress, index } = stand()
  const started = process.memoryUsage().heapUsed
  for (let i = 0; i < 1_000_000; i++) progress.announce(at(1 + (i % 9)), at(1_000 + i), 0, at(5))
  t.equal(index.reads, 0, 'no head was reached, nothing was read')
  t.equal(progress.applied, null)
  progress.viewMoved(at(2_000_000))
  t.deepEqual(progress.applied, at(9))
  t.ok(headsAwaitedMax < 1_000, `${headsAwaitedMax} are kept`)
  t.ok(process.memoryUsage().heapUsed - started < 64e6, 'and no more')
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
  let reads = 0
  const progress = new Progress('owner', {
    end: () => at(10),
    viewHead: () => at(5),
    readCursor: () => {
      reads++
      return fails ? Promise.reject(new Error('not here')) : Promise.resolve(at(4))
    }
  })
  progress.poll(at(5))
  await until(() => reads === 1)
  t.equal(progress.applied, null)
  fails = false
  await until(() => {
    progress.poll(at(5))
    return progress.applied !== null
  })
  t.deepEqual(progress.applied, at(4), 'the same head is looked at again')
})
