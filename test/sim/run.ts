/**
 * Runs schedules of the simulation, from a seed on: `npx tsx test/sim/run.ts --schedules 100000 [--seed 1]
 * [--workers 2]`; or one of them again, with all that happened: `npx tsx test/sim/run.ts --seed N --trace`.
 *
 * Ends with code 1 at the first finding, and prints its seed and its last steps.
 */
import { spawn } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { Finding, World } from './world.ts'

/** Steps that are shown of a finding. */
const tailLength = 30

const { values } = parseArgs({
  options: {
    schedules: { type: 'string', default: '1' },
    seed: { type: 'string', default: '1' },
    workers: { type: 'string', default: '1' },
    trace: { type: 'boolean', default: false }
  }
})

function print(line: string): void {
  process.stdout.write(`${line}\n`)
}

/** @returns whether all went well */
function runOne(seed: number, trace: boolean): boolean {
  const lines: string[] = []
  const world = new World(seed, trace ? (line) => lines.push(line) : null)
  try {
    world.run()
    if (trace) for (const line of lines) print(line)
    return true
  } catch (error) {
    if (!(error instanceof Finding)) throw error
    if (!trace) return runOne(seed, true)
    const shown = values.trace ? lines : lines.slice(-tailLength)
    for (const line of shown) print(line)
    print(`finding: ${error.message} (seed ${seed}, step ${error.step})`)
    print(`again: npx tsx test/sim/run.ts --seed ${seed} --trace`)
    return false
  }
}

function runAll(seed: number, schedules: number): boolean {
  const started = performance.now()
  for (let i = 0; i < schedules; i++) if (!runOne(seed + i, values.trace)) return false
  const perSecond = (schedules * 1000) / (performance.now() - started)
  print(`${schedules} schedules from seed ${seed}: no finding (${perSecond.toFixed(0)} per second)`)
  return true
}

/** Shares the schedules among processes. */
async function runShared(seed: number, schedules: number, workers: number): Promise<boolean> {
  const share = Math.ceil(schedules / workers)
  const codes = await Promise.all(
    Array.from({ length: workers }, (_, i) => {
      const count = Math.min(share, schedules - i * share)
      const options = ['--schedules', String(count), '--seed', String(seed + i * share)]
      const self = fileURLToPath(import.meta.url)
      const child = spawn(process.execPath, [...process.execArgv, self, ...options], {
        stdio: 'inherit'
      })
      return new Promise<number | null>((resolve, reject) => {
        child.on('error', reject)
        child.on('exit', resolve)
      })
    })
  )
  return codes.every((code) => code === 0)
}

const seed = Number(values.seed)
const schedules = Number(values.schedules)
const workers = Number(values.workers)
const well = workers > 1 ? await runShared(seed, schedules, workers) : runAll(seed, schedules)
if (!well) process.exitCode = 1
