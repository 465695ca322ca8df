/**
 * `npm run test:fault -- [--seed N] [--minutes M]`: one run of real processes under faults (test/fault/).
 *
 * The seed decides the faults, to whom and when, and what each client calls; it is printed first, and the same
 * seed makes the same run. Exit code 1 when a promise was not kept.
 */
import { randomInt } from 'node:crypto'
import { spawnSync } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'

const { values } = parseArgs({
  options: { seed: { type: 'string' }, minutes: { type: 'string', default: '1' } }
})
const seed = Number(values.seed ?? randomInt(0, 2 ** 31 - 1))
const minutes = Number(values.minutes)
if (!Number.isInteger(seed) || seed < 0 || !(minutes > 0)) {
  process.stderr.write('usage: npm run test:fault -- [--seed N] [--minutes M]\n')
  process.exit(2)
}
process.stdout.write(`seed ${seed}, ${minutes} min\n`)
const { status } = spawnSync(
  process.execPath,
  ['--import', 'tsx', 'scripts/run-file.ts', 'test/fault/faults.test.ts'],
  {
    cwd: fileURLToPath(new URL('..', import.meta.url)),
    stdio: 'inherit',
    env: {
      ...process.env,
      KVSWARM_TEST_SEED: String(seed),
      KVSWARM_TEST_FAULT_MINUTES: String(minutes)
    }
  }
)
process.exitCode = status ?? 1
