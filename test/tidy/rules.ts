/**
 * The rules of the house. Each takes what it judges and gives complaints: which file, which line, what
 * is wrong. No complaint, no fault.
 */
import { posix } from 'node:path'
import { doors, outbuildings, rooms, type Room } from './plan.ts'
import { lineAt, type Source } from './source.ts'

/** A file of the repository, of any kind. */
export interface TextFile {
  readonly path: string
  readonly text: string
}

const house = ['lib/', 'config/', 'bin/']

function isIn(path: string, places: readonly string[]): boolean {
  return places.some((place) => (place.endsWith('/') ? path.startsWith(place) : path === place))
}

/** The room of a path, by the longest place that fits; null for what lies outside the house. */
export function roomOf(path: string): Room | null {
  let best: Room | null = null
  let length = 0
  for (const room of rooms) {
    for (const place of room.places) {
      if (place.length > length && isIn(path, [place])) {
        best = room
        length = place.length
      }
    }
  }
  return best
}

/** Every source lies in a room or in an outbuilding. */
export function misplaced(paths: readonly string[]): string[] {
  return paths
    .filter((path) => roomOf(path) === null && !isIn(path, Object.keys(outbuildings)))
    .map((path) => `${path}: lies in no room; see the table in test/tidy/plan.ts`)
}

/** Path of what a relative import means; null for a package. */
function targetOf(source: Source, specifier: string): string | null {
  if (!specifier.startsWith('.')) return null
  return posix.normalize(posix.join(posix.dirname(source.path), specifier))
}

/** Imports go down: to a lower floor, or within the room. */
export function climbing(source: Source): string[] {
  const room = roomOf(source.path)
  const complaints: string[] = []
  for (const { specifier, line } of source.imports) {
    const target = targetOf(source, specifier)
    if (target === null) continue
    const where = `${source.path}:${line}: imports ${target}`
    const other = roomOf(target)
    if (room === null) {
      const building = Object.keys(outbuildings).find((place) => source.path.startsWith(place))
      const allowed = building === undefined ? null : outbuildings[building]
      if (allowed && !isIn(target, allowed)) {
        complaints.push(`${where}, but may only import ${allowed.join(', ') || 'nothing of ours'}`)
      }
    } else if (other === null) {
      complaints.push(`${where}, which is no part of the program`)
    } else if (other !== room && other.floor >= room.floor) {
      const how = other.floor === room.floor ? 'a neighbour' : 'upwards'
      complaints.push(`${where}, ${how}: floor ${room.floor} to floor ${other.floor}`)
    }
  }
  return complaints
}

/** 'a/b/c' -> 'a', '@a/b/c' -> '@a/b'; null for relative imports and node's own modules. */
export function packageOf(specifier: string): string | null {
  if (specifier.startsWith('.') || specifier.startsWith('node:')) return null
  return specifier
    .split('/')
    .slice(0, specifier.startsWith('@') ? 2 : 1)
    .join('/')
}

/** Each outside package comes in by its door. */
export function sideDoors(source: Source): string[] {
  if (roomOf(source.path) === null) return []
  return source.imports.flatMap(({ specifier, line }) => {
    const name = packageOf(specifier)
    if (name === null) return []
    const where = `${source.path}:${line}: imports ${name}`
    const door = Object.hasOwn(doors, name) ? doors[name] : undefined
    if (door === undefined) return [`${where}, which has no door in test/tidy/plan.ts`]
    return isIn(source.path, door) ? [] : [`${where}, whose door is ${door.join(', ')}`]
  })
}

/** What the program imports is a dependency, and what is a dependency is imported. */
export function strayDependencies(
  sources: readonly Source[],
  dependencies: Readonly<Record<string, string>>
): string[] {
  const complaints: string[] = []
  const used = new Set<string>()
  for (const source of sources.filter(({ path }) => isIn(path, house))) {
    for (const { specifier, line } of source.imports) {
      const name = packageOf(specifier)
      if (name === null) continue
      used.add(name)
      if (!Object.hasOwn(dependencies, name)) {
        complaints.push(`${source.path}:${line}: imports ${name}, which is no dependency`)
      }
    }
  }
  for (const name of Object.keys(dependencies)) {
    if (!used.has(name)) complaints.push(`package.json: the dependency ${name} is never imported`)
  }
  return complaints
}

/** Dependencies are pinned to one exact version. */
export function loosePins(dependencies: Readonly<Record<string, string>>): string[] {
  return Object.entries(dependencies)
    .filter(([, version]) => !/^\d+\.\d+\.\d+(?:-[0-9A-Za-z.-]+)?$/.test(version))
    .map(([name, version]) => `package.json: ${name} is not pinned exactly: '${version}'`)
}

/** The part of package-lock.json that is judged. */
export interface Lock {
  readonly packages: Readonly<
    Record<string, { readonly optionalDependencies?: Readonly<Record<string, string>> }>
  >
}

/** Optional packages of all platforms are locked; npm ci refuses the file otherwise. */
export function incompleteLock({ packages }: Lock): string[] {
  return Object.entries(packages).flatMap(([path, entry]) =>
    Object.keys(entry.optionalDependencies ?? {})
      .filter((name) => !Object.hasOwn(packages, `node_modules/${name}`))
      .filter((name) => !Object.hasOwn(packages, `${path}/node_modules/${name}`))
      .map((name) => `package-lock.json: ${name} is missing: node scripts/complete-lock.mjs`)
  )
}

function hits(file: TextFile, searched: string, pattern: RegExp, complaint: string): string[] {
  return [...searched.matchAll(new RegExp(pattern, `${pattern.flags}g`))].map((match) => {
    const found = match[0].trim().split('\n', 1)[0] ?? ''
    return `${file.path}:${lineAt(searched, match.index)}: '${found}' ${complaint}`
  })
}

const impure =
  /(?<![.\w])(?:Date\b|performance\b|Math\s*\.\s*random\b|globalThis\b|(?:process|crypto)\s*\.|(?:setTimeout|setInterval|setImmediate|queueMicrotask|fetch)\s*\()/

/** lib/protocol/ decides: no IO, no clock, no randomness. */
export function impurities(source: Source): string[] {
  if (!source.path.startsWith('lib/protocol/')) return []
  const imports = source.imports
    .filter(({ specifier, typeOnly }) => specifier.startsWith('node:') && !typeOnly)
    .map(
      ({ specifier, line }) => `${source.path}:${line}: imports ${specifier}; decisions are pure`
    )
  return [...imports, ...hits(source, source.code, impure, 'does not belong into a pure decision')]
}

/** A header must say at least this much. */
const headerCharsMin = 30

/** Sources begin with what they are for. */
export function headless(source: Source): string[] {
  if (!isIn(source.path, [...house, 'scripts/', 'types/'])) return []
  const text = source.text.replace(/^#!.*\n/, '')
  const header = /^\/\*\*?([^]*?)\*\/|^((?:\/\/.*\n)+)/.exec(text)
  const words = (header?.[1] ?? header?.[2] ?? '').replace(/[\s*/]+/g, ' ').trim()
  if (words.length >= headerCharsMin) return []
  return [`${source.path}:1: has no header that says what the file is for`]
}

/** Only the command and the scripts print. */
export function printing(source: Source): string[] {
  if (!isIn(source.path, ['lib/', 'config/', 'test/'])) return []
  return hits(source, source.code, /\bconsole\s*\./, 'prints; only bin/ and scripts/ do')
}

const number = String.raw`[\d_.]+(?:e\d+)?`
const sleeps = [
  new RegExp(
    String.raw`\bawait\s+(?:[\w$]+\.)*(?:setTimeout|sleep|delay|pause|wait)\s*\(\s*${number}`
  ),
  new RegExp(
    String.raw`\bnew\s+Promise[^;]{0,80}?=>[\s{(]*(?:void\s+)?setTimeout\s*\([^\n;]{0,80}?,\s*${number}\s*[,)]`
  )
]

/** Tests wait for events, never for a fixed time. */
export function sleeping(source: Source): string[] {
  if (!source.path.startsWith('test/')) return []
  return sleeps.flatMap((pattern) =>
    hits(source, source.code, pattern, 'sleeps; wait for an event or use until()')
  )
}

/** No test is singled out, and nothing is put off. */
export function unfinished(source: Source): string[] {
  const complaints = source.path.startsWith('test/')
    ? hits(source, source.code, /\b(?:test|tape)\s*\.\s*only\s*\(/, 'leaves out all other tests')
    : []
  if (isIn(source.path, [...house, 'examples/', 'bench/'])) {
    complaints.push(...hits(source, source.text, /\b(?:TODO|FIXME|XXX)\b/, 'is unfinished'))
  }
  return complaints
}

const secrets: readonly [RegExp, string][] = [
  [/(?<![\w.~$}/-])\/(?:work|root)(?![\w.-])/, 'is a folder of one machine'],
  [/(?<![\w.~$}/-])\/(?:home|Users)\/\w+/, 'is a folder of one person'],
  [/\bshared\/(?:design|house|spike|sources|slicing)\b/, 'is not in this repository'],
  [/[\w.+-]+@[A-Za-z][\w-]*(?:\.[A-Za-z][\w-]*)*\.[a-z]{2,}\b/, 'is an e-mail address'],
  [/\bregistry\.[a-z][\w-]*\.[a-z]+|\bnpmjs\.(?:org|com)|\bpypi\.org/, 'is a package registry']
]

/** Files name no machine, no person and no registry. */
export function indiscreet(file: TextFile): string[] {
  return secrets.flatMap(([pattern, complaint]) => hits(file, file.text, pattern, complaint))
}

/** All rules about one source. */
export function complaintsAbout(source: Source): string[] {
  return [climbing, sideDoors, impurities, headless, printing, sleeping, unfinished].flatMap(
    (rule) => rule(source)
  )
}
