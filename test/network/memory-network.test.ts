import test, { type Test } from 'tape'
import { isKVSwarmError } from '../../lib/errors.ts'
import { MemoryHub } from '../../lib/hyper/memory-network.ts'
import { until } from '../helpers/events.ts'
import { ask, TestNode } from './node.ts'
import { networkSuite } from './suite.ts'

networkSuite('memory', async () => {
  const hub = new MemoryHub()
  return () => hub.network()
})

networkSuite('memory, slow and out of order', async (t) => {
  const hub = new MemoryHub()
  t.comment(`seed ${hub.seed}`)
  hub.reorder(30)
  return () => hub.network()
})

async function joined(t: Test, hub: MemoryHub, ...names: string[]): Promise<TestNode[]> {
  const nodes: TestNode[] = []
  for (const name of names) nodes.push(await TestNode.start(t, hub.network(), name))
  for (const one of nodes) for (const other of nodes) one.network.join(other.id)
  for (const one of nodes) {
    for (const other of nodes) if (one !== other) await one.connection(other)
  }
  return nodes
}

test('memory: cut() ends connections and keeps new ones away until heal()', async (t) => {
  const hub = new MemoryHub()
  const [a, b, c] = (await joined(t, hub, 'a', 'b', 'c')) as [TestNode, TestNode, TestNode]
  const before = await a.connection(b)
  hub.cut(a.id, b.id)
  await until(() => before.closed && a.live(b.id).length === 0 && b.live(a.id).length === 0)
  t.equal(await ask(await a.connection(c), 'c?'), 'c?', 'others are still connected')
  // Several rounds of back-off pass while c is dialled anew each time.
  for (let i = 0; i < 3; i++) {
    const old = await a.connection(c)
    old.destroy()
    await a.connection(c, old)
  }
  t.equal(a.live(b.id).length, 0, 'nothing came of dialling meanwhile')
  hub.heal(a.id, b.id)
  t.equal(await ask(await a.connection(b), 'b?'), 'b?', 'connected again')
})

test('memory: drop() is a dead peer: nobody is told, nothing arrives, a new dial replaces', async (t) => {
  const hub = new MemoryHub()
  const a = await TestNode.start(t, hub.network(), 'a')
  const b = await TestNode.start(t, hub.network(), 'b')
  b.network.join(a.id)
  const atB = await b.connection(a)
  const atA = await a.connection(b)
  await ask(atB, 'there?')
  hub.drop(a.id, b.id)
  const received = atA.bytesReceived
  const stream = atB.stream as { write(bytes: Uint8Array): boolean }
  let taken = 0
  while (taken < 100 && stream.write(Buffer.alloc(64 * 1024))) taken++
  t.ok(taken < 100, 'writing meets its bound, as on a dead link')
  atB.destroy()
  await until(() => b.live(a.id).length === 0)
  t.notOk(atA.closed, 'the other end does not hear of it')
  t.equal(atA.bytesReceived, received, 'nor of anything else')
  hub.heal(a.id, b.id)
  const again = await b.connection(a, atB)
  t.equal(await ask(again, 'back'), 'back', 'a new connection works')
  t.ok(atA.closed, 'and has replaced the dead one')
  t.equal(a.mostAtOnce, 1, 'never two at once')
})

test('memory: a partition separates two sides, and nothing else', async (t) => {
  const hub = new MemoryHub()
  const nodes = (await joined(t, hub, 'a', 'b', 'c', 'd')) as [
    TestNode,
    TestNode,
    TestNode,
    TestNode
  ]
  const [a, b, c, d] = nodes
  hub.partition([a.id, b.id], [c.id, d.id])
  await until(() => [a, b].every((one) => [c, d].every((other) => one.live(other.id).length === 0)))
  t.equal(await ask(await a.connection(b), 'x'), 'x', 'left side')
  t.equal(await ask(await c.connection(d), 'x'), 'x', 'right side')
  hub.healAll()
  t.equal(await ask(await a.connection(d), 'x'), 'x', 'healed')
})

test('memory: delay and throttle', async (t) => {
  const hub = new MemoryHub()
  const [a, b] = (await joined(t, hub, 'a', 'b')) as [TestNode, TestNode]
  const connection = await until(() => (a.live(b.id).length === 1 ? a.live(b.id)[0] : null))
  await ask(connection, 'warm')
  hub.delay(a.id, b.id, 50)
  let since = performance.now()
  await ask(connection, 'far')
  let ms = performance.now() - since
  t.ok(ms >= 99 && ms < 1000, `there and back in ${Math.round(ms)} ms`)
  hub.delay(a.id, b.id, 0)
  hub.throttle(a.id, b.id, 1_000_000)
  since = performance.now()
  const text = 'x'.repeat(200_000)
  t.equal(await ask(connection, text), text, 'all of it arrives')
  ms = performance.now() - since
  t.ok(ms >= 350 && ms < 3000, `400 kB at 1 MB/s in ${Math.round(ms)} ms`)
})

test('memory: the same seed gives the same random numbers', (t) => {
  const numbers = (hub: MemoryHub): number[] => Array.from({ length: 5 }, () => hub.random())
  t.deepEqual(numbers(new MemoryHub({ seed: 7 })), numbers(new MemoryHub({ seed: 7 })), 'the same')
  t.notDeepEqual(numbers(new MemoryHub({ seed: 7 })), numbers(new MemoryHub({ seed: 8 })), 'others')
  t.ok(
    numbers(new MemoryHub()).every((n) => n >= 0 && n < 1),
    'in [0, 1)'
  )
  t.end()
})

test('memory: wrong use is told', (t) => {
  const hub = new MemoryHub()
  const id = 'ab'.repeat(32)
  const wrong: [string, () => unknown][] = [
    ['an id that is none', () => hub.cut('abc', id)],
    ['a negative delay', () => hub.delay(id, id, -1)],
    ['a rate that is no number', () => hub.throttle(id, id, NaN)],
    ['no back-off', () => new MemoryHub({ backoffsMs: [] })]
  ]
  for (const [what, run] of wrong) {
    try {
      run()
      t.fail(what)
    } catch (error) {
      t.ok(isKVSwarmError(error, 'INVALID_ARGUMENT'), what)
    }
  }
  t.end()
})
