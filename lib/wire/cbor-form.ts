/**
 * The form of structured values: CBOR (RFC 8949), narrowed so that what is put is what is got.
 *
 * - One value, one form: shortest heads, definite lengths. Integers from -2^32 to 2^32 - 1 are CBOR integers (but -0),
 *   all other numbers 64-bit floats, so that number and bigint stay apart: a bigint is always tag 2 or 3.
 * - Tags: 1 Date (seconds), 2 and 3 bigint, 27 [name, ...arguments] for RegExp, DataView and ArrayBuffer, 68 to 86
 *   typed arrays (RFC 8746, little-endian), 258 Set, 259 Map. A plain object is a map without a tag, and its keys
 *   are text; Uint8Array is a byte string without one.
 *
 * cbor-x cannot be set up to do this: it loses -0, renames `__proto__`, makes `{}` of a DataView, bytes of an
 * ArrayBuffer and plain objects of class instances, and replaces lone surrogates; reading, it takes records, which it
 * compiles, and shared references. It reads what is written here (test/wire/values.test.ts).
 */
/** Arrays, objects, maps and sets inside each other. */
export const valueDepthMax = 100
/**
 * Everything in one value that is an object to JavaScript, so bytes and dates too. Without it, the 8 MiB of a hostile
 * value become 1.9 GB of empty Uint8Arrays in 7 s (measured); with it, 250 MB in 0.4 s at the worst.
 */
export const valueObjectsMax = 500_000
/** UTF-16 units of a regular expression: the engine takes 50 times as many bytes to read one (measured). */
export const valueRegExpUnitsMax = 65_536

/** CBOR's major types. */
export const major = {
  unsigned: 0,
  negative: 1,
  bytes: 2,
  text: 3,
  array: 4,
  map: 5,
  tag: 6,
  simple: 7
} as const

/** First bytes of what has no length. */
export const simple = {
  false: 0xf4,
  true: 0xf5,
  null: 0xf6,
  undefined: 0xf7,
  float64: 0xfb
} as const

export const tags = {
  date: 1,
  bigint: 2,
  bigintNegative: 3,
  object: 27,
  set: 258,
  map: 259
} as const

/** Tags of typed arrays, all little-endian. Uint8Array needs none. */
export const typedArrayTags: ReadonlyMap<string, number> = new Map([
  ['Uint8ClampedArray', 68],
  ['Uint16Array', 69],
  ['Uint32Array', 70],
  ['BigUint64Array', 71],
  ['Int8Array', 72],
  ['Int16Array', 77],
  ['Int32Array', 78],
  ['BigInt64Array', 79],
  ['Float32Array', 85],
  ['Float64Array', 86]
])

const isLittleEndian = new Uint8Array(Uint16Array.of(1).buffer)[0] === 1

/** Elements in the byte order of the format, on whatever machine; the same call leads back. */
export function toLittleEndian(bytes: Uint8Array, elementBytes: number): Uint8Array {
  if (isLittleEndian || elementBytes === 1) return bytes
  const swapped = Buffer.from(bytes)
  if (elementBytes === 2) return swapped.swap16()
  return elementBytes === 4 ? swapped.swap32() : swapped.swap64()
}
