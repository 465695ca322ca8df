// An outbox that may have lost a tail is continued also when nothing more is written: its storage node may wait for
// a generation that is lost, and would take in nothing of those before it.
import { randomBytes } from 'node:crypto'
import { truncate } from 'node:fs/promises'
import { join } from 'node:path'
import test, { type Test } from 'tape'
import { Store } from '../../lib/hyper/store.ts'
import { decodeBlock } from '../../lib/wire/blocks.ts'
import { encodeKey } from '../../lib/wire/keys.ts'
import { encodeValue } from '../../lib/wire/values.ts'
import { Outbox } from '../../lib/write/outbox.ts'
import { cleanup } from '../helpers/cleanup.ts'
import { tmpdir } from '../helpers/tmp.ts'

const owner = 'ab'.repeat(32)

async function open(
  t: Test,
  directory: string
): Promise<{ outbox: Outbox; end: () => Promise<void> }> {
  const store = await Store.open({ directory, durability: 'sync' })
  cleanup(t, () => store.close().catch(() => {}))
  const outbox = await Outbox.open(store.nodeId, owner, store, {
    seen: () => null,
    mark: () => ({ configHash: '0'.repeat(64), lengths: [] }),
    begun: () => {},
    appended: () => {},
    rotationFailed: (_, error) => t.fail(String(error))
  })
  const end = async (): Promise<void> => {
    await outbox.close()
    await store.close()
  }
  return { outbox, end }
}

test('an outbox that may have lost a tail is continued without a write, unless all is receipted', async (t) => {
  const directory = join(tmpdir(t), 'w')
  const first = await open(t, directory)
  const operation = { type: 'put', key: encodeKey('a'), value: encodeValue(1) } as const
  const request = new Uint8Array(randomBytes(16))
  await first.outbox.append({ request, operations: [operation], epoch: 1 })
  await first.outbox.look(false)
  const before = first.outbox.position
  t.equal(first.outbox.logs.length, 1, 'a whole one goes on')
  await first.end()
  await truncate(join(directory, 'kvswarm.marks'), 0)

  const again = await open(t, directory)
  t.deepEqual(again.outbox.position, before)
  await again.outbox.look(true)
  t.equal(again.outbox.logs.length, 1, 'its storage node has everything')
  await again.outbox.look(false)
  t.equal(again.outbox.logs.length, 2, 'the next generation')
  t.ok((again.outbox.generation ?? 0) > (before?.generation ?? 0))
  const data = await again.outbox.logs[1]?.get(0)
  const head = data ? decodeBlock(data) : null
  t.deepEqual(head?.type === 'head' ? head.continues : null, before, 'continues what is here')
  await again.outbox.look(false)
  t.equal(again.outbox.logs.length, 2, 'once')
  await again.end()
})
