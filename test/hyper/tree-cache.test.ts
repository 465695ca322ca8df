/** What trees keep of blocks: bounded by bytes, over all of them together. */
import test from 'tape'
import { CacheBudget } from '../../lib/hyper/tree-cache.ts'

const block = (bytes: number): { key: Uint8Array; value: Uint8Array; index: Uint8Array } => ({
  key: new Uint8Array(10),
  value: new Uint8Array(bytes),
  index: new Uint8Array(0)
})

test('tree cache: never more than the budget, whatever is kept by whom', (t) => {
  const budget = new CacheBudget(1_000_000)
  const caches = Array.from({ length: 5 }, () => budget.cache())
  for (let i = 0; i < 20_000; i++) {
    caches[i % 5]?.set(i, i % 3 === 0 ? new Uint8Array(i % 5_000) : block(i % 2_000))
    if (budget.bytes > 1_000_000) t.fail(`${budget.bytes} bytes`)
  }
  t.ok(budget.bytes > 900_000, 'and it is used')
  const sum = caches.reduce((total, cache) => total + cache.bytes, 0)
  t.equal(sum, budget.bytes, 'the sum is that of its parts')
  for (const cache of caches) cache.clear()
  t.equal(budget.bytes, 0, 'nothing is left of what was cleared')
  t.end()
})

test('tree cache: what is used stays, what is too large is not kept', (t) => {
  const budget = new CacheBudget(100_000)
  const cache = budget.cache()
  cache.set(0, block(10))
  for (let i = 1; i < 2_000; i++) {
    cache.set(i, block(100))
    cache.get(0)
  }
  t.ok(cache.get(0), 'the one that is read again and again')
  t.notOk(cache.get(1), 'not the one that nobody read')
  cache.set(5_000, block(8_000_000))
  t.notOk(cache.get(5_000), 'a value of 8 MB')
  t.ok(cache.get(0), 'and it has driven out nothing')
  cache.set(0, block(20))
  t.equal((cache.get(0) as { value: Uint8Array }).value.length, 20, 'replaced')
  t.ok(cache.delete(0) && !cache.delete(0), 'deleted once')
  t.end()
})
