// Values of 1 KiB lie where they were first written: neither runs nor merges write them again.
import test from 'tape'
import { cleanup } from '../helpers/cleanup.ts'
import { tmpdir } from '../helpers/tmp.ts'
import { openOwn } from './own.ts'

const keys = 400
const valueBytes = 1024

test('values of 1 KiB are not written into runs', async (t) => {
  const own = await openOwn(tmpdir(t))
  cleanup(t, () => own.close())
  const { index } = own
  const key = (n: number): Buffer => Buffer.from(`key ${n}`)
  for (let round = 1; round <= 2; round++) {
    const changes = Array.from({ length: keys }, (_, n) => ({
      key: key(n),
      value: Buffer.alloc(valueBytes, round)
    }))
    await index.apply(changes)
    await index.settled(true)
  }
  const bytes = index.shape.runs.reduce((sum, run) => sum + run.bytes, 0)
  t.ok(bytes > 0 && bytes < (keys * valueBytes) / 10, `${bytes} bytes of runs`)
  t.deepEqual(Buffer.from((await index.get(key(7))) ?? []), Buffer.alloc(valueBytes, 2))
})
