/**
 * Ambient types of the storage modules that ship none: only what lib/hyper/ calls.
 * They are not emitted; no public type mentions them.
 */

declare module 'hypercore' {
  import type { EventEmitter } from 'node:events'

  export interface Manifest {
    version: 1
    signers: { publicKey: Uint8Array; namespace: Uint8Array }[]
    hash?: 'blake2b'
    quorum?: number
    prologue?: { hash: Uint8Array; length: number }
  }

  export interface GetOptions {
    wait?: boolean
    timeout?: number
    /** Requests made for this call; destroyRequests() ends them. */
    activeRequests?: unknown[]
  }

  export interface ReplicationPeer {
    remotePublicKey: Uint8Array
    remoteLength: number
    paused: boolean
  }

  export default class Hypercore extends EventEmitter {
    static key(manifest: Manifest): Buffer
    static discoveryKey(key: Uint8Array): Buffer
    static destroyRequests(requests: unknown[], error: Error): void
    static treeHashFromStorage(session: Hypercore, length?: number): Promise<Buffer>
    readonly key: Buffer
    readonly discoveryKey: Buffer
    readonly length: number
    readonly writable: boolean
    readonly opened: boolean
    readonly closing: Promise<void> | null
    readonly peers: ReplicationPeer[]
    /** Internals; their shape is checked at start (lib/hyper/store.ts). */
    readonly core: {
      readonly header: { readonly frozen?: boolean }
      readonly replicator: {
        readonly peers: { readonly protomux: unknown; readonly channel: { close(): void } }[]
        detachFrom(muxer: unknown): void
      }
      hasSession(): boolean
      readonly bitfield: { get(index: number): boolean; firstUnset(from: number): number }
      readonly state: SessionState
      readonly storage: {
        read(...given: unknown[]): { getBlock(index: number): Promise<unknown> }
        createBlockStream(range: {
          gte: number
          lt: number
        }): AsyncIterable<{ index: number; value: Buffer }>
      }
      readonly closed: boolean
      close(): Promise<void>
    }
    ready(): Promise<void>
    append(blocks: Uint8Array[] | Uint8Array): Promise<{ length: number }>
    get(index: number, options?: GetOptions): Promise<Buffer | null>
    replicate(muxer: unknown): unknown
    setUserData(key: string, value: Uint8Array): Promise<void>
    getUserData(key: string): Promise<Buffer | null>
    close(): Promise<void>
  }

  export interface SessionState {
    flush(): Promise<boolean>
    readonly length: number
    readonly byteLength: number
    /** Of the tree over all blocks, from left to right. */
    readonly roots: readonly { readonly index: number; readonly size: number }[]
    readonly storage: {
      readonly core: { corePointer: number; dataPointer: number }
      read(): {
        getTreeNode(index: number): Promise<{ readonly size: number } | null>
        tryFlush(): void
      }
    }
  }
}

declare module 'corestore' {
  import type Hypercore from 'hypercore'
  import type { Manifest } from 'hypercore'
  import type HypercoreStorage from 'hypercore-storage'

  export interface CoreOptions {
    manifest?: Manifest
    discoveryKey?: Uint8Array
    keyPair?: { publicKey: Uint8Array; secretKey: Uint8Array }
    writable?: boolean
    /** False: a truncation that its signer has signed is not taken over. */
    allowFork?: boolean
    active?: boolean
  }

  export default class Corestore {
    constructor(storage: HypercoreStorage, options?: { readOnly?: boolean })
    readonly storage: HypercoreStorage
    readonly cores: { readonly map: Map<string, unknown> }
    ready(): Promise<void>
    close(): Promise<void>
    get(options: CoreOptions): Hypercore
    list(): AsyncIterable<Uint8Array>
    /** A core that never changes, of what `core` holds; the two share it. */
    staticify(core: Hypercore, options?: { writable?: boolean }): Promise<Hypercore>
    createKeyPair(name: string): Promise<{ publicKey: Buffer; secretKey: Buffer }>
  }
}

declare module 'hypercore-storage' {
  export default class HypercoreStorage {
    constructor(
      directory: string,
      options?: {
        walRecoveryMode?: number
        writeBufferSize?: number
        readOnly?: boolean
        createIfMissing?: boolean
        /** True: nothing ties the store to its place (no `CORESTORE` file). */
        allowBackup?: boolean
      }
    )
    readonly rocks: {
      readonly path: string
      currentWalFile(): Promise<{ path: string; number: number } | null>
    }
    /** All that is stored: keys and values as they are. */
    readonly db: {
      ready(): Promise<void>
      flush(): Promise<void>
      /** Compacts to the end of the store when `end` is bytes, whatever they are (measured). */
      compactRange(start: Uint8Array, end: Uint8Array): Promise<void>
      /** Bytes in tables. */
      approximateSize(start: Uint8Array, end: Uint8Array): Promise<number>
      iterator(
        range: Record<string, never>,
        options: { capacity: number }
      ): AsyncIterable<{ key: Buffer; value: Buffer }>
      /** Without `autoDestroy` the store cannot be closed before the batch is destroyed. */
      write(options: { autoDestroy: true }): {
        tryPut(key: Uint8Array, value: Uint8Array): void
        tryDelete(key: Uint8Array): void
        tryDeleteRange(start: Uint8Array, end: Uint8Array): void
        flush(): Promise<void>
      }
    }
    /** Deletes the write-ahead log on one kind of damage; replaced at open (lib/hyper/store.ts). */
    _maybeRecoverLater: (error: Error) => void
    ready(): Promise<void>
    close(): Promise<void>
    /** The seed of all keys, or null. */
    getSeed(): Promise<Buffer | null>
    hasCore(discoveryKey: Uint8Array): Promise<boolean>
    /** What a core is; null: there is none of this name, or nothing that its name leads to. */
    getAuth(discoveryKey: Uint8Array): Promise<{ readonly key: Buffer } | null>
    /** The storage of one core, or null. */
    resumeCore(discoveryKey: Uint8Array): Promise<{
      read(): { getUserData(key: string): Promise<Buffer | null>; tryFlush(): void }
      close(): Promise<void>
    } | null>
  }
}

declare module 'hypercore-storage/lib/keys.js' {
  /** Keys of the store, in a buffer that the next calls write over. */
  const keys: {
    readonly store: { core(discoveryKey: Uint8Array): Uint8Array }
    readonly core: { core(pointer: number): Uint8Array; data(pointer: number): Uint8Array }
  }
  export default keys
}

/** Of the benchmarks alone. */
declare module 'hyperbee' {
  import type Hypercore from 'hypercore'

  export default class Hyperbee {
    constructor(core: Hypercore, options?: { keyEncoding?: string; valueEncoding?: string })
    readonly core: Hypercore
    ready(): Promise<void>
    close(): Promise<void>
    get(key: Uint8Array): Promise<{ key: Buffer; value: Buffer } | null>
    batch(): {
      put(key: Uint8Array, value: Uint8Array): Promise<void>
      flush(): Promise<void>
    }
    createReadStream(range: Record<string, never>): AsyncIterable<{ key: Buffer; value: Buffer }>
  }
}

/** Of the benchmarks alone. */
declare module 'hyperbee2' {
  import type Corestore from 'corestore'
  import type Hypercore from 'hypercore'

  export default class Hyperbee2 {
    constructor(store: Corestore, options?: { core?: Hypercore })
    readonly core: Hypercore
    ready(): Promise<void>
    close(): Promise<void>
    get(key: Uint8Array): Promise<{ key: Buffer; value: Buffer } | null>
    write(): { tryPut(key: Uint8Array, value: Uint8Array): void; flush(): Promise<void> }
    createReadStream(): AsyncIterable<{ key: Buffer; value: Buffer }>
  }
}
