// A writer deletes by what its owner's present index shows, also when the owner is restored in between.
import { randomBytes } from 'node:crypto'
import { setImmediate as turn } from 'node:timers/promises'
import test from 'tape'
import { Store } from '../../lib/hyper/store.ts'
import type { Head } from '../../lib/ports.ts'
import { rotationLimits } from '../../lib/protocol/rotation.ts'
import type { Position } from '../../lib/types.ts'
import { encodeKey } from '../../lib/wire/keys.ts'
import { encodeValue } from '../../lib/wire/values.ts'
import { Writer } from '../../lib/write/writer.ts'
import { cleanup } from '../helpers/cleanup.ts'
import { deadline, until } from '../helpers/events.ts'
import { tmpdir } from '../helpers/tmp.ts'

const owner = 'b'.repeat(64)
const nothing = (): void => {}

test('an owner that tells of a restore while the writer looks at its index keeps the outbox', async (t) => {
  const store = await Store.open({ directory: tmpdir(t), durability: 'sync' })
  let view: Head = { generation: 1, length: 9 }
  let retired = 0
  const looks: ((shown: Position) => void)[] = []
  const writer = await Writer.open({
    node: store.nodeId,
    logs: store,
    config: () => ({ epoch: 1, hash: '0'.repeat(64), isWriter: true, ownerOf: () => owner }),
    begun: nothing,
    viewHead: () => view,
    onViewHead: () => nothing,
    readCursor: () => Promise.resolve(null),
    knownCursor: () => Promise.resolve(null),
    readRejections: () => Promise.resolve([]),
    shownCursor: () => new Promise((resolve) => looks.push(resolve)),
    retired: () => retired++,
    warn: (message) => t.fail(message),
    need: nothing,
    pollMs: 1000,
    limits: { ...rotationLimits, bytes: 4096 },
    bounds: { maxPendingBytes: Infinity, maxPendingBlocks: Infinity, onFull: 'wait' },
    syncs: () => 0
  })
  cleanup(t, async () => {
    await writer.close()
    await store.close()
  })
  for (let i = 0; i < 12; i++) {
    const value = encodeValue(new Uint8Array(1000))
    const operations = [{ type: 'put', key: encodeKey(`key ${i}`), value } as const]
    await writer.write({ request: randomBytes(16), operations })
  }
  const outbox = writer.outbox(owner)
  const newest = outbox?.generation ?? 0
  const oldest = outbox?.oldest ?? 0
  t.ok((outbox?.logs.length ?? 0) >= 3, 'some generations')
  const look = (what: string): Promise<boolean> =>
    deadline(
      until(() => looks.length > 0),
      5000,
      what
    )
  // Deletions follow each other: one of nothing ends behind those that were begun.
  const over = async (): Promise<void> => {
    await turn()
    await outbox?.retire({ generation: 0, length: 0 }, () => true)
  }

  writer.applied(owner, { generation: newest, length: 1 }, { generation: 1, length: 9 }, 0)
  await look('a look at the index')
  // Restored meanwhile, it says so, with an old cursor. The look at what it showed before ends only now.
  writer.applied(owner, { generation: 1, length: 1 }, { generation: 2, length: 2 }, 0)
  looks.shift()?.({ generation: newest, length: 1 })
  await over()
  t.equal(outbox?.oldest, oldest, 'nothing is deleted')
  t.equal(retired, 0)

  // It has applied all of it again.
  view = { generation: 2, length: 7 }
  writer.applied(owner, { generation: newest, length: 2 }, { generation: 2, length: 7 }, 0)
  await look('a look at the new index')
  looks.shift()?.({ generation: newest, length: 2 })
  await over()
  t.equal(outbox?.oldest, newest, 'what it needs no more is deleted')
  t.equal(retired, 1)
})
