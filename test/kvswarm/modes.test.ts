// writeMode: when a put is written, when its promise resolves, and what becomes of one that failed.
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import test from 'tape'
import { cleanup } from '../helpers/cleanup.ts'
import { until } from '../helpers/events.ts'
import { tmpdir } from '../helpers/tmp.ts'
import { failure, storeOver, TestEngine } from './engine.ts'
import { makeSwarm } from './swarm.ts'
import { errorOf } from '../helpers/errors.ts'

test('immediate: a put resolves behind its write, those that come meanwhile share the next', async (t) => {
  const engine = new TestEngine()
  engine.auto = false
  const kv = storeOver(engine, { writeMode: 'immediate' })
  let written = 0
  const count = (): void => void written++
  const a = kv.put('a', 1).then(count)
  const first = await engine.asked()
  t.deepEqual(first.texts, ['a=1'])
  const rest = [kv.put('b', 2).then(count), kv.del('a').then(count), kv.put('b', 3).then(count)]
  t.equal(written, 0)
  first.ok()
  await a
  t.equal(written, 1, 'only the first')
  const second = await engine.asked()
  t.deepEqual(second.texts, ['b=2', 'a deleted', 'b=3'], 'in order')
  second.ok()
  await Promise.all(rest)
  engine.auto = true
  const called = await new Promise((resolve) => {
    void kv.put('c', 4, (error) => resolve(error))
  })
  t.equal(called, null, 'callbacks too')
  void kv.put('d', 5)
  await kv.close()
  t.deepEqual(engine.log.slice(-2), ['c=4', 'd=5'], 'close() waits for what is not written yet')
})

test('immediate: what failed is reported, and does not come back', async (t) => {
  const engine = new TestEngine()
  engine.auto = false
  const kv = storeOver(engine, { writeMode: 'immediate' })
  const a = errorOf(Promise.resolve(kv.put('a', 1)))
  ;(await engine.asked()).fail(failure('DISK_FULL'))
  t.equal((await a).code, 'DISK_FULL')
  const b = kv.put('b', 2)
  const asked = await engine.asked()
  t.deepEqual(asked.texts, ['b=2'], 'a is not in it')
  asked.ok()
  await b
  // A partial failure is the failure of those that it names.
  const c = kv.put('c', 3)
  const d = errorOf(Promise.resolve(kv.put('d', 4)))
  const both = await engine.asked()
  t.equal(both.texts.length, 2)
  const { encodeFlushId } = await import('../../lib/wire/flush-id.ts')
  const parts = [{ owner: 'cd'.repeat(32), generation: 1, from: 0, to: 1 }]
  const flushId = encodeFlushId({ request: Buffer.from(both.id, 'hex'), operations: 2, parts })
  both.fail(Object.assign(failure('FLUSH_PARTIAL', { unwritten: [1] }), { flushId }), [0])
  await c
  t.equal((await d).code, 'FLUSH_PARTIAL')
  // Not known: asked for again before anything else, and when it is not there it stays away.
  const e = errorOf(Promise.resolve(kv.put('e', 5)))
  ;(await engine.asked()).fail(failure('IO_ERROR', { uncertain: true }))
  t.equal((await e).data['uncertain'], true)
  const f = kv.put('f', 6)
  const again = await engine.asked()
  t.ok(again.retry)
  again.fail(failure('NOT_WRITER'))
  const last = await engine.asked()
  t.deepEqual(last.texts, ['f=6'])
  last.ok()
  await f
  t.deepEqual(engine.log, ['b=2', 'c=3', 'f=6'])
  t.equal((await kv.flush()).operations, 0, 'nothing is left in the cache')
  await kv.close()
})

test('a put that leaves before the append takes nobody along, and leaves nothing behind', async (t) => {
  const engine = new TestEngine()
  engine.auto = false
  const kv = storeOver(engine, { writeMode: 'immediate' })
  await kv.ready()
  const aborter = new AbortController()
  const a = errorOf(Promise.resolve(kv.put('a', 1, { signal: aborter.signal })))
  const b = kv.put('b', 2)
  t.deepEqual((await engine.asked()).texts, ['a=1', 'b=2'], 'they share a write')
  // The engine has it in its queue, and lets it go.
  aborter.abort()
  t.equal((await a).code, 'ABORTED')
  const again = await engine.asked()
  t.deepEqual(again.texts, ['b=2'], 'b goes on alone')
  again.ok()
  await b
  // Too late: the engine appends it all the same, and that is what the caller is told.
  engine.abortable = false
  const late = new AbortController()
  const c = kv.put('c', 3, { signal: late.signal })
  const appended = await engine.asked()
  late.abort()
  appended.ok()
  await c
  // While another write is under way it just goes, by its timeout too.
  const d = kv.put('d', 4)
  const held = await engine.asked()
  t.equal((await errorOf(Promise.resolve(kv.put('e', 5, { timeout: 1 })))).code, 'TIMEOUT')
  held.ok()
  await d
  engine.auto = true
  await kv.close()
  t.deepEqual(engine.log, ['b=2', 'c=3', 'd=4'])
})

test('group: full, or old, or flushed; one that is alone does not wait', async (t) => {
  const engine = new TestEngine()
  // A delay that no test could sit through.
  const kv = storeOver(engine, { writeMode: 'group', groupCommitSize: 3, groupCommitMs: 1e8 })
  await kv.ready()
  await kv.put('alone', 1)
  await kv.put('alone', 2)
  t.deepEqual(engine.calls, ['write alone=1', 'write alone=2'])
  const two = [kv.put('a', 1), kv.put('b', 1)]
  await new Promise((resolve) => {
    setImmediate(resolve)
  })
  t.equal(engine.calls.length, 2, 'two wait for a third')
  await Promise.all([...two, kv.put('c', 1)])
  t.equal(engine.calls.at(-1), 'write a=1 b=1 c=1')
  const three = [kv.put('d', 1), kv.put('e', 1)]
  await kv.flush()
  await Promise.all(three)
  t.equal(engine.calls.at(-1), 'write d=1 e=1', 'a flush does not wait')
  const four = [kv.put('f', 1), kv.put('g', 1)]
  await kv.close()
  await Promise.all(four)
  t.equal(engine.calls.at(-1), 'write f=1 g=1', 'nor does close()')
  const timed = storeOver(engine, { writeMode: 'group', groupCommitMs: 5 })
  await Promise.all([timed.put('h', 1), timed.put('i', 1)])
  t.equal(engine.calls.at(-1), 'write h=1 i=1', 'the delay ends by itself')
  await timed.close()
  t.throws(() => storeOver(engine, { groupCommitMs: 5 }), /writeMode/)
})

test('manual: put has resolved, close() flushes, close({ flush: false }) throws away', async (t) => {
  const engine = new TestEngine()
  const kv = storeOver(engine)
  await kv.put('a', 1)
  t.deepEqual(engine.calls, [])
  await kv.close()
  t.deepEqual(engine.log, ['a=1'])
  const other = storeOver(engine)
  await other.ready()
  await other.put('b', 1)
  await other.close({ flush: false })
  t.deepEqual(engine.log, ['a=1'])
})

test('group commit shares syncs: 64 puts at a time', async (t) => {
  const { open } = await makeSwarm(t, { start: false })
  const kv = open('w0', { writeMode: 'group', groupCommitSize: 32, timeout: 60_000 })
  await Promise.all(Array.from({ length: 64 }, (_, n) => kv.put(`k${n}`, n)))
  const { queue } = await kv.stats()
  t.ok(queue.physicalSyncs <= 16, `${queue.physicalSyncs} syncs`)
  t.ok(queue.syncsSaved >= 48, `${queue.syncsSaved} saved`)
  t.ok(queue.groupedBatches >= 1)
  t.equal(queue.admissions, queue.executions)
  t.equal(queue.commits, queue.executions)
})

test('a crash loses the cache and nothing else', async (t) => {
  const { open, path } = await makeSwarm(t, { start: false })
  const folder = tmpdir(t)
  const script = join(folder, 'child.mts')
  const lib = join(import.meta.dirname, '..', '..', 'lib', 'index.ts')
  const { writeFile } = await import('node:fs/promises')
  await open('w0').ready()
  await open('w0').close()
  await writeFile(
    script,
    `import { KVSwarm } from ${JSON.stringify(lib)}
const kv = new KVSwarm({ storage: ${JSON.stringify(path('w0'))}, writeMode: process.argv[2] as 'group' })
await kv.ready()
for (let n = 0; n < 20; n++) {
  const done = kv.put('k' + n, n)
  if (n < 10) await done
}
console.log('ready')
setInterval(() => {}, 1000)
`
  )
  let before = 0
  for (const mode of ['immediate', 'group', 'manual']) {
    const child = spawn(process.execPath, ['--import', 'tsx', script, mode], {
      stdio: ['ignore', 'pipe', 'inherit'],
      cwd: join(import.meta.dirname, '..', '..')
    })
    cleanup(t, () => void child.kill('SIGKILL'))
    let out = ''
    child.stdout.on('data', (chunk: Buffer) => {
      out += chunk.toString()
    })
    await until(() => out.includes('ready'), { what: 'the child' })
    child.kill('SIGKILL')
    await once(child, 'exit')
    const kv = open('w0')
    const { queue, outboxes } = await kv.stats()
    t.comment(`${mode}: ${JSON.stringify(outboxes.map(({ pendingBlocks }) => pendingBlocks))}`)
    if (mode === 'manual') t.equal(queue.pendingBlocks, before, 'manual: nothing was written')
    else t.ok(queue.pendingBlocks > before, `${mode}: what was awaited is in the outboxes`)
    before = queue.pendingBlocks
    await kv.close()
  }
})
