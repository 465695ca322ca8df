/**
 * Where records lie in an index: one prefix byte tells what a key is.
 *
 * - 0x00 meta: 0x01 state; 0x02, writer, owner: cut-off of a removed writer; 0x03 and 0x04 are reserved for seals
 *   and moves. 0x01 cursors: group, writer, owner. 0x02 results: writer, owner, generation, block, place.
 *   0x03 expiry queue: time, encoded key. 0x04 tombstones: epoch, encoded key. 0x10 data: encoded key.
 * - Node ids are 32 bytes; numbers are big-endian: generation, block and time 8 bytes, epoch and place 4. All but
 *   an encoded key at the end is of fixed width, so records of one kind lie in the order of their fields.
 * - Data is in key order: a range of keys is a range of the index.
 */
import type { IndexRange } from '../ports.ts'
import type { NodeId, OperationPlace } from '../types.ts'
import {
  type Decoder,
  decodeWith,
  encodeWith,
  nodeId,
  type State,
  uint32be,
  uint64be,
  uint8
} from './codec.ts'
import { idBytes } from './ids.ts'
import { isEncodedKey, type KeyRange } from './keys.ts'
import { corrupt } from './show.ts'

const prefixes = {
  meta: 0x00,
  cursor: 0x01,
  result: 0x02,
  expiry: 0x03,
  tombstone: 0x04,
  data: 0x10
} as const
const meta = { state: 0x01, cutOff: 0x02 } as const
const groups = { base: 0x00, move: 0x01 } as const

/** The slices that an owner got from `from` in an epoch, while they have cursors of their own. */
export interface MoveGroup {
  readonly epoch: number
  readonly from: NodeId
}

/** What an index key is about. `group: null` is the base group. */
export type IndexKey =
  | { readonly type: 'state' }
  | { readonly type: 'cutOff'; readonly writer: NodeId; readonly owner: NodeId }
  | {
      readonly type: 'cursor'
      readonly group: MoveGroup | null
      readonly writer: NodeId
      readonly owner: NodeId
    }
  | { readonly type: 'result'; readonly place: OperationPlace }
  | { readonly type: 'expiry'; readonly time: number; readonly key: Uint8Array }
  | { readonly type: 'tombstone'; readonly epoch: number; readonly key: Uint8Array }
  | { readonly type: 'data'; readonly key: Uint8Array }

/** The index's state: epoch, serial, counter, time. */
export const indexStateKey: Uint8Array = Uint8Array.of(prefixes.meta, meta.state)

/** How far a removed writer's log is applied, for ever. */
export function cutOffKey(writer: NodeId, owner: NodeId): Uint8Array {
  return prefixed(prefixes.meta, Uint8Array.of(meta.cutOff), idBytes(writer), idBytes(owner))
}

/** All cut-offs. */
export function cutOffsRange(): KeyRange {
  return below(Uint8Array.of(prefixes.meta, meta.cutOff))
}

/**
 * The cursor of one outbox.
 * @param group null: the base group
 */
export function cursorKey(
  writer: NodeId,
  owner: NodeId,
  group: MoveGroup | null = null
): Uint8Array {
  return prefixed(prefixes.cursor, encodeGroup(group), idBytes(writer), idBytes(owner))
}

/**
 * All cursors of one group.
 * @param group null: the base group
 */
export function cursorsRange(group: MoveGroup | null = null): KeyRange {
  return below(prefixed(prefixes.cursor, encodeGroup(group)))
}

/** The result of one place of an outbox. */
export function resultKey({ writer, owner, generation, block, place }: OperationPlace): Uint8Array {
  const at = joined(number64(generation), number64(block), number32(place))
  return prefixed(prefixes.result, idBytes(writer), idBytes(owner), at)
}

/** The place whose result lies at this key. @throws CORRUPT */
export function decodeResultKey(key: Uint8Array): OperationPlace {
  const parsed = parseIndexKey(key)
  if (parsed.type !== 'result') throw corrupt(`index key of a ${parsed.type} where a result is due`)
  return parsed.place
}

/**
 * The results of one outbox, in the order of their places.
 * @param from the first place; unset: from the start
 */
export function resultsRange(
  writer: NodeId,
  owner: NodeId,
  from?: { readonly generation: number; readonly block: number; readonly place: number }
): KeyRange {
  const { gte, lt } = below(prefixed(prefixes.result, idBytes(writer), idBytes(owner)))
  return { gte: from === undefined ? gte : resultKey({ writer, owner, ...from }), lt }
}

/** An entry that expires. @param time Unix milliseconds */
export function expiryKey(time: number, key: Uint8Array): Uint8Array {
  return prefixed(prefixes.expiry, number64(time), key)
}

/** Everything that expires before `time` (Unix milliseconds), earliest first. */
export function expiryRange(time: number): KeyRange {
  return {
    gte: Uint8Array.of(prefixes.expiry),
    lt: prefixed(prefixes.expiry, number64(time))
  }
}

/** A key that was deleted while slices moved in `epoch`. */
export function tombstoneKey(epoch: number, key: Uint8Array): Uint8Array {
  return prefixed(prefixes.tombstone, number32(epoch), key)
}

/** All tombstones of one epoch, in key order. */
export function tombstonesRange(epoch: number): KeyRange {
  return below(prefixed(prefixes.tombstone, number32(epoch)))
}

/** The entry of an encoded key. */
export function dataKey(key: Uint8Array): Uint8Array {
  return prefixed(prefixes.data, key)
}

/** The encoded key of an entry's index key, as a view. @throws CORRUPT */
export function keyOfData(key: Uint8Array): Uint8Array {
  const parsed = parseIndexKey(key)
  if (parsed.type !== 'data') throw corrupt(`index key of a ${parsed.type} where an entry is due`)
  return parsed.key
}

/** A range over encoded keys as a range over index keys; without bounds, all entries. */
export function dataRange(range: IndexRange = {}): IndexRange {
  const { gt, gte, lt, lte, ...rest } = range
  return {
    ...rest,
    ...(gt === undefined ? { gte: dataKey(gte ?? new Uint8Array(0)) } : { gt: dataKey(gt) }),
    ...(lt !== undefined
      ? { lt: dataKey(lt) }
      : lte !== undefined
        ? { lte: dataKey(lte) }
        : { lt: Uint8Array.of(prefixes.data + 1) })
  }
}

/** What any index key is about; encoded keys in it are views. @throws CORRUPT */
export function parseIndexKey(key: Uint8Array): IndexKey {
  return decodeWith(indexKey, key, 'index key')
}

const indexKey: Decoder<IndexKey> = {
  decode(state) {
    const prefix = uint8.decode(state)
    switch (prefix) {
      case prefixes.meta:
        return decodeMeta(state)
      case prefixes.cursor:
        return { type: 'cursor', group: decodeGroup(state), ...decodeLog(state) }
      case prefixes.result:
        return { type: 'result', place: decodePlace(state) }
      case prefixes.expiry:
        return { type: 'expiry', time: uint64be.decode(state), key: decodeKeyAtEnd(state) }
      case prefixes.tombstone:
        return { type: 'tombstone', epoch: uint32be.decode(state), key: decodeKeyAtEnd(state) }
      case prefixes.data:
        return { type: 'data', key: decodeKeyAtEnd(state) }
      default:
        throw corrupt(`index key with prefix ${prefix}`)
    }
  }
}

function decodeMeta(state: State): IndexKey {
  const kind = uint8.decode(state)
  if (kind === meta.state) return { type: 'state' }
  if (kind === meta.cutOff) return { type: 'cutOff', ...decodeLog(state) }
  throw corrupt(`meta record of kind ${kind}`)
}

function decodeLog(state: State): { writer: NodeId; owner: NodeId } {
  return { writer: nodeId.decode(state), owner: nodeId.decode(state) }
}

function decodePlace(state: State): OperationPlace {
  return {
    ...decodeLog(state),
    generation: uint64be.decode(state),
    block: uint64be.decode(state),
    place: uint32be.decode(state)
  }
}

function decodeGroup(state: State): MoveGroup | null {
  const kind = uint8.decode(state)
  if (kind > groups.move) throw corrupt(`cursor of a group of kind ${kind}`)
  if (kind === groups.base) return null
  return { epoch: uint32be.decode(state), from: nodeId.decode(state) }
}

function decodeKeyAtEnd(state: State): Uint8Array {
  const key = state.buffer.subarray(state.start, state.end)
  if (!isEncodedKey(key)) throw corrupt('index key with a key that is no encoding of one')
  state.start = state.end
  return key
}

function encodeGroup(group: MoveGroup | null): Uint8Array {
  if (group === null) return Uint8Array.of(groups.base)
  return joined(Uint8Array.of(groups.move), number32(group.epoch), idBytes(group.from))
}

function number32(value: number): Uint8Array {
  return encodeWith(uint32be, value)
}

function number64(value: number): Uint8Array {
  return encodeWith(uint64be, value)
}

function prefixed(prefix: number, ...parts: readonly Uint8Array[]): Uint8Array {
  return joined(Uint8Array.of(prefix), ...parts)
}

function joined(...parts: readonly Uint8Array[]): Uint8Array {
  let length = 0
  for (const part of parts) length += part.length
  const bytes = new Uint8Array(length)
  let at = 0
  for (const part of parts) {
    bytes.set(part, at)
    at += part.length
  }
  return bytes
}

/** Every index key that begins with these bytes, of which the first is a prefix byte, never 0xFF. */
function below(start: Uint8Array): KeyRange {
  let last = start.length - 1
  while (start[last] === 0xff) last--
  const lt = start.slice(0, last + 1)
  lt[last] = (lt[last] ?? 0) + 1
  return { gte: start, lt }
}
