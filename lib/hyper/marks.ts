/**
 * High-water marks: how long each log that this node signs has been announced, in a file of its own.
 *
 * Kept inside the store, a mark would be lost with the very tail that it should miss. At start, a log fits
 * its mark when it is at least as long and has the same hash where the mark has one; then nothing that was
 * announced can be missing and the log goes on. Otherwise it continues as a new generation, since appending
 * to a log with a lost tail would fork it; and its mark is sealed, so that no later session thinks better of it.
 *
 * Layout: pairs of 128-byte slots, written in turn, so that a torn write leaves the other one; pair 0 is the
 * file's header (format, clean end, durability, how far the store's log was synced), each further pair is one generation of one log.
 * Invariant: a mark is written after its log is synced, so it is never ahead of it (lib/hyper/barrier.ts).
 */
import { fdatasync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { promisify } from 'node:util'
import { hash } from 'hypercore-crypto'
import RandomAccessFile from 'random-access-file'
import { KVSwarmError } from '../errors.ts'
import type { LogName } from '../types.ts'
import { idBytes, idOf } from '../wire/ids.ts'
import type { SyncedLog } from './wal.ts'

const slotBytes = 128
const formatVersion = 1
const kinds: readonly LogName['kind'][] = ['index', 'outbox', 'handoff', 'journal']
const zeroId = '0'.repeat(64)
/** No log ever fits a mark of this length: what has it is never appended to again. */
const sealedLength = Number.MAX_SAFE_INTEGER

/** One log generation's mark. */
export interface Mark {
  readonly name: LogName
  readonly generation: number
  /** Blocks that may have been announced. */
  readonly length: number
  /** Blocks over which `hash` was taken; at most `length`. */
  readonly hashLength: number
  /** Tree hash of the log's first `hashLength` blocks, 32 bytes; zeros when `hashLength` is 0. */
  readonly hash: Uint8Array
}

/** True: the log is never appended to again, however long it is. */
export function isSealed(mark: Mark): boolean {
  return mark.length === sealedLength
}

/** How the last session ended. */
export interface LastSession {
  readonly clean: boolean
  readonly durability: 'sync' | 'os'
}

interface Slot {
  pair: number
  sequence: number
  mark: Mark
}

const syncData = promisify(fdatasync)

export class Marks {
  readonly #file: RandomAccessFile
  readonly #node: string
  readonly #slots = new Map<string, Slot>()
  readonly #free: number[] = []
  #pairs = 1
  #headerSequence = 0
  /** Times that marks of outboxes were made durable, behind their logs; counted by the store. */
  outboxSyncs = 0
  #begun = false
  #durability: 'sync' | 'os'
  #synced: SyncedLog = { number: 0, bytes: 0 }
  /** Null: there was no readable file, so that no log of ours can be trusted to be whole. */
  last: LastSession | null = null

  private constructor(file: RandomAccessFile, node: string, durability: 'sync' | 'os') {
    this.#file = file
    this.#node = node
    this.#durability = durability
  }

  /**
   * Opens or makes the file. Nothing is written before begin().
   * @throws DATADIR_VERSION when it is of a newer format
   */
  static async open(path: string, node: string, durability: 'sync' | 'os'): Promise<Marks> {
    const file = new RandomAccessFile(path, { writable: true, size: -1 })
    const marks = new Marks(file, node, durability)
    // An empty write makes the file when it is missing.
    await call((done) => file.write(0, new Uint8Array(0), done))
    await marks.#read()
    return marks
  }

  /** The marks in a file, which a process may be writing to; empty: there are none, or they cannot be trusted. */
  static async read(path: string): Promise<Mark[]> {
    const bytes = await readFile(path).catch(() => Buffer.alloc(0))
    const header = newest(bytes, 0)
    if (header === null || header[16] !== formatVersion) return []
    const node = idOf(header.subarray(20, 52))
    const pairs = Math.floor(bytes.length / (slotBytes * 2))
    return Array.from({ length: pairs - 1 }, (_, pair) => newest(bytes, pair + 1))
      .filter((slot) => slot !== null)
      .map((slot) => decodeSlot(slot, node))
  }

  /** Notes (durably) that a session is under way; from then on a missing end is an unclean one. */
  async begin(): Promise<void> {
    this.#begun = true
    await this.#writeHeader(false)
  }

  /**
   * How far the store's logs were synced at least, read before the store opens. 'nothing': no session has come to its
   * first sync; null: the marks are damaged, or the last session ended clean, and all of it was.
   */
  static async synced(path: string): Promise<SyncedLog | 'nothing' | null> {
    let bytes: Buffer
    try {
      bytes = await readFile(path)
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return 'nothing'
      throw error
    }
    const header = bytes.length < slotBytes * 2 ? null : newest(bytes, 0)
    if (header === null || header[16] !== formatVersion || header[17] === 1) return null
    const number = Number(header.readBigUInt64BE(56))
    return number === 0 ? 'nothing' : { number, bytes: Number(header.readBigUInt64BE(64)) }
  }

  /** The mark of one generation, or null. */
  find(name: LogName, generation: number): Mark | null {
    return this.#slots.get(slotKey({ name, generation }))?.mark ?? null
  }

  /** Notes (durably) that these generations are never appended to again. */
  async seal(generations: readonly { name: LogName; generation: number }[]): Promise<void> {
    if (generations.length === 0) return
    const hash = new Uint8Array(32)
    await this.write(
      generations.map(({ name, generation }) => ({
        name,
        generation,
        length: sealedLength,
        hashLength: 0,
        hash
      }))
    )
  }

  all(): Mark[] {
    return [...this.#slots.values()].map((slot) => slot.mark)
  }

  /**
   * Writes the marks and syncs the file once. With them goes how far the store's log was synced; when there are
   * none, that waits for the next ones.
   */
  async write(marks: readonly Mark[], synced?: SyncedLog): Promise<void> {
    if (synced) this.#synced = synced
    if (marks.length === 0) return
    // Several marks of one log in a group: only the newest matters.
    const newest = new Map<string, Mark>()
    for (const mark of marks) newest.set(slotKey(mark), mark)
    const pairs = this.#pairs
    await Promise.all([...newest].map(([key, mark]) => this.#writeSlot(key, mark)))
    if (synced && this.#begun) await this.#putHeader(false)
    await syncData(this.#file.fd)
    // A longer file that was cut off later must be told from one that was never longer.
    if (this.#pairs > pairs && this.#begun) await this.#writeHeader(false)
  }

  /** Forgets a generation that was deleted whole. */
  async remove(name: LogName, generation: number): Promise<void> {
    const key = slotKey({ name, generation })
    const slot = this.#slots.get(key)
    if (!slot) return
    this.#slots.delete(key)
    const empty = new Uint8Array(slotBytes * 2)
    await call((done) => this.#file.write(slot.pair * slotBytes * 2, empty, done))
    await syncData(this.#file.fd)
    this.#free.push(slot.pair)
  }

  /** Notes a clean end when `clean`, and closes the file. */
  async close(clean: boolean): Promise<void> {
    if (clean) await this.#writeHeader(true)
    await call((done) => this.#file.close(done))
  }

  async #writeSlot(key: string, mark: Mark): Promise<void> {
    let slot = this.#slots.get(key)
    if (slot) {
      slot.mark = mark
    } else {
      slot = { pair: this.#free.pop() ?? this.#pairs++, sequence: 0, mark }
      this.#slots.set(key, slot)
    }
    slot.sequence++
    const place = slot.pair * 2 + (slot.sequence % 2)
    const bytes = encodeSlot(slot.sequence, mark)
    await call((done) => this.#file.write(place * slotBytes, bytes, done))
  }

  async #writeHeader(clean: boolean): Promise<void> {
    await this.#putHeader(clean)
    await syncData(this.#file.fd)
  }

  async #putHeader(clean: boolean): Promise<void> {
    this.#headerSequence++
    const body = Buffer.alloc(slotBytes)
    body.writeBigUInt64BE(BigInt(this.#headerSequence), 8)
    body[16] = formatVersion
    body[17] = clean ? 1 : 0
    body[18] = this.#durability === 'os' ? 1 : 0
    body.set(idBytes(this.#node), 20)
    body.writeUInt32BE(this.#pairs, 52)
    body.writeBigUInt64BE(BigInt(this.#synced.number), 56)
    body.writeBigUInt64BE(BigInt(this.#synced.bytes), 64)
    seal(body)
    await call((done) => this.#file.write((this.#headerSequence % 2) * slotBytes, body, done))
  }

  async #read(): Promise<void> {
    const { size } = await call<{ size: number }>((done) => this.#file.stat(done))
    const pairs = Math.floor(size / (slotBytes * 2))
    if (pairs === 0) return
    const bytes = await call<Buffer>((done) => this.#file.read(0, pairs * slotBytes * 2, done))
    const header = newest(bytes, 0)
    if (header === null) return
    if (header[16] !== formatVersion) {
      throw new KVSwarmError(
        'DATADIR_VERSION',
        `${this.#file.filename} has format ${header[16]}, this program knows ${formatVersion}`,
        { hint: 'use the newer kvswarm that wrote it' }
      )
    }
    if (idOf(header.subarray(20, 52)) !== this.#node) return
    this.#headerSequence = Number(header.readBigUInt64BE(8))
    this.last = { clean: header[17] === 1, durability: header[18] === 1 ? 'os' : 'sync' }
    this.#pairs = pairs
    let damaged = false
    for (let pair = 1; pair < pairs; pair++) {
      const slot = newest(bytes, pair)
      if (slot === null) {
        // A slot of zeros was removed; anything else is damage, and we cannot know of which log.
        const raw = bytes.subarray(pair * slotBytes * 2, (pair + 1) * slotBytes * 2)
        if (raw.some((byte) => byte !== 0)) damaged = true
        this.#free.push(pair)
        continue
      }
      const mark = decodeSlot(slot, this.#node)
      const sequence = Number(slot.readBigUInt64BE(8))
      this.#slots.set(slotKey(mark), { pair, sequence, mark })
    }
    // Cut off: the marks of whole logs are missing, and which ones cannot be known.
    const cut = size % (slotBytes * 2) !== 0 || pairs < header.readUInt32BE(52)
    // An older header that took the place of a damaged one could call an unclean end a clean one.
    if (damaged || cut || hasDamage(bytes, 0)) this.last = null
  }
}

function slotKey({ name, generation }: { name: LogName; generation: number }): string {
  return `${logKey(name)}/${generation}`
}

/** A log's name as one string. */
export function logKey(name: LogName): string {
  switch (name.kind) {
    case 'index':
      return `index/${name.node}`
    case 'outbox':
      return `outbox/${name.node}/${name.owner}`
    case 'handoff':
      return `handoff/${name.node}/${name.to}/${name.epoch}`
    case 'journal':
      return `journal/${name.node}/${name.index}`
  }
}

function encodeSlot(
  sequence: number,
  { name, generation, length, hashLength, hash }: Mark
): Buffer {
  const body = Buffer.alloc(slotBytes)
  body.writeBigUInt64BE(BigInt(sequence), 8)
  body[16] = kinds.indexOf(name.kind) + 1
  const other = name.kind === 'outbox' ? name.owner : name.kind === 'handoff' ? name.to : zeroId
  body.set(idBytes(other), 17)
  if (name.kind === 'journal') body.writeBigUInt64BE(BigInt(name.index), 17)
  body.writeUInt32BE(name.kind === 'handoff' ? name.epoch : 0, 49)
  body.writeBigUInt64BE(BigInt(generation), 53)
  body.writeBigUInt64BE(BigInt(length), 61)
  body.writeBigUInt64BE(BigInt(hashLength), 69)
  body.set(hash, 77)
  seal(body)
  return body
}

function decodeSlot(body: Buffer, node: string): Mark {
  const kind = kinds[(body[16] ?? 0) - 1] ?? 'index'
  return {
    name: nameOf(kind, node, body),
    generation: Number(body.readBigUInt64BE(53)),
    length: Number(body.readBigUInt64BE(61)),
    hashLength: Number(body.readBigUInt64BE(69)),
    hash: Buffer.from(body.subarray(77, 109))
  }
}

function nameOf(kind: LogName['kind'], node: string, body: Buffer): LogName {
  const other = idOf(body.subarray(17, 49))
  switch (kind) {
    case 'index':
      return { kind, node }
    case 'outbox':
      return { kind, node, owner: other }
    case 'handoff':
      return { kind, node, to: other, epoch: body.readUInt32BE(49) }
    case 'journal':
      return { kind, node, index: Number(body.readBigUInt64BE(17)) }
  }
}

/** The first 8 bytes of a slot are a checksum over the rest. */
function seal(body: Buffer): void {
  body.set(hash(body.subarray(8)).subarray(0, 8), 0)
}

/** A slot of the pair is neither valid nor unused. */
function hasDamage(bytes: Buffer, pair: number): boolean {
  return [0, 1].some((half) => {
    const at = (pair * 2 + half) * slotBytes
    const slot = bytes.subarray(at, at + slotBytes)
    return !isValid(slot) && slot.some((byte) => byte !== 0)
  })
}

function isValid(slot: Buffer): boolean {
  if (slot.length < slotBytes) return false
  return slot[16] !== 0 && hash(slot.subarray(8)).subarray(0, 8).equals(slot.subarray(0, 8))
}

/** The valid slot of a pair with the higher sequence number, or null. */
function newest(bytes: Buffer, pair: number): Buffer | null {
  let best: Buffer | null = null
  for (const half of [0, 1]) {
    const at = (pair * 2 + half) * slotBytes
    const slot = bytes.subarray(at, at + slotBytes)
    if (!isValid(slot)) continue
    if (best === null || slot.readBigUInt64BE(8) > best.readBigUInt64BE(8)) best = slot
  }
  return best
}

function call<T = void>(
  start: (done: (error: Error | null, result?: T) => void) => void
): Promise<T> {
  return new Promise((resolve, reject) => {
    start((error, result) => (error ? reject(error) : resolve(result as T)))
  })
}
