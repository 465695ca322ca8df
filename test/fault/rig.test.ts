/** The rig does to a process what it says: disk, network, clock; and its journal is complete. */
import { writeFileSync, readFileSync, readdirSync, statSync } from 'node:fs'
import { join } from 'node:path'
import test from 'tape'
import { needs } from '../helpers/needs.ts'
import { commandLine, runProgram } from '../helpers/process.ts'
import { random } from '../helpers/random.ts'
import { tmpdir } from '../helpers/tmp.ts'
import { findFaketime } from './driver/faketime.ts'
import { Disks } from './disk/image.ts'
import { buildDisk, readJournal, journalledRoot } from './disk/journal.ts'

/** Runs a piece of JavaScript under the library; gives what it prints. */
async function script(code: string, env: Record<string, string>): Promise<string> {
  const { stdout, stderr } = await runProgram(
    [process.execPath, '--input-type=module', '-e', code],
    { env }
  )
  if (stderr !== '') throw new Error(stderr)
  return stdout.trim()
}

function control(folder: string, values: readonly number[]): string {
  const path = join(folder, 'control')
  writeFileSync(path, Uint8Array.from(Buffer.from(Uint32Array.from(values).buffer)))
  return path
}

test('a slow disk, a lossy network', needs('gcc'), async (t) => {
  const folder = tmpdir(t)
  const env = { LD_PRELOAD: buildDisk(folder), KVS_DISK_ROOT: folder, UV_USE_IO_URING: '0' }
  const sync = `
    import { fdatasyncSync, openSync, writeSync } from 'node:fs'
    const fd = openSync('${folder}/file', 'a')
    const from = performance.now()
    writeSync(fd, 'x')
    fdatasyncSync(fd)
    console.log(performance.now() - from)`
  const slow = { ...env, KVS_DISK_CONTROL: control(folder, [300_000, 100_000, 0]) }
  t.ok(Number(await script(sync, slow)) >= 400, 'a write and a sync are held up')

  const talk = `
    import { createSocket } from 'node:dgram'
    const socket = createSocket('udp4')
    let heard = 0
    socket.on('message', () => heard++)
    await new Promise((resolve) => socket.bind(0, '127.0.0.1', resolve))
    for (let i = 0; i < 400; i++) {
      await new Promise((resolve) => socket.send('x', socket.address().port, '127.0.0.1', resolve))
      await new Promise((resolve) => setImmediate(resolve))
    }
    await new Promise((resolve) => setTimeout(resolve, 50))
    console.log(heard)
    socket.close()`
  const heard = async (loss: number): Promise<number> =>
    Number(await script(talk, { ...env, KVS_DISK_CONTROL: control(folder, [0, 0, loss]) }))
  t.equal(await heard(0), 400, 'nothing is lost without a fault')
  t.equal(await heard(1000), 0, 'cut off')
  const some = await heard(300)
  t.ok(some > 100 && some < 300, `${some} of 400 came through when 3 of 10 are lost each way`)
})

test('a clock that jumps', needs('libfaketime'), async (t) => {
  const clock = join(tmpdir(t), 'clock')
  writeFileSync(clock, '+0\n')
  const code = `
    import { writeFileSync } from 'node:fs'
    const before = [Date.now(), performance.now(), process.hrtime.bigint()]
    writeFileSync('${clock}', '+86400\\n')
    const now = [Date.now(), performance.now(), process.hrtime.bigint()]
    console.log(JSON.stringify(now.map((value, i) => Number(value - before[i]))))`
  const [wall = 0, monotonic = 0, high = 0] = JSON.parse(
    await script(code, {
      LD_PRELOAD: findFaketime() ?? '',
      FAKETIME_TIMESTAMP_FILE: clock,
      FAKETIME_NO_CACHE: '1',
      FAKETIME_DONT_FAKE_MONOTONIC: '1'
    })
  ) as number[]
  t.ok(wall > 86_000_000, 'the wall clock jumps by a day')
  t.ok(monotonic < 60_000 && high < 60e9, 'monotonic time does not')
})

/** Contents by path; of what the rig does not follow, or cannot be the same, the name alone. */
function contents(folder: string): Record<string, string> {
  const found: Record<string, string> = {}
  for (const path of readdirSync(folder, { recursive: true, encoding: 'utf8' })) {
    const file = join(folder, path)
    if (statSync(file).isDirectory()) found[path] = 'folder'
    else found[path] = path.endsWith('/LOG') ? 'a text log' : readFileSync(file).toString('base64')
  }
  return found
}

test('the journal has every change of the disk', needs('gcc'), async (t) => {
  const folder = tmpdir(t)
  const { root, path, env } = journalledRoot(folder, 'nodes')
  // Three lives: made, opened again, opened again.
  for (let i = 0; i < 3; i++) {
    const { code } = await runProgram([...commandLine(), 'id', '-d', join(root, 'nodes/a')], {
      env
    })
    t.equal(code, 0)
  }
  const disks = new Disks()
  const records = readJournal(path)
  for (const record of records) disks.add(record)
  const into = join(folder, 'image')
  disks.write('/nodes', 'all', random(t), into)
  t.deepEqual(contents(into), contents(root), 'the image of everything is the folder')
  t.ok(records.some(({ type }) => type === 'sync ends') && records.length > 100, 'with its syncs')
})
