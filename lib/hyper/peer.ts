/**
 * Our channel on a connection: messages of lib/wire/messages.ts beside the hypercores of the same stream.
 *
 * - The first message each way is a hello; whatever else comes first, or nothing in time, ends the
 *   connection.
 * - A message that is too large (checked before it is decoded), cannot be decoded, or breaks what takes it
 *   ends this connection, is counted, and touches nothing else.
 * - What is sent is bounded: when the peer is slow, messages wait in a queue of fixed size; of those with
 *   one `newest` key only the newest waits. A full queue refuses, so a slow peer never makes us buffer more.
 * - Silence ends a connection: any byte of the peer counts as a sign of life. A ping goes out when either
 *   side has been quiet for `pingIntervalMs`, so that a peer which only receives (or only sends) for long is
 *   heard as well.
 */
import type NoiseSecretStream from '@hyperswarm/secret-stream'
import type { Channel, Encoding, Sender, State } from 'protomux'
import {
  messageBytesMax,
  pingIntervalMs,
  pingTimeoutMs,
  queueBytesMax,
  queueMessagesMax
} from '../../config/limits.ts'
import { assert } from '../assert.ts'
import { isKVSwarmError, KVSwarmError, messageOf } from '../errors.ts'
import type { Connection } from '../ports.ts'
import type { NodeId } from '../types.ts'
import { protocolName } from '../wire/messages.ts'
import { BoundedMux } from './mux.ts'

/** Sent and answered in here; the codec knows them, handlers never see them. */
export interface Liveness {
  readonly type: 'ping' | 'pong'
  readonly id?: number
}

/** Turns messages into bytes and back: encodeMessage() and decodeMessage() of lib/wire/messages.ts. */
export interface MessageCodec<M extends { readonly type: string }> {
  encode(message: M | Liveness): Uint8Array
  /** @throws when the bytes are no message */
  decode(bytes: Uint8Array): M | Liveness
}

/** The messages without ping and pong. */
export type Spoken<M extends { readonly type: string }> = Exclude<
  M,
  { readonly type: 'ping' | 'pong' }
>

/** What the user of the channel does; whatever a handler throws ends that connection only. */
export interface PeerHandlers<M extends { readonly type: string }> {
  /** Our first message; its type has to be `hello`. */
  hello(): Spoken<M>
  /** The peer's first message. */
  onHello(message: Extract<M, { readonly type: 'hello' }>, peer: Peer<M>): void
  /** Every later message, also a later hello. */
  onMessage(message: Spoken<M>, peer: Peer<M>): void
  /** Called once; `reason` is null when we closed, or the peer did in good order. */
  onClose(reason: Error | null, peer: Peer<M>): void
}

/** Connections that were ended, by reason; one object for all peers of a node. */
export interface PeerCounters {
  /** A message or frame above the bounds. */
  oversized: number
  /** Bytes that no codec understands, of ours or of upstream's. */
  malformed: number
  /** A first message that was no hello. */
  early: number
  /** Nothing heard, or no hello, in time. */
  silent: number
  /** The peer did not read what waited for it. */
  backlog: number
  /** A handler threw. */
  failed: number
}

export interface PeerOptions {
  readonly counters?: PeerCounters
  /** Milliseconds. @default limits.pingIntervalMs */
  readonly pingIntervalMs?: number
  /** Milliseconds. @default limits.pingTimeoutMs */
  readonly pingTimeoutMs?: number
  /** Bytes of the largest frame; smaller for peers that have nothing to give. @default limits.frameBytesMax */
  readonly frameBytesMax?: number
  /** Channels that the peer may have open at a time. @default limits.channelsMax */
  readonly channelsMax?: number
}

/** The channel to one peer. */
export interface Peer<M extends { readonly type: string }> {
  readonly remoteId: NodeId
  readonly connection: Connection
  /** For attaching hypercores: `core.replicate(peer.muxer)`. */
  readonly muxer: unknown
  /** The peer's hello has come. */
  readonly greeted: boolean
  readonly closed: boolean
  /**
   * Sends, or keeps for later when the peer is slow. With `newest`, a message that still waits under the same
   * name is replaced: for what only the last of matters, as the ack of one log.
   * False: closed, or the queue is full; nothing was sent. Wait for drained().
   */
  send(message: Spoken<M>, newest?: string): boolean
  /** Resolves when nothing waits any more, or the peer is closed. */
  drained(): Promise<void>
  /** Ends the connection. */
  close(reason?: Error): void
}

export function newPeerCounters(): PeerCounters {
  return { oversized: 0, malformed: 0, early: 0, silent: 0, backlog: 0, failed: 0 }
}

/**
 * Opens our channel on a fresh connection; to be called within `onConnection`, before anything reads from it.
 * @throws INTERNALS_CHANGED when protomux is not the one that was tested
 */
export function openPeer<M extends { readonly type: string }>(
  connection: Connection,
  codec: MessageCodec<M>,
  handlers: PeerHandlers<M>,
  options: PeerOptions = {}
): Peer<M> {
  return new ChannelPeer(connection, codec, handlers, options)
}

/** A message as it stands: the channel's frame ends where the message does. */
const raw: Encoding<Uint8Array> = {
  preencode: (state, bytes) => {
    state.end += bytes.byteLength
  },
  encode: (state, bytes) => {
    state.buffer?.set(bytes, state.start)
    state.start += bytes.byteLength
  },
  decode: (state: State) => {
    const bytes = (state.buffer as Uint8Array).subarray(state.start, state.end)
    state.start = state.end
    return bytes
  }
}

class ChannelPeer<M extends { readonly type: string }> implements Peer<M> {
  readonly connection: Connection
  readonly #codec: MessageCodec<M>
  readonly #handlers: PeerHandlers<M>
  readonly #counters: PeerCounters
  readonly #intervalMs: number
  readonly #timeoutMs: number
  readonly #mux: BoundedMux
  readonly #channel: Channel | null
  readonly #sender: Sender<Uint8Array> | null
  readonly #timer: NodeJS.Timeout
  #greeted = false
  #closed = false
  #reason: Error | null = null

  /** What waits for a slow peer, oldest first, under its `newest` key or a number of its own. */
  readonly #queue = new Map<string | number, Uint8Array>()
  #queueBytes = 0
  #queued = 0
  #waiters: (() => void)[] = []

  /** Monotonic milliseconds of the last sign of life, each way, and the counters that tell. */
  readonly #since: number = performance.now()
  #heardAt: number = this.#since
  #heardBytes = -1
  #sentAt: number = this.#since
  #sentBytes = -1
  #tickAt: number = this.#since

  constructor(
    connection: Connection,
    codec: MessageCodec<M>,
    handlers: PeerHandlers<M>,
    options: PeerOptions
  ) {
    this.connection = connection
    this.#codec = codec
    this.#handlers = handlers
    this.#counters = options.counters ?? newPeerCounters()
    this.#intervalMs = options.pingIntervalMs ?? pingIntervalMs
    this.#timeoutMs = options.pingTimeoutMs ?? pingTimeoutMs
    const hello = handlers.hello()
    assert(hello.type === 'hello', `the first message is a hello, not ${hello.type}`)
    const greeting = this.#encode(hello)

    this.#mux = new BoundedMux(connection.stream as NoiseSecretStream, {
      ...(options.frameBytesMax === undefined ? {} : { frameBytesMax: options.frameBytesMax }),
      ...(options.channelsMax === undefined ? {} : { channelsMax: options.channelsMax }),
      onViolation: (kind, reason) => {
        this.#counters[kind] += 1
        this.#reason ??= reason
      }
    })
    this.#channel = this.#mux.createChannel({
      protocol: protocolName,
      onclose: (isRemote) => this.#onChannelClosed(isRemote),
      ondrain: () => this.#flush()
    })
    this.#sender =
      this.#channel?.addMessage({ encoding: raw, onmessage: (bytes) => this.#onFrame(bytes) }) ??
      null
    this.#channel?.open()
    this.#sender?.send(greeting)

    this.#timer = setInterval(() => this.#tick(), Math.max(1, Math.floor(this.#intervalMs / 2)))
    this.#timer.unref()
    connection.onClose(() => this.#onClosed())
  }

  get remoteId(): NodeId {
    return this.connection.remoteId
  }

  get muxer(): unknown {
    return this.#mux
  }

  get greeted(): boolean {
    return this.#greeted
  }

  get closed(): boolean {
    return this.#closed || this.connection.closed
  }

  send(message: Spoken<M>, newest?: string): boolean {
    if (this.closed || this.#sender === null) return false
    const bytes = this.#encode(message)
    if (this.#queue.size === 0 && this.#mux.drained) {
      this.#sender.send(bytes)
      return true
    }
    const key = newest ?? this.#queued++
    const replaced = this.#queue.get(key)
    const total = this.#queueBytes + bytes.byteLength - (replaced?.byteLength ?? 0)
    if (total > queueBytesMax) return false
    if (replaced === undefined && this.#queue.size >= queueMessagesMax) return false
    // To the end: it may lean on what was queued after the one that it replaces.
    this.#queue.delete(key)
    this.#queue.set(key, bytes)
    this.#queueBytes = total
    return true
  }

  drained(): Promise<void> {
    if (this.closed || (this.#queue.size === 0 && this.#mux.drained)) return Promise.resolve()
    return new Promise((resolve) => this.#waiters.push(resolve))
  }

  close(reason?: Error): void {
    this.#reason ??= reason ?? null
    this.connection.destroy(reason)
  }

  #encode(message: M | Liveness): Uint8Array {
    const bytes = this.#codec.encode(message)
    assert(
      bytes.byteLength <= messageBytesMax,
      `a ${message.type} of ${bytes.byteLength} bytes is above ${messageBytesMax}`
    )
    return bytes
  }

  #flush(): void {
    for (const [key, bytes] of this.#queue) {
      if (this.closed || !this.#mux.drained) return
      this.#queue.delete(key)
      this.#queueBytes -= bytes.byteLength
      this.#sender?.send(bytes)
    }
    if (this.#mux.drained) this.#wake()
  }

  #wake(): void {
    const waiters = this.#waiters
    this.#waiters = []
    for (const waiter of waiters) waiter()
  }

  #onFrame(bytes: Uint8Array): void {
    if (this.closed) return
    if (bytes.byteLength > messageBytesMax) {
      return this.#break('oversized', `a message of ${bytes.byteLength} bytes`)
    }
    let message: M | Liveness
    try {
      message = this.#codec.decode(Uint8Array.from(bytes)) // a copy: a view would keep the whole frame
    } catch (error) {
      return this.#break('malformed', messageOf(error), error)
    }
    if (!this.#greeted && message.type !== 'hello') {
      return this.#break('early', `a ${message.type} before the hello`)
    }
    if (isLiveness(message)) {
      // Not queued: an answer that a peer does not read is worth nothing later.
      if (message.type === 'ping' && this.#mux.drained) {
        this.#sender?.send(this.#encode({ ...message, type: 'pong' }))
      }
      return
    }
    try {
      if (this.#greeted) return this.#handlers.onMessage(message as Spoken<M>, this)
      this.#greeted = true
      this.#handlers.onHello(message as Extract<M, { readonly type: 'hello' }>, this)
    } catch (error) {
      this.#counters[isKVSwarmError(error, 'PROTOCOL_ERROR') ? 'malformed' : 'failed'] += 1
      this.close(error instanceof Error ? error : new Error(messageOf(error)))
    }
  }

  #break(kind: 'oversized' | 'malformed' | 'early', what: string, cause?: unknown): void {
    this.#counters[kind] += 1
    this.close(protocolError(this.remoteId, what, cause))
  }

  #tick(): void {
    const now = performance.now()
    const slept = now - this.#tickAt > 2 * this.#intervalMs
    this.#tickAt = now
    const heard = this.connection.bytesReceived
    // When this process itself stood still, the peer's bytes wait in the socket: give it its time anew.
    if (heard !== this.#heardBytes || slept) this.#heardAt = now
    this.#heardBytes = heard
    const sent = this.#mux.stream.rawBytesWritten
    if (sent !== this.#sentBytes) this.#sentAt = now
    this.#sentBytes = sent

    if (now - this.#heardAt >= this.#timeoutMs) return this.#silent('nothing was heard')
    if (!this.#greeted && !slept && now - this.#since >= this.#timeoutMs) {
      return this.#silent('no hello came')
    }
    if (now - Math.min(this.#heardAt, this.#sentAt) >= this.#intervalMs) {
      this.#sender?.send(this.#encode(ping))
    }
    this.#mux.checkBacklog()
  }

  #silent(what: string): void {
    this.#counters.silent += 1
    this.close(
      new KVSwarmError('TIMEOUT', `${what} from ${this.remoteId} for ${this.#timeoutMs} ms`, {
        hint: 'it is dialled again'
      })
    )
  }

  #onChannelClosed(isRemote: boolean): void {
    if (!isRemote || this.closed) return
    this.close(protocolError(this.remoteId, `it does not speak ${protocolName}`))
  }

  #onClosed(): void {
    if (this.#closed) return
    this.#closed = true
    clearInterval(this.#timer)
    this.#queue.clear()
    this.#queueBytes = 0
    this.#wake()
    this.#handlers.onClose(this.#reason, this)
  }
}

const ping: Liveness = { type: 'ping' }

function isLiveness(message: { readonly type: string }): message is Liveness {
  return message.type === 'ping' || message.type === 'pong'
}

function protocolError(id: NodeId, what: string, cause?: unknown): KVSwarmError {
  return new KVSwarmError('PROTOCOL_ERROR', `the peer ${id} broke the protocol: ${what}`, {
    hint: 'run the same version of kvswarm on both sides',
    cause
  })
}
