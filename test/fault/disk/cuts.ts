/** Runs power cuts on a recording, in as many processes as there are processors to use. */
import type { Test } from 'tape'
import { deadline } from '../../helpers/events.ts'
import { spawnSource } from '../../helpers/process.ts'
import type { Random } from '../../helpers/random.ts'
import { tmpdir } from '../../helpers/tmp.ts'
import type { Checked, Checks } from './check.ts'
import { readJournal } from './journal.ts'
import type { Recording } from './record.ts'

const processes = 2
/** Places to cut at: anywhere, and some before the first flush, where there is most to go wrong. */
function places(recording: Recording, cuts: number, random: Random, earlyShare: number): number[] {
  const records = readJournal(recording.journal)
  const settled = records.findIndex(({ type }) => type === 'settled') + 1
  const early = records.findIndex(({ type, data }) => type === 'write' && data.includes('done 0'))
  const firstEnd = early === -1 ? records.length : early
  return Array.from({ length: cuts }, () =>
    random.chance(earlyShare)
      ? random.int(settled, firstEnd)
      : random.int(Math.min(firstEnd, records.length), records.length)
  )
}

/** Cuts the recording so often, at random places. */
export async function cutAll(
  t: Test,
  recording: Recording,
  cuts: number,
  random: Random,
  earlyShare: number
): Promise<Checked[]> {
  const list = places(recording, cuts, random, earlyShare).map((place) => ({
    place,
    seed: random.int(0, 2 ** 31 - 1)
  }))
  return await cutAt(t, recording, list)
}

/** Cuts the recording at the given places. */
export async function cutAt(
  t: Test,
  recording: Recording,
  cuts: readonly { readonly place: number; readonly seed: number }[]
): Promise<Checked[]> {
  const folder = tmpdir(t)
  const parts = Array.from({ length: Math.min(processes, cuts.length) }, (_, i) =>
    cuts.filter((_, n) => n % processes === i)
  )
  const results = await Promise.all(
    parts.map(async (part): Promise<Checked[]> => {
      const checks: Checks = { recording, folder, cuts: part }
      const life = spawnSource(t, 'test/fault/disk/check.ts', [JSON.stringify(checks)])
      const { code, signal } = await deadline(life.exit, 60_000 + part.length * 30_000, 'the cuts')
      const checked = life.stdout
        .split('\n')
        .filter((line) => line.startsWith('{'))
        .map((line) => JSON.parse(line) as Checked)
      if (code !== 0 || checked.length !== part.length) {
        const left = part.filter(({ place }) => !checked.some((one) => one.place === place))
        throw new Error(
          `after ${checked.length} cuts, before ${JSON.stringify(left.slice(0, 4))}: ${signal ?? `code ${code}`}; ${life.stderr}`
        )
      }
      return checked
    })
  )
  return results.flat().toSorted((a, b) => a.place - b.place)
}
