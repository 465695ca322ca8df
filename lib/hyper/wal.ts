/**
 * What a power cut may leave in a write-ahead log of the store, and how to go on from it.
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
 * What is wrong before that place (a flipped bit, say) is left as it is, for the library to report.
 *
 * Format: RocksDB's, blocks of 32 KiB with records of checksum (4), length (2), type (1) and payload.
 */
import { open, readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'

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
  let names: string[]
  try {
    names = await readdir(folder)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return
    throw error
  }
  const logs = names
    .filter((name) => /^\d+\.log$/.test(name))
    .map((name) => ({ path: join(folder, name), number: Number.parseInt(name, 10) }))
    .filter(({ number }) => number >= synced.number)
    .toSorted((a, b) => a.number - b.number)
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
 * Where the first record begins that ends behind `synced` and is not whole; null when there is none. A log that
 * ends within a record, or goes on with nothing but zeros, is whole as far as it goes: the library accepts that.
 */
export function firstBroken(log: Uint8Array, synced = 0): number | null {
  const bytes = Buffer.from(log.buffer, log.byteOffset, log.length)
  // A record begins at each block.
  let at = synced - (synced % blockBytes)
  while (at + headBytes <= bytes.length) {
    const rest = blockBytes - (at % blockBytes)
    if (rest < headBytes) {
      at += rest
      continue
    }
    const size = bytes.readUInt16LE(at + 4)
    const type = bytes[at + 6] ?? 0
    const end = at + headBytes + size
    if (bytes.subarray(at, at + headBytes).every((byte) => byte === 0)) {
      return at >= synced && bytes.subarray(at).some((byte) => byte !== 0) ? at : null
    }
    const fits = headBytes + size <= rest
    if (fits && end > bytes.length) return null
    if (!fits || type === 0 || type > typeMax || !isSound(bytes, at, end)) {
      // Damage in what was synced is for the library to report; a length that was changed shows as well.
      const wasSynced = at < synced && (end <= synced || isSoundShorter(bytes, at, synced))
      return wasSynced ? null : at
    }
    at = end
  }
  return null
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
