/**
 * Fetching and decoding the blocks of an index's cores: from the cache, the disk, or whoever has them.
 *
 * Invariants: a block that makes no sense is CORRUPT, whoever signed it; a block that is not to be had is an error,
 * never "no such key"; a wait ends when the state that needs the block was replaced and its cores may be gone.
 */
import { blockBytesMax, indexCacheBytesMax } from '../../config/limits.ts'
import { KVSwarmError } from '../errors.ts'
import type { ReadOptions } from '../ports.ts'
import {
  decodeDirectory,
  decodeEntries,
  decodeFence,
  decodeValueBlock,
  kindOf,
  type Directory,
  type Entries,
  type Fence
} from '../wire/index-blocks.ts'
import { decodeStep, type Step } from '../wire/index-step.ts'
import { corrupt } from '../wire/show.ts'
import { BlockCache } from './block-cache.ts'
import { bytesInMemory, Budget } from './budget.ts'
import type { CoreLease } from '../index-ports.ts'

const shared: BlockCache = new BlockCache(indexCacheBytesMax)

/** What a read may wait for, with one deadline for all its blocks. */
export interface Reading {
  readonly wait: boolean
  readonly signal: AbortSignal | undefined
  /** Monotonic milliseconds. */
  readonly deadline: number
  /** What a get may still fetch; null: the parts of a range hold their own account. */
  readonly spent: Budget | null
  /** What the parts of a range hold together. */
  readonly held: Budget | null
}

export function readingOf({ wait = true, timeout = Infinity, signal }: ReadOptions): Reading {
  return { wait, signal, deadline: performance.now() + timeout, spent: new Budget(), held: null }
}

/**
 * Of cores of this node's own: all of it is here, and what it has signed itself needs no account, however much of it is
 * read with this.
 */
export const readingOwn: Reading = {
  wait: false,
  signal: undefined,
  deadline: Infinity,
  spent: null,
  held: null
}

/** @throws OWNER_UNREACHABLE, DISK_FULL, TIMEOUT, ABORTED, CLOSED */
async function bytesOf(core: CoreLease, block: number, reading: Reading): Promise<Uint8Array> {
  const { wait, signal, deadline } = reading
  const timeout = Math.max(0, deadline - performance.now())
  const bytes = await core.get(block, { wait, signal, timeout })
  if (bytes !== null) return bytes
  throw new KVSwarmError('OWNER_UNREACHABLE', 'a block of the index is not on this machine', {
    hint: 'connect, or read without `wait: false`'
  })
}

type Decoded = Entries | Fence | Directory | Step

async function load<T extends Decoded>(
  core: CoreLease,
  block: number,
  reading: Reading,
  decode: (bytes: Uint8Array) => T
): Promise<T> {
  const known = shared.get(core.id, block) as T | undefined
  if (known !== undefined) return known
  const bytes = await bytesOf(core, block, reading)
  reading.spent?.check()
  reading.held?.check()
  const decoded = decode(bytes)
  const cost = bytesInMemory(decoded)
  reading.spent?.take(cost)
  shared.set(core.id, block, decoded, cost)
  return decoded
}

export async function fetchFence(core: CoreLease, block: number, reading: Reading): Promise<Fence> {
  const found = await load(core, block, reading, (bytes) => decodeFence(bytes, block))
  if (!('level' in found)) throw corrupt('a fence was due')
  return found
}

/** A fence over the pages of a directory, or the page itself. */
export async function fetchDirectory(
  core: CoreLease,
  block: number,
  reading: Reading
): Promise<Fence | Directory> {
  const found = await load<Fence | Directory>(core, block, reading, (bytes) =>
    bytes[0] === kindOf.directory ? decodeDirectory(bytes, block) : decodeFence(bytes, block)
  )
  if (!('level' in found) && !('marks' in found)) throw corrupt('a directory was due')
  return found
}

export async function fetchStep(core: CoreLease, block: number, reading: Reading): Promise<Step> {
  const found = await load(core, block, reading, (bytes) => decodeStep(bytes, block))
  if (!('sources' in found)) throw corrupt('a step was due')
  return found
}

/** Entries in a block of their own, or those of a small step in its last one. */
export async function fetchEntries(
  core: CoreLease,
  block: number,
  reading: Reading
): Promise<Entries> {
  const found = await load<Entries | Step>(core, block, reading, (bytes) =>
    bytes[0] === kindOf.step ? decodeStep(bytes, block) : decodeEntries(bytes)
  )
  if ('sources' in found) {
    if (found.inline === null) throw corrupt('a step without entries of its own')
    return found.inline
  }
  if (!('keys' in found)) throw corrupt('entries were due')
  return found
}

/** A large value. It is not kept in memory. @throws CORRUPT when it is longer than any value */
export async function fetchValue(
  core: CoreLease,
  block: number,
  length: number,
  reading: Reading
): Promise<Uint8Array> {
  if (length > blockBytesMax) throw corrupt(`a value of ${length} bytes`)
  return decodeValueBlock(await bytesOf(core, block, reading), length)
}
