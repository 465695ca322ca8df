/** What is refused in hostile indexes must not be refused in honest ones: every key, both ways, after any batches. */
import test from 'tape'
import { FollowedIndex } from '../../lib/lsm/view.ts'
import { dataRange } from '../../lib/wire/records.ts'
import { cleanup } from '../helpers/cleanup.ts'
import { until } from '../helpers/events.ts'
import { random } from '../helpers/random.ts'
import { tmpdir } from '../helpers/tmp.ts'
import { openOwn } from '../lsm/own.ts'
import { key } from './forge.ts'

test('an honest index is read: every key, both ways, after many kinds of batches', async (t) => {
  const rng = random(t)
  const own = await openOwn(tmpdir(t))
  cleanup(t, () => own.close())
  const anchor = await own.store.peerLog({ kind: 'index', node: own.store.nodeId }, 1)
  const view = await FollowedIndex.open(anchor, own.cores.share(), { deletes: false })
  cleanup(t, () => view.close())
  const stem = 'x'.repeat(900)
  const nameOf = (n: number): string =>
    n % 3 === 0 ? `${Math.floor(n / 6)}${stem}${n}` : n % 3 === 1 ? `k${n}` : `${stem}${n}`
  const model = new Map<string, Uint8Array>()
  const sizes = [1, 5, 60, 2_500, ...Array.from({ length: 40 }, () => rng.int(1, 40)), 1_500, 3]
  for (const [round, size] of sizes.entries()) {
    const batch = new Map<string, Uint8Array | null>()
    for (let i = 0; i < size; i++) {
      const length = rng.pick([0, 1, 20, 300, 1_024, 1_025, 5_000])
      const value = rng.chance(0.4) ? null : rng.bytes(length)
      batch.set(Buffer.from(key(nameOf(rng.int(0, 3_000)))).toString('latin1'), value)
    }
    for (const [name, value] of batch) {
      if (value === null) model.delete(name)
      else model.set(name, value)
    }
    const changes = [...batch].map(([name, value]) => ({ key: Buffer.from(name, 'latin1'), value }))
    const { length } = await own.index.apply(changes)
    if (round % 10 === 9) await own.index.settled(rng.chance(0.5))
    await until(() => view.head.length >= length, { what: 'the view to come to the head' })
    t.equal(view.fault, null)
    if (round % 5 !== 4) continue
    const sorted = [...model.keys()].toSorted((a, b) => (a < b ? -1 : 1))
    const from = sorted[rng.int(0, sorted.length - 1)] ?? ''
    for (const reverse of [false, true]) {
      for (const gte of ['', from]) {
        const found: string[] = []
        const snapshot = view.snapshot()
        const all = { ...dataRange(), ...(gte === '' ? {} : { gte: Buffer.from(gte, 'latin1') }) }
        for await (const entry of snapshot.range({ ...all, reverse })) {
          const name = Buffer.from(entry.key).toString('latin1')
          found.push(name)
          if (Buffer.compare(entry.value, model.get(name) ?? new Uint8Array(0)) !== 0)
            t.fail('value')
        }
        await snapshot.close()
        const expected = sorted.filter((name) => name >= gte)
        const right = reverse ? expected.toReversed() : expected
        t.equal(found.join('\n') === right.join('\n'), true, `${found.length} keys`)
      }
    }
    for (let i = 0; i < 50; i++) {
      const at = key(nameOf(rng.int(0, 3_000)))
      const there = model.has(Buffer.from(at).toString('latin1'))
      if (((await view.get(at)) !== null) !== there) t.fail('a get differs')
    }
  }
  t.deepEqual(own.failures, [])
})
