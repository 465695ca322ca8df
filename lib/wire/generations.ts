/**
 * Signed generation records: which generation of its log a node writes now. Anyone may keep them and pass them on,
 * so they carry the node's signature, and the bytes that are signed begin with a domain of their own: no
 * signature made for anything else can pose as one.
 *
 * Bytes: version (1), kind (1: 1 index, 2 outbox, 3 handoff), node (32), then for an outbox its storage node (32),
 * for a handoff log its receiver (32) and epoch; generation; for an index its serial; a byte 1 and the
 * position that it continues, or a byte 0; signature (64) over the domain with its length (1) before it and
 * all bytes before the signature.
 */
import { sign, verify } from 'hypercore-crypto'
import { assert } from '../assert.ts'
import type { KeyPair, AnnouncedLog, NodeId, Position } from '../types.ts'
import {
  type Codec,
  decodeWith,
  encodeWith,
  nodeId,
  nullable,
  position,
  type State,
  uint,
  uint8
} from './codec.ts'
import { idBytes, idOf } from './ids.ts'
import { corrupt } from './show.ts'

/** A node's word on one of its logs. */
export interface GenerationRecord {
  readonly name: AnnouncedLog
  /** The one that is written now. */
  readonly generation: number
  /** Which of the index's generations it is, counted for versionstamps; null for other logs. */
  readonly serial: number | null
  /** The generation before and how long it is; null: this is the first. */
  readonly continues: Position | null
}

/** No signed record is longer (167 bytes at most today); 256 of them fit one message. */
export const generationRecordBytesMax = 192

const version = 1
const kinds = { index: 1, outbox: 2, handoff: 3 } as const
const signatureBytes = 64
const domain = 'kvswarm/generation'

/** The record without its signature: what recordBytes() puts the domain before. */
export function encodeGeneration(record: GenerationRecord): Uint8Array {
  return encodeWith(recordCodec, record)
}

/** What is signed. */
export function recordBytes(record: GenerationRecord): Uint8Array {
  return signedBytes(encodeGeneration(record))
}

/** The record with its signature. @throws AssertionError when the key pair is not the node's */
export function signGeneration(record: GenerationRecord, keyPair: KeyPair): Uint8Array {
  assert(idOf(keyPair.publicKey) === record.name.node, 'a node signs records of its own logs only')
  const bytes = encodeGeneration(record)
  return new Uint8Array(Buffer.concat([bytes, sign(signedBytes(bytes), keyPair.secretKey)]))
}

/** A record that its node has signed. @throws CORRUPT when it is no record, or the signature is not the node's */
export function openGeneration(bytes: Uint8Array): GenerationRecord {
  if (bytes.length > generationRecordBytesMax || bytes.length <= signatureBytes) {
    throw corrupt(`generation record of ${bytes.length} bytes`)
  }
  const content = bytes.subarray(0, -signatureBytes)
  const record = decodeWith(recordCodec, content, 'generation record')
  const signature = bytes.subarray(-signatureBytes)
  if (!verify(signedBytes(content), signature, idBytes(record.name.node))) {
    throw corrupt(`generation record that node ${record.name.node} has not signed`)
  }
  return record
}

function signedBytes(content: Uint8Array): Uint8Array {
  return Buffer.concat([Uint8Array.of(domain.length), Buffer.from(domain), content])
}

const nullablePosition = nullable(position)

const recordCodec: Codec<GenerationRecord> = {
  preencode(state, { name, generation, serial, continues }) {
    state.end += 2
    nodeId.preencode(state, name.node)
    if (name.kind === 'outbox') nodeId.preencode(state, name.owner)
    if (name.kind === 'handoff') {
      nodeId.preencode(state, name.to)
      uint.preencode(state, name.epoch)
    }
    uint.preencode(state, generation)
    assert(
      (serial !== null) === (name.kind === 'index'),
      'an index has a serial, other logs have none'
    )
    if (serial !== null) uint.preencode(state, serial)
    nullablePosition.preencode(state, continues)
  },
  encode(state, { name, generation, serial, continues }) {
    uint8.encode(state, version)
    uint8.encode(state, kinds[name.kind])
    nodeId.encode(state, name.node)
    if (name.kind === 'outbox') nodeId.encode(state, name.owner)
    if (name.kind === 'handoff') {
      nodeId.encode(state, name.to)
      uint.encode(state, name.epoch)
    }
    uint.encode(state, generation)
    if (serial !== null) uint.encode(state, serial)
    nullablePosition.encode(state, continues)
  },
  decode(state) {
    const found = uint8.decode(state)
    if (found !== version) throw corrupt(`generation record of version ${found}`)
    const kind = uint8.decode(state)
    const name = decodeName(state, kind, nodeId.decode(state))
    return {
      name,
      generation: uint.decode(state),
      serial: name.kind === 'index' ? uint.decode(state) : null,
      continues: nullablePosition.decode(state)
    }
  }
}

function decodeName(state: State, kind: number, node: NodeId): AnnouncedLog {
  if (kind === kinds.index) return { kind: 'index', node }
  if (kind === kinds.outbox) return { kind: 'outbox', node, owner: nodeId.decode(state) }
  if (kind !== kinds.handoff) throw corrupt(`generation record of kind ${kind}`)
  return { kind: 'handoff', node, to: nodeId.decode(state), epoch: uint.decode(state) }
}
