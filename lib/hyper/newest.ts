/**
 * Lets through the newest of what comes under each name, at most once an interval: the first at once, the last
 * always, those between perhaps not. So who says new things without end costs a fixed amount a second.
 */

interface Waiting<T> {
  readonly timer: NodeJS.Timeout
  next: T | null
}

export class Newest<T> {
  readonly #intervalMs: number
  readonly #take: (value: T) => void
  readonly #isNewer: (value: T, than: T) => boolean
  /** By name: those that were let through less than an interval ago. */
  readonly #waiting = new Map<string, Waiting<T>>()

  constructor(
    intervalMs: number,
    isNewer: (value: T, than: T) => boolean,
    take: (value: T) => void
  ) {
    this.#intervalMs = intervalMs
    this.#isNewer = isNewer
    this.#take = take
  }

  offer(name: string, value: T): void {
    const waiting = this.#waiting.get(name)
    if (waiting !== undefined) {
      if (waiting.next === null || this.#isNewer(value, waiting.next)) waiting.next = value
      return
    }
    const timer = setTimeout(() => this.#due(name), this.#intervalMs)
    timer.unref()
    this.#waiting.set(name, { timer, next: null })
    this.#take(value)
  }

  close(): void {
    for (const { timer } of this.#waiting.values()) clearTimeout(timer)
    this.#waiting.clear()
  }

  #due(name: string): void {
    const next = this.#waiting.get(name)?.next ?? null
    this.#waiting.delete(name)
    if (next !== null) this.offer(name, next)
  }
}
