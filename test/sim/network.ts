/**
 * The network of the simulation: connections between writers and storage nodes that come and go.
 *
 * A connection of the program keeps order and loses nothing but its end. This one may do worse, within its bounds
 * of chance: it also loses, repeats and reorders what is on its way, so that no decision depends on luck.
 */
import type { Random } from '../helpers/random.ts'
import type { Message, SimNode } from './node.ts'

interface Link {
  readonly a: SimNode
  readonly b: SimNode
  up: boolean
  readonly way: { readonly from: SimNode; readonly to: SimNode; readonly message: Message }[]
}

export class SimNetwork {
  readonly links: Link[] = []
  readonly #random: Random
  readonly #faults: { readonly reorder: number; readonly repeat: number; readonly lose: number }

  constructor(
    random: Random,
    faults: { readonly reorder: number; readonly repeat: number; readonly lose: number }
  ) {
    this.#random = random
    this.#faults = faults
  }

  add(a: SimNode, b: SimNode): void {
    this.links.push({ a, b, up: false, way: [] })
  }

  isConnected(a: SimNode, b: SimNode): boolean {
    return this.#find(a, b)?.up === true
  }

  send(from: SimNode, to: SimNode, message: Message): void {
    const link = this.#find(from, to)
    if (link?.up) link.way.push({ from, to, message })
  }

  connect(link: Link): void {
    if (link.up || !link.a.isUp || !link.b.isUp) return
    link.up = true
    link.a.connected(link.b)
    link.b.connected(link.a)
  }

  disconnect(link: Link): void {
    if (!link.up) return
    link.up = false
    link.way.length = 0
    link.a.disconnected(link.b)
    link.b.disconnected(link.a)
  }

  cut(node: SimNode): void {
    for (const link of this.links) if (link.a === node || link.b === node) this.disconnect(link)
  }

  get busy(): Link[] {
    return this.links.filter(({ way }) => way.length > 0)
  }

  /** Delivers one message of the link. @param fair without faults */
  deliver(link: Link, fair: boolean): void {
    const { chance, int } = this.#random
    const { reorder, repeat, lose } = this.#faults
    const at = !fair && chance(reorder) ? int(0, link.way.length - 1) : 0
    const one = link.way[at]
    if (!one) return
    if (fair || !chance(repeat)) link.way.splice(at, 1)
    // Blocks that are lost without the connection would be asked for again by nobody.
    const { type } = one.message
    const vital = type === 'block' || type === 'want' || type === 'length' || type === 'record'
    if (!fair && !vital && chance(lose)) return
    if (one.to.isUp) one.to.received(one.from, one.message)
  }

  #find(a: SimNode, b: SimNode): Link | undefined {
    return this.links.find(
      (link) => (link.a === a && link.b === b) || (link.a === b && link.b === a)
    )
  }
}

export type { Link }
