/** Tests' own programs, compiled once: in runs that start thousands of them, the loader would take half of the time. */
import { spawnSync } from 'node:child_process'
import { symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { Test } from 'tape'
import { tmpdir } from '../helpers/tmp.ts'

const root = fileURLToPath(new URL('../..', import.meta.url))

/** Compiles a program of test/ with all that it imports. @returns how to start it, without its arguments */
export function compiled(t: Test, file: string): string[] {
  const folder = tmpdir(t)
  const options = { noEmit: false, rootDir: root, outDir: folder }
  const project = join(folder, 'tsconfig.json')
  writeFileSync(
    project,
    JSON.stringify({
      extends: join(root, 'tsconfig.json'),
      compilerOptions: { ...options, typeRoots: [join(root, 'node_modules/@types')] },
      files: [join(root, file)],
      include: [join(root, 'types')]
    })
  )
  writeFileSync(join(folder, 'package.json'), '{"type":"module","version":"0.0.0"}')
  symlinkSync(join(root, 'node_modules'), join(folder, 'node_modules'))
  const tsc = join(root, 'node_modules/typescript/bin/tsc')
  const { status, stdout } = spawnSync(process.execPath, [tsc, '-p', project], { encoding: 'utf8' })
  if (status !== 0) throw new Error(`tsc: ${stdout}`)
  return [process.execPath, join(folder, file.replace(/\.ts$/, '.js'))]
}
