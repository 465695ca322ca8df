/**
 * What a storage node does about a writer when it adopts a configuration: pure.
 *
 * Invariant: of a removed writer everything that was acked is applied, and nothing else, until the configuration
 * names it again; then it resumes where it was.
 *
 * Source: design section 10 (removed writers).
 */
import type { Position } from '../types.ts'
import { zeroPosition } from './positions.ts'

/** One writer's inbox, before the configuration is adopted. */
export interface Membership {
  /** The new configuration names it. */
  readonly named: boolean
  /** So did the one before. */
  readonly authorised: boolean
  readonly acked: Position | null
  readonly applied: Position | null
}

export type MembershipChange =
  | { readonly type: 'none' }
  | { readonly type: 'authorise' }
  | { readonly type: 'remove'; readonly cutOff: Position }

export function membershipChange(writer: Membership): MembershipChange {
  const { named, authorised, acked, applied } = writer
  if (named === authorised) return { type: 'none' }
  if (named) return { type: 'authorise' }
  return { type: 'remove', cutOff: acked ?? applied ?? zeroPosition }
}
