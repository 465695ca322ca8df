/**
 * When an outbox goes on under its next generation, and when an old generation can go: pure decisions.
 *
 * Logs are only ever appended, continued elsewhere, and deleted whole. Steps of a rotation, each durable before
 * the next: the number of the next generation is taken; `end` closes the present one, which is never appended to
 * again; the next one begins with what it continues. A crash between two steps leaves a generation that goes on,
 * or one that is ended and has no successor yet: the next append begins one.
 *
 * Invariants:
 * - the writer deletes a generation only when the owner's signed index, in the generation that the owner itself
 *   says is its present one, shows a cursor in a later generation; that is asked again right before each deletion,
 *   since the owner can have been restored, and have told so, while the writer noted what it is about to delete;
 * - the storage node deletes its copy only when its own durable cursor is in a later generation;
 * - the newest generation is never deleted: its number keeps the next one above it.
 *
 * Source: design sections 8 (step 6), 10 ("lost"), 14 (space).
 */
import {
  inboxAppliedBytesMax,
  rotateAskedBytesMin,
  rotateBytes,
  rotateQuietBytes,
  rotateQuietMs
} from '../../config/limits.ts'
import { KVSwarmError } from '../errors.ts'
import type { Head } from '../ports.ts'
import type { NodeId, Position } from '../types.ts'

/** The generation of an outbox that is appended to. */
export interface Rotatable {
  readonly bytes: number
  /** Milliseconds since the last append. */
  readonly quietMs: number
  /** All of it has a receipt. */
  readonly receipted: boolean
  /** Its storage node has asked for it. */
  readonly asked: boolean
}

/** The bounds of the decisions. */
export interface RotationLimits {
  /** An outbox that has grown to this goes on under its next generation. @default 67108864 */
  readonly bytes: number
  /** So does a smaller one that has a receipt for everything, when it was quiet for `quietMs`. @default 4194304 */
  readonly quietBytes: number
  /** Milliseconds. @default 30000 */
  readonly quietMs: number
  /** So does one of at least this, when its storage node asks for it. @default 65536 */
  readonly askedBytesMin: number
  /** A storage node asks, from half of this on, for what it keeps of applied outboxes. @default 67108864 */
  readonly appliedBytesMax: number
}

export const rotationLimits: RotationLimits = {
  bytes: rotateBytes,
  quietBytes: rotateQuietBytes,
  quietMs: rotateQuietMs,
  askedBytesMin: rotateAskedBytesMin,
  appliedBytesMax: inboxAppliedBytesMax
}

/** Those that are given, and the defaults. @throws INVALID_ARGUMENT */
export function rotationOf(given: Partial<RotationLimits> = {}): RotationLimits {
  for (const [name, value] of Object.entries(given)) {
    if (Object.hasOwn(rotationLimits, name) && Number.isSafeInteger(value) && value > 0) continue
    throw new KVSwarmError('INVALID_ARGUMENT', `rotation.${name} is ${String(value)}`, {
      hint: `give whole numbers above 0 for any of ${Object.keys(rotationLimits).join(', ')}`
    })
  }
  return { ...rotationLimits, ...given }
}

/** Whether the outbox goes on under the next generation. */
export function shouldRotate(
  { bytes, quietMs, receipted, asked }: Rotatable,
  limits: RotationLimits = rotationLimits
): boolean {
  if (bytes >= limits.bytes) return true
  if (asked && bytes >= limits.askedBytesMin) return true
  return receipted && bytes >= limits.quietBytes && quietMs >= limits.quietMs
}

/**
 * The generations that nobody needs any more, oldest first.
 * @param generations those that are on disk
 * @param shown the cursor, as a durable index shows it; null: nothing is applied
 */
export function deletable(generations: Iterable<number>, shown: Position | null): number[] {
  if (shown === null) return []
  const rising = [...generations].toSorted((a, b) => a - b)
  return rising.slice(0, -1).filter((generation) => generation < shown.generation)
}

/**
 * Whether what the owner's index showed still counts: nothing tells of a later generation of that index, which can
 * have begun with an older cursor.
 * @param shownIn the generation of the index that showed it
 */
export function stillStands(
  shownIn: number,
  owner: {
    /** The generation of its index that it was in when it last told. */
    readonly present: number | null
    /** The writer's view of that index. */
    readonly view: Head | null
  }
): boolean {
  return owner.present === shownIn && owner.view?.generation === shownIn
}

/** One inbox of a storage node. */
export interface Stored {
  readonly writer: NodeId
  /** Bytes that are here and applied. */
  readonly bytes: number
  /** The writer can be asked to rotate. */
  readonly connected: boolean
  /** Nothing is here that is not applied, and nothing is being fetched. */
  readonly idle: boolean
}

/** What a storage node does about applied bytes that it still keeps. */
export interface Relief {
  /** Writers that are asked to go on under a next generation. */
  readonly ask: readonly NodeId[]
  /** Inboxes whose copy is deleted here, although the generation goes on: it is fetched on from the cursor. */
  readonly drop: readonly NodeId[]
}

/**
 * Asks the largest when there is too much, until the rest is well below the bound; what belongs to writers that
 * are not there to be asked is dropped here.
 */
export function relieve(
  inboxes: readonly Stored[],
  limits: RotationLimits = rotationLimits
): Relief {
  const ask: NodeId[] = []
  const drop: NodeId[] = []
  let total = 0
  for (const { bytes } of inboxes) total += bytes
  // Asking takes time, in which more is applied.
  const enough = limits.appliedBytesMax / 2
  if (total <= enough) return { ask, drop }
  for (const { writer, bytes, connected, idle } of inboxes.toSorted((a, b) => b.bytes - a.bytes)) {
    if (total <= enough || bytes < limits.askedBytesMin) break
    if (connected) ask.push(writer)
    else if (idle) drop.push(writer)
    else continue
    total -= bytes
  }
  return { ask, drop }
}
