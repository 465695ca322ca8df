/** Connections of any identity to a node, over the DHT, without a swarm around them: what an attacker would use. */
import { readFileSync } from 'node:fs'
import HyperDHT from 'hyperdht'
import type NoiseSecretStream from '@hyperswarm/secret-stream'
import type { Test } from 'tape'
import type { KeyPair, NodeId } from '../../lib/types.ts'
import { idBytes } from '../../lib/wire/ids.ts'
import { cleanup } from '../helpers/cleanup.ts'

export class Dialler {
  readonly #dht: HyperDHT
  readonly #streams = new Set<NoiseSecretStream>()

  private constructor(dht: HyperDHT) {
    this.#dht = dht
  }

  static async open(t: Test, bootstrap: string): Promise<Dialler> {
    const dht = new HyperDHT({
      bootstrap: [bootstrap],
      host: '127.0.0.1',
      firewalled: false,
      ephemeral: true
    })
    await dht.bind()
    await dht.fullyBootstrapped()
    const dialler = new Dialler(dht)
    cleanup(t, async () => {
      for (const stream of dialler.#streams) stream.destroy()
      await dht.destroy({ force: true })
    })
    return dialler
  }

  /** Begins a connection; it may be refused. */
  begin(target: NodeId, keyPair: KeyPair): NoiseSecretStream {
    const stream = this.#dht.connect(Buffer.from(idBytes(target)), { keyPair })
    stream.on('error', () => {})
    this.#streams.add(stream)
    stream.on('close', () => this.#streams.delete(stream))
    return stream
  }

  /** A connection whose handshake is done, or null when it was refused. */
  async connect(target: NodeId, keyPair: KeyPair): Promise<NoiseSecretStream | null> {
    const stream = this.begin(target, keyPair)
    return (await stream.opened) ? stream : null
  }
}

/** Resident megabytes (2^20 bytes) of a process, as the kernel tells it. */
export function megabytesOf(pid: number): number {
  const status = readFileSync(`/proc/${pid}/status`, 'utf8')
  return Number(/^VmRSS:\s+(\d+) kB/m.exec(status)?.[1] ?? Number.NaN) / 1024
}
