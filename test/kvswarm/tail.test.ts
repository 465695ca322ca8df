// refresh() and tail(): what is told, from where, and that nothing is missed.
import test from 'tape'
import type { Change, KVSwarm, TailOptions } from '../../lib/index.ts'
import { until } from '../helpers/events.ts'
import { random as randomFor } from '../helpers/random.ts'
import { makeSwarm } from './swarm.ts'
import { codeOf } from '../helpers/errors.ts'

async function page(
  kv: KVSwarm | undefined,
  bookmark?: string | null,
  options?: TailOptions
): Promise<{ changes: string[]; bookmark: string; all: Change[] }> {
  const changes: string[] = []
  const all: Change[] = []
  let last = ''
  for await (const change of (kv as KVSwarm).tail(bookmark, options)) {
    all.push(change)
    if (change.type === 'put') changes.push(`${String(change.key)}=${JSON.stringify(change.value)}`)
    else if (change.type === 'del') changes.push(`${String(change.key)} deleted`)
    else if (change.type === 'bookmark') last = change.bookmark
    else changes.push('reset')
  }
  return { changes: changes.toSorted(), bookmark: last, all }
}

test('tail: the full state, then what changed, deletions too; merged, and only data', async (t) => {
  const { writers, open } = await makeSwarm(t)
  const [x, y] = writers as [KVSwarm, KVSwarm]
  await x.set('a', 1)
  await x.set('b', 1)
  await x.set('c', 1, { receipt: true })
  await y.refresh()
  const first = await page(y)
  t.deepEqual(first.changes, ['a=1', 'b=1', 'c=1'])
  t.equal(first.all.at(-1)?.type, 'bookmark')
  t.deepEqual((await page(y, first.bookmark)).changes, [], 'nothing since')
  await x.set('a', 2)
  await x.set('a', 3)
  await x.delete('b')
  await x.set('new', 1, { receipt: true })
  await y.sync()
  const second = await page(y, first.bookmark)
  t.deepEqual(second.changes, ['a=3', 'b deleted', 'new=1'])
  t.deepEqual((await page(y, first.bookmark)).changes, second.changes, 'again the same')
  // A second handle on the directory: through the socket.
  const client = open('w1')
  t.deepEqual((await page(client, first.bookmark)).changes, second.changes)
  t.deepEqual((await page(client, second.bookmark)).changes, [])
  t.equal(await codeOf(page(client, 'nonsense')), 'INVALID_ARGUMENT')
  t.equal(
    await codeOf(page(y, `b1.${Buffer.from('[[1]]').toString('base64url')}`)),
    'INVALID_ARGUMENT'
  )
  await client.refresh()
  await client.close()
})

test('tail: history that is gone is a reset and the full state', async (t) => {
  const { writers } = await makeSwarm(t)
  const [x] = writers as [KVSwarm]
  await x.set('a', 1)
  await x.set('b', 2, { receipt: true })
  await x.refresh()
  const { bookmark } = await page(x)
  const marks = JSON.parse(Buffer.from(bookmark.slice(3), 'base64url').toString()) as [
    string,
    number,
    number
  ][]
  const older = marks.map(([id, generation, length], at) => [
    id,
    at === 0 ? generation - 1 : generation,
    length
  ])
  const gone = await page(x, `b1.${Buffer.from(JSON.stringify(older)).toString('base64url')}`)
  t.equal(gone.all[0]?.type, 'reset', 'first of all')
  t.deepEqual(gone.changes, ['a=1', 'b=2', 'reset'])
})

test('tail that follows: a copy that is made of it is the store, whatever was written meanwhile', async (t) => {
  const random = randomFor(t)
  const { writers, storage, open } = await makeSwarm(t)
  const [x, y] = writers as [KVSwarm, KVSwarm]
  const client = open('w1')
  await client.ready()
  for (const kv of [y, client]) {
    const copy = new Map<string, unknown>()
    const aborter = new AbortController()
    await x.set('begun', 1, { receipt: true })
    await kv.refresh()
    const following = codeOf(
      (async () => {
        for await (const change of kv.tail(null, { follow: true, signal: aborter.signal })) {
          if (change.type === 'put') copy.set(String(change.key), change.value)
          else if (change.type === 'del') copy.delete(String(change.key))
        }
      })()
    )
    const flushes = new Set<string>()
    for (let n = 0; n < 60; n++) {
      const key = `k${random.int(0, 12)}`
      if (random.int(0, 3) === 0) x.del(key)
      else void x.put(key, n)
      if (random.int(0, 4) === 0) flushes.add((await x.flush()).id)
    }
    flushes.add((await x.flush()).id)
    flushes.delete('')
    for (const id of flushes) await x.receipt(id)
    const state: [string, unknown][] = []
    for await (const { key, value } of (storage[0] as KVSwarm).list({}, { fresh: true })) {
      state.push([String(key), value])
    }
    const text = JSON.stringify(state)
    const same = (): boolean =>
      JSON.stringify([...copy].toSorted(([a], [b]) => (a < b ? -1 : 1))) === text
    const ended = following.then((code) => t.equal(code, 'ABORTED', 'it ends by the signal alone'))
    const what = (): string =>
      `the copy to be ${text}, is ${JSON.stringify([...copy].toSorted(([a], [b]) => (a < b ? -1 : 1)))}`
    await until(same, { timeoutMs: 20_000, what: 'the copy to be the store' }).catch((error) =>
      t.fail(`${String(error)}: ${what()}`)
    )
    t.pass(`${state.length} keys, the same`)
    aborter.abort()
    await ended
  }
  const aborter = new AbortController()
  const aborted = codeOf(page(y, null, { follow: true, signal: aborter.signal }))
  aborter.abort()
  t.equal(await aborted, 'ABORTED')
})

test('refresh needs connections', async (t) => {
  const { open } = await makeSwarm(t, { start: false })
  t.equal(await codeOf(open('w0').refresh()), 'NOT_CONNECTED')
})
