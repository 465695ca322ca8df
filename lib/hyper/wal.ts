/**
 * What a power cut may leave in a write-ahead log of the store, and how to go on from it; and damage to the store's
 * logs that the library below does not survive.
 *
 * What was not synced when the power went may be on disk in part and out of order: a later page is there, an
 * earlier one reads as zeros. The storage library takes such a hole for damage and does not open; or, where
 * the hole ends with one of its blocks, passes over it in silence, which would leave a change out in the middle.
 *
 * How far a log was synced is kept beside the high-water marks. Before the store opens, its logs are looked
 * through from there on, and cut off at the first record that is not whole; later logs are emptied. Nothing
 * behind that place was announced, acked or receipted, but for blocks that were acked since this node last
 * appended to a log of its own: their writer still has them.
 *
 * What is wrong before that place (a flipped bit, say) is damage, and is reported by checkLogs(), which every opening
 * calls: the library goes round for ever, in a thread that nothing ends, at a record whose type was flipped to one of
 * its others (measured; MANIFEST and write-ahead logs), and takes a MANIFEST whose record has got a greater length
 * for a shorter one. Only an end that is not whole is left to it: it goes on without that.
 *
 * Format: RocksDB's, blocks of 32 KiB with records of checksum (4), length (2), type (1) and payload.
 */
import { open, readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { damagedError } from './disk-errors.ts'

const blockBytes = 32_768
const headBytes = 7
/** Full, first, middle, last. A kind that we do not know is not ours to judge. */
const typeMax = 4
/** Up to where the logs are certainly on disk: all lower numbers, and so many bytes of this one. */
export interface SyncedLog {
  readonly number: number
  readonly bytes: number
}

/** Cuts off, durably, what a power cut left unfinished in the logs of a database folder. */
export async function cutTornLogs(folder: string, synced: SyncedLog): Promise<void> {
  const logs = (await logsIn(folder)).filter(({ number }) => number >= synced.number)
  let torn = false
  for (const { path, number } of logs) {
    const from = number === synced.number ? synced.bytes : 0
    const end = torn ? 0 : firstBroken(await readFile(path), from)
    if (end === null) continue
    torn = true
    const file = await open(path, 'r+')
    try {
      await file.truncate(end)
      await file.sync()
    } finally {
      await file.close()
    }
  }
}

/**
 * Looks through the MANIFEST and the write-ahead logs of a database folder; writes nothing.
 * @param synced what lies behind that in the logs may be torn; null: not known, only their ends may be
 * @throws DATADIR_DAMAGED naming the file
 */
export async function checkLogs(folder: string, synced: SyncedLog | null): Promise<void> {
  const check = async (path: string, until: number): Promise<void> => {
    const at = firstDamaged((await contentOf(path)) ?? Buffer.alloc(0), until)
    if (at !== null) throw damagedError(`${path} is damaged at byte ${at}`, path)
  }
  // What is wrong with CURRENT itself is told by the library.
  const [current] = /^MANIFEST-\d+/.exec(String(await contentOf(join(folder, 'CURRENT')))) ?? []
  if (current !== undefined) await check(join(folder, current), Infinity)
  for (const { path, number } of await logsIn(folder)) {
    const isWhole = synced === null || number < synced.number
    await check(path, isWhole ? Infinity : number === synced.number ? synced.bytes : 0)
  }
}

async function logsIn(folder: string): Promise<{ path: string; number: number }[]> {
  let names: string[]
  try {
    names = await readdir(folder)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return []
    throw error
  }
  return names
    .filter((name) => /^\d+\.log$/.test(name))
    .map((name) => ({ path: join(folder, name), number: Number.parseInt(name, 10) }))
    .toSorted((a, b) => a.number - b.number)
}

/** Null when it is not there: the holder of a store that is only read removes files. */
async function contentOf(path: string): Promise<Buffer | null> {
  try {
    return await readFile(path)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return null
    throw error
  }
}

/**
 * Where the first record begins that ends behind `synced` and is not whole; null when there is none. A log that
 * ends within a record, or goes on with nothing but zeros, is whole as far as it goes: the library accepts that.
 */
export function firstBroken(log: Uint8Array, synced = 0): number | null {
  const bytes = Buffer.from(log.buffer, log.byteOffset, log.length)
  const flaw = firstFlaw(bytes, synced)
  if (flaw === null || flaw.kind === 'cut off') return null
  const { at, end } = flaw
  if (flaw.kind === 'zeros') return at >= synced && !isZeros(bytes, at) ? at : null
  // Damage in what was synced is not ours to cut off; a length that was changed shows as well.
  const wasSynced = at < synced && (end <= synced || isSoundShorter(bytes, at, synced))
  return wasSynced ? null : at
}

/**
 * Where the first record begins that is damaged, and lies before `until`; null when there is none. Whatever only
 * shortens the end, as an interrupted write does, is no damage; a type or a length that none has always is.
 */
export function firstDamaged(log: Uint8Array, until: number = Infinity): number | null {
  const bytes = Buffer.from(log.buffer, log.byteOffset, log.length)
  const flaw = firstFlaw(bytes, 0)
  if (flaw === null) return null
  const { kind, at, end } = flaw
  const type = bytes[at + 6] ?? 0
  if (kind !== 'zeros' && (type > typeMax || !fits(at, end))) return at
  if (at >= until) return null
  if (kind === 'cut off') return isSoundShorter(bytes, at, bytes.length) ? at : null
  return isZeros(bytes, end) ? null : at
}

interface Flaw {
  /** Where the record begins, and would end by its length. */
  readonly at: number
  readonly end: number
  /** Nothing but zeros where its head should be; longer than the rest of the log; or not what was written. */
  readonly kind: 'zeros' | 'cut off' | 'broken'
}

/** The first record that is not sound, from the block on in which `from` lies. */
function firstFlaw(bytes: Buffer, from: number): Flaw | null {
  // A record begins at each block.
  let at = from - (from % blockBytes)
  while (at + headBytes <= bytes.length) {
    const rest = blockBytes - (at % blockBytes)
    if (rest < headBytes) {
      at += rest
      continue
    }
    const size = bytes.readUInt16LE(at + 4)
    const type = bytes[at + 6] ?? 0
    const end = at + headBytes + size
    if (isZeros(bytes, at, at + headBytes)) return { at, end, kind: 'zeros' }
    if (fits(at, end) && end > bytes.length) return { at, end, kind: 'cut off' }
    if (!fits(at, end) || type === 0 || type > typeMax || !isSound(bytes, at, end)) {
      return { at, end, kind: 'broken' }
    }
    at = end
  }
  return null
}

/** A record lies within one block. */
function fits(at: number, end: number): boolean {
  return end - at <= blockBytes - (at % blockBytes)
}

function isZeros(bytes: Buffer, from: number, to: number = bytes.length): boolean {
  return bytes.subarray(from, to).every((byte) => byte === 0)
}

/** The checksum is CRC-32C over type and payload, rotated and moved (RocksDB's "masked" form). */
function isSound(bytes: Buffer, at: number, end: number): boolean {
  let crc = 0xffffffff
  for (let i = at + 6; i < end; i++) crc = crcNext(crc, bytes[i] ?? 0)
  return bytes.readUInt32LE(at) === masked(crc)
}

/** Whether a record of some other length, that ends before `limit`, would be sound. */
function isSoundShorter(bytes: Buffer, at: number, limit: number): boolean {
  const wanted = bytes.readUInt32LE(at)
  let crc = 0xffffffff
  for (let i = at + 6; i < limit; i++) {
    crc = crcNext(crc, bytes[i] ?? 0)
    if (masked(crc) === wanted) return true
  }
  return false
}

function crcNext(crc: number, byte: number): number {
  return (crc >>> 8) ^ (castagnoli[(crc ^ byte) & 0xff] ?? 0)
}

function masked(crc: number): number {
  const value = (crc ^ 0xffffffff) >>> 0
  return (((value >>> 15) | (value << 17)) + 0xa282ead8) >>> 0
}

const castagnoli = Uint32Array.from({ length: 256 }, (_, byte) => {
  let value = byte
  for (let bit = 0; bit < 8; bit++) value = value & 1 ? (value >>> 1) ^ 0x82f63b78 : value >>> 1
  return value >>> 0
})
