/**
 * The journal of disk.c: every change of the files below a folder, in the order in which it happened over
 * all processes, and what the test itself writes between them (marks, the state at the start).
 *
 * A journal that was not written whole, or that tells of something that the rig cannot follow, is refused.
 */
import { spawnSync } from 'node:child_process'
import { closeSync, openSync, readFileSync, statSync, writeSync, mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

export const recordTypes = [
  '',
  'create',
  'truncate',
  'write',
  'sync begins',
  'sync ends',
  'rename',
  'unlink',
  'link',
  'mkdir',
  'rmdir',
  'allocate',
  'mapped',
  'settled',
  'mark'
] as const

export type RecordType = Exclude<(typeof recordTypes)[number], ''>

/** One change. */
export interface JournalRecord {
  readonly type: RecordType
  /** Monotonic nanoseconds, of the machine. */
  readonly nanoseconds: bigint
  readonly pid: number
  /** Of the file or folder; 0 where a path says it. */
  readonly inode: number
  /** Offset, size or number of the sync, by type. */
  readonly a: number
  readonly b: number
  /** From the folder on, with a leading slash; two with a newline between for renames and links; a mark's text. */
  readonly path: string
  readonly data: Buffer
}

const headBytes = 48
const magic = 0x6b76

/** Compiles disk.c into `folder`. @returns the library's path */
export function buildDisk(folder: string): string {
  const source = fileURLToPath(new URL('disk.c', import.meta.url))
  const library = join(folder, 'disk.so')
  const flags = ['-O2', '-Wall', '-Werror', '-shared', '-fPIC', '-o', library, source, '-ldl']
  const { status, stderr } = spawnSync('gcc', flags, { encoding: 'utf8' })
  if (status !== 0) throw new Error(`gcc: ${stderr}`)
  return library
}

/** What a process is given so that its changes are written down. io_uring would go past the library. */
export function journalled(library: string, root: string, journal: string): Record<string, string> {
  return {
    LD_PRELOAD: library,
    KVS_DISK_ROOT: root,
    KVS_DISK_JOURNAL: journal,
    UV_USE_IO_URING: '0'
  }
}

/**
 * A root for journalled processes in `folder`, with one folder in it that is durable from the beginning.
 * @returns the root, its journal, and what the processes are given
 */
export function journalledRoot(
  folder: string,
  name: string,
  library: string = buildDisk(folder)
): { root: string; path: string; env: Record<string, string> } {
  const root = join(folder, 'root')
  mkdirSync(join(root, name), { recursive: true, mode: 0o700 })
  const path = join(folder, 'journal')
  const journal = new Journal(path)
  journal.add('mkdir', { path: `/${name}`, inode: statSync(join(root, name)).ino, a: 0o700 })
  journal.add('settled')
  journal.close()
  return { root, path, env: journalled(library, root, path) }
}

/** Records of the test itself, in order with those of the processes. */
export class Journal {
  readonly path: string
  readonly #fd: number

  constructor(path: string) {
    this.path = path
    this.#fd = openSync(path, 'a', 0o600)
  }

  get bytes(): number {
    return statSync(this.path).size
  }

  mark(text: string): void {
    this.add('mark', { path: text })
  }

  add(
    type: RecordType,
    {
      inode = 0,
      a = 0,
      path = '',
      data = Buffer.alloc(0)
    }: { inode?: number; a?: number; path?: string; data?: Uint8Array } = {}
  ): void {
    const name = Buffer.from(path)
    const head = Buffer.alloc(headBytes)
    head.writeUInt32LE(headBytes + name.length + data.length, 0)
    head.writeUInt32LE(magic * 0x10000 + recordTypes.indexOf(type), 4)
    head.writeBigUInt64LE(process.hrtime.bigint(), 8)
    head.writeBigUInt64LE(BigInt(inode), 16)
    head.writeBigUInt64LE(BigInt(a), 24)
    head.writeUInt32LE(process.pid, 40)
    head.writeUInt32LE(name.length, 44)
    writeSync(this.#fd, Buffer.concat([head, name, data]))
  }

  close(): void {
    closeSync(this.#fd)
  }
}

/** All records. @throws when the journal is broken, or tells of a shared mapping that is written */
export function readJournal(path: string): JournalRecord[] {
  const bytes = readFileSync(path)
  const records: JournalRecord[] = []
  for (let at = 0; at < bytes.length;) {
    const size = at + headBytes <= bytes.length ? bytes.readUInt32LE(at) : 0
    const tag = size >= headBytes ? bytes.readUInt32LE(at + 4) : 0
    const type = recordTypes[tag & 0xffff]
    if (tag >>> 16 !== magic || type === undefined || type === '' || at + size > bytes.length) {
      throw new Error(`the journal is broken at byte ${at} of ${bytes.length}`)
    }
    const pathBytes = bytes.readUInt32LE(at + 44)
    const record: JournalRecord = {
      type,
      nanoseconds: bytes.readBigUInt64LE(at + 8),
      inode: Number(bytes.readBigUInt64LE(at + 16)),
      a: Number(bytes.readBigUInt64LE(at + 24)),
      b: Number(bytes.readBigUInt64LE(at + 32)),
      pid: bytes.readUInt32LE(at + 40),
      path: bytes.toString('utf8', at + headBytes, at + headBytes + pathBytes),
      data: bytes.subarray(at + headBytes + pathBytes, at + size)
    }
    if (type === 'mapped') throw new Error('a file is written through a mapping: not followed')
    records.push(record)
    at += size
  }
  return records
}
