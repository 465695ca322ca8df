/** Merging parts of an index: order, what overrules what, and failures while nobody waits. */
import { setImmediate } from 'node:timers/promises'
import test from 'tape'
import { mergeParts } from '../../lib/lsm/merge.ts'
import type { Entries } from '../../lib/wire/index-blocks.ts'
import { codeOf } from '../helpers/errors.ts'
import { random } from '../helpers/random.ts'

async function* part(...chunks: (readonly string[])[]): AsyncGenerator<Entries> {
  for (const keys of chunks) {
    await setImmediate()
    yield { keys, values: keys.map(() => null) }
  }
}

async function* failing(): AsyncGenerator<Entries> {
  yield { keys: ['a'], values: [null] }
  throw new Error('a block that is gone')
}

test('a part that fails while the caller is busy', async (t) => {
  const merged = mergeParts([failing(), part(['a', 'b'])])
  t.deepEqual((await merged.next()).value.keys, ['a'], 'what is ready is given')
  // An error that nobody waits for would end the process here.
  for (let turn = 0; turn < 5; turn++) await setImmediate()
  t.match(await codeOf(merged.next()), /a block that is gone/, 'the next call is told')
})

test('the newest part says what holds', async (t) => {
  const source = random(t)
  for (let run = 0; run < 200; run++) {
    const reverse = source.chance(0.5)
    const expected = new Map<string, number>()
    const dropped: number[] = []
    let all = 0
    const parts = Array.from({ length: source.int(1, 5) }, (_, at) => {
      const keys = new Set(Array.from({ length: source.int(0, 20) }, () => source.text(2)))
      const sorted = [...keys].toSorted()
      if (reverse) sorted.reverse()
      all += sorted.length
      for (const key of sorted) if (!expected.has(key)) expected.set(key, at)
      return valued(sorted, at, source.int(1, 6))
    })
    const found: [string, number][] = []
    for await (const { keys, values } of mergeParts(parts, reverse, (value) =>
      dropped.push((value as Uint8Array)[0] as number)
    )) {
      for (const [at, key] of keys.entries()) {
        found.push([key, (values[at] as Uint8Array)[0] as number])
      }
    }
    const wanted = [...expected].toSorted(([a], [b]) => (a < b ? -1 : 1))
    if (reverse) wanted.reverse()
    if (JSON.stringify(found) === JSON.stringify(wanted) && found.length + dropped.length === all) {
      continue
    }
    t.deepEqual(found, wanted, `run ${run}`)
    t.equal(found.length + dropped.length, all, `run ${run}: each overruled value is told of`)
  }
  t.pass('200 merges')
})

async function* valued(
  keys: readonly string[],
  value: number,
  size: number
): AsyncGenerator<Entries> {
  for (let at = 0; at < keys.length; at += size) {
    const some = keys.slice(at, at + size)
    yield { keys: some, values: some.map(() => Uint8Array.of(value)) }
  }
}
