/** What a power cut leaves of a write-ahead log is told from damage, and cut off. */
import { mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import test from 'tape'
import { Marks } from '../../lib/hyper/marks.ts'
import { Store } from '../../lib/hyper/store.ts'
import { checkLogs, cutTornLogs, firstBroken, firstDamaged } from '../../lib/hyper/wal.ts'
import { errorOf } from '../helpers/errors.ts'
import { random } from '../helpers/random.ts'
import { tmpdir } from '../helpers/tmp.ts'

const node = '1'.repeat(64)

/** The write-ahead log of a real store, long enough for several blocks; and where its records end. */
async function realLog(folder: string): Promise<Buffer> {
  const store = await Store.open({ directory: folder, durability: 'sync' })
  const name = { kind: 'index', node: store.nodeId } as const
  const log = await store.begin(name, store.nextGeneration(name))
  // Zeros in it, as its bitfield pages have: they are no holes.
  for (let i = 0; i < 24; i++) await log.append([Buffer.alloc(3000 + i * 97, i % 3)])
  await log.close()
  await store.close()
  const file = readdirSync(join(folder, 'db')).find((file) => file.endsWith('.log'))
  return readFileSync(join(folder, 'db', file ?? ''))
}

/** Ends of the records, as the format says. */
function recordEnds(bytes: Buffer): number[] {
  const ends: number[] = []
  for (let at = 0; at + 7 <= bytes.length;) {
    const rest = 32_768 - (at % 32_768)
    if (rest < 7) {
      at += rest
      continue
    }
    at += 7 + bytes.readUInt16LE(at + 4)
    ends.push(at)
  }
  return ends
}

test('a hole is found at the record that it lies in, a whole log is whole', async (t) => {
  const source = random(t)
  const bytes = await realLog(join(tmpdir(t), 'a'))
  const ends = recordEnds(bytes)
  t.ok(bytes.length > 100_000 && ends.length > 24, `${bytes.length} bytes, ${ends.length} records`)
  t.equal(firstBroken(bytes), null, 'a whole log is whole')
  const padded = Buffer.concat([bytes, Buffer.alloc(100_000)])
  t.equal(firstBroken(padded), null, 'also with a length beyond what was written')
  let wrong = 0
  for (let i = 0; i < 300; i++) {
    const synced = source.pick([0, ...ends.slice(0, -1)])
    // A sector that went to disk before, and not again since more was appended to it.
    const at = source.int(synced, bytes.length - 1)
    const sectorEnd = Math.min(bytes.length, (Math.floor(at / 512) + 1) * 512)
    const cut = Buffer.from(bytes).fill(0, at, sectorEnd)
    const changed = !cut.equals(bytes)
    const end = ends.find((end) => end > at) ?? bytes.length
    const begin = ends.filter((one) => one <= at).at(-1) ?? 0
    const broken = firstBroken(cut, synced)
    // Where nothing but zeros follows, it is an end.
    const isEnd = cut.subarray(begin).every((byte) => byte === 0)
    if (!changed || isEnd ? broken !== null : broken === null || broken > end) wrong++
    if (broken !== null && broken < synced - (synced % 32_768)) wrong++
  }
  t.equal(wrong, 0, 'every hole is found where it is')
})

test('what was synced is never cut off, whatever is wrong with it', async (t) => {
  const source = random(t)
  const bytes = await realLog(join(tmpdir(t), 'a'))
  const ends = recordEnds(bytes)
  const lost: string[] = []
  for (let i = 0; i < 1000; i++) {
    const synced = source.pick(ends)
    const damaged = Buffer.from(bytes)
    const from = source.chance(0.5) ? Math.max(0, synced - 300) : 0
    const at = source.int(from, synced - 1)
    damaged[at] = (damaged[at] ?? 0) ^ (1 << source.int(0, 7))
    const broken = firstBroken(damaged, synced)
    if (broken !== null) lost.push(`${at} of ${synced}: cut at ${broken}`)
  }
  t.deepEqual(lost, [], 'a flipped bit before that place cuts nothing off')
  t.equal(firstBroken(Buffer.from(bytes).fill(0, 100, 200), bytes.length), null, 'nor do zeros')
})

test('logs are cut, later ones emptied, earlier ones left alone', async (t) => {
  const folder = tmpdir(t)
  const bytes = await realLog(join(folder, 'a'))
  const ends = recordEnds(bytes)
  const third = ends[2] ?? 0
  const holed = Buffer.from(bytes).fill(0, third, third + 512)
  const db = join(folder, 'db')
  mkdirSync(db)
  for (const name of ['000004.log', '000007.log', '000009.log']) {
    writeFileSync(join(db, name), name === '000009.log' ? bytes : holed)
  }
  writeFileSync(join(db, 'LOG'), holed)
  await cutTornLogs(db, { number: 7, bytes: third })
  const sizeOf = (name: string): number => statSync(join(db, name)).size
  t.equal(sizeOf('000004.log'), bytes.length, 'synced: left alone')
  t.equal(sizeOf('000007.log'), third, 'cut off at the hole')
  t.equal(sizeOf('000009.log'), 0, 'later: emptied')
  t.equal(sizeOf('LOG'), bytes.length, 'no log')
  await cutTornLogs(join(folder, 'nowhere'), { number: 1, bytes: 0 })
})

test('damage within a log is found wherever it is; what only shortens the end is none', async (t) => {
  const source = random(t)
  const bytes = await realLog(join(tmpdir(t), 'a'))
  const ends = recordEnds(bytes)
  t.equal(firstDamaged(bytes), null, 'a whole log is whole')
  t.equal(firstDamaged(Buffer.concat([bytes, Buffer.alloc(70_000)])), null, 'and with zeros behind')
  const lastAt = ends.at(-2) ?? 0
  const wrong: string[] = []
  for (let i = 0; i < 1000; i++) {
    const flipped = Buffer.from(bytes)
    const at = source.int(0, lastAt - 1)
    const bit = source.int(0, 7)
    flipped[at] = (flipped[at] ?? 0) ^ (1 << bit)
    const begin = ends.filter((end) => end <= at).at(-1) ?? 0
    const found = firstDamaged(flipped)
    // The few bytes that fill up a block are of no record.
    const isFiller = at >= begin && 32_768 - (begin % 32_768) < 7 && at < begin + 6
    if (isFiller ? found !== null : found === null || found > at)
      wrong.push(`${at}:${bit}: ${found}`)
    const cut = bytes.subarray(0, source.int(0, bytes.length))
    if (firstDamaged(cut) !== null) wrong.push(`cut at ${cut.length}`)
    const torn = firstDamaged(flipped, 0)
    if (torn !== null && at - torn > 6) wrong.push(`${at}:${bit}: what may be torn is no damage`)
  }
  t.deepEqual(wrong, [])
})

test('a type of record at which the library hangs is damage, in MANIFEST and logs', async (t) => {
  const folder = join(tmpdir(t), 'a')
  await realLog(folder)
  const db = join(folder, 'db')
  const files = readdirSync(db).filter((name) => /^MANIFEST|\.log$/.test(name))
  t.equal(files.length, 2, files.join(', '))
  for (const name of files) {
    const path = join(db, name)
    const bytes = readFileSync(path)
    const at = recordEnds(bytes)[0] ?? 0
    for (const type of [5, 6, 7, 8]) {
      const harmed = Buffer.from(bytes)
      harmed[at + 6] = type
      writeFileSync(path, harmed)
      for (const synced of [null, { number: 1, bytes: 0 }]) {
        const error = await errorOf(checkLogs(db, synced))
        t.equal(error.code, 'DATADIR_DAMAGED', `${name}, type ${type}`)
        t.ok(error.message.includes(`${path} is damaged at byte ${at}`), error.message)
      }
      const opening = await errorOf(Store.open({ directory: folder, durability: 'sync' }))
      t.equal(opening.code, 'DATADIR_DAMAGED')
      t.ok(opening.hint.includes('kvswarm restore'), 'the way out')
    }
    writeFileSync(path, bytes)
  }
  const store = await Store.open({ directory: folder, durability: 'sync' })
  t.equal(store.ownNames('index').length, 1, 'nothing was written meanwhile; the store is free')
  await store.close()
})

test('how far the log was synced is known after an unclean end only', async (t) => {
  const path = join(tmpdir(t), 'kvswarm.marks')
  t.equal(await Marks.synced(path), 'nothing', 'no file')
  const marks = await Marks.open(path, node, 'sync')
  await marks.write([], { number: 3, bytes: 10 })
  t.equal(await Marks.synced(path), null, 'not begun')
  await marks.begin()
  t.deepEqual(await Marks.synced(path), { number: 3, bytes: 10 })
  const mark = { name: { kind: 'index', node } as const, generation: 1, length: 1, hashLength: 0 }
  await marks.write([{ ...mark, hash: Buffer.alloc(32) }], { number: 4, bytes: 77 })
  t.deepEqual(await Marks.synced(path), { number: 4, bytes: 77 })
  await marks.close(true)
  t.equal(await Marks.synced(path), null, 'all is synced')
  const again = await Marks.open(path, node, 'sync')
  t.deepEqual(again.last, { clean: true, durability: 'sync' })
  t.equal(again.find(mark.name, 1)?.length, 1)
  await again.close(false)
})
