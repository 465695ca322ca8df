/**
 * A journal that is written on after a restart: its directories lead to where the entries lie, also to those from before.
 * The node itself has them in memory; who reads from afar has nothing else.
 */
import test from 'tape'
import { HyperIndexCores } from '../../lib/hyper/index-cores.ts'
import { FollowedIndex } from '../../lib/lsm/view.ts'
import { random } from '../helpers/random.ts'
import { tmpdir } from '../helpers/tmp.ts'
import { openOwn } from './own.ts'

const rounds = 12

test('directories of a journal after restarts', async (t) => {
  const rng = random(t)
  const directory = tmpdir(t)
  const model = new Map<string, string>()
  const wrong: string[] = []
  for (let round = 0; round < rounds; round++) {
    const { store, index } = await openOwn(directory)
    for (let step = rng.int(1, 40); step > 0; step--) {
      const changes = new Map<string, string | null>()
      for (let i = rng.pick([1, 2, 3, 5, 40]); i > 0; i--) {
        const key = `key ${rng.int(0, 400)}`
        const value = rng.chance(0.1)
          ? null
          : 'x'.repeat(rng.pick([5, 100, 400, 700])) + String(step)
        changes.set(key, value)
        if (value === null) model.delete(key)
        else model.set(key, value)
      }
      await index.apply(
        [...changes].map(([key, value]) => ({
          key: Buffer.from(key),
          value: value === null ? null : Buffer.from(value)
        }))
      )
    }
    const anchor = await store.peerLog({ kind: 'index', node: store.nodeId }, 1)
    const cores = new HyperIndexCores(store, store.nodeId, 1)
    const view = await FollowedIndex.open(anchor, cores, { deletes: false })
    const snapshot = view.snapshot()
    const found: string[] = []
    try {
      for await (const { key, value } of snapshot.range({}, { wait: false })) {
        found.push(`${Buffer.from(key).toString()} ${Buffer.from(value).toString()}`)
      }
    } catch (error) {
      wrong.push(`round ${round}: ${String(error)}`)
    }
    const expected = [...model].toSorted(([a], [b]) => (a < b ? -1 : 1))
    if (found.join() !== expected.map(([key, value]) => `${key} ${value}`).join()) {
      wrong.push(`round ${round}: ${found.length} entries, not ${expected.length}`)
    }
    for (const [key, value] of expected) {
      const got = await view.get(Buffer.from(key), { wait: false })
      if (got === null || Buffer.from(got).toString() !== value)
        wrong.push(`round ${round}: ${key}`)
    }
    await snapshot.close()
    await view.close()
    await index.close()
    await store.close()
  }
  t.deepEqual(wrong.slice(0, 5), [])
})
