/**
 * Room on the disk of the data directory: a reserve is kept, so that the store never meets the end of the disk.
 *
 * When the disk is full below it, the storage library stops for good, and what was under way is uncertain. So what
 * adds data is refused while there is still room for what must always work: closing, marks, merging, deleting.
 *
 * - full: writes are refused before anything is written, and nothing is taken in from others;
 * - low (half of the reserve is gone): nothing is fetched for reads either, they answer from what is here.
 * Both end by themselves when there is room again.
 */
import { statfs } from 'node:fs/promises'
import {
  diskCheckMs,
  diskReserveBytesDefault,
  diskReserveShareMax,
  diskWatchMs
} from '../../config/limits.ts'
import { KVSwarmError } from '../errors.ts'

export type Room = 'plenty' | 'full' | 'low'

export class Reserve {
  readonly #directory: string
  readonly #reserve: number | null
  readonly #listeners = new Set<() => void>()
  #room: Room = 'plenty'
  #freeBytes = Infinity
  #reserveBytes = 0
  #lookedAt = -Infinity
  #looking: Promise<void> | null = null
  #timer: NodeJS.Timeout | null = null

  /** @param reserveBytes null: the default, by the size of the disk */
  constructor(directory: string, reserveBytes: number | null) {
    this.#directory = directory
    this.#reserve = reserveBytes
  }

  get room(): Room {
    return this.#room
  }

  /** Why nothing is taken; null: there is room. */
  get reason(): string | null {
    if (this.#room === 'plenty') return null
    return `the disk of ${this.#directory} is full: ${megabytes(this.#freeBytes)} are free, and ${megabytes(this.#reserveBytes)} are kept in reserve`
  }

  /** Watches the disk until close(). */
  async open(): Promise<void> {
    await this.#look()
    this.#timer = setInterval(() => void this.#look(), diskWatchMs)
    this.#timer.unref()
  }

  /** Called when the room has changed; returns the call that stops it. */
  onChange(listener: () => void): () => void {
    this.#listeners.add(listener)
    return () => this.#listeners.delete(listener)
  }

  /** Room for so many bytes more? @throws DISK_FULL, before anything is written */
  async take(bytes: number): Promise<void> {
    if (performance.now() - this.#lookedAt >= diskCheckMs) await this.#look()
    this.#freeBytes -= bytes
    this.#judge()
    if (this.#room !== 'plenty') throw this.error()
  }

  error(): KVSwarmError {
    return new KVSwarmError('DISK_FULL', this.reason ?? 'the disk was full', {
      hint: 'free space there, or use a larger disk; nothing was written, and it goes on by itself when there is room',
      data: { refused: true, freeBytes: this.#freeBytes, reserveBytes: this.#reserveBytes }
    })
  }

  close(): void {
    if (this.#timer) clearInterval(this.#timer)
    this.#timer = null
    this.#listeners.clear()
  }

  #look(): Promise<void> {
    this.#looking ??= this.#measure().finally(() => {
      this.#looking = null
    })
    return this.#looking
  }

  async #measure(): Promise<void> {
    try {
      const { bavail, bsize, blocks } = await statfs(this.#directory)
      this.#freeBytes = bavail * bsize
      this.#reserveBytes =
        this.#reserve ?? Math.min(diskReserveBytesDefault, blocks * bsize * diskReserveShareMax)
    } catch {
      // Not to be had on this file system, or for now: what is written tells.
      this.#freeBytes = Infinity
    }
    this.#lookedAt = performance.now()
    this.#judge()
  }

  #judge(): void {
    const reserve = this.#reserveBytes
    const free = this.#freeBytes
    // Without a reserve nothing is refused before the disk itself refuses it.
    const has = reserve === 0 || free >= reserve
    const room = has ? 'plenty' : free >= reserve / 2 ? 'full' : 'low'
    if (room === this.#room) return
    this.#room = room
    for (const listener of this.#listeners) listener()
  }
}

function megabytes(bytes: number): string {
  return `${(bytes / 1024 / 1024).toFixed(1)} MiB`
}
