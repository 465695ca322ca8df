/**
 * An own index under load whose process is killed again and again, while journals become runs and runs are merged: what
 * was told is there, each batch whole, and nothing is left behind.
 *
 * KVSWARM_TEST_KILLS: how many (100).
 *
 * time limit: 10 min
 */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import test from 'tape'
import { deadline } from '../helpers/events.ts'
import { spawnSource } from '../helpers/process.ts'
import { random, randomOf } from '../helpers/random.ts'
import { tmpdir } from '../helpers/tmp.ts'
import { lastTold, type Life } from './batches.ts'

const kills = Number(process.env['KVSWARM_TEST_KILLS'] ?? 100)
/** Indexes that are killed at the same time, each in turn. */
const indexes = 2

test(`${kills} kills`, async (t) => {
  const { seed } = random(t)
  const faults: string[] = []
  const told: number[] = []
  const killOften = async (which: number): Promise<void> => {
    const source = randomOf(seed + which)
    const folder = tmpdir(t)
    const life: Life = {
      directory: join(folder, 'data'),
      told: join(folder, 'told'),
      seed: source.int(0, 2 ** 30),
      batches: 1_000_000
    }
    for (let left = Math.ceil(kills / indexes); left > 0; left--) {
      const running = spawnSource(t, 'test/lsm/load.ts', [JSON.stringify(life)])
      // From the very start on, at times; mostly while it is under load.
      if (source.chance(0.9)) await running.line(0, 60_000).catch(() => {})
      await sleep(source.int(0, 250))
      running.kill('SIGKILL')
      const { signal, code } = await deadline(running.exit, 30_000, 'the end of the process')
      if (signal !== 'SIGKILL') {
        faults.push(`index ${which}, ${left} left: code ${code}: ${running.stderr}`)
        return
      }
    }
    const check: Life = { ...life, batches: 0 }
    const last = spawnSource(t, 'test/lsm/load.ts', [JSON.stringify(check)])
    const { code } = await deadline(last.exit, 60_000, 'the last life')
    if (code !== 0) faults.push(`index ${which}, in the end: ${last.stderr}`)
    told.push(lastTold(readFileSync(life.told, 'utf8')))
  }
  await Promise.all(Array.from({ length: indexes }, (_, which) => killOften(which)))
  t.deepEqual(faults, [], 'what was told is there, whole, and no cores are left behind')
  t.ok(Math.min(...told) > kills / 4, `${told.join(' and ')} batches were told`)
})
