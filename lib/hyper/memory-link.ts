/**
 * A pair of in-memory byte streams, joined by a wire that can be slow, narrow or dead.
 *
 * - Bytes arrive in order, each exactly once, copied; never within the call that wrote them.
 * - At most `windowBytes` are under way in each direction; then the writer waits, as on a real link.
 * - A lost wire never delivers anything again, neither bytes nor the end of the other side: so it looks
 *   to both ends when the other's machine has died.
 */
import { Duplex } from 'streamx'

/** Bytes under way in one direction before the writer has to wait. */
const windowBytes = 1024 * 1024

/** Larger writes arrive piece by piece. */
const packetBytes = 16 * 1024

/** How a wire between two nodes is; read at every write, so that a change works at once. */
export interface WireState {
  /** One-way latency in milliseconds. */
  delayMs: number
  /** Bytes per second in each direction; Infinity: no bound. */
  bytesPerSecond: number
}

/** What is under way: bytes, the orderly end (null), or the news that the other side is gone. */
interface Parcel {
  readonly content: Uint8Array | null | 'reset'
  /** Monotonic milliseconds at which it arrives. */
  readonly due: number
}

type Callback = (error: Error | null) => void

/** One end of the pair. */
export class WireEnd extends Duplex {
  /** Bytes delivered to this end, and written by it. */
  bytesReceived = 0
  bytesTransmitted = 0
  readonly #wire: WireState
  #other: WireEnd | null = null
  #lost = false
  #parcels: Parcel[] = []
  #underWay = 0
  #lastDue = 0
  #writing: Callback | null = null
  /** The reader of the other end is full. */
  #blocked = false
  /** Calls off the next delivery. */
  #cancel: (() => void) | null = null

  constructor(wire: WireState) {
    super({ eagerOpen: true })
    this.#wire = wire
    this.on('error', () => {}) // told by 'close'
  }

  /** Two ends of one wire. */
  static pair(wire: WireState): [WireEnd, WireEnd] {
    const a = new WireEnd(wire)
    const b = new WireEnd(wire)
    a.#other = b
    b.#other = a
    return [a, b]
  }

  /** From now on nothing that this end writes arrives, its end neither. */
  lose(): void {
    this.#lost = true
    this.#parcels = []
    this.#clearTimer()
  }

  override _write(data: unknown, callback: Callback): void {
    const bytes = Buffer.from(data as Uint8Array) // a copy: the reader decrypts in place
    this.bytesTransmitted += bytes.byteLength
    this.#underWay += bytes.byteLength
    for (let at = 0; at < bytes.byteLength; at += packetBytes) {
      const packet = bytes.subarray(at, at + packetBytes)
      this.#post(packet, packet.byteLength)
    }
    if (this.#underWay < windowBytes) callback(null)
    else this.#writing = callback
  }

  override _final(callback: Callback): void {
    this.#post(null, 0)
    callback(null)
  }

  override _read(callback: Callback): void {
    const writer = this.#other
    if (writer !== null && writer.#blocked) {
      writer.#blocked = false
      writer.#schedule()
    }
    callback(null)
  }

  override _predestroy(): void {
    const writing = this.#writing
    this.#writing = null
    writing?.(null)
  }

  override _destroy(callback: Callback): void {
    this.#parcels = []
    this.#blocked = false
    this.#clearTimer()
    this.#post('reset', 0)
    callback(null)
  }

  #post(content: Parcel['content'], size: number): void {
    if (this.#lost) return
    const start = Math.max(performance.now(), this.#lastDue - this.#wire.delayMs)
    const due = start + (size / this.#wire.bytesPerSecond) * 1000 + this.#wire.delayMs
    this.#lastDue = Math.max(due, this.#lastDue)
    this.#parcels.push({ content, due: this.#lastDue })
    this.#schedule()
  }

  #schedule(): void {
    const next = this.#parcels[0]
    if (this.#cancel !== null || this.#blocked || next === undefined) return
    const run = (): void => {
      this.#cancel = null
      this.#deliver()
    }
    const wait = next.due - performance.now()
    if (wait <= 0) {
      const immediate = setImmediate(run)
      this.#cancel = () => clearImmediate(immediate)
    } else {
      const timer = setTimeout(run, Math.ceil(wait))
      this.#cancel = () => clearTimeout(timer)
    }
  }

  #deliver(): void {
    const reader = this.#other
    const now = performance.now()
    for (let next = this.#parcels[0]; next !== undefined; next = this.#parcels[0]) {
      if (next.due > now || this.#blocked) break
      this.#parcels.shift()
      if (reader === null || reader.destroying) continue
      if (next.content === 'reset') reader.#reset()
      else if (next.content === null) reader.push(null)
      else {
        reader.bytesReceived += next.content.byteLength
        this.#underWay -= next.content.byteLength
        this.#blocked = !reader.push(next.content)
      }
    }
    if (this.#writing !== null && this.#underWay < windowBytes) {
      const writing = this.#writing
      this.#writing = null
      writing(null)
    }
    this.#schedule()
  }

  #reset(): void {
    if (this.#lost) return
    this.destroy(Object.assign(new Error('the other side is gone'), { code: 'ECONNRESET' }))
  }

  #clearTimer(): void {
    this.#cancel?.()
    this.#cancel = null
  }
}
