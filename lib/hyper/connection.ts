/**
 * What both networks share: one Noise stream as a Connection, and the table of the live ones.
 *
 * - At most one connection for each peer id is handed up at any time: when a newer one replaces an older
 *   one, the older one has closed, and its onClose listeners were called, before the newer is handed up.
 * - Every stream has an error handler from its first moment; an error of one stream ends that stream only.
 */
import type NoiseSecretStream from '@hyperswarm/secret-stream'
import type { Connection } from '../ports.ts'
import type { NodeId } from '../types.ts'
import { idOf } from '../wire/ids.ts'

/** Bytes that crossed the wire, as the stream below counts them. */
export interface Traffic {
  readonly received: number
  readonly sent: number
}

/** A Noise stream whose handshake is complete. */
export class StreamConnection implements Connection {
  readonly remoteId: NodeId
  readonly isInitiator: boolean
  readonly stream: NoiseSecretStream
  readonly #traffic: () => Traffic
  #last: Traffic = { received: 0, sent: 0 }
  #closed = false
  #listeners: (() => void)[] = []

  constructor(stream: NoiseSecretStream, remotePublicKey: Uint8Array, traffic: () => Traffic) {
    this.remoteId = idOf(remotePublicKey)
    this.isInitiator = stream.isInitiator
    this.stream = stream
    this.#traffic = traffic
    stream.on('error', () => {}) // told by 'close'
    stream.on('close', () => this.#onClosed())
    if (stream.destroyed) this.#onClosed()
  }

  /** True from destroy() on, before the listeners of onClose() have been called. */
  get closed(): boolean {
    return this.#closed || this.stream.destroying
  }

  get bytesReceived(): number {
    return this.#count().received
  }

  get bytesSent(): number {
    return this.#count().sent
  }

  destroy(reason?: Error): void {
    this.#count()
    this.stream.destroy(reason ?? null)
  }

  onClose(listener: () => void): void {
    if (this.#closed) listener()
    else this.#listeners.push(listener)
  }

  /** The counters, and what they were last once the stream below is gone. */
  #count(): Traffic {
    if (!this.#closed) this.#last = this.#traffic()
    return this.#last
  }

  #onClosed(): void {
    if (this.#closed) return
    this.#count()
    this.#closed = true
    const listeners = this.#listeners
    this.#listeners = []
    for (const listener of listeners) listener()
  }
}

/** The live connections of one node, one for each peer id. */
export class LiveConnections {
  readonly #onConnection: (connection: Connection) => void
  readonly #max: number
  readonly #live = new Map<NodeId, StreamConnection>()
  /** Newer connections that wait until the older one to the same peer has closed. */
  readonly #waiting = new Map<NodeId, StreamConnection>()
  #closed = false

  /** @param max connections in all */
  constructor(max: number, onConnection: (connection: Connection) => void) {
    this.#max = max
    this.#onConnection = onConnection
  }

  /** The connection to a peer, unless it is closing. */
  get(id: NodeId): StreamConnection | undefined {
    const connection = this.#waiting.get(id) ?? this.#live.get(id)
    return connection === undefined || connection.closed ? undefined : connection
  }

  /** False when a connection to one more peer would be above the bound. */
  hasRoomFor(id: NodeId): boolean {
    return this.#live.has(id) || this.#live.size < this.#max
  }

  /** Takes a new connection; it is handed up at once, or when the one that it replaces has closed. */
  add(connection: StreamConnection): void {
    const id = connection.remoteId
    if (this.#closed || !this.hasRoomFor(id)) {
      connection.destroy(new Error(this.#closed ? 'the network is closed' : 'too many connections'))
      return
    }
    const older = this.#live.get(id)
    if (older === undefined) return this.#handUp(connection)
    const superseded = this.#waiting.get(id)
    this.#waiting.set(id, connection)
    superseded?.destroy(new Error('replaced by a newer connection'))
    connection.onClose(() => {
      if (this.#waiting.get(id) === connection) this.#waiting.delete(id)
    })
    older.destroy(new Error('replaced by a newer connection'))
  }

  /** Destroys all, and resolves when all have closed. */
  async close(): Promise<void> {
    this.#closed = true
    const all = [...this.#live.values(), ...this.#waiting.values()]
    const closed = all.map((one) => new Promise<void>((resolve) => one.onClose(resolve)))
    for (const one of all) one.destroy()
    await Promise.all(closed)
  }

  #handUp(connection: StreamConnection): void {
    const id = connection.remoteId
    if (connection.closed) return
    this.#live.set(id, connection)
    this.#onConnection(connection)
    // Registered last: whoever uses the old connection has heard of its end before the next is handed up.
    connection.onClose(() => {
      this.#live.delete(id)
      const next = this.#waiting.get(id)
      this.#waiting.delete(id)
      if (next !== undefined) this.#handUp(next)
    })
  }
}
