/**
 * Memory that all requests share, given out in the order of asking. Who asks has named its whole need
 * before it takes anything, so those that wait cannot block one another.
 */
export class Budget {
  #free: number
  readonly #waiting: { bytes: number; go: () => void }[] = []

  constructor(bytes: number) {
    this.#free = bytes
  }

  /**
   * Waits until `bytes` are free; the returned call gives them back (once).
   * What is asked must not exceed the whole. Rejects with the signal's reason.
   */
  async take(bytes: number, signal: AbortSignal): Promise<() => void> {
    signal.throwIfAborted()
    if (this.#waiting.length > 0 || bytes > this.#free) await this.#wait(bytes, signal)
    else this.#free -= bytes
    let taken = true
    return () => {
      if (!taken) return
      taken = false
      this.#free += bytes
      this.#serve()
    }
  }

  #wait(bytes: number, signal: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      const onAbort = (): void => {
        this.#waiting.splice(this.#waiting.indexOf(place), 1)
        reject(signal.reason as Error)
        this.#serve()
      }
      const place = {
        bytes,
        go: () => {
          signal.removeEventListener('abort', onAbort)
          resolve()
        }
      }
      this.#waiting.push(place)
      signal.addEventListener('abort', onAbort, { once: true })
    })
  }

  #serve(): void {
    for (let next = this.#waiting[0]; next && next.bytes <= this.#free; next = this.#waiting[0]) {
      this.#waiting.shift()
      this.#free -= next.bytes
      next.go()
    }
  }
}
