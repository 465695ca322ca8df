/**
 * What goes into one batch of a storage node: pure decisions over what its inboxes have ready.
 *
 * Invariants:
 * - a writer takes no more than its share of a batch while others have something ready, and all of it otherwise;
 * - one writer leads each batch in turn and gets at least one block into it, and what is small gets into every
 *   batch, so that a single put never waits for the bulk of another writer;
 * - what does not lead gets equal parts of what the leader's share leaves, so that the batch is larger than
 *   applyOperationsMax only when the leader's next block alone is larger than its share;
 * - what is left then goes to those whose next block was larger than their part: of many writers with large blocks
 *   a batch holds several (with 200 that wrote 100 keys each, a batch held 100 operations, and each batch costs a
 *   message to every reader).
 *
 * Source: design section 8 (step 4).
 */
import {
  applyBytesMax,
  applyOperationsMax,
  applyOperationsPerWriterMax
} from '../../config/limits.ts'

/** What blocks count towards a batch. */
export interface Size {
  readonly operations: number
  readonly bytes: number
}

/** One inbox's part of a batch. */
export interface Turn<T> {
  readonly inbox: T
  readonly operationsMax: number
  readonly bytesMax: number
  /** Its first block is taken even when it does not fit. */
  readonly atLeastOne: boolean
}

/**
 * Whose turn it is, one after the other; to be told after each turn what was taken in it.
 * @param ready inboxes that have something to be applied; the first one leads
 */
export function* compose<T>(ready: readonly T[]): Generator<Turn<T>, void, Size> {
  const [leader, ...others] = ready
  if (leader === undefined) return
  let operations = 0
  let bytes = 0
  const operationsLeft = applyOperationsMax - applyOperationsPerWriterMax
  const bytesLeft = applyBytesMax / 2
  const part = Math.max(1, Math.floor(operationsLeft / Math.max(1, others.length)))
  const large: T[] = []
  for (const inbox of others) {
    if (operations >= operationsLeft || bytes >= bytesLeft) break
    const operationsMax = Math.min(part, operationsLeft - operations)
    const taken = yield { inbox, operationsMax, bytesMax: bytesLeft - bytes, atLeastOne: false }
    operations += taken.operations
    bytes += taken.bytes
    if (taken.operations === 0) large.push(inbox)
  }
  const share = others.length === 0 ? applyOperationsMax : applyOperationsPerWriterMax
  const led = yield {
    inbox: leader,
    operationsMax: share,
    bytesMax: applyBytesMax - bytes,
    atLeastOne: true
  }
  operations += led.operations
  bytes += led.bytes
  for (const inbox of large) {
    if (operations >= applyOperationsMax || bytes >= applyBytesMax) break
    const operationsMax = applyOperationsMax - operations
    const taken = yield { inbox, operationsMax, bytesMax: applyBytesMax - bytes, atLeastOne: false }
    operations += taken.operations
    bytes += taken.bytes
  }
}

/** Whether the next block goes into a turn that has `taken` so many blocks, of this size with the next one. */
export function fits<T>(
  turn: Omit<Turn<T>, 'inbox'>,
  taken: number,
  { operations, bytes }: Size
): boolean {
  if (operations <= turn.operationsMax && bytes <= turn.bytesMax) return true
  return turn.atLeastOne && taken === 0
}
