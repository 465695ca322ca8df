// A writer and its queue over logs in memory: the moments around the append, and who looks for receipts.
import test from 'tape'
import type { Log, OwnGeneration, OwnLogs, QueueBounds } from '../../lib/ports.ts'
import type { LogName, NodeId, Operation, Position } from '../../lib/types.ts'
import { encodeKey } from '../../lib/wire/keys.ts'
import { encodeValue } from '../../lib/wire/values.ts'
import { Writer } from '../../lib/write/writer.ts'
import { until } from '../helpers/events.ts'
import { codeOf } from '../helpers/errors.ts'

const owner: NodeId = 'cd'.repeat(32)
const node: NodeId = 'ab'.repeat(32)
const nothing = (): void => {}

/** Logs that append when the test lets them. */
class MemoryLogs implements OwnLogs {
  readonly blocks: Uint8Array[] = []
  gate: Promise<void> = Promise.resolve()
  appends = 0
  #log: Log | null = null

  ownNames(): LogName[] {
    return this.#log ? [this.#log.name] : []
  }

  newestGeneration(): number | null {
    return this.#log ? 1 : null
  }

  ownGenerations(): Promise<OwnGeneration[]> {
    return Promise.resolve(this.#log ? [{ generation: 1, log: this.#log, whole: true }] : [])
  }

  nextGeneration(): number {
    return 1
  }

  delete(): Promise<void> {
    return Promise.resolve()
  }

  begin(name: LogName): Promise<Log> {
    const { blocks } = this
    const { length } = { length: () => blocks.length }
    const bytes = (from: number): number =>
      blocks.slice(from).reduce((sum, block) => sum + block.length, 0)
    const log: Log = {
      name,
      generation: 1,
      get length() {
        return length()
      },
      writable: true,
      append: async (more) => {
        this.appends++
        await this.gate
        blocks.push(...more)
        return blocks.length
      },
      has: () => true,
      firstMissing: () => blocks.length,
      get: (block) => Promise.resolve(blocks[block] ?? null),
      get bytes() {
        return bytes(0)
      },
      note: () => Promise.resolve(null),
      setNote: () => Promise.resolve(),
      bytesFrom: (from) => Promise.resolve(bytes(from)),
      treeHash: () => Promise.resolve(new Uint8Array(32)),
      onChange: () => nothing,
      onEnd: () => nothing,
      close: () => Promise.resolve()
    }
    this.#log = log
    return Promise.resolve(log)
  }
}

interface World {
  readonly logs: MemoryLogs
  cursor: Position | null
  looks: number
  head: number
}

function openWriter(world: World, bounds: Partial<QueueBounds> = {}): Promise<Writer> {
  return Writer.open({
    node,
    logs: world.logs,
    config: () => ({ epoch: 1, hash: '0'.repeat(64), isWriter: true, ownerOf: () => owner }),
    begun: nothing,
    // It always moves on, so that there is a reason to look.
    viewHead: () => ({ generation: 1, length: ++world.head }),
    onViewHead: () => nothing,
    readCursor: () => {
      world.looks++
      return Promise.resolve(world.cursor)
    },
    knownCursor: () => Promise.resolve(world.cursor),
    readRejections: () => Promise.resolve([]),
    shownCursor: () => Promise.resolve(null),
    retired: nothing,
    warn: nothing,
    need: nothing,
    pollMs: 20,
    bounds: { maxPendingBytes: Infinity, maxPendingBlocks: Infinity, onFull: 'wait', ...bounds },
    syncs: () => 0
  })
}

const put = (text: string): Operation => ({
  type: 'put',
  key: encodeKey(text),
  value: encodeValue(text)
})
let requests = 0
function request(...texts: string[]): { request: Uint8Array; operations: Operation[] } {
  const id = new Uint8Array(16)
  new DataView(id.buffer).setUint32(0, ++requests)
  return { request: id, operations: texts.map(put) }
}

test('a signal between admission and append leaves nothing; behind the append the outcome is told', async (t) => {
  const world: World = { logs: new MemoryLogs(), cursor: null, looks: 0, head: 0 }
  const writer = await openWriter(world)
  const before = new AbortController()
  const early = writer.write(request('early'), { signal: before.signal })
  t.equal(writer.queue.executing, 1, 'admitted')
  before.abort()
  t.equal(await codeOf(early), 'ABORTED')
  t.equal(world.logs.appends, 0)
  let open = nothing
  world.logs.gate = new Promise((resolve) => {
    open = resolve
  })
  const during = new AbortController()
  const late = writer.write(request('late'), { signal: during.signal })
  await until(() => world.logs.appends === 1)
  during.abort()
  open()
  t.equal((await late).operations, 1, 'appended, and that is what is told')
  const { executions, commits, failures, cancellations } = writer.queue
  t.deepEqual([executions, commits, failures, cancellations], [2, 1, 1, 0])
  await writer.close()
})

test('room comes with receipts; a repeated write that is in the outbox needs none', async (t) => {
  const world: World = { logs: new MemoryLogs(), cursor: null, looks: 0, head: 0 }
  const writer = await openWriter(world, { maxPendingBlocks: 1 })
  const first = request('a')
  const { parts } = await writer.write(first)
  t.equal(writer.queue.pendingBlocks, 1)
  t.equal(await codeOf(writer.write(request('b'), { timeout: 30 })), 'TIMEOUT')
  t.equal(await codeOf(writer.write(request('b'), { onFull: 'reject' })), 'QUEUE_FULL')
  await writer.close()

  const again = await openWriter(world, { maxPendingBlocks: 1 })
  t.ok(again.queue.pendingBlocks >= 1, 'what is on disk counts after a restart')
  const found = await again.write({ ...first, retry: true }, { onFull: 'reject' })
  t.deepEqual(found.parts, parts, 'found, not appended')
  const waiting = again.write(request('c'))
  const behind = again.write(request('d'))
  t.equal(again.queue.depth, 2)
  await until(() => world.looks >= 1)
  t.equal(again.queue.depth, 2, 'it looked, and there is no receipt')
  world.cursor = { generation: 1, length: world.logs.blocks.length }
  t.equal((await waiting).operations, 1, 'whoever waits looks for receipts')
  t.equal(again.queue.depth, 1)
  again.closeQueue()
  t.equal(await codeOf(behind), 'QUEUE_CLOSED')
  await again.close()

  world.cursor = { generation: 1, length: world.logs.blocks.length }
  const third = await openWriter(world)
  await third.recall()
  t.equal(third.queue.pendingBlocks, 0, 'what was receipted before the start is known at once')
  await third.close()
})

test('who begins to wait while another append runs looks for its receipt, too', async (t) => {
  const world: World = { logs: new MemoryLogs(), cursor: null, looks: 0, head: 0 }
  const writer = await openWriter(world, { maxPendingBlocks: 1 })
  const first = writer.write(request('a'))
  const second = writer.write(request('b'))
  t.deepEqual([writer.queue.executing, writer.queue.depth], [1, 1])
  await first
  world.cursor = { generation: 1, length: world.logs.blocks.length }
  t.equal((await second).operations, 1)
  await writer.close()
})

test('100 waits for receipts look once for all', async (t) => {
  const world: World = { logs: new MemoryLogs(), cursor: null, looks: 0, head: 0 }
  const writer = await openWriter(world)
  let open = nothing
  world.logs.gate = new Promise((resolve) => {
    open = resolve
  })
  const writes = Array.from({ length: 100 }, (_, n) => writer.write(request(`k${n}`)))
  await until(() => world.logs.appends === 1)
  await new Promise((resolve) => {
    setImmediate(resolve)
  })
  open()
  const flushes = await Promise.all(writes)
  t.equal(writer.queue.groupedBatches, 1, 'what waited for the first append shares the second')
  t.equal(world.logs.appends, 2)
  const receipts = flushes.map(({ id }) => writer.receipt(id))
  await until(() => world.looks >= 2)
  const { looks } = world
  t.ok(looks < 10, `${looks} looks for 100 that wait`)
  world.cursor = { generation: 1, length: world.logs.blocks.length }
  await Promise.all(receipts)
  await writer.close()
})
