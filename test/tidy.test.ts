/** Holds the repository to the plan of the house (CONTRIBUTING.md). The rules are tested in test/tidy/. */
import { execFileSync } from 'node:child_process'
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import test from 'tape'
import {
  complaintsAbout,
  incompleteLock,
  indiscreet,
  type Lock,
  loosePins,
  misplaced,
  strayDependencies,
  type TextFile
} from './tidy/rules.ts'
import { sourceOf } from './tidy/source.ts'

const root = fileURLToPath(new URL('..', import.meta.url))

/** All files that belong to the repository, tracked or about to be. */
function repositoryFiles(): string[] {
  try {
    const args = ['-c', 'safe.directory=*', 'ls-files', '-co', '--exclude-standard', '-z']
    const listed = execFileSync('git', args, { cwd: root, encoding: 'utf8', stdio: 'pipe' })
    return listed.split('\0').filter((path) => path !== '' && existsSync(root + path))
  } catch {
    // no git, or an unpacked archive: everything but what is made
    const made = /^(?:node_modules|dist|coverage|\.git)\/|\.tgz$/
    return readdirSync(root, { recursive: true, withFileTypes: true, encoding: 'utf8' })
      .filter((entry) => entry.isFile())
      .map((entry) => `${entry.parentPath}/${entry.name}`.slice(root.length))
      .filter((path) => !made.test(path))
  }
}

const files: TextFile[] = repositoryFiles()
  .map((path) => ({ path, text: readFileSync(root + path, 'utf8') }))
  .filter(({ text }) => !text.includes('\0')) // binary
const sources = files
  .filter(({ path }) => /\.[cm]?[jt]sx?$/.test(path))
  .map(({ path, text }) => sourceOf(path, text))
const manifest = JSON.parse(readFileSync(`${root}package.json`, 'utf8')) as Record<
  'dependencies' | 'devDependencies' | 'overrides',
  Record<string, string>
>

test('every source lies in a room', (t) => {
  t.ok(sources.length > 10, `${sources.length} sources`)
  t.deepEqual(misplaced(sources.map(({ path }) => path)), [])
  t.end()
})

for (const source of sources) {
  test(source.path, (t) => {
    t.deepEqual(complaintsAbout(source), [])
    t.end()
  })
}

test('files name no machine, no person and no registry', (t) => {
  t.deepEqual(files.flatMap(indiscreet), [])
  t.end()
})

test('dependencies are pinned exactly, imported, and known', (t) => {
  const { dependencies, devDependencies, overrides } = manifest
  t.deepEqual(loosePins({ ...dependencies, ...devDependencies, ...overrides }), [])
  t.deepEqual(strayDependencies(sources, dependencies), [])
  t.end()
})

test('the lock file holds the packages of all platforms', (t) => {
  const lock = JSON.parse(readFileSync(`${root}package-lock.json`, 'utf8')) as Lock
  t.deepEqual(incompleteLock(lock), [])
  t.end()
})

/** Versions of all installed copies of a package, by the folder of each. */
function installedCopies(name: string, folder = `${root}node_modules`): Map<string, string> {
  const copies = new Map<string, string>()
  const look = (modules: string): void => {
    if (!existsSync(modules)) return
    const entries = readdirSync(modules, { withFileTypes: true }).filter((e) => e.isDirectory())
    for (const entry of entries) {
      const path = `${modules}/${entry.name}`
      if (entry.name.startsWith('@')) {
        look(path)
        continue
      }
      if (path.endsWith(`/node_modules/${name}`)) {
        const { version } = JSON.parse(readFileSync(`${path}/package.json`, 'utf8')) as {
          version: string
        }
        copies.set(path.slice(root.length), version)
      }
      look(`${path}/node_modules`)
    }
  }
  look(folder)
  return copies
}

for (const name of ['hypercore', 'hypercore-storage', 'corestore']) {
  test(`one single ${name} is installed`, (t) => {
    t.deepEqual([...installedCopies(name)], [[`node_modules/${name}`, manifest.dependencies[name]]])
    t.end()
  })
}
