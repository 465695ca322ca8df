/**
 * What a peer may cause over time: so much at once, and so much a second from then on. Only for work that costs
 * more than the message that asks for it.
 */

export class Allowance {
  readonly #burst: number
  readonly #perSecond: number
  #left: number
  /** Monotonic milliseconds. */
  #at: number = performance.now()

  constructor(burst: number, perSecond: number) {
    this.#burst = burst
    this.#perSecond = perSecond
    this.#left = burst
  }

  /** False: that is more than is allowed now; nothing is taken. */
  take(count: number): boolean {
    const now = performance.now()
    this.#left = Math.min(this.#burst, this.#left + ((now - this.#at) / 1000) * this.#perSecond)
    this.#at = now
    if (count > this.#left) return false
    this.#left -= count
    return true
  }
}
