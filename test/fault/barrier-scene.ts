/** The scenes of barrier.test.ts. A file `mark-N` in the root is made after each step. */
import { appendFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { Barrier } from '../../lib/hyper/barrier.ts'
import { Store } from '../../lib/hyper/store.ts'

const [, , scene, root = ''] = process.argv
const folder = join(root, 'db')
let marks = 0
const mark = (): void => writeFileSync(join(root, `mark-${marks++}`), '')
const log = (number: number): string => join(folder, `${String(number).padStart(6, '0')}.log`)
const write = (number: number, bytes: number): void =>
  appendFileSync(log(number), Buffer.alloc(bytes, 1))

function barrierAt(current: { number: number }): Barrier<never> {
  const source = {
    path: folder,
    currentWalFile: () => Promise.resolve({ path: log(current.number), number: current.number })
  }
  return new Barrier<never>(source, () => Promise.resolve())
}

if (scene === 'switch') {
  const current = { number: 4 }
  const barrier = barrierAt(current)
  write(4, 10)
  mark()
  await barrier.sync()
  mark()
  write(4, 10)
  write(6, 30)
  write(9, 40)
  current.number = 9
  await barrier.sync()
  mark()
  await barrier.close()
} else if (scene === 'group') {
  const barrier = barrierAt({ number: 4 })
  write(4, 1)
  const first = barrier.sync()
  await new Promise((resolve) => setImmediate(resolve))
  const later = Array.from({ length: 50 }, () => {
    write(4, 1)
    return barrier.sync()
  })
  await Promise.all([first, ...later])
  mark()
  await barrier.close()
} else {
  const store = await Store.open({ directory: root, durability: 'sync' })
  // What replication does with a block of somebody else: it is put into the store, and nothing is synced.
  const node = 'a'.repeat(64)
  const core = (await store.peerLog({ kind: 'outbox', node, owner: store.nodeId }, 7)).core
  await core.setUserData('x', Buffer.alloc(5000, 7))
  mark()
  await store.sync()
  mark()
  await store.close()
}
