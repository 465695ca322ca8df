/** Looking through what an own journal has: as often and as much as it takes, over the whole life of a process. */
import test from 'tape'
import { indexReadBytesMax } from '../../config/limits.ts'
import type { CoreLease } from '../../lib/index-ports.ts'
import { bytesInMemory } from '../../lib/lsm/budget.ts'
import { emptied } from '../../lib/lsm/kept.ts'
import { encodeStep, decodeStep, type Step } from '../../lib/wire/index-step.ts'

test('more than one read may take is no damage of an own index', async (t) => {
  const keys = Array.from({ length: 100 }, (_, n) => `key ${String(n).padStart(4, '0')}`)
  const step: Step = {
    first: 0,
    values: 0,
    data: 0,
    inline: { keys, values: keys.map((_, block) => ({ journal: 3, block, length: 600 })) },
    sources: [{ kind: 'small', block: 0, count: keys.length, tags: [] }]
  }
  const bytes = encodeStep(step, 0)
  let [entries, taken] = [0, 0]
  // Each journal is another core, so that nothing comes from the cache.
  for (let id = 2e6; taken <= indexReadBytesMax; id++) {
    const core: CoreLease = {
      id,
      length: 1,
      get: () => Promise.resolve(bytes),
      onChange: () => () => {},
      release: () => {}
    }
    for await (const group of emptied(core, 3, 1)) entries += group.length
    taken += bytesInMemory(decodeStep(bytes, 0))
  }
  t.ok(entries > keys.length, `${entries} entries, ${taken} bytes`)
})
