/** Reads of one state do not wait for each other: each has its own time, and one that takes what is here none. */
import test from 'tape'
import { KVSwarmError } from '../../lib/errors.ts'
import type { CoreLease } from '../../lib/index-ports.ts'
import { LayoutScope } from '../../lib/lsm/scope.ts'
import { Version } from '../../lib/lsm/version.ts'
import { codeOf } from '../helpers/errors.ts'
import { deadline } from '../helpers/events.ts'

/** A core of which nothing is here, and nothing comes. */
const far: CoreLease = {
  id: 1e6,
  length: 5,
  get: (_block, { wait = true, timeout = Infinity, signal } = {}) => {
    if (!wait) return Promise.resolve(null)
    return new Promise((_resolve, reject) => {
      const end = (): void => reject(new KVSwarmError('TIMEOUT', 'nothing comes'))
      signal?.addEventListener('abort', end)
      if (timeout < Infinity) setTimeout(end, timeout).unref()
    })
  },
  onChange: () => () => {},
  release: () => {}
}

test('a read that waits holds up no other', async (t) => {
  const layout = {
    event: 'began',
    journals: [{ number: 0, base: 0, length: 0 }],
    runs: [],
    kept: []
  } as const
  const scope = new LayoutScope({ open: () => Promise.resolve(far) }, layout)
  const version = new Version(scope, { generation: 1, length: 5 }, null)
  const key = Buffer.from('key')
  const ended = new AbortController()
  const waiting = codeOf(version.get(key, { signal: ended.signal }))
  const local = await deadline(codeOf(version.get(key, { wait: false })), 5000, 'a local read')
  t.equal(local, 'OWNER_UNREACHABLE')
  t.equal(await deadline(codeOf(version.get(key, { timeout: 20 })), 5000, 'a short one'), 'TIMEOUT')
  ended.abort()
  t.ok(['TIMEOUT', 'ABORTED'].includes(await waiting))
  version.release()
  scope.release()
})
