/**
 * Checks of our own invariants. A failed assertion is a defect of kvswarm, never of its user or of a
 * peer: bad input gets a KVSwarmError, bad bytes from a peer are refused and counted.
 */
export class AssertionError extends Error {
  override readonly name = 'AssertionError'
}

/** @throws AssertionError when `condition` does not hold. */
export function assert(condition: unknown, message: string): asserts condition {
  if (!condition) throw new AssertionError(`kvswarm invariant broken: ${message}`)
}
