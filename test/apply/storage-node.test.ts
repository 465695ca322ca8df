// A storage node goes on only with the configuration that its index has adopted, or a newer one.
import test, { type Test } from 'tape'
import {
  StorageNode,
  type StorageConfig,
  type StorageEnvironment
} from '../../lib/apply/storage-node.ts'
import { KVSwarmError } from '../../lib/errors.ts'
import type { Position } from '../../lib/types.ts'
import { cursorKey, encodeCursor, encodeIndexState, indexStateKey } from '../../lib/wire/records.ts'
import { cleanup } from '../helpers/cleanup.ts'
import { until } from '../helpers/events.ts'
import { FakeIndex, FakeLog, FakeOutbox, headBlock, owner, puts, within } from './fakes.ts'

const [hash, other] = ['1'.repeat(64), '2'.repeat(64)]

function config(epoch: number, configHash: string): StorageConfig {
  return { epoch, hash: configHash, writers: [], owns: () => true }
}

/** Opens a storage node whose index has adopted epoch 5. */
async function open(
  t: Test,
  given: StorageConfig,
  whole = true,
  inboxes: {
    readonly cursors: readonly { readonly writer: string; readonly cursor: Position }[]
    readonly environment: Partial<StorageEnvironment>
  } = { cursors: [], environment: {} }
): Promise<{ index: FakeIndex; begun: number; outcome: StorageNode | KVSwarmError }> {
  const index = new FakeIndex()
  const state = { epoch: 5, configHash: hash, serial: 1, counter: 0, now: 0 }
  index.entries.set(Buffer.from(indexStateKey).toString('hex'), encodeIndexState(state))
  const anchor = new FakeOutbox()
  anchor.storedOf(1).length = 1
  const log = new FakeLog(anchor, 1)
  for (const { writer, cursor } of inboxes.cursors) {
    const key = Buffer.from(cursorKey(writer, owner)).toString('hex')
    index.entries.set(key, encodeCursor(cursor))
  }
  let begun = 0
  const outcome = await StorageNode.open(
    {
      node: owner,
      logs: {
        ownNames: () => [],
        newestGeneration: () => 1,
        ownGenerations: () => Promise.resolve([{ generation: 1, log, whole }]),
        nextGeneration: () => 2,
        delete: () => Promise.resolve(),
        begin: () => {
          begun++
          return Promise.resolve(log)
        }
      },
      openIndex: () => Promise.resolve(index),
      openInbox: () => Promise.reject(new Error('no writers')),
      deleteInbox: () => Promise.resolve(),
      storedInboxes: () => Promise.resolve([]),
      isConnected: () => false,
      askToRotate: () => {},
      knownGeneration: () => null,
      knownWriters: () => [],
      sync: () => Promise.resolve(),
      now: () => 1,
      acked: () => {},
      applied: () => {},
      warn: (message) => t.comment(message),
      failed: (error) => t.error(error),
      ...inboxes.environment
    },
    given
  ).catch((error: unknown) => error as KVSwarmError)
  if (outcome instanceof StorageNode) cleanup(t, () => outcome.close())
  return { index, begun, outcome }
}

for (const whole of [true, false]) {
  test(`opened with an older configuration, or another of its epoch; index ${whole ? 'whole' : 'not whole'}`, async (t) => {
    for (const [given, code, named] of [
      [config(4, other), 'CONFIG_STALE', ['4', '5']],
      [config(5, other), 'CONFIG_CONFLICT', [hash, other]]
    ] as const) {
      const { index, begun, outcome } = await open(t, given, whole)
      t.ok(outcome instanceof KVSwarmError)
      if (!(outcome instanceof KVSwarmError)) continue
      t.equal(outcome.code, code)
      for (const name of named) t.ok(outcome.message.includes(name), outcome.message)
      t.ok(outcome.hint.length > 0, outcome.hint)
      t.equal(index.batches.length, 0, 'nothing was written')
      t.equal(begun, 0, 'no generation was begun')
      t.equal(index.closed, 1, 'the index is closed')
    }
  })
}

test('a running storage node refuses them as well, and takes a newer one', async (t) => {
  const { index, outcome } = await open(t, config(5, hash))
  if (!(outcome instanceof StorageNode)) return t.fail(outcome.message)
  const code = (given: StorageConfig): Promise<string> =>
    outcome.adopt(given).then(
      () => 'adopted',
      (error: unknown) => (error as KVSwarmError).code
    )
  t.equal(await code(config(4, hash)), 'CONFIG_STALE')
  t.equal(await code(config(5, other)), 'CONFIG_CONFLICT')
  t.equal(index.batches.length, 0, 'nothing was written')
  t.equal(await code(config(6, other)), 'adopted')
  t.equal(outcome.state.epoch, 6)
  t.equal(await code(config(5, hash)), 'CONFIG_STALE')
})

test('what lies here of outboxes at the start: passed ones go, what was acked is applied', async (t) => {
  const outbox = new FakeOutbox()
  const { writer } = outbox
  // The writer was restored while this node was down: it knows nothing of 7, and goes on behind 5.
  const here: [number, Uint8Array[]][] = [
    [3, puts(2)],
    [5, [headBlock(null), ...puts(1)]],
    [7, [headBlock({ generation: 5, length: 2 }), ...puts(2)]]
  ]
  for (const [generation, blocks] of here) {
    const stored = outbox.storedOf(generation)
    stored.length = blocks.length
    for (const [block, data] of blocks.entries()) stored.here.set(block, data)
  }
  outbox.put(9, [headBlock({ generation: 5, length: 1 }), ...puts(1)])
  const applied: string[] = []
  const deleted: number[] = []
  let found: (inboxes: { writer: string; generation: number }[]) => void = () => {}
  const { outcome } = await open(t, { ...config(5, hash), writers: [writer] }, true, {
    cursors: [{ writer, cursor: { generation: 5, length: 2 } }],
    environment: {
      knownGeneration: () => 9,
      storedInboxes: () => new Promise((resolve) => (found = resolve)),
      openInbox: (_, generation) => {
        const log = new FakeLog(outbox, generation)
        outbox.open.add(log)
        return Promise.resolve(log)
      },
      deleteInbox: (_, generation) => {
        deleted.push(generation)
        return Promise.resolve()
      },
      applied: (_, { generation, length }) => applied.push(`${generation}:${length}`)
    }
  })
  if (!(outcome instanceof StorageNode)) return t.fail(outcome.message)
  await within(
    until(() => outbox.stored.get(9)?.here.has(0) === true),
    'the way back from the newest generation'
  )
  t.deepEqual(applied, [], 'nothing passes what lies here before it is known')
  found(here.map(([generation]) => ({ writer, generation })))
  await within(
    until(() => applied.at(-1) === '9:2' && deleted.length === 3),
    'all of it'
  )
  t.ok(applied.includes('7:3'), applied.join())
  t.deepEqual(
    deleted.toSorted((a, b) => a - b),
    [3, 5, 7]
  )
})
