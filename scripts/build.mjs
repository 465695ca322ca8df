// Builds dist/ from the sources with plain tsc, and marks the command as executable.
import { chmodSync, existsSync, rmSync } from 'node:fs'
import { spawnSync } from 'node:child_process'

const root = new URL('..', import.meta.url)
rmSync(new URL('dist', root), { recursive: true, force: true })
const tsc = new URL('node_modules/typescript/bin/tsc', root).pathname
const { status } = spawnSync(process.execPath, [tsc, '-p', 'tsconfig.build.json'], {
  cwd: root,
  stdio: 'inherit'
})
if (status !== 0) process.exit(status ?? 1)
const bin = new URL('dist/bin/kvswarm.js', root)
if (existsSync(bin)) chmodSync(bin, 0o755)
