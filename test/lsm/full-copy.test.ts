/**
 * A full copy downloads the journals and makes the runs itself: same cores, so that it can serve them, for little more
 * than what was written.
 */
import test from 'tape'
import { coreKey } from '../../lib/index-ports.ts'
import { FullCopy } from '../../lib/lsm/full-copy.ts'
import { Version } from '../../lib/lsm/version.ts'
import { LayoutScope } from '../../lib/lsm/scope.ts'
import { cleanup } from '../helpers/cleanup.ts'
import { until } from '../helpers/events.ts'
import { random } from '../helpers/random.ts'
import { tmpdir } from '../helpers/tmp.ts'
import { readerOf } from './linked.ts'
import { openOwn } from './own.ts'

const keys = 20_000
const batch = 500

test('a copy makes the runs of an index, byte for byte', { timeout: 120_000 }, async (t) => {
  const rng = random(t)
  const owner = await openOwn(tmpdir(t))
  cleanup(t, () => owner.close())
  const reader = await readerOf(t, owner)
  const failures: unknown[] = []
  const copy = new FullCopy(reader.anchor, reader.cores, (error) => failures.push(error))
  cleanup(t, () => copy.close())
  const model = new Map<string, string>()
  let written = 0
  for (let round = 0; round < 3; round++) {
    for (let n = 0; n < keys; n += batch) {
      const changes = new Map<string, string | null>()
      for (let i = 0; i < batch; i++) {
        const key = `key ${rng.int(0, keys)} of the test`
        const value = rng.chance(0.05) ? null : `${round} ${rng.int(0, 1e9)} `.repeat(8)
        changes.set(key, value)
        if (value === null) model.delete(key)
        else model.set(key, value)
      }
      for (const [key, value] of changes) written += key.length + (value?.length ?? 0)
      await owner.index.apply(
        [...changes].map(([key, value]) => ({
          key: Buffer.from(key),
          value: value === null ? null : Buffer.from(value)
        }))
      )
      // It keeps up: who is away for long downloads runs as well.
      await until(() => copy.head.length >= owner.index.head.length, {
        timeoutMs: 20_000,
        what: `the copy to come to ${owner.index.head.length}, it is at ${copy.head.length}`
      })
    }
  }
  await owner.index.settled(true)
  const { runs } = owner.index.shape
  await until(() => copy.layout?.runs[0] !== undefined && copy.layout.runs.length === runs.length, {
    what: 'the last run'
  })
  t.deepEqual(failures, [])
  t.ok(copy.counts.made > 5, `${copy.counts.made} runs were made here`)
  t.equal(copy.counts.downloaded, 0, 'and none was downloaded')
  const share = copy.counts.bytes / written
  t.ok(share < 1.3, `it downloaded ${share.toFixed(2)} times what was written`)

  // Without the node it has all of it.
  reader.disconnect()
  const layout = copy.layout
  if (!layout) return t.fail('no layout')
  t.deepEqual(
    layout.runs.map(({ hash, length }) => coreKey({ kind: 'run', hash, length })),
    runs.map(({ hash, length }) => coreKey({ kind: 'run', hash, length }))
  )
  const scope = new LayoutScope(reader.cores, layout)
  const version = new Version(scope, copy.head, null)
  const found = new Map<string, string>()
  for await (const { key, value } of version.range({}, { wait: false })) {
    found.set(Buffer.from(key).toString(), Buffer.from(value).toString())
  }
  version.release()
  scope.release()
  t.deepEqual(
    [...found],
    [...model].toSorted(([a], [b]) => (a < b ? -1 : 1))
  )
})

test('a copy that was away takes up the newest state', { timeout: 60_000 }, async (t) => {
  const owner = await openOwn(tmpdir(t))
  cleanup(t, () => owner.close())
  const write = async (from: number, value: string): Promise<void> => {
    for (let n = from; n < from + 6_000; n += batch) {
      await owner.index.apply(
        Array.from({ length: batch }, (_, i) => ({
          key: Buffer.from(`key ${n + i}`),
          value: Buffer.from(value)
        }))
      )
    }
    await owner.index.settled(true)
  }
  await write(0, 'first')
  const reader = await readerOf(t, owner)
  const failures: unknown[] = []
  const copy = new FullCopy(reader.anchor, reader.cores, (error) => failures.push(error))
  cleanup(t, () => copy.close())
  await until(() => copy.head.length === owner.index.head.length, { what: 'the first state' })
  t.ok(copy.counts.downloaded > 0, 'what was there before is downloaded')
  reader.disconnect()
  await write(3_000, 'second')
  reader.connect()
  await until(() => copy.head.length === owner.index.head.length, { what: 'the second state' })
  await until(
    () =>
      copy.layout?.runs.length === owner.index.shape.runs.length && copy.layout.runs.length === 1,
    { what: 'the runs' }
  )
  t.deepEqual(failures, [])
})
