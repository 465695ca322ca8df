// A storage node goes on only with the configuration that its index has adopted, or a newer one.
import test, { type Test } from 'tape'
import { StorageNode, type StorageConfig } from '../../lib/apply/storage-node.ts'
import { KVSwarmError } from '../../lib/errors.ts'
import { encodeIndexState, indexStateKey } from '../../lib/wire/records.ts'
import { cleanup } from '../helpers/cleanup.ts'
import { FakeIndex, FakeLog, FakeOutbox, owner } from './fakes.ts'

const [hash, other] = ['1'.repeat(64), '2'.repeat(64)]

function config(epoch: number, configHash: string): StorageConfig {
  return { epoch, hash: configHash, writers: [], owns: () => true }
}

/** Opens a storage node whose index has adopted epoch 5. */
async function open(
  t: Test,
  given: StorageConfig,
  whole = true
): Promise<{ index: FakeIndex; begun: number; outcome: StorageNode | KVSwarmError }> {
  const index = new FakeIndex()
  const state = { epoch: 5, configHash: hash, serial: 1, counter: 0, now: 0 }
  index.entries.set(Buffer.from(indexStateKey).toString('hex'), encodeIndexState(state))
  const anchor = new FakeOutbox()
  anchor.storedOf(1).length = 1
  const log = new FakeLog(anchor, 1)
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
      failed: (error) => t.error(error)
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
