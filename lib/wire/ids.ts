/**
 * Node ids: an ed25519 public key, inside always 64 lower-case hex digits.
 *
 * - Read anywhere: 64 hex digits in any case, or the 52 characters of z-base-32, in which 260 bits carry 256:
 *   the last four are zero, so one key has one spelling.
 * - Written: always as hex.
 *
 * Source: z-base-32 is "human-oriented base-32 encoding" (Wilcox-O'Hearn, 2002), as hypercore keys are shown.
 */
import { assert } from '../assert.ts'
import { KVSwarmError } from '../errors.ts'
import type { NodeId } from '../types.ts'
import { show } from './show.ts'

const idBytesLength = 32
const hexDigits = /^[0-9a-f]{64}$/
const hexDigitsAnyCase = /^[0-9a-fA-F]{64}$/
const zBase32 = /^[ybndrfg8ejkmcpqxot1uwisza345h769]{52}$/
const zAlphabet = 'ybndrfg8ejkmcpqxot1uwisza345h769'

/** What an id looks like, for the messages of others. */
export const nodeIdForm = '64 hex digits or 52 characters of z-base-32'

/**
 * @param text 64 hex digits in any case, or 52 characters of z-base-32
 * @returns 64 lower-case hex digits
 * @throws INVALID_ARGUMENT when it is neither
 */
export function parseNodeId(text: string): NodeId {
  const id = readNodeId(text)
  if (id !== null) return id
  throw new KVSwarmError('INVALID_ARGUMENT', `not a node id: ${showId(text)}`, {
    hint: `a node id is ${nodeIdForm}; \`kvswarm id -d <dir>\` prints one`
  })
}

/** Like parseNodeId(), for those who collect faults: null when it is no node id. */
export function readNodeId(text: unknown): NodeId | null {
  if (typeof text !== 'string') return null
  if (hexDigitsAnyCase.test(text)) return text.toLowerCase()
  return zBase32.test(text) ? fromZBase32(text) : null
}

/** True for the inner form alone: 64 lower-case hex digits. */
export function isNodeId(value: unknown): value is NodeId {
  return typeof value === 'string' && hexDigits.test(value)
}

/**
 * The public key, 32 bytes.
 * @throws AssertionError unless isNodeId(id): what a user gives passes through parseNodeId() first
 */
export function idBytes(id: NodeId): Uint8Array {
  assert(isNodeId(id), 'node id of 64 lower-case hex digits')
  return new Uint8Array(Buffer.from(id, 'hex'))
}

/**
 * The id of a public key.
 * @throws AssertionError unless there are 32 bytes
 */
export function idOf(bytes: Uint8Array): NodeId {
  assert(bytes.length === idBytesLength, 'public key of 32 bytes')
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString('hex')
}

/** In full, unless it is far too long for an id: a digit too many or too few has to be seen. */
function showId(text: unknown): string {
  return typeof text === 'string' && text.length <= 80 ? JSON.stringify(text) : show(text)
}

function fromZBase32(text: string): NodeId | null {
  let bits = 0n
  for (const character of text) bits = (bits << 5n) | BigInt(zAlphabet.indexOf(character))
  if ((bits & 0xfn) !== 0n) return null
  return (bits >> 4n).toString(16).padStart(2 * idBytesLength, '0')
}
