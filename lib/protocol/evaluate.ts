/**
 * Applying blocks of outboxes: pure. What goes in is the owner's state and decoded blocks in their order; what
 * comes out is one set of changes for the index: entries, results, cursors and the new state, in one append.
 *
 * Invariants:
 * - every operation is evaluated exactly once, at one point of the owner's order: the cursor moves in the same
 *   append as its effects;
 * - what does not decode, is not allowed or is not known gets a rejected result and the cursor moves on: it
 *   never stops the log, and never another writer's;
 * - what stops a log (a newer block format, an epoch that is not adopted yet) leaves its cursor before it;
 * - versionstamps rise strictly: (epoch, serial of the index generation, counter).
 *
 * Source: design sections 1 (versionstamp), 8 (steps 4 and 5), 10.5 (marks).
 */
import type { IndexChange } from '../ports.ts'
import type { NodeId, OperationPlace, Position, Versionstamp } from '../types.ts'
import type { DecodedBlock, DecodedOperation } from '../wire/blocks.ts'
import { encodeResult, type RejectReason } from '../wire/results.ts'
import {
  cursorKey,
  dataKey,
  encodeCursor,
  encodeEntry,
  encodeIndexState,
  indexStateKey,
  resultKey,
  type IndexState
} from '../wire/records.ts'
import { makeStamp, stampCounterMax } from '../wire/stamps.ts'

/** A decoded block and where it lies. */
export interface PlacedBlock {
  readonly writer: NodeId
  /** The storage node of the outbox. */
  readonly owner: NodeId
  readonly generation: number
  readonly block: number
  readonly content: DecodedBlock
}

/** Which key ranges this owner decides, and which writer may write. */
export interface Rules {
  /** True when the key's slice is this owner's. */
  owns(key: Uint8Array): boolean
}

export interface Outcome {
  /** In one append; at most one for each index key. */
  readonly changes: readonly IndexChange[]
  readonly state: IndexState
  /** New cursor of each log that moved, by `writer/owner`. */
  readonly cursors: ReadonlyMap<string, Position>
  /** Rejected operations, in order. */
  readonly rejected: readonly { readonly place: OperationPlace; readonly reason: string }[]
  /** Logs that stand still, by `writer/owner`, and why. */
  readonly stopped: ReadonlyMap<string, string>
  /** Results before these positions were seen by their writers, by `writer/owner`: they can go. */
  readonly seen: ReadonlyMap<string, Position>
  readonly operations: number
}

export function logId(writer: NodeId, owner: NodeId): string {
  return `${writer}/${owner}`
}

/**
 * @param now Unix milliseconds; the state's own `now` never goes back
 */
export function evaluate(
  before: IndexState,
  blocks: readonly PlacedBlock[],
  rules: Rules,
  now: number
): Outcome {
  const changes = new Map<string, IndexChange>()
  const cursors = new Map<string, Position>()
  const stopped = new Map<string, string>()
  const seen = new Map<string, Position>()
  const rejected: { place: OperationPlace; reason: string }[] = []
  let { serial, counter } = before
  let operations = 0

  const change = (key: Uint8Array, value: Uint8Array | null): void => {
    changes.set(Buffer.from(key.buffer, key.byteOffset, key.byteLength).toString('latin1'), {
      key,
      value
    })
  }
  const stamp = (): Versionstamp => {
    if (counter === stampCounterMax) {
      serial++
      counter = 0
    }
    counter++
    return makeStamp({ epoch: before.epoch, serial, counter })
  }
  const reject = (place: OperationPlace, reason: RejectReason, text: string): void => {
    rejected.push({ place, reason: `${reason}: ${text}` })
    change(resultKey(place), encodeResult({ type: 'rejected', reason, text }))
  }
  const applyOne = (operation: DecodedOperation, place: OperationPlace): void => {
    operations++
    if (operation.type === 'invalid') return reject(place, operation.reason, operation.text)
    if (operation.type !== 'put' && operation.type !== 'del') {
      return reject(place, 'unsupported', `operations of type ${operation.type} are not known here`)
    }
    if (!rules.owns(operation.key))
      return reject(place, 'not-allowed', 'the key belongs to another storage node')
    if (operation.type === 'del') return change(dataKey(operation.key), null)
    if (operation.expireIn !== undefined || operation.expireAt !== undefined) {
      return reject(place, 'unsupported', 'entries that expire are not known here')
    }
    const entry = { value: operation.value, versionstamp: stamp(), expireAt: 0 }
    change(dataKey(operation.key), encodeEntry(entry))
  }

  for (const { writer, owner, generation, block, content } of blocks) {
    const id = logId(writer, owner)
    if (stopped.has(id)) continue
    const reason = stops(content, before.epoch)
    if (reason !== null) {
      stopped.set(id, reason)
      continue
    }
    const at = { writer, owner, generation, block }
    if (content.type === 'invalid') {
      operations++
      reject({ ...at, place: 0 }, content.reason, content.text)
    } else if (content.type === 'operations') {
      let place = 0
      for (const segment of content.segments) {
        for (const operation of segment.operations) applyOne(operation, { ...at, place: place++ })
      }
      if (content.seen) seen.set(id, content.seen)
    }
    const cursor = { generation, length: block + 1 }
    cursors.set(id, cursor)
    change(cursorKey(writer, owner), encodeCursor(cursor))
  }

  const state: IndexState = { ...before, serial, counter, now: Math.max(before.now, now) }
  if (changes.size > 0) change(indexStateKey, encodeIndexState(state))
  return { changes: [...changes.values()], state, cursors, rejected, stopped, seen, operations }
}

/** Why a log must stand still before this block; null: it need not. */
function stops(content: DecodedBlock, epoch: number): string | null {
  if (content.type === 'unknown') {
    return `its blocks have format ${content.version}, which this program does not know: update it`
  }
  if ('epoch' in content && content.epoch > epoch) {
    return `it is at epoch ${content.epoch}, this node at ${epoch}: give this node the newer configuration`
  }
  return null
}
