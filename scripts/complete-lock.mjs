// Completes package-lock.json: `node scripts/complete-lock.mjs`, after `npm install` has changed it.
//
// Packages with native code name one optional package for each platform. `npm install` leaves out of the
// lock file those that its registry does not have, and `npm ci` then refuses the lock file as out of
// step, on every platform. Here they are entered by name, version and platform: npm ci accepts that, and
// fetches only what fits the machine. Prints what it has added.
import { readFileSync, writeFileSync } from 'node:fs'

const file = new URL('../package-lock.json', import.meta.url)
const lock = JSON.parse(readFileSync(file, 'utf8'))

const systems = ['aix', 'android', 'darwin', 'freebsd', 'linux', 'netbsd', 'openbsd', 'openharmony']
systems.push('sunos', 'win32')
const processors = [
  'arm',
  'arm64',
  'ia32',
  'loong64',
  'mips64el',
  'ppc64',
  'riscv64',
  's390x',
  'x64'
]

/** What a package's name tells of its platform: `…-linux-x64-musl`. */
function platformOf(name) {
  const words = name.split(/[/-]/)
  const os = words.filter((word) => systems.includes(word))
  const cpu = words.filter((word) => processors.includes(word))
  if (os.length !== 1 || cpu.length !== 1) {
    throw new Error(`${name} names no platform; enter it in package-lock.json by hand`)
  }
  const musl = words.some((word) => word.startsWith('musl'))
  const gnu = words.some((word) => word.startsWith('gnu'))
  return { os, cpu, ...(musl ? { libc: ['musl'] } : gnu ? { libc: ['glibc'] } : {}) }
}

const added = []
for (const entry of Object.values(lock.packages)) {
  for (const [name, version] of Object.entries(entry.optionalDependencies ?? {})) {
    const path = `node_modules/${name}`
    if (path in lock.packages) continue
    if (!/^\d+\.\d+\.\d+/.test(version)) throw new Error(`${name} is not pinned: '${version}'`)
    const dev = entry.dev === true ? { dev: true } : {}
    const { os, cpu, libc } = platformOf(name)
    lock.packages[path] = { version, cpu, ...dev, ...(libc && { libc }), optional: true, os }
    added.push(`${name} ${version}`)
  }
}

const { '': project, ...packages } = lock.packages
const sorted = Object.entries(packages).toSorted(([a], [b]) => a.localeCompare(b, 'en'))
lock.packages = { '': project, ...Object.fromEntries(sorted) }
if (added.length > 0) writeFileSync(file, `${JSON.stringify(lock, null, 2)}\n`)
for (const line of added) process.stdout.write(`added ${line}\n`)
