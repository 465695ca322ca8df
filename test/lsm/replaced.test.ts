// What an index has replaced is deleted before its time when it takes more than its share of the disk; not at once.
import test from 'tape'
import { indexGraceMinMs, indexGraceMs } from '../../config/limits.ts'
import { namesOf } from '../../lib/lsm/names.ts'
import { coreKey } from '../../lib/index-ports.ts'
import { cleanup } from '../helpers/cleanup.ts'
import { tmpdir } from '../helpers/tmp.ts'
import { openOwn } from './own.ts'

const keys = 4000
const batch = 500

test('replaced cores that take much of the disk are deleted before their time', async (t) => {
  const own = await openOwn(tmpdir(t))
  cleanup(t, () => own.close())
  const { index, cores } = own
  const replacedAt = new Map<string, number>()
  const waited: number[] = []
  const remove = cores.delete.bind(cores)
  cores.delete = (name) => {
    const at = replacedAt.get(coreKey(name))
    if (at !== undefined) waited.push(performance.now() - at)
    return remove(name)
  }
  let named = new Set<string>()
  // Each round overwrites all; it goes on until the first core goes.
  for (let n = 0; waited.length === 0; n += batch) {
    const changes = Array.from({ length: batch }, (_, at) => ({
      key: Buffer.from(`key ${(n + at) % keys}`),
      value: Buffer.alloc(100, n + at)
    }))
    await index.apply(changes)
    const now = new Set(namesOf(index.shape).map(coreKey))
    for (const key of named) if (!now.has(key)) replacedAt.set(key, performance.now())
    named = now
  }
  t.ok(Math.max(...waited) < indexGraceMs / 2, `after ${Math.round(Math.max(...waited))} ms`)
  t.ok(Math.min(...waited) > indexGraceMinMs / 2, 'a read that is under way can end')
  t.deepEqual(own.failures, [])
})
