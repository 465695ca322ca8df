// A writer that signs two versions of its outbox on purpose: it harms only itself, and the storage node says so.
import { join } from 'node:path'
import test from 'tape'
import type { KVSwarm } from '../../lib/index.ts'
import { until } from '../helpers/events.ts'
import { tmpdir } from '../helpers/tmp.ts'
import { makeSwarm } from '../kvswarm/swarm.ts'
import { settle } from './templates.ts'

/** Far above what a receipt takes; an outbox that stood still would reach it. */
const hangMs = 10_000
const rounds = 60

async function worst(kv: KVSwarm, name: string): Promise<number> {
  let worstMs = 0
  for (let i = 0; i < rounds; i++) {
    const started = performance.now()
    await kv.set(`${name} ${i}`, i, { receipt: true, timeout: hangMs })
    worstMs = Math.max(worstMs, performance.now() - started)
  }
  return Math.round(worstMs)
}

test('an equivocating writer harms only itself', async (t) => {
  const swarm = await makeSwarm(t, { storage: 1, writers: 2, capacities: [1] })
  const [s] = swarm.storage as [KVSwarm]
  const [z, y] = swarm.writers as [KVSwarm, KVSwarm]
  await z.set('z', 'both', { receipt: true })
  await z.close()
  const folder = tmpdir(t)
  // Two directories that both pass for the original: each appends to the same generation.
  for (const name of ['one', 'other']) {
    settle({ name, folder: swarm.path('w0'), role: 'writer', nodeId: z.nodeId }, join(folder, name))
  }
  t.comment(`alone: a receipt takes ${await worst(y, 'alone')} ms at worst`)
  const one = swarm.open('w0', { storage: join(folder, 'one') })
  await one.connect()
  await one.set('z', 'one', { receipt: true })
  await one.close()
  const other = swarm.open('w0', { storage: join(folder, 'other') })
  for (let i = 0; i < 5; i++) await other.set('z', `other ${i}`)
  await other.connect()
  const stopped = async (): Promise<string | null | undefined> =>
    (await s.status()).inboxes.find(({ writer }) => writer === z.nodeId)?.stopped
  await until(async () => (await stopped())?.includes('forked'), { what: 'the fork to be told' })
  t.comment(`beside it: ${await worst(y, 'beside')} ms at worst`)
  t.ok(
    (await s.status()).warnings.some((text) => text.includes('forked')),
    'a warning'
  )
  t.equal(await y.get('z', { fresh: true }), 'one', 'the version that was receipted stays')
  await other.close()

  // It goes on from the version that nobody holds, under new generations, again and again.
  for (let round = 0; round < 3; round++) {
    const again = swarm.open('w0', { storage: join(folder, 'other'), durability: 'os' })
    await again.ready()
    await again.set('z', `again ${round}`)
    await again.connect()
    await until(async () => (await stopped())?.includes('counts as removed'), {
      what: 'the writer to count as removed'
    })
    await again.close()
  }
  t.comment(`after it: ${await worst(y, 'after')} ms at worst`)
  t.equal(await y.get('z', { fresh: true }), 'one', 'nothing of the other version')
  // Restarted, the storage node knows it again.
  await s.close()
  const restarted = swarm.open('s0')
  await restarted.listen()
  const last = swarm.open('w0', { storage: join(folder, 'other') })
  await last.connect()
  await y.set('end', 1, { receipt: true })
  await until(
    async () =>
      (await restarted.status()).inboxes
        .find(({ writer }) => writer === z.nodeId)
        ?.stopped?.includes('counts as removed'),
    { what: 'the same after a restart' }
  )
  t.equal(await y.get('z', { fresh: true }), 'one')
})
