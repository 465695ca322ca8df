import test from 'tape'
import { runProgram } from './process.ts'
import { newSeed, randomOf } from './random.ts'

test('the same seed gives the same numbers, another seed others', (t) => {
  const draw = (seed: number): number[] => {
    const source = randomOf(seed)
    return Array.from({ length: 20 }, () => source.next())
  }
  t.deepEqual(draw(7), draw(7))
  t.notDeepEqual(draw(7), draw(8))
  t.notDeepEqual(draw(0), draw(1))
  t.end()
})

test('the numbers are spread evenly', (t) => {
  const source = randomOf(newSeed())
  t.comment(`KVSWARM_TEST_SEED=${source.seed}`)
  const buckets = Array.from({ length: 16 }, () => 0)
  const draws = 160_000
  for (let i = 0; i < draws; i++) {
    const bucket = Math.floor(source.next() * 16)
    buckets[bucket] = (buckets[bucket] ?? 0) + 1
  }
  // 10,000 expected with a deviation of 97: eight deviations are never met by chance
  t.ok(
    buckets.every((count) => Math.abs(count - draws / 16) < 780),
    buckets.join(' ')
  )
  t.end()
})

test('int includes both ends, and nothing else', (t) => {
  const source = randomOf(1)
  const seen = new Set(Array.from({ length: 1_000 }, () => source.int(-2, 2)))
  t.deepEqual(
    [...seen].toSorted((a, b) => a - b),
    [-2, -1, 0, 1, 2]
  )
  t.equal(source.int(5, 5), 5)
  t.end()
})

test('pick, shuffle, chance, bytes, text', (t) => {
  const source = randomOf(2)
  const items = Array.from({ length: 50 }, (_, i) => i)
  const mixed = source.shuffle(items)
  t.notDeepEqual(mixed, items, 'another order')
  t.deepEqual(
    mixed.toSorted((a, b) => a - b),
    items,
    'the same items'
  )
  t.ok(items.includes(source.pick(items)))
  t.throws(() => source.pick([]), /empty list/)
  t.equal(source.chance(0), false)
  t.equal(source.chance(1), true)
  t.equal(source.bytes(33).length, 33)
  t.ok(new Set(source.bytes(1_000)).size > 200, 'all kinds of bytes')
  t.match(source.text(40), /^[a-z]{40}$/)
  t.end()
})

test('KVSWARM_TEST_SEED sets the seed and is printed', async (t) => {
  const program = [
    process.execPath,
    '--import',
    'tsx',
    '--input-type=module',
    '-e',
    "import { newSeed } from './test/helpers/random.ts'; console.log(newSeed())"
  ]
  const set = await runProgram(program, { env: { KVSWARM_TEST_SEED: '12345' } })
  t.equal(set.stdout, '12345\n')
  const wrong = await runProgram(program, { env: { KVSWARM_TEST_SEED: 'abc' } })
  t.match(wrong.stderr, /KVSWARM_TEST_SEED is 'abc'; expected an integer/)
})
