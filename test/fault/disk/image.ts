/**
 * What can be on a disk after a power cut: the files as they are known at one place of a journal, with what is
 * certainly on disk and what may be.
 *
 * - What was written before a sync of its file began is there once the sync has ended. All else may be there,
 *   in part, in any order.
 * - A name is there once its folder was synced; on a file system with one metadata journal (ext4, XFS) also
 *   once anything behind it was synced. Both are known here: `strict` and `journalled` names.
 */
import { mkdirSync, statSync, utimesSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import type { Random } from '../../helpers/random.ts'
import type { JournalRecord } from './journal.ts'

/** What survives of that which was not synced. */
export type CutMode =
  /** Nothing; names only by a sync of their folder. */
  | 'strict'
  /** Nothing; names also by any later sync. */
  | 'nothing'
  /** Of each file the first changes, the last of them torn. */
  | 'prefix'
  /** Of each file any sectors, and a length that may lie beyond them. */
  | 'scatter'
  /** Everything, as after a kill. */
  | 'all'

export const cutModes: readonly CutMode[] = ['strict', 'nothing', 'prefix', 'scatter', 'all']

const sectorBytes = 512
const pageBytes = 4096

interface Change {
  readonly at: number
  /** Null: the size becomes `at`; with `grow` only when it is less. */
  readonly data: Buffer | null
  readonly grow: boolean
  /** Place in the journal. */
  readonly place: number
}

/** Bytes that grow. */
class Content {
  #bytes: Buffer
  size: number

  constructor(bytes: Buffer = Buffer.alloc(0), size: number = bytes.length) {
    this.#bytes = bytes
    this.size = size
  }

  copy(): Content {
    return new Content(Buffer.from(this.#bytes.subarray(0, this.size)))
  }

  get bytes(): Buffer {
    return this.#bytes.subarray(0, this.size)
  }

  resize(size: number): void {
    if (size > this.#bytes.length) {
      const larger = Buffer.alloc(Math.max(size, this.#bytes.length * 2, pageBytes))
      this.#bytes.copy(larger, 0, 0, this.size)
      this.#bytes = larger
    } else if (size < this.size) this.#bytes.fill(0, size, this.size)
    this.size = size
  }

  write(at: number, data: Buffer): void {
    if (at + data.length > this.size) this.resize(at + data.length)
    data.copy(this.#bytes, at)
  }

  change({ at, data, grow }: Change): void {
    if (data !== null) this.write(at, data)
    else if (!grow || at > this.size) this.resize(at)
  }
}

class Node {
  readonly inode: number
  readonly isFolder: boolean
  readonly mode: number
  readonly durable: Content = new Content()
  pending: Change[] = []
  /** Syncs that have begun, and where. */
  readonly syncs = new Map<string, number>()

  constructor(inode: number, isFolder: boolean, mode: number) {
    this.inode = inode
    this.isFolder = isFolder
    this.mode = mode
  }

  settle(before: number): void {
    while (this.pending[0] !== undefined && this.pending[0].place < before) {
      this.durable.change(this.pending[0])
      this.pending.shift()
    }
  }

  content(mode: CutMode, random: Random): Content {
    const content = this.durable.copy()
    if (mode === 'all') for (const change of this.pending) content.change(change)
    else if (mode === 'prefix') this.#prefix(content, random)
    else if (mode === 'scatter') this.#scatter(content, random)
    return content
  }

  #prefix(content: Content, random: Random): void {
    const whole = random.int(0, this.pending.length)
    for (const change of this.pending.slice(0, whole)) content.change(change)
    const torn = this.pending[whole]
    if (torn === undefined || torn.data === null || random.chance(0.3)) return
    const end = (Math.floor(torn.at / sectorBytes) + random.int(0, 8)) * sectorBytes
    const bytes = Math.min(torn.data.length, end - torn.at)
    if (bytes > 0) content.write(torn.at, torn.data.subarray(0, bytes))
  }

  #scatter(content: Content, random: Random): void {
    const unit = random.pick([sectorBytes, pageBytes])
    const kept = random.pick([0.2, 0.5, 0.9])
    let size = content.size
    for (const change of this.pending) {
      const { at, data, grow } = change
      if (data === null) {
        if (!grow) {
          size = at
          if (random.chance(0.5)) content.change(change)
        }
        continue
      }
      size = Math.max(size, at + data.length)
      for (let from = 0; from < data.length;) {
        const to = Math.min(data.length, (Math.floor((at + from) / unit) + 1) * unit - at)
        if (random.chance(kept)) content.write(at + from, data.subarray(from, to))
        from = to
      }
    }
    // The length went to disk, the data did not.
    if (size > content.size && random.chance(0.5)) content.resize(size)
  }
}

/** One change of the names. */
interface Naming {
  readonly place: number
  readonly folder: string
  readonly remove?: string
  readonly add?: readonly [string, Node]
}

type Names = Map<string, Node>

function rename(names: Names, { remove, add }: Naming): void {
  if (remove !== undefined) names.delete(remove)
  if (add !== undefined) names.set(add[0], add[1])
}

export class Disks {
  readonly #nodes = new Map<number, Node>()
  readonly #live: Names = new Map()
  readonly #strict: Names = new Map()
  readonly #journalled: Names = new Map()
  #namings: Naming[] = []
  #metadata: Naming[] = []
  /** Records that were taken in. */
  place = 0

  /** Takes in the next record. */
  add(record: JournalRecord): void {
    const { type, path, inode, a, data } = record
    const place = this.place++
    const [from = '', to = ''] = path.split('\n')
    switch (type) {
      case 'create':
      case 'mkdir':
        this.#name(place, { add: [path, this.#made(record)] })
        break
      case 'truncate':
        this.#node(inode).pending.push({ at: a, data: null, grow: false, place })
        break
      case 'allocate':
        // 1: the size stays
        if (record.b === 0) this.#node(inode).pending.push({ at: a, data: null, grow: true, place })
        break
      case 'write':
        this.#node(inode).pending.push({ at: a, data, grow: false, place })
        break
      case 'sync begins':
        this.#node(inode).syncs.set(`${record.pid}/${a}`, place)
        break
      case 'sync ends':
        this.#synced(inode, `${record.pid}/${a}`)
        break
      case 'rename': {
        const node = this.#named(from)
        if (node.isFolder) throw new Error(`${from}: a folder was renamed, which is not followed`)
        if (dirname(from) === dirname(to)) this.#name(place, { remove: from, add: [to, node] })
        else {
          this.#name(place, { add: [to, node] })
          this.#name(place, { remove: from })
        }
        break
      }
      case 'link':
        this.#name(place, { add: [to, this.#named(from)] })
        break
      case 'unlink':
      case 'rmdir':
        this.#name(place, { remove: path })
        break
      case 'settled':
        for (const node of this.#nodes.values()) node.settle(place)
        for (const naming of this.#namings) rename(this.#strict, naming)
        for (const naming of this.#metadata) rename(this.#journalled, naming)
        this.#namings = []
        this.#metadata = []
        break
      case 'mark':
      case 'mapped':
        break
    }
  }

  /** What a file that is never lost has by now: the lines that the test's own programs wrote. */
  text(path: string): string {
    const node = this.#live.get(path)
    return node === undefined ? '' : node.content('all', noRandom).bytes.toString()
  }

  /**
   * Writes what is found at `prefix` after a cut into the folder `into`.
   * @param change what becomes of a file's bytes that cannot be the same elsewhere
   */
  write(
    prefix: string,
    mode: CutMode,
    random: Random,
    into: string,
    change: (path: string, bytes: Buffer, file: string) => Buffer = (_, bytes) => bytes
  ): void {
    const names = this.#namesAt(mode, random)
    const has = (path: string): boolean => path === '/' || names.get(path)?.isFolder === true
    const paths = [...names.keys()].filter(
      (path) => path.startsWith(`${prefix}/`) || path === prefix
    )
    for (const path of paths.toSorted()) {
      const node = names.get(path) as Node
      // In a folder that is not there nothing is.
      if (!hasAll(path, has)) continue
      const file = join(into, path)
      mkdirSync(dirname(file), { recursive: true, mode: 0o700 })
      if (node.isFolder) {
        mkdirSync(file, { recursive: true, mode: node.mode })
        continue
      }
      const { bytes } = node.content(mode, random)
      writeFileSync(file, '', { mode: node.mode & 0o777 })
      writeFileSync(file, change(path, bytes, file))
    }
  }

  #namesAt(mode: CutMode, random: Random): Names {
    if (mode === 'all') return this.#live
    if (mode === 'strict') return this.#strict
    const names = new Map(this.#journalled)
    if (mode === 'nothing') return names
    const kept = random.int(0, this.#metadata.length)
    for (const naming of this.#metadata.slice(0, kept)) rename(names, naming)
    return names
  }

  #made({ type, inode, a }: JournalRecord): Node {
    const isFolder = type === 'mkdir'
    const node = new Node(inode, isFolder, a === 0 ? (isFolder ? 0o755 : 0o644) : a)
    this.#nodes.set(inode, node)
    return node
  }

  #node(inode: number): Node {
    const node = this.#nodes.get(inode)
    if (node === undefined) throw new Error(`record ${this.place}: no file has inode ${inode}`)
    return node
  }

  #named(path: string): Node {
    const node = this.#live.get(path)
    if (node === undefined) throw new Error(`record ${this.place}: there is no ${path}`)
    return node
  }

  #name(place: number, change: { remove?: string; add?: readonly [string, Node] }): void {
    const folder = dirname(change.add?.[0] ?? change.remove ?? '')
    const naming = { place, folder, ...change }
    rename(this.#live, naming)
    this.#namings.push(naming)
    this.#metadata.push(naming)
  }

  #synced(inode: number, id: string): void {
    const node = this.#node(inode)
    const begun = node.syncs.get(id)
    if (begun === undefined) throw new Error(`record ${this.place}: a sync ends that never began`)
    node.syncs.delete(id)
    node.settle(begun)
    // One metadata journal: with anything all that was before it.
    this.#metadata = this.#metadata.filter((naming) => {
      if (naming.place < begun) rename(this.#journalled, naming)
      return naming.place >= begun
    })
    if (!node.isFolder) return
    const paths = [...this.#live].filter(([, one]) => one === node).map(([path]) => path)
    this.#namings = this.#namings.filter((naming) => {
      const settled = naming.place < begun && paths.includes(naming.folder)
      if (settled) rename(this.#strict, naming)
      return !settled
    })
  }
}

function hasAll(path: string, has: (path: string) => boolean): boolean {
  for (let at = dirname(path); at !== '/'; at = dirname(at)) if (!has(at)) return false
  return true
}

/** For what needs none. */
const noRandom = null as unknown as Random

/** A copied store refuses to open: its `CORESTORE` names the inode and the time of its making. */
export function sameDevice(path: string, bytes: Buffer, file: string): Buffer {
  if (!path.endsWith('/CORESTORE')) return bytes
  const text = bytes.toString()
  // A torn one stays torn.
  if (!/^device\/created=\d+\n/m.test(text)) return bytes
  const { ino } = statSync(file)
  const now = Date.now()
  utimesSync(file, now / 1000, now / 1000)
  return Buffer.from(
    text
      .replace(/^device\/inode=\d+$/m, `device/inode=${ino}`)
      .replace(/^device\/created=\d+$/m, `device/created=${now}`)
      .replace(/^device\/attribute=original\n/m, '')
  )
}
