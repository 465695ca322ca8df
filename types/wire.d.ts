/**
 * Ambient types for lib/wire/: only what it calls. They are not emitted; no public type mentions them.
 */

/** In Node 20, but in TypeScript's library only from es2024 on. */
interface String {
  isWellFormed(): boolean
}

declare module 'compact-encoding' {
  interface State {
    start: number
    end: number
    buffer: Uint8Array
  }

  interface Encoding<T> {
    preencode(state: State, value: T): void
    encode(state: State, value: T): void
    decode(state: State): T
  }

  /** The module is CommonJS: its exports are the default one. */
  const encodings: {
    readonly uint: Encoding<number>
    readonly uint8: Encoding<number>
    readonly uint32be: Encoding<number>
    readonly uint64be: Encoding<number>
    /** `bytes` bytes without a length; decodes to a view of the state's buffer. */
    fixed(bytes: number): Encoding<Uint8Array>
  }
  export default encodings
}

declare module 'hypercore-crypto' {
  /** ed25519; 64 bytes. */
  export function sign(message: Uint8Array, secretKey: Uint8Array): Buffer
  export function verify(message: Uint8Array, signature: Uint8Array, publicKey: Uint8Array): boolean
  /** BLAKE2b of the parts, one behind the other; 32 bytes. */
  export function hash(data: Uint8Array | readonly Uint8Array[]): Buffer
  /** Deterministic when a 32-byte seed is given. */
  export function keyPair(seed?: Uint8Array): { publicKey: Buffer; secretKey: Buffer }
}
