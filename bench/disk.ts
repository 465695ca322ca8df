/** What a data directory takes on the disk, by what it is taken for. */
import { readdirSync, statSync, type Stats } from 'node:fs'
import { join } from 'node:path'

/** Bytes. */
export interface Disk {
  /** All that the file system has set aside, as `du` counts it. */
  readonly all: number
  /** Of it: tables of the store. */
  readonly tables: number
  /** Of it: what the store keeps of large blocks beside its tables. */
  readonly blobs: number
  /** What is written in the store's write-ahead logs. */
  readonly logs: number
  /** Set aside for files that grow, and not written yet. */
  readonly ahead: number
}

/** The kernel counts what a file takes in blocks of so many bytes, whatever the file system's are. */
const blockBytes = 512
/** A file takes whole pages. */
const pageBytes = 4096

export function diskOf(directory: string): Disk {
  let [all, tables, blobs, logs, ahead] = [0, 0, 0, 0, 0]
  for (const entry of readdirSync(directory, { recursive: true, withFileTypes: true })) {
    if (!entry.isFile()) continue
    const stats = statsOf(join(entry.parentPath, entry.name))
    if (stats === null) continue
    const taken = stats.blocks * blockBytes
    all += taken
    if (entry.name.endsWith('.sst')) tables += taken
    if (entry.name.endsWith('.blob')) blobs += taken
    if (/^\d+\.log$/.test(entry.name)) logs += Math.min(stats.size, taken)
    ahead += Math.max(0, taken - Math.ceil(stats.size / pageBytes) * pageBytes)
  }
  return { all, tables, blobs, logs, ahead }
}

/** Null: the store has deleted it meanwhile. */
function statsOf(path: string): Stats | null {
  try {
    return statSync(path)
  } catch {
    return null
  }
}
