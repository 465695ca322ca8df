/**
 * Bugs that are planted into a copy of lib/protocol/, one at a time: patches of bugs/*.patch, each with a line that
 * says what it breaks; of a rare one a second line names the seed that found it ("Seed 7."). The simulation runs with the copy, and has to find each of them.
 */
import { execFile } from 'node:child_process'
import { cp, mkdir, readFile, readdir, symlink } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'

const run = promisify(execFile)
const here = dirname(fileURLToPath(import.meta.url))
const root = join(here, '..', '..')

export interface PlantedBug {
  readonly name: string
  /** What it breaks. */
  readonly what: string
  /** The first one that is tried. */
  readonly seed: number
  readonly path: string
}

export async function plantedBugs(): Promise<PlantedBug[]> {
  const folder = join(here, 'bugs')
  const names = (await readdir(folder)).filter((name) => name.endsWith('.patch')).toSorted()
  return await Promise.all(
    names.map(async (name) => {
      const path = join(folder, name)
      const [what = '', rare = ''] = (await readFile(path, 'utf8')).split('\n')
      const seed = Number(/^Seed (\d+)\.$/.exec(rare)?.[1] ?? 1)
      return { name: name.replace('.patch', ''), what, seed, path }
    })
  )
}

/**
 * Runs schedules on a copy in `folder` that has the bug, until one finds something.
 * @param bug null: a copy as it is
 * @returns what the run printed last; the finding, when there was one
 */
export async function runCopy(
  folder: string,
  bug: PlantedBug | null,
  schedules: number,
  seed: number
): Promise<{ readonly found: boolean; readonly text: string }> {
  await mkdir(join(folder, 'lib'), { recursive: true })
  await mkdir(join(folder, 'test'))
  await cp(join(root, 'lib', 'protocol'), join(folder, 'lib', 'protocol'), { recursive: true })
  await cp(here, join(folder, 'test', 'sim'), { recursive: true })
  const shared = ['config', 'node_modules', 'package.json', 'test/helpers', 'lib/wire']
  const floor = ['types', 'errors', 'assert', 'ports'].map((name) => `lib/${name}.ts`)
  for (const path of [...shared, ...floor]) await symlink(join(root, path), join(folder, path))
  if (bug) await run('git', ['apply', '--include=lib/protocol/*', bug.path], { cwd: folder })
  const options = ['--schedules', String(schedules), '--seed', String(seed)]
  const tsx = join(root, 'node_modules', 'tsx', 'dist', 'cli.mjs')
  const script = join(folder, 'test', 'sim', 'run.ts')
  try {
    const { stdout } = await run(process.execPath, [tsx, script, ...options], { cwd: folder })
    return { found: false, text: stdout.trim() }
  } catch (error) {
    const { stdout, stderr } = error as { stdout?: string; stderr?: string }
    // A finding is printed; what else ends a run is no finding but a mistake of ours.
    const text = stdout?.split('\n').find((line) => line.startsWith('finding: '))
    if (text === undefined) throw new Error(`the simulation failed: ${stderr}`, { cause: error })
    return { found: true, text }
  }
}
