/**
 * What a machine can have that some tests need, and how to find out.
 *
 * A test that cannot run everywhere is skipped by `needs()` of test/helpers/needs.ts, with one of these
 * names; the runner asks again, so that a test is never skipped where it could run.
 *
 * Run as a program (by .ci/run) it prints the Debian packages of those that the tests name and this
 * machine lacks.
 */
import { spawnSync } from 'node:child_process'
import { readdirSync, readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'

/** How long a probe may take; the slowest asks the package registry. */
const probeMs = 30_000

/** A name that a skip may give. */
export type CapabilityName =
  'root' | 'ip netns' | 'loop mount' | 'python3' | 'gcc' | 'libfaketime' | 'registry'

interface Capability {
  readonly has: () => boolean
  /** Debian packages that bring it; none: it cannot be installed. */
  readonly packages: readonly string[]
}

function runs(program: string, ...args: string[]): boolean {
  const { status } = spawnSync(program, args, { stdio: 'ignore', timeout: probeMs })
  return status === 0
}

const table: Readonly<Record<CapabilityName, Capability>> = {
  /** The superuser: other users' files, network namespaces. */
  root: { has: () => process.getuid?.() === 0, packages: [] },
  /** Network namespaces and a TUN device, made by the ip command. */
  'ip netns': {
    has: () => runs('unshare', '--net', 'ip', 'tuntap', 'add', 'dev', 'kvst0', 'mode', 'tun'),
    packages: ['iproute2', 'util-linux']
  },
  /** File systems of ext4 in a file, which can be told to fail. */
  'loop mount': {
    has: () => process.getuid?.() === 0 && runs('losetup', '--find') && runs('mkfs.ext4', '-V'),
    packages: ['e2fsprogs', 'mount']
  },
  python3: { has: () => runs('python3', '-c', ''), packages: ['python3-minimal'] },
  gcc: { has: () => runs('gcc', '--version'), packages: ['gcc', 'libc6-dev'] },
  libfaketime: { has: () => runs('faketime', '2020-01-01', 'true'), packages: ['faketime'] },
  /** A package registry that npm can reach. */
  registry: {
    has: () => runs('npm', 'view', 'tape', 'version', '--fetch-retries=0'),
    packages: []
  }
}

const known = new Map<string, boolean>()

/** Every name. */
export const capabilityNames: readonly string[] = Object.keys(table)

/** True when this machine has it; asked once. Null for a name that is none. */
export function hasCapability(name: string): boolean | null {
  if (!Object.hasOwn(table, name)) return null
  const asked = known.get(name)
  if (asked !== undefined) return asked
  const has = table[name as CapabilityName].has()
  known.set(name, has)
  return has
}

/** Debian packages of the capabilities that the test sources name and this machine lacks. */
function missingPackages(folder: string): string[] {
  const sources = readdirSync(folder, { recursive: true, encoding: 'utf8' })
    .filter((file) => file.endsWith('.test.ts'))
    .map((file) => readFileSync(`${folder}/${file}`, 'utf8'))
    .join('\n')
  const named = new Set(
    [...sources.matchAll(/\bneeds\(([^)]*)\)/g)].flatMap(([, list]) =>
      [...(list ?? '').matchAll(/'([^']+)'/g)].map(([, name]) => name)
    )
  )
  return Object.entries<Capability>(table)
    .filter(([name, { packages }]) => named.has(name) && packages.length > 0)
    .filter(([name]) => hasCapability(name) === false)
    .flatMap(([, { packages }]) => packages)
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const test = fileURLToPath(new URL('../test', import.meta.url))
  for (const name of missingPackages(test)) process.stdout.write(`${name}\n`)
}
