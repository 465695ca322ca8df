/**
 * The names of logs as hypercore sees them: from the node ids and numbers in a name follow the manifest of its
 * core, and from that the core's key. Two logs of one signer never share a namespace, for two logs under
 * one signature key would be a fork, which closes a core for ever.
 *
 * A namespace is the BLAKE2b hash (32 bytes) of: length of the label (1 byte), label, the name's node ids (32 bytes
 * each) and numbers (big-endian; epoch 4 bytes, generation 8), all of fixed width, so that no two names share
 * their bytes. The signer itself is not part of it.
 */
import { hash } from 'hypercore-crypto'
import type { LogName } from '../types.ts'
import { encodeWith, nodeId, uint32be, uint64be } from './codec.ts'

/** What hypercore hashes to a core's key. */
export interface Manifest {
  version: 1
  signers: { publicKey: Uint8Array; namespace: Uint8Array }[]
}

/** The namespace of one generation of a log; 32 bytes. */
export function logNamespace(name: LogName, generation: number): Uint8Array {
  const parts: Uint8Array[] = [
    Uint8Array.of(`kvswarm/${name.kind}`.length),
    Buffer.from(`kvswarm/${name.kind}`)
  ]
  if (name.kind === 'outbox') parts.push(encodeWith(nodeId, name.owner))
  if (name.kind === 'handoff') {
    parts.push(encodeWith(nodeId, name.to), encodeWith(uint32be, name.epoch))
  }
  if (name.kind === 'journal') parts.push(encodeWith(uint64be, name.index))
  parts.push(encodeWith(uint64be, generation))
  return new Uint8Array(hash(parts))
}

/** The namespace of a run that is being written; it is never announced. */
export function buildNamespace(index: number, name: string): Uint8Array {
  const label = `kvswarm/build/${name}`
  const parts = [Uint8Array.of(label.length), Buffer.from(label), encodeWith(uint64be, index)]
  return new Uint8Array(hash(parts))
}

/**
 * The manifest of a core that nobody signs, since it never changes: who has its root hash can check its blocks.
 * @param length blocks
 */
export function staticManifest(rootHash: Uint8Array, length: number): StaticManifest {
  return {
    version: 1,
    hash: 'blake2b',
    quorum: 0,
    signers: [],
    prologue: { hash: rootHash, length }
  }
}

/** What hypercore hashes to the key of a core that never changes. */
export interface StaticManifest {
  version: 1
  hash: 'blake2b'
  quorum: 0
  signers: []
  prologue: { hash: Uint8Array; length: number }
}

/** The manifest of a core that one key signs. */
export function signedManifest(publicKey: Uint8Array, namespace: Uint8Array): Manifest {
  return { version: 1, signers: [{ publicKey, namespace }] }
}
