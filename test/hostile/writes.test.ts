/**
 * Writes that nobody allowed, by peers that share no code with the writers: none is accepted, the index does not
 * change by a byte, and the node stores nothing for those who make them.
 */
import { spawnSync } from 'node:child_process'
import type Hypercore from 'hypercore'
import test, { type Test } from 'tape'
import { Config } from '../../config/index.ts'
import { KVSwarm, MemoryHub } from '../../lib/index.ts'
import { HyperIndexCores } from '../../lib/hyper/index-cores.ts'
import { FollowedIndex } from '../../lib/lsm/view.ts'
import { Store } from '../../lib/hyper/store.ts'
import type { KeyPair, NodeId } from '../../lib/types.ts'
import { encodeBlock } from '../../lib/wire/blocks.ts'
import { signGeneration, type GenerationRecord } from '../../lib/wire/generations.ts'
import { idOf } from '../../lib/wire/ids.ts'
import { encodeKey } from '../../lib/wire/keys.ts'
import type { HelloMessage, Message } from '../../lib/wire/messages.ts'
import { logNamespace } from '../../lib/wire/namespaces.ts'
import { encodeValue } from '../../lib/wire/values.ts'
import { cleanup } from '../helpers/cleanup.ts'
import { until } from '../helpers/events.ts'
import { random, type Random } from '../helpers/random.ts'
import { tmpdir } from '../helpers/tmp.ts'
import { keyPairOf } from '../network/node.ts'
import { manifestOf, RawPeer, type Line, type Manifest } from './raw.ts'

/** Blocks that each kind of attempt offers; there are more than twelve kinds. */
const attemptsEach = 750
const generation = 1_000_000

const thief: KeyPair = keyPairOf('thief')
const removed: KeyPair = keyPairOf('removed')
const mallory: KeyPair = keyPairOf('mallory')

/** A block that an honest writer could have made. */
function block(n: number): Uint8Array {
  const operations = [
    { type: 'put' as const, key: encodeKey(['stolen', n]), value: encodeValue('mine') }
  ]
  return encodeBlock({
    type: 'operations',
    epoch: 1,
    seen: null,
    segments: [{ request: Buffer.alloc(16, n), total: 1, operations }]
  })
}

const head: Uint8Array = encodeBlock({ type: 'head', epoch: 1, created: 1, continues: null })

async function filled(core: Hypercore, count: number = attemptsEach): Promise<Hypercore> {
  await core.append([head, ...Array.from({ length: count - 1 }, (_, n) => block(n))])
  return core
}

interface Stand {
  readonly t: Test
  readonly hub: MemoryHub
  readonly hello: HelloMessage
  readonly storage: NodeId
  readonly other: NodeId
  readonly good: NodeId
  readonly rng: Random
  status(): ReturnType<KVSwarm['status']>
}

function recordOf(keyPair: KeyPair, owner: NodeId, number: number = generation): Uint8Array {
  const name = { kind: 'outbox', node: idOf(keyPair.publicKey), owner } as const
  return signGeneration({ name, generation: number, serial: null, continues: null }, keyPair)
}

/** Says what an honest writer would, offers the cores, and waits until a question is answered behind that. */
async function offer(
  stand: Stand,
  peer: RawPeer,
  cores: readonly Hypercore[],
  records: readonly Uint8Array[] = []
): Promise<Line> {
  const line = await peer.dial(stand.storage, stand.hello)
  for (const core of cores) core.replicate(line.mux)
  if (records.length > 0) line.say({ type: 'records', records: [...records] })
  await answered(stand, line)
  return line
}

/** A round trip: whatever was said before has been taken in. A closed connection is an answer, too. */
async function answered(stand: Stand, line: Line): Promise<void> {
  for (let round = 0; round < 3; round++) {
    const before = line.said.filter((one) => one.type === 'head').length
    line.say({ type: 'headRequest', id: round + 1 })
    await until(
      () => line.connection.closed || line.said.filter((one) => one.type === 'head').length > before
    )
  }
  await stand.status()
}

type Attack = (stand: Stand) => Promise<number>

const outboxNamespace = (owner: NodeId, number = generation): Uint8Array =>
  logNamespace({ kind: 'outbox', node: '', owner }, number)

async function offered(stand: Stand, keyPair: KeyPair, manifest: Manifest): Promise<number> {
  const peer = await RawPeer.open(stand.t, stand.hub, keyPair)
  const core = await filled(await peer.core(manifest))
  await offer(stand, peer, [core], [recordOf(keyPair, stand.storage)])
  stand.t.equal(core.peers[0]?.remoteLength ?? 0, 0, 'nobody takes it')
  return attemptsEach
}

const attacks: readonly (readonly [kind: string, attack: Attack])[] = [
  [
    'an unknown id with an outbox of its own',
    (stand) =>
      offered(stand, thief, manifestOf(idOf(thief.publicKey), outboxNamespace(stand.storage)))
  ],
  [
    'a writer that was removed',
    (stand) =>
      offered(stand, removed, manifestOf(idOf(removed.publicKey), outboxNamespace(stand.storage)))
  ],
  [
    'a writer with an outbox in another namespace',
    (stand) => offered(stand, mallory, manifestOf(idOf(mallory.publicKey), stand.rng.bytes(32)))
  ],
  [
    'a writer with an outbox for another storage node',
    (stand) =>
      offered(stand, mallory, manifestOf(idOf(mallory.publicKey), outboxNamespace(stand.other)))
  ],
  [
    'a writer with an index for an outbox',
    (stand) => {
      const name = { kind: 'index', node: idOf(mallory.publicKey) } as const
      return offered(stand, mallory, manifestOf(name.node, logNamespace(name, generation)))
    }
  ],
  [
    'a manifest with two signers of whom one is enough',
    (stand) => {
      const namespace = outboxNamespace(stand.storage)
      return offered(stand, mallory, {
        version: 1,
        quorum: 1,
        signers: [
          { publicKey: mallory.publicKey, namespace },
          { publicKey: thief.publicKey, namespace }
        ]
      })
    }
  ],
  [
    'a manifest with a prologue',
    (stand) =>
      offered(stand, mallory, {
        version: 1,
        prologue: { hash: Buffer.alloc(32, 1), length: 1 },
        signers: [{ publicKey: mallory.publicKey, namespace: outboxNamespace(stand.storage) }]
      })
  ],
  [
    'the honest writer’s outbox, offered by another writer',
    async (stand) => {
      const peer = await RawPeer.open(stand.t, stand.hub, mallory)
      const { outbox } = await honest(stand)
      const as = manifestOf(stand.good, outboxNamespace(stand.storage, outbox))
      const core = await filled(await peer.disguised(as, stand.rng.bytes(32)))
      await offer(stand, peer, [core])
      stand.t.equal(core.peers[0]?.remoteLength ?? 0, 0, 'its channel is not opened for another')
      return attemptsEach
    }
  ],
  [
    'a writer’s own outbox, with signatures of another key',
    async (stand) => {
      const peer = await RawPeer.open(stand.t, stand.hub, mallory)
      const as = manifestOf(peer.id, outboxNamespace(stand.storage))
      const core = await filled(await peer.disguised(as, stand.rng.bytes(32)))
      const line = await offer(stand, peer, [core], [recordOf(mallory, stand.storage)])
      await until(() => line.connection.closed || core.peers.length > 0, { what: 'a channel' })
      await answered(stand, line)
      return attemptsEach
    }
  ],
  [
    'the index, longer, with signatures of another key',
    async (stand) => {
      const peer = await RawPeer.open(stand.t, stand.hub, thief)
      const { index } = await honest(stand)
      const name = { kind: 'index', node: stand.storage } as const
      const as = manifestOf(name.node, logNamespace(name, index.generation))
      const core = await peer.disguised(as, stand.rng.bytes(32))
      await filled(core, index.length + attemptsEach)
      const line = await offer(stand, peer, [core])
      await until(() => line.connection.closed || core.peers.length > 0, { what: 'a channel' })
      await answered(stand, line)
      return attemptsEach
    }
  ],
  [
    'blocks that nobody asked for',
    async (stand) => {
      const peer = await RawPeer.open(stand.t, stand.hub, thief)
      const { index } = await honest(stand)
      const name = { kind: 'index', node: stand.storage } as const
      const core = await peer.log(name, index.generation)
      const line = await offer(stand, peer, [core])
      const pushed = await until(() => core.peers[0] as unknown as Pushing | undefined)
      for (let n = 0; n < attemptsEach && !line.connection.closed; n++) {
        pushed.wireData.send(dataMessage(n, block(n), stand.rng))
      }
      await answered(stand, line)
      return attemptsEach
    }
  ],
  [
    'a channel by its discovery key, without the key',
    async (stand) => {
      const peer = await RawPeer.open(stand.t, stand.hub, thief)
      for (let n = 0; n < attemptsEach; n += 250) {
        const line = await peer.dial(stand.storage, stand.hello)
        for (let i = 0; i < 250 && !line.connection.closed; i++) {
          const id = stand.rng.bytes(32)
          line.mux.createChannel({ protocol: 'hypercore/alpha', id } as never)?.open()
        }
        await answered(stand, line)
      }
      return attemptsEach
    }
  ],
  [
    'records of others’ logs with signatures that are none',
    async (stand) => {
      const peer = await RawPeer.open(stand.t, stand.hub, mallory)
      let said = 0
      while (said < attemptsEach) {
        const line = await peer.dial(stand.storage, stand.hello)
        const records = Array.from({ length: 125 }, (_, n) => {
          const forged = Buffer.from(recordOf(mallory, stand.storage, generation + n))
          forged.set(Buffer.from(stand.good, 'hex'), 2)
          return forged
        })
        line.say({ type: 'records', records })
        said += records.length
        await until(() => line.connection.closed, { what: 'the end of who forges' })
      }
      return said
    }
  ],
  [
    'records of logs that do not concern this node, truly signed',
    async (stand) => {
      const peer = await RawPeer.open(stand.t, stand.hub, thief)
      const line = await peer.dial(stand.storage, stand.hello)
      const node = idOf(thief.publicKey)
      const records = Array.from({ length: attemptsEach }, (_, n): Uint8Array => {
        const names: GenerationRecord['name'][] = [
          { kind: 'index', node },
          { kind: 'outbox', node, owner: stand.storage },
          { kind: 'outbox', node, owner: stand.other },
          { kind: 'handoff', node, to: stand.storage, epoch: n }
        ]
        const name = names[n % names.length] as GenerationRecord['name']
        const serial = name.kind === 'index' ? n : null
        return signGeneration(
          { name, generation: Number.MAX_SAFE_INTEGER - n, serial, continues: null },
          thief
        )
      })
      for (let n = 0; n < records.length; n += 250) {
        line.say({ type: 'records', records: records.slice(n, n + 250) })
      }
      await answered(stand, line)
      stand.t.notOk(line.connection.closed, 'they are heard and not kept')
      return records.length
    }
  ],
  [
    'acks and receipts of a stranger',
    async (stand) => {
      const peer = await RawPeer.open(stand.t, stand.hub, thief)
      const line = await peer.dial(stand.storage, stand.hello)
      for (let n = 0; n < attemptsEach; n++) {
        const at = { generation: generation + n, length: n }
        const said: Message =
          n % 2 === 0 ? { type: 'ack', ...at } : { type: 'applied', ...at, index: at, rejected: n }
        line.say(said)
      }
      await answered(stand, line)
      return attemptsEach
    }
  ],
  [
    'a writer of another swarm, with its own configuration',
    async (stand) => {
      const peer = await RawPeer.open(stand.t, stand.hub, keyPairOf('neighbour'))
      const { keyPair } = peer
      const core = await filled(
        await peer.core(manifestOf(peer.id, outboxNamespace(stand.storage)))
      )
      const line = await peer.dial(stand.storage, { ...stand.hello, configHash: '7'.repeat(64) })
      core.replicate(line.mux)
      line.say({ type: 'records', records: [recordOf(keyPair, stand.storage)] })
      await until(() => line.connection.closed, { what: 'the end of another configuration' })
      return attemptsEach
    }
  ]
]

interface Pushing {
  readonly wireData: { send(message: unknown): void }
}

/** An answer to a request that was never made. */
function dataMessage(n: number, value: Uint8Array, rng: Random): unknown {
  const length = n + 1
  return {
    request: 0,
    fork: n % 3 === 0 ? 1 : 0,
    block: { index: n, value, nodes: [] },
    hash: null,
    seek: null,
    upgrade: {
      start: 0,
      length,
      nodes: [{ index: 2 * n, hash: rng.bytes(32), size: value.length }],
      additionalNodes: [],
      signature: rng.bytes(64)
    },
    manifest: null
  }
}

/** Where the honest writer's log and the index are. */
async function honest(
  stand: Stand
): Promise<{ outbox: number; index: { generation: number; length: number } }> {
  const status = await stand.status()
  const inbox = status.inboxes.find((one) => one.writer === stand.good)
  if (!inbox?.applied || status.index === null) throw new Error('the honest writer has written')
  return { outbox: inbox.applied.generation, index: status.index }
}

/** All that an index holds, its log's hash, and which cores the store has. */
async function contents(directory: string): Promise<string> {
  const store = await Store.open({ directory, durability: 'sync', readOnly: true })
  const name = { kind: 'index', node: store.nodeId } as const
  const log = await store.peerLog(name, store.newestGeneration(name) ?? 0)
  const cores = new HyperIndexCores(store, store.nodeId, log.generation)
  const index = await FollowedIndex.open(log, cores, { deletes: false })
  const lines = [`${log.length} ${Buffer.from(await log.treeHash()).toString('hex')}`]
  const snapshot = index.snapshot()
  for await (const { key, value } of snapshot.range({})) {
    lines.push(`${Buffer.from(key).toString('hex')} ${Buffer.from(value).toString('hex')}`)
  }
  await snapshot.close()
  await index.close()
  await store.close()
  return lines.join('\n')
}

function diskKilobytes(directory: string): number {
  return Number(spawnSync('du', ['-sk', directory], { encoding: 'utf8' }).stdout.split('\t')[0])
}

test('10,000 writes that nobody allowed: none is accepted, the index stays byte for byte', async (t) => {
  const rng = random(t)
  const hub = new MemoryHub({ backoffsMs: [2] })
  const directory = tmpdir(t)
  const idIn = async (path: string): Promise<NodeId> => {
    const kv = new KVSwarm({ storage: path })
    await kv.ready()
    await kv.close()
    return kv.nodeId
  }
  const [storage, good] = [await idIn(directory), tmpdir(t)]
  const goodId = await idIn(good)
  const other = idOf(keyPairOf('another storage node').publicKey)
  const first = new Config({
    capacities: { [storage]: 1, [other]: 1 },
    writers: [goodId, idOf(mallory.publicKey), idOf(removed.publicKey)]
  })
  const config = Config.parse(first.serialize())
  config.removeWriter(idOf(removed.publicKey))
  const open = async (path: string, role: 'listen' | 'connect'): Promise<KVSwarm> => {
    const kv = new KVSwarm({ storage: path, config, network: hub.network() })
    cleanup(t, () => kv.close())
    kv.on('error', (error) => t.error(error, 'the node stopped'))
    await kv[role]()
    return kv
  }
  const writing = await open(good, 'connect')
  let serving = await open(directory, 'listen')
  for (let n = 0; n < 200; n++) writing.put(['honest', n], n)
  // What is for the storage node that is not there waits; the rest is applied.
  await writing.flush()
  await until(async () => {
    const inbox = (await serving.status()).inboxes.find((one) => one.writer === goodId)
    return inbox?.applied != null && inbox.applied.length === inbox.known?.length
  })
  await serving.close()
  const before = await contents(directory)
  const disk = diskKilobytes(directory)
  serving = await open(directory, 'listen')
  await until(async () => (await serving.status()).peers.length === 1)

  const stand: Stand = {
    t,
    hub,
    hello: { type: 'hello', protocolVersion: 1, epoch: config.epoch, configHash: config.hash },
    storage,
    other,
    good: goodId,
    rng,
    status: () => serving.status()
  }
  const { index } = await serving.status()
  let attempts = 0
  for (const [kind, attack] of attacks) {
    const from = performance.now()
    const count = await attack(stand)
    attempts += count
    const now = await serving.status()
    t.deepEqual(now.index, index, `${kind}: ${count}, ${Math.round(performance.now() - from)} ms`)
    const strange = now.inboxes.filter((one) => one.writer !== goodId)
    t.ok(
      strange.every((one) => one.applied === null && (one.held?.length ?? 0) === 0),
      'and nothing is held'
    )
  }
  t.ok(attempts >= 10_000, `${attempts} attempts of ${attacks.length} kinds`)
  await serving.close()
  t.ok((await contents(directory)) === before, 'the index: every entry, and the hash of its log')
  const grown = diskKilobytes(directory) - disk
  t.ok(grown < 8 * 1024, `the disk: ${grown} kB more`)

  const again = await open(directory, 'listen')
  await until(async () => (await again.status()).peers.length > 0)
  // Many keys: some of them are this storage node's.
  for (let n = 0; n < 50; n++) writing.put(['again', n], n)
  await writing.flush()
  await until(async () => ((await again.status()).index?.length ?? 0) > (index?.length ?? 0), {
    what: 'the honest writer to be served as before'
  })
  t.pass('the honest writer goes on')
})
