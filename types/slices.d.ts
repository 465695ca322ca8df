/**
 * Ambient types for lib/slices/: only what it calls. They are not emitted; no public type mentions them.
 */

declare module 'sodium-universal' {
  /** SipHash-2-4: writes 8 bytes, the hash little-endian, of `input` under a key of 16 bytes. */
  export function crypto_shorthash(output: Uint8Array, input: Uint8Array, key: Uint8Array): void
}
