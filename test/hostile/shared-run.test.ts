/**
 * A run's key comes from its content alone, and whoever follows an index can compute its next run before it is made.
 * So another storage node can say that it has a run of ours: that must cost us nothing of our own index.
 */
import test, { type Test } from 'tape'
import { HyperIndexCores } from '../../lib/hyper/index-cores.ts'
import { coreKey, type CoreName } from '../../lib/index-ports.ts'
import type { IndexChange } from '../../lib/ports.ts'
import { encodeKey } from '../../lib/wire/keys.ts'
import { dataKey } from '../../lib/wire/records.ts'
import { cleanup } from '../helpers/cleanup.ts'
import { tmpdir } from '../helpers/tmp.ts'
import { openOwn, type Opened } from '../lsm/own.ts'

const liar = 'ee'.repeat(32)
const count = 600
const keyOf = (n: number): Uint8Array => dataKey(encodeKey(`key ${String(n).padStart(5, '0')}`))
const changes: readonly IndexChange[] = Array.from({ length: count }, (_, n) => ({
  key: keyOf(n),
  value: new Uint8Array(100).fill(n)
}))

async function filled(directory: string): Promise<{ own: Opened; run: CoreName }> {
  const own = await openOwn(directory)
  await own.index.apply(changes)
  await own.index.settled(true)
  const [made] = own.index.shape.runs
  if (made === undefined) throw new Error('no run was made')
  return { own, run: { kind: 'run', hash: made.hash, length: made.length } }
}

/** Looks for every key, after a new start: from the disk, and from nowhere else. */
async function checkAll(t: Test, directory: string): Promise<void> {
  const own = await openOwn(directory)
  try {
    let found = 0
    for (const { key } of changes) {
      if ((await own.index.get(key, { wait: false }).catch(() => null)) !== null) found++
    }
    t.equal(found, count, 'every key is found')
    t.deepEqual(own.failures, [], 'and nothing has failed')
  } finally {
    await own.close()
  }
}

test('a run of ours that another index names, and gives up: it stays', async (t) => {
  const directory = tmpdir(t)
  const { own, run } = await filled(directory)
  // Nothing of ours has it open.
  await own.close()
  const again = await openOwn(directory)
  const cores = new HyperIndexCores(again.store, liar, 7)
  const failures: unknown[] = []
  cores.onDeleteFailed = (error) => failures.push(error)
  const lease = await cores.open(run)
  lease.release()
  void cores.delete(run)
  await cores.sweep(new Set())
  await cores.close()
  t.deepEqual(failures, [])
  await again.close()
  await checkAll(t, directory)
})

for (const inUse of [true, false]) {
  test(`a run that another index names before we make it, ${inUse ? 'and reads' : 'once'}: ours is whole`, async (t) => {
    const other = await filled(tmpdir(t))
    await other.own.close()
    const directory = tmpdir(t)
    const own = await openOwn(directory)
    let closed = false
    cleanup(t, () => (closed ? null : own.close()))
    const cores = new HyperIndexCores(own.store, liar, 7)
    const lease = await cores.open(other.run)
    if (!inUse) lease.release()
    await own.index.apply(changes)
    await own.index.settled(true)
    const [made] = own.index.shape.runs
    t.equal(made && coreKey({ kind: 'run', ...made }), coreKey(other.run), 'it is the same run')
    void cores.delete(other.run)
    if (inUse) lease.release()
    await cores.close()
    closed = true
    await own.close()
    await checkAll(t, directory)
  })
}

test('of two others that name the same run, one gives it up: the copy stays with the first', async (t) => {
  const other = await filled(tmpdir(t))
  await other.own.close()
  const own = await openOwn(tmpdir(t))
  cleanup(t, () => own.close())
  const [first, second] = [liar, 'dd'.repeat(32)].map(
    (node) => new HyperIndexCores(own.store, node, 1)
  ) as [HyperIndexCores, HyperIndexCores]
  for (const cores of [first, second]) (await cores.open(other.run)).release()
  void second.delete(other.run)
  await second.close()
  t.equal((await first.stored()).length, 1, 'it lies here')
  void first.delete(other.run)
  await first.close()
  const left = await Promise.all([first, second, own.cores].map((cores) => cores.stored()))
  const runs = left.flat().filter(({ kind }) => kind === 'run')
  t.equal(runs.length, 0, 'and then it does not')
})
