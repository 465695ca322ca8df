/**
 * Compiles the library and the benchmark's own processes, so that no loader of sources runs (and takes memory)
 * in what is measured. The result lies beside the installed packages, which it imports; dist/ is not touched.
 */
import { spawnSync } from 'node:child_process'
import { copyFileSync, mkdirSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

const root = fileURLToPath(new URL('..', import.meta.url))

/**
 * Compiles all of it anew.
 * @returns the path of a compiled program, for which `file` is 'bench/worker'
 * @throws Error with the compiler's message when it made nothing
 */
export function build(): (file: string) => string {
  // One folder for each run: a run that is under way keeps the code that it began with.
  const out = join(root, 'node_modules', '.cache', `kvswarm-bench-${process.pid}`)
  rmSync(out, { recursive: true, force: true })
  mkdirSync(out, { recursive: true })
  process.once('exit', () => rmSync(out, { recursive: true, force: true }))
  const compiler = join(root, 'node_modules', 'typescript', 'bin', 'tsc')
  const { status, stdout } = spawnSync(
    process.execPath,
    [compiler, '-p', join(root, 'bench', 'tsconfig.build.json'), '--outDir', out],
    { cwd: root, encoding: 'utf8' }
  )
  if (status !== 0) throw new Error(`the sources do not compile:\n${stdout}`)
  copyFileSync(join(root, 'package.json'), join(out, 'package.json'))
  return (file) => join(out, `${file}.js`)
}
