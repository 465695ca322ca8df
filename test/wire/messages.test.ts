import test from 'tape'
import { hash, keyPair } from 'hypercore-crypto'
import { messageBytesMax } from '../../config/limits.ts'
import { isKVSwarmError } from '../../lib/errors.ts'
import type { LogName } from '../../lib/types.ts'
import { decodeFlushId, encodeFlushId, type FlushId } from '../../lib/wire/flush-id.ts'
import {
  encodeGeneration,
  type GenerationRecord,
  generationRecordBytesMax,
  openGeneration,
  recordBytes,
  signGeneration
} from '../../lib/wire/generations.ts'
import { idOf } from '../../lib/wire/ids.ts'
import {
  decodeMessage,
  encodeMessage,
  type Message,
  protocolVersion,
  recordsPerMessageMax
} from '../../lib/wire/messages.ts'
import { logNamespace, signedManifest } from '../../lib/wire/namespaces.ts'
import { random as randomOf } from '../helpers/random.ts'

const keys = keyPair(new Uint8Array(32).fill(1))
const node = idOf(keys.publicKey)
const owner = 'bb'.repeat(32)
const position = { generation: 1_700_000_000_000, length: 70_000 }
const largest = 2 ** 53 - 1

const records: GenerationRecord[] = [
  { name: { kind: 'index', node }, generation: 5, serial: 1, continues: null },
  { name: { kind: 'outbox', node, owner }, generation: 5, serial: null, continues: position },
  {
    name: { kind: 'handoff', node, to: owner, epoch: 7 },
    generation: 5,
    serial: null,
    continues: null
  },
  {
    name: { kind: 'handoff', node, to: owner, epoch: largest },
    generation: largest,
    serial: null,
    continues: { generation: largest, length: largest }
  }
]

test('generation records: signed, and opened again', (t) => {
  for (const record of records) {
    const bytes = signGeneration(record, keys)
    t.deepEqual(
      openGeneration(Buffer.from(bytes)),
      record,
      `${record.name.kind} ${record.generation}`
    )
    t.ok(bytes.length <= generationRecordBytesMax, `${bytes.length} bytes`)
    const domain = Buffer.from('\x12kvswarm/generation')
    t.ok(
      Buffer.concat([domain, encodeGeneration(record)]).equals(recordBytes(record)),
      'under its domain'
    )
  }
  t.end()
})

test('generation records: every changed byte is found', (t) => {
  let opened = 0
  let others = 0
  let tried = 0
  for (const record of records) {
    const bytes = signGeneration(record, keys)
    for (let at = 0; at < bytes.length; at++) {
      const changed = new Uint8Array(bytes)
      changed[at] = (changed[at] ?? 0) ^ (1 << (at % 8))
      tried++
      try {
        openGeneration(changed)
        opened++
      } catch (error) {
        if (!isKVSwarmError(error, 'CORRUPT')) others++
      }
    }
  }
  t.equal(opened, 0, `none of ${tried} opens`)
  t.equal(others, 0, 'all are CORRUPT')
  const bytes = signGeneration(records[0] as GenerationRecord, keys)
  t.throws(() => openGeneration(bytes.subarray(0, -1)), /do not decode/, 'cut short')
  t.throws(() => openGeneration(new Uint8Array(64)), /64 bytes/, 'a signature of nothing')
  t.throws(
    () => openGeneration(new Uint8Array(generationRecordBytesMax + 1)),
    /193 bytes/,
    'too long'
  )
  const another = keyPair(new Uint8Array(32).fill(2))
  t.throws(
    () => signGeneration(records[0] as GenerationRecord, another),
    /invariant/,
    'of another node'
  )
  t.throws(
    () => signGeneration({ ...(records[0] as GenerationRecord), serial: null }, keys),
    /invariant/,
    'an index without a serial'
  )
  t.end()
})

test('namespaces: every name has its own', (t) => {
  const names: LogName[] = [
    { kind: 'index', node },
    { kind: 'outbox', node, owner },
    { kind: 'outbox', node, owner: node },
    { kind: 'handoff', node, to: owner, epoch: 1 },
    { kind: 'handoff', node, to: owner, epoch: 256 },
    { kind: 'handoff', node, to: node, epoch: 1 }
  ]
  const seen = new Set<string>()
  for (const name of names) {
    for (const generation of [0, 1, 256, largest]) {
      const namespace = logNamespace(name, generation)
      t.equal(namespace.length, 32, `${name.kind} ${generation}`)
      seen.add(Buffer.from(namespace).toString('hex'))
    }
  }
  t.equal(seen.size, names.length * 4, 'no two are the same')
  const namespace = logNamespace({ kind: 'index', node }, 1)
  t.deepEqual(
    logNamespace({ kind: 'index', node: owner }, 1),
    namespace,
    'the signer is in the manifest, not in the namespace'
  )
  t.deepEqual(signedManifest(keys.publicKey, namespace), {
    version: 1,
    signers: [{ publicKey: keys.publicKey, namespace }]
  })
  t.end()
})

const messages: Message[] = [
  { type: 'hello', protocolVersion, epoch: 300, configHash: 'ab'.repeat(32) },
  { type: 'records', records: [] },
  { type: 'records', records: records.map((record) => signGeneration(record, keys)) },
  { type: 'ack', ...position },
  { type: 'applied', ...position, index: { generation: 1, length: 253 }, rejected: 2 },
  { type: 'headRequest', id: 0 },
  { type: 'head', id: largest, ...position },
  { type: 'ping', id: 70_000 },
  { type: 'pong', id: 70_000 },
  { type: 'rotate', generation: largest },
  { type: 'oldest', generation: 0 }
]

test('messages: what is encoded comes back', (t) => {
  for (const message of messages) {
    const bytes = Buffer.concat([Uint8Array.of(9), encodeMessage(message)]).subarray(1)
    const decoded = decodeMessage(bytes)
    bytes.fill(0)
    t.deepEqual(decoded, message, message.type)
  }
  t.deepEqual(decodeMessage(encodeMessage({ type: 'ping' })), { type: 'ping', id: 0 }, 'no id is 0')
  const longest = new Uint8Array(generationRecordBytesMax)
  const full = Array.from({ length: recordsPerMessageMax }, () => longest)
  t.ok(
    encodeMessage({ type: 'records', records: full }).length <= messageBytesMax,
    'as many as can be'
  )
  t.throws(
    () => encodeMessage({ type: 'records', records: [...full, longest] }),
    /invariant/,
    'one record too many is ours'
  )
  const later = Uint8Array.of(0, 2, 9, 9, 9)
  const hello = { type: 'hello', protocolVersion: 2, epoch: 0, configHash: '0'.repeat(64) }
  t.deepEqual(decodeMessage(later), hello, 'of another protocol only the version is read')
  t.end()
})

test('messages: any other form is refused', (t) => {
  const cases: Record<string, Uint8Array> = {
    nothing: Uint8Array.of(),
    'unknown type': Uint8Array.of(10, 0),
    'hello cut short': Uint8Array.of(0, 1, 5, 0),
    'hello with more behind it': Uint8Array.of(...encodeMessage(messages[0] as Message), 0),
    'records that are not there': Uint8Array.of(1, 5),
    'more records than one message has': Uint8Array.of(1, 0xfd, 1, 1, ...new Uint8Array(300)),
    'record too long': Uint8Array.of(1, 1, 0xfd, 1, 1, ...new Uint8Array(257)),
    'ack cut short': Uint8Array.of(2, 5),
    'number in a longer form': Uint8Array.of(6, 0xfd, 5, 0),
    'number above 2^53': Uint8Array.of(6, 0xff, 0, 0, 0, 0, 0, 0, 0x20, 0),
    'too long': new Uint8Array(messageBytesMax + 1)
  }
  for (const [name, bytes] of Object.entries(cases)) {
    t.throws(() => decodeMessage(bytes), /do not decode/, name)
  }
  t.end()
})

const part = { owner, generation: largest, from: largest, to: largest }
const many: FlushId = { request: new Uint8Array(16), operations: 1, parts: [] }

const flushIds: FlushId[] = [
  { request: new Uint8Array(16).fill(3), operations: 0, parts: [] },
  {
    request: new Uint8Array(16).fill(255),
    operations: largest,
    parts: [
      { owner, generation: 1_700_000_000_000, from: 0, to: 1 },
      { owner: node, generation: largest, from: largest, to: largest }
    ]
  }
]

test('flush ids: what is encoded comes back', (t) => {
  for (const id of flushIds) {
    const text = encodeFlushId(id)
    t.ok(/^[A-Za-z0-9_-]+$/.test(text), text)
    t.deepEqual(decodeFlushId(text), id)
  }
  const parts = Array.from({ length: 4096 }, () => part)
  t.equal(
    decodeFlushId(encodeFlushId({ ...many, parts })).parts.length,
    4096,
    'one part for each of 4,096 storage nodes'
  )
  t.end()
})

test('flush ids: anything else is FLUSH_UNKNOWN', (t) => {
  const random = randomOf(t)
  const good = encodeFlushId(flushIds[1] as FlushId)
  const others: unknown[] = [
    '',
    'x',
    'not an id',
    good.slice(0, -1),
    `${good}A`,
    `${good}=`,
    ` ${good}`,
    null,
    7
  ]
  others.push('A'.repeat(10_000_000), good.toLowerCase(), good + good)
  // changed, with a checksum that fits: another version, more behind it, blocks that end before they begin
  const content = Buffer.from(good, 'base64url').subarray(0, -4)
  const later = Buffer.from(content)
  later[0] = 2
  const backwards = Buffer.from(
    encodeFlushId({ ...many, parts: [{ ...part, from: 5, to: 6 }] }),
    'base64url'
  )
  backwards[backwards.length - 5] = 4
  for (const bytes of [later, Buffer.concat([content, later]), backwards.subarray(0, -4)]) {
    others.push(Buffer.concat([bytes, hash(bytes).subarray(0, 4)]).toString('base64url'))
  }
  for (let i = 0; i < 2000; i++) {
    const at = random.int(0, good.length - 1)
    const character = random.pick(['A', 'B', 'z', '0', '9', '-', '_'])
    if (good[at] !== character) others.push(good.slice(0, at) + character + good.slice(at + 1))
  }
  const wrong = others.filter((text) => {
    try {
      decodeFlushId(text as string)
      return true
    } catch (error) {
      return !isKVSwarmError(error, 'FLUSH_UNKNOWN')
    }
  })
  t.deepEqual(wrong, [], `${others.length} others`)
  t.end()
})
