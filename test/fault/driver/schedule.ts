/** The faults of a run, made up front from its seed: what, to whom, when, for how long. */
import type { Random } from '../../helpers/random.ts'

export type FaultKind = 'kill' | 'stop' | 'cut off' | 'lossy' | 'slow disk' | 'clock'

export interface Fault {
  /** Milliseconds from the start. */
  readonly at: number
  readonly kind: FaultKind
  readonly target: string
  /** Until it ends; of a kill: until it is started again. */
  readonly lastsMs: number
  /** Of a clock: seconds that it jumps. Of a slow disk: microseconds of a sync. Of a lossy network: of 1000. */
  readonly amount: number
}

const pauseMinMs = 300
const pauseMaxMs = 1_800
/** A process that is stopped for longer counts as gone, and others time out. */
const lastsMaxMs = 3_000

/** @param kinds those that this machine can make */
export function scheduleOf(
  random: Random,
  targets: readonly string[],
  kinds: readonly FaultKind[],
  durationMs: number
): Fault[] {
  const faults: Fault[] = []
  let at = 0
  for (;;) {
    at += random.int(pauseMinMs, pauseMaxMs)
    if (at >= durationMs) return faults
    const kind = random.pick(kinds)
    faults.push({
      at,
      kind,
      target: random.pick(targets),
      lastsMs: random.int(kind === 'kill' ? 0 : 200, lastsMaxMs),
      amount: amountOf(kind, random)
    })
  }
}

function amountOf(kind: FaultKind, random: Random): number {
  switch (kind) {
    case 'clock':
      return random.pick([-86_400, -3600, -5, 5, 3600, 86_400])
    case 'slow disk':
      return random.pick([5_000, 20_000, 100_000])
    case 'lossy':
      return random.pick([50, 200, 500])
    case 'cut off':
      return 1000
    case 'kill':
    case 'stop':
      return 0
  }
}
