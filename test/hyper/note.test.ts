/**
 * A mark is written behind its log's blocks, also when something else of the log is written beside them: a mark that
 * is ahead of its log would look like damage after a crash.
 */
import test from 'tape'
import { fileIn } from '../../lib/hyper/datadir.ts'
import { Marks } from '../../lib/hyper/marks.ts'
import { Store } from '../../lib/hyper/store.ts'
import { tmpdir } from '../helpers/tmp.ts'

test('a note beside an append does not bring its mark forward', async (t) => {
  const directory = tmpdir(t)
  const store = await Store.open({ directory, durability: 'sync' })
  const name = { kind: 'index', node: store.nodeId } as const
  const log = await store.begin(name, 1)
  const early: string[] = []
  for (let n = 0; n < 20; n++) {
    const appending = log.append([Buffer.from(`block ${n}`)])
    const noting = log.setNote(Buffer.from(`note ${n}`))
    await noting
    // Whatever is on disk now: the mark is not ahead.
    const marks = await Marks.read(fileIn(directory, 'marks'))
    const { length = 0 } = marks.find((mark) => mark.name.kind === 'index') ?? {}
    if (length > log.length) early.push(`the mark has ${length} blocks, the log ${log.length}`)
    await appending
  }
  t.deepEqual(early, [])
  await log.close()
  await store.close()
})
