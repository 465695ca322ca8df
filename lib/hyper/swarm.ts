/**
 * The Network on hyperswarm: connections by node id, found through the DHT.
 *
 * - A swarm whose bootstrap nodes are on this machine binds to 127.0.0.1: otherwise it hangs, since the DHT
 *   then announces addresses that its bootstrap node does not see (measured).
 * - In a private swarm a node whose address, as the bootstrap node sees it, is one of its own says that it can
 *   be reached directly. Upstream finds that out by asking many DHT nodes; with few it gives up punching a
 *   hole while the other side takes the connection for open, and most dials hang for 13 s (measured).
 * - A connection is handed up when the first bytes of the other side are there, not when upstream calls it
 *   open, since that it does on one side alone.
 * - Refusing is ours, not hyperswarm's: its own firewall bans a refused id for good; ours answers each
 *   handshake anew, so that a node which the configuration admits later gets in at its next dial.
 * - Dialling does not depend on hyperswarm's timers alone: a node that has joined and has no connection is
 *   put forward again every few seconds, since hyperswarm forgets a peer in some orders of events.
 * - Dead peers do not hold up living ones: as many dials run at once as there may be connections to storage
 *   nodes in any sensible configuration.
 */
import { networkInterfaces } from 'node:os'
import HyperDHT, { type DhtOptions } from 'hyperdht'
import Hyperswarm from 'hyperswarm'
import type NoiseSecretStream from '@hyperswarm/secret-stream'
import {
  connectionsMax,
  dialsMax,
  firstBytesTimeoutMs,
  handshakeMs,
  handshakesMax,
  handshakesPerIdMax,
  handshakesUnnamedMax,
  networkCloseTimeoutMs,
  nudgeIntervalMs,
  redialBackoffsMs
} from '../../config/limits.ts'
import { KVSwarmError } from '../errors.ts'
import type { Network, NetworkOptions } from '../ports.ts'
import type { NodeId } from '../types.ts'
import { idBytes, idOf, parseNodeId } from '../wire/ids.ts'
import { isLoopback, parseBootstrap } from './bootstrap.ts'
import { bindError, destroyDht } from './dht.ts'
import { LiveConnections, StreamConnection } from './connection.ts'

/** Randomness in hyperswarm's back-off. */
const jitterMs = 100

export interface HyperswarmOptions {
  /** Bootstrap nodes of a private swarm, 'host:port' each. @default the public DHT's */
  readonly bootstrap?: readonly string[] | undefined
  /** IPv4 address to bind to. @default 127.0.0.1 when a bootstrap node is on this machine, else all */
  readonly host?: string | undefined
}

/** @throws INVALID_ARGUMENT naming the bootstrap address that is none */
export function hyperswarmNetwork(options: HyperswarmOptions = {}): Network {
  const { bootstrap, host } = options
  const nodes = bootstrap?.map(parseBootstrap)
  if (nodes !== undefined && nodes.length === 0) {
    throw new KVSwarmError('INVALID_ARGUMENT', 'an empty list of bootstrap nodes', {
      hint: 'give host:port, or leave `bootstrap` away for the public DHT'
    })
  }
  const local = nodes?.some((node) => isLoopback(node.host)) === true
  return new SwarmNetwork({
    ...(nodes === undefined
      ? {}
      : {
          bootstrap: nodes.map((n) => `${n.host === 'localhost' ? '127.0.0.1' : n.host}:${n.port}`)
        }),
    ...(local ? { host: '127.0.0.1' } : {}),
    ...(host === undefined ? {} : { host }),
    // A private swarm: only bootstrap nodes keep its DHT; who is open is decided in #open.
    ...(nodes === undefined ? {} : { firewalled: false, ephemeral: true })
  })
}

class SwarmNetwork implements Network {
  readonly #dhtOptions: DhtOptions
  #options: NetworkOptions | null = null
  #id: NodeId = ''
  #dht: HyperDHT | null = null
  #swarm: Hyperswarm | null = null
  #live: LiveConnections | null = null
  #nudge: NodeJS.Timeout | null = null
  #opening: Promise<void> | null = null
  #closing: Promise<void> | null = null
  readonly #joined = new Set<NodeId>()
  /** Open by what upstream says, but nothing has come from the other side yet. */
  readonly #unproven = new Set<StreamConnection>()
  /** Handshakes that others have begun, oldest first, until their connection comes or their time is over. */
  #begun: { readonly id: NodeId; readonly at: number }[] = []

  constructor(dhtOptions: DhtOptions) {
    this.#dhtOptions = dhtOptions
  }

  open(options: NetworkOptions): Promise<void> {
    if (this.#closing !== null) return Promise.reject(closed())
    if (this.#opening !== null) {
      return Promise.reject(
        new KVSwarmError('INVALID_ARGUMENT', 'the network is open already', {
          hint: 'one network object serves one node: make one for each'
        })
      )
    }
    this.#opening = this.#open(options)
    return this.#opening
  }

  async #open(options: NetworkOptions): Promise<void> {
    const dht = new HyperDHT(this.#dhtOptions)
    if (this.#dhtOptions.bootstrap !== undefined) {
      const remoteAddress = dht.remoteAddress.bind(dht)
      dht.remoteAddress = () => {
        const address = remoteAddress()
        return address !== null && isOwnAddress(address.host) ? address : null
      }
    }
    try {
      await dht.bind()
    } catch (error) {
      await destroyDht(dht)
      throw bindError(error, this.#dhtOptions.host ?? '0.0.0.0', 0)
    }
    const swarm = new Hyperswarm({
      keyPair: options.keyPair,
      dht,
      // Explicit peers count fourfold against hyperswarm's own bound; ours is kept in LiveConnections.
      maxPeers: 4 * connectionsMax + 1,
      maxParallel: dialsMax,
      backoffs: redialBackoffsMs,
      jitter: jitterMs
    })
    if (typeof swarm.server?.firewall !== 'function' || !Array.isArray(swarm.server._holepunches)) {
      await swarm.destroy({ force: true })
      throw new KVSwarmError('INTERNALS_CHANGED', 'hyperswarm lacks server.firewall', {
        hint: 'install the exact versions of package-lock.json'
      })
    }
    this.#options = options
    this.#id = idOf(options.keyPair.publicKey)
    this.#dht = dht
    this.#swarm = swarm
    this.#live = new LiveConnections(connectionsMax, options.onConnection)
    swarm.server.firewall = (publicKey) => this.#refuses(publicKey)
    swarm.on('connection', (stream) => this.#onConnection(stream))
    this.#nudge = setInterval(() => this.#redial(), nudgeIntervalMs)
    this.#nudge.unref()
  }

  async listen(): Promise<void> {
    await this.#opened().listen()
  }

  join(peer: NodeId): void {
    const id = parseNodeId(peer)
    if (this.#closing !== null) return
    const swarm = this.#opened()
    if (id === this.#id || this.#joined.has(id)) return
    this.#joined.add(id)
    if (this.#options?.accepts(id) === true) swarm.joinPeer(keyOf(id))
  }

  leave(id: NodeId): void {
    if (this.#joined.delete(id)) this.#swarm?.leavePeer(keyOf(id))
  }

  admit(id: NodeId): void {
    if (this.#closing !== null || !this.#joined.has(id)) return
    if (this.#options?.accepts(id) === true) this.#swarm?.joinPeer(keyOf(id))
  }

  close(): Promise<void> {
    this.#closing ??= this.#close()
    return this.#closing
  }

  async #close(): Promise<void> {
    await this.#opening?.catch(() => {}) // told to whoever opened
    const swarm = this.#swarm
    const dht = this.#dht
    if (swarm === null || dht === null) return
    if (this.#nudge !== null) clearInterval(this.#nudge)
    for (const id of this.#joined) swarm.leavePeer(keyOf(id))
    this.#joined.clear()
    // The connections first: what is in the middle of something ends while its streams still close well.
    for (const connection of this.#unproven) connection.destroy()
    await within(networkCloseTimeoutMs, this.#live?.close())
    // Tells the DHT that this node is gone; without an answer it ends all the same. The sockets have to go
    // from below: hyperswarm, asked again, would wait for the same answer.
    if (!(await within(networkCloseTimeoutMs, swarm.destroy()))) {
      await within(networkCloseTimeoutMs, dht.destroy({ force: true }))
    }
  }

  #opened(): Hyperswarm {
    if (this.#closing !== null) throw closed()
    if (this.#swarm !== null) return this.#swarm
    throw new KVSwarmError('NOT_CONNECTED', 'the network is not open', {
      hint: 'call open() first'
    })
  }

  /** Asked for every handshake that comes in; after the Noise message was read, before anything is kept. */
  #refuses(publicKey: Uint8Array): boolean {
    const id = idOf(publicKey)
    if (id === this.#id || this.#closing !== null) return true
    if (this.#options?.accepts(id) !== true || this.#live?.hasRoomFor(id) !== true) return true
    let unfinished = this.#unproven.size
    for (const one of this.#swarm?.server._holepunches ?? []) {
      if (one !== null && one.rawStream !== null) unfinished += 1
    }
    if (unfinished >= handshakesMax || !this.#mayBegin(id)) return true
    this.#begun.push({ id, at: performance.now() })
    return false
  }

  /** Strangers share a few unfinished handshakes, so that they hold up nobody whom the configuration names. */
  #mayBegin(id: NodeId): boolean {
    const named = (one: NodeId): boolean => this.#options?.named?.(one) !== false
    const since = performance.now() - handshakeMs
    this.#begun = this.#begun.filter(({ at }) => at >= since)
    const pending = [...this.#begun.map((one) => one.id)]
    for (const { remoteId } of this.#unproven) pending.push(remoteId)
    if (pending.filter((one) => one === id).length >= handshakesPerIdMax) return false
    return named(id) || pending.filter((one) => !named(one)).length < handshakesUnnamedMax
  }

  #onConnection(stream: NoiseSecretStream): void {
    stream.on('error', () => {}) // told by 'close'
    const key = stream.remotePublicKey
    const socket = stream.rawStream
    if (key === null || socket === null) {
      stream.destroy()
      return
    }
    const connection = new StreamConnection(stream, key, () => ({
      received: socket.bytesReceived ?? 0,
      sent: socket.bytesTransmitted ?? 0
    }))
    if (!stream.isInitiator) {
      const begun = this.#begun.findIndex((one) => one.id === connection.remoteId)
      if (begun !== -1) this.#begun.splice(begun, 1)
    }
    if (this.#options?.accepts(connection.remoteId) !== true) {
      // Admitted when it was dialled, no longer now: not dialled again before admit().
      this.#swarm?.leavePeer(key)
      return connection.destroy(new Error('not accepted'))
    }
    if (socket.bytesReceived !== undefined && socket.bytesReceived > 0) {
      return this.#live?.add(connection)
    }
    this.#unproven.add(connection)
    const timer = setTimeout(() => {
      connection.destroy(new Error('nothing came from the other side'))
    }, firstBytesTimeoutMs)
    connection.onClose(() => {
      clearTimeout(timer)
      this.#unproven.delete(connection)
    })
    socket.once('data', () => {
      clearTimeout(timer)
      this.#unproven.delete(connection)
      if (!connection.closed) this.#live?.add(connection)
    })
  }

  #redial(): void {
    for (const id of this.#joined) {
      if (this.#live?.get(id) === undefined) this.admit(id)
    }
  }
}

/** The public key as upstream wants it. */
function keyOf(id: NodeId): Buffer {
  return Buffer.from(idBytes(id))
}

/** True when an interface of this machine has the address: then nothing translates it on the way. */
function isOwnAddress(host: string): boolean {
  return Object.values(networkInterfaces()).some((all) => all?.some((one) => one.address === host))
}

/** True when the promise settled in time; never rejects. */
async function within(ms: number, promise: Promise<unknown> | undefined): Promise<boolean> {
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<false>((resolve) => {
    timer = setTimeout(() => resolve(false), ms)
  })
  const settled = Promise.resolve(promise).then(
    () => true,
    () => true
  )
  const inTime = await Promise.race([settled, late])
  clearTimeout(timer)
  return inTime
}

function closed(): KVSwarmError {
  return new KVSwarmError('CLOSED', 'the network is closed', { hint: 'make a new one' })
}
