/**
 * The logs of one writer's outbox that are open here, one for each generation that is needed.
 *
 * Invariants:
 * - at most generationsOpenMax are open (or opening, or closing) at a time, whatever the writer announces;
 * - a log is never opened again before it is closed; one that closes by itself again and again, later each time;
 * - a log that its writer has forked is read here, but not replicated any more;
 * - a log is deleted only when nobody has it open.
 */
import { reopenBackoffMaxMs, reopenBackoffMinMs, reopenQuietMs } from '../../config/limits.ts'
import type { Log } from '../ports.ts'
import { generationsOpenMax } from '../protocol/intake.ts'

export interface OpenLog {
  readonly log: Log
  /** Blocks that are here and behind the barrier, without a gap from the start or the cursor. */
  held: number
  /** The first block at or after `from` that is not here. */
  firstMissing(from: number): number
  readonly stops: (() => void)[]
}

export interface InboxLogsEnvironment {
  /** @param attach whether it is attached to the writer's connection */
  open(generation: number, attach: boolean): Promise<Log>
  /** A log was opened or closed, grew, or has a new block. */
  changed(): void
  /** Two versions of the log were signed. */
  forked(generation: number): void
  /** A log could not be opened. */
  openFailed(error: unknown): void
  /** A log could not be closed. */
  closeFailed(error: unknown): void
  /** Deletes the copy of a generation; nothing when it is not here. */
  delete(generation: number): Promise<void>
  /** A copy could not be deleted: it stays until the node starts again. */
  deleteFailed(error: unknown): void
}

export class InboxLogs {
  readonly #environment: InboxLogsEnvironment
  readonly #opened = new Map<number, OpenLog>()
  readonly #opening = new Set<number>()
  readonly #closing = new Map<number, Promise<void>>()
  readonly #forked = new Set<number>()
  /** To be deleted, as soon as they are closed. */
  readonly #going = new Set<number>()
  /** How often in a row a log has closed by itself, and since when it was open. */
  readonly #closes = new Map<number, { count: number; openedAt: number }>()
  /** Not to be opened yet. */
  readonly #waiting = new Map<number, NodeJS.Timeout>()
  #closed = false

  constructor(environment: InboxLogsEnvironment) {
    this.#environment = environment
  }

  get(generation: number): OpenLog | undefined {
    return this.#opened.get(generation)
  }

  get all(): ReadonlyMap<number, OpenLog> {
    return this.#opened
  }

  /** Those that may be attached to a connection. */
  get attachable(): Log[] {
    return [...this.#opened.values()]
      .map(({ log }) => log)
      .filter(({ generation }) => !this.#forked.has(generation))
  }

  /** The lowest generation that was forked and not passed yet. */
  get forked(): number | null {
    return this.#forked.size === 0 ? null : Math.min(...this.#forked)
  }

  isForked(generation: number): boolean {
    return this.#forked.has(generation)
  }

  /** The cursor is in this generation: earlier ones are of no concern any more. */
  passed(generation: number): void {
    for (const forked of this.#forked) if (forked < generation) this.#forked.delete(forked)
    for (const old of this.#closes.keys()) if (old < generation) this.#closes.delete(old)
  }

  /** Closes the log if it is open, and deletes what is here of the generation. */
  discard(generation: number): void {
    if (this.#closed) return
    this.#going.add(generation)
    const opened = this.#opened.get(generation)
    if (opened) this.#drop(generation, opened)
    else if (!this.#opening.has(generation) && !this.#closing.has(generation)) {
      this.#closing.set(generation, this.#delete(generation))
    }
  }

  /** Opens what is needed, as far as the bound allows, and closes the rest. */
  use(needed: readonly number[], attach: boolean): void {
    if (this.#closed) return
    for (const [generation, opened] of this.#opened) {
      if (!needed.includes(generation)) this.#drop(generation, opened)
    }
    for (const generation of needed) {
      const busy =
        this.#opening.has(generation) ||
        this.#closing.has(generation) ||
        this.#waiting.has(generation)
      if (busy || this.#opened.has(generation)) continue
      const count = this.#opened.size + this.#opening.size + this.#closing.size
      if (count >= generationsOpenMax) return
      void this.#open(generation, attach && !this.#forked.has(generation))
    }
  }

  async close(): Promise<void> {
    this.#closed = true
    for (const timer of this.#waiting.values()) clearTimeout(timer)
    for (const [generation, opened] of this.#opened) this.#drop(generation, opened)
    await Promise.all(this.#closing.values())
  }

  async #open(generation: number, attach: boolean): Promise<void> {
    this.#opening.add(generation)
    try {
      const log = await this.#environment.open(generation, attach)
      if (this.#closed) return await log.close()
      const firstMissing = (from: number): number => log.firstMissing(from)
      const opened: OpenLog = { log, held: 0, firstMissing, stops: [] }
      this.#opened.set(generation, opened)
      if (this.#going.has(generation)) return this.#drop(generation, opened)
      const closes = this.#closes.get(generation)
      if (closes) closes.openedAt = performance.now()
      opened.stops.push(
        log.onChange(() => this.#environment.changed()),
        log.onEnd((reason) => this.#ended(generation, opened, reason))
      )
      // It may have ended before it was listened to.
      if (this.#opened.get(generation) !== opened) stopAll(opened)
    } catch (error) {
      if (!this.#closed) this.#environment.openFailed(error)
      return
    } finally {
      this.#opening.delete(generation)
    }
    this.#environment.changed()
  }

  /** A log ended under us: it is opened again at the next look, a forked one for what is here of it. */
  #ended(generation: number, opened: OpenLog, reason: 'conflict' | 'closed'): void {
    if (this.#closed || this.#opened.get(generation) !== opened) return
    if (reason === 'conflict') {
      if (this.#forked.has(generation)) return
      this.#forked.add(generation)
      this.#environment.forked(generation)
    } else {
      this.#backOff(generation)
    }
    this.#drop(generation, opened)
  }

  /** The first time it is opened again at once. */
  #backOff(generation: number): void {
    const before = this.#closes.get(generation)
    const isQuiet = before === undefined || performance.now() - before.openedAt >= reopenQuietMs
    const count = isQuiet ? 1 : before.count + 1
    this.#closes.set(generation, { count, openedAt: performance.now() })
    if (count === 1) return
    const wait = Math.min(reopenBackoffMinMs * 2 ** Math.min(count - 2, 16), reopenBackoffMaxMs)
    const timer = setTimeout(() => {
      this.#waiting.delete(generation)
      if (!this.#closed) this.#environment.changed()
    }, wait)
    timer.unref()
    this.#waiting.set(generation, timer)
  }

  #drop(generation: number, opened: OpenLog): void {
    this.#opened.delete(generation)
    stopAll(opened)
    const closing = opened.log
      .close()
      .catch((error: unknown) => {
        if (!this.#closed) this.#environment.closeFailed(error)
      })
      .then(() => this.#delete(generation))
    this.#closing.set(generation, closing)
  }

  /** Deletes a closed log if it is to go. Never rejects. */
  async #delete(generation: number): Promise<void> {
    try {
      if (this.#going.has(generation)) await this.#environment.delete(generation)
    } catch (error) {
      if (!this.#closed) this.#environment.deleteFailed(error)
    }
    this.#going.delete(generation)
    this.#closing.delete(generation)
    if (!this.#closed) this.#environment.changed()
  }
}

function stopAll({ stops }: OpenLog): void {
  for (const stop of stops.splice(0)) stop()
}
