/** Two nodes of an in-memory network with our channel between them, and hypercores to attach. */
import Corestore from 'corestore'
import type Hypercore from 'hypercore'
import HypercoreStorage from 'hypercore-storage'
import type { Test } from 'tape'
import { MemoryHub } from '../../lib/hyper/memory-network.ts'
import {
  type MessageCodec,
  newPeerCounters,
  openPeer,
  type Peer,
  type PeerCounters,
  type PeerHandlers,
  type PeerOptions
} from '../../lib/hyper/peer.ts'
import type { Connection } from '../../lib/ports.ts'
import {
  decodeMessage,
  encodeMessage,
  type HelloMessage,
  type Message
} from '../../lib/wire/messages.ts'
import { cleanup } from '../helpers/cleanup.ts'
import { until } from '../helpers/events.ts'
import { tmpdir } from '../helpers/tmp.ts'
import { keyPairOf } from './node.ts'
import { idOf } from '../../lib/wire/ids.ts'

export const codec: MessageCodec<Message> = { encode: encodeMessage, decode: decodeMessage }
export const hello: HelloMessage = {
  type: 'hello',
  protocolVersion: 1,
  epoch: 0,
  configHash: '0'.repeat(64)
}

/** Pings four times as often as by default, for tests that wait for them. */
export const quick: PeerOptions = { pingIntervalMs: 500, pingTimeoutMs: 2000 }
/** Says hello and nothing else. */
export const quiet: PeerHandlers<Message> = {
  hello: () => hello,
  onHello: () => {},
  onMessage: () => {},
  onClose: () => {}
}

/** One node: its peers as they come, and what they said. */
export class ChannelNode {
  readonly id: string
  readonly connections: Connection[] = []
  readonly peers: Peer<Message>[] = []
  readonly greetings: Message[] = []
  readonly messages: Message[] = []
  readonly reasons: (Error | null)[] = []
  readonly counters: PeerCounters = newPeerCounters()
  /** Called with each message; may throw. */
  onMessage: (message: Message) => void = () => {}
  /** Called with each new channel before anything is read from it. */
  onPeer: (peer: Peer<Message>) => void = () => {}
  readonly join: (id: string) => void
  readonly leave: (id: string) => void

  /** @param options null: connections are taken raw, without our channel */
  constructor(t: Test, hub: MemoryHub, name: string, options: PeerOptions | null = {}) {
    this.id = idOf(keyPairOf(name).publicKey)
    const network = hub.network()
    cleanup(t, () => network.close())
    this.join = (id) => network.join(id)
    this.leave = (id) => network.leave(id)
    this.ready = network
      .open({
        keyPair: keyPairOf(name),
        accepts: () => true,
        onConnection: (connection) => {
          this.connections.push(connection)
          if (options !== null) this.#open(connection, options)
        }
      })
      .then(() => network.listen())
  }

  readonly ready: Promise<void>

  /** The newest open channel. */
  get peer(): Peer<Message> | undefined {
    return this.peers.findLast((peer) => !peer.closed)
  }

  #open(connection: Connection, options: PeerOptions): void {
    const peer = openPeer<Message>(
      connection,
      codec,
      {
        hello: () => hello,
        onHello: (message) => this.greetings.push(message),
        onMessage: (message) => {
          this.messages.push(message)
          this.onMessage(message)
        },
        onClose: (reason) => this.reasons.push(reason)
      },
      { counters: this.counters, ...options }
    )
    this.peers.push(peer)
    this.onPeer(peer)
  }

  /** The newest open channel, as soon as it is greeted. */
  greeted(not?: Peer<Message>): Promise<Peer<Message>> {
    return until(() => (this.peer?.greeted === true && this.peer !== not ? this.peer : null), {
      what: 'a channel with a hello'
    })
  }
}

/** Two connected nodes. */
export async function pair(
  t: Test,
  hub: MemoryHub,
  options: PeerOptions = {}
): Promise<{ a: ChannelNode; b: ChannelNode; toB: Peer<Message>; toA: Peer<Message> }> {
  const a = new ChannelNode(t, hub, 'a', options)
  const b = new ChannelNode(t, hub, 'b', options)
  await Promise.all([a.ready, b.ready])
  a.join(b.id)
  const [toB, toA] = await Promise.all([a.greeted(), b.greeted()])
  return { a, b, toB, toA }
}

/** A store in a folder of its own. */
export async function store(t: Test): Promise<Corestore> {
  const opened = new Corestore(new HypercoreStorage(tmpdir(t)))
  await opened.ready()
  cleanup(t, () => opened.close())
  return opened
}

/** A writable core, and the same core at another store. */
export async function cores(t: Test): Promise<{ writer: Hypercore; reader: Hypercore }> {
  const [one, other] = [await store(t), await store(t)]
  const keyPair = await one.createKeyPair('core')
  const manifest = {
    version: 1 as const,
    signers: [{ publicKey: keyPair.publicKey, namespace: Buffer.alloc(32, 7) }]
  }
  const writer = one.get({ manifest, keyPair })
  const reader = other.get({ manifest })
  await Promise.all([writer.ready(), reader.ready()])
  return { writer, reader }
}
