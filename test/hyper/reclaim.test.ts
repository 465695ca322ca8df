// Space of deleted cores goes back to the disk a few at a time; a failure is told and stops nothing.
import type HypercoreStorage from 'hypercore-storage'
import test from 'tape'
import { reclaimBytes } from '../../config/limits.ts'
import { Reclaimer } from '../../lib/hyper/delete-core.ts'
import { deadline, until } from '../helpers/events.ts'

test('space that cannot be given back is told, and the next is given back', async (t) => {
  let compacted = 0
  let fails = true
  const db = {
    flush: () => (fails ? Promise.reject(new Error('no space left')) : Promise.resolve()),
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
