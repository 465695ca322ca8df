/**
 * The index against a model, with the batches that a storage node makes: some flushes of several writers, each a
 * put or del of a key that many change and a put of a key of its own; then cursors and the state. After each
 * batch what it changed is read, and now and then the whole range: a deleted key must be gone, and no key may be
 * there twice.
 */
import { join } from 'node:path'
import test from 'tape'
import { BeeIndex } from '../../lib/hyper/bee.ts'
import { Store } from '../../lib/hyper/store.ts'
import type { IndexChange } from '../../lib/ports.ts'
import { random, randomOf, type Random } from '../helpers/random.ts'
import { tmpdir } from '../helpers/tmp.ts'

const batches = 400
/** The whole range is read after every so many of them. */
const rangeEvery = 40

test('the index gives what a map gives', async (t) => await compare(t, random(t)))

// Without walkDown() in lib/hyper/bee.ts batch 143 brings a deleted key back.
test('a deleted key stays deleted', async (t) => await compare(t, randomOf(360617201)))

async function compare(t: test.Test, source: Random): Promise<void> {
  const store = await Store.open({ directory: join(tmpdir(t), 'a'), durability: 'sync' })
  const name = { kind: 'index', node: store.nodeId } as const
  const index = await BeeIndex.open(await store.begin(name, 1))
  const model = new Map<string, string>()
  const wrong: string[] = []
  for (let n = 0; n < batches && wrong.length === 0; n++) {
    const changes = new Map<string, IndexChange>()
    const change = (key: string, value: string | null): void => {
      changes.set(key, { key: Buffer.from(key), value: value === null ? null : Buffer.from(value) })
      if (value === null) model.delete(key)
      else model.set(key, value)
    }
    for (let i = source.int(1, 4); i > 0; i--) {
      const client = source.pick(['x1', 'x2', 'y1', 'y2'])
      const tag = `{w${Math.floor(n / 60)}-${source.int(0, 2)}}`
      change(`${tag}/v`, source.chance(0.3) ? null : `${client} ${n}`)
      change(`${tag}/${client}/${n * 4 + i}`, '')
      change(`!cursor ${client[0]}`, String(n))
    }
    change('!', String(n))
    await index.apply([...changes.values()])
    // A get walks down in a way of its own.
    for (const key of changes.keys()) {
      const value = await index.get(Buffer.from(key))
      const text = value === null ? undefined : Buffer.from(value).toString()
      if (text !== model.get(key))
        wrong.push(`batch ${n}: get ${key}: ${text}, not ${model.get(key)}`)
    }
    if (n % rangeEvery !== 0) continue
    const found: string[] = []
    const snapshot = index.snapshot()
    for await (const { key, value } of snapshot.range({ gte: Buffer.from('!') })) {
      found.push(`${Buffer.from(key).toString()}=${Buffer.from(value).toString()}`)
    }
    await snapshot.close()
    const expected = [...model].map(([key, value]) => `${key}=${value}`)
    if (found.length === expected.length && new Set([...found, ...expected]).size === found.length)
      continue
    const more = found.filter((entry) => !expected.includes(entry))
    const less = expected.filter((entry) => !found.includes(entry))
    const shown = [...changes.values()].map(
      ({ key, value }) => `${value === null ? 'del' : 'put'} ${Buffer.from(key).toString()}`
    )
    wrong.push(`batch ${n}: also ${more.join()}; missing ${less.join()}; after ${shown.join()}`)
  }
  t.deepEqual(wrong, [], `${batches} batches`)
  await index.close()
  await store.close()
}
