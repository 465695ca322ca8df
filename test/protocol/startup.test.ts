// What an index begins with: versionstamps that rise, and are given once, whatever was restored.
import test from 'tape'
import { beginIndex } from '../../lib/protocol/startup.ts'
import type { IndexState } from '../../lib/wire/records.ts'
import { compareStamps, makeStamp, stampCounterMax } from '../../lib/wire/stamps.ts'

const config = { epoch: 3, hash: '1'.repeat(64) }
const day = 86_400_000
/** In 2026. */
const now = Date.UTC(2026, 10)
/** The stamp that is given next, and the one `count` operations later. */
const stamp = ({ epoch, serial, counter }: IndexState, count = 1): string =>
  makeStamp({ epoch, serial, counter: counter + count })

test('the first generation of an index', (t) => {
  t.deepEqual(beginIndex(null, config, now), {
    epoch: 3,
    configHash: config.hash,
    serial: 1,
    counter: 0,
    now
  })
  t.end()
})

test('a next generation gives later versionstamps than the one before, whatever the clock says', (t) => {
  for (const clock of [now, now - 2000 * day, 0, now + 1e6 * day, 8.64e15]) {
    let state: IndexState = { ...beginIndex(null, config, now), counter: stampCounterMax }
    for (let i = 0; i < 5; i++) {
      const next = beginIndex(state, config, clock)
      t.ok(compareStamps(stamp(next), stamp(state, 0)) > 0, `${stamp(next)} at ${clock}`)
      t.ok(next.counter <= stampCounterMax / 2, 'with room to count')
      t.ok(next.now >= state.now)
      state = { ...next, counter: stampCounterMax }
    }
  }
  t.end()
})

test('generations that go on from one backup give no versionstamp twice, and the later one later ones', (t) => {
  const faults: string[] = []
  const backup = { ...beginIndex(null, config, now), serial: 7, counter: 77 }
  for (let days = 0; days < 30; days += 0.7) {
    for (const pause of [1, 1000, day]) {
      const first = beginIndex(backup, config, now + days * day)
      const second = beginIndex(backup, config, now + days * day + pause)
      // 900,000 operations a second, all the time between.
      const last = stamp(first, pause * 900)
      if (compareStamps(stamp(second), last) <= 0) faults.push(`${stamp(second)} behind ${last}`)
    }
  }
  t.deepEqual(faults.slice(0, 3), [])
  t.end()
})
