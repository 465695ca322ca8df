/**
 * The plan of the house as data: which room lies on which floor, and through which door each outside
 * package comes in. To add a room or a package, add it here; the rules are in rules.ts.
 */

/** A place for sources. */
export interface Room {
  /** Imports go to lower floors only. */
  readonly floor: number
  /** Files, and folders (with a slash at their end). The longest that fits counts. */
  readonly places: readonly string[]
}

/** Neighbours on one floor do not import each other. */
export const rooms: readonly Room[] = [
  { floor: 0, places: ['lib/types.ts', 'lib/errors.ts', 'lib/assert.ts'] },
  { floor: 1, places: ['lib/ports.ts', 'lib/index-ports.ts'] },
  { floor: 1, places: ['config/limits.ts'] },
  { floor: 2, places: ['lib/wait.ts'] },
  { floor: 2, places: ['lib/slices/'] },
  { floor: 2, places: ['lib/wire/'] },
  { floor: 3, places: ['config/'] },
  { floor: 3, places: ['lib/protocol/'] },
  { floor: 4, places: ['lib/hyper/'] },
  { floor: 4, places: ['lib/lsm/'] },
  { floor: 4, places: ['lib/write/'] },
  { floor: 4, places: ['lib/apply/'] },
  { floor: 4, places: ['lib/read/'] },
  { floor: 4, places: ['lib/handoff/'] },
  { floor: 4, places: ['lib/mirror/'] },
  { floor: 5, places: ['lib/node.ts', 'lib/links.ts', 'lib/status.ts'] },
  { floor: 5, places: ['lib/coordination/'] },
  {
    floor: 6,
    places: ['lib/kvswarm.ts', 'lib/flushes.ts', 'lib/cache.ts', 'lib/callbacks.ts']
  },
  { floor: 7, places: ['lib/index.ts'] },
  { floor: 8, places: ['bin/'] }
]

/** Sources outside the house, and which of ours they may import (null: all). */
export const outbuildings: Readonly<Record<string, readonly string[] | null>> = {
  'types/': [],
  'examples/': ['examples/', 'lib/index.ts', 'config/index.ts'],
  'scripts/': ['scripts/'],
  'test/': null,
  'bench/': null
}

/** Each outside package that the house uses, and the rooms that may import it. */
export const doors: Readonly<Record<string, readonly string[]>> = {
  '@hyperswarm/secret-stream': ['lib/hyper/'],
  'cbor-x': ['lib/wire/'],
  commander: ['bin/'],
  'compact-encoding': ['lib/wire/'],
  corestore: ['lib/hyper/'],
  hypercore: ['lib/hyper/'],
  'hypercore-crypto': ['lib/wire/', 'lib/hyper/', 'config/'],
  'hypercore-storage': ['lib/hyper/'],
  hyperdht: ['lib/hyper/'],
  hyperswarm: ['lib/hyper/'],
  'jsonc-parser': ['config/'],
  protomux: ['lib/hyper/'],
  'random-access-file': ['lib/hyper/', 'lib/coordination/'],
  'sodium-universal': ['lib/slices/', 'lib/wire/', 'lib/hyper/', 'config/'],
  streamx: ['lib/hyper/'],
  valibot: ['config/'],
  z32: ['lib/wire/']
}
