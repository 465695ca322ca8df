// A log that closes again and again is opened again, but not without end and without pause.
import test from 'tape'
import { InboxLogs } from '../../lib/apply/inbox-logs.ts'
import type { Log } from '../../lib/ports.ts'
import { until } from '../helpers/events.ts'
import { FakeLog, FakeOutbox } from './fakes.ts'

test('a log that closes at once is opened again at once, then later each time', async (t) => {
  const outbox = new FakeOutbox()
  const opened: number[] = []
  const logs: InboxLogs = new InboxLogs({
    open: async (generation) => {
      opened.push(performance.now())
      const log: Log = new FakeLog(outbox, generation)
      log.onEnd = (listener) => {
        setImmediate(() => listener('closed'))
        return () => {}
      }
      return log
    },
    changed: () => logs.use([5], true),
    forked: () => t.fail('no fork'),
    openFailed: (error) => t.error(error),
    delete: () => Promise.resolve(),
    deleteFailed: () => {},
    closeFailed: (error) => t.error(error)
  })
  logs.use([5], true)
  await until(() => opened.length >= 5, { what: 'five openings' })
  const [first = 0, , third = 0, fourth = 0, fifth = 0] = opened
  t.ok(fourth - third >= 150, `the fourth after ${Math.round(fourth - third)} ms`)
  t.ok(fifth - fourth >= 350, `the fifth after ${Math.round(fifth - fourth)} ms`)
  t.ok(fifth - first >= 650, 'all in all')
  await logs.close()
  const { length } = opened
  logs.use([5], true)
  t.equal(opened.length, length, 'closed, it opens nothing')
})
