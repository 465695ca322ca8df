/**
 * From a partition key to its point of the address space.
 *
 * - address = floor(h / 2^11), where h is the 64-bit number that SipHash-2-4 is defined to give, that is its 8
 *   bytes read little-endian: the top 53 bits of the 64.
 * - The hash is keyed, so that nobody who does not know the configuration can aim keys at one node.
 *
 * Source: Aumasson, Bernstein: "SipHash: a fast short-input PRF", INDOCRYPT 2012.
 */
import { crypto_shorthash } from 'sodium-universal'
import { assert } from '../assert.ts'

/** Bytes of the hash key. */
export const hashKeyBytes = 16

const hash = new Uint8Array(8)
const words = new DataView(hash.buffer)

/**
 * The address of a partition key: an integer in [0, SPACE).
 * @param partitionKey lib/wire/keys.ts, partitionKeyOf()
 * @param hashKey 16 bytes, from the configuration
 */
export function addressOf(partitionKey: Uint8Array, hashKey: Uint8Array): number {
  assert(hashKey.length === hashKeyBytes, 'hash key of 16 bytes')
  crypto_shorthash(hash, partitionKey, hashKey)
  return words.getUint32(4, true) * 2 ** 21 + (words.getUint32(0, true) >>> 11)
}
