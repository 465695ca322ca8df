/**
 * 100,000 keys, two writers, three storage nodes: readable everywhere, spread by capacity, and to be had one
 * by one for few bytes.
 *
 * time limit: 6 min
 */
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import test from 'tape'
import { Config } from '../../config/index.ts'
import type { KVSwarm, Status } from '../../lib/index.ts'
import { random } from '../helpers/random.ts'
import { Disk } from './disk.ts'
import { makeSite } from './site.ts'

const count = 100_000
/** A typical small value, in characters. */
const valueLength = 100
/** Of the capacity's share. */
const shareTolerance = 0.02
/** Of the bytes of the three indexes. */
const freshReaderMax = 0.01
const samples = 200
/** A list over the network takes as long as it takes; the file has a limit. */
const patient = { timeout: 300_000 }

function keyOf(i: number): string {
  return `key-${String(i).padStart(6, '0')}`
}

function valueOf(i: number): string {
  return `value of ${i} `.padEnd(valueLength, '.')
}

/** Lists all keys at a node. @returns how many each storage node owns, by id, and what is wrong */
async function listAll(
  kv: KVSwarm,
  ownerOf: (key: string) => string
): Promise<{ owned: Map<string, number>; faults: string[] }> {
  const owned = new Map<string, number>()
  const faults: string[] = []
  let next = 0
  for await (const { key, value } of kv.list({}, { ...patient, fresh: true })) {
    const expected = keyOf(next)
    if (key !== expected || value !== valueOf(next)) {
      faults.push(`expected ${expected}, got ${String(key)}`)
      if (faults.length > 10) break
    }
    next++
    const owner = ownerOf(String(key))
    owned.set(owner, (owned.get(owner) ?? 0) + 1)
  }
  if (next !== count) faults.push(`${next} keys`)
  return { owned, faults }
}

test('100,000 keys', async (t) => {
  const source = random(t)
  const site = await makeSite(t)
  const { config } = site
  const storage = ['a', 'b', 'c']
  await site.listen(...storage)

  const since = performance.now()
  const passed = (what: string): void => {
    t.comment(`${what} after ${((performance.now() - since) / 1000).toFixed(1)} s`)
  }
  const halves = await Promise.all(
    ['x', 'y'].map(async (writer, half) => {
      const path = join(site.folder, `${writer}.ndjson`)
      const lines = Array.from({ length: count / 2 }, (_, i) => {
        const n = i * 2 + half
        return JSON.stringify({ put: keyOf(n), value: valueOf(n) })
      })
      writeFileSync(path, `${lines.join('\n')}\n`)
      const args = ['write', '--from', path, '--receipt', '--timeout', '300s']
      return await site.run(writer, args, { timeoutMs: 320_000 })
    })
  )
  for (const { code, stderr } of halves) t.deepEqual({ code, stderr }, { code: 0, stderr: '' })
  passed('written and receipted')

  const fresh = site.open('fresh')
  await fresh.connect()
  const i = source.int(0, count - 1)
  t.equal(await fresh.get(keyOf(i)), valueOf(i), `a fresh reader gets ${keyOf(i)}`)
  const { peers } = await fresh.status()
  t.ok(peers.length > 0)
  const received = peers.reduce((sum, peer) => sum + peer.bytesReceived, 0)
  // What the indexes hold at the very least: less than their logs, so that the test is the stricter one.
  let entryBytes = 0
  for (let n = 0; n < count; n++) entryBytes += keyOf(n).length + valueOf(n).length
  const percent = (100 * received) / entryBytes
  t.ok(
    received < freshReaderMax * entryBytes,
    `it received ${received} bytes, ${percent.toFixed(3)} % of ${entryBytes}`
  )
  await fresh.close()

  let indexBytes = 0
  for (const name of storage) {
    const status = await site.run(name, ['status', '--json'])
    const { index } = JSON.parse(status.stdout) as Status
    indexBytes += await Disk.look(site.directory(name), (disk) =>
      disk.indexBytes(index?.generation ?? 0)
    )
  }
  t.ok(received < freshReaderMax * indexBytes, `the logs of the three indexes: ${indexBytes} bytes`)

  const sampled = Array.from({ length: samples }, () => source.int(0, count - 1))
  for (const name of [...storage, 'x', 'y']) {
    // A storage node is asked through the process that holds its directory.
    const kv = site.open(name)
    if (!storage.includes(name)) await kv.connect()
    const got = await Promise.all(sampled.map((n) => kv.get(keyOf(n), patient)))
    t.deepEqual(got, sampled.map(valueOf), `${name}: ${samples} gets`)
    passed('read')
    const { owned, faults } = await listAll(kv, (key) => config.ownerOf(key))
    t.deepEqual(faults, [], `${name}: all ${count} keys, in order`)
    passed('listed')
    if (storage.includes(name)) {
      const id = site.id(name)
      const share = Number(config.shareOf(id)) / Number(Config.SPACE)
      const relative = (owned.get(id) ?? 0) / (count * share) - 1
      t.ok(
        Math.abs(relative) <= shareTolerance,
        `${name} holds ${owned.get(id)}, ${(100 * relative).toFixed(2)} % beside its share`
      )
    }
    await kv.close()
  }
})
