/**
 * A run that was being finished when the node ended: for a moment two names lead to the same blocks. Whatever of it is
 * there at the next start, the index opens, and nothing of it is left.
 */
import Hypercore from 'hypercore'
import test from 'tape'
import { tmpdir } from '../helpers/tmp.ts'
import {
  entriesIn,
  makeRun,
  Progress,
  type Ingredients,
  type Made
} from '../../lib/lsm/compactor.ts'
import { openOwn, type Opened } from './own.ts'

const change = (n: number): { key: Uint8Array; value: Uint8Array } => ({
  key: Buffer.from(`key ${n}`),
  value: Buffer.from(`value ${n}`)
})

/** Blocks of a run that is made under the name `flush`, up to the moment at which it is finished. */
async function half(opened: Opened): Promise<void> {
  await opened.index.apply([change(1), change(2)])
  const file = await opened.cores.build('flush', () => Promise.reject(new Error('cut off')))
  await file.append([Buffer.from('a block'), Buffer.from('another')])
}

test('cut off before the run is there', async (t) => {
  const directory = tmpdir(t)
  const first = await openOwn(directory)
  await half(first)
  await first.close()
  const second = await openOwn(directory)
  t.deepEqual(Buffer.from((await second.index.get(change(1).key)) ?? []), change(1).value)
  const file = await second.cores.build('flush', () => Promise.resolve())
  t.equal(file.length, 0, 'what was begun is gone')
  await file.leave()
  await second.close()
})

for (const named of [true, false]) {
  test(`cut off between the two names; the run is ${named ? '' : 'not '}there any more`, async (t) => {
    const directory = tmpdir(t)
    const first = await openOwn(directory)
    await first.index.apply([change(1), change(2)])
    // The store does what finishing does, but for taking the old name away.
    const core = await first.store.buildRun(1, 'flush')
    await core.append([Buffer.from('a block'), Buffer.from('another')])
    const hash = await Hypercore.treeHashFromStorage(core, core.length)
    const { length } = core
    await first.store.staticOf(core)
    if (!named) await first.store.deleteRun(first.store.nodeId, 1, { hash, length })
    await first.close()

    const second = await openOwn(directory)
    t.deepEqual(Buffer.from((await second.index.get(change(1).key)) ?? []), change(1).value)
    t.deepEqual(
      (await second.cores.stored()).filter(({ kind }) => kind === 'run'),
      [],
      'no run of an index lies here'
    )
    const file = await second.cores.build('flush', () => Promise.resolve())
    t.equal(file.length, 0, 'the name leads nowhere')
    await file.leave()
    await second.close()
  })
}

test('a run goes on where it was cut off, and comes out the same', async (t) => {
  const opened = await openOwn(tmpdir(t))
  const { cores } = opened
  const keys = Array.from({ length: 30_000 }, (_, n) => `key ${String(n).padStart(6, '0')}`)
  const ingredients: Ingredients = {
    parts: (after) => {
      const some = after === null ? keys : keys.filter((key) => key > after)
      return [entriesIn({ keys: some, values: some.map((key) => Buffer.from(`value of ${key}`)) })]
    },
    entries: keys.length,
    isWhole: true
  }
  const about = (): Promise<void> => Promise.resolve()
  const make = (name: string, turn: () => Promise<void>): Promise<Made> =>
    makeRun(cores, name, ingredients, new Progress(keys.length), turn, about)
  let turns = 0
  const ends = new Error('cut off')
  const cut = async (): Promise<void> => {
    if (++turns % 50 === 0) throw ends
    await Promise.resolve()
  }
  t.equal(await make('one', cut).catch((error: unknown) => error), ends)
  t.ok(await cores.hasBuild('one'), 'what was done is there')
  t.equal(await make('one', cut).catch((error: unknown) => error), ends, 'and again')
  const resumed = await make('one', about)
  t.ok(resumed.resumed)
  t.notOk(await cores.hasBuild('one'))
  const whole = await make('other', about)
  t.notOk(whole.resumed)
  t.deepEqual(resumed.run, whole.run, 'the same run')
  t.equal(whole.run?.entries, keys.length)
  await opened.close()
})
