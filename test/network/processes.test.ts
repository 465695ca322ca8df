/** Nodes in processes of their own that are killed and come back, on a private DHT over loopback. */
import test, { type Test } from 'tape'
import type { KVSwarmError } from '../../lib/errors.ts'
import { openPeer, type Peer } from '../../lib/hyper/peer.ts'
import { hyperswarmNetwork } from '../../lib/hyper/swarm.ts'
import type { Message } from '../../lib/wire/messages.ts'
import { cleanup } from '../helpers/cleanup.ts'
import { privateDht } from '../helpers/dht.ts'
import { deadline, until } from '../helpers/events.ts'
import { type Running, spawnSource } from '../helpers/process.ts'
import { ask, idOf, keyPairOf, TestNode } from './node.ts'
import { codec, quick, quiet } from './pair.ts'

interface Order {
  readonly names: readonly string[]
  readonly join?: readonly string[]
  readonly mode?: 'exit' | 'channel'
}

function child(t: Test, bootstrap: string, order: Order): Running {
  return spawnSource(t, 'test/network/child.ts', [JSON.stringify({ bootstrap, ...order })])
}

test('a peer killed by SIGKILL is back within 5 s of its restart', async (t) => {
  const bootstrap = await privateDht(t)
  const order = { names: ['killed'], join: ['survivor'] }
  const first = child(t, bootstrap, order)
  const survivor = await TestNode.start(
    t,
    hyperswarmNetwork({ bootstrap: [bootstrap] }),
    'survivor'
  )
  survivor.network.join(idOf('killed'))
  const before = await survivor.connection(idOf('killed'))
  t.equal(await ask(before, 'there?'), 'there?', 'connected')
  first.kill('SIGKILL')
  await first.exit
  t.notOk(before.closed, 'nobody has said good-bye')

  const second = child(t, bootstrap, order)
  await second.line(0)
  const since = performance.now()
  const after = await survivor.connection(idOf('killed'), before)
  const ms = performance.now() - since
  t.pass(`connected ${Math.round(ms)} ms after it was up`)
  t.ok(before.closed, 'the dead connection is closed')
  t.notOk(after.closed, 'the new one is not')
  t.equal(survivor.mostAtOnce, 1, 'never two')
})

test('a peer that was away for 15 s is found again within 5 s, by dialling alone', async (t) => {
  const bootstrap = await privateDht(t)
  const order = { names: ['away'] }
  const first = child(t, bootstrap, order)
  const dialler = await TestNode.start(
    t,
    hyperswarmNetwork({ bootstrap: [bootstrap] }),
    'dialler',
    false
  )
  dialler.network.join(idOf('away'))
  const before = await dialler.connection(idOf('away'))
  first.kill('SIGKILL')
  await first.exit
  before.destroy() // as the ping of our channel does after 8 s
  const gone = performance.now()
  await until(() => performance.now() - gone > 15_000, { what: 'a while without the peer' })

  const second = child(t, bootstrap, order)
  await second.line(0)
  const since = performance.now()
  await dialler.connection(idOf('away'), before)
  const ms = performance.now() - since
  t.pass(`connected ${Math.round(ms)} ms after it was up`)
})

test('our channel notices a killed peer, and leaves an idle one alone', async (t) => {
  const bootstrap = await privateDht(t)
  const order = { names: ['killed'], mode: 'channel' as const }
  const first = child(t, bootstrap, order)
  const network = hyperswarmNetwork({ bootstrap: [bootstrap] })
  const peers: Peer<Message>[] = []
  const reasons: (Error | null)[] = []
  cleanup(t, () => network.close())
  await network.open({
    keyPair: keyPairOf('survivor'),
    accepts: () => true,
    onConnection: (connection) => {
      const onClose = (reason: Error | null): unknown => reasons.push(reason)
      peers.push(openPeer<Message>(connection, codec, { ...quiet, onClose }, quick))
    }
  })
  await first.line(0)
  network.join(idOf('killed'))
  const peer = await until(() => peers.find((one) => one.greeted))
  const idle = performance.now()
  await until(() => performance.now() - idle > 5000, { what: 'more than twice the timeout' })
  t.notOk(peer.closed, 'an idle channel stays')
  first.kill('SIGKILL')
  await first.exit
  let since = performance.now()
  await until(() => peer.closed && reasons.length === 1)
  let ms = performance.now() - since
  t.ok(ms > 1000 && ms < 4500, `its end is noticed after ${Math.round(ms)} ms`)
  t.equal((reasons[0] as KVSwarmError).code, 'TIMEOUT', String(reasons[0]?.message))
  const second = child(t, bootstrap, order)
  await second.line(0)
  since = performance.now()
  await until(() => peers.find((one) => one.greeted && !one.closed))
  ms = performance.now() - since
  t.pass(`found again ${Math.round(ms)} ms after it was up`)
})

test('killed peers that the DHT still knows do not hold up a living one', async (t) => {
  const bootstrap = await privateDht(t)
  const names = Array.from({ length: 12 }, (_, i) => `dead ${i}`)
  const dead = child(t, bootstrap, { names })
  await dead.line(0)
  dead.kill('SIGKILL')
  await dead.exit
  const a = await TestNode.start(t, hyperswarmNetwork({ bootstrap: [bootstrap] }), 'a')
  const b = await TestNode.start(t, hyperswarmNetwork({ bootstrap: [bootstrap] }), 'b', false)
  for (const name of names) b.network.join(idOf(name))
  const since = performance.now()
  b.network.join(a.id)
  t.equal(await ask(await b.connection(a), 'there?'), 'there?', 'connected')
  const ms = performance.now() - since
  t.pass(`after ${Math.round(ms)} ms`)
})

for (const [what, dead] of [
  ['connected, then closed', false],
  ['closed while its bootstrap node is not there', true]
] as const) {
  test(`a process ends by itself: ${what}`, async (t) => {
    const bootstrap = dead ? '127.0.0.1:1' : await privateDht(t)
    if (!dead) await TestNode.start(t, hyperswarmNetwork({ bootstrap: [bootstrap] }), 'other')
    const ending = child(t, bootstrap, { names: ['ending'], join: ['other'], mode: 'exit' })
    await until(() => ending.stdout.includes('closed\n'), { what: 'close()' })
    const { code } = await deadline(ending.exit, 3000, 'the end of the process after close()')
    t.equal(code, 0, 'code 0')
    t.equal(ending.stderr, '', 'nothing on stderr')
  })
}
