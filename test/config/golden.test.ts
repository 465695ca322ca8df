/**
 * Placement is forever: what a key's address is, and who owns it after which changes, may never differ between
 * two versions of the program. A change here needs a new version of the configuration's form.
 */
import test from 'tape'
import Config from '../../config/index.ts'
import { type Change, growth, idFor, slicingSequence } from '../slices/sequences.ts'

interface Golden {
  readonly slices: number
  readonly slicesHash: string
  readonly hash: string
}

function after(changes: Iterable<Change>): Golden {
  let config: Config | null = null
  for (const capacities of changes) {
    if (config === null) config = new Config({ capacities, writers: [idFor('writer')] })
    else config.update({ capacities })
  }
  if (config === null) throw new Error('no change')
  return { slices: config.slices.length, slicesHash: config.slicesHash, hash: config.hash }
}

/** Many nodes change at once, with capacities of very different sizes. */
function* wholesale(): Generator<Change> {
  for (let round = 0; round < 12; round++) {
    const change: Record<string, number> = {}
    for (let i = 0; i < 25; i++) {
      const step = (round * 31 + i * 17) % 23
      if (step < 4 && round > 0) change[idFor(`w${i}`)] = 0
      else change[idFor(`w${i}`)] = [0.000001, 0.25, 3, 123.456789, 1e9][step % 5] ?? step
    }
    yield change
  }
}

test('the same changes give the same slices in every version', (t) => {
  t.deepEqual(after(slicingSequence()), {
    slices: 1087,
    slicesHash: '7e32db420a2be6bea60634590fc7cdafa09ea0a4d43c4f600d62cc5e51249321',
    hash: '54f101ec7402e5ff6c06f61645edb0386701836fae4c8e162a2d7c72aa7b8f9b'
  })
  t.deepEqual(after(growth(40)), {
    slices: 413,
    slicesHash: 'c55987d4ed68578ddadb331d5c7391260cad70bd6c868a12ed445a8d13bfc775',
    hash: 'a1f9c25887c43d82509d61dd8d8c3d12d4eaf73ad656c1876a01746a43f99a88'
  })
  t.deepEqual(after(wholesale()), {
    slices: 32,
    slicesHash: '0e0c3be19a5d7b43714a31c8961d2f67b2e100642236ec767018fabe72ce4ad5',
    hash: 'ff4b31c026c4f92255f15ab0d40985b400772bc148d042e5f610a532bd267d78'
  })
  t.end()
})

test('the same key has the same address and owner in every version', (t) => {
  const capacities = { [idFor('a')]: 5, [idFor('b')]: 10, [idFor('c')]: 7 }
  const config = new Config({ capacities, hashKey: '000102030405060708090a0b0c0d0e0f' })
  const addresses = ['greeting', 'cool', ['users', 'alice'], 'a{tag}b', [1, true]].map((key) =>
    config.addressOf(key)
  )
  t.deepEqual(addresses, [
    7247718320197660n,
    5014481737988423n,
    6975065927602387n,
    3477108502362806n,
    8341804891701955n
  ])
  t.deepEqual(
    ['greeting', 'cool', ['users', 'alice']].map((key) =>
      ['a', 'b', 'c'].find((name) => idFor(name) === config.ownerOf(key))
    ),
    ['a', 'b', 'a']
  )
  t.end()
})
