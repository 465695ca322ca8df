import test from 'tape'
import { BlockCache } from '../../lib/lsm/block-cache.ts'
import { random } from '../helpers/random.ts'

test('cache of blocks: no block of one core stands for one of another, whatever its number', (t) => {
  const cache = new BlockCache(1_000_000)
  cache.set(1, 2 ** 32 + 5, 'forged', 10)
  t.equal(cache.get(2, 5), undefined)
  const far = 2 ** 52
  cache.set(far, 1, 'one', 10)
  t.equal(cache.get(far, 2), undefined)
  t.equal(cache.get(far, 1), 'one')
  t.end()
})

test('cache of blocks: against a model that keeps the order of use', (t) => {
  const rng = random(t)
  const cache = new BlockCache(1000)
  let model: { place: string; bytes: number }[] = []
  for (let i = 0; i < 20_000; i++) {
    const [core, block] = [rng.int(0, 5), rng.int(0, 20)]
    const place = `${core}/${block}`
    const known = model.find((one) => one.place === place)
    if (rng.chance(0.5)) {
      if (cache.get(core, block) !== (known ? place : undefined)) t.fail(`get ${place}`)
      if (known) model = [...model.filter((one) => one !== known), known]
    } else {
      const bytes = rng.int(1, 200)
      cache.set(core, block, place, bytes)
      if (!known && bytes <= 125) model.push({ place, bytes })
      let sum = model.reduce((all, one) => all + one.bytes, 0)
      while (sum > 1000) sum -= model.shift()?.bytes ?? 0
      if (cache.bytes !== sum) t.fail(`${cache.bytes} bytes, not ${sum}`)
    }
  }
  t.ok(cache.bytes > 500, `${cache.bytes} bytes are held`)
  t.end()
})
