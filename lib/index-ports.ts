/**
 * The cores that an index consists of, as the index needs them; lib/hyper has them on hypercores. A core is open while
 * somebody has a lease on it, and a core that was given up is deleted when the last lease is back.
 */
import type { Log, ReadOptions } from './ports.ts'

/** Names a core of an index: a journal by its number, a run by the root hash of its blocks. */
export type CoreName =
  | { readonly kind: 'journal'; readonly number: number }
  | { readonly kind: 'run'; readonly hash: Uint8Array; readonly length: number }

export function coreKey(name: CoreName): string {
  return name.kind === 'journal'
    ? `journal ${name.number}`
    : `run ${Buffer.from(name.hash).toString('hex')}`
}

/** The right to read a core. */
export interface CoreLease {
  /** Tells cores apart; the same for each lease on one core. */
  readonly id: number
  /** Blocks that are known; of a journal it grows. */
  readonly length: number
  /**
   * One block; null with `wait: false` when it is not here.
   * @throws TIMEOUT, ABORTED, CLOSED, DISK_FULL
   */
  get(block: number, options?: ReadOptions): Promise<Uint8Array | null>
  /** Called when it grew. */
  onChange(listener: () => void): () => void
  /** Gives the lease back; idempotent. */
  release(): void
}

/** The cores of one generation of a node's index, for reading. */
export interface IndexCores {
  /** @throws CLOSED, IO_ERROR */
  open(name: CoreName): Promise<CoreLease>
}

/** A run that is being written; nobody else sees it. */
export interface RunFile {
  /** Blocks so far. */
  readonly length: number
  get(block: number): Promise<Uint8Array>
  append(blocks: readonly Uint8Array[]): Promise<void>
  /** Makes it a core that never changes; resolves when that is durable. */
  finish(): Promise<{ readonly hash: Uint8Array; readonly length: number }>
  /** Leaves it as it is, to be gone on with; nothing more is done with this object. */
  leave(): Promise<void>
}

/** The cores of this node's own index, for writing. */
export interface OwnIndexCores extends IndexCores {
  /** A journal of ours, empty, and its number used from then on. */
  begin(number: number): Promise<Log>
  /** A journal of ours that goes on. @throws DATADIR_DAMAGED when blocks of it are missing */
  resume(number: number): Promise<Log>
  /** True when it may go on: nothing of it that was announced can be missing. */
  isWhole(number: number): boolean
  /** Numbers of the journals that are on disk. */
  journals(): number[]
  /**
   * The run that was being written under this name when the node ended, or a new one.
   * @param about told of its name just before it comes to be
   */
  build(name: string, about: (run: CoreName) => Promise<void>): Promise<RunFile>
  /** True when something was being written under this name. */
  hasBuild(name: string): Promise<boolean>
  /** Deletes what was being written under this name. */
  deleteBuild(name: string): Promise<void>
  /** These cores others may ask for, and no others. */
  offer(names: readonly CoreName[]): void
  /**
   * Deletes a core whole, as soon as nobody has a lease on it; nothing when it is not here. Resolves when it is gone; it
   * stays when it is offered again, or made again, before.
   */
  delete(name: CoreName): Promise<void>
  /** Blocks of a core in order, from the disk. @throws IO_ERROR */
  blocks(name: CoreName, from: number, to: number): AsyncIterable<Uint8Array>
  /** Closes what is open, and waits for what is being deleted. */
  close(): Promise<void>
}
