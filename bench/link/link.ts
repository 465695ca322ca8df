/**
 * Two network namespaces joined by a slow link (relay.py): what is in one reaches the other only over it.
 * Needs root, the ip command, python3 and /dev/net/tun. What a run that was killed has left, the next one removes.
 */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'

/** Of all namespaces that benchmarks make; the id of the process that made them follows. */
const prefix = 'kvsb-'

export interface End {
  /** Name of the network namespace. */
  readonly namespace: string
  /** IPv4 address of its end of the link. */
  readonly address: string
}

export class Link {
  readonly a: End
  readonly b: End
  readonly #relay: ChildProcess

  private constructor(a: End, b: End, relay: ChildProcess) {
    this.a = a
    this.b = b
    this.#relay = relay
  }

  /**
   * @param delayMs of one direction: a round trip takes twice that, and a little
   * @throws Error when the machine lacks what is needed
   */
  static async open(delayMs: number): Promise<Link> {
    const a = { namespace: `${prefix}${process.pid}-a`, address: '10.99.0.1' }
    const b = { namespace: `${prefix}${process.pid}-b`, address: '10.99.0.2' }
    sweep()
    // Also when this program ends in an unforeseen way.
    process.once('exit', () => remove([a.namespace, b.namespace]))
    for (const { namespace } of [a, b]) {
      ip('netns', 'add', namespace)
      ip('netns', 'exec', namespace, 'ip', 'link', 'set', 'lo', 'up')
    }
    const ends = [a.namespace, a.address, b.namespace, b.address]
    const relay = spawn('python3', [script('relay.py'), ...ends, String(delayMs)], {
      stdio: ['pipe', 'pipe', 'inherit']
    })
    const ready = await Promise.race([once(relay.stdout, 'data'), once(relay, 'exit')])
    if (!String(ready[0]).startsWith('ready')) {
      throw new Error('the link cannot be made: it needs root, python3, ip netns and /dev/net/tun')
    }
    return new Link(a, b, relay)
  }

  /** Milliseconds of so many round trips, from b to a. */
  ping(count: number): number[] {
    const command = ['netns', 'exec', this.b.namespace, 'python3', script('ping.py')]
    const output = ip(...command, this.a.address, String(count))
    return output.trim().split('\n').map(Number)
  }

  async close(): Promise<void> {
    const gone = once(this.#relay, 'exit')
    this.#relay.stdin?.end()
    await gone
    remove([this.a.namespace, this.b.namespace])
  }
}

function script(name: string): string {
  return fileURLToPath(new URL(name, import.meta.url))
}

function ip(...args: string[]): string {
  return execFileSync('ip', args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] })
}

function existing(): string[] {
  const names = ip('netns', 'list').split('\n')
  return names.map((line) => line.split(' ')[0] ?? '').filter((name) => name.startsWith(prefix))
}

function remove(namespaces: readonly string[]): void {
  for (const namespace of existing()) {
    if (namespaces.includes(namespace)) ip('netns', 'delete', namespace)
  }
}

/** Removes what a benchmark that was killed has left behind. */
function sweep(): void {
  const dead = existing().filter((name) => {
    try {
      process.kill(Number(name.slice(prefix.length).split('-')[0]), 0)
      return false
    } catch {
      return true
    }
  })
  remove(dead)
}
