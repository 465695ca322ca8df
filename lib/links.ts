/**
 * Links to other nodes: our channel on each connection, which logs are served on it, and who is dialled.
 *
 * Invariants: one link for each node; nothing is served before the peer's hello; a log is attached only to the
 * links that may have it; ids that the configuration does not name share a small number of connections.
 */
import {
  channelsUnnamedMax,
  connectionsMax,
  connectionsUnnamedMax,
  frameBytesReaderMax,
  recordsBurstMax,
  recordsPerSecondMax
} from '../config/limits.ts'
import { serveOnDemand } from './hyper/mux.ts'
import { KVSwarmError } from './errors.ts'
import { Allowance } from './hyper/allowance.ts'
import { internalsOf } from './hyper/replication.ts'
import { newPeerCounters, openPeer, type MessageCodec, type Peer } from './hyper/peer.ts'
import { Watchdog } from './hyper/watchdog.ts'
import type { Connection, Network } from './ports.ts'
import type { KeyPair, NodeId } from './types.ts'
import {
  decodeMessage,
  encodeMessage,
  protocolVersion,
  type HelloMessage,
  type Message
} from './wire/messages.ts'

/** What is said on a link; ping and pong are the channel's own. */
export type LinkMessage = Exclude<Message, { type: 'ping' | 'pong' }>
/** What the node itself takes; hellos are the links' own. */
export type NodeMessage = Exclude<LinkMessage, { type: 'hello' }>

/** A log that can be attached to a link: lib/hyper's own form. */
export interface Attachable {
  readonly core: { replicate(muxer: unknown): unknown }
}

/** A peer whose hello has come. */
export class Link {
  readonly node: NodeId
  /** Unix milliseconds. */
  readonly since: number = Date.now()
  readonly #peer: Peer<LinkMessage>
  readonly #attached: Set<Attachable>
  /** Of the peer's configuration; null: it has none. */
  epoch: number | null = null

  constructor(peer: Peer<LinkMessage>, attached: Set<Attachable>) {
    this.node = peer.remoteId
    this.#peer = peer
    this.#attached = attached
  }

  get connection(): Connection {
    return this.#peer.connection
  }

  get closed(): boolean {
    return this.#peer.closed
  }

  /** @param newest of messages that wait under one name only the newest is sent */
  send(message: LinkMessage, newest?: string): boolean {
    return this.#peer.send(message, newest)
  }

  /** Serves the log on this link, and takes it in; idempotent, ends with the connection. */
  attach(log: Attachable): void {
    if (this.closed || this.#attached.has(log)) return
    this.#attached.add(log)
    log.core.replicate(this.#peer.muxer)
  }

  /** Serves what the peer asks for by its discovery key (hex), if `find` has it. */
  serve(find: (discoveryKey: string) => Promise<Attachable | null>): void {
    serveOnDemand(this.#peer.muxer, async (discoveryKey) => {
      const log = await find(discoveryKey)
      if (log) this.attach(log)
    })
  }

  close(reason?: Error): void {
    this.#peer.close(reason)
  }
}

export interface LinksEnvironment {
  readonly keyPair: KeyPair
  readonly network: Network
  /** This node's configuration, as its hello tells it. */
  config(): { readonly epoch: number; readonly hash: string } | null
  /** True when the configuration names the id. */
  named(id: NodeId): boolean
  /** A hello has come (the first, or one that tells of another epoch), and it is not in conflict. */
  linked(link: Link): void
  received(link: Link, message: NodeMessage): void
  unlinked(link: Link): void
  /** The peer has another configuration of the same epoch. */
  conflict(id: NodeId, theirs: { readonly epoch: number; readonly hash: string }): void
  warn(message: string): void
}

export class Links {
  readonly #environment: LinksEnvironment
  readonly #links = new Map<NodeId, Link>()
  readonly #joined = new Set<NodeId>()
  readonly #listeners = new Set<() => void>()
  readonly #watchdog: Watchdog
  readonly #counters = newPeerCounters()
  /** Connections by id, greeted or not. */
  readonly #connections = new Map<NodeId, number>()
  readonly #live = new Set<Connection>()
  #opening: Promise<void> | null = null
  #listening: Promise<void> | null = null
  #closed = false
  /** disconnect() on a network that the user gave: it stays open, and nothing goes over it. */
  #paused = false

  constructor(environment: LinksEnvironment) {
    this.#environment = environment
    this.#watchdog = new Watchdog({
      onIntervention: ({ remoteId, reason }) =>
        environment.warn(`the connection to ${remoteId} was ended, it is dialled again: ${reason}`)
    })
  }

  get interventions(): number {
    return this.#watchdog.interventions
  }

  get all(): Link[] {
    return [...this.#links.values()]
  }

  get(node: NodeId): Link | null {
    return this.#links.get(node) ?? null
  }

  /** Called when a link came or went. */
  onChange(listener: () => void): () => void {
    this.#listeners.add(listener)
    return () => this.#listeners.delete(listener)
  }

  /** Opens the network: from then on nodes can be dialled. */
  open(): Promise<void> {
    const { network, keyPair } = this.#environment
    this.#paused = false
    this.#opening ??= network
      .open({
        keyPair,
        accepts: (id) => this.#accepts(id),
        named: (id) => this.#environment.named(id),
        onConnection: (connection) => this.#connected(connection)
      })
      .catch((error: unknown) => {
        this.#opening = null
        throw error
      })
    return this.#opening
  }

  /** Resolves when others can reach this node by its id. */
  listen(): Promise<void> {
    this.#listening ??= this.open()
      .then(() => this.#environment.network.listen())
      .catch((error: unknown) => {
        this.#listening = null
        throw error
      })
    return this.#listening
  }

  /** Tells every peer the configuration that is used now. */
  greetAgain(): void {
    for (const link of this.all) link.send(this.#hello(), 'hello')
  }

  /** Dials exactly these nodes from now on, and those that are asked for with join(). */
  dial(nodes: readonly NodeId[]): void {
    for (const node of nodes) this.join(node)
    for (const node of this.#joined) {
      if (this.#environment.named(node)) continue
      this.#joined.delete(node)
      this.#environment.network.leave(node)
    }
  }

  join(node: NodeId): void {
    if (this.#closed || this.#paused || this.#opening === null || this.#joined.has(node)) return
    this.#joined.add(node)
    this.#opening.then(
      () => {
        if (this.#closed || this.#paused || !this.#joined.has(node)) return
        this.#environment.network.admit(node)
        this.#environment.network.join(node)
      },
      () => this.#joined.delete(node) // open() tells its caller
    )
  }

  /** Ends every connection and accepts none until open() is called again. */
  pause(): void {
    this.#paused = true
    for (const node of this.#joined) this.#environment.network.leave(node)
    this.#joined.clear()
    for (const connection of this.#live) connection.destroy()
  }

  async close(): Promise<void> {
    this.#closed = true
    this.#watchdog.close()
    if (this.#opening === null) return
    await this.#opening.catch(() => {})
    await this.#environment.network.close()
    await this.#listening?.catch(() => {})
  }

  #accepts(id: NodeId): boolean {
    if (this.#closed || this.#paused) return false
    if (this.#environment.named(id)) return true
    let unnamed = 0
    for (const other of this.#connections.keys()) if (!this.#environment.named(other)) unnamed++
    return unnamed < connectionsUnnamedMax && this.#connections.size < connectionsMax
  }

  #connected(connection: Connection): void {
    const id = connection.remoteId
    // Asked again: many handshakes can be under way when the firewall answers.
    if (this.#paused || (!this.#connections.has(id) && !this.#accepts(id))) {
      return connection.destroy()
    }
    this.#connections.set(id, (this.#connections.get(id) ?? 0) + 1)
    this.#live.add(connection)
    connection.onClose(() => {
      this.#live.delete(connection)
      const left = (this.#connections.get(id) ?? 1) - 1
      if (left > 0) this.#connections.set(id, left)
      else this.#connections.delete(id)
    })
    const attached = new Set<Attachable>()
    const cores = function* (): Iterable<unknown> {
      for (const log of attached) {
        if (internalsOf(log.core) === null) attached.delete(log)
        else yield log.core
      }
    }
    this.#watchdog.watch(connection, cores)
    let link: Link | null = null
    const records = new Allowance(recordsBurstMax, recordsPerSecondMax)
    openPeer<LinkMessage>(
      connection,
      codec,
      {
        hello: () => this.#hello(),
        onHello: (message, peer) => {
          link = new Link(peer, attached)
          this.#greeted(link, message)
        },
        onMessage: (message) => {
          if (!link || link.closed) return
          if (message.type === 'records' && !records.take(message.records.length)) {
            throw new KVSwarmError('PROTOCOL_ERROR', `node ${id} sends records without end`, {
              hint: 'it is faulty or hostile: look at it'
            })
          }
          if (message.type === 'hello') this.#greeted(link, message)
          else this.#environment.received(link, message)
        },
        onClose: () => {
          if (link === null || this.#links.get(id) !== link) return
          this.#links.delete(id)
          this.#environment.unlinked(link)
          this.#changed()
        }
      },
      {
        counters: this.#counters,
        // Who is not in the configuration has nothing to give but questions.
        ...(this.#environment.named(id)
          ? {}
          : { frameBytesMax: frameBytesReaderMax, channelsMax: channelsUnnamedMax })
      }
    )
  }

  #hello(): HelloMessage {
    const config = this.#environment.config()
    return {
      type: 'hello',
      protocolVersion,
      epoch: config?.epoch ?? 0,
      configHash: config?.hash ?? noHash
    }
  }

  #greeted(link: Link, message: LinkMessage): void {
    if (message.type !== 'hello') return
    if (message.protocolVersion !== protocolVersion) {
      const text = `node ${link.node} speaks version ${message.protocolVersion} of the protocol, this one ${protocolVersion}`
      if (this.#environment.named(link.node)) this.#environment.warn(text)
      throw new KVSwarmError('PROTOCOL_ERROR', text, { hint: 'run the same version of kvswarm' })
    }
    link.epoch = message.epoch === 0 ? null : message.epoch
    const config = this.#environment.config()
    if (config && message.epoch === config.epoch && message.configHash !== config.hash) {
      this.#environment.conflict(link.node, { epoch: message.epoch, hash: message.configHash })
      return link.close()
    }
    this.#links.set(link.node, link)
    this.#environment.linked(link)
    this.#changed()
  }

  #changed(): void {
    for (const listener of [...this.#listeners]) listener()
  }
}

const noHash = '0'.repeat(64)

const codec: MessageCodec<LinkMessage> = {
  encode: (message) =>
    encodeMessage(
      message.type === 'ping' || message.type === 'pong' ? { ...message, id: 0 } : message
    ),
  decode: (bytes) => {
    const message = decodeMessage(bytes)
    return message.type === 'ping' || message.type === 'pong' ? { type: message.type } : message
  }
}
