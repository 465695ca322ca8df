import { readFileSync } from 'node:fs'
import { isDeepStrictEqual } from 'node:util'
import test from 'tape'
import { goldenCases } from './golden-cases.ts'

const golden = JSON.parse(
  readFileSync(new URL('golden.json', import.meta.url), 'utf8')
) as Readonly<Record<string, string>>

test('golden vectors: what was written once is written and read for ever', (t) => {
  for (const { name, bytes, value, decode } of goldenCases) {
    const expected = Object.hasOwn(golden, name) ? golden[name] : 'missing in golden.json'
    t.equal(Buffer.from(bytes).toString('hex'), expected, name)
    if (decode === undefined || expected === undefined) continue
    t.ok(isDeepStrictEqual(decode(Buffer.from(expected, 'hex')), value), `${name}, read`)
  }
  const names = goldenCases.map(({ name }) => name)
  t.equal(new Set(names).size, names.length, 'no name twice')
  t.deepEqual(
    Object.keys(golden).filter((name) => !names.includes(name)),
    [],
    'none left out'
  )
  t.end()
})

test('golden vectors: docs/formats.md shows them as they are', (t) => {
  const text = readFileSync(new URL('../../docs/formats.md', import.meta.url), 'utf8')
  const shown = [...text.matchAll(/^\| `([^`]+)` +\|.*\| `([0-9a-f]+)` +\|$/gm)]
  t.ok(shown.length >= 30, `${shown.length} vectors`)
  for (const [, name = '', hex = ''] of shown) {
    t.equal(hex, golden[name], name)
  }
  t.end()
})
