/** Bounds of what one peer can open, ask for, say, and take back. */
import type NoiseSecretStream from '@hyperswarm/secret-stream'
import Corestore from 'corestore'
import HypercoreStorage from 'hypercore-storage'
import type Protomux from 'protomux'
import test from 'tape'
import { channelsUnnamedMax, recordsBurstMax, requestsMax } from '../../config/limits.ts'
import { Allowance } from '../../lib/hyper/allowance.ts'
import { MemoryHub } from '../../lib/hyper/memory-network.ts'
import { Newest } from '../../lib/hyper/newest.ts'
import { Store } from '../../lib/hyper/store.ts'
import { signGeneration } from '../../lib/wire/generations.ts'
import { idOf } from '../../lib/wire/ids.ts'
import { logNamespace, signedManifest } from '../../lib/wire/namespaces.ts'
import { cleanup } from '../helpers/cleanup.ts'
import { until } from '../helpers/events.ts'
import { tmpdir } from '../helpers/tmp.ts'
import { RawPeer, speak } from '../hostile/raw.ts'
import { makeSwarm } from '../kvswarm/swarm.ts'
import { keyPairOf } from './node.ts'
import { ChannelNode, cores, hello, pair } from './pair.ts'

test('caps: channels with long names, and channels without end, end the connection', async (t) => {
  const hub = new MemoryHub()
  const a = new ChannelNode(t, hub, 'a', { channelsMax: channelsUnnamedMax })
  await a.ready
  const cases: [string, 'oversized' | 'backlog', (mux: Protomux) => void][] = [
    [
      'a name of 4 KB',
      'oversized',
      (mux) => mux.createChannel({ protocol: 'x'.repeat(4_096) })?.open()
    ],
    [
      'an id of 4 KB',
      'oversized',
      (mux) => mux.createChannel({ protocol: 'x', id: Buffer.alloc(4_096) } as never)?.open()
    ],
    [
      'a thousand channels',
      'backlog',
      (mux) => {
        mux.cork()
        for (let i = 0; i < 1_000; i++) mux.createChannel({ protocol: `x${i}` })?.open()
        mux.uncork()
      }
    ]
  ]
  for (const [what, counter, misbehave] of cases) {
    const bad = new ChannelNode(t, hub, what, null)
    await bad.ready
    bad.join(a.id)
    const connection = await until(() => bad.connections[0])
    bad.leave(a.id)
    misbehave(speak(connection.stream, hello).mux)
    await until(() => connection.closed, { what: `${what} ends the connection` })
    t.equal(a.counters[counter], what === 'an id of 4 KB' ? 2 : 1, what)
  }
})

/** Of hypercore's internals, for a peer that asks without end. */
interface AskingPeer {
  readonly wireRequest: { send(message: unknown): void }
}

test('caps: requests without end end the connection as they come, not at the next look', async (t) => {
  const hub = new MemoryHub()
  const a = new ChannelNode(t, hub, 'a')
  const { writer, reader } = await cores(t)
  await writer.append([Buffer.alloc(2 * 1024)])
  a.onPeer = (peer) => void writer.replicate(peer.muxer)
  await a.ready
  const bad = new ChannelNode(t, hub, 'bad', null)
  await bad.ready
  bad.join(a.id)
  const connection = await until(() => bad.connections[0])
  bad.leave(a.id)
  reader.replicate(speak(connection.stream, hello).mux)
  const peer = await until(() => reader.peers[0] as unknown as AskingPeer | undefined)
  // It asks, and does not read the answers.
  ;(connection.stream as NoiseSecretStream).pause()
  for (let id = 1; id < 4 * requestsMax && !connection.closed; id++) {
    peer.wireRequest.send({
      peer: null,
      id: id + 1_000,
      fork: 0,
      block: { index: 0, nodes: 0 },
      hash: null,
      seek: null,
      upgrade: null,
      manifest: false,
      priority: 0
    })
  }
  await until(() => connection.closed, { what: 'the end of who asks without end' })
  t.equal(a.counters.malformed, 1, String(a.reasons.at(-1)?.message))
})

test('caps: generation records without end end the connection', async (t) => {
  const { hub, storage, ids, config } = await makeSwarm(t, { storage: 1, writers: 1 })
  const thief = keyPairOf('thief')
  const peer = await RawPeer.open(t, hub, thief)
  const line = await peer.dial(ids.storage[0] as string, {
    ...hello,
    epoch: config.epoch,
    configHash: config.hash
  })
  const name = { kind: 'index', node: idOf(thief.publicKey) } as const
  const record = signGeneration({ name, generation: 1, serial: 1, continues: null }, thief)
  let said = 0
  for (; said < 4 * recordsBurstMax && !line.connection.closed; said += 256) {
    line.say({ type: 'records', records: Array.from({ length: 256 }, () => record) })
    line.say({ type: 'headRequest', id: said })
    // One frame each: many messages in one would be too large a frame.
    const heard = (): boolean => line.said.some((one) => one.type === 'head' && one.id === said)
    await until(() => line.connection.closed || heard())
  }
  t.ok(said <= recordsBurstMax + 512, `after ${said} records`)
  await until(() => line.connection.closed, { what: 'the end of who tells without end' })
  t.equal((await storage[0]?.status())?.peers.length, 1, 'the writer is still connected')
})

test('a log that its signer has truncated stays as it was', async (t) => {
  const keyPair = keyPairOf('owner')
  const name = { kind: 'index', node: idOf(keyPair.publicKey) } as const
  const theirs = new Corestore(new HypercoreStorage(tmpdir(t)))
  await theirs.ready()
  cleanup(t, () => theirs.close())
  const manifest = signedManifest(keyPair.publicKey, logNamespace(name, 1))
  const core = theirs.get({ manifest, keyPair })
  await core.ready()
  await core.append([Buffer.from('a'), Buffer.from('b'), Buffer.from('c')])
  const store = await Store.open({ directory: tmpdir(t), durability: 'os' })
  cleanup(t, () => store.close())
  const log = await store.peerLog(name, 1)
  const { toB, toA } = await pair(t, new MemoryHub())
  core.replicate(toB.muxer)
  store.attach(log, toA.muxer)
  t.equal(Buffer.from((await log.get(1)) ?? []).toString(), 'b')
  const whole = Buffer.from(await log.treeHash()).toString('hex')
  await (core as unknown as { truncate(length: number): Promise<void> }).truncate(1)
  await core.append([Buffer.from('B'), Buffer.from('C'), Buffer.from('D'), Buffer.from('E')])
  // A round trip behind it: whatever was told has arrived.
  toA.send({ type: 'headRequest', id: 1 })
  await until(() => core.peers.length === 1)
  await log.get(2, { timeout: 300 }).catch(() => null)
  t.equal(log.length, 3, 'the length')
  t.equal(Buffer.from(await log.treeHash()).toString('hex'), whole, 'what was signed')
  t.equal(Buffer.from((await log.get(1, { wait: false })) ?? []).toString(), 'b', 'what was read')
})

test('newest: the first at once, the last always, and few of those between', async (t) => {
  const taken: number[] = []
  const newest = new Newest<number>(
    20,
    (value, than) => value > than,
    (value) => taken.push(value)
  )
  cleanup(t, () => newest.close())
  for (let n = 1; n <= 10_000; n++) newest.offer('log', n)
  newest.offer('log', 5)
  newest.offer('another', 1)
  t.deepEqual(taken, [1, 1], 'the first of each')
  await until(() => taken.length === 3)
  t.deepEqual(taken, [1, 1, 10_000], 'then the newest')
  const allowance = new Allowance(10, 0)
  t.ok(allowance.take(10) && !allowance.take(1), 'an allowance is used up')
})
