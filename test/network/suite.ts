/** What every Network promises; each implementation runs all of it. */
import test, { type Test } from 'tape'
import { isKVSwarmError } from '../../lib/errors.ts'
import type { Connection, Network } from '../../lib/ports.ts'
import { until } from '../helpers/events.ts'
import { ask, idOf, nameOf, TestNode } from './node.ts'

/** One network for several nodes: each call makes the Network object of one more node. */
export type Make = (t: Test) => Promise<() => Network>

async function codeOf(run: () => unknown): Promise<string> {
  try {
    await run()
    return 'no error'
  } catch (error) {
    return isKVSwarmError(error) ? error.code : String(error)
  }
}

export function networkSuite(name: string, make: Make): void {
  test(`${name}: both join: one connection, authenticated, bytes both ways, counted`, async (t) => {
    const network = await make(t)
    const a = await TestNode.start(t, network(), 'a')
    const b = await TestNode.start(t, network(), 'b')
    a.network.join(b.id)
    b.network.join(a.id)
    await a.connection(b)
    await b.connection(a)
    const [atA, atB] = await settled(a, b)
    t.equal(atA.remoteId, b.id, 'a sees the id of b')
    t.equal(atB.remoteId, a.id, 'b sees the id of a')
    t.notEqual(atA.isInitiator, atB.isInitiator, 'one side dialled')
    const text = 'x'.repeat(100_000)
    t.equal(await ask(atA, text), text, 'a is answered')
    t.equal(await ask(atB, text), text, 'b is answered')
    for (const one of [atA, atB]) {
      t.ok(one.bytesReceived >= 200_000, `received ${one.bytesReceived} bytes`)
      t.ok(one.bytesSent >= 200_000, `sent ${one.bytesSent} bytes`)
    }
    t.equal(a.mostAtOnce, 1, 'never two at a')
    t.equal(b.mostAtOnce, 1, 'never two at b')
  })

  test(`${name}: one joins, the other only listens`, async (t) => {
    const network = await make(t)
    const a = await TestNode.start(t, network(), 'a')
    const b = await TestNode.start(t, network(), 'b', false)
    b.network.join(a.id)
    b.network.join(a.id)
    const atB = await b.connection(a)
    const atA = await a.connection(b)
    t.ok(atB.isInitiator, 'b dialled')
    t.equal(await ask(atA, 'back'), 'back', 'the listener can ask as well')
    t.equal(b.connections.length, 1, 'join() twice is join() once')
  })

  test(`${name}: a joined peer is dialled again, a left one is not`, async (t) => {
    const network = await make(t)
    const a = await TestNode.start(t, network(), 'a')
    const b = await TestNode.start(t, network(), 'b')
    const c = await TestNode.start(t, network(), 'c')
    for (const peer of [b, c]) a.network.join(peer.id)
    const atB = await b.connection(a)
    const atC = await c.connection(a)
    const toB = await a.connection(b)
    const toC = await a.connection(c)
    a.network.leave(b.id)
    t.notOk(toB.closed, 'leave() keeps the connection')
    atB.destroy()
    await until(() => toB.closed, { what: 'a sees that b has gone' })
    // Each of c's ends comes after b's, and its redial would not come before b's.
    let last = toC
    atC.destroy()
    for (let round = 0; round < 3; round++) {
      last = await a.connection(c, last)
      if (round < 2) last.destroy()
    }
    t.equal(await ask(last, 'still'), 'still', 'c is back, dialled again each time')
    t.equal(a.live(b.id).length, 0, 'b is not')
  })

  test(`${name}: a refused node gets in once it is admitted`, async (t) => {
    const network = await make(t)
    const a = await TestNode.start(t, network(), 'a')
    const b = await TestNode.start(t, network(), 'b')
    const c = await TestNode.start(t, network(), 'c')
    a.refused.add(b.id)
    b.network.join(a.id)
    c.network.join(a.id)
    await a.connection(c)
    t.equal(a.connections.filter((one) => one.remoteId === b.id).length, 0, 'b was refused')
    a.refused.delete(b.id)
    a.network.admit(b.id)
    const admitted = await a.connection(b)
    t.equal(await ask(admitted, 'hello'), 'hello', 'b is in')
  })

  test(`${name}: a node that this one refuses is not dialled before admit()`, async (t) => {
    const network = await make(t)
    const a = await TestNode.start(t, network(), 'a')
    const b = await TestNode.start(t, network(), 'b', false)
    b.refused.add(a.id)
    b.network.join(a.id)
    b.network.admit(a.id)
    t.equal(b.connections.length, 0, 'nothing yet')
    b.refused.delete(a.id)
    b.network.admit(a.id)
    t.equal(await ask(await b.connection(a), 'in'), 'in', 'admitted')
  })

  test(`${name}: many dials at once end in one connection for each pair`, async (t) => {
    const network = await make(t)
    const nodes: TestNode[] = []
    for (const each of ['a', 'b', 'c', 'd']) {
      nodes.push(await TestNode.start(t, network(), each))
    }
    for (const one of nodes) for (const other of nodes) one.network.join(other.id)
    for (const one of nodes) {
      for (const other of nodes) {
        if (one.id >= other.id) continue
        const [left, right] = await settled(one, other)
        t.equal(nameOf(left), nameOf(right), 'both hold the same one')
        t.equal(await ask(left, 'ok'), 'ok', 'and it works')
      }
    }
    for (const one of nodes) t.equal(one.mostAtOnce, 1, 'never two to one peer')
  })

  test(`${name}: dead peers do not hold up a living one`, async (t) => {
    const network = await make(t)
    const a = await TestNode.start(t, network(), 'a')
    const b = await TestNode.start(t, network(), 'b')
    for (let i = 0; i < 40; i++) b.network.join(idOf(`nobody ${i}`))
    const since = performance.now()
    b.network.join(a.id)
    await b.connection(a)
    const ms = performance.now() - since
    t.pass(`connected after ${Math.round(ms)} ms`)
  })

  test(`${name}: onClose is called once, and at once when it is too late`, async (t) => {
    const network = await make(t)
    const a = await TestNode.start(t, network(), 'a')
    const b = await TestNode.start(t, network(), 'b')
    b.network.join(a.id)
    const connection = await b.connection(a)
    let calls = 0
    connection.onClose(() => calls++)
    b.network.leave(a.id)
    connection.destroy(new Error('for a reason'))
    connection.destroy()
    t.ok(connection.closed, 'closed from destroy() on')
    await until(() => calls > 0)
    let late = 0
    connection.onClose(() => late++)
    t.equal(late, 1, 'at once')
    await until(() => a.live(b.id).length === 0)
    t.equal(calls, 1, 'once')
    t.ok(connection.bytesReceived > 0, 'the counters stay')
  })

  test(`${name}: close() ends all connections and can be called again`, async (t) => {
    const network = await make(t)
    const a = await TestNode.start(t, network(), 'a')
    const b = await TestNode.start(t, network(), 'b')
    a.network.join(b.id)
    b.network.join(a.id)
    const [atA, atB] = await settled(a, b)
    const twice = [a.network.close(), a.network.close()]
    await Promise.all(twice)
    t.ok(atA.closed, 'closed here')
    await until(() => atB.closed, { timeoutMs: 5000, what: 'closed there' })
    a.network.join(b.id)
    a.network.admit(b.id)
    a.network.leave(b.id)
    t.pass('join, admit and leave are ignored then')
    t.equal(await codeOf(() => a.network.listen()), 'CLOSED')
    const again = { keyPair: a.keyPair, accepts: () => true, onConnection: () => {} }
    t.equal(await codeOf(() => a.network.open(again)), 'CLOSED')
  })

  test(`${name}: wrong use is told`, async (t) => {
    const network = await make(t)
    const unopened = network()
    t.equal(await codeOf(() => unopened.join(idOf('a'))), 'NOT_CONNECTED')
    t.equal(await codeOf(() => unopened.listen()), 'NOT_CONNECTED')
    await unopened.close()
    const a = await TestNode.start(t, network(), 'a')
    const again = { keyPair: a.keyPair, accepts: () => true, onConnection: () => {} }
    t.equal(await codeOf(() => a.network.open(again)), 'INVALID_ARGUMENT')
    for (const id of ['', 'abc', a.id.slice(1), `${a.id}0`]) {
      t.equal(await codeOf(() => a.network.join(id)), 'INVALID_ARGUMENT', `join('${id}')`)
    }
    a.network.join(a.id)
    a.network.leave(idOf('never joined'))
    t.pass('joining oneself and leaving a stranger do nothing')
  })
}

/** The one connection that two nodes hold in the end, at both of them. */
async function settled(a: TestNode, b: TestNode): Promise<[Connection, Connection]> {
  return until(
    async () => {
      const [left, right] = [a.live(b.id), b.live(a.id)]
      if (left.length !== 1 || right.length !== 1) return null
      const pair: [Connection, Connection] = [left[0] as Connection, right[0] as Connection]
      if (nameOf(pair[0]) !== nameOf(pair[1])) return null
      await ask(pair[0], 'settled?')
      return pair
    },
    { timeoutMs: 20_000, what: 'one connection between two nodes' }
  )
}
