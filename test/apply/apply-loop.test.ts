// The apply loop: fair shares, results that are forgotten, and what becomes of those who wait when it ends.
import test, { type Test } from 'tape'
import { ApplyLoop } from '../../lib/apply/apply-loop.ts'
import type { Inbox } from '../../lib/apply/inbox.ts'
import { KVSwarmError } from '../../lib/errors.ts'
import { decodeBlock } from '../../lib/wire/blocks.ts'
import { decodeCursor, parseIndexKey, resultsRange } from '../../lib/wire/records.ts'
import { cleanup } from '../helpers/cleanup.ts'
import { deadline, until } from '../helpers/events.ts'
import { FakeIndex, FakeOutbox, headBlock, owner, putsBlock, writerOf } from './fakes.ts'

interface Bench {
  readonly loop: ApplyLoop
  readonly index: FakeIndex
  readonly failures: unknown[]
  /** Lets apply() through; until then the first batch waits. */
  readonly go: () => void
  add(n: number, blocks: readonly Uint8Array[]): Promise<Inbox>
  /** One more block of a writer comes, and is here. */
  more(n: number, block: Uint8Array): void
  /** Of each batch so far: operations by writer. */
  batches(): Record<string, number>[]
}

/** A loop whose index waits until go(), so that the inboxes can be filled before. */
function bench(t: Test, owns = true, resultsMax = 100_000): Bench {
  const index = new FakeIndex()
  const failures: unknown[] = []
  const outboxes = new Map<string, FakeOutbox>()
  let go = (): void => {}
  const gate = new Promise<void>((resolve) => (go = resolve))
  index.gate = () => gate
  const state = { epoch: 1, configHash: '0'.repeat(64), serial: 1, counter: 0, now: 0 }
  const loop = new ApplyLoop(index, state, {
    node: owner,
    rules: () => ({ owns: () => owns }),
    now: () => 1,
    resultsMax,
    applied: () => {},
    failed: (error) => failures.push(error),
    warn: (message) => t.comment(message)
  })
  cleanup(t, () => {
    go()
    return loop.close()
  })
  return {
    loop,
    index,
    failures,
    go,
    add: async (n, blocks) => {
      const outbox = new FakeOutbox(writerOf(n))
      outboxes.set(outbox.writer, outbox)
      outbox.put(5, [headBlock(null), ...blocks])
      outbox.storedOf(5).here.set(0, headBlock(null))
      for (const [i, block] of blocks.entries()) outbox.storedOf(5).here.set(i + 1, block)
      const inbox = outbox.inbox({ generation: 5, length: 1 })
      cleanup(t, () => inbox.close())
      inbox.announce(5)
      if (blocks.length > 0) await outbox.acked({ generation: 5, length: blocks.length + 1 })
      outbox.ready = () => loop.poke()
      loop.add(inbox)
      return inbox
    },
    more: (n, block) => {
      const outbox = outboxes.get(writerOf(n))
      const blocks = outbox?.blocks.get(5) ?? []
      outbox?.storedOf(5).here.set(blocks.length, block)
      outbox?.put(5, [...blocks, block])
    },
    batches: () => {
      const cursors = new Map<string, number>()
      return index.batches.flatMap((changes) => {
        const counts: Record<string, number> = {}
        for (const { key, value } of changes) {
          const parsed = parseIndexKey(key)
          if (parsed.type !== 'cursor' || value === null) continue
          const from = cursors.get(parsed.writer) ?? 1
          const to = decodeCursor(value).length
          cursors.set(parsed.writer, to)
          counts[numberOf(parsed.writer)] = operationsOf(outboxes.get(parsed.writer), from, to)
        }
        return Object.keys(counts).length === 0 ? [] : [counts]
      })
    }
  }
}

function operationsOf(outbox: FakeOutbox | undefined, from: number, to: number): number {
  let count = 0
  for (const data of outbox?.blocks.get(5)?.slice(from, to) ?? []) {
    const content = data && decodeBlock(data)
    if (content?.type !== 'operations') continue
    for (const segment of content.segments) count += segment.operations.length
  }
  return count
}

/** What writerOf() was given. */
function numberOf(writer: string): number {
  return Number.parseInt(writer.replace(/^a+/, ''), 10)
}

const block = (operations: number): Uint8Array => putsBlock(operations)
const blocks = (count: number, operations: number): Uint8Array[] =>
  Array.from({ length: count }, () => block(operations))
const drained = (inboxes: readonly Inbox[]): Promise<boolean> =>
  until(() => inboxes.every((inbox) => !inbox.isReady), { timeoutMs: 10_000 })

test('a single put does not wait for the bulk of others', async (t) => {
  const { add, go, batches } = bench(t)
  const bulk = [
    await add(1, blocks(4, 1000)),
    await add(2, blocks(4, 1000)),
    await add(3, blocks(4, 1000))
  ]
  const single = await add(4, [block(1)])
  go()
  await drained([...bulk, single])
  const all = batches()
  // The first batch was taken when the first writer was alone.
  t.ok(
    all.slice(0, 2).some((batch) => batch[4] === 1),
    JSON.stringify(all)
  )
  for (const batch of all) {
    const total = Object.values(batch).reduce((a, b) => a + b, 0)
    t.ok(total <= 1500, `${total} operations in a batch`)
  }
  const leaders = all.map((batch) =>
    Object.keys(batch)
      .filter((n) => n !== '4')
      .join()
  )
  t.deepEqual(leaders.slice(1, 7), ['1', '2', '3', '1', '2', '3'], 'each in its turn')
})

test('writers that all have much get equal parts', async (t) => {
  const { add, go, batches } = bench(t)
  const inboxes = [await add(1, blocks(40, 100)), await add(2, blocks(40, 100))]
  go()
  await drained(inboxes)
  t.deepEqual(
    batches().slice(1, 5),
    Array.from({ length: 4 }, () => ({ 1: 500, 2: 500 }))
  )
})

test('a writer that alone has something gets the whole batch', async (t) => {
  const { add, go, batches } = bench(t)
  const idle = await add(2, [])
  const busy = await add(1, blocks(30, 100))
  go()
  await drained([idle, busy])
  t.deepEqual(batches(), [{ 1: 1000 }, { 1: 1000 }, { 1: 1000 }])
})

test('a batch ends before the block that does not fit', async (t) => {
  const { add, go, batches } = bench(t)
  const inbox = await add(1, blocks(3, 600))
  go()
  await drained([inbox])
  t.deepEqual(batches(), [{ 1: 600 }, { 1: 600 }, { 1: 600 }])
})

test('two writers have seen their results in one batch: each count is its own', async (t) => {
  const { add, go, index } = bench(t, false)
  // All keys are another's: every operation is rejected, then the writer says that it knows.
  const seen = { generation: 5, length: 2 }
  const mine = await add(1, [block(3)])
  const other = await add(2, [block(2)])
  go()
  await drained([mine, other])
  t.deepEqual([mine.results, other.results], [3, 2])
  await mine.close()
  await other.close()
  const again = bench(t)
  for (const [key, value] of index.entries) again.index.entries.set(key, value)
  const first = await again.add(3, [block(1)])
  const [a, b] = await Promise.all([
    again.add(1, [block(3), putsBlock(1, seen)]),
    again.add(2, [block(2), putsBlock(1, seen)])
  ])
  a.results = 3
  b.results = 2
  again.go()
  await drained([first, a, b])
  t.deepEqual([a.results, b.results], [0, 0])
  t.deepEqual(again.failures, [])
  for (const n of [1, 2]) {
    const left: Uint8Array[] = []
    for await (const { key } of again.index.snapshot().range(resultsRange(writerOf(n), owner))) {
      left.push(key)
    }
    t.equal(left.length, 0, 'and they are gone from the index')
  }
})

async function codeOf(promise: Promise<unknown>): Promise<string> {
  const outcome = await deadline(
    promise.then(
      () => null,
      (error: unknown) => error
    ),
    2000,
    'between() to settle'
  )
  return outcome instanceof KVSwarmError ? outcome.code : `not coded: ${String(outcome)}`
}

test('who waits for a turn is told when the loop fails', async (t) => {
  const { loop, add, index, failures, go } = bench(t)
  index.gate = () => Promise.reject(new KVSwarmError('IO_ERROR', 'the disk'))
  await add(1, [block(1)])
  const waiting = loop.between(() => Promise.resolve())
  t.equal(await codeOf(waiting), 'CLOSED')
  t.equal(failures.length, 1)
  t.equal(await codeOf(loop.between(() => Promise.resolve())), 'CLOSED', 'and later at once')
  t.equal(await codeOf(loop.adopt(2, '1'.repeat(64), [])), 'CLOSED')
  go()
})

test('who waits for a turn is told when the loop is closed', async (t) => {
  const { loop, add, go } = bench(t)
  await add(1, [block(1)])
  let ran = false
  const waiting = loop.between(() => {
    ran = true
    return Promise.resolve()
  })
  const closing = loop.close()
  go()
  t.equal(await codeOf(waiting), 'CLOSED')
  await closing
  t.notOk(ran)
  t.equal(await codeOf(loop.between(() => Promise.resolve())), 'CLOSED')
})

test('what is run between two batches may fail by itself', async (t) => {
  const { loop, add, go, failures } = bench(t)
  go()
  const failed = loop.between(() => Promise.reject(new KVSwarmError('CONFIG_STALE', 'old')))
  t.equal(await codeOf(failed), 'CONFIG_STALE')
  await drained([await add(1, [block(1)])])
  t.deepEqual(failures, [], 'the loop goes on')
})

test('many writers with large blocks: a batch holds several of them, and no more than it may', async (t) => {
  const { add, batches, go, failures } = bench(t)
  await add(0, [putsBlock(1)])
  for (let n = 1; n <= 9; n++) await add(n, [putsBlock(200)])
  go()
  await until(() => batches().reduce((sum, one) => sum + Object.keys(one).length, 0) === 10)
  const sizes = batches().map((one) => Object.values(one).reduce((sum, count) => sum + count, 0))
  t.ok(
    sizes.every((size) => size <= 1000),
    sizes.join(' ')
  )
  t.ok(sizes.length <= 4, `1,801 operations in ${sizes.length} batches`)
  t.deepEqual(failures, [])
})

test('a writer whose operations are rejected on and on stands still until it has seen some', async (t) => {
  const { loop, index, go, add, more, failures } = bench(t, false, 1500)
  go()
  const blocks = Array.from({ length: 4 }, () => putsBlock(600))
  const inbox = await add(1, blocks)
  await until(() => inbox.crowded, { what: 'the bound' })
  t.match(inbox.stopped ?? '', /too many of its operations were rejected/)
  t.ok(inbox.results >= 1500 && inbox.results <= 2500, `${inbox.results} results`)
  const at = inbox.applied
  const batches = index.batches.length
  more(1, putsBlock(1))
  await new Promise(setImmediate)
  t.deepEqual(inbox.applied, at, 'a block that says nothing new changes nothing')
  t.equal(index.batches.length, batches)
  // Two blocks of results were seen.
  more(1, putsBlock(1, { generation: 5, length: 3 }))
  await until(() => inbox.applied?.length === 7, { what: 'the rest' })
  t.equal(inbox.stopped, null)
  t.equal(inbox.results, 4 * 600 + 2 - 2 * 600, 'the others are kept')
  t.deepEqual(failures, [])
  await loop.close()
})
