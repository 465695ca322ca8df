// What a storage node does next with an outbox: scripts, and a random model of generations and lost tails.
import test from 'tape'
import { ChainLinks } from '../../lib/protocol/chain-links.ts'
import {
  generationsOpenMax,
  plan,
  type Generation,
  type Intake,
  type Plan
} from '../../lib/protocol/intake.ts'
import { later, reaches } from '../../lib/protocol/positions.ts'
import type { Position } from '../../lib/types.ts'
import { random, randomOf } from '../helpers/random.ts'

/** An open log; `continues` undefined: its first block is not known. */
interface Open {
  length: number
  held: number
  continues: Position | null | undefined
  /** @default held */
  here?: number
}

function intake(
  partial: Partial<Omit<Intake, 'generations' | 'links' | 'stored'>> & {
    generations?: [number, Open][]
    stored?: number[] | null
    links?: [number, Position | null][]
  }
): Intake {
  const links = new Map(partial.links ?? [])
  for (const [generation, { continues }] of partial.generations ?? []) {
    if (continues !== undefined) links.set(generation, continues)
  }
  return {
    newest: partial.newest ?? null,
    end: partial.end ?? null,
    applied: partial.applied ?? null,
    cutOff: partial.cutOff ?? null,
    oldest: partial.oldest ?? null,
    generations: new Map(
      partial.generations?.map(([g, { here, ...open }]) => [
        g,
        { ...open, here: here ?? open.held }
      ])
    ),
    stored: partial.stored === null ? null : new Set(partial.stored ?? []),
    links
  }
}

function brief(state: Intake): string {
  const { needed, head, fetch, apply, acked, done } = plan(state)
  const range = (r: Plan['fetch']): string => (r ? `${r.generation}:${r.from}-${r.to}` : '-')
  const at = (p: Position | null): string => (p ? `${p.generation}:${p.length}` : '-')
  const logs = needed.map((g) => (state.generations.has(g) ? `${g}` : `+${g}`)).join()
  return `logs [${logs}] head ${head ?? '-'} fetch ${range(fetch)} apply ${range(apply)} acked ${at(acked)}${done ? ' done' : ''}`
}

const scripts: [string, Intake, string][] = [
  ['nothing announced', intake({}), 'logs [] head - fetch - apply - acked -'],
  ['announced: open it', intake({ newest: 5 }), 'logs [+5] head - fetch - apply - acked -'],
  [
    'its first block tells what it continues',
    intake({ newest: 5, generations: [[5, { length: 3, held: 0, continues: undefined }]] }),
    'logs [5] head 5 fetch - apply - acked -'
  ],
  [
    'the first generation: fetch it',
    intake({ newest: 5, generations: [[5, { length: 3, held: 1, continues: null }]] }),
    'logs [5] head - fetch 5:1-3 apply 5:0-1 acked 5:1'
  ],
  [
    'the cursor is in it: its head is not needed',
    intake({
      newest: 5,
      applied: { generation: 5, length: 2 },
      generations: [[5, { length: 4, held: 3, continues: undefined }]]
    }),
    'logs [5] head - fetch 5:3-4 apply 5:2-3 acked 5:3'
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
    'logs [5] head - fetch 5:2-4 apply 5:1-2 acked 5:2'
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
    'logs [5,9] head - fetch 9:2-7 apply 5:1-4 acked 9:2'
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
    'logs [5,9] head - fetch 9:0-2 apply 5:1-4 acked 9:0'
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
    'logs [5,+7] head - fetch - apply - acked 5:4'
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
    'logs [7,9] head - fetch 9:1-2 apply 7:1-2 acked 9:1'
  ],
  [
    'removed: nothing behind the cut-off',
    intake({
      newest: 5,
      applied: { generation: 5, length: 1 },
      cutOff: { generation: 5, length: 2 },
      generations: [[5, { length: 9, held: 4, continues: null }]]
    }),
    'logs [5] head - fetch - apply 5:1-2 acked 5:2'
  ],
  [
    'what is held of the generation of the cursor is applied while the way back is not known',
    intake({
      newest: 9,
      applied: { generation: 5, length: 1 },
      generations: [
        [5, { length: 9, held: 4, continues: undefined }],
        [9, { length: 3, held: 0, continues: undefined }]
      ]
    }),
    'logs [5,9] head 9 fetch - apply 5:1-4 acked 5:4'
  ],
  [
    'the link of a closed log is remembered',
    intake({
      newest: 9,
      links: [
        [9, { generation: 7, length: 3 }],
        [7, null]
      ]
    }),
    'logs [+7] head - fetch - apply - acked -'
  ],
  [
    'a link to a generation without a block is none',
    intake({ newest: 9, links: [[9, { generation: 7, length: 0 }]] }),
    'logs [+9] head - fetch - apply - acked -'
  ],
  [
    'not the newest one but one that another continues: to where that one says',
    intake({
      newest: 5,
      end: 3,
      generations: [[5, { length: 9, held: 1, continues: null }]]
    }),
    'logs [5] head - fetch 5:1-3 apply 5:0-1 acked 5:1'
  ],
  [
    "the rest of the cursor's generation is deleted at its writer: it goes on with the oldest one",
    intake({
      newest: 9,
      oldest: 9,
      applied: { generation: 7, length: 4 },
      generations: [
        [7, { length: 8, held: 4, continues: null }],
        [9, { length: 3, held: 3, continues: { generation: 7, length: 8 } }]
      ]
    }),
    'logs [7,9] head - fetch - apply 9:0-3 acked 9:3'
  ],
  [
    'all is applied',
    intake({
      newest: 5,
      end: 3,
      applied: { generation: 5, length: 3 },
      generations: [[5, { length: 9, held: 3, continues: null }]]
    }),
    'logs [5] head - fetch - apply - acked 5:3 done'
  ],
  [
    'its writer was restored, and knows nothing of a generation that was acked: it comes first',
    intake({
      newest: 9,
      applied: { generation: 5, length: 3 },
      stored: [5, 7],
      generations: [
        [5, { length: 3, held: 3, continues: undefined }],
        [7, { length: 6, held: 4, continues: { generation: 5, length: 3 } }],
        [9, { length: 2, held: 2, continues: { generation: 5, length: 2 } }]
      ]
    }),
    'logs [5,7,9] head - fetch - apply 7:0-4 acked 9:2'
  ],
  [
    'the same, when nothing was applied before',
    intake({
      newest: 9,
      stored: [7, 9],
      generations: [
        [7, { length: 6, held: 4, continues: null }],
        [9, { length: 3, held: 0, continues: null }]
      ]
    }),
    'logs [7,9] head - fetch 9:0-3 apply 7:0-4 acked 9:0'
  ],
  [
    'behind a start, what lies here is not known yet: nothing but the cursor goes on',
    intake({
      newest: 9,
      applied: { generation: 5, length: 3 },
      stored: null,
      generations: [
        [5, { length: 4, held: 4, continues: undefined }],
        [9, { length: 3, held: 3, continues: { generation: 5, length: 4 } }]
      ]
    }),
    'logs [5] head - fetch - apply 5:3-4 acked 5:4'
  ],
  [
    'behind a start it is opened first',
    intake({
      newest: 9,
      stored: [7, 9],
      generations: [[9, { length: 3, held: 3, continues: null }]]
    }),
    'logs [+7] head - fetch - apply - acked -'
  ],
  [
    'opened, its blocks are behind the barrier only later: nothing passes them',
    intake({
      newest: 9,
      stored: [7, 9],
      generations: [
        [7, { length: 6, held: 0, here: 4, continues: undefined }],
        [9, { length: 3, held: 3, continues: null }]
      ]
    }),
    'logs [7] head - fetch - apply - acked 7:0'
  ],
  [
    'the cursor is in it, and its log was opened again: the rest of it comes first',
    intake({
      newest: 9,
      applied: { generation: 7, length: 2 },
      stored: [7, 9],
      generations: [
        [7, { length: 6, held: 0, here: 4, continues: undefined }],
        [9, { length: 3, held: 3, continues: { generation: 5, length: 2 } }]
      ]
    }),
    'logs [7] head - fetch - apply - acked 7:2'
  ],
  [
    'nothing is here of it after all: it holds up nothing',
    intake({
      newest: 9,
      stored: [7],
      generations: [
        [7, { length: 0, held: 0, continues: undefined }],
        [9, { length: 3, held: 3, continues: null }]
      ]
    }),
    'logs [7,9] head - fetch - apply 9:0-3 acked 9:3'
  ],
  [
    'what lies before the cursor, or behind the newest one, is none',
    intake({
      newest: 9,
      applied: { generation: 5, length: 3 },
      stored: [3, 11],
      generations: [
        [5, { length: 3, held: 3, continues: undefined }],
        [9, { length: 2, held: 2, continues: { generation: 5, length: 3 } }]
      ]
    }),
    'logs [5,9] head - fetch - apply 9:0-2 acked 9:2'
  ]
]

test('scripts', (t) => {
  for (const [what, state, expected] of scripts) t.equal(brief(state), expected, what)
  t.end()
})

test('a long chain needs few logs at a time', (t) => {
  const links: [number, Position | null][] = [[1, null]]
  for (let g = 2; g <= 1000; g++) links.push([g, { generation: g - 1, length: 1 }])
  const generations: [number, Open][] = [[1000, { length: 1, held: 0, continues: undefined }]]
  t.equal(
    brief(intake({ newest: 1000, links: links.slice(0, 998), generations })),
    'logs [1000] head 1000 fetch - apply - acked -',
    'the way back: one'
  )
  for (const [g] of links) {
    generations.push([g, { length: 1, held: 1, continues: undefined }])
  }
  const { needed, apply, acked } = plan(intake({ newest: 1000, links, generations }))
  t.deepEqual(needed, [1, 2, 3, 4, 5, 6, 7], 'those next to the cursor')
  t.ok(needed.length < generationsOpenMax)
  t.deepEqual(
    [apply, acked],
    [
      { generation: 1, from: 0, to: 1 },
      { generation: 7, length: 1 }
    ]
  )
  t.end()
})

interface Block {
  readonly id: string
  readonly continues?: Position | null
}

/** A storage node that follows the plan: what is on its disk, and which logs it has open. */
class Node {
  readonly disk = new Map<number, { length: number; blocks: (Block | undefined)[] }>()
  readonly history: string[] = []
  readonly order: Position[] = []
  readonly links: ChainLinks
  readonly #writer: readonly { generation: number; blocks: Block[] }[]
  readonly #int: (n: number) => number
  #open = new Set<number>()
  applied: Position | null = null
  acked: Position | null = null
  openMost = 0

  constructor(
    writer: readonly { generation: number; blocks: Block[] }[],
    linksMax: number,
    int: (n: number) => number
  ) {
    this.#writer = writer
    this.links = new ChainLinks(linksMax)
    this.#int = int
  }

  /** One look. @returns what went wrong */
  step(): string | null {
    const generations = new Map<number, Generation>()
    for (const generation of this.#open) {
      const { length, blocks } = this.#stored(generation)
      let held = 0
      while (blocks[held]) held++
      generations.set(generation, { length, held, here: held })
    }
    const stored = [...this.disk].flatMap(([g, { blocks }]) => (blocks[1] ? [g] : []))
    const now = plan({
      newest: this.links.from,
      end: this.links.end,
      applied: this.applied,
      cutOff: null,
      oldest: null,
      generations,
      stored: new Set(stored),
      links: this.links.all
    })
    if (now.chain) this.links.retain(now.chain)
    this.#open = new Set(now.needed)
    this.openMost = Math.max(this.openMost, this.#open.size)
    this.acked = later(this.acked, now.acked)
    for (const generation of this.#open) {
      const stored = this.#stored(generation)
      stored.length = Math.max(stored.length, this.#at(generation)?.length ?? 0)
    }
    if (now.head !== null) {
      const first = this.#at(now.head)?.[0]
      if (first) this.links.learn(now.head, first.continues ?? null, this.applied)
    }
    if (now.fetch) this.#fetch(now.fetch)
    if (now.done) this.links.applied(this.applied)
    return now.apply ? this.#apply(now.apply, now.acked) : null
  }

  #fetch({ generation, from, to }: NonNullable<Plan['fetch']>): void {
    const { blocks } = this.#stored(generation)
    const end = Math.min(to, from + 1 + this.#int(3))
    for (let block = from; block < end; block++) {
      const data = this.#at(generation)?.[block]
      if (!data) break
      blocks[block] ??= data
    }
  }

  #apply(
    { generation, from, to }: NonNullable<Plan['apply']>,
    acked: Position | null
  ): string | null {
    const end = from + 1 + this.#int(to - from)
    for (let block = from; block < end; block++) {
      const data = this.#stored(generation).blocks[block]
      if (!data) return `applied a block that is not held: ${generation}/${block}`
      this.history.push(data.id)
      this.order.push({ generation, length: block })
    }
    this.applied = { generation, length: end }
    return reaches(acked, this.applied) ? null : 'applied what is not acked'
  }

  #stored(generation: number): { length: number; blocks: (Block | undefined)[] } {
    let stored = this.disk.get(generation)
    if (!stored) this.disk.set(generation, (stored = { length: 0, blocks: [] }))
    return stored
  }

  #at(generation: number): Block[] | undefined {
    return this.#writer.find((one) => one.generation === generation)?.blocks
  }
}

/** A writer whose outbox loses unsynced tails and is continued, and a storage node that follows the plan. */
function run(seed: number): { error: string | null; applied: number } {
  const random = randomOf(seed)
  const int = (n: number): number => random.int(0, n - 1)
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
  const node = new Node(writer, 2 + int(12), int)
  const fail = (error: string): { error: string; applied: number } => ({ error, applied: 0 })
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
        if (current.generation > (node.links.newest ?? 0)) node.links.announce(current.generation)
        break
      default: {
        const error = node.step()
        if (error) return fail(error)
      }
    }
  }
  // The writer rests: everything it has arrives, in a bounded number of looks.
  const last = writer.at(-1) as (typeof writer)[number]
  if (last.generation > (node.links.newest ?? 0)) node.links.announce(last.generation)
  const end = { generation: last.generation, length: last.blocks.length }
  for (let looks = 0; !reaches(node.applied, end); looks++) {
    const error = looks < 10_000 ? node.step() : 'it never arrives at the end'
    if (error) return fail(error)
  }
  const { history, order } = node
  if (node.openMost > generationsOpenMax) return fail(`${node.openMost} logs open`)
  if (new Set(history).size !== history.length) return fail('a block was applied twice')
  for (let i = 1; i < order.length; i++) {
    if (!reaches(order[i] as Position, order[i - 1] as Position)) return fail('order')
  }
  // Everything that the writer still has was applied.
  const applied = new Set(history)
  for (const { blocks } of writer) {
    for (const { id } of blocks) if (!applied.has(id)) return fail(`lost ${id}`)
  }
  if (!reaches(node.acked, end)) return fail('acked lies behind applied')
  return { error: null, applied: history.length }
}

test('random histories: every block once, in order, none lost, all of it arrives', (t) => {
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
