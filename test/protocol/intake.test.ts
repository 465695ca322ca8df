// What a storage node does next with an outbox: scripts, and a random model of generations and lost tails.
import test from 'tape'
import { plan, type Generation, type Intake, type Plan } from '../../lib/protocol/intake.ts'
import { reaches } from '../../lib/protocol/positions.ts'
import type { Position } from '../../lib/types.ts'
import { random, randomOf } from '../helpers/random.ts'

function intake(
  partial: Partial<Omit<Intake, 'generations'>> & { generations?: [number, Generation][] }
): Intake {
  return {
    newest: partial.newest ?? null,
    applied: partial.applied ?? null,
    cutOff: partial.cutOff ?? null,
    generations: new Map(partial.generations ?? [])
  }
}

function brief({ open, heads, fetch, apply, acked }: Plan): string {
  const range = (r: Plan['fetch']): string => (r ? `${r.generation}:${r.from}-${r.to}` : '-')
  const at = (p: Position | null): string => (p ? `${p.generation}:${p.length}` : '-')
  return `open [${open.join()}] heads [${heads.join()}] fetch ${range(fetch)} apply ${range(apply)} acked ${at(acked)}`
}

const scripts: [string, Intake, string][] = [
  ['nothing announced', intake({}), 'open [] heads [] fetch - apply - acked -'],
  ['announced: open it', intake({ newest: 5 }), 'open [5] heads [] fetch - apply - acked -'],
  [
    'its first block tells what it continues',
    intake({ newest: 5, generations: [[5, { length: 3, held: 0, continues: undefined }]] }),
    'open [] heads [5] fetch - apply - acked -'
  ],
  [
    'the first generation: fetch it',
    intake({ newest: 5, generations: [[5, { length: 3, held: 1, continues: null }]] }),
    'open [] heads [] fetch 5:1-3 apply 5:0-1 acked 5:1'
  ],
  [
    'the cursor is in it: its head is not needed',
    intake({
      newest: 5,
      applied: { generation: 5, length: 2 },
      generations: [[5, { length: 4, held: 3, continues: undefined }]]
    }),
    'open [] heads [] fetch 5:3-4 apply 5:2-3 acked 5:3'
  ],
  [
    'a later generation waits for the end of the earlier one',
    intake({
      newest: 9,
      applied: { generation: 5, length: 1 },
      generations: [
        [5, { length: 4, held: 2, continues: undefined }],
        [9, { length: 7, held: 0, continues: { generation: 5, length: 4 } }]
      ]
    }),
    'open [] heads [] fetch 5:2-4 apply 5:1-2 acked 5:2'
  ],
  [
    'the earlier one is whole: on with the later one, apply still in the earlier',
    intake({
      newest: 9,
      applied: { generation: 5, length: 1 },
      generations: [
        [5, { length: 4, held: 4, continues: undefined }],
        [9, { length: 7, held: 2, continues: { generation: 5, length: 4 } }]
      ]
    }),
    'open [] heads [] fetch 9:2-7 apply 5:1-4 acked 9:2'
  ],
  [
    'what was acked behind the named length counts: the writer lost a tail, we did not',
    intake({
      newest: 9,
      applied: { generation: 5, length: 1 },
      generations: [
        [5, { length: 4, held: 4, continues: undefined }],
        [9, { length: 2, held: 0, continues: { generation: 5, length: 2 } }]
      ]
    }),
    'open [] heads [] fetch 9:0-2 apply 5:1-4 acked 9:0'
  ],
  [
    'a generation between is not skipped',
    intake({
      newest: 9,
      applied: { generation: 5, length: 4 },
      generations: [
        [5, { length: 4, held: 4, continues: undefined }],
        [9, { length: 2, held: 2, continues: { generation: 7, length: 3 } }]
      ]
    }),
    'open [7] heads [] fetch - apply - acked 5:4'
  ],
  [
    'restored from a backup: what was acked of the forgotten generation comes first',
    intake({
      newest: 9,
      applied: { generation: 7, length: 1 },
      generations: [
        [7, { length: 3, held: 2, continues: { generation: 5, length: 4 } }],
        [9, { length: 2, held: 1, continues: { generation: 5, length: 4 } }]
      ]
    }),
    'open [] heads [] fetch 9:1-2 apply 7:1-2 acked 9:1'
  ],
  [
    'removed: nothing behind the cut-off',
    intake({
      newest: 5,
      applied: { generation: 5, length: 1 },
      cutOff: { generation: 5, length: 2 },
      generations: [[5, { length: 9, held: 4, continues: null }]]
    }),
    'open [] heads [] fetch - apply 5:1-2 acked 5:2'
  ]
]

test('scripts', (t) => {
  for (const [what, state, expected] of scripts) t.equal(brief(plan(state)), expected, what)
  t.end()
})

/** A writer whose outbox loses unsynced tails and is continued, and a storage node that follows the plan. */
function run(seed: number): { error: string | null; applied: number } {
  const random = randomOf(seed)
  const int = (n: number): number => random.int(0, n - 1)
  type Block = { id: string; continues?: Position | null }
  const writer: { generation: number; blocks: Block[] }[] = []
  let number = 0
  const begin = (): void => {
    const before = writer.at(-1)
    const continues = before
      ? { generation: before.generation, length: before.blocks.length }
      : null
    number += 1 + int(3)
    writer.push({ generation: number, blocks: [{ id: `${number}/0`, continues }] })
  }
  begin()
  const local = new Map<
    number,
    {
      length: number
      held: number
      blocks: (Block | undefined)[]
      continues: Position | null | undefined
    }
  >()
  let applied: Position | null = null
  let acked: Position | null = null
  let newest: number | null = null
  const history: string[] = []
  const order: Position[] = []
  for (let step = 0; step < 400; step++) {
    const current = writer.at(-1) as (typeof writer)[number]
    switch (int(7)) {
      case 0:
      case 1:
        current.blocks.push({ id: `${current.generation}/${current.blocks.length}` })
        break
      case 2: {
        // A power cut: an unsynced tail may be lost, and a new generation continues what is left.
        if (int(4) > 0) break
        const lost = int(Math.min(3, current.blocks.length))
        current.blocks.length -= Math.min(lost, current.blocks.length - 1)
        begin()
        break
      }
      case 3:
        newest = current.generation
        break
      default: {
        const now: Plan = plan({
          newest,
          applied,
          cutOff: null,
          generations: new Map(
            [...local].map(([g, s]) => [
              g,
              { length: s.length, held: s.held, continues: s.continues }
            ])
          )
        })
        for (const generation of now.open) {
          local.set(generation, { length: 0, held: 0, blocks: [], continues: undefined })
        }
        for (const [generation, state] of local) {
          const source = writer.find((one) => one.generation === generation)
          state.length = Math.max(state.length, source?.blocks.length ?? 0)
        }
        for (const generation of now.heads) {
          const source = writer.find((one) => one.generation === generation)
          const state = local.get(generation)
          if (source && state) state.continues = source.blocks[0]?.continues ?? null
        }
        if (now.acked) acked = now.acked
        if (now.fetch) {
          const { generation, from, to } = now.fetch
          const source = writer.find((one) => one.generation === generation)
          const state = local.get(generation)
          const count = 1 + int(3)
          for (let block = from; block < Math.min(to, from + count); block++) {
            const data = source?.blocks[block]
            if (!data || !state || state.held !== block) break
            state.blocks[block] = data
            state.held = block + 1
          }
        }
        if (now.apply) {
          const { generation, from, to } = now.apply
          const end = from + 1 + int(to - from)
          for (let block = from; block < end; block++) {
            const data = local.get(generation)?.blocks[block]
            if (!data)
              return {
                error: `applied a block that is not held: ${generation}/${block}`,
                applied: 0
              }
            history.push(data.id)
            order.push({ generation, length: block })
          }
          applied = { generation, length: end }
          if (!reaches(now.acked, applied))
            return { error: 'applied what is not acked', applied: 0 }
        }
      }
    }
  }
  if (new Set(history).size !== history.length)
    return { error: 'a block was applied twice', applied: 0 }
  for (let i = 1; i < order.length; i++) {
    if (!reaches(order[i] as Position, order[i - 1] as Position))
      return { error: 'order', applied: 0 }
  }
  // Everything up to the cursor that the writer still has, or that was acked, was applied.
  for (const { generation, blocks } of writer) {
    for (const [block, { id }] of blocks.entries()) {
      const position = { generation, length: block + 1 }
      if (applied && reaches(applied, position) && !history.includes(id))
        return { error: `lost ${id}`, applied: 0 }
    }
  }
  if (acked && applied && !reaches(acked, applied))
    return { error: 'acked lies behind applied', applied: 0 }
  return { error: null, applied: history.length }
}

test('random histories: every block once, in order, none lost', (t) => {
  const base = random(t).seed
  let applied = 0
  let failed: string | null = null
  for (let i = 0; i < 2000 && failed === null; i++) {
    const outcome = run(base + i)
    applied += outcome.applied
    if (outcome.error) failed = `seed ${base + i}: ${outcome.error}`
  }
  t.equal(failed, null)
  t.ok(applied > 50_000, `${applied} blocks applied in 2,000 histories`)
  t.end()
})
