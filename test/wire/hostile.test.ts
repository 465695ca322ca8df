// time limit: 20 min
import { isDeepStrictEqual } from 'node:util'
import test from 'tape'
import { AssertionError } from '../../lib/assert.ts'
import { isKVSwarmError } from '../../lib/errors.ts'
import { decodeBlock, encodeBlock } from '../../lib/wire/blocks.ts'
import { decodeFlushId, encodeFlushId } from '../../lib/wire/flush-id.ts'
import { openGeneration } from '../../lib/wire/generations.ts'
import { decodeKey, encodeKey, isEncodedKey, partitionKeyOf } from '../../lib/wire/keys.ts'
import { decodeMessage, encodeMessage, protocolVersion } from '../../lib/wire/messages.ts'
import { readOperation } from '../../lib/wire/operations.ts'
import {
  decodeDirectory,
  decodeEntries,
  decodeFence,
  decodeValueBlock,
  encodeFence,
  encodeValueBlock
} from '../../lib/wire/index-blocks.ts'
import { keyText } from '../../lib/wire/index-bytes.ts'
import { decodeNames, encodeNames } from '../../lib/wire/index-names.ts'
import { decodeLayout, encodeLayout } from '../../lib/wire/index-state.ts'
import { decodeStep, encodeStep, type Step } from '../../lib/wire/index-step.ts'
import {
  dataKey,
  decodeCursor,
  decodeEntry,
  decodeIndexState,
  decodeResult,
  decodeResultKey,
  decodeTombstone,
  encodeCursor,
  encodeEntry,
  encodeIndexState,
  encodeResult,
  encodeTombstone,
  keyOfData,
  parseIndexKey
} from '../../lib/wire/records.ts'
import { decodeStamp, encodeStamp } from '../../lib/wire/stamps.ts'
import {
  decodeCounter,
  decodeValue,
  encodeCounter,
  encodeValue,
  isEncodedValue
} from '../../lib/wire/values.ts'
import { type Random, random as randomOf } from '../helpers/random.ts'
import { randomKey, randomOperation, randomValue } from './generate.ts'
import { goldenCases } from './golden-cases.ts'
import { encodeDirectory, encodeEntries, ownBlock } from './golden-index.ts'

/** Mutated inputs for each decoder; 28 of them. KVSWARM_TEST_LONG=1 gives each a million. */
const long: boolean = process.env['KVSWARM_TEST_LONG'] === '1'
const inputsEach = long ? 1_000_000 : 24_000

interface Decoder {
  readonly name: string
  /** Every other input is made of bytes of this format (see seeds()), the rest of any. */
  readonly format: string
  readonly decode: (bytes: Uint8Array) => unknown
  /** Where one thing has one form: the bytes of what decode() gave; null where it gave nothing to encode. */
  readonly encode?: (decoded: never) => Uint8Array | null
}

const key = dataKey(encodeKey('k'))
const textOf = (bytes: Uint8Array): string => Buffer.from(bytes).toString('latin1')

const decoders: readonly Decoder[] = [
  { name: 'key', format: 'key', decode: decodeKey, encode: encodeKey },
  { name: 'key at a glance', format: 'key', decode: isEncodedKey },
  { name: 'partition key', format: 'key', decode: partitionKeyOf },
  { name: 'value', format: 'value', decode: (bytes) => decodeValue(bytes) },
  { name: 'value as JSON', format: 'value', decode: (bytes) => asJson(bytes) },
  { name: 'value at a glance', format: 'value', decode: isEncodedValue },
  {
    name: 'counter',
    format: 'value',
    decode: decodeCounter,
    encode: ({ type, value }: { type: 'u64'; value: bigint }) => encodeCounter(type, value)
  },
  { name: 'versionstamp', format: 'versionstamp', decode: decodeStamp, encode: encodeStamp },
  {
    name: 'block',
    format: 'block',
    decode: decodeBlock,
    encode: (block: ReturnType<typeof decodeBlock>) => {
      if (block.type === 'invalid' || block.type === 'unknown') return null
      if (block.type !== 'operations') return encodeBlock(block)
      const whole = block.segments.every((segment) =>
        segment.operations.every((operation) => operation.type !== 'invalid')
      )
      return whole ? encodeBlock(block as Parameters<typeof encodeBlock>[0]) : null
    }
  },
  { name: 'operation', format: 'operation', decode: readOperation },
  { name: 'index key', format: 'index key', decode: parseIndexKey },
  { name: 'result key', format: 'index key', decode: decodeResultKey },
  { name: 'data key', format: 'index key', decode: keyOfData, encode: dataKey },
  { name: 'state', format: 'record', decode: decodeIndexState, encode: encodeIndexState },
  { name: 'cursor', format: 'record', decode: decodeCursor, encode: encodeCursor },
  { name: 'tombstone', format: 'record', decode: decodeTombstone, encode: encodeTombstone },
  {
    name: 'entry',
    format: 'record',
    decode: (bytes) => decodeEntry(key, bytes),
    encode: encodeEntry
  },
  { name: 'result', format: 'result', decode: decodeResult, encode: encodeResult },
  { name: 'generation record', format: 'generation record', decode: openGeneration },
  {
    name: 'message',
    format: 'message',
    decode: decodeMessage,
    encode: (message: ReturnType<typeof decodeMessage>) => {
      // of another protocol version nothing but the version is read
      const other = message.type === 'hello' && message.protocolVersion !== protocolVersion
      return other ? null : encodeMessage(message)
    }
  },
  {
    name: 'index entries',
    format: 'index entries',
    decode: decodeEntries,
    encode: (read: ReturnType<typeof decodeEntries>) => encodeEntries(read.keys, read.values)
  },
  {
    name: 'index fence',
    format: 'index fence',
    decode: (bytes) => decodeFence(bytes, ownBlock),
    encode: encodeFence
  },
  {
    name: 'index directory',
    format: 'index directory',
    decode: (bytes) => decodeDirectory(bytes, ownBlock),
    encode: encodeDirectory
  },
  {
    name: 'index step',
    format: 'index step',
    decode: (bytes) => decodeStep(bytes, ownBlock),
    encode: (step: Step) => encodeStep(step, ownBlock)
  },
  { name: 'index layout', format: 'index layout', decode: decodeLayout, encode: encodeLayout },
  { name: 'index note', format: 'index note', decode: decodeNames, encode: encodeNames },
  {
    name: 'index value',
    format: 'index value',
    decode: (bytes) => decodeValueBlock(bytes, Math.max(0, bytes.length - 1)),
    encode: encodeValueBlock
  },
  {
    name: 'flush id',
    format: 'flush id',
    decode: (bytes) => decodeFlushId(textOf(bytes)),
    encode: (id: Parameters<typeof encodeFlushId>[0]) => Buffer.from(encodeFlushId(id))
  }
]

/** Bytes that decode, by format; what is valid for one is hostile to the others. */
function seeds(random: Random): Map<string, Uint8Array[]> {
  const corpus = new Map<string, Uint8Array[]>()
  const add = (format: string, bytes: Uint8Array): void => {
    corpus.set(format, [...(corpus.get(format) ?? []), bytes])
  }
  for (const { name, bytes } of goldenCases) add(name.split(':', 1)[0] as string, bytes)
  for (let i = 0; i < 100; i++) {
    add('key', encodeKey(randomKey(random)))
    add('value', encodeValue(randomValue(random)))
    const operations = Array.from({ length: 3 }, () => randomOperation(random))
    const segments = [{ request: random.bytes(16), total: 3, operations }]
    add('block', encodeBlock({ type: 'operations', epoch: 1, seen: null, segments }))
    // the first operation without its length
    const alone = encodeBlock({
      type: 'operations',
      epoch: 1,
      seen: null,
      segments: [{ request: random.bytes(16), total: 1, operations: operations.slice(0, 1) }]
    })
    add('operation', alone.subarray(24))
    const keys = Array.from({ length: random.int(1, 20) }, () =>
      keyText(encodeKey(randomKey(random)))
    )
    const sorted = [...new Set(keys)].toSorted()
    const values = sorted.map(() =>
      random.chance(0.3)
        ? { journal: random.int(0, 300), block: random.int(0, 300), length: random.int(0, 70_000) }
        : random.chance(0.2)
          ? null
          : random.bytes(random.int(0, 20))
    )
    add('index entries', encodeEntries(sorted, values))
    const lowest = ['', ...sorted]
    const filter = random.chance(0.5) ? random.bytes(random.int(1, 40)) : null
    add(
      'index fence',
      encodeFence({ level: filter ? 1 : random.int(1, 8), first: 3, lowest, filter })
    )
    const marks = sorted.map(() => random.int(0, 255))
    const blocks = sorted.map(() => random.int(0, ownBlock - 1))
    add('index directory', encodeDirectory({ lowest: sorted, marks, blocks }))
  }
  return corpus
}
/** Bytes at which encodings change their meaning. */
const edges = [
  0, 1, 2, 3, 4, 5, 0x10, 0x1f, 0x3b, 0x5f, 0x7f, 0x80, 0x9a, 0x9f, 0xbf, 0xc1, 0xd8, 0xd9, 0xfb
]
const more = [...edges, 0xfc, 0xfd, 0xfe, 0xff]

function mutate(random: Random, bytes: Uint8Array, other: Uint8Array): Uint8Array {
  let mutated = Buffer.from(bytes)
  for (let n = random.int(0, 3); n >= 0; n--) {
    const at = random.int(0, Math.max(0, mutated.length - 1))
    switch (random.int(0, 6)) {
      case 0:
        if (mutated.length > 0) mutated[at] = (mutated[at] ?? 0) ^ (1 << random.int(0, 7))
        break
      case 1:
        if (mutated.length > 0) mutated[at] = random.pick(more)
        break
      case 2:
        mutated = mutated.subarray(0, at)
        break
      case 3:
        mutated = Buffer.concat([
          mutated.subarray(0, at),
          random.bytes(random.int(1, 9)),
          mutated.subarray(at)
        ])
        break
      case 4:
        mutated = Buffer.concat([mutated.subarray(0, at), mutated.subarray(at + random.int(1, 9))])
        break
      case 5:
        mutated = Buffer.concat([
          mutated.subarray(0, at),
          other.subarray(random.int(0, other.length))
        ])
        break
      default:
        // a length that promises gigabytes
        mutated = Buffer.concat([
          mutated.subarray(0, at),
          Uint8Array.of(0xfe, 0xff, 0xff, 0xff, 0x7f),
          mutated
        ])
    }
  }
  return mutated
}

test('hostile bytes: a value or CORRUPT, and nothing is changed', (t) => {
  const random = randomOf(t)
  const corpus = seeds(random)
  const all = [...corpus.values()].flat()
  let inputs = 0
  const started = performance.now()
  const memory = process.memoryUsage().rss
  for (const { name, format, decode, encode } of decoders) {
    const own = corpus.get(format) ?? []
    let values = 0
    let refused = 0
    const problems: string[] = []
    for (let i = 0; i < inputsEach; i++) {
      const bytes = random.chance(0.1)
        ? random.bytes(random.int(0, 80))
        : mutate(random, random.pick(random.chance(0.5) ? own : all), random.pick(all))
      const before = Buffer.from(bytes).toString('hex')
      inputs++
      try {
        const value = decode(bytes)
        values++
        const encoded = encode?.(value as never) ?? null
        if (encoded && Buffer.from(encoded).toString('hex') !== before)
          problems.push(`two forms: ${before}`)
      } catch (error) {
        refused++
        if (!isKVSwarmError(error, name === 'flush id' ? 'FLUSH_UNKNOWN' : 'CORRUPT')) {
          problems.push(`${String(error)}: ${before}`)
        }
      }
      if (Buffer.from(bytes).toString('hex') !== before) problems.push(`changed: ${before}`)
    }
    t.deepEqual(problems.slice(0, 3), [], `${name}: ${values} values, ${refused} refused`)
  }
  t.comment(`${inputs} inputs in ${Math.round(performance.now() - started)} ms`)
  t.ok(inputs >= 500_000, `${inputs} inputs`)
  const megabytes = (process.memoryUsage().rss - memory) / 2 ** 20
  t.ok(megabytes < 64, `${Math.round(megabytes)} MB more`)
  t.end()
})

test('hostile bytes: what decodes is stable', (t) => {
  const random = randomOf(t)
  const corpus = seeds(random).get('value') ?? []
  let values = 0
  const unstable: string[] = []
  for (let i = 0; i < 20_000; i++) {
    const bytes = mutate(random, random.pick(corpus), random.pick(corpus))
    let value: unknown
    try {
      value = decodeValue(bytes)
    } catch {
      continue
    }
    values++
    // counters are read as bigints, and isDeepStrictEqual() takes no two invalid dates for equal
    const tag = bytes[0] ?? 0
    const encoded = tag >= 3 ? bytes : encodeValue(value as Parameters<typeof encodeValue>[0])
    if (encoded.length !== bytes.length) unstable.push(Buffer.from(bytes).toString('hex'))
    else if (tag < 2 && !isDeepStrictEqual(new Uint8Array(bytes), encoded)) unstable.push('bytes')
  }
  t.deepEqual(unstable, [], `${values} values are written again in as many bytes`)
  t.ok(values > 1000, 'and there were enough of them')
  t.end()
})

test('hostile bytes: promises of gigabytes cost nothing', (t) => {
  const promises: [string, string][] = [
    ['value: array', '029affffffff'],
    ['value: map', '02baffffffff'],
    ['value: Map', '02d90103baffffffff'],
    ['value: Set', '02d901029affffffff'],
    ['value: bytes', '025affffffff'],
    ['value: text', '027affffffff'],
    ['value: typed array', '02d8565affffffff'],
    ['value: arrays of arrays', `02${'9a00ffffff'.repeat(90)}`],
    ['block: segments', '01020100feffffff7f'],
    ['block: operations', `0102010001${'00'.repeat(16)}feffffff7ffeffffff7f00`],
    ['block: lengths', `010301${'00'.repeat(32)}feffffff7f`],
    ['operation: group', '07feffffff7f'],
    ['operation: key', '02feffffff7f'],
    ['result: checks', '0101feffffff7f'],
    ['result: reason', '0102feffffff7f'],
    ['message: records', '01feffffff7f'],
    ['message: record', '0101feffffff7f'],
    ['key: bigint', '0401ffff'],
    ['index entries: key', '1200feffffff7f'],
    ['index entries: value', '12000161feffffff7f'],
    ['index fence: children', '130100feffffff7f00'],
    ['index fence: filter', '13010001feffffff7f0000'],
    ['index directory: key', '1400feffffff7f'],
    ['index step: blocks', '150000feffffff7f00'],
    ['index step: entries', '15000000feffffff7f'],
    ['index step: sources', '1500000000feffffff7f'],
    ['index step: tags', '150500000001000100feffffff7f'],
    ['index layout: journals', '1600feffffff7f'],
    ['index layout: runs', '160001000000feffffff7f'],
    ['index layout: kept journals', '16000100000000feffffff7f']
  ]
  const before = process.memoryUsage()
  for (const [name, hex] of promises) {
    const bytes = new Uint8Array(Buffer.from(hex, 'hex'))
    const [format] = name.split(':')
    const { decode } = decoders.find((decoder) => decoder.name === format) as Decoder
    let refused = 0
    for (let i = 0; i < 2000; i++) {
      try {
        const read = decode(bytes) as { type?: string }
        if (read.type === 'invalid') refused++
      } catch (error) {
        if (error instanceof AssertionError) throw error
        if (isKVSwarmError(error, 'CORRUPT')) refused++
      }
    }
    t.equal(refused, 2000, name)
  }
  const after = process.memoryUsage()
  const megabytes = (after.rss - before.rss) / 1e6
  t.ok(megabytes < 200, `${Math.round(megabytes)} MB more`)
  t.end()
})

/** Only refusals of other types are expected of a value that is there. */
function asJson(bytes: Uint8Array): unknown {
  try {
    return decodeValue(bytes, 'json')
  } catch (error) {
    if (isKVSwarmError(error, 'VALUE_INVALID')) return null
    throw error
  }
}
