/**
 * A network in memory, for tests: the same Network as hyperswarm's, without sockets, that does on command
 * what real networks do by themselves.
 *
 * ```ts
 * const hub = new MemoryHub()
 * const a = kvswarm({ storage: './a', config, network: hub.network() })
 * const b = kvswarm({ storage: './b', config, network: hub.network() })
 * hub.cut(a.id, b.id)
 * hub.heal(a.id, b.id)
 * ```
 *
 * - Identity is real: each connection is a Noise stream between the two nodes' key pairs.
 * - It behaves as hyperswarm does to what is above it: whoever has joined dials, both may; of two
 *   connections that were dialled at once the one of the greater id survives; a new connection replaces one
 *   that has carried bytes both ways, since then the other side must have lost it; a node that is not there,
 *   not listening or refuses is dialled again with back-off until leave().
 * - Whatever is random comes from `seed`.
 */
import NoiseSecretStream from '@hyperswarm/secret-stream'
import { connectionsMax } from '../../config/limits.ts'
import { KVSwarmError } from '../errors.ts'
import type { Network, NetworkOptions } from '../ports.ts'
import type { NodeId } from '../types.ts'
import { idOf, parseNodeId } from '../wire/ids.ts'
import { LiveConnections, StreamConnection } from './connection.ts'
import { WireEnd, type WireState } from './memory-link.ts'

/** A connection that lived for so long was a good one: the next dial does not wait long. */
const steadyMs = 1000

export interface MemoryHubOptions {
  /** What is random (back-off, order of set-up) follows from it. @default a random one, see `hub.seed` */
  readonly seed?: number
  /** Waits between two dials in milliseconds; the last one repeats. @default [20, 50, 100, 200] */
  readonly backoffsMs?: readonly number[]
}

interface Wire extends WireState {
  /** No new connection comes about. */
  broken: boolean
  /** Both ends of each connection on it. */
  readonly ends: Set<readonly [WireEnd, WireEnd]>
}

/** All nodes of one in-memory network, and the wires between them. */
export class MemoryHub {
  readonly seed: number
  readonly backoffsMs: readonly number[]
  /** The longest random wait before a connection is set up, milliseconds. */
  #reorderMs = 0
  #random: number
  readonly #nodes = new Map<NodeId, MemoryNetwork>()
  readonly #wires = new Map<string, Wire>()

  constructor(options: MemoryHubOptions = {}) {
    this.seed = options.seed ?? Math.floor(Math.random() * 0x1_0000_0000)
    this.#random = this.seed >>> 0
    this.backoffsMs = options.backoffsMs ?? [20, 50, 100, 200]
    if (this.backoffsMs.length === 0) {
      throw new KVSwarmError('INVALID_ARGUMENT', 'Expected `backoffsMs` to hold a wait, got []', {
        hint: 'give at least one number of milliseconds'
      })
    }
  }

  /** A network for one node: pass it as `network` to kvswarm(). */
  network(): Network {
    return new MemoryNetwork(this)
  }

  /**
   * Breaks the wire between two nodes, both ways, until heal(). Their connections are destroyed, as both
   * sides notice at once; with `silent` neither is told, as when a machine dies: see drop().
   */
  cut(a: NodeId, b: NodeId, options: { readonly silent?: boolean } = {}): void {
    const wire = this.wire(a, b)
    wire.broken = true
    for (const [one, other] of wire.ends) {
      if (options.silent === true) {
        one.lose()
        other.lose()
      } else {
        one.destroy()
        other.destroy()
      }
    }
  }

  /**
   * Lets bytes vanish silently from now on, as with a dead peer: existing connections stay open and carry
   * nothing ever again, also not after heal(); new ones cannot be made until heal().
   */
  drop(a: NodeId, b: NodeId): void {
    this.cut(a, b, { silent: true })
  }

  /** New connections between the two are possible again. */
  heal(a: NodeId, b: NodeId): void {
    this.wire(a, b).broken = false
  }

  /** cut() between each node of one side and each of the other. */
  partition(
    left: readonly NodeId[],
    right: readonly NodeId[],
    options: { readonly silent?: boolean } = {}
  ): void {
    for (const a of left) for (const b of right) if (a !== b) this.cut(a, b, options)
  }

  /** heal() between all. */
  healAll(): void {
    for (const wire of this.#wires.values()) wire.broken = false
  }

  /** One-way latency between two nodes in milliseconds, for set-up and bytes. @default 0 */
  delay(a: NodeId, b: NodeId, ms: number): void {
    this.wire(a, b).delayMs = checkNumber('ms', ms)
  }

  /** Bytes per second between two nodes in each direction. @default Infinity */
  throttle(a: NodeId, b: NodeId, bytesPerSecond: number): void {
    this.wire(a, b).bytesPerSecond = checkNumber('bytesPerSecond', bytesPerSecond)
  }

  /** Lets each set-up of a connection wait for a random time, so that they overtake one another; 0 ends it. */
  reorder(maxMs: number): void {
    this.#reorderMs = checkNumber('maxMs', maxMs)
  }

  /** @internal */
  wire(a: NodeId, b: NodeId): Wire {
    const name = [parseNodeId(a), parseNodeId(b)].sort().join(' ')
    let wire = this.#wires.get(name)
    if (wire === undefined) {
      wire = { delayMs: 0, bytesPerSecond: Infinity, broken: false, ends: new Set() }
      this.#wires.set(name, wire)
    }
    return wire
  }

  /** @internal */
  node(id: NodeId): MemoryNetwork | undefined {
    return this.#nodes.get(id)
  }

  /** @internal A second node of the same id takes the place of the first, as a restarted process does. */
  announce(id: NodeId, network: MemoryNetwork): void {
    this.#nodes.set(id, network)
  }

  /** @internal */
  forget(id: NodeId, network: MemoryNetwork): void {
    if (this.#nodes.get(id) === network) this.#nodes.delete(id)
  }

  /** @internal Milliseconds that setting up a connection on this wire takes, now. */
  setUpMs(wire: Wire): number {
    return 2 * wire.delayMs + this.#reorderMs * this.random()
  }

  /** @internal [0, 1), from the seed (mulberry32). */
  random(): number {
    this.#random = (this.#random + 0x6d2b79f5) >>> 0
    let t = this.#random
    t = Math.imul(t ^ (t >>> 15), t | 1)
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61)
    return ((t ^ (t >>> 14)) >>> 0) / 0x1_0000_0000
  }
}

/** A dial that has not come to a connection yet, or the wait before the next one. */
interface Dial {
  timer: NodeJS.Timeout | null
  stream: NoiseSecretStream | null
  failures: number
}

/** @internal Made by MemoryHub.network(). */
export class MemoryNetwork implements Network {
  readonly #hub: MemoryHub
  #options: NetworkOptions | null = null
  #id: NodeId = ''
  #live: LiveConnections | null = null
  #closing: Promise<void> | null = null
  readonly #joined = new Map<NodeId, Dial>()
  /** Streams in their handshake, ours and theirs. */
  readonly #opening = new Set<NoiseSecretStream>()
  /** An open network keeps the process alive, as sockets do. */
  #alive: NodeJS.Timeout | null = null

  constructor(hub: MemoryHub) {
    this.#hub = hub
  }

  async open(options: NetworkOptions): Promise<void> {
    if (this.#closing !== null) throw closed()
    if (this.#options !== null) throw alreadyOpen()
    this.#options = options
    this.#id = idOf(options.keyPair.publicKey)
    this.#live = new LiveConnections(connectionsMax, options.onConnection)
    this.#alive = setInterval(() => {}, 0x7fff_ffff)
  }

  async listen(): Promise<void> {
    this.#opened()
    this.#hub.announce(this.#id, this)
  }

  join(peer: NodeId): void {
    const id = parseNodeId(peer)
    if (this.#closing !== null) return
    this.#opened()
    if (id === this.#id || this.#joined.has(id)) return
    this.#joined.set(id, { timer: null, stream: null, failures: 0 })
    this.#dial(id)
  }

  leave(id: NodeId): void {
    const dial = this.#joined.get(id)
    if (dial === undefined) return
    this.#joined.delete(id)
    if (dial.timer !== null) clearTimeout(dial.timer)
    if (dial.stream !== null && this.#opening.has(dial.stream)) dial.stream.destroy()
  }

  admit(id: NodeId): void {
    const dial = this.#joined.get(id)
    if (dial === undefined || dial.stream !== null) return
    if (dial.timer !== null) clearTimeout(dial.timer)
    dial.timer = null
    this.#dial(id)
  }

  close(): Promise<void> {
    this.#closing ??= this.#close()
    return this.#closing
  }

  async #close(): Promise<void> {
    for (const id of [...this.#joined.keys()]) this.leave(id)
    this.#hub.forget(this.#id, this)
    for (const stream of this.#opening) stream.destroy()
    await this.#live?.close()
    if (this.#alive !== null) clearInterval(this.#alive)
  }

  #opened(): NetworkOptions {
    if (this.#closing !== null) throw closed()
    if (this.#options !== null) return this.#options
    throw new KVSwarmError('NOT_CONNECTED', 'the network is not open', {
      hint: 'call open() first'
    })
  }

  #dial(id: NodeId): void {
    const dial = this.#joined.get(id)
    const options = this.#options
    if (dial === undefined || options === null || dial.timer !== null || dial.stream !== null)
      return
    if (this.#live?.get(id) !== undefined) return
    const wire = this.#hub.wire(this.#id, id)
    dial.timer = setTimeout(() => {
      dial.timer = null
      if (this.#live?.get(id) !== undefined) return // the other side was faster
      const target = this.#hub.node(id)
      const connects =
        !wire.broken &&
        target !== undefined &&
        options.accepts(id) &&
        target.#accepts(this.#id) &&
        this.#live?.hasRoomFor(id) === true
      if (!connects) return this.#again(id)
      const ends = WireEnd.pair(wire)
      wire.ends.add(ends)
      for (const end of ends)
        end.on('close', () => ends.every((e) => e.destroyed) && wire.ends.delete(ends))
      target.#incoming(ends[1])
      dial.stream = this.#open(true, ends[0], id)
      dial.stream.on('close', () => {
        dial.stream = null
        this.#again(id)
      })
    }, this.#hub.setUpMs(wire))
  }

  /** Dials again after the back-off, when nobody has connected meanwhile. */
  #again(id: NodeId): void {
    const dial = this.#joined.get(id)
    if (dial === undefined || dial.timer !== null || dial.stream !== null) return
    if (this.#live?.get(id) !== undefined) return
    const { backoffsMs } = this.#hub
    const wait = backoffsMs[Math.min(dial.failures, backoffsMs.length - 1)] ?? 0
    dial.failures += 1
    dial.timer = setTimeout(
      () => {
        dial.timer = null
        this.#dial(id)
      },
      wait * (1 + this.#hub.random() / 2)
    )
  }

  #accepts(id: NodeId): boolean {
    return (
      this.#closing === null &&
      this.#options !== null &&
      this.#options.accepts(id) &&
      this.#live?.hasRoomFor(id) === true
    )
  }

  #incoming(end: WireEnd): void {
    this.#open(false, end, null)
  }

  /** Starts the handshake on one end; `expected`: the id that was dialled. */
  #open(isInitiator: boolean, end: WireEnd, expected: NodeId | null): NoiseSecretStream {
    const keyPair = this.#opened().keyPair
    const stream = new NoiseSecretStream(isInitiator, end, { keyPair })
    stream.on('error', () => {}) // told by 'close'
    this.#opening.add(stream)
    stream.on('close', () => this.#opening.delete(stream))
    void stream.opened.then((opened) => {
      this.#opening.delete(stream)
      const key = stream.remotePublicKey
      if (!opened || key === null || stream.destroying) return
      const connection = new StreamConnection(stream, key, () => ({
        received: end.bytesReceived,
        sent: end.bytesTransmitted
      }))
      if (expected !== null && connection.remoteId !== expected) stream.destroy()
      else this.#connected(connection)
    })
    return stream
  }

  /** Of two connections to one peer one survives, by the same rule on both sides. */
  #connected(connection: StreamConnection): void {
    const id = connection.remoteId
    const dial = this.#joined.get(id)
    if (!connection.isInitiator) {
      if (!this.#accepts(id)) return connection.destroy()
      const existing = this.#live?.get(id)
      const dialled = dial?.stream ?? null
      // The one that the greater id dialled survives, except that a connection which has carried bytes
      // both ways is dead when its other end dials again.
      const carried =
        existing !== undefined &&
        existing.stream.rawBytesRead > 0 &&
        existing.stream.rawBytesWritten > 0
      if (dialled !== null && !carried && this.#id > id) {
        return connection.destroy(new Error('a connection to this peer is there already'))
      }
      dialled?.destroy()
    }
    const since = performance.now()
    connection.onClose(() => {
      if (dial !== undefined && performance.now() - since > steadyMs) dial.failures = 0
      this.#again(id)
    })
    this.#live?.add(connection)
  }
}

function checkNumber(name: string, value: number): number {
  if (typeof value === 'number' && value >= 0) return value
  throw new KVSwarmError(
    'INVALID_ARGUMENT',
    `Expected \`${name}\` to be a number of at least 0, got ${String(value)} (${typeof value})`,
    { hint: 'give milliseconds, or bytes per second' }
  )
}

function closed(): KVSwarmError {
  return new KVSwarmError('CLOSED', 'the network is closed', { hint: 'make a new one' })
}

function alreadyOpen(): KVSwarmError {
  return new KVSwarmError('INVALID_ARGUMENT', 'the network is open already', {
    hint: 'one network object serves one node: make one for each'
  })
}
