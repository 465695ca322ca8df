import test from 'tape'
import { doors, rooms } from './plan.ts'
import {
  climbing,
  complaintsAbout,
  headless,
  impurities,
  incompleteLock,
  indiscreet,
  loosePins,
  misplaced,
  packageOf,
  printing,
  roomOf,
  sideDoors,
  sleeping,
  strayDependencies,
  unfinished
} from './rules.ts'
import { codeOf, sourceOf } from './source.ts'

test('code without comments and texts', (t) => {
  const cases: [string, string][] = [
    ['a // b\nc', 'a     \nc'],
    ['a /* b\nb */ c', 'a     \n     c'],
    ["x = 'it\\'s // no' + y", "x = '           ' + y"],
    ['x = "\'" + y', 'x = " " + y'],
    ['`a ${b + `c${d}`} e` + f', '`  ${b + ` ${d}`}  ` + f'],
    ['`${ { a: 1 } }x`', '`${ { a: 1 } } `'],
    ['a.replace(/["\'/*]/g, b) // c', 'a.replace(/      /g, b)     '],
    ['a / b / c', 'a / b / c'],
    ['return /x/.test(y)', 'return / /.test(y)'],
    ['#!/usr/bin/env node\nx', '                   \nx'],
    ["'unfinished\nx", "'         \nx"]
  ]
  for (const [text, code] of cases) {
    // an unfinished quote is closed at its line
    t.equal(codeOf(text).length, text.length, `length of ${text}`)
    if (!text.includes('unfinished')) t.equal(codeOf(text), code, text)
  }
  t.equal(codeOf("'unfinished\nx").split('\n')[1], 'x')
  t.end()
})

test('imports are found in all their forms', (t) => {
  const source = sourceOf(
    'lib/a.ts',
    `import one from 'one'
import { two } from "two"
import three, { type x } from './three.ts'
import * as four from 'four'
import type { five } from 'five'
import {
  six,
  seven
} from 'six'
export { eight } from 'eight'
export * from 'nine'
export type { ten } from 'ten'
export const a = 'from'
import 'eleven'
const b = await import('twelve')
const c = require('thirteen')
// import no from 'comment'
const d = "import no from 'text'"
import type from 'fourteen'`
  )
  t.deepEqual(
    source.imports.map(({ specifier, typeOnly, line }) => `${line} ${specifier} ${typeOnly}`),
    [
      '1 one false',
      '2 two false',
      '3 ./three.ts false',
      '4 four false',
      '5 five true',
      '6 six false',
      '10 eight false',
      '11 nine false',
      '12 ten true',
      '14 eleven false',
      '15 twelve false',
      '16 thirteen false',
      '19 fourteen false'
    ]
  )
  t.end()
})

test('the plan is consistent', (t) => {
  const places = rooms.flatMap((room) => room.places)
  t.equal(new Set(places).size, places.length, 'no place is in two rooms')
  for (const [name, door] of Object.entries(doors)) {
    t.ok(
      door.every((place) => places.includes(place)),
      `the door of ${name} leads into rooms`
    )
  }
  t.end()
})

test('rooms: the longest place counts', (t) => {
  t.equal(roomOf('config/limits.ts')?.floor, 1)
  t.equal(roomOf('config/schema.ts')?.floor, 3)
  t.equal(roomOf('lib/wire/keys.ts')?.floor, 2)
  t.equal(roomOf('lib/kvswarm.ts')?.floor, 6)
  t.equal(roomOf('lib/other.ts'), null)
  t.deepEqual(misplaced(['lib/wire/keys.ts', 'test/x.ts', 'lib/other.ts', 'stray.ts']), [
    'lib/other.ts: lies in no room; see the table in test/tidy/plan.ts',
    'stray.ts: lies in no room; see the table in test/tidy/plan.ts'
  ])
  t.end()
})

test('imports go down', (t) => {
  const check = (path: string, specifier: string): string[] =>
    climbing(sourceOf(path, `import x from '${specifier}'`))
  const good: [string, string][] = [
    ['lib/wire/keys.ts', '../errors.ts'],
    ['lib/wire/keys.ts', './ids.ts'],
    ['lib/wire/keys.ts', '../../config/limits.ts'],
    ['config/index.ts', '../lib/slices/table.ts'],
    ['lib/hyper/store.ts', '../ports.ts'],
    ['lib/kvswarm.ts', './coordination/index.ts'],
    ['bin/kvswarm.ts', '../lib/index.ts'],
    ['test/wire/keys.test.ts', '../../lib/wire/keys.ts'],
    ['examples/a.ts', '../lib/index.ts'],
    ['lib/wire/keys.ts', 'node:util']
  ]
  for (const [path, specifier] of good)
    t.deepEqual(check(path, specifier), [], `${path} ${specifier}`)
  const bad: [string, string, RegExp][] = [
    [
      'lib/wire/keys.ts',
      '../../config/index.ts',
      /wire\/keys\.ts:1: .*upwards: floor 2 to floor 3/
    ],
    ['lib/write/writer.ts', '../apply/inbox.ts', /a neighbour: floor 4 to floor 4/],
    ['lib/types.ts', './ports.ts', /upwards/],
    ['lib/kvswarm.ts', '../bin/print.ts', /upwards/],
    ['lib/kvswarm.ts', '../test/helpers/tmp.ts', /no part of the program/],
    ['examples/a.ts', '../lib/hyper/store.ts', /may only import examples\//],
    ['scripts/test.ts', '../lib/errors.ts', /may only import scripts\//]
  ]
  for (const [path, specifier, complaint] of bad) {
    const complaints = check(path, specifier)
    t.equal(complaints.length, 1, `${path} ${specifier}`)
    t.match(complaints[0] ?? '', complaint)
  }
  t.end()
})

test('packages come in by their doors', (t) => {
  t.equal(packageOf('@a/b/c'), '@a/b')
  t.equal(packageOf('a/b'), 'a')
  t.equal(packageOf('./a'), null)
  t.equal(packageOf('node:fs'), null)
  const check = (path: string, specifier: string): string[] =>
    sideDoors(sourceOf(path, `\nimport x from '${specifier}'`))
  t.deepEqual(check('lib/hyper/store.ts', 'corestore'), [])
  t.deepEqual(check('test/hyper/store.test.ts', 'corestore'), [], 'tests use what they want')
  t.deepEqual(check('lib/write/writer.ts', 'corestore'), [
    'lib/write/writer.ts:2: imports corestore, whose door is lib/hyper/'
  ])
  t.deepEqual(check('lib/hyper/store.ts', 'left-pad'), [
    'lib/hyper/store.ts:2: imports left-pad, which has no door in test/tidy/plan.ts'
  ])
  t.deepEqual(check('lib/hyper/store.ts', 'constructor'), [
    'lib/hyper/store.ts:2: imports constructor, which has no door in test/tidy/plan.ts'
  ])
  t.end()
})

test('dependencies: what is imported is there, what is there is imported', (t) => {
  const sources = [
    sourceOf('lib/a.ts', "import a from 'a'\nimport b from '@b/b/c'"),
    sourceOf('test/a.ts', "import d from 'd'")
  ]
  t.deepEqual(strayDependencies(sources, { a: '1.0.0', '@b/b': '1.0.0' }), [])
  t.deepEqual(strayDependencies(sources, { a: '1.0.0', c: '1.0.0' }), [
    'lib/a.ts:2: imports @b/b, which is no dependency',
    'package.json: the dependency c is never imported'
  ])
  t.deepEqual(loosePins({ a: '1.2.3', b: '1.2.3-rc.1' }), [])
  t.equal(loosePins({ a: '^1.2.3', b: '1.x', c: '*', d: 'latest', e: '>=1.0.0' }).length, 5)
  t.end()
})

test('the lock file holds the packages of all platforms', (t) => {
  const packages = {
    '': {},
    'node_modules/a': { optionalDependencies: { 'a-linux': '1.0.0', 'a-mac': '1.0.0' } },
    'node_modules/a-linux': {},
    'node_modules/a/node_modules/a-mac': {}
  }
  t.deepEqual(incompleteLock({ packages }), [])
  t.deepEqual(
    incompleteLock({ packages: { ...packages, b: { optionalDependencies: { c: '1' } } } }),
    ['package-lock.json: c is missing: node scripts/complete-lock.mjs']
  )
  t.end()
})

test('decisions are pure', (t) => {
  const check = (text: string): number => impurities(sourceOf('lib/protocol/a.ts', text)).length
  for (const text of [
    "import { readFile } from 'node:fs'",
    'const now = Date.now()',
    'const at = new Date()',
    'const now = performance.now()',
    'const luck = Math.random()',
    'setTimeout(f, 1)',
    'setInterval(f, 1)',
    'fetch(url)',
    'crypto.randomUUID()',
    'process.nextTick(f)'
  ]) {
    t.equal(check(text), 1, text)
  }
  for (const text of [
    "import type { Buffer } from 'node:buffer'",
    '// Date.now() is not called',
    'state.fetch(1)',
    'const effects = { fetch: [], process: 1 }',
    'Math.max(1, 2)'
  ]) {
    t.equal(check(text), 0, text)
  }
  t.deepEqual(impurities(sourceOf('lib/hyper/a.ts', 'Date.now()')), [], 'elsewhere it is allowed')
  t.end()
})

test('headers', (t) => {
  const check = (path: string, text: string): number => headless(sourceOf(path, text)).length
  const header = '/** Where a private swarm begins: addresses. */\n'
  t.equal(check('lib/a.ts', `${header}const a = 1`), 0)
  t.equal(check('bin/a.ts', `#!/usr/bin/env node\n${header}`), 0)
  t.equal(check('lib/a.ts', '// Where a private swarm begins: addresses.\nconst a = 1'), 0)
  t.equal(check('lib/a.ts', `const a = 1\n${header}`), 1)
  t.equal(check('lib/a.ts', '/** Addresses. */'), 1)
  t.equal(check('test/a.ts', 'const a = 1'), 0)
  t.end()
})

test('printing', (t) => {
  const check = (path: string, text: string): number => printing(sourceOf(path, text)).length
  t.equal(check('lib/a.ts', 'console.log(1)'), 1)
  t.equal(check('config/a.ts', 'console\n  .error(1)'), 1)
  t.equal(check('bin/a.ts', 'console.log(1)'), 0)
  t.equal(check('lib/a.ts', "const a = 'console.log(1)' // console.log(1)"), 0)
  t.end()
})

test('sleeps', (t) => {
  const check = (text: string): boolean => sleeping(sourceOf('test/a.test.ts', text)).length > 0
  for (const text of [
    'await new Promise((resolve) => setTimeout(resolve, 100))',
    'await new Promise<void>((r) => {\n  setTimeout(r, 1_000)\n})',
    'await new Promise((resolve) => setTimeout(() => resolve(1), 50))',
    'await setTimeout(100)',
    'await timers.setTimeout(1e3)',
    'await sleep(500)',
    'await delay(20)'
  ]) {
    t.ok(check(text), text)
  }
  for (const text of [
    'await until(() => done, { timeoutMs: 100 })',
    'const timer = setTimeout(stop, 100)',
    "const program = 'setTimeout(f, 100)'",
    'await sleep(random.int(1, 20))',
    'await new Promise((resolve) => server.close(resolve))'
  ]) {
    t.notOk(check(text), text)
  }
  t.deepEqual(sleeping(sourceOf('lib/a.ts', 'await sleep(500)')), [], 'a rule for tests')
  t.end()
})

test('unfinished work', (t) => {
  t.equal(unfinished(sourceOf('lib/a.ts', '// TODO: later')).length, 1)
  t.equal(unfinished(sourceOf('bin/a.ts', '// FIXME')).length, 1)
  t.equal(unfinished(sourceOf('test/a.test.ts', "test.only('a', f)")).length, 1)
  t.deepEqual(unfinished(sourceOf('test/a.test.ts', "test('a', f) // test.only('b', f)")), [])
  t.end()
})

test('discretion', (t) => {
  const check = (text: string): number => indiscreet({ path: 'README.md', text }).length
  const slash = '/'
  const at = '@'
  const dot = '.'
  for (const text of [
    `cd ${slash}work/main`,
    `ls ${slash}root`,
    `'${slash}home/somebody/x'`,
    `see ..${slash}shared${slash}design.md`,
    `mail some.body${at}example.org now`,
    `https://registry${dot}example.org/x`,
    `https://www.npmjs${dot}com/package/x`
  ]) {
    t.equal(check(text), 1, text)
  }
  for (const text of [
    'https://example.org/work/main',
    'lib/work/root.ts',
    'kvswarm@2.0.0 and hypercore@11.37.1',
    'the registry. Then',
    '/tmp/a, /etc/os-release, ~/work',
    '@hyperswarm/secret-stream'
  ]) {
    t.equal(check(text), 0, text)
  }
  t.deepEqual(indiscreet({ path: 'a', text: `\n\ncd ${slash}work/main` }), [
    `a:3: '${slash}work' is a folder of one machine`
  ])
  t.end()
})

test('a source that is in order gets no complaint', (t) => {
  const text = `/** The keys of an index: how they are ordered, and how they are read. */
import { KVSwarmError } from '../errors.ts'

export const a: KVSwarmError | null = null
`
  t.deepEqual(complaintsAbout(sourceOf('lib/wire/a.ts', text)), [])
  t.equal(complaintsAbout(sourceOf('lib/wire/a.ts', 'console.log(1)')).length, 2)
  t.end()
})
