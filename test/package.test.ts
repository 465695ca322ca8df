/**
 * The package as its users get it: packed, installed in an empty folder, used from both module systems
 * and from TypeScript.
 * time limit: 10 min
 */
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join, posix } from 'node:path'
import { fileURLToPath } from 'node:url'
import { publint } from 'publint'
import { formatMessage } from 'publint/utils'
import test from 'tape'
import { needs } from './helpers/needs.ts'
import { type Finished, runProgram } from './helpers/process.ts'
import { sourceOf } from './tidy/source.ts'

const root = fileURLToPath(new URL('..', import.meta.url))
const manifest = JSON.parse(readFileSync(`${root}package.json`, 'utf8')) as {
  version: string
  exports: Record<string, string | { types: string; default: string }>
  bin: { kvswarm: string }
}
const folder = mkdtempSync(join(tmpdir(), 'kvs-'))
test.onFinish(() => rmSync(folder, { recursive: true, force: true }))

const consumer = join(folder, 'consumer')
const dataDirectory = join(folder, 'data')
const tarball = join(folder, `kvswarm-${manifest.version}.tgz`)
const packed = new Set<string>()
let nodeId = ''

/** Runs a program that must end well, and gives what it printed. */
async function output(command: string[], cwd: string): Promise<string> {
  const { code, stdout, stderr }: Finished = await runProgram(command, {
    cwd,
    timeoutMs: 5 * 60_000
  })
  if (code !== 0) throw new Error(`${command.join(' ')}: code ${code}; ${stdout}${stderr}`)
  return stdout
}

const allowed = [
  /^(?:package\.json|README\.md|LICENSE|CHANGELOG\.md)$/,
  /^dist\/(?:lib|config|bin)\/(?:[\w-]+\/)*[\w-]+\.(?:js|js\.map|d\.ts)$/,
  /^docs\/[\w-]+\.md$/
]
const needed = ['package.json', 'README.md', 'LICENSE', 'CHANGELOG.md', 'docs/formats.md']

test('npm pack takes what is needed and no more', async (t) => {
  // without scripts: 'prepare' would build again, under the feet of other tests
  const args = ['pack', '--ignore-scripts', '--json', '--pack-destination', folder]
  const listed = JSON.parse(await output(['npm', ...args], root)) as [{ files: { path: string }[] }]
  for (const { path } of listed[0].files) packed.add(path)
  const strange = [...packed].filter((path) => !allowed.some((form) => form.test(path)))
  t.deepEqual(strange, [], 'nothing else')
  t.deepEqual(
    needed.filter((path) => !packed.has(path)),
    [],
    'all that is needed'
  )
})

test('every entry point is built and packed', (t) => {
  const entries = Object.values(manifest.exports).flatMap((entry) =>
    typeof entry === 'string' ? [entry] : [entry.types, entry.default]
  )
  for (const entry of [...entries, manifest.bin.kvswarm].map((path) => posix.normalize(path))) {
    t.ok(packed.has(entry), entry)
  }
  const command = readFileSync(root + manifest.bin.kvswarm, 'utf8')
  t.match(command, /^#!\/usr\/bin\/env node\n/, 'the command can be run by its name')
  t.end()
})

test('source maps need no file that is not in the package', (t) => {
  const maps = [...packed].filter((path) => path.endsWith('.map'))
  const dangling = maps.filter((path) => {
    const { sources, sourcesContent } = JSON.parse(readFileSync(root + path, 'utf8')) as {
      sources: string[]
      sourcesContent?: (string | null)[]
    }
    return sources.some((_, i) => typeof sourcesContent?.[i] !== 'string')
  })
  t.deepEqual(dangling, [])
  t.end()
})

/** Outside modules that the declarations of an entry point lead to. */
function outsideTypes(entry: string): string[] {
  const outside = new Set<string>()
  const seen = new Set<string>()
  const visit = (path: string): void => {
    if (seen.has(path)) return
    seen.add(path)
    for (const { specifier } of sourceOf(path, readFileSync(root + path, 'utf8')).imports) {
      if (!specifier.startsWith('.')) outside.add(specifier)
      else {
        const target = posix.join(posix.dirname(path), specifier)
        visit(target.replace(/\.[jt]s$/, '.d.ts'))
      }
    }
  }
  visit(entry)
  return [...outside].toSorted()
}

/** True for node's own modules and for packages that ship declarations. */
function hasTypes(name: string): boolean {
  if (name.startsWith('node:')) return true
  const at = `${root}node_modules/${name}`
  const { types } = JSON.parse(readFileSync(`${at}/package.json`, 'utf8')) as { types?: string }
  return types !== undefined || existsSync(`${at}/index.d.ts`)
}

test('no public type mentions a module without types', (t) => {
  for (const entry of Object.values(manifest.exports)) {
    if (typeof entry === 'string') continue
    const outside = outsideTypes(posix.normalize(entry.types))
    t.deepEqual(
      outside.filter((name) => !hasTypes(name)),
      [],
      `${entry.types} leads to ${outside.join(', ') || 'nothing outside'}`
    )
  }
  t.end()
})

test('publint finds nothing', async (t) => {
  const { buffer, byteOffset, byteLength } = readFileSync(tarball)
  const bytes = buffer.slice(byteOffset, byteOffset + byteLength)
  const { messages, pkg } = await publint({ pack: { tarball: bytes }, level: 'suggestion' })
  t.deepEqual(
    messages.map((message) => formatMessage(message, pkg, { color: false })),
    []
  )
})

test('npm install of the tarball in an empty folder', needs('registry'), async (t) => {
  mkdirSync(consumer)
  writeFileSync(join(consumer, 'package.json'), '{ "private": true }')
  await output(['npm', 'install', '--no-audit', '--no-fund', tarball], consumer)
  const tree = await output(['npm', 'ls', 'hypercore', '--parseable', '--all'], consumer)
  const copies = tree.trim().split('\n')
  t.equal(copies.length, 1, `one hypercore: ${copies.join(', ')}`)
  const name = join(consumer, 'node_modules/.bin/kvswarm')
  nodeId = (await output([name, 'id', '-d', dataDirectory], consumer)).trim()
  t.match(nodeId, /^[0-9a-f]{64}$/, 'the command runs')
  t.equal((await output([name, '--version'], consumer)).trim(), manifest.version)
})

/** What a consumer's program prints as JSON. */
async function consume(file: string, source: string): Promise<unknown> {
  writeFileSync(join(consumer, file), source)
  return JSON.parse(await output([process.execPath, file, dataDirectory, nodeId], consumer))
}

test('require(), as the original page writes it, with callbacks', needs('registry'), async (t) => {
  const printed = await consume(
    'original.cjs',
    `var kvswarm = require('kvswarm')
var Config = require('kvswarm/config')
var config = new Config({ writers: [process.argv[3]], capacities: { [process.argv[3]]: 5 } })
var kv = kvswarm({ storage: process.argv[2], config: Config.parse(config.serialize()) })
kv.put('greeting', 'hi')
kv.flush(function (err, result) {
  if (err) throw err
  kv.getWriters(function (err, writers) {
    if (err) throw err
    kv.close(function (err) {
      if (err) throw err
      console.log(JSON.stringify({ operations: result.operations, writers: writers }))
    })
  })
})
`
  )
  t.deepEqual(printed, { operations: 1, writers: [nodeId] })
})

test('import, with promises', needs('registry'), async (t) => {
  const printed = await consume(
    'modern.mjs',
    `import kvswarm, { KVSwarm, KVSwarmError } from 'kvswarm'
import Config from 'kvswarm/config'
import manifest from 'kvswarm/package.json' with { type: 'json' }
const [, , storage, id] = process.argv
const config = new Config({ writers: [id], capacities: { [id]: 5 } })
const kv = kvswarm({ storage, config })
await kv.ready()
kv.put('cool', 'beans')
const { operations } = await kv.flush()
const own = { nodeId: kv.nodeId, operations, isClass: kv instanceof KVSwarm }
let code = null
try {
  kv.put('', 1)
} catch (error) {
  code = error instanceof KVSwarmError ? error.code : String(error)
}
await kv[Symbol.asyncDispose]()
console.log(JSON.stringify({ ...own, code, version: manifest.version }))
`
  )
  t.deepEqual(printed, {
    nodeId,
    operations: 1,
    isClass: true,
    code: 'KEY_INVALID',
    version: manifest.version
  })
})

const typedBody = `
const config: Config = new Config({ writers: ['a'], capacities: { a: 5 } })
const kv: KVSwarm = kvswarm({ storage: '.', config: Config.parse(config.serialize()) })
export async function use(): Promise<string[]> {
  kv.put(['users', 'alice'], { age: 7n, tags: new Set(['x']) })
  kv.flush({ receipt: true, timeout: 10 }, (err) => { if (err) throw err })
  const flushed: number = (await kv.flush()).operations
  const value = await kv.get('greeting', { timeout: flushed })
  for await (const { versionstamp } of kv.list({ prefix: 'a' })) versionstamp.toUpperCase()
  // @ts-expect-error what is stored may be of any type
  value.toUpperCase()
  // @ts-expect-error a flush has no such result: the types are not any
  const wrong: string = await kv.flush()
  // @ts-expect-error there is no data directory
  kvswarm({ config })
  // @ts-expect-error a config has no such call
  config.setAll()
  return [wrong, ...(await kv.getWriters())]
}
`

test('a consumer in TypeScript, with skipLibCheck: false', needs('registry'), async (t) => {
  mkdirSync(join(consumer, 'node_modules/@types'), { recursive: true })
  symlinkSync(`${root}node_modules/@types/node`, join(consumer, 'node_modules/@types/node'))
  const esm = `import kvswarm, { type KVSwarm } from 'kvswarm'\nimport Config from 'kvswarm/config'\n`
  const cjs = `import kvswarm = require('kvswarm')
import Config = require('kvswarm/config')
import type { KVSwarm } from 'kvswarm' with { 'resolution-mode': 'import' }
`
  writeFileSync(join(consumer, 'typed.mts'), esm + typedBody)
  writeFileSync(join(consumer, 'typed.cts'), cjs + typedBody)
  writeFileSync(join(consumer, 'typed.ts'), esm + typedBody)
  const options = {
    strict: true,
    noEmit: true,
    skipLibCheck: false,
    target: 'es2023',
    types: ['node']
  }
  const modes = {
    'ES modules and CommonJS': { module: 'nodenext', files: ['typed.mts', 'typed.cts'] },
    'a bundler': { module: 'esnext', moduleResolution: 'bundler', files: ['typed.ts'] }
  }
  for (const [name, { files, ...mode }] of Object.entries(modes)) {
    const project = { compilerOptions: { ...options, ...mode }, files }
    writeFileSync(join(consumer, 'tsconfig.json'), JSON.stringify(project))
    const tsc = [process.execPath, `${root}node_modules/typescript/bin/tsc`, '-p', 'tsconfig.json']
    const { code, stdout } = await runProgram(tsc, { cwd: consumer })
    t.equal(stdout, '', `${name}: no message`)
    t.equal(code, 0, name)
  }
})
