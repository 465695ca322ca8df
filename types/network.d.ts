/**
 * Ambient types of the network modules that ship none: only what lib/hyper/ calls.
 * They are not emitted; no public type mentions them.
 */

declare module '@hyperswarm/secret-stream' {
  import type { Duplex } from 'streamx'

  /** The stream below: of udx, or of lib/hyper/memory-link.ts. */
  export interface RawStream extends Duplex {
    readonly bytesReceived?: number
    readonly bytesTransmitted?: number
  }

  export default class NoiseSecretStream extends Duplex {
    constructor(
      isInitiator: boolean,
      rawStream: Duplex,
      options?: { keyPair?: { publicKey: Uint8Array; secretKey: Uint8Array }; keepAlive?: number }
    )
    static keyPair(seed?: Uint8Array): { publicKey: Uint8Array; secretKey: Uint8Array }
    readonly isInitiator: boolean
    readonly publicKey: Uint8Array | null
    readonly remotePublicKey: Uint8Array | null
    readonly rawStream: RawStream | null
    /** Resolves with false when the stream ended before the handshake did. */
    readonly opened: Promise<boolean>
    /** Bytes of whole messages behind the handshake. */
    readonly rawBytesRead: number
    readonly rawBytesWritten: number
    /** Where protomux notes that it sits on this stream. */
    userData: unknown
    /** Internal: the announced length of the frame that is coming in, 0 between frames. */
    readonly _len: number
    /** Internal to streamx: what waits to be written. */
    readonly _writableState: { readonly buffered: number }
  }
}

declare module 'protomux' {
  import type NoiseSecretStream from '@hyperswarm/secret-stream'

  /** A place in a buffer, as compact-encoding passes it. */
  export interface State {
    buffer: Uint8Array | null
    start: number
    end: number
  }

  export interface Encoding<M> {
    preencode(state: State, message: M): void
    encode(state: State, message: M): void
    decode(state: State): M
  }

  export interface Sender<M> {
    /** False: the stream below is full. */
    send(message: M): boolean
  }

  export interface MessageOptions {
    onmessage(message: unknown, channel: { readonly userData: unknown }): unknown
  }

  export interface ChannelOptions {
    protocol: string
    messages?: readonly MessageOptions[]
    onclose?(isRemote: boolean): void
    ondrain?(): void
  }

  export interface Channel {
    readonly opened: boolean
    readonly closed: boolean
    readonly messages: readonly Sender<unknown>[]
    open(): void
    close(): void
    addMessage<M>(options: {
      encoding: Encoding<M>
      autoBatch?: boolean
      onmessage(message: M): void
    }): Sender<M>
  }

  export default class Protomux {
    constructor(stream: NoiseSecretStream)
    readonly isProtomux: true
    readonly stream: NoiseSecretStream
    /** False from a write that filled the stream until the stream has drained. */
    readonly drained: boolean
    createChannel(options: ChannelOptions): Channel | null
    /** Called when the peer opens a channel of this protocol that nobody has opened here. */
    pair(options: { protocol: string }, notify: (id: Uint8Array | null) => Promise<void>): void
    cork(): void
    uncork(): void
    // Internals that lib/hyper/mux.ts overrides; it checks at start that they exist.
    protected _remote: readonly unknown[]
    protected _destroying: boolean
    protected _batch: unknown[] | null
    protected _batchState: State | null
    protected _onopensession(state: State): Promise<void> | null
    protected _pushBatch(localId: number, message: Uint8Array): void
    protected _sendBatch(batch: unknown[], state: State): void
    protected _safeDestroy(error: unknown): void
    protected _warn(error: unknown): void
  }
}

declare module 'hyperdht' {
  import type { EventEmitter } from 'node:events'
  import type NoiseSecretStream from '@hyperswarm/secret-stream'

  export interface DhtOptions {
    bootstrap?: readonly string[]
    host?: string
    port?: number
    /** False: others can reach this node directly. */
    firewalled?: boolean
    /** True: never takes part in keeping the DHT. */
    ephemeral?: boolean
  }

  export default class HyperDHT extends EventEmitter {
    static bootstrapper(port: number, host: string, options?: DhtOptions): HyperDHT
    constructor(options?: DhtOptions)
    /** Internals that a failed bind leaves open. */
    readonly io: { readonly networkInterfaces: { destroy(): void } }
    readonly _tickInterval: NodeJS.Timeout
    bind(): Promise<void>
    /** For tests: a connection of any identity, without a swarm around it. */
    connect(
      publicKey: Uint8Array,
      options: { keyPair: { publicKey: Uint8Array; secretKey: Uint8Array } }
    ): NoiseSecretStream
    address(): { host: string; port: number } | null
    /** Where others reach this node directly; null: they do not. */
    remoteAddress(): { host: string; port: number } | null
    fullyBootstrapped(): Promise<void>
    destroy(options?: { force?: boolean }): Promise<void>
  }
}

declare module 'hyperswarm' {
  import type { EventEmitter } from 'node:events'
  import type NoiseSecretStream from '@hyperswarm/secret-stream'
  import type HyperDHT from 'hyperdht'

  export default class Hyperswarm extends EventEmitter {
    constructor(options: {
      keyPair: { publicKey: Uint8Array; secretKey: Uint8Array }
      dht: HyperDHT
      maxPeers: number
      maxParallel: number
      backoffs: readonly number[]
      jitter: number
    })
    readonly connecting: number
    readonly server: {
      /** Asked for each handshake that comes in; true refuses it. */
      firewall: (publicKey: Uint8Array, payload: unknown, address: unknown) => boolean
      /** Internal: handshakes of the last 10 s; those with a raw stream are unfinished. */
      readonly _holepunches: readonly ({ readonly rawStream: unknown } | null)[]
    }
    on(event: 'connection', listener: (stream: NoiseSecretStream) => void): this
    listen(): Promise<unknown>
    joinPeer(publicKey: Uint8Array): void
    leavePeer(publicKey: Uint8Array): void
    destroy(options?: { force?: boolean }): Promise<void>
  }
}
