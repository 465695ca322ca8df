import test from 'tape'
import { capacityText, millionthsOf, sharesOf } from '../../lib/slices/capacity.ts'
import { SPACE } from '../../lib/slices/space.ts'
import { random } from '../helpers/random.ts'

test('capacities become exact millionths', (t) => {
  for (const [capacity, expected] of [
    [5, 5_000_000n],
    [0.1, 100_000n],
    [0.000001, 1n],
    [999_999_999.123456, 999_999_999_123_456n],
    [1e9, 1_000_000_000_000_000n],
    [1e21, 10n ** 27n],
    [0, 0n],
    [-0, 0n],
    [7n, 7_000_000n],
    ['2.5', 2_500_000n],
    ['007', 7_000_000n],
    ['1.0000000', 1_000_000n]
  ] as const) {
    t.equal(millionthsOf(capacity), expected, String(capacity))
  }
  t.end()
})

test('what is no decimal of six places has no millionths', (t) => {
  for (const capacity of [
    NaN,
    Infinity,
    -Infinity,
    -1,
    -1n,
    1e-7,
    1.1234567,
    0.1 + 0.2,
    '',
    ' 1',
    '1.',
    '.5',
    '+1',
    '1e3',
    '0x10',
    '1,5',
    '١'
  ]) {
    t.equal(millionthsOf(capacity), null, String(capacity))
  }
  t.end()
})

test('every capacity survives as text and as a number', (t) => {
  const source = random(t)
  let faults = 0
  for (let i = 0; i < 5000; i++) {
    const digits = source.int(1, 15)
    const size = BigInt(Math.floor(source.next() * 10 ** digits) + 1)
    const text = capacityText(size)
    if (millionthsOf(text) !== size || millionthsOf(Number(text)) !== size) faults++
    if (/e|\.$|\.\d*0$/.test(text)) faults++
  }
  t.equal(faults, 0)
  t.equal(capacityText(1n), '0.000001')
  t.equal(capacityText(10n ** 15n), '1000000000')
  t.end()
})

test('shares add up, are proportional, and what is left over goes by remainder, then by id', (t) => {
  const even = sharesOf(
    new Map([
      ['c', 1n],
      ['a', 1n],
      ['b', 1n]
    ])
  )
  // 2^53 = 3 * 3002399751580330 + 2
  t.deepEqual(
    [...even],
    [
      ['a', 3_002_399_751_580_331],
      ['b', 3_002_399_751_580_331],
      ['c', 3_002_399_751_580_330]
    ]
  )
  // 2^53 = 7 * 1286742750677284 + 4: remainders 4 of 7, 1 of 7, 2 of 7
  const uneven = sharesOf(
    new Map([
      ['x', 1n],
      ['y', 2n],
      ['z', 4n]
    ])
  )
  t.deepEqual(
    [...uneven],
    [
      ['x', 1_286_742_750_677_285],
      ['y', 2_573_485_501_354_569],
      ['z', 5_146_971_002_709_138]
    ]
  )
  t.equal(
    [...uneven.values()].reduce((a, b) => a + b, 0),
    SPACE
  )
  t.end()
})

test('shares of no capacity, or of one that is 0, are a defect of the caller', (t) => {
  t.throws(() => sharesOf(new Map()), /at least one/)
  t.throws(
    () =>
      sharesOf(
        new Map([
          ['a', 1n],
          ['b', 0n]
        ])
      ),
    /above 0/
  )
  t.end()
})
