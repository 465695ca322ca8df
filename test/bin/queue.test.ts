// The command and a full write queue: it tells what happened, and does nothing behind the caller's back.
import { readFile } from 'node:fs/promises'
import test from 'tape'
import Config from '../../config/index.ts'
import { KVSwarm, type Status } from '../../lib/index.ts'
import { cleanup } from '../helpers/cleanup.ts'
import { inProcess, makeLab } from './helpers.ts'

test('a write that found no room was not written, now or later', async (t) => {
  const { at, config } = await makeLab(t)
  const holder = new KVSwarm({
    storage: at('x'),
    config: Config.parse(await readFile(config, 'utf8')),
    maxPendingBlocks: 1
  })
  cleanup(t, () => holder.close())
  await holder.set('first', 1)
  const before = (await holder.status()).outboxes
  const x = ['-c', config, '-d', at('x')]
  const late = await inProcess([...x, 'put', 'k', 'v', '--timeout', '300ms'])
  t.equal(late.code, 4)
  const full = await inProcess([...x, 'write', '--put.k=v', '--on-full', 'reject', '--json'])
  t.equal(full.code, 4)
  t.match(full.stderr, /QUEUE_FULL/)
  t.equal((await inProcess([...x, 'put', 'k', 'v', '--on-full', 'no'])).code, 2)
  t.equal((await inProcess([...x, 'connect', '--max-pending-bytes', 'many'])).code, 2)
  const { stdout } = await inProcess([...x, 'status', '--json'])
  const { outboxes, queue, lock } = JSON.parse(stdout) as Status
  t.deepEqual(outboxes, before, 'nothing was appended')
  t.deepEqual([queue.timeouts, queue.rejections, queue.depth], [1, 1, 0])
  t.equal(lock?.holder.pid, process.pid)
  const human = await inProcess([...x, 'status'])
  t.match(human.stdout, /1 refused, 1 timed out/)
  t.match(human.stdout, /lock {7}process \d+ since .*, taken \d+ times/)
})
