/** The blocks of an index by example, for golden-cases.ts, and for hostile.test.ts. */
import { RunBuilder, buildDirectory } from '../../lib/lsm/builder.ts'
import type { NodeId } from '../../lib/types.ts'
import {
  decodeDirectory,
  decodeEntries,
  decodeFence,
  decodeValueBlock,
  encodeFence,
  encodeValueBlock,
  kindOf,
  writeDirectoryEntry,
  writeEntry,
  type Directory,
  type Fence,
  type StoredValue
} from '../../lib/wire/index-blocks.ts'
import { ByteWriter, keyText, type KeyText } from '../../lib/wire/index-bytes.ts'
import { hashKey, makeFilter, markOf, tagOf } from '../../lib/wire/index-filter.ts'
import { decodeNames, encodeNames } from '../../lib/wire/index-names.ts'
import { decodeLayout, encodeLayout, type IndexLayout } from '../../lib/wire/index-state.ts'
import { decodeStep, encodeStep, type Step } from '../../lib/wire/index-step.ts'
import { encodeKey } from '../../lib/wire/keys.ts'
import { buildNamespace, logNamespace } from '../../lib/wire/namespaces.ts'
import { dataKey } from '../../lib/wire/records.ts'
import type { GoldenCase } from './golden-cases.ts'

/** Number of the block that a fence, a directory or a step of these is in. */
export const ownBlock = 300

const keyOf = (name: string): KeyText => keyText(dataKey(encodeKey(name)))
const names = ['apple', 'apricot', 'banana'] as const
const keys = names.map(keyOf)
const pointer = { journal: 2, block: 298, length: 70_000 }
const values: readonly StoredValue[] = [Uint8Array.of(1, 2, 3), null, pointer]

export function encodeEntries(
  texts: readonly KeyText[],
  stored: readonly StoredValue[]
): Uint8Array {
  const writer = new ByteWriter()
  writer.byte(kindOf.entries)
  let before = ''
  for (const [at, key] of texts.entries()) {
    writeEntry(writer, before, key, stored[at] as StoredValue)
    before = key
  }
  return writer.take()
}

export function encodeDirectory({ lowest, marks, blocks }: Directory): Uint8Array {
  const writer = new ByteWriter()
  writer.byte(kindOf.directory)
  let before = ''
  for (const [at, text] of lowest.entries()) {
    writeDirectoryEntry(writer, before, text, marks[at] as number, blocks[at] as number)
    before = text
  }
  return writer.take()
}

const hashes = keys.map(hashKey)
const filter = makeFilter(hashes.flatMap(({ a, b }) => [a, b]))
const fences: readonly [string, Fence][] = [
  ['lowest', { level: 1, first: 297, lowest: ['', '\x10\x02b'], filter }],
  ['higher', { level: 2, first: 0, lowest: ['', '\x10\x02b', '\x10\x02bz'], filter: null }]
]
const directory: Directory = {
  lowest: ['', keyOf('apricot').slice(0, 5), '\x10\x02b'],
  marks: hashes.map(markOf),
  blocks: [7, 299, 7]
}
const tags = hashes.map(tagOf)
const steps: readonly [string, Step][] = [
  [
    'small',
    {
      first: 299,
      values: 1,
      data: 0,
      inline: { keys, values },
      sources: [
        { kind: 'small', block: 300, count: 3, tags: [] },
        { kind: 'small', block: 290, count: 3, tags },
        { kind: 'fence', block: 250, count: 1_000, tags: [] }
      ]
    }
  ],
  [
    'under a directory',
    {
      first: 290,
      values: 2,
      data: 5,
      inline: null,
      sources: [{ kind: 'directory', block: 299, count: 70_000, tags: [] }]
    }
  ]
]
const top = encodeFence({ level: 1, first: 0, lowest: [''], filter })
const layouts: readonly [string, IndexLayout][] = [
  ['began', { event: 'began', journals: [{ number: 0, base: 0, length: 0 }], runs: [], kept: [] }],
  [
    'merged',
    {
      event: 'merged',
      journals: [
        { number: 8, base: 1_000, length: 300 },
        { number: 9, base: 1_300, length: 0 }
      ],
      runs: [
        { hash: new Uint8Array(32).fill(1), length: 2, entries: 3, bytes: 40, top },
        {
          hash: new Uint8Array(32).fill(2),
          length: 900,
          entries: 20_000,
          bytes: 900_000,
          top: new Uint8Array(0)
        }
      ],
      kept: [{ number: 2, base: 200, length: 400, bytes: 140_000, dead: 70_000 }]
    }
  ]
]
const note = [
  { kind: 'journal', number: 9 },
  { kind: 'run', hash: new Uint8Array(32).fill(3), length: 900 }
] as const
const large = new Uint8Array(2_000).fill(5)

/** What a run of these entries is, block by block. */
function run(): Uint8Array[] {
  const builder = new RunBuilder(0)
  for (let n = 0; n < 100; n++) {
    builder.add(keyOf(`key ${String(n).padStart(3, '0')}`), new Uint8Array(40).fill(n))
  }
  builder.finish()
  return builder.take()
}

function directoryOver(count: number): Uint8Array[] {
  const many = Array.from({ length: count }, (_, n) => keyOf(`key ${String(n).padStart(3, '0')}`))
  return buildDirectory(
    many,
    many.map((_, n) => n % 30),
    30
  )
}

export const indexCases = (node: NodeId): readonly GoldenCase[] => [
  {
    name: 'index entries',
    bytes: encodeEntries(keys, values),
    value: { keys, values },
    decode: decodeEntries
  },
  ...fences.map(([name, value]) => ({
    name: `index fence: ${name}`,
    bytes: encodeFence(value),
    value,
    decode: (bytes: Uint8Array) => decodeFence(bytes, ownBlock)
  })),
  {
    name: 'index directory',
    bytes: encodeDirectory(directory),
    value: directory,
    decode: (bytes) => decodeDirectory(bytes, ownBlock)
  },
  ...steps.map(([name, value]) => ({
    name: `index step: ${name}`,
    bytes: encodeStep(value, ownBlock),
    value,
    decode: (bytes: Uint8Array) => decodeStep(bytes, ownBlock)
  })),
  ...layouts.map(([name, value]) => ({
    name: `index layout: ${name}`,
    bytes: encodeLayout(value),
    value,
    decode: decodeLayout
  })),
  { name: 'index note', bytes: encodeNames(note), value: note, decode: decodeNames },
  {
    name: 'index value',
    bytes: encodeValueBlock(large.subarray(0, 5)),
    value: large.subarray(0, 5),
    decode: (bytes) => decodeValueBlock(bytes, 5)
  },
  ...run().map((bytes, block) => ({ name: `index run: block ${block}`, bytes })),
  ...directoryOver(100).map((bytes, at) => ({
    name: `index directory over 100: block ${30 + at}`,
    bytes
  })),
  {
    name: 'namespace: journal',
    bytes: logNamespace({ kind: 'journal', node, index: 5 }, 9)
  },
  { name: 'namespace: build', bytes: buildNamespace(5, 'merge') }
]
