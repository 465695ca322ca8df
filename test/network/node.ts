/** A node of a network under test: a key pair, its network, and what was handed up. */
import NoiseSecretStream from '@hyperswarm/secret-stream'
import { createHash } from 'node:crypto'
import type { Test } from 'tape'
import type { Connection, Network } from '../../lib/ports.ts'
import type { KeyPair, NodeId } from '../../lib/types.ts'
import { idOf as idOfKey } from '../../lib/wire/ids.ts'
import { cleanup } from '../helpers/cleanup.ts'
import { until } from '../helpers/events.ts'

/** The key pair that belongs to a name. */
export function keyPairOf(name: string): KeyPair {
  return NoiseSecretStream.keyPair(createHash('sha256').update(name).digest())
}

export function idOf(name: string): NodeId {
  return idOfKey(keyPairOf(name).publicKey)
}

export class TestNode {
  readonly network: Network
  readonly keyPair: KeyPair
  readonly id: NodeId
  /** All that were handed up, oldest first. */
  readonly connections: Connection[] = []
  /** Ids that are refused. */
  readonly refused: Set<NodeId> = new Set()
  /** Most connections to one peer that were live at the same time. */
  mostAtOnce = 0

  constructor(network: Network, name: string) {
    this.network = network
    this.keyPair = keyPairOf(name)
    this.id = idOfKey(this.keyPair.publicKey)
  }

  /** Opens it (and listens); closed after the test. */
  static async start(t: Test, network: Network, name: string, listens = true): Promise<TestNode> {
    const node = new TestNode(network, name)
    cleanup(t, () => network.close())
    await network.open({
      keyPair: node.keyPair,
      accepts: (id) => !node.refused.has(id),
      onConnection: (connection) => node.#onConnection(connection)
    })
    if (listens) await network.listen()
    return node
  }

  #onConnection(connection: Connection): void {
    this.connections.push(connection)
    this.mostAtOnce = Math.max(this.mostAtOnce, this.live(connection.remoteId).length)
    answer(connection)
  }

  live(id: NodeId): Connection[] {
    return this.connections.filter((one) => one.remoteId === id && !one.closed)
  }

  /** The live connection to a peer, as soon as there is one other than `not`. */
  connection(to: TestNode | NodeId, not?: Connection, timeoutMs = 20_000): Promise<Connection> {
    const id = typeof to === 'string' ? to : to.id
    return until(() => this.live(id).find((one) => one !== not), {
      timeoutMs,
      what: `a connection to ${id.slice(0, 8)}`
    })
  }
}

/** Answers whatever begins with 'q', so that the other side sees that bytes go both ways. */
export function answer(connection: Connection): void {
  const stream = connection.stream as NoiseSecretStream
  stream.on('data', (data) => {
    const bytes = data as Buffer
    if (bytes[0] === 113) stream.write(Buffer.concat([Buffer.from('a'), bytes.subarray(1)]))
  })
}

/** Sends a question and resolves when its answer is back. */
export function ask(connection: Connection, text: string): Promise<string> {
  const stream = connection.stream as NoiseSecretStream
  return new Promise((resolve, reject) => {
    const look = (data: unknown): void => {
      const answer = (data as Buffer).toString()
      if (answer !== `a${text}`) return
      stream.off('data', look)
      resolve(answer.slice(1))
    }
    stream.on('data', look)
    connection.onClose(() => reject(new Error('closed before the answer')))
    stream.write(Buffer.from(`q${text}`))
  })
}

/** Names one connection the same on both sides. */
export function nameOf(connection: Connection): string {
  const { handshakeHash } = connection.stream as { readonly handshakeHash?: Uint8Array }
  return Buffer.from(handshakeHash ?? []).toString('hex')
}
