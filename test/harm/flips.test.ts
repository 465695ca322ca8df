// Damage to any file of a data directory: a flipped bit, a cut-off end, a missing file. Either everything is as it was,
// or an error says so, with where and what to do; never a wrong value, a shorter log or a missing key in silence.
import { readFileSync, rmSync, statSync, truncateSync, writeFileSync } from 'node:fs'
import { basename, join } from 'node:path'
import test, { type Test } from 'tape'
import { isKVSwarmError } from '../../lib/errors.ts'
import { random, type Random } from '../helpers/random.ts'
import { tmpdir } from '../helpers/tmp.ts'
import { allOf, filesOf, makeTemplates, ownLogs, settle } from './templates.ts'
import type { Template, Templates } from './templates.ts'

const flips = 300
const truncations = 50
const removals = 50

type Harm = 'flip' | 'truncate' | 'remove'

/** What damage may be told by. */
const codes = ['DATADIR_DAMAGED', 'DATADIR_MOVED', 'DATADIR_VERSION'] as const

test('untouched copies give all that is in them', async (t) => {
  const templates = await makeTemplates(t)
  const root = tmpdir(t)
  for (const template of templates.list) {
    const directory = join(root, template.name)
    settle(template, directory)
    t.equal(await wrong(templates, template, directory), null, template.name)
    const kv = templates.open(directory)
    const status = await kv.status()
    // Not a new generation: the copies are taken for the originals, so that flips are judged alone.
    const generations = status.outboxes.length
    t.equal(generations, template.role === 'writer' ? 1 : 0, `${template.name}: outboxes`)
    await kv.close()
  }
})

// Seed 480543433, case 56: the storage library went round for ever in a thread that nothing ends.
test('a bit of a MANIFEST that made opening hang', async (t) => {
  const templates = await makeTemplates(t)
  const template = templates.list[0] as Template
  const directory = join(tmpdir(t), template.name)
  settle(template, directory)
  const file = filesOf(directory).find((name) => name.startsWith('db/MANIFEST-')) ?? ''
  const bytes = readFileSync(join(directory, file))
  let at = 0
  for (let record = 0; record < 7; record++) at += 7 + bytes.readUInt16LE(at + 4)
  t.equal(bytes[at + 6], 1, `${file}: at ${at + 6} of ${bytes.length} is the type of a record`)
  bytes[at + 6] = 1 ^ (1 << 2)
  writeFileSync(join(directory, file), bytes)
  const error: unknown = await wrong(templates, template, directory).catch((thrown) => thrown)
  t.ok(told(t, error, 'opening it again', directory, file), 'it names the file')
  for (const other of [template, templates.list[1] as Template]) {
    const path = join(tmpdir(t), other.name)
    settle(other, path)
    t.equal(
      await wrong(templates, other, path),
      null,
      'a store beside it opens in the same process'
    )
  }
})

test('seeded damage is noticed, or does no harm', async (t) => {
  const templates = await makeTemplates(t)
  const numbers = random(t)
  const root = tmpdir(t)
  const harms: Harm[] = [
    ...Array.from({ length: flips }, (): Harm => 'flip'),
    ...Array.from({ length: truncations }, (): Harm => 'truncate'),
    ...Array.from({ length: removals }, (): Harm => 'remove')
  ]
  const counts = { harmless: 0, noticed: 0, named: 0 }
  for (const [n, harm] of harms.entries()) {
    const template = templates.list[n % templates.list.length] as Template
    const directory = join(root, String(n))
    settle(template, directory)
    const file = pickFile(directory, numbers)
    const where = damage(join(directory, file), harm, numbers)
    const what = `${n}: ${template.name}, ${harm} ${file} ${where}`
    try {
      const difference = await wrong(templates, template, directory)
      if (difference === null) counts.harmless++
      else t.fail(`${what}: ${difference}`)
    } catch (error) {
      counts.noticed++
      if (told(t, error, what, directory, file)) counts.named++
    }
    rmSync(directory, { recursive: true })
  }
  const { harmless, noticed, named } = counts
  t.comment(
    `${harms.length} damages: ${harmless} harmless, ${noticed} noticed, ${named} by the file's name`
  )
  t.equal(harmless + noticed, harms.length, 'all came to one or the other')
  t.ok(noticed > harms.length / 4, `${noticed} noticed`)
  t.ok(named > noticed / 2, `${named} named the file`)
})

/** What is wrong with what a directory gives; null: nothing. */
async function wrong(
  templates: Templates,
  template: Template,
  directory: string
): Promise<string | null> {
  const expected = templates.logs.get(template.role) ?? []
  const logs = await ownLogs(directory)
  if (logs.length < expected.length) return `${logs.length} of ${expected.length} blocks`
  const block = expected.findIndex((text, i) => logs[i] !== text)
  if (block !== -1) return `block ${block} is another one`
  const kv = templates.open(directory)
  try {
    if (template.role === 'writer') {
      const { outboxes } = await kv.status()
      // What is known of the index's cursor may be damaged: then more seems to be pending.
      const pending = outboxes[0]?.pendingBlocks ?? 0
      return pending >= templates.waiting.size ? null : 'fewer blocks are pending'
    }
    await kv.listen()
    const entries = await allOf(kv)
    if (entries.size !== templates.applied.size) return `${entries.size} entries`
    for (const [key, value] of templates.applied) {
      if (entries.get(key) !== value) return `another value of ${key} in the list`
      if ((await kv.get(key, { wait: false })) !== value) return `another value of ${key}`
    }
    return null
  } finally {
    await kv.close()
  }
}

/** What holds data is chosen more often. */
function pickFile(directory: string, numbers: Random): string {
  const files = filesOf(directory).filter((file) => !file.startsWith('db/LOG'))
  const weighted = files.flatMap((file) =>
    /\.(?:sst|blob|log|json|marks)$/.test(file) ? [file, file, file, file] : [file]
  )
  return numbers.pick(weighted)
}

function damage(path: string, harm: Harm, numbers: Random): string {
  const { size } = statSync(path)
  const at = numbers.int(0, Math.max(0, size - 1))
  if (harm === 'remove') rmSync(path)
  else if (harm === 'truncate') truncateSync(path, at)
  else if (size > 0) {
    const bytes = readFileSync(path)
    bytes[at] = (bytes[at] ?? 0) ^ (1 << numbers.int(0, 7))
    writeFileSync(path, bytes)
  }
  return `${at} of ${size}`
}

/** The error has a code, a place and a way out. @returns whether it names the very file */
function told(t: Test, error: unknown, what: string, directory: string, file: string): boolean {
  if (!isKVSwarmError(error, ...codes)) {
    t.fail(`${what}: ${String(error)}`)
    return false
  }
  const { message, hint } = error
  const placed = message.includes(directory) || message.includes('db/ of the data directory')
  if (!placed || hint === '') t.fail(`${what}: neither place nor way out in '${message}' (${hint})`)
  return message.includes(basename(file))
}
