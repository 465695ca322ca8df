/**
 * Filters over keys: a Bloom filter (Bloom, "Space/time trade-offs in hash coding with allowable errors", 1970) with
 * 7 bits a key by double hashing (Kirsch and Mitzenmacher, 2006). At 10 bits of room a key it lets 1 of 100 others
 * through. The hash is no secret and need not be: who makes keys that collide slows down reads of those keys.
 */
import type { KeyText } from './index-bytes.ts'

export const filterBitsPerKey = 10
const probes = 7

/** Two independent hashes of 32 bits; the second one is odd. */
export interface KeyHash {
  readonly a: number
  readonly b: number
}

/** 32-bit multiply-and-rotate over the bytes, with a final mix (after Appleby, MurmurHash3). */
export function hashKey(key: KeyText): KeyHash {
  let a = 0x9e3779b9
  let b = 0x85ebca6b
  for (let at = 0; at < key.length; at++) {
    const byte = key.charCodeAt(at)
    a = Math.imul(a ^ byte, 0x01000193)
    b = Math.imul((b << 5) | (b >>> 27), 0x27d4eb2f) ^ byte
  }
  return { a: mix(a), b: mix(b ^ key.length) | 1 }
}

function mix(hash: number): number {
  hash ^= hash >>> 16
  hash = Math.imul(hash, 0x85ebca6b)
  hash ^= hash >>> 13
  hash = Math.imul(hash, 0xc2b2ae35)
  return hash ^ (hash >>> 16)
}

/** @param hashes a and b of each key in turn */
export function makeFilter(hashes: readonly number[]): Uint8Array {
  const bytes = Math.max(8, Math.ceil(((hashes.length / 2) * filterBitsPerKey) / 8))
  const filter = new Uint8Array(bytes)
  const bits = bytes * 8
  for (let at = 0; at < hashes.length; at += 2) {
    let hash = (hashes[at] as number) >>> 0
    const step = (hashes[at + 1] as number) >>> 0
    for (let probe = 0; probe < probes; probe++) {
      const bit = hash % bits
      filter[bit >>> 3] = (filter[bit >>> 3] as number) | (1 << (bit & 7))
      hash = (hash + step) >>> 0
    }
  }
  return filter
}

/** False: no key with this hash is in it. */
export function mayHold(filter: Uint8Array, { a, b }: KeyHash): boolean {
  const bits = filter.length * 8
  let hash = a >>> 0
  const step = b >>> 0
  for (let probe = 0; probe < probes; probe++) {
    const bit = hash % bits
    if (((filter[bit >>> 3] as number) & (1 << (bit & 7))) === 0) return false
    hash = (hash + step) >>> 0
  }
  return true
}

/** The byte of a key in a directory. */
export function markOf({ b }: KeyHash): number {
  return (b >>> 8) & 0xff
}

/** The two bytes of a key in the list of small steps. */
export function tagOf({ a }: KeyHash): number {
  return a & 0xffff
}
