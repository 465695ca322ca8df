/**
 * A Config: who stores what, and who may write.
 *
 * It is a handle over an immutable document: a call that changes something replaces the document and adds one
 * to the epoch; a call that changes nothing, or is refused, leaves both as they are.
 */
import { randomBytes } from 'node:crypto'
import { addressOf, hashKeyBytes } from '../lib/slices/address.ts'
import { capacityText } from '../lib/slices/capacity.ts'
import { SPACE } from '../lib/slices/space.ts'
import { KVSwarmError } from '../lib/errors.ts'
import type { Key, NodeId } from '../lib/types.ts'
import { readNodeId } from '../lib/wire/ids.ts'
import { encodeKey, partitionKeyOf } from '../lib/wire/keys.ts'
import {
  type ConfigDocument,
  documentOfOptions,
  documentOfText,
  withCapacities
} from './document.ts'
import { configInvalid } from './faults.ts'
import type { RationalSlice, Whole } from './rational.ts'
import { readChanges, readId } from './read.ts'
import { epochMax } from './schema.ts'
import { documentHash, serializeDocument, slicesByOwner, slicesHash } from './serialize.ts'
import { writeSlices } from './slices-text.ts'

/**
 * Storage nodes with their capacities and slices. Slices are the text that `config.bins` gives, or intervals of
 * the line from 0 to 1 as the original kvswarm had them: `[[[0, 1], [1, 4]], [[1, 2], [1, 1]]]`.
 */
export type ConfigBins = Readonly<
  Record<string, { readonly size: Whole; readonly slices: string | readonly RationalSlice[] }>
>

/** Node ids are 64 hex digits or 52 characters of z-base-32. */
export interface ConfigOptions {
  /** Nodes that may write. @default none */
  readonly writers?: readonly string[] | undefined
  /**
   * Storage nodes and their capacities: decimals from 0.000001 to 1e9 with at most six places, without a
   * unit. A node's share of the keys is its capacity over the sum of all. At least one node, here or in `bins`.
   */
  readonly capacities?: Readonly<Record<string, number>> | undefined
  /** Slices to start from. They are adjusted to their sizes, and to `capacities` when that is given as well. */
  readonly bins?: ConfigBins | undefined
  /** 32 hex digits; see Config.randomHashKey(). @default a constant */
  readonly hashKey?: string | undefined
  /** From 1 to 16,777,215. @default 1 */
  readonly epoch?: number | undefined
  /** `host:port` of nodes that a private swarm bootstraps from, at least one. @default the public ones */
  readonly bootstrap?: readonly string[] | undefined
}

export interface ConfigChanges {
  /** Capacities that change; the others stay. 0 removes a node. */
  readonly capacities?: Readonly<Record<string, number>> | undefined
  /** All writers that there are to be. */
  readonly writers?: readonly string[] | undefined
}

/** The points [start, end) of the address space, and the storage node that owns them. */
export interface ConfigSlice {
  readonly start: bigint
  readonly end: bigint
  readonly owner: NodeId
}

/** The points [start, end) pass from one storage node to another. */
export interface ConfigMove {
  readonly from: NodeId
  readonly to: NodeId
  readonly start: bigint
  readonly end: bigint
}

/** What follows from a document, made when it is first asked for. */
interface Derived {
  slices?: readonly ConfigSlice[]
  hash?: string
  slicesHash?: string
}

/** A document that was checked already, in place of options. */
class Checked {
  readonly document: ConfigDocument
  readonly frozen: boolean

  constructor(document: ConfigDocument, frozen: boolean) {
    this.document = document
    this.frozen = frozen
  }
}

export class Config {
  /** Number of points in the address space: 2^53. */
  static readonly SPACE: bigint = BigInt(SPACE)

  #document: ConfigDocument
  readonly #hashKey: Uint8Array
  #writers: ReadonlySet<NodeId>
  #derived: Derived = {}
  readonly #frozen: boolean

  /** @throws CONFIG_INVALID; the message names every fault with its path */
  constructor(options: ConfigOptions) {
    const given: unknown = options
    this.#document = given instanceof Checked ? given.document : documentOfOptions(given)
    this.#frozen = given instanceof Checked && given.frozen
    this.#hashKey = Buffer.from(this.#document.hashKey, 'hex')
    this.#writers = new Set(this.#document.writers)
  }

  /**
   * Reads what serialize() has written, or the form of 2019: `{"writers": [...], "bins": {...}}`, which has
   * epoch 1 and the constant hash key, and whose slices are adjusted to their sizes.
   * @throws CONFIG_INVALID; the message names every fault with its path
   */
  static parse(text: string): Config {
    if (typeof text !== 'string') {
      throw configInvalid([{ path: '', message: `expected JSON text, got ${typeof text}` }])
    }
    return Config.#of(documentOfText(text), false)
  }

  /** A new hash key, 32 random hex digits. Whoever does not know it cannot aim keys at one storage node. */
  static randomHashKey(): string {
    return randomBytes(hashKeyBytes).toString('hex')
  }

  static #of(document: ConfigDocument, frozen: boolean): Config {
    return new Config(new Checked(document, frozen) as unknown as ConfigOptions)
  }

  /** The canonical JSON text: equal configurations give equal text. */
  serialize(): string {
    return serializeDocument(this.#document)
  }

  /**
   * Changes capacities, writers or both, as one epoch. Existing slices are adjusted: only what has to move does.
   * @returns what passes from one storage node to another, in order; empty when no slice changes hands
   * @throws CONFIG_INVALID, READ_ONLY; nothing has changed then
   */
  update(changes: ConfigChanges): readonly ConfigMove[] {
    this.#writable()
    const { sections, faults } = readChanges(changes)
    const capacities = new Map(this.#document.capacities)
    for (const [id, capacity] of sections.capacities ?? []) {
      if (capacity === 0n) capacities.delete(id)
      else capacities.set(id, capacity)
    }
    if (capacities.size === 0) {
      faults.push({ path: 'capacities', message: 'no storage node would be left' })
    }
    if (faults.length > 0) throw configInvalid(faults)
    return this.#replace(capacities, sections.writers ?? this.#document.writers)
  }

  /** Adds a writer; nothing changes when it is one. @throws CONFIG_INVALID, READ_ONLY */
  addWriter(key: string): void {
    this.#writable()
    const writers = new Set(this.#writers).add(readId(key, 'writer'))
    this.#replace(this.#document.capacities, [...writers].toSorted())
  }

  /** Removes a writer; nothing changes when it is none. @throws CONFIG_INVALID, READ_ONLY */
  removeWriter(key: string): void {
    this.#writable()
    const writer = readId(key, 'writer')
    this.#replace(
      this.#document.capacities,
      this.#document.writers.filter((id) => id !== writer)
    )
  }

  /** Replaces all writers. @throws CONFIG_INVALID, READ_ONLY */
  setWriters(keys: readonly string[]): void {
    this.update({ writers: keys })
  }

  /** Counts the changes; of two configurations the one with the higher epoch holds. */
  get epoch(): number {
    return this.#document.epoch
  }

  /** Node ids of those who may write, sorted. */
  get writers(): readonly NodeId[] {
    return [...this.#document.writers]
  }

  /** Node ids of those who store, sorted. */
  get storageNodes(): readonly NodeId[] {
    return [...this.#document.capacities.keys()]
  }

  /** The capacity of each storage node. */
  get capacities(): Readonly<Record<NodeId, number>> {
    return Object.fromEntries(
      Array.from(this.#document.capacities, ([id, size]) => [id, Number(capacityText(size))])
    )
  }

  /** All slices in order: half-open, and together they cover [0n, Config.SPACE). */
  get slices(): readonly ConfigSlice[] {
    this.#derived.slices ??= Object.freeze(
      Array.from(this.#document.table, ({ start, end, owner }) =>
        Object.freeze({ start: BigInt(start), end: BigInt(end), owner })
      )
    )
    return this.#derived.slices
  }

  /** The storage nodes as they stand in the JSON; fit for the `bins` option. */
  get bins(): Readonly<Record<NodeId, { readonly size: number; readonly slices: string }>> {
    const slices = slicesByOwner(this.#document.table)
    return Object.fromEntries(
      Array.from(this.#document.capacities, ([id, size]) => [
        id,
        { size: Number(capacityText(size)), slices: writeSlices(slices.get(id) ?? []) }
      ])
    )
  }

  /** The key of the hash that turns a partition key into its address: 32 hex digits. */
  get hashKey(): string {
    return this.#document.hashKey
  }

  /** `host:port` of nodes that a private swarm bootstraps from; undefined means the public ones. */
  get bootstrap(): string[] | undefined {
    return this.#document.bootstrap && [...this.#document.bootstrap]
  }

  /** Hash of the canonical text, 64 hex digits: with the epoch, the configuration's identity. */
  get hash(): string {
    return (this.#derived.hash ??= documentHash(this.#document))
  }

  /** Hash of what decides where a key lives: hash key, slices, owners. 64 hex digits. */
  get slicesHash(): string {
    return (this.#derived.slicesHash ??= slicesHash(this.#document))
  }

  /** The point of the address space at which a key lies, from 0n to before Config.SPACE. @throws KEY_INVALID */
  addressOf(key: Key): bigint {
    return BigInt(this.#address(encodeKey(key)))
  }

  /** The storage node that a key lives on. @throws KEY_INVALID, KEY_TOO_LARGE */
  ownerOf(key: Key): NodeId {
    return this.ownerOfEncoded(encodeKey(key))
  }

  /** The same for a key that is encoded already (docs/formats.md). */
  ownerOfEncoded(encodedKey: Uint8Array): NodeId {
    return this.#document.table.lookup(this.#address(encodedKey))
  }

  /** The number of points that a node owns; 0n when it is no storage node. */
  shareOf(id: string): bigint {
    const node = readNodeId(id)
    return node === null ? 0n : BigInt(this.#document.table.shareOf(node))
  }

  /** True when the node may write. What is no node id is no writer. */
  isWriter(id: string): boolean {
    const node = readNodeId(id)
    return node !== null && this.#writers.has(node)
  }

  /** True when the node has a capacity. What is no node id is no storage node. */
  isStorageNode(id: string): boolean {
    const node = readNodeId(id)
    return node !== null && this.#document.capacities.has(node)
  }

  /** What it is now, independent of this one and never to change: its calls that would are READ_ONLY. */
  snapshot(): Config {
    if (this.#frozen) return this
    const snapshot = Config.#of(this.#document, true)
    Object.freeze(snapshot)
    return snapshot
  }

  #address(encodedKey: Uint8Array): number {
    return addressOf(partitionKeyOf(encodedKey), this.#hashKey)
  }

  #writable(): void {
    if (!this.#frozen) return
    throw new KVSwarmError('READ_ONLY', 'this configuration is a snapshot and does not change', {
      hint: 'change the Config that it was taken from, or `Config.parse(snapshot.serialize())`'
    })
  }

  /** One step: one epoch more if anything differs. @param writers sorted */
  #replace(
    capacities: ReadonlyMap<NodeId, bigint>,
    writers: readonly NodeId[]
  ): readonly ConfigMove[] {
    const before = this.#document
    const resized = !sameCapacities(capacities, before.capacities)
    if (!resized && writers.join() === before.writers.join()) return []
    if (before.epoch === epochMax) {
      throw configInvalid([{ path: 'epoch', message: `${epochMax} is the last one` }])
    }
    const { document, moves } = resized
      ? withCapacities(before, capacities)
      : { document: before, moves: [] }
    this.#document = { ...document, writers, epoch: before.epoch + 1 }
    this.#writers = new Set(writers)
    this.#derived = {}
    return moves.map(({ from, to, start, end }) => ({
      from,
      to,
      start: BigInt(start),
      end: BigInt(end)
    }))
  }
}

function sameCapacities(a: ReadonlyMap<NodeId, bigint>, b: ReadonlyMap<NodeId, bigint>): boolean {
  return a.size === b.size && [...a].every(([id, size]) => b.get(id) === size)
}
