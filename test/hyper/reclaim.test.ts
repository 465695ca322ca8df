// Space of deleted cores goes back to the disk many at a time, once for all; a failure is told and stops nothing.
import type HypercoreStorage from 'hypercore-storage'
import test from 'tape'
import { reclaimBytes, reclaimShare } from '../../config/limits.ts'
import { Reclaimer } from '../../lib/hyper/delete-core.ts'
import { deadline, until } from '../helpers/events.ts'

test('space that cannot be given back is told, and the next is given back', async (t) => {
  let compacted = 0
  let fails = true
  const db = {
    flush: () => (fails ? Promise.reject(new Error('no space left')) : Promise.resolve()),
    approximateSize: () => Promise.resolve(0),
    compactRange: () => Promise.resolve(void compacted++)
  }
  const told: string[] = []
  const reclaimer = new Reclaimer({ db } as unknown as HypercoreStorage, (error) =>
    told.push((error as Error).message)
  )
  reclaimer.add(1, reclaimBytes - 1)
  t.equal(compacted, 0, 'a little waits')
  reclaimer.add(2, 1)
  await until(() => told.length === 1, { what: 'the failure to be told' })
  t.deepEqual(told, ['no space left'])
  fails = false
  reclaimer.add(3, reclaimBytes)
  await until(() => compacted === 1, { what: 'the next one' })
  reclaimer.add(4, 1)
  await deadline(reclaimer.close(), 5000, 'its end')
  reclaimer.add(5, reclaimBytes)
  t.equal(compacted, 1, 'closed, it begins no more')
})

test('all that was deleted is given back at once, when it is a share of the store', async (t) => {
  const stored = 10 * reclaimBytes
  let looked = 0
  const ranges: string[] = []
  const db = {
    flush: () => Promise.resolve(),
    approximateSize: () => Promise.resolve((looked++, stored)),
    compactRange: (from: Uint8Array, to: Uint8Array) =>
      Promise.resolve(void ranges.push(`${hex(from)} ${hex(to)}`))
  }
  const reclaimer = new Reclaimer({ db } as unknown as HypercoreStorage, (error) => t.error(error))
  reclaimer.add(7, reclaimBytes)
  await until(() => looked === 1, { what: 'the look at the store' })
  reclaimer.add(3, stored * reclaimShare - reclaimBytes - 1)
  await until(() => looked === 2, { what: 'the second look' })
  t.deepEqual(ranges, [], 'less than its share waits, since all of the store is written for it')
  await until(() => {
    if (ranges.length === 0) reclaimer.add(5, 1)
    return ranges.length > 0
  })
  await deadline(reclaimer.close(), 5000, 'its end')
  t.deepEqual(ranges, ['0403 0408'], 'once, from the first core to the last one')
})

function hex(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('hex')
}
