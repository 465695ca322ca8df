import test from 'tape'
import Config from '../../config/index.ts'
import { encodeKey } from '../../lib/wire/keys.ts'
import { random } from '../helpers/random.ts'
import { A, B, C, D, refusal, zD } from './ids.ts'

const options = { capacities: { [B]: 10, [A]: 5, [C]: 7.5 }, writers: [B, A] }

test('a new Config', (t) => {
  const config = new Config(options)
  t.equal(config.epoch, 1)
  t.deepEqual(config.writers, [A, B])
  t.deepEqual(config.storageNodes, [A, B, C])
  t.deepEqual(config.capacities, { [A]: 5, [B]: 10, [C]: 7.5 })
  t.equal(config.bootstrap, undefined)
  t.equal(config.hashKey, Buffer.from('kvswarm/hash-key').toString('hex'))
  t.deepEqual(config.slices, [
    { start: 0n, end: 2001599834386887n, owner: A },
    { start: 2001599834386887n, end: 6004799503160661n, owner: B },
    { start: 6004799503160661n, end: Config.SPACE, owner: C }
  ])
  t.equal(Config.SPACE, 2n ** 53n)
  t.equal(config.shareOf(A), 2001599834386887n)
  t.equal(config.shareOf(D), 0n)
  t.equal(config.shareOf('nobody'), 0n)
  t.end()
})

test('ids are taken in hex of any case and in z-base-32 everywhere', (t) => {
  const config = new Config({ capacities: { [zD]: 1, [A.toUpperCase()]: 1 }, writers: [zD] })
  t.deepEqual(config.storageNodes, [A, D])
  t.deepEqual(config.writers, [D])
  for (const id of [D, zD, D.toUpperCase()]) {
    t.ok(config.isWriter(id))
    t.ok(config.isStorageNode(id))
    t.equal(config.shareOf(id), Config.SPACE / 2n)
  }
  t.notOk(config.isWriter(A))
  t.notOk(config.isStorageNode(B))
  t.notOk(config.isWriter('nobody'))
  t.notOk(config.isStorageNode('__proto__'))
  config.removeWriter(zD)
  t.deepEqual(config.writers, [])
  config.update({ capacities: { [zD]: 0 } })
  t.deepEqual(config.storageNodes, [A])
  t.end()
})

test('a change is one epoch, and what changes nothing is none', (t) => {
  const config = new Config(options)
  const steps: readonly [string, () => unknown, number][] = [
    ['no changes', () => config.update({}), 1],
    ['the same capacities', () => config.update({ capacities: { [A]: 5 } }), 1],
    ['the same writers in another order', () => config.update({ writers: [B, A] }), 1],
    ['a node leaves that is none', () => config.update({ capacities: { [D]: 0 } }), 1],
    ['a writer who is one', () => config.addWriter(A), 1],
    ['no writer leaves', () => config.removeWriter(C), 1],
    ['setWriters to the same', () => config.setWriters([A, B]), 1],
    ['a new writer', () => config.addWriter(C), 2],
    ['a writer leaves', () => config.removeWriter(B), 3],
    ['other writers', () => config.setWriters([B, D]), 4],
    ['a capacity', () => config.update({ capacities: { [A]: 6 } }), 5],
    ['all at once', () => config.update({ capacities: { [A]: 0, [D]: 3 }, writers: [] }), 6],
    [
      'twice everything, so that no slice changes',
      () => config.update({ capacities: { [B]: 20, [C]: 15, [D]: 6 } }),
      7
    ]
  ]
  for (const [name, change, epoch] of steps) {
    const before = { epoch: config.epoch, hash: config.hash }
    change()
    t.equal(config.epoch, epoch, name)
    t.equal(config.hash === before.hash, epoch === before.epoch, 'the document, too')
  }
  t.deepEqual(config.capacities, { [B]: 20, [C]: 15, [D]: 6 })
  t.deepEqual(config.writers, [])
  t.end()
})

test('update() tells what moves, and moves no more', (t) => {
  const config = new Config({ capacities: { [A]: 1, [B]: 1 } })
  const half = Config.SPACE / 2n
  t.deepEqual(config.update({ capacities: { [C]: 2 } }), [
    { from: A, to: C, start: half / 2n, end: half },
    { from: B, to: C, start: half, end: half + half / 2n }
  ])
  t.equal(config.ownerOf('greeting'), owner(config, config.addressOf('greeting')))
  t.deepEqual(config.update({ capacities: { [A]: 2, [B]: 2, [C]: 4 } }), [])
  t.deepEqual(config.update({ writers: [A] }), [])
  t.end()
})

test('the hashes tell what differs', (t) => {
  const config = new Config(options)
  const { hash, slicesHash } = config
  t.match(hash, /^[0-9a-f]{64}$/)
  config.addWriter(C)
  t.notEqual(config.hash, hash)
  t.equal(config.slicesHash, slicesHash, 'writers decide no place')
  config.update({ capacities: { [A]: 10, [B]: 20, [C]: 15 } })
  t.equal(config.slicesHash, slicesHash, 'nor does the unit of the capacities')
  config.update({ capacities: { [A]: 11 } })
  t.notEqual(config.slicesHash, slicesHash)
  const otherKey = new Config({ ...options, hashKey: Config.randomHashKey() })
  t.notEqual(otherKey.slicesHash, slicesHash, 'the hash key does')
  t.equal(new Config(options).hash, hash, 'the same options make the same Config')
  t.end()
})

test('a hash key is 32 random hex digits', (t) => {
  t.match(Config.randomHashKey(), /^[0-9a-f]{32}$/)
  t.notEqual(Config.randomHashKey(), Config.randomHashKey())
  const hashKey = 'AB'.repeat(16)
  t.equal(new Config({ ...options, hashKey }).hashKey, hashKey.toLowerCase())
  t.end()
})

function owner(config: Config, address: bigint): string | undefined {
  return config.slices.find(({ start, end }) => start <= address && address < end)?.owner
}

test('a key lives on the owner of its address', (t) => {
  const source = random(t)
  const config = new Config({ ...options, hashKey: Config.randomHashKey() })
  let wrong = 0
  for (let i = 0; i < 500; i++) {
    const key = [source.text(5), source.int(0, 1000)]
    const address = config.addressOf(key)
    if (address < 0n || address >= Config.SPACE) wrong++
    if (config.ownerOf(key) !== owner(config, address)) wrong++
    if (config.ownerOf(key) !== config.ownerOfEncoded(encodeKey(key))) wrong++
  }
  t.equal(wrong, 0)
  t.equal(config.addressOf('a{tag}'), config.addressOf(['b', '{tag}c']), 'the hash tag decides')
  t.throws(() => config.ownerOf(''), /empty/)
  t.end()
})

test('keys are spread by capacity', (t) => {
  const config = new Config(options)
  const counts = new Map<string, number>()
  for (let i = 0; i < 45_000; i++) {
    const id = config.ownerOf(`key ${i}`)
    counts.set(id, (counts.get(id) ?? 0) + 1)
  }
  for (const [id, expected] of [
    [A, 10_000],
    [B, 20_000],
    [C, 15_000]
  ] as const) {
    const count = counts.get(id) ?? 0
    t.ok(Math.abs(count - expected) < 0.05 * expected, `${count} of ${expected}`)
  }
  t.end()
})

test('a snapshot stays as it is', (t) => {
  const config = new Config(options)
  const snapshot = config.snapshot()
  const { hash } = config
  config.update({ capacities: { [D]: 1 }, writers: [] })
  t.equal(snapshot.hash, hash)
  t.deepEqual(snapshot.writers, [A, B])
  for (const change of [
    () => snapshot.update({ writers: [] }),
    () => snapshot.update({}),
    () => snapshot.addWriter(A),
    () => snapshot.removeWriter(D),
    () => snapshot.setWriters([])
  ]) {
    t.throws(change, (error: { code?: string }) => error.code === 'READ_ONLY')
  }
  t.equal(snapshot.snapshot(), snapshot)
  t.ok(Object.isFrozen(snapshot))
  t.equal(snapshot.hash, hash)
  t.end()
})

test('what a Config gives out is not its inside', (t) => {
  const bootstrap = ['127.0.0.1:4000']
  const writers = [A]
  const config = new Config({ ...options, writers, bootstrap })
  const { hash } = config
  writers.push(B)
  bootstrap.push('[::1]:5')
  ;(config.writers as string[]).push(C)
  config.bootstrap?.push('x')
  ;(config.capacities as Record<string, number>)[D] = 1
  t.throws(() => (config.slices as unknown[]).push(1), TypeError)
  t.equal(Config.parse(config.serialize()).hash, hash)
  t.deepEqual(config.bootstrap, ['127.0.0.1:4000'])
  t.end()
})

test('bins of one Config make another', (t) => {
  const config = new Config(options)
  config.update({ capacities: { [D]: 4 } })
  const { bins, writers, epoch } = config
  t.equal(new Config({ bins, writers, epoch }).hash, config.hash)
  const adjusted = new Config({ bins, capacities: { [A]: 9 }, writers, epoch: epoch + 1 })
  config.update({ capacities: { [A]: 9 } })
  t.equal(adjusted.hash, config.hash, 'capacities adjust the slices, as update() does')
  t.end()
})

test('the last epoch is the last', (t) => {
  const config = new Config({ ...options, epoch: 16_777_215 })
  t.match(
    refusal(() => config.addWriter(C)),
    /^epoch: 16777215 is the last one$/
  )
  t.equal(config.epoch, 16_777_215)
  t.deepEqual(config.writers, [A, B])
  t.end()
})

test('a refused change changes nothing', (t) => {
  const config = new Config(options)
  const { hash } = config
  for (const [change, message] of [
    [
      () => config.update({ capacities: { [A]: 0, [B]: 0, [C]: 0 } }),
      /^capacities: no storage node would be left$/
    ],
    [() => config.update({ capacities: { [D]: 1, [A]: -1 } }), /^capacities\.a1.*got -1$/],
    [
      () => config.update({ writers: [D], capacities: { x: 1 } }),
      /^capacities\.x: expected a node id/
    ],
    [() => config.update({ writers: [D, zD] }), /^writers\[1\]: the same node as \[0\]$/],
    [() => config.update({ epoch: 7 } as object), /^epoch: unknown key$/],
    [() => config.update(undefined as unknown as object), /^expected an object, got undefined$/],
    [() => config.addWriter('x'), /^writer: expected a node id .*, got 'x'$/],
    [() => config.addWriter(undefined as unknown as string), /got undefined$/],
    [() => config.removeWriter(''), /^writer: expected a node id/],
    [() => config.setWriters([A, 'x']), /^writers\[1\]: expected a node id/],
    [() => config.setWriters(A as unknown as string[]), /^writers: expected an array of node ids/]
  ] as const) {
    t.match(refusal(change), message)
  }
  t.equal(config.hash, hash)
  t.equal(config.epoch, 1)
  t.end()
})
