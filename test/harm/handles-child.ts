/** A node in a process that may open few files: it runs out of them, and gets them back. Prints what happened. */
import { closeSync, openSync } from 'node:fs'
import { join } from 'node:path'
import { Config, type Config as ConfigType } from '../../config/index.ts'
import { isKVSwarmError, KVSwarm, MemoryHub } from '../../lib/index.ts'

const folder = process.argv[2] as string
const taken: number[] = []

/** Takes every handle but for so many. */
function exhaust(leave: number): void {
  try {
    for (;;) taken.push(openSync('/dev/null', 'r'))
  } catch {
    for (let i = 0; i < leave; i++) giveBack()
  }
}

function giveBack(): void {
  const fd = taken.pop()
  if (fd !== undefined) closeSync(fd)
}

async function outcome(promise: Promise<unknown>): Promise<{ code: string; hint: string }> {
  try {
    await promise
    return { code: 'done', hint: '' }
  } catch (error) {
    if (isKVSwarmError(error)) return { code: error.code, hint: error.hint }
    return { code: String(error), hint: '' }
  }
}

const storage = join(folder, 'x')
const first = new KVSwarm({ storage })
await first.ready()
const { nodeId } = first
await first.close()
const config: ConfigType = new Config({ capacities: { ['ab'.repeat(32)]: 1 }, writers: [nodeId] })
const open = (): KVSwarm => {
  const kv = new KVSwarm({ storage, config, network: new MemoryHub().network(), lockTimeout: 2000 })
  kv.on('error', () => {})
  return kv
}

// Opening without a handle.
exhaust(0)
const refused = open()
const opening = await outcome(refused.ready())
await refused.close().catch(() => {})
while (taken.length > 0) giveBack()

// Running out while writing, past the end of the store's present log file.
let kv = open()
const flushed: string[] = []
flushed.push((await kv.set('before', 1)).id)
exhaust(0)
let writing = { code: 'done', hint: '' }
for (let i = 0; i < 90 && writing.code === 'done'; i++) {
  writing = await outcome(
    kv.set(`key ${i}`, 'x'.repeat(1024 * 1024)).then(({ id }) => flushed.push(id))
  )
}
const during = flushed.length
while (taken.length > 0) giveBack()
const after = await outcome(kv.set('after', 1).then(({ id }) => flushed.push(id)))
await kv.close().catch(() => {})

// Whatever it was: what was flushed is there.
kv = open()
const missing: string[] = []
for (const id of flushed) {
  const { code } = await outcome(kv.receipt(id, { timeout: 0 }))
  if (code !== 'TIMEOUT') missing.push(code)
}
const again = await outcome(kv.set('again', 1))
await kv.close()
process.stdout.write(`${JSON.stringify({ opening, writing, during, after, missing, again })}\n`)
