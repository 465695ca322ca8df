import test from 'tape'
import { addressOf } from '../../lib/slices/address.ts'
import { SPACE } from '../../lib/slices/space.ts'
import { random } from '../helpers/random.ts'

const counting = (length: number): Uint8Array => Uint8Array.from({ length }, (_, i) => i)

// SipHash-2-4 of 00 01 02 ..., key 00 01 ... 0f: the reference implementation's bytes, read little-endian as the
// paper writes its result (appendix A: 15 bytes give a129ca6149be45e5)
const vectors: readonly (readonly [number, bigint])[] = [
  [0, 0x726fdb47dd0e0e31n],
  [1, 0x74f839c593dc67fdn],
  [2, 0x0d6c8009d9a94f5an],
  [3, 0x85676696d7fb7e2dn],
  [4, 0xcf2794e0277187b7n],
  [5, 0x18765564cd99a68dn],
  [6, 0xcbc9466e58fee3cen],
  [7, 0xab0200f58b01d137n],
  [8, 0x93f5f5799a932462n],
  [15, 0xa129ca6149be45e5n],
  [63, 0x958a324ceb064572n]
]

test('addresses are the top 53 bits of SipHash-2-4', (t) => {
  for (const [length, hash] of vectors) {
    t.equal(addressOf(counting(length), counting(16)), Number(hash >> 11n), `${length} bytes`)
  }
  t.end()
})

const mask = (1n << 64n) - 1n
const rotate = (x: bigint, bits: bigint): bigint => ((x << bits) | (x >> (64n - bits))) & mask
const word = (bytes: Uint8Array, at: number): bigint =>
  new DataView(bytes.buffer, bytes.byteOffset + at, 8).getBigUint64(0, true)

/** SipHash-2-4 as its paper describes it, for comparison. */
function sipHash(message: Uint8Array, key: Uint8Array): bigint {
  const [k0, k1] = [word(key, 0), word(key, 8)]
  let v0 = k0 ^ 0x736f6d6570736575n
  let v1 = k1 ^ 0x646f72616e646f6dn
  let v2 = k0 ^ 0x6c7967656e657261n
  let v3 = k1 ^ 0x7465646279746573n
  const rounds = (count: number): void => {
    for (let i = 0; i < count; i++) {
      v0 = (v0 + v1) & mask
      v1 = rotate(v1, 13n) ^ v0
      v0 = rotate(v0, 32n)
      v2 = (v2 + v3) & mask
      v3 = rotate(v3, 16n) ^ v2
      v0 = (v0 + v3) & mask
      v3 = rotate(v3, 21n) ^ v0
      v2 = (v2 + v1) & mask
      v1 = rotate(v1, 17n) ^ v2
      v2 = rotate(v2, 32n)
    }
  }
  const padded = new Uint8Array(8 * Math.floor(message.length / 8) + 8)
  padded.set(message)
  padded[padded.length - 1] = message.length & 0xff
  for (let at = 0; at < padded.length; at += 8) {
    const m = word(padded, at)
    v3 ^= m
    rounds(2)
    v0 ^= m
  }
  v2 ^= 0xffn
  rounds(4)
  return v0 ^ v1 ^ v2 ^ v3
}

test('addresses agree with the paper on random keys and messages', (t) => {
  const source = random(t)
  let differ = 0
  for (let i = 0; i < 2000; i++) {
    const key = source.bytes(16)
    const message = source.bytes(source.int(0, 80))
    const address = addressOf(message, key)
    if (address !== Number(sipHash(message, key) >> 11n)) differ++
    if (!Number.isSafeInteger(address) || address < 0 || address >= SPACE) differ++
  }
  t.equal(differ, 0)
  t.end()
})

test('addresses spread keys evenly, and another hash key spreads them otherwise', (t) => {
  const cells = new Uint32Array(64)
  let same = 0
  const other = Uint8Array.from(counting(16), (byte) => byte ^ 0x5a)
  for (let i = 0; i < 64_000; i++) {
    const bytes = Buffer.from(`key ${i}`)
    const address = addressOf(bytes, counting(16))
    const cell = Math.floor((address / SPACE) * cells.length)
    cells[cell] = (cells[cell] ?? 0) + 1
    if (cell === Math.floor((addressOf(bytes, other) / SPACE) * cells.length)) same++
  }
  // 1000 keys a cell, standard deviation 31.4: five of them
  t.ok(
    cells.every((count) => Math.abs(count - 1000) < 160),
    `${Math.min(...cells)} to ${Math.max(...cells)}`
  )
  t.ok(Math.abs(same - 1000) < 160, `${same} of 64,000 in the same cell`)
  t.end()
})

test('a hash key of another length is a defect of the caller', (t) => {
  t.throws(() => addressOf(counting(4), counting(15)), /16 bytes/)
  t.end()
})
