import type Hypercore from 'hypercore'
import test, { type Test } from 'tape'
import { isKVSwarmError } from '../../lib/errors.ts'
import { MemoryHub } from '../../lib/hyper/memory-network.ts'
import type { Peer } from '../../lib/hyper/peer.ts'
import { checkInternals, ForgottenClaims } from '../../lib/hyper/replication.ts'
import { requestsMax } from '../../config/limits.ts'
import { type Intervention, Watchdog } from '../../lib/hyper/watchdog.ts'
import type { Message } from '../../lib/wire/messages.ts'
import { cleanup } from '../helpers/cleanup.ts'
import { until } from '../helpers/events.ts'
import { ChannelNode, cores, store } from './pair.ts'

/** Hypercore's internals that the tests bend. */
interface BentPeer {
  paused: boolean
  sendSync: () => void
  readonly stats: { readonly wireWant: { readonly tx: number } }
  readonly remoteRequests: Map<number, unknown>
  readonly _remoteContiguousLength: number
}

function peerOf(core: Hypercore): BentPeer | undefined {
  return core.peers[0] as unknown as BentPeer | undefined
}

function clear(core: Hypercore, start: number, end: number): Promise<unknown> {
  return (core as unknown as { clear(start: number, end: number): Promise<unknown> }).clear(
    start,
    end
  )
}

/** A node that attaches its core to every channel, watched or not. */
function serve(node: ChannelNode, core: Hypercore, watchdog?: Watchdog): void {
  node.onPeer = (peer: Peer<Message>) => {
    core.replicate(peer.muxer)
    watchdog?.watch(peer.connection, () => [core])
  }
}

interface Scene {
  readonly hub: MemoryHub
  readonly a: ChannelNode
  readonly b: ChannelNode
  readonly writer: Hypercore
  readonly reader: Hypercore
  readonly interventions: Intervention[]
}

/** A writer and a reader, connected; the side that is named is watched. */
async function scene(
  t: Test,
  watched: 'writer' | 'reader' | 'both',
  patienceMs?: number,
  blocks: readonly Uint8Array[] = []
): Promise<Scene> {
  const hub = new MemoryHub()
  const interventions: Intervention[] = []
  const watchdog = new Watchdog({
    onIntervention: (intervention) => interventions.push(intervention),
    ...(patienceMs === undefined ? {} : { patienceMs, intervalMs: patienceMs / 5 })
  })
  cleanup(t, () => watchdog.close())
  const { writer, reader } = await cores(t)
  if (blocks.length > 0) await writer.append([...blocks])
  const a = new ChannelNode(t, hub, 'a')
  const b = new ChannelNode(t, hub, 'b')
  serve(a, writer, watched === 'reader' ? undefined : watchdog)
  serve(b, reader, watched === 'writer' ? undefined : watchdog)
  await Promise.all([a.ready, b.ready])
  b.join(a.id)
  await b.greeted()
  await until(() => reader.length === writer.length && reader.peers.length === 1)
  return { hub, a, b, writer, reader, interventions }
}

function elapsed(ms: number, what: string): Promise<unknown> {
  const since = performance.now()
  return until(() => performance.now() - since > ms, { timeoutMs: ms + 20_000, what })
}

test('watchdog: a writer clears a block while a reader lags (defect 2): healed in 8 s', async (t) => {
  const { writer, reader, interventions, b } = await scene(
    t,
    'reader',
    undefined,
    Array.from({ length: 50 }, () => Buffer.alloc(20))
  )
  const before = b.peer
  reader.get(60).catch(() => {}) // not there yet: the reader says that it wants it
  await until(() => (peerOf(reader)?.stats.wireWant.tx ?? 0) > 0)
  await writer.append(Array.from({ length: 5000 }, (_, i) => Buffer.from(`block ${i}`)))
  await until(() => reader.length === 5050 && peerOf(reader)?._remoteContiguousLength === 5050)
  await reader.get(0)
  await clear(writer, 0, 1)
  await until(() => peerOf(reader)?._remoteContiguousLength === 0)
  const since = performance.now()
  const block = await reader.get(4000, { timeout: 20_000 })
  const ms = performance.now() - since
  t.equal(block?.toString(), 'block 3950', 'the block is there')
  t.pass(`after ${Math.round(ms)} ms`)
  t.equal(interventions.length, 1, 'one intervention')
  t.equal(interventions[0]?.reason, 'a wanted block does not come')
  t.ok(before?.closed, 'the connection was ended')
})

test('watchdog: traffic of the same core does not hide a block that never comes', async (t) => {
  const { writer, reader, interventions } = await scene(
    t,
    'reader',
    400,
    Array.from({ length: 50 }, () => Buffer.alloc(20))
  )
  reader.get(60).catch(() => {})
  await until(() => (peerOf(reader)?.stats.wireWant.tx ?? 0) > 0)
  await writer.append(Array.from({ length: 500 }, (_, i) => Buffer.from(`block ${i}`)))
  await until(() => peerOf(reader)?._remoteContiguousLength === 550)
  await reader.get(0)
  await clear(writer, 0, 1)
  await until(() => peerOf(reader)?._remoteContiguousLength === 0)
  const wanted = reader.get(400, { timeout: 20_000 })
  let others = 0
  for (let come = false; !come; others++) {
    const { length } = await writer.append([Buffer.alloc(5000)])
    const other = reader.get(length - 1, { timeout: 20_000 })
    come = await Promise.race([other.then(() => false), wanted.then(() => true)])
  }
  t.equal((await wanted)?.toString(), 'block 350', `healed beside ${others} other blocks`)
  t.equal(interventions.length, 1, 'one intervention')
})

test('watchdog: a paused peer is dialled again', async (t) => {
  const { reader, interventions } = await scene(t, 'reader', 300, [Buffer.from('one')])
  const peer = peerOf(reader)
  if (peer !== undefined) peer.paused = true
  t.equal((await reader.get(0, { timeout: 20_000 }))?.toString(), 'one', 'the block is there')
  t.equal(interventions[0]?.reason, 'the peer is paused')
})

for (const side of ['reader', 'writer'] as const) {
  test(`watchdog: a length that is not taken (defect 1) is seen by the ${side}`, async (t) => {
    const { writer, reader, interventions } = await scene(t, side, 300, [Buffer.from('one')])
    // What defect 1 comes to: the reader's confirmation of a length is never sent.
    const peer = peerOf(reader)
    if (peer !== undefined) peer.sendSync = () => {}
    await writer.append([Buffer.from('two')])
    await until(() => reader.length === 2)
    await writer.append([Buffer.from('three')])
    await until(() => reader.length === 3, { what: 'the length after a new connection' })
    t.equal(
      interventions[0]?.reason,
      side === 'reader' ? 'a length of the peer does not come' : 'the peer does not take our length'
    )
    t.equal(interventions.length, 1, 'one intervention')
  })
}

test('watchdog: more requests than any sane peer makes end the connection', async (t) => {
  const { writer, interventions } = await scene(t, 'writer', 300, [Buffer.from('one')])
  for (let i = 0; i <= requestsMax; i++) peerOf(writer)?.remoteRequests.set(i + 1, {})
  await until(() => interventions.length > 0)
  t.ok(/8193 requests/.test(interventions[0]?.reason ?? ''), interventions[0]?.reason)
})

test('watchdog: what reconnecting does not heal costs ever fewer connections', async (t) => {
  const hub = new MemoryHub({ backoffsMs: [5] })
  const at: number[] = []
  const watchdog = new Watchdog({
    onIntervention: () => at.push(performance.now()),
    patienceMs: 100,
    intervalMs: 20
  })
  cleanup(t, () => watchdog.close())
  const { writer, reader } = await cores(t)
  await writer.append([Buffer.from('one')])
  const a = new ChannelNode(t, hub, 'a')
  const b = new ChannelNode(t, hub, 'b')
  serve(a, writer)
  serve(b, reader, watchdog)
  await Promise.all([a.ready, b.ready])
  const pausing = setInterval(() => {
    const peer = peerOf(reader)
    if (peer !== undefined) peer.paused = true
  }, 2)
  cleanup(t, () => clearInterval(pausing))
  b.join(a.id)
  await until(() => at.length === 5)
  const [first = 0, second = 0, , fourth = 0, fifth = 0] = at
  const [early, late] = [second - first, fifth - fourth]
  t.ok(late > 2.5 * early, `from ${Math.round(early)} ms to ${Math.round(late)} ms`)
  t.equal(watchdog.interventions, 5, 'counted')
})

test('watchdog: leaves a slow but healthy link alone', async (t) => {
  const { hub, a, b, writer, reader, interventions } = await scene(t, 'both', 500)
  hub.delay(a.id, b.id, 100)
  hub.throttle(a.id, b.id, 2_000_000)
  const since = performance.now()
  let next = 0
  let reading = Promise.resolve()
  while (performance.now() - since < 4000) {
    const from = next
    await writer.append(Array.from({ length: 8 }, () => Buffer.alloc(32 * 1024, from)))
    next += 8
    const wanted = Array.from({ length: 8 }, (_, i) => reader.get(from + i, { timeout: 20_000 }))
    const earlier = reading
    reading = Promise.all(wanted).then(() => {})
    await earlier
  }
  await reading
  t.deepEqual(interventions, [], `no intervention in ${next} blocks`)
  t.equal(b.peers.length, 1, 'over one connection')
})

test('watchdog: leaves one large block on a narrow link alone', async (t) => {
  const { hub, a, b, writer, reader, interventions } = await scene(t, 'both', 200)
  await writer.append([Buffer.alloc(2 * 1024 * 1024)])
  hub.throttle(a.id, b.id, 700_000)
  const since = performance.now()
  await reader.get(0, { timeout: 20_000 })
  const ms = performance.now() - since
  t.ok(ms > 2000, `it took ${Math.round(ms)} ms, ten times the patience`)
  t.deepEqual(interventions, [], 'no intervention')
})

test('watchdog: leaves an idle connection alone', async (t) => {
  const { interventions, b } = await scene(t, 'both', 200, [Buffer.from('one')])
  await elapsed(2000, 'ten times the patience')
  t.deepEqual(interventions, [], 'no intervention')
  t.notOk(b.peer?.closed, 'the connection is up')
})

test('watchdog: leaves a peer alone that does not have the wanted block', async (t) => {
  const {
    hub,
    b: mirror,
    reader: copy,
    writer,
    interventions: ofMirror
  } = await scene(
    t,
    'both',
    200,
    Array.from({ length: 10 }, (_, i) => Buffer.from(`block ${i}`))
  )
  await copy.get(0)
  const interventions: Intervention[] = []
  const watchdog = new Watchdog({
    onIntervention: (intervention) => interventions.push(intervention),
    patienceMs: 200,
    intervalMs: 40
  })
  cleanup(t, () => watchdog.close())
  const keyed = (await store(t)) as unknown as { get(options: { key: Uint8Array }): Hypercore }
  const far = keyed.get({ key: writer.key })
  await far.ready()
  const c = new ChannelNode(t, hub, 'c')
  serve(c, far, watchdog)
  await c.ready
  c.join(mirror.id)
  await c.greeted()
  await until(() => far.length === 10)
  t.equal((await far.get(0, { timeout: 5000 }))?.toString(), 'block 0', 'what the mirror has')
  const missing = far.get(5, { timeout: 2000 }).then(
    () => 'got it',
    (error: { code?: string }) => error.code
  )
  t.equal(await missing, 'REQUEST_TIMEOUT', 'what it does not have, for ten times the patience')
  t.deepEqual(interventions, [], 'no intervention at the reader')
  t.deepEqual(ofMirror, [], 'nor at the mirror')
})

test('watchdog: leaves a writer alone that really cleared what is wanted', async (t) => {
  const { writer, reader, interventions } = await scene(
    t,
    'both',
    200,
    Array.from({ length: 40 }, (_, i) => Buffer.from(`block ${i}`))
  )
  await clear(writer, 0, 20)
  await until(() => peerOf(reader)?._remoteContiguousLength === 0)
  const cleared = reader.get(3, { timeout: 2000 }).then(
    () => 'got it',
    (error: { code?: string }) => error.code
  )
  t.equal(await cleared, 'REQUEST_TIMEOUT', 'the block is gone')
  t.deepEqual(interventions, [], 'no intervention')
})

test('watchdog: what hypercore forgot of a claim', (t) => {
  const claims = new ForgottenClaims()
  const has = (): number[] => [0, 4, 5, 9, 10, 49, 50, 99].filter((index) => claims.has(index))
  t.deepEqual(has(), [], 'nothing at first')
  claims.told(0, 5, 100, 0)
  t.deepEqual(has(), [5, 9, 10, 49, 50, 99], 'all behind the dropped blocks')
  claims.told(5, 10, 0, 0)
  t.deepEqual(has(), [10, 49, 50, 99], 'what is dropped later is gone')
  claims.told(10, 50, 0, 0)
  t.deepEqual(has(), [50, 99], 'also when it was told as a bitfield')
  claims.told(0, 1000, 0, 0)
  t.deepEqual(has(), [], 'all of it')
  claims.told(20, 21, 10, 10)
  t.deepEqual(has(), [], 'a drop above what was claimed forgets nothing')
  t.end()
})

test('watchdog: the check of internals names what changed', async (t) => {
  const { writer } = await cores(t)
  checkInternals(writer)
  t.pass('the installed hypercore is the one that was tested')
  const { core } = writer as unknown as { core: object }
  const { replicator } = core as { replicator: object }
  const without = (object: object, name: string): object =>
    new Proxy(object, {
      get: (target, key) => (key === name ? undefined : Reflect.get(target, key)),
      has: (target, key) => key !== name && Reflect.has(target, key)
    })
  const cases: [string, object][] = [
    ['core.core.header', { core: without(core, 'header') }],
    [
      'core.core.replicator.peers',
      { core: { ...shape(core), replicator: without(replicator, 'peers') } }
    ],
    [
      'core.core.replicator._upgrade',
      { core: { ...shape(core), replicator: without(replicator, '_upgrade') } }
    ],
    [
      'core.core.replicator.constructor.Peer',
      { core: { ...shape(core), replicator: without(replicator, 'constructor') } }
    ],
    ['core.core.closed', {}]
  ]
  for (const [what, session] of cases) {
    try {
      checkInternals(session)
      t.fail(`${what} is not noticed`)
    } catch (error) {
      t.ok(isKVSwarmError(error, 'INTERNALS_CHANGED') && error.message.includes(what), what)
    }
  }
})

function shape(core: object): object {
  const { closed, state, header } = core as { closed: unknown; state: unknown; header: unknown }
  return { closed, state, header }
}
