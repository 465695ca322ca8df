/**
 * The long command, `npm run test:long -- [--quick] [--minutes N] [--cuts N] [--kills N] [--schedules N]`: power cuts, kills, faults and the simulation in
 * the numbers that docs/reliability.md promises. Markdown on stdout: what was run, with which seed, how long it
 * took, and whether the goal was reached; everything else on stderr. Exit code 1 when anything failed.
 *
 *   --quick       a rehearsal with small numbers
 *   --cuts, --kills, --schedules N   so many; 2,000 kills take about 25 minutes by themselves
 *   --minutes N   nothing new is begun after so many minutes, and the fault runs get shorter
 */
import { randomInt } from 'node:crypto'
import { spawn } from 'node:child_process'
import { existsSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'

/** One part of the run. */
interface Part {
  readonly name: string
  /** What is to be reached, in words, and how many that is. */
  readonly goal: number
  readonly unit: string
  readonly command: (seed: number) => readonly string[]
  readonly env: Readonly<Record<string, string>>
  readonly seed: number
}

interface Outcome {
  readonly part: Part
  /** 'ok', 'FAILED', or why it was not run. */
  readonly result: string
  readonly minutes: number
  /** Lines in which the part tells its counts. */
  readonly counts: readonly string[]
}

const root = fileURLToPath(new URL('..', import.meta.url))
const tape = (file: string) => (): readonly string[] => ['scripts/run-file.ts', file]
const simulation = 'test/sim/run.ts'

const { values } = parseArgs({
  options: {
    quick: { type: 'boolean', default: false },
    minutes: { type: 'string', default: '60' },
    cuts: { type: 'string' },
    kills: { type: 'string' },
    schedules: { type: 'string' }
  }
})
const budget = Number(values.minutes)
if (!(budget > 0)) {
  process.stderr.write(
    'usage: npm run test:long -- [--quick] [--minutes N] [--cuts N] [--kills N] [--schedules N]\n'
  )
  process.exit(2)
}
const { quick } = values
const newSeed = (): number => randomInt(0, 2 ** 31 - 1)
const cuts = Number(values.cuts ?? (quick ? 10 : 500))
const kills = Number(values.kills ?? (quick ? 102 : 2000))
const schedules = Number(values.schedules ?? (quick ? 1000 : 100_000))
const faultRuns = quick ? 1 : 3
const faultMinutes = quick ? 0.3 : Math.min(3, budget / 10)

const parts: Part[] = [
  {
    name: 'power cuts',
    goal: cuts,
    unit: 'cuts',
    command: tape('test/fault/powercut.test.ts'),
    env: { KVSWARM_TEST_CUTS: String(cuts) },
    seed: newSeed()
  },
  {
    name: 'SIGKILLs',
    goal: kills,
    unit: 'kills',
    command: tape('test/e2e/kills.test.ts'),
    env: { KVSWARM_TEST_KILLS: String(kills) },
    seed: newSeed()
  },
  {
    name: 'simulation',
    goal: schedules,
    unit: 'schedules',
    command: (seed) => [
      simulation,
      ...['--schedules', String(schedules), '--seed', String(seed), '--workers', '2']
    ],
    env: {},
    seed: newSeed()
  },
  ...Array.from({ length: faultRuns }, (_, i): Part => ({
    name: `faults, run ${i + 1}`,
    goal: faultMinutes,
    unit: 'min',
    command: tape('test/fault/faults.test.ts'),
    env: { KVSWARM_TEST_FAULT_MINUTES: String(faultMinutes) },
    seed: newSeed()
  }))
]

async function run(part: Part): Promise<Outcome> {
  const from = performance.now()
  const command = part.command(part.seed)
  const minutes = (): number => (performance.now() - from) / 60_000
  const file = command.find((word) => word.startsWith('test/')) ?? ''
  if (!existsSync(`${root}${file}`)) {
    return { part, result: `not run: there is no ${file}`, minutes: 0, counts: [] }
  }
  process.stderr.write(`${part.name}: ${part.goal} ${part.unit}, seed ${part.seed}\n`)
  const child = spawn(process.execPath, ['--import', 'tsx', ...command], {
    cwd: root,
    env: { ...process.env, ...part.env, KVSWARM_TEST_SEED: String(part.seed) },
    stdio: ['ignore', 'pipe', 'inherit']
  })
  let output = ''
  child.stdout.setEncoding('utf8')
  child.stdout.on('data', (text: string) => {
    output += text
    process.stderr.write(text)
  })
  const code = await new Promise<number | null>((resolve, reject) => {
    child.once('error', reject)
    child.once('close', resolve)
  })
  const skipped = /# SKIP (.*)/.exec(output)?.[1]
  const counts = output
    .split('\n')
    .map((line) => /^(?:# |ok \d+ )?(.*\d.*)$/.exec(line)?.[1] ?? '')
    .filter((line) => /\b(?:cuts|kills|calls|faults injected|flushes|schedules)\b/.test(line))
    .filter((line) => !line.startsWith('{'))
  const result = code !== 0 ? 'FAILED' : skipped === undefined ? 'ok' : `skipped: ${skipped}`
  return { part, result, minutes: minutes(), counts }
}

const begun = performance.now()
const outcomes: Outcome[] = []
for (const part of parts) {
  const past = (performance.now() - begun) / 60_000
  outcomes.push(
    past < budget
      ? await run(part)
      : { part, result: `not run: ${budget} min are over`, minutes: 0, counts: [] }
  )
}

const print = (line: string): boolean => process.stdout.write(`${line}\n`)
const total = (performance.now() - begun) / 60_000
print(`${new Date().toISOString().slice(0, 10)}, Node ${process.version}, ${total.toFixed(1)} min`)
print('')
print('| what | goal | reached | seed | min |')
print('| ---- | ---- | ------- | ---- | --- |')
for (const { part, result, minutes } of outcomes) {
  const reached = result === 'ok' ? 'yes' : `**no**: ${result}`
  const { name, goal, unit, seed } = part
  print(`| ${name} | ${goal} ${unit} | ${reached} | ${seed} | ${minutes.toFixed(1)} |`)
}
print('')
for (const { part, counts } of outcomes) {
  for (const line of counts) print(`- ${part.name}: ${line}`)
}
process.exitCode = outcomes.every(({ result }) => result === 'ok') ? 0 : 1
