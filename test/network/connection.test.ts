/** The table of live connections: one for each peer, and not too many. */
import NoiseSecretStream from '@hyperswarm/secret-stream'
import test, { type Test } from 'tape'
import { LiveConnections, StreamConnection } from '../../lib/hyper/connection.ts'
import { WireEnd } from '../../lib/hyper/memory-link.ts'
import type { Connection } from '../../lib/ports.ts'
import { cleanup } from '../helpers/cleanup.ts'
import { until } from '../helpers/events.ts'
import { keyPairOf } from './node.ts'

/** A fresh connection from `self` to the node of a name. */
async function connect(t: Test, name: string): Promise<StreamConnection> {
  const [near, far] = WireEnd.pair({ delayMs: 0, bytesPerSecond: Infinity })
  const stream = new NoiseSecretStream(true, near, { keyPair: keyPairOf('self') })
  const other = new NoiseSecretStream(false, far, { keyPair: keyPairOf(name) })
  other.on('error', () => {})
  cleanup(t, () => stream.destroy())
  await Promise.all([stream.opened, other.opened])
  const key = stream.remotePublicKey ?? Buffer.alloc(0)
  return new StreamConnection(stream, key, () => ({ received: near.bytesReceived, sent: 0 }))
}

test('connections: a newer one is handed up when the older one has closed', async (t) => {
  const events: string[] = []
  const names = new Map<Connection, string>()
  const live = new LiveConnections(10, (connection) => {
    const name = names.get(connection) ?? '?'
    events.push(`open ${name}`)
    connection.onClose(() => events.push(`close ${name}`))
  })
  for (const name of ['first', 'second', 'third']) {
    const connection = await connect(t, 'peer')
    names.set(connection, name)
  }
  for (const connection of names.keys()) live.add(connection as StreamConnection)
  await until(() => events.includes('open third'))
  t.deepEqual(events, ['open first', 'close first', 'open third'], 'one after the other')
  const [first, second, third] = names.keys()
  t.ok(first?.closed && second?.closed && !third?.closed, 'only the newest is open')
  t.equal(live.get(third?.remoteId ?? ''), third, 'and is found')
  await live.close()
  t.deepEqual(events.slice(3), ['close third'], 'close() ends it')
  const late = await connect(t, 'peer')
  live.add(late)
  t.ok(late.closed, 'after close() nothing is taken')
})

test('connections: a waiting one that closes itself is forgotten', async (t) => {
  const opened: Connection[] = []
  const live = new LiveConnections(10, (connection) => opened.push(connection))
  const [first, second, third] = [
    await connect(t, 'peer'),
    await connect(t, 'peer'),
    await connect(t, 'peer')
  ]
  live.add(first)
  live.add(second)
  second.destroy()
  await until(() => first.closed && live.get(first.remoteId) === undefined)
  await until(() => live.hasRoomFor('nobody'))
  live.add(third)
  await until(() => opened.length === 2)
  t.deepEqual(opened, [first, third], 'the one in between was never handed up')
})

test('connections: not more than the bound, but always a newer one of a known peer', async (t) => {
  const opened: Connection[] = []
  const live = new LiveConnections(2, (connection) => opened.push(connection))
  const a = await connect(t, 'a')
  const b = await connect(t, 'b')
  const c = await connect(t, 'c')
  for (const connection of [a, b, c]) live.add(connection)
  t.deepEqual(opened, [a, b], 'two are taken')
  t.ok(c.closed, 'the third is not')
  t.notOk(live.hasRoomFor(c.remoteId), 'no room')
  t.ok(live.hasRoomFor(a.remoteId), 'room for a peer that is there')
  const again = await connect(t, 'a')
  live.add(again)
  await until(() => opened.includes(again))
  t.ok(a.closed, 'it replaced the older one')
  b.destroy()
  await until(() => live.hasRoomFor(c.remoteId))
  const third = await connect(t, 'c')
  live.add(third)
  t.ok(opened.includes(third), 'room again')
})
