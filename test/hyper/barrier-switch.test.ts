// The barrier while the store replaces its write-ahead log.
import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import test from 'tape'
import { isKVSwarmError } from '../../lib/errors.ts'
import { Barrier } from '../../lib/hyper/barrier.ts'
import { tmpdir } from '../helpers/tmp.ts'

test('a log that is gone before it is opened was replaced: the next one is synced', async (t) => {
  const path = join(tmpdir(t), 'db')
  await mkdir(path)
  await writeFile(join(path, '000009.log'), 'new')
  const names = ['000004.log', '000009.log']
  const asked: string[] = []
  const barrier = new Barrier<never>(
    {
      path,
      currentWalFile: () => {
        const name = names[Math.min(asked.length, names.length - 1)] as string
        asked.push(name)
        return Promise.resolve({ path: join(path, name), number: Number.parseInt(name, 10) })
      }
    },
    () => Promise.resolve()
  )
  await barrier.sync()
  t.deepEqual(asked, ['000004.log', '000009.log'])
  t.equal(barrier.failure, null)
  await barrier.close()
})

test('a log that stays missing is a failure, and ends it', async (t) => {
  const path = join(tmpdir(t), 'db')
  await mkdir(path)
  const barrier = new Barrier<never>(
    {
      path,
      currentWalFile: () => Promise.resolve({ path: join(path, '000004.log'), number: 4 })
    },
    () => Promise.resolve()
  )
  const error: unknown = await barrier.sync().catch((thrown: unknown) => thrown)
  t.ok(isKVSwarmError(error, 'IO_ERROR'), String(error))
  t.ok(barrier.failure !== null)
  await barrier.close()
})
