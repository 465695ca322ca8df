/**
 * The keys and values of all benchmarks: the same for kvswarm and for what it is compared with, and the same in
 * every run. Keys are scattered (a new key lies anywhere among the old ones), values cannot be compressed.
 */

/** A bijection of 32-bit numbers (the last steps of MurmurHash3): different keys for different numbers. */
function scatter(n: number): number {
  let h = n >>> 0
  h = Math.imul(h ^ (h >>> 16), 0x85ebca6b)
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35)
  return (h ^ (h >>> 16)) >>> 0
}

/** Key number `n`: 22 characters. */
export function keyOf(n: number): string {
  const hex = (part: number): string => scatter(part).toString(16).padStart(8, '0')
  return `users/${hex(n)}${hex(n ^ 0x5bd1e995)}`
}

/** Key number `n` as long as a hash makes it: 37 bytes. */
export function hashedKeyOf(n: number): string {
  const hex = (seed: number): string =>
    scatter(n ^ seed)
      .toString(16)
      .padStart(8, '0')
  return `user:${hex(0)}${hex(0x5bd1e995)}${hex(0x27d4eb2f)}${hex(0x165667b1)}`
}

/** Value number `n`: so many bytes that look random. */
export function valueOf(n: number, bytes: number): Uint8Array {
  const value = Buffer.allocUnsafe(bytes)
  let state = scatter(n) | 1
  for (let i = 0; i < bytes; i++) {
    state ^= state << 13
    state ^= state >>> 17
    state ^= state << 5
    value[i] = state & 0xff
  }
  return value
}
