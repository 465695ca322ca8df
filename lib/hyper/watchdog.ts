/**
 * The watchdog: ends connections on which hypercore's replication stands still, so that they are dialled
 * again. Several defects of hypercore stop the replication of one core on one connection for as long as it
 * lasts, and nothing else ends them.
 *
 * It ends a connection when, for a core on it and for longer than the patience,
 * - a wanted block is on request from this peer, or on request from nobody although this peer has it
 *   (also when hypercore forgot that it has it),
 * - the peer is paused (it gave bad data, or we could not store),
 * - the peer has a greater length that we do not get, or we have one that it does not take,
 * - or more requests of the peer wait than any sane peer makes.
 *
 * It leaves alone: a link that is slow but moves (data of the core arrives; or bytes do, and the core has
 * waited less than six times the patience), an idle one, a block that the peer does not have.
 * Each intervention doubles the patience with that peer, and quiet time halves it again, so that what
 * reconnecting does not heal costs a connection now and then, not one every few seconds.
 */
import type NoiseSecretStream from '@hyperswarm/secret-stream'
import { requestsMax, watchdogIntervalMs, watchdogPatienceMs } from '../../config/limits.ts'
import { KVSwarmError } from '../errors.ts'
import type { Connection } from '../ports.ts'
import type { NodeId } from '../types.ts'
import {
  type CoreInternals,
  forgottenBy,
  internalsOf,
  type ReplicationPeer
} from './replication.ts'

/** Of the blocks that a core waits for, only the oldest are looked at. */
const blocksMax = 64
/** Bytes in one look above which a connection is busy with something else; pings are far below. */
const busyBytes = 2 * 1024
/** A frame so large that its coming in counts as progress, since nothing else can come meanwhile. */
const frameBytesLarge = 1024 * 1024
/** While it is busy, patience is so many times as long. */
const busyFactor = 6
/** We hear of the peer's progress later than of ours. */
const theirsFactor = 2
/** Patience doubles at most so often. */
const strikesMax = 6

export interface Intervention {
  readonly remoteId: NodeId
  /** What stood still, for the log. */
  readonly reason: string
}

export interface WatchdogOptions {
  readonly onIntervention?: (intervention: Intervention) => void
  /** Milliseconds between two looks. @default limits.watchdogIntervalMs */
  readonly intervalMs?: number
  /** Milliseconds. @default limits.watchdogPatienceMs */
  readonly patienceMs?: number
}

/** What is remembered of one core on one connection. */
interface Watched {
  /** Since when each block that this peer is to blame for has been waited for. */
  blocks: Map<number, number>
  received: number
  /** Monotonic milliseconds of the last data of this core. */
  progressAt: number
  pausedSince: number | null
  /** Since when our length is behind, and which it is. */
  behind: { readonly since: number; readonly length: number; readonly acked: number } | null
  /** Since when the peer's length is behind, and which it is. */
  ahead: { readonly since: number; readonly length: number } | null
}

interface Post {
  readonly connection: Connection
  readonly cores: () => Iterable<unknown>
  readonly watched: Map<ReplicationPeer, Watched>
  bytes: number
  /** Monotonic milliseconds at which bytes in number had moved since the look before. */
  busyAt: number
  /** Announced length of the frame that was coming in at the last look. */
  frame: number
}

/** One for a node. */
export class Watchdog {
  readonly #onIntervention: ((intervention: Intervention) => void) | undefined
  readonly #intervalMs: number
  readonly #patienceMs: number
  readonly #posts = new Set<Post>()
  /** Interventions against one peer that have not been forgiven, and when the last one is. */
  readonly #strikes = new Map<NodeId, { count: number; forgiveAt: number }>()
  #timer: NodeJS.Timeout | null = null
  #lookedAt: number = performance.now()
  #interventions = 0

  constructor(options: WatchdogOptions = {}) {
    this.#onIntervention = options.onIntervention
    this.#intervalMs = options.intervalMs ?? watchdogIntervalMs
    this.#patienceMs = options.patienceMs ?? watchdogPatienceMs
  }

  /** Connections that were ended. */
  get interventions(): number {
    return this.#interventions
  }

  /**
   * Watches a connection until it closes.
   * @param cores gives the hypercore sessions that are attached to it through its peer's muxer, each time anew
   */
  watch(connection: Connection, cores: () => Iterable<unknown>): void {
    const post: Post = { connection, cores, watched: new Map(), bytes: 0, busyAt: 0, frame: 0 }
    this.#posts.add(post)
    connection.onClose(() => {
      this.#posts.delete(post)
      if (this.#posts.size > 0 || this.#timer === null) return
      clearInterval(this.#timer)
      this.#timer = null
    })
    if (this.#timer === null && this.#posts.size > 0) {
      this.#lookedAt = performance.now()
      this.#timer = setInterval(() => this.#look(), this.#intervalMs)
      this.#timer.unref()
    }
  }

  close(): void {
    this.#posts.clear()
    if (this.#timer !== null) clearInterval(this.#timer)
    this.#timer = null
  }

  #look(): void {
    const now = performance.now()
    const slept = now - this.#lookedAt > 3 * this.#intervalMs
    this.#lookedAt = now
    this.#forgive(now)
    for (const post of this.#posts) {
      const bytes = post.connection.bytesReceived + post.connection.bytesSent
      const moved = bytes - post.bytes
      if (moved >= busyBytes) post.busyAt = now
      post.bytes = bytes
      const frame = (post.connection.stream as NoiseSecretStream)._len
      const arriving = moved > 0 && frame === post.frame && frame >= frameBytesLarge
      post.frame = frame
      if (post.connection.closed) continue
      // This process stood still: what the peer has sent meanwhile is not read yet.
      if (slept) post.watched.clear()
      const reason = this.#fault(post, now, arriving)
      if (reason !== null) this.#intervene(post.connection, reason, now)
    }
  }

  /** The peers of the connection's cores with what is remembered of them; forgets the others. */
  *#peersOf(post: Post): Iterable<[CoreInternals, ReplicationPeer, Watched]> {
    const gone = new Set(post.watched.keys())
    for (const session of post.cores()) {
      const core = internalsOf(session)
      const peer = core?.replicator.peers.find((one) => one.stream === post.connection.stream)
      if (core === null || peer === undefined) continue
      gone.delete(peer)
      let watched = post.watched.get(peer)
      if (watched === undefined) {
        watched = {
          blocks: new Map(),
          received: -1,
          progressAt: 0,
          pausedSince: null,
          behind: null,
          ahead: null
        }
        post.watched.set(peer, watched)
      }
      yield [core, peer, watched]
    }
    for (const peer of gone) post.watched.delete(peer)
  }

  #fault(post: Post, now: number, arriving: boolean): string | null {
    const patience = this.#patience(post.connection.remoteId)
    const slow = now - post.busyAt <= 2 * this.#intervalMs ? busyFactor : 1
    let fault: string | null = null
    for (const [core, peer, watched] of this.#peersOf(post)) {
      if (fault !== null || core.header.frozen) continue
      const received = peer.stats.wireData.rx
      const progress = received !== watched.received || peer.dataProcessing > 0 || arriving
      if (progress) watched.progressAt = now
      watched.received = received
      /** For how long it has stood still that has been so since `since`. */
      const still = (since: number | null): number => {
        if (since === null) return 0
        return (now - Math.max(since, watched.progressAt)) / slow
      }

      const wants = wantsOf(core, peer, watched, now)
      watched.pausedSince = peer.paused ? (watched.pausedSince ?? now) : null
      if (watched.pausedSince !== null && now - watched.pausedSince >= patience / 2) {
        fault = 'the peer is paused'
      } else if (peer.remoteRequests.size > requestsMax) {
        fault = `${peer.remoteRequests.size} requests of the peer wait`
      } else if (now - (wants.lost ?? now) >= patience || still(wants.oldest) >= patience) {
        fault = 'a wanted block does not come'
      } else if (still(behindSince(core, peer, watched, now)) >= patience) {
        fault = 'a length of the peer does not come'
      } else if (still(aheadSince(core, peer, watched, now)) >= theirsFactor * patience) {
        fault = 'the peer does not take our length'
      }
    }
    return fault
  }

  #patience(id: NodeId): number {
    return this.#patienceMs * 2 ** (this.#strikes.get(id)?.count ?? 0)
  }

  #intervene(connection: Connection, reason: string, now: number): void {
    const id = connection.remoteId
    const count = Math.min(strikesMax, (this.#strikes.get(id)?.count ?? 0) + 1)
    this.#strikes.set(id, { count, forgiveAt: now + 4 * this.#patienceMs * 2 ** count })
    this.#interventions += 1
    connection.destroy(
      new KVSwarmError('TIMEOUT', `replication with ${id} stands still: ${reason}`, {
        hint: 'the connection is dialled again'
      })
    )
    this.#onIntervention?.({ remoteId: id, reason })
  }

  #forgive(now: number): void {
    for (const [id, strike] of this.#strikes) {
      if (now < strike.forgiveAt) continue
      strike.count -= 1
      strike.forgiveAt = now + 4 * this.#patienceMs * 2 ** strike.count
      if (strike.count === 0) this.#strikes.delete(id)
    }
  }
}

interface Wants {
  /** Since when the block has been waited for that waits longest and that this peer is to blame for. */
  readonly oldest: number | null
  /** The same of those that will never be asked for, since hypercore forgot that the peer has them. */
  readonly lost: number | null
}

function wantsOf(core: CoreInternals, peer: ReplicationPeer, watched: Watched, now: number): Wants {
  const blocks = new Map<number, number>()
  let oldest: number | null = null
  let lost: number | null = null
  let looked = 0
  const forgotten = forgottenBy(peer)
  for (const { index, inflight } of core.replicator._blocks) {
    if (++looked > blocksMax) break
    const asked = inflight.some((request) => request.peer === peer)
    const known = inflight.length === 0 && peer._remoteHasBlock(index)
    const unknown = inflight.length === 0 && !known && forgotten?.has(index) === true
    if (!asked && !known && !unknown) continue
    const since = watched.blocks.get(index) ?? now
    blocks.set(index, since)
    if (unknown) lost = Math.min(lost ?? since, since)
    else oldest = Math.min(oldest ?? since, since)
  }
  watched.blocks = blocks
  return { oldest, lost }
}

/** Since when our length has been behind the peer's without growing, and the peer could have helped. */
function behindSince(
  core: CoreInternals,
  peer: ReplicationPeer,
  watched: Watched,
  now: number
): number | null {
  const { length, fork } = core.state
  const acked = peer.lengthAcked
  const upgrade = core.replicator._upgrade?.inflight ?? []
  const elsewhere = upgrade.length > 0 && upgrade.every((request) => request.peer !== peer)
  const stuck =
    peer.remoteSynced &&
    peer.remoteUploading &&
    peer.remoteFork === fork &&
    peer.remoteLength > length &&
    peer.syncsProcessing === 0 &&
    core.replicator.eagerUpgrade &&
    !elsewhere &&
    (acked !== length || peer.remoteCanUpgrade)
  if (!stuck) watched.behind = null
  else if (watched.behind?.length !== length || watched.behind.acked !== acked) {
    watched.behind = { since: now, length, acked }
  }
  return watched.behind?.since ?? null
}

/** Since when the peer's length has been behind ours without growing. */
function aheadSince(
  core: CoreInternals,
  peer: ReplicationPeer,
  watched: Watched,
  now: number
): number | null {
  const { length, fork } = core.state
  const stuck =
    peer.remoteOpened &&
    peer.remoteSynced &&
    peer.remoteFork === fork &&
    peer.remoteLength < length &&
    peer.syncsProcessing === 0
  if (!stuck) watched.ahead = null
  else if (watched.ahead?.length !== peer.remoteLength) {
    watched.ahead = { since: now, length: peer.remoteLength }
  }
  return watched.ahead?.since ?? null
}
