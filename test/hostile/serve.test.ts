/**
 * Strangers that ask a storage node for cores by their discovery keys: they get those that its index consists of now,
 * and nothing else that lies in the same store.
 */
import { randomBytes } from 'node:crypto'
import type Hypercore from 'hypercore'
import Hyper from 'hypercore'
import test, { type Test } from 'tape'
import { Config } from '../../config/index.ts'
import { channelsUnnamedMax } from '../../config/limits.ts'
import { KVSwarm, MemoryHub } from '../../lib/index.ts'
import type { LogName } from '../../lib/types.ts'
import { encodeKey } from '../../lib/wire/keys.ts'
import type { HelloMessage } from '../../lib/wire/messages.ts'
import { logNamespace } from '../../lib/wire/namespaces.ts'
import { dataKey } from '../../lib/wire/records.ts'
import { cleanup } from '../helpers/cleanup.ts'
import { until } from '../helpers/events.ts'
import { tmpdir } from '../helpers/tmp.ts'
import { openOwn } from '../lsm/own.ts'
import { keyPairOf } from '../network/node.ts'
import { manifestOf, RawPeer, type Line } from './raw.ts'

/** A round trip: whatever was asked before has been looked at. */
async function answered(line: Line): Promise<void> {
  for (let round = 0; round < 3; round++) {
    const before = line.said.filter((one) => one.type === 'head').length
    line.say({ type: 'headRequest', id: round + 1 })
    await until(
      () => line.connection.closed || line.said.filter((one) => one.type === 'head').length > before
    )
  }
}

interface Stand {
  readonly hub: MemoryHub
  readonly hello: HelloMessage
  readonly storage: KVSwarm
  readonly writer: KVSwarm
}

async function stand(t: Test): Promise<Stand> {
  const hub = new MemoryHub({ backoffsMs: [2] })
  const [first, second] = [tmpdir(t), tmpdir(t)]
  const ids: string[] = []
  for (const storage of [first, second]) {
    const kv = new KVSwarm({ storage })
    await kv.ready()
    ids.push(kv.nodeId)
    await kv.close()
  }
  const [storageId, writerId] = ids as [string, string]
  const config = new Config({ capacities: { [storageId]: 1 }, writers: [writerId] })
  const storage = new KVSwarm({ storage: first, config, network: hub.network() })
  cleanup(t, () => storage.close())
  await storage.listen()
  const writer = new KVSwarm({ storage: second, config, network: hub.network() })
  cleanup(t, () => writer.close())
  await writer.connect()
  for (let n = 0; n < 100; n++) writer.put(['key', n], n)
  await writer.flush()
  await until(async () => {
    const inbox = (await storage.status()).inboxes.find((one) => one.writer === writerId)
    return inbox?.applied != null && inbox.applied.length === inbox.known?.length
  })
  const hello = { protocolVersion: 1, epoch: config.epoch, configHash: config.hash } as const
  return { hub, hello: { type: 'hello', ...hello }, storage, writer }
}

test('a stranger asks for cores: it gets what the index consists of, and no outbox', async (t) => {
  const { hub, hello, storage, writer } = await stand(t)
  const status = await storage.status()
  const generation = status.index?.generation ?? 0
  const outbox = status.inboxes.find((one) => one.writer === writer.nodeId)?.applied
  t.ok(outbox, 'the writer has an outbox, and the storage node a copy of it')
  const node = storage.nodeId
  const asked: [what: string, name: LogName, number: number, served: boolean][] = [
    ['the anchor', { kind: 'index', node }, generation, true],
    ['the journal', { kind: 'journal', node, index: generation }, 0, true],
    ['a journal that is not there', { kind: 'journal', node, index: generation }, 1, false],
    ['a journal of another index', { kind: 'journal', node, index: generation + 1 }, 0, false],
    [
      'the outbox',
      { kind: 'outbox', node: writer.nodeId, owner: node },
      outbox?.generation ?? 0,
      false
    ],
    ['a handoff log', { kind: 'handoff', node, to: writer.nodeId, epoch: 1 }, generation, false]
  ]
  const peer = await RawPeer.open(t, hub, keyPairOf('a stranger'))
  const line = await peer.dial(node, hello)
  await answered(line)
  const cores: Hypercore[] = []
  for (const [, name, number] of asked) {
    const core = await peer.core(manifestOf(name.node, logNamespace(name, number)))
    core.replicate(line.mux)
    cores.push(core)
  }
  await until(() => cores.filter((core) => core.peers.length > 0).length >= 2)
  await answered(line)
  for (const [at, [what, , , served]] of asked.entries()) {
    t.equal((cores[at]?.peers[0]?.remoteLength ?? 0) > 0, served, what)
  }
})

test('a stranger asks for thousands of cores: nothing is opened, and others are served', async (t) => {
  const { hub, hello, storage, writer } = await stand(t)
  const peer = await RawPeer.open(t, hub, keyPairOf('a stranger'))
  const before = process.memoryUsage().rss
  let asked = 0
  let opened = 0
  while (asked < 20_000) {
    const line = await peer.dial(storage.nodeId, hello)
    for (let n = 0; n < channelsUnnamedMax - 10; n++, asked++) {
      const onopen = (): void => {
        opened++
      }
      const options = { protocol: 'hypercore/alpha', id: randomBytes(32), onopen }
      line.mux.createChannel(options)?.open()
    }
    await answered(line)
  }
  t.equal(opened, 0, `${asked} cores were asked for`)
  const megabytes = (process.memoryUsage().rss - before) / 2 ** 20
  t.ok(megabytes < 200, `${Math.round(megabytes)} MiB more`)
  writer.put('last', 1)
  await writer.flush()
  await until(async () => (await writer.get('last')) === 1, { what: 'the writer to be served' })
  t.pass('and others go on')
})

test('cores of an index that it does not consist of any more are not given away', async (t) => {
  const own = await openOwn(tmpdir(t))
  cleanup(t, () => own.close())
  const { index, cores, store } = own
  const change = (n: number): { key: Uint8Array; value: Uint8Array } => ({
    key: dataKey(encodeKey([n])),
    value: new Uint8Array(100)
  })
  const numbers = Array.from({ length: 2_000 }, (_, n) => n)
  await index.apply(numbers.map(change))
  await index.settled(true)
  const [old] = index.shape.runs
  await index.apply(numbers.map((n) => change(n + 1_000)))
  await index.settled(true)
  const [present] = index.shape.runs
  if (!old || !present) throw new Error('there are runs')
  const journal: LogName = { kind: 'journal', node: store.nodeId, index: 1 }
  const keyOf = (run: { hash: Uint8Array; length: number }): string =>
    store.discoveryKeyOf(journal, { kind: 'run', ...run })
  t.ok(await cores.find(keyOf(present)), 'the run is served')
  t.notEqual(keyOf(old), keyOf(present))
  const anchor = Hyper.discoveryKey(
    Hyper.key(
      manifestOf(store.nodeId, logNamespace({ kind: 'index', node: store.nodeId }, 1)) as never
    )
  )
  const before = cores.logs.length
  t.equal(await cores.find(Buffer.from(anchor).toString('hex')), null, 'not by this door')
  for (const odd of ['', 'zz', 'ab'.repeat(32), '__proto__']) {
    t.equal(await cores.find(odd), null, JSON.stringify(odd))
  }
  await until(async () => (await cores.find(keyOf(old))) === null, {
    timeoutMs: 25_000,
    what: 'the replaced run to be given up'
  })
  t.ok(cores.logs.length <= before, `${cores.logs.length} cores are open`)
})
