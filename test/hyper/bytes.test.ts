/**
 * Bytes of a log from a block on, whatever the shape of the tree over its blocks: the write queue counts by them, and one
 * that is not a number let no write pass any more.
 */
import test from 'tape'
import { Store } from '../../lib/hyper/store.ts'
import { tmpdir } from '../helpers/tmp.ts'

test('bytes from a block on', async (t) => {
  const store = await Store.open({ directory: tmpdir(t), durability: 'os' })
  const log = await store.begin({ kind: 'outbox', node: store.nodeId, owner: 'ab'.repeat(32) }, 1)
  const sizes: number[] = []
  const wrong: string[] = []
  for (let length = 1; length <= 40; length++) {
    sizes.push((length * 7) % 23)
    await log.append([Buffer.alloc(sizes.at(-1) ?? 0)])
    for (let from = 0; from <= length; from++) {
      const bytes = await log.bytesFrom(from)
      const expected = sizes.slice(from).reduce((sum, size) => sum + size, 0)
      if (bytes !== expected) wrong.push(`${from} of ${length}: ${bytes}, not ${expected}`)
    }
  }
  t.deepEqual(wrong, [])
  await log.close()
  await store.close()
})
