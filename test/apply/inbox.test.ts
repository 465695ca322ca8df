// One writer's outbox as a storage node takes it in: generations, forks, what is asked for and what is given up.
import { setImmediate as turn } from 'node:timers/promises'
import test from 'tape'
import { ChainLinks } from '../../lib/protocol/chain-links.ts'
import { intakeBytesMax } from '../../config/limits.ts'
import { KVSwarmError } from '../../lib/errors.ts'
import { generationsOpenMax } from '../../lib/protocol/intake.ts'
import { cleanup } from '../helpers/cleanup.ts'
import { until } from '../helpers/events.ts'
import { applying, FakeOutbox, headBlock, put, puts, putsBlock, within } from './fakes.ts'

test('blocks that exist nowhere any more do not hold up the next generation', async (t) => {
  const outbox = new FakeOutbox()
  outbox.put(5, [headBlock(null), ...puts(9)], 80)
  const inbox = outbox.inbox()
  cleanup(t, () => inbox.close())
  inbox.announce(5)
  await within(
    until(() => outbox.pending.length === 64),
    'requests for the lost tail'
  )
  t.ok(outbox.pending.includes('5/10'), 'the lost tail is asked for')
  outbox.put(9, [headBlock({ generation: 5, length: 10 }), ...puts(3)])
  inbox.announce(9)
  await within(outbox.acked({ generation: 9, length: 4 }), 'the next generation to be held')
  t.deepEqual(outbox.pending, [], 'nothing of the lost tail is asked for any more')
  t.deepEqual(outbox.failures, [])
})

test('of a removed writer nothing is asked for any more', async (t) => {
  const outbox = new FakeOutbox()
  outbox.put(5, [headBlock(null), ...puts(3)], 20)
  const inbox = outbox.inbox()
  cleanup(t, () => inbox.close())
  inbox.announce(5)
  await within(
    until(() => outbox.pending.includes('5/4')),
    'a request'
  )
  inbox.remove({ generation: 5, length: 4 })
  t.deepEqual(outbox.pending, [])
  inbox.work()
  t.ok(await until(() => inbox.isReady), 'what is held is to be applied')
  t.equal((await inbox.take(100, 1e9, true)).length, 4)
  t.deepEqual(outbox.pending, [])
  inbox.authorise()
  await within(
    until(() => outbox.pending.includes('5/4')),
    'the request, when it is authorised again'
  )
})

test('of a writer that was removed before this node started nothing is asked for', async (t) => {
  const outbox = new FakeOutbox()
  outbox.put(5, [headBlock(null), ...puts(3)])
  for (const block of [0, 1]) outbox.storedOf(5).here.set(block, put)
  const inbox = outbox.inbox({ generation: 5, length: 1 })
  cleanup(t, () => inbox.close())
  inbox.remove(null)
  inbox.announce(5)
  await within(outbox.acked({ generation: 5, length: 2 }), 'what is here')
  t.deepEqual(outbox.pending, [])
  t.deepEqual(outbox.opened, [{ generation: 5, attach: false }], 'and it is not replicated')
})

test('however many generations are announced, few logs are open', async (t) => {
  const outbox = new FakeOutbox()
  const inbox = outbox.inbox()
  cleanup(t, () => inbox.close())
  for (let generation = 1; generation <= 5000; generation++) {
    outbox.put(generation, [headBlock(null)])
    inbox.announce(generation)
  }
  await within(outbox.acked({ generation: 5000, length: 1 }), 'the newest')
  for (let generation = 5001; generation <= 5200; generation++) {
    outbox.put(generation, [headBlock(null)])
    inbox.announce(generation)
    await within(outbox.acked({ generation, length: 1 }), `generation ${generation}`)
  }
  t.ok(outbox.openMost <= generationsOpenMax, `at most ${outbox.openMost} at a time`)
  await until(() => outbox.open.size === 1, { what: 'all but the newest to be closed' })
  t.deepEqual(
    [...outbox.open].map(({ generation }) => generation),
    [5200]
  )
})

test('logs that take long to open do not pile up', async (t) => {
  const outbox = new FakeOutbox()
  let go = (): void => {}
  outbox.opening = new Promise((resolve) => (go = resolve))
  const inbox = outbox.inbox()
  cleanup(t, () => inbox.close())
  for (let generation = 1; generation <= 30; generation++) {
    outbox.put(generation, [headBlock(null)])
    inbox.announce(generation)
    await turn()
  }
  t.equal(outbox.opened.length, generationsOpenMax)
  go()
  await within(outbox.acked({ generation: 30, length: 1 }), 'the newest')
  await until(() => outbox.open.size === 1)
  t.ok(outbox.openMost <= generationsOpenMax)
})

test('a chain that is longer than what is remembered arrives, in order, with few logs open', async (t) => {
  const outbox = new FakeOutbox()
  const expected: string[] = []
  for (let generation = 1; generation <= 300; generation++) {
    const before = generation === 1 ? null : { generation: generation - 1, length: 2 }
    // One more was signed than the next generation knows of: it is lost.
    outbox.put(generation, [headBlock(before), put], generation === 300 ? 2 : 3)
    expected.push(`${generation}/0`, `${generation}/1`)
  }
  const inbox = outbox.inbox(null, new ChainLinks(50))
  cleanup(t, () => inbox.close())
  const places = applying(outbox, inbox)
  inbox.announce(300)
  await within(outbox.acked({ generation: 300, length: 2 }), 'the newest generation to be held')
  await until(() => places.length >= expected.length)
  t.deepEqual(places, expected)
  t.ok(outbox.openMost <= generationsOpenMax, `at most ${outbox.openMost} at a time`)
  t.deepEqual(outbox.failures, [])
})

test('a forked outbox says so, and what was acknowledged of it is applied', async (t) => {
  const outbox = new FakeOutbox()
  outbox.put(5, [headBlock(null), ...puts(4)], 10)
  const inbox = outbox.inbox()
  cleanup(t, () => inbox.close())
  inbox.announce(5)
  await within(outbox.acked({ generation: 5, length: 5 }), 'five blocks')
  outbox.logOf(5).end('conflict')
  t.match(inbox.stopped ?? '', /forked: two versions were signed/)
  t.equal(outbox.warnings.length, 1)
  t.match(outbox.warnings[0] ?? '', new RegExp(outbox.writer), 'the warning names the writer')
  await until(() => inbox.isReady, { what: 'the log to be opened again' })
  t.deepEqual(outbox.opened, [
    { generation: 5, attach: true },
    { generation: 5, attach: false }
  ])
  t.deepEqual(inbox.logs, [], 'it is not attached to a new connection')
  // A core that is frozen says so of every session, and may take it along.
  outbox.logOf(5).end('conflict')
  outbox.logOf(5).end('closed')
  await until(() => outbox.opened.length === 3 && inbox.isReady)
  t.deepEqual(outbox.opened.at(-1), { generation: 5, attach: false })
  const blocks = await inbox.take(1000, 1e9, true)
  t.deepEqual(
    blocks.map(({ block }) => block),
    [0, 1, 2, 3, 4]
  )
  inbox.advance({ generation: 5, length: 5 })
  inbox.work()
  await until(() => !inbox.isReady)
  t.deepEqual(outbox.pending, [], 'nothing more is fetched')
  t.equal(outbox.warnings.length, 1, 'one warning')

  outbox.put(9, [headBlock({ generation: 5, length: 5 }), put])
  inbox.announce(9)
  await within(outbox.acked({ generation: 9, length: 2 }), 'the generation that continues it')
  inbox.advance({ generation: 9, length: 2 })
  t.equal(inbox.stopped, null, 'it goes on where the writer has begun anew')
})

test('an outbox that was forked before this node started', async (t) => {
  const outbox = new FakeOutbox()
  outbox.put(5, [headBlock(null), put], 3)
  for (const block of [0, 1]) outbox.storedOf(5).here.set(block, put)
  outbox.frozen = 5
  const inbox = outbox.inbox({ generation: 5, length: 1 })
  cleanup(t, () => inbox.close())
  inbox.announce(5)
  await within(outbox.acked({ generation: 5, length: 2 }), 'what is here')
  t.match(inbox.stopped ?? '', /forked/)
  t.equal((await inbox.take(1000, 1e9, true)).length, 1)
  t.deepEqual(
    outbox.opened.map(({ attach }) => attach),
    [true, false]
  )
  t.equal(outbox.warnings.length, 1)
  t.deepEqual(outbox.pending, [])
})

test('a log that goes away under the inbox is opened again', async (t) => {
  const outbox = new FakeOutbox()
  outbox.put(5, [headBlock(null), put], 3)
  const inbox = outbox.inbox()
  cleanup(t, () => inbox.close())
  inbox.announce(5)
  await within(outbox.acked({ generation: 5, length: 2 }), 'two blocks')
  outbox.logOf(5).end('closed')
  await until(() => outbox.pending.includes('5/2'), { what: 'the next block to be asked for' })
  t.deepEqual(outbox.opened.at(-1), { generation: 5, attach: true })
  t.equal(inbox.stopped, null)
})

test('what a log throws stops its inbox; what the disk throws is told', async (t) => {
  const outbox = new FakeOutbox()
  outbox.put(5, [headBlock(null), put, put])
  const inbox = outbox.inbox()
  cleanup(t, () => inbox.close())
  inbox.announce(5)
  await within(outbox.acked({ generation: 5, length: 3 }), 'three blocks')
  outbox.readError = new Error('odd')
  t.deepEqual(await inbox.take(1000, 1e9, true), [])
  t.match(inbox.stopped ?? '', /cannot be read: odd/)
  t.notOk(inbox.isReady)
  t.equal(outbox.warnings.length, 1)
  t.deepEqual(outbox.failures, [], 'the node goes on')
  outbox.readError = null
  inbox.resume()
  t.equal((await inbox.take(1000, 1e9, true)).length, 3, 'a new configuration lets it try again')

  outbox.readError = new KVSwarmError('CLOSED', 'the log is closed')
  t.deepEqual(await inbox.take(1000, 1e9, true), [])
  t.equal(inbox.stopped, null, 'a log that is closed is nothing to speak of')
  outbox.readError = new KVSwarmError('IO_ERROR', 'the disk')
  const error = await inbox.take(1000, 1e9, true).catch((e: unknown) => e)
  t.equal((error as KVSwarmError).code, 'IO_ERROR')
})

test('take() honours both bounds', async (t) => {
  const outbox = new FakeOutbox()
  const large = putsBlock(600)
  outbox.put(5, [headBlock(null), ...puts(3), large, large])
  const inbox = outbox.inbox({ generation: 5, length: 1 })
  outbox.storedOf(5).here.set(0, headBlock(null))
  cleanup(t, () => inbox.close())
  inbox.announce(5)
  await within(outbox.acked({ generation: 5, length: 6 }), 'all blocks')
  const taken = async (operations: number, bytes: number, atLeastOne: boolean): Promise<number[]> =>
    (await inbox.take(operations, bytes, atLeastOne)).map(({ block }) => block)
  t.deepEqual(await taken(1000, 1e9, true), [1, 2, 3, 4], 'the second large one does not fit')
  t.deepEqual(await taken(2, 1e9, true), [1, 2])
  t.deepEqual(await taken(1000, 2 * put.length, true), [1, 2])
  inbox.advance({ generation: 5, length: 4 })
  t.deepEqual(await taken(500, 1e9, false), [], 'nothing fits')
  t.deepEqual(await taken(500, 1e9, true), [4], 'but one is to be given')
  t.deepEqual(await taken(1200, 1e9, false), [4, 5], 'and what was read before is not lost')
})

test('large blocks: what is asked for stays within the bytes that one writer may have here', async (t) => {
  const outbox = new FakeOutbox()
  outbox.serves = false
  const large = new Uint8Array(8 * 1024 * 1024)
  outbox.put(5, [headBlock(null), ...Array.from({ length: 199 }, () => large)])
  const inbox = outbox.inbox({ generation: 5, length: 1 })
  outbox.storedOf(5).here.set(0, headBlock(null))
  cleanup(t, () => inbox.close())
  inbox.announce(5)
  let most = 0
  for (let block = 1; block <= 3; block++) {
    await until(() => outbox.pending.includes(`5/${block}`))
    const here = (outbox.storedOf(5).here.size - 1) * large.length
    most = Math.max(most, here + outbox.pending.length * large.length)
    outbox.deliver(5, block)
  }
  await within(outbox.acked({ generation: 5, length: 4 }), 'three blocks')
  t.ok(most <= intakeBytesMax, `${most} bytes at most`)
  await until(() => outbox.pending.length <= 1)
  inbox.advance({ generation: 5, length: 4 })
  await until(() => outbox.pending.includes('5/4'), { what: 'the next, when these are applied' })
  t.pass('it goes on')
})

test('small blocks widen the window; large ones behind them narrow it again', async (t) => {
  const outbox = new FakeOutbox()
  outbox.serves = false
  const large = new Uint8Array(8 * 1024 * 1024)
  const small = Array.from({ length: 12 }, () => put)
  outbox.put(5, [headBlock(null), ...small, ...Array.from({ length: 100 }, () => large)])
  const inbox = outbox.inbox({ generation: 5, length: 1 })
  outbox.storedOf(5).here.set(0, headBlock(null))
  cleanup(t, () => inbox.close())
  inbox.announce(5)
  await until(() => outbox.pending.length > 0)
  t.ok(outbox.pending.length <= 4, `few at first: ${outbox.pending.length}`)
  for (let block = 1; block <= 12; block++) {
    await until(() => outbox.pending.includes(`5/${block}`))
    outbox.deliver(5, block)
  }
  await until(() => outbox.pending.length === 64, { what: 'the whole window' })
  outbox.deliver(5, 13)
  await until(() => outbox.pending.length <= 3, { what: 'the requests to be given up' })
  t.ok(outbox.pending.includes('5/14'), 'all but the next ones')
})

test('the block that everything waits for is asked for, however much is here behind it', async (t) => {
  const outbox = new FakeOutbox()
  outbox.serves = false
  const large = new Uint8Array(8 * 1024 * 1024)
  const blocks = [...puts(12), ...Array.from({ length: 80 }, () => large)]
  outbox.put(5, [headBlock(null), ...blocks])
  const inbox = outbox.inbox({ generation: 5, length: 1 })
  outbox.storedOf(5).here.set(0, headBlock(null))
  cleanup(t, () => inbox.close())
  inbox.announce(5)
  for (let block = 2; block <= 12; block++) {
    await until(() => outbox.pending.includes(`5/${block}`))
    outbox.deliver(5, block)
  }
  await until(() => outbox.pending.length === 64)
  for (let block = 13; block <= 17; block++) outbox.deliver(5, block)
  await until(() => outbox.pending.length <= 2, { what: 'the others to be given up' })
  t.ok(outbox.pending.includes('5/1'))
  inbox.remove(null)
  t.deepEqual(outbox.pending, [])
  inbox.authorise()
  await until(() => outbox.pending.length > 0, { what: 'a request, with more here than allowed' })
  t.deepEqual(outbox.pending, ['5/1'])
  outbox.deliver(5, 1)
  await within(outbox.acked({ generation: 5, length: 18 }), 'what is here')
})

for (const restarts of [false, true]) {
  test(`what was acked of a generation that a restored writer does not know${restarts ? ', behind a start' : ''}`, async (t) => {
    const outbox = new FakeOutbox()
    outbox.put(5, [headBlock(null), ...puts(2)])
    outbox.put(7, [headBlock({ generation: 5, length: 3 }), ...puts(3)])
    const cursor = { generation: 5, length: 2 }
    let inbox = outbox.inbox(cursor)
    cleanup(t, () => inbox.close())
    inbox.announce(7)
    await within(outbox.acked({ generation: 7, length: 4 }), 'the ack')
    if (restarts) {
      await inbox.close()
      inbox = outbox.inbox(cursor)
    }
    // Its backup has two blocks of generation 5, and nothing of 7.
    outbox.blocks.delete(7)
    outbox.blocks.set(5, [headBlock(null), ...puts(1)])
    outbox.put(9, [headBlock({ generation: 5, length: 2 }), ...puts(2)])
    const places = applying(outbox, inbox)
    inbox.announce(9)
    await within(
      until(() => places.length === 8),
      'what was acked, and what comes behind it'
    )
    t.deepEqual(places, ['5/2', '7/0', '7/1', '7/2', '7/3', '9/0', '9/1', '9/2'])
    await within(
      until(() => outbox.deleted.includes(7)),
      'the deletion of the copy'
    )
    t.deepEqual(inbox.acked, { generation: 9, length: 3 })
    t.deepEqual(outbox.failures, [])
  })
}
