// Chains of generations and forks on real logs: opened one after the other, closed, and opened again.
import { truncate } from 'node:fs/promises'
import test from 'tape'
import type { KVSwarm } from '../../lib/index.ts'
import { generationsOpenMax } from '../../lib/protocol/intake.ts'
import { makeSwarm } from '../kvswarm/swarm.ts'

test('more generations than may be open, none of them delivered, arrive in order', async (t) => {
  const { storage, open, path } = await makeSwarm(t, { storage: 1, capacities: [1], start: false })
  const count = 2 * generationsOpenMax + 4
  const ids: string[] = []
  for (let i = 0; i < count; i++) {
    const x = open('w0')
    ids.push((await x.set('k', i)).id, (await x.set(`k${i}`, i)).id)
    await x.close()
    // Without its marks the next one cannot know that nothing was lost, and begins a generation.
    await truncate(`${path('w0')}/kvswarm.marks`, 0)
  }
  const x = open('w0')
  await x.connect()
  const s = storage[0] as KVSwarm
  await s.listen()
  for (const id of ids) await x.receipt(id)
  t.equal(await x.get('k'), count - 1, 'the newest generation was applied last')
  const last = await x.getEntry(`k${count - 1}`)
  const counter = Number.parseInt(last?.versionstamp.slice(10) ?? '', 16)
  t.equal(counter, 2 * count, 'every operation once')
  const [inbox] = (await s.status()).inboxes
  t.deepEqual([inbox?.stopped, inbox?.rejected], [null, 0])
  t.deepEqual(inbox?.applied, inbox?.held)
  await x.set('after', 'all', { receipt: true })
  t.equal(await x.get('after'), 'all', 'and it goes on')
})
