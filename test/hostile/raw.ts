/**
 * A peer made of upstream's modules alone (hypercore, protomux), with nothing of lib/write, lib/apply or lib/hyper's
 * own multiplexer: it says and signs whatever a test lets it.
 */
import type NoiseSecretStream from '@hyperswarm/secret-stream'
import Corestore from 'corestore'
import Hypercore from 'hypercore'
import HypercoreStorage from 'hypercore-storage'
import Protomux, { type Encoding, type Sender } from 'protomux'
import type { Test } from 'tape'
import type { MemoryHub } from '../../lib/index.ts'
import type { Connection, Network } from '../../lib/ports.ts'
import type { KeyPair, LogName, NodeId } from '../../lib/types.ts'
import { idBytes, idOf } from '../../lib/wire/ids.ts'
import {
  decodeMessage,
  encodeMessage,
  type Message,
  protocolName
} from '../../lib/wire/messages.ts'
import { logNamespace } from '../../lib/wire/namespaces.ts'
import { cleanup } from '../helpers/cleanup.ts'
import { until } from '../helpers/events.ts'
import { tmpdir } from '../helpers/tmp.ts'

/** Bytes as they are. */
export const raw: Encoding<Uint8Array> = {
  preencode: (state, bytes) => (state.end += bytes.byteLength),
  encode: (state, bytes) => {
    state.buffer?.set(bytes, state.start)
    state.start += bytes.byteLength
  },
  decode: (state) => (state.buffer as Uint8Array).subarray(state.start, (state.start = state.end))
}

/** Our channel on a stream. */
export interface Voice {
  readonly mux: Protomux
  /** A message of our channel, as bytes or as what it means. */
  say(message: Message | Uint8Array): void
}

/** One connection of a raw peer. */
export interface Line extends Voice {
  readonly connection: Connection
  readonly stream: NoiseSecretStream
  readonly said: Message[]
}

/** Opens our channel and says hello; null: it says nothing. */
export function speak(
  stream: unknown,
  hello: Message | Uint8Array | null,
  onmessage: (bytes: Uint8Array) => void = () => {}
): Voice {
  const mux = new Protomux(stream as NoiseSecretStream)
  const channel = mux.createChannel({ protocol: protocolName })
  const sender = channel?.addMessage({ encoding: raw, onmessage }) as Sender<Uint8Array>
  channel?.open()
  const say = (message: Message | Uint8Array): void => {
    sender.send(message instanceof Uint8Array ? message : encodeMessage(message))
  }
  if (hello !== null) say(hello)
  return { mux, say }
}

export class RawPeer {
  readonly keyPair: KeyPair
  readonly id: NodeId
  readonly #t: Test
  readonly #network: Network
  readonly #connections: Connection[] = []
  #store: Corestore | null = null
  #target: NodeId | null = null

  constructor(t: Test, network: Network, keyPair: KeyPair) {
    this.#t = t
    this.keyPair = keyPair
    this.id = idOf(keyPair.publicKey)
    this.#network = network
  }

  static async open(t: Test, hub: MemoryHub, keyPair: KeyPair): Promise<RawPeer> {
    return await RawPeer.on(t, hub.network(), keyPair)
  }

  static async on(t: Test, network: Network, keyPair: KeyPair): Promise<RawPeer> {
    const peer = new RawPeer(t, network, keyPair)
    cleanup(t, () => network.close())
    await network.open({
      keyPair,
      accepts: () => true,
      onConnection: (connection) => peer.#connections.push(connection)
    })
    return peer
  }

  /** Connects (again) and speaks; a connection that there was ends. `hello: null`: it says nothing. */
  async dial(target: NodeId, hello: Message | null): Promise<Line> {
    const connection = await this.connection(target)
    const stream = connection.stream as NoiseSecretStream
    const said: Message[] = []
    const voice = speak(stream, hello, (bytes) => {
      said.push(decodeMessage(Uint8Array.from(bytes)))
    })
    return { ...voice, connection, stream, said }
  }

  /** A fresh connection, on which nothing was said yet. */
  async connection(target: NodeId): Promise<Connection> {
    if (this.#target !== null) this.#network.leave(this.#target)
    for (const one of this.#connections) one.destroy()
    await until(() => this.#connections.every((one) => one.closed))
    this.#connections.length = 0
    this.#target = target
    this.#network.join(target)
    const connection = await until(() => this.#connections.find((one) => !one.closed), {
      what: `a connection to ${target.slice(0, 8)}`
    })
    this.#network.leave(target)
    return connection
  }

  async store(): Promise<Corestore> {
    if (this.#store === null) {
      const store = new Corestore(new HypercoreStorage(tmpdir(this.#t)))
      cleanup(this.#t, () => store.close())
      await store.ready()
      this.#store = store
    }
    return this.#store
  }

  /** A core with any manifest; appends need a signature when the key is not ours. */
  async core(manifest: Manifest, keyPair: KeyPair = this.keyPair): Promise<Hypercore> {
    const store = await this.store()
    const core = store.get({ manifest: manifest as never, keyPair })
    await core.ready()
    return core
  }

  /** A core that we have signed, offered under the key of one whose signer we are not. */
  async disguised(as: Manifest, mine: Uint8Array): Promise<Hypercore> {
    const core = await this.core(manifestOf(this.id, mine))
    const key = Hypercore.key(as as never)
    Object.assign(core.core, { key, discoveryKey: Hypercore.discoveryKey(key) })
    return core
  }

  /** A log under the very key that kvswarm derives. */
  async log(name: LogName, generation: number, signer: NodeId = name.node): Promise<Hypercore> {
    return await this.core(manifestOf(signer, logNamespace(name, generation)))
  }
}

export interface Manifest {
  readonly version: 1
  readonly quorum?: number
  readonly prologue?: { hash: Uint8Array; length: number }
  readonly signers: readonly {
    signature?: 'ed25519'
    publicKey: Uint8Array
    namespace: Uint8Array
  }[]
}

export function manifestOf(signer: NodeId, namespace: Uint8Array): Manifest {
  return { version: 1, signers: [{ publicKey: idBytes(signer), namespace }] }
}
