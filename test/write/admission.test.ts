// The write queue alone: who is admitted when, what ends a wait, and that its counters add up.
import test from 'tape'
import type { QueueBounds } from '../../lib/ports.ts'
import { Admission, type Weight } from '../../lib/write/admission.ts'
import { Backlog } from '../../lib/write/backlog.ts'
import { random as randomFor } from '../helpers/random.ts'
import { codeOf } from '../helpers/errors.ts'

const bounds: QueueBounds = { maxPendingBytes: 100, maxPendingBlocks: 10, onFull: 'wait' }
const weight = (bytes: number, blocks = 1): Weight => ({ bytes, blocks })

/** A queue before an outbox that the test receipts. */
function queueWith(some: Partial<QueueBounds> = {}): {
  queue: Admission
  backlog: { bytes: number; blocks: number }
  ran: number[]
  run: (n: number, bytes?: number) => () => Promise<number>
} {
  const backlog = { bytes: 0, blocks: 0 }
  const ran: number[] = []
  return {
    queue: new Admission({ ...bounds, ...some }, () => backlog),
    backlog,
    ran,
    run:
      (n, bytes = 10) =>
      async () => {
        ran.push(n)
        await Promise.resolve()
        backlog.bytes += bytes
        backlog.blocks++
        return n
      }
  }
}

test('a full queue: timeout, abort, reject, and what may pass', async (t) => {
  const { queue, backlog, ran, run } = queueWith()
  await queue.submit(weight(100), {}, run(1, 100))
  t.equal(await codeOf(queue.submit(weight(1), { timeout: 20 }, run(2))), 'TIMEOUT')
  t.equal(await codeOf(queue.submit(weight(1), { timeout: 0 }, run(2))), 'TIMEOUT', 'at once')
  const aborter = new AbortController()
  const aborted = codeOf(queue.submit(weight(1), { signal: aborter.signal }, run(3)))
  aborter.abort()
  t.equal(await aborted, 'ABORTED')
  t.equal(await codeOf(queue.submit(weight(1), { onFull: 'reject' }, run(4))), 'QUEUE_FULL')
  t.deepEqual(ran, [1], 'none of them was run')
  const { rejections, timeouts, cancellations, depth } = queue.stats
  t.deepEqual([rejections, timeouts, cancellations, depth], [1, 2, 1, 0])
  // Larger than the bound: only when nothing is pending.
  const large = queue.submit(weight(1000), {}, run(5, 1000))
  const small = queue.submit(weight(1), {}, run(6))
  backlog.bytes = 1
  queue.serve()
  t.deepEqual(ran, [1], 'the small one behind it does not overtake, though it would fit')
  t.equal(await codeOf(queue.submit(weight(1), { onFull: 'reject' }, run(7))), 'QUEUE_FULL')
  backlog.bytes = 0
  backlog.blocks = 0
  queue.serve()
  t.equal(await large, 5)
  t.deepEqual(ran, [1, 5])
  backlog.bytes = 0
  queue.serve()
  t.equal(await small, 6)
})

test('blocks count too, and Infinity is no bound', async (t) => {
  const { queue, ran, run } = queueWith({ maxPendingBytes: Infinity, maxPendingBlocks: 2 })
  await queue.submit(weight(1e9), {}, run(1))
  await queue.submit(weight(1e9), {}, run(2))
  t.equal(await codeOf(queue.submit(weight(1), { timeout: 0 }, run(3))), 'TIMEOUT')
  t.deepEqual(ran, [1, 2])
  t.equal(queue.stats.maxPendingBytes, null)
  // What runs counts from the moment of its admission.
  const other = queueWith({ maxPendingBlocks: 1 })
  const first = other.queue.submit(weight(1), {}, other.run(1))
  t.equal(await codeOf(other.queue.submit(weight(1), { timeout: 0 }, other.run(2))), 'TIMEOUT')
  await first
})

test('100 callers come in as they came, and closing refuses those who wait', async (t) => {
  const { queue, backlog, ran, run } = queueWith({ maxPendingBlocks: 1 })
  const all = Array.from({ length: 100 }, (_, n) => queue.submit(weight(n % 7), {}, run(n)))
  while (ran.length < 60) {
    backlog.bytes = 0
    backlog.blocks = 0
    queue.serve()
    await new Promise((resolve) => {
      setImmediate(resolve)
    })
  }
  t.equal(queue.stats.depth, 40)
  queue.close()
  const outcomes = await Promise.all(all.map(codeOf))
  t.deepEqual(outcomes.slice(0, 60), Array(60).fill('no error'))
  t.deepEqual(outcomes.slice(60), Array(40).fill('QUEUE_CLOSED'))
  t.deepEqual(
    ran,
    Array.from({ length: 60 }, (_, n) => n)
  )
  t.equal(await codeOf(queue.submit(weight(1), {}, run(0))), 'QUEUE_CLOSED')
  t.equal(queue.stats.depth, 0)
})

test('the counters add up, whatever happens, and the bounds hold', async (t) => {
  const random = randomFor(t)
  for (let game = 0; game < 50; game++) {
    let bytes = 0
    let blocks = 0
    let runningBytes = 0
    const order: number[] = []
    const queue = new Admission(bounds, () => ({ bytes, blocks }))
    const running: { end: (ok: boolean) => void }[] = []
    const aborters: AbortController[] = []
    const outcomes: Promise<unknown>[] = []
    let wrong = 0
    const look = (): void => {
      const s = queue.stats
      if (s.admissions !== s.executions + s.timeouts + s.cancellations + s.depth) wrong++
      if (s.executions !== s.commits + s.failures + s.executing) wrong++
      // Between the end of an append and the queue's hearing of it, it is counted twice: never too little.
      if (s.pendingBytes < bytes + runningBytes) wrong++
      if (bytes + runningBytes > 100 && blocks + running.length > 1) wrong++
      if (blocks + running.length > 10) wrong++
    }
    for (let step = 0; step < 120; step++) {
      const dice = random.int(0, 5)
      if (dice <= 1) {
        const size = random.int(1, 60)
        const n = step
        const aborter = new AbortController()
        aborters.push(aborter)
        const onFull = random.int(0, 5) === 0 ? ('reject' as const) : ('wait' as const)
        const timeout = random.int(0, 8) === 0 ? 0 : Infinity
        const submitted = queue.submit(
          weight(size),
          { signal: aborter.signal, onFull, timeout },
          () =>
            new Promise<void>((resolve, reject) => {
              order.push(n)
              runningBytes += size
              running.push({
                end: (ok) => {
                  runningBytes -= size
                  if (!ok) return reject(new Error('made by the test'))
                  bytes += size
                  blocks++
                  resolve()
                }
              })
            })
        )
        outcomes.push(submitted.catch(() => {}))
      } else if (dice === 2) {
        running.shift()?.end(random.int(0, 4) > 0)
      } else if (dice === 3) {
        aborters[random.int(0, Math.max(0, aborters.length - 1))]?.abort()
      } else {
        bytes = 0
        blocks = 0
        queue.serve()
      }
      look()
      await Promise.resolve()
      await Promise.resolve()
      look()
    }
    queue.close()
    for (const { end } of running.splice(0)) end(true)
    await Promise.all(outcomes)
    look()
    const { depth, executing, admissions, rejections } = queue.stats
    if (depth + executing > 0 || admissions + rejections > 120) wrong++
    if (order.some((n, at) => n <= (order[at - 1] ?? -1))) wrong++
    if (wrong > 0) t.fail(`${wrong} wrong in game ${game}`)
  }
  t.pass('50 games')
})

test('what is pending: blocks once, until they are applied', (t) => {
  const backlog = new Backlog()
  backlog.measured({ generation: 1, length: 4 }, 400, 4)
  const part = (from: number, to: number, generation = 1): Parameters<Backlog['add']>[0] => ({
    owner: 'cd'.repeat(32),
    generation,
    from,
    to
  })
  backlog.add(part(4, 5), 10)
  backlog.add(part(4, 5), 20)
  backlog.add(part(4, 7), 30)
  t.deepEqual([backlog.bytes, backlog.blocks], [460, 7], 'a shared block counts once')
  backlog.applied({ generation: 1, length: 3 })
  t.deepEqual([backlog.bytes, backlog.blocks], [460, 7], 'what was found is measured by others')
  backlog.applied({ generation: 1, length: 5 })
  t.deepEqual([backlog.bytes, backlog.blocks, backlog.found], [30, 2, null])
  backlog.add(part(1, 2, 2), 5)
  backlog.applied({ generation: 2, length: 2 })
  t.deepEqual([backlog.bytes, backlog.blocks], [0, 0], 'a later generation covers an earlier one')
  for (let n = 0; n < 10_000; n++) backlog.add(part(n + 2, n + 3, 2), 1)
  t.deepEqual([backlog.bytes, backlog.blocks], [10_000, 10_000])
  backlog.applied({ generation: 2, length: 1002 })
  t.deepEqual([backlog.bytes, backlog.blocks], [9000, 9000])
  backlog.applied({ generation: 2, length: 10_002 })
  t.deepEqual([backlog.bytes, backlog.blocks], [0, 0])
  t.end()
})
