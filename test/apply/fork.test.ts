// A writer that has signed two versions of its outbox, on real logs: what was acknowledged of the first is applied.
import test from 'tape'
import { Inbox } from '../../lib/apply/inbox.ts'
import type { HyperLog } from '../../lib/hyper/log.ts'
import { MemoryHub } from '../../lib/hyper/memory-network.ts'
import { Store } from '../../lib/hyper/store.ts'
import { idOf } from '../../lib/wire/ids.ts'
import { logNamespace, signedManifest } from '../../lib/wire/namespaces.ts'
import type { LogName } from '../../lib/types.ts'
import { cleanup } from '../helpers/cleanup.ts'
import { until } from '../helpers/events.ts'
import { tmpdir } from '../helpers/tmp.ts'
import { pair, store } from '../network/pair.ts'
import { headBlock, owner, putsBlock } from './fakes.ts'

test('a forked outbox on real logs', async (t) => {
  const { a, b, toB, toA } = await pair(t, new MemoryHub())
  const [first, second] = [await store(t), await store(t)]
  const node = await Store.open({ directory: `${tmpdir(t)}/node`, durability: 'sync' })
  cleanup(t, () => node.close())
  const keyPair = await first.createKeyPair('writer')
  const name: LogName = { kind: 'outbox', node: idOf(keyPair.publicKey), owner }
  const manifest = signedManifest(keyPair.publicKey, logNamespace(name, 5))
  const [one, other] = [first.get({ manifest, keyPair }), second.get({ manifest, keyPair })]
  await one.append([headBlock(null), putsBlock(1), putsBlock(2)])
  await other.append([headBlock(null), putsBlock(3), putsBlock(4), putsBlock(5)])
  one.replicate(toB.muxer)

  const warnings: string[] = []
  const attached: boolean[] = []
  const inbox = new Inbox(name.node, null, {
    open: async (_, generation, attach) => {
      const log: HyperLog = await node.peerLog(name, generation)
      attached.push(attach)
      if (attach && b.peer) node.attach(log, b.peer.muxer)
      return log
    },
    delete: (_, generation) => node.delete(name, generation),
    sync: () => node.sync(),
    ready: () => {},
    acked: () => {},
    warn: (message) => warnings.push(message),
    failed: (error) => t.error(error)
  })
  cleanup(t, () => inbox.close())
  inbox.found([])
  inbox.announce(5)
  await until(() => inbox.acked?.length === 3, { what: 'the first version to be held' })

  // The writer comes back with the other one.
  toB.connection.destroy()
  const [toWriter, toNode] = await Promise.all([b.greeted(toA), a.greeted(toB)])
  other.replicate(toNode.muxer)
  for (const log of inbox.logs) node.attach(log as HyperLog, toWriter.muxer)
  await until(() => inbox.stopped !== null, { what: 'the fork to be noticed' })
  t.match(inbox.stopped ?? '', /two versions were signed/)
  await until(() => inbox.isReady, { what: 'the log to be opened again' })
  const blocks = await inbox.take(1000, 1e9, true)
  t.deepEqual(
    blocks.map(({ generation, block, operations }) => [generation, block, operations]),
    [
      [5, 0, 1],
      [5, 1, 1],
      [5, 2, 2]
    ],
    'what was acknowledged, as it was acknowledged'
  )
  inbox.advance({ generation: 5, length: 3 })
  inbox.work()
  t.notOk(inbox.isReady)
  t.equal(warnings.length, 1, 'one warning')
  t.deepEqual(inbox.acked, { generation: 5, length: 3 }, 'nothing of the other version')
  t.ok(
    attached.slice(1).every((attach) => !attach),
    'it is not replicated again'
  )
})
