/** Runs whose topmost fence is large: of many tiny entries, and of long keys that have little in common. */
import test from 'tape'
import { indexTopBytesMax } from '../../config/limits.ts'
import { encodeKey } from '../../lib/wire/keys.ts'
import { dataKey } from '../../lib/wire/records.ts'
import { tmpdir } from '../helpers/tmp.ts'
import { openOwn } from './own.ts'

const tiny = (n: number): Uint8Array => dataKey(encodeKey(String(n).padStart(5, '0')))
const long = (n: number): Uint8Array =>
  dataKey(encodeKey(`${String((n + 1) >> 1).padStart(5, '0')}${'x'.repeat(980)}${(n + 1) & 1}`))

test('an index opens again after thousands of deletions, and with long keys', async (t) => {
  for (const [what, keyOf, count, deleted] of [
    ['deletions', tiny, 12_000, 5_000],
    ['long keys', long, 400, 0]
  ] as const) {
    const directory = tmpdir(t)
    let own = await openOwn(directory)
    const apply = async (numbers: readonly number[], value: Uint8Array | null): Promise<void> => {
      for (let at = 0; at < numbers.length; at += 1000) {
        const some = numbers.slice(at, at + 1000)
        await own.index.apply(some.map((n) => ({ key: keyOf(n), value })))
      }
    }
    const all = Array.from({ length: count }, (_, n) => n)
    await apply(all, new Uint8Array(20))
    await own.index.settled(true)
    await apply(all.slice(0, deleted), null)
    await own.index.settled()
    const large = own.index.shape.runs.filter(({ top }) => top.length === 0)
    t.ok(large.length > 0, `${what}: a run has a fence above ${indexTopBytesMax} bytes`)
    await own.close()
    own = await openOwn(directory)
    let [found, gone] = [0, 0]
    for (const n of all) {
      if ((await own.index.get(keyOf(n))) === null) gone++
      else found++
    }
    t.deepEqual([found, gone], [count - deleted, deleted], `${what}: everything is there`)
    await own.close()
  }
})
