/**
 * What we read of hypercore's replication, all of it internal to hypercore 11.37.1: the shapes, the check at
 * start that they are still so, and an ear on what peers claim to have.
 */
import type { ChannelOptions, MessageOptions } from 'protomux'
import { blocksAheadMax, requestsMax } from '../../config/limits.ts'
import { KVSwarmError } from '../errors.ts'

/** The channel on which a hypercore is replicated, and the places of three of its messages. */
const channelProtocol = 'hypercore/alpha'
const requestMessage = 1
const bitfieldMessage = 7
const rangeMessage = 8

/** A block that somebody here waits for. */
export interface BlockRequest {
  readonly index: number
  /** Requests for it that are on their way. */
  readonly inflight: readonly { readonly peer: ReplicationPeer }[]
}

/** One peer of one core. */
export interface ReplicationPeer {
  readonly core: CoreInternals
  readonly stream: unknown
  /** Nothing is asked of this peer any more, until it connects anew. */
  readonly paused: boolean
  readonly remoteOpened: boolean
  readonly remoteSynced: boolean
  readonly remoteUploading: boolean
  readonly remoteCanUpgrade: boolean
  readonly remoteFork: number
  readonly remoteLength: number
  /** Our length, as the peer last confirmed it. */
  readonly lengthAcked: number
  readonly syncsProcessing: number
  /** Answers of the peer that are being verified and stored. */
  readonly dataProcessing: number
  /** The peer claims all blocks below. */
  readonly _remoteContiguousLength: number
  readonly remoteRequests: { readonly size: number }
  readonly stats: { readonly wireData: { readonly rx: number } }
  _remoteHasBlock(index: number): boolean
}

/** The peer has, or with `drop` has no longer, the blocks [start, start + length). */
export interface RangeMessage {
  readonly drop: boolean
  readonly start: number
  readonly length: number
}

/** What the peer has from `start` on, one bit a block. */
export interface BitfieldMessage {
  readonly start: number
  readonly bitfield: { readonly byteLength: number }
}

export interface Replicator {
  readonly peers: readonly ReplicationPeer[]
  readonly eagerUpgrade: boolean
  /** Oldest first. */
  readonly _blocks: Iterable<BlockRequest>
  readonly _upgrade: { readonly inflight: readonly { readonly peer: ReplicationPeer }[] } | null
}

export interface CoreInternals {
  readonly closed: boolean
  readonly state: { readonly length: number; readonly fork: number }
  readonly header: { readonly frozen?: boolean }
  readonly replicator: Replicator
}

/** The internals of a session, or null while it is opening and when it is closed. */
export function internalsOf(session: unknown): CoreInternals | null {
  const core = (session as { readonly core?: CoreInternals | null }).core
  return core == null || core.closed ? null : core
}

type Kind = 'number' | 'boolean' | 'object' | 'function'

const coreShape: Readonly<Record<string, Kind>> = {
  closed: 'boolean',
  'state.length': 'number',
  'state.fork': 'number',
  'state.flush': 'function',
  'storage.read': 'function',
  // frozen is set on it when a fork is seen, and absent from a header that was read from disk
  header: 'object',
  'replicator.peers': 'object',
  'replicator.eagerUpgrade': 'boolean',
  'replicator._blocks': 'object',
  'replicator._blocks.add': 'function',
  'replicator.constructor.Peer': 'function'
}

const peerShape: Readonly<Record<string, Kind>> = {
  paused: 'boolean',
  remoteOpened: 'boolean',
  remoteSynced: 'boolean',
  remoteUploading: 'boolean',
  remoteCanUpgrade: 'boolean',
  remoteFork: 'number',
  remoteLength: 'number',
  lengthAcked: 'number',
  syncsProcessing: 'number',
  dataProcessing: 'number',
  _remoteContiguousLength: 'number',
  'remoteRequests.size': 'number',
  'stats.wireData.rx': 'number',
  'wireRequest.place': 'number',
  'wireBitfield.place': 'number',
  'wireRange.place': 'number',
  _remoteHasBlock: 'function'
}

/**
 * Checks on an open core, at start, that the watchdog will find what it reads.
 * @throws INTERNALS_CHANGED naming what is missing or of another kind
 */
export function checkInternals(session: unknown): void {
  const core = (session as { readonly core?: unknown }).core
  const missing = mismatches('core.core', core, coreShape)
  const replicator = at(core, 'replicator') as Record<string, unknown> | undefined
  if (replicator != null && !('_upgrade' in replicator))
    missing.push('core.core.replicator._upgrade')
  const blocks = at(core, 'replicator._blocks') as { [Symbol.iterator]?: unknown } | undefined
  if (typeof blocks?.[Symbol.iterator] !== 'function')
    missing.push('core.core.replicator._blocks: Iterable')
  const Peer = at(core, 'replicator.constructor.Peer')
  if (typeof Peer === 'function') {
    try {
      const peer = sample(Peer as PeerClass, core)
      missing.push(...mismatches('peer', peer, peerShape))
      if (at(peer, 'wireRequest.place') !== requestMessage) missing.push('peer.wireRequest')
      if (at(peer, 'wireBitfield.place') !== bitfieldMessage) missing.push('peer.wireBitfield')
      if (at(peer, 'wireRange.place') !== rangeMessage) missing.push('peer.wireRange')
      if (at(peer, 'core') !== core) missing.push('peer.core')
    } catch (error) {
      missing.push(`peer: ${String(error)}`)
    }
  }
  if (missing.length === 0) return
  throw new KVSwarmError(
    'INTERNALS_CHANGED',
    `hypercore differs from 11.37.1: ${missing.join(', ')}`,
    {
      hint: 'install the exact versions of package-lock.json',
      data: { missing }
    }
  )
}

type PeerClass = new (replicator: object, mux: object, channel: object, range: number[]) => object

/** A peer of nobody: its constructor reads these and touches nothing else. */
function sample(Peer: PeerClass, core: unknown): object {
  const replicator = { core, _ifAvailable: 0, _active: 0 }
  return new Peer(replicator, { stream: { remotePublicKey: null } }, { messages: places }, [1, 1])
}

const places = Array.from({ length: 10 }, (_, place) => ({ place }))

function mismatches(name: string, value: unknown, shape: Readonly<Record<string, Kind>>): string[] {
  return Object.entries(shape)
    .filter(([path, kind]) => typeof at(value, path) !== kind || at(value, path) === null)
    .map(([path]) => `${name}.${path}`)
}

function at(value: unknown, path: string): unknown {
  let found = value
  for (const part of path.split('.')) {
    if (found === null || found === undefined) return undefined
    found = (found as Record<string, unknown>)[part]
  }
  return found
}

/**
 * What a peer claimed and never took back, though hypercore no longer knows: when a peer drops one block, or
 * sends a bitfield, hypercore forgets all contiguous blocks behind it and does not ask again. Held as one
 * span, since the contiguous claim is one; in doubt it is too short.
 */
export class ForgottenClaims {
  #start = 0
  #end = 0

  /** True when the peer still has the block by all that it said, and hypercore has forgotten it. */
  has(index: number): boolean {
    return index >= this.#start && index < this.#end
  }

  /**
   * The peer told about [start, end), and hypercore now knows of `after` contiguous blocks where it knew of
   * `before`: what was claimed from `end` on, it forgot.
   */
  told(start: number, end: number, before: number, after: number): void {
    const overlaps = start < this.#end && end > this.#start
    if (overlaps) this.#start = Math.max(this.#start, end)
    if (after >= before || before <= end) return
    const joins = this.#start < this.#end && this.#start <= before
    this.#start = end
    this.#end = joins ? Math.max(before, this.#end) : before
  }
}

const claims = new WeakMap<object, ForgottenClaims>()

/** What hypercore forgot of this peer's claims; nothing for peers of other multiplexers than ours. */
export function forgottenBy(peer: ReplicationPeer): ForgottenClaims | undefined {
  return claims.get(peer)
}

/**
 * The options of a hypercore's channel, with an ear on what the peer claims to have: claims are remembered,
 * and senseless ones do not reach hypercore. (It notes single blocks one by one: one message of 12 bytes that
 * claims 2^40 of them keeps the process busy until its memory is full; measured.)
 * @param refuse told of a senseless claim
 */
export function withEar(options: ChannelOptions, refuse: (what: string) => void): ChannelOptions {
  const { protocol, messages } = options
  if (protocol !== channelProtocol || messages === undefined) return options
  const listen = (message: MessageOptions, spanOf: (message: never) => Claim): MessageOptions => ({
    ...message,
    onmessage: (content, channel) => {
      const peer = channel.userData as ReplicationPeer
      const { start, end, contiguous } = spanOf(content as never)
      if (!contiguous && end > peer.core.state.length + blocksAheadMax) {
        return refuse(`it claims block ${end - 1} of ${peer.core.state.length}`)
      }
      const before = peer._remoteContiguousLength
      const result = message.onmessage(content, channel)
      const forgotten = claims.get(peer) ?? new ForgottenClaims()
      claims.set(peer, forgotten)
      if (!contiguous) forgotten.told(start, end, before, peer._remoteContiguousLength)
      return result
    }
  })
  return {
    ...options,
    messages: messages.map((message, place) => {
      if (place === requestMessage) return counted(message, refuse)
      if (place === bitfieldMessage) return listen(message, bitfieldSpan)
      if (place === rangeMessage) return listen(message, rangeSpan)
      return message
    })
  }
}

/** Requests wait here until they can be answered; the watchdog would count them only once a second. */
function counted(message: MessageOptions, refuse: (what: string) => void): MessageOptions {
  return {
    ...message,
    onmessage: (content, channel) => {
      const { size } = (channel.userData as ReplicationPeer).remoteRequests
      if (size > requestsMax) return refuse(`${size} requests of one core wait`)
      return message.onmessage(content, channel)
    }
  }
}

interface Claim {
  readonly start: number
  readonly end: number
  /** All blocks from 0 on: one number, however many they are; adds to what is claimed. */
  readonly contiguous: boolean
}

function rangeSpan({ drop, start, length }: RangeMessage): Claim {
  return { start, end: start + length, contiguous: !drop && start === 0 }
}

function bitfieldSpan({ start, bitfield }: BitfieldMessage): Claim {
  return { start, end: start + 8 * bitfield.byteLength, contiguous: false }
}
