/** An index that its own storage node has signed and made wrong on purpose: readers get an error, in time. */
import test from 'tape'
import { indexKeptOpenMax } from '../../config/limits.ts'
import { isKVSwarmError } from '../../lib/errors.ts'
import type { FollowedIndex } from '../../lib/lsm/view.ts'
import type { IndexRange } from '../../lib/ports.ts'
import { encodeValueBlock } from '../../lib/wire/index-blocks.ts'
import { ByteWriter } from '../../lib/wire/index-bytes.ts'
import { encodeLayout, type KeptState, type RunState } from '../../lib/wire/index-state.ts'
import { dataRange } from '../../lib/wire/records.ts'
import { deadline, until } from '../helpers/events.ts'
import {
  entries,
  entriesOf,
  fence,
  Forge,
  key,
  page,
  smallStep,
  source,
  step,
  text,
  value
} from './forge.ts'

/** Far more than any of these takes; an endless loop would not even let it pass. */
const boundMs = 20_000
const mebibytes = 2 ** 20

async function outcome(run: () => Promise<unknown>): Promise<string> {
  try {
    const result = await deadline(run(), boundMs, 'an answer')
    return result instanceof Uint8Array ? 'value' : String(result)
  } catch (error) {
    return isKVSwarmError(error) ? error.code : `no code: ${String(error)}`
  }
}

async function listed(view: FollowedIndex, range: IndexRange, timeout = 2_000): Promise<string> {
  const snapshot = view.snapshot()
  let found = 0
  try {
    for await (const _ of snapshot.range(range, { timeout })) {
      if (++found > 10_000) return 'no end'
    }
    return `${found} entries`
  } finally {
    await snapshot.close()
  }
}

/** Behind this block are so many blocks of a core. */
const run = (blocks: readonly Uint8Array[], top?: Uint8Array) => async (forge: Forge) => {
  await forge.journal(0, smallStep(0, ['zz', value]))
  await forge.layout({ runs: [await forge.run(blocks, top)] })
}
const journal =
  (...blocks: readonly Uint8Array[]) =>
  async (forge: Forge) => {
    await forge.journal(0, ...blocks)
    await forge.layout({})
  }
const pointer = (at: { journal?: number; block?: number; length?: number }): Uint8Array =>
  entries(['m', { journal: 0, block: 0, length: 3_000, ...at }])
const large = new Uint8Array(8 * mebibytes)

/** A fence of `count` children with texts that rise. */
function wide(count: number): Uint8Array {
  const names = Array.from({ length: count - 1 }, (_, n) => `m${String(n).padStart(7, '0')}`)
  return fence(1, 0, names)
}

/** Seven levels of fences over one block, each fence over all of the level below: 40 to the 7th paths. */
function braid(): Uint8Array[] {
  const names = Array.from({ length: 39 }, (_, n) => `c${String(n).padStart(3, '0')}`)
  const blocks = Array.from({ length: 40 }, () => entries(['a', value]))
  for (let level = 1; level <= 7; level++) {
    const first = blocks.length - 40
    for (let n = 0; n < 40; n++) blocks.push(fence(level, first, names))
  }
  blocks.push(fence(8, blocks.length - 40, names))
  return blocks
}

/** `list`: what a list of all may come to, beside CORRUPT. */
const lies: readonly [what: string, make: (forge: Forge) => Promise<void>][] = [
  ['a run of nonsense', run([Buffer.from('no'), Buffer.from('no fence at all')])],
  ['a run of empty blocks', run([Buffer.alloc(0), Buffer.alloc(0)])],
  ['a top of another level', run([entries(['m', value]), fence(3, 0, [])])],
  [
    'a top that is told and makes no sense',
    run([entries(['m', value]), fence(1, 0, [])], large.subarray(0, 9))
  ],
  ['a fence that leads to itself', run([entries(['m', value]), fence(1, 1, [])])],
  ['a fence that leads forward', run([fence(1, 5, []), fence(2, 0, [])])],
  [
    'a fence over fences of its own level',
    run([entries(['m', value]), fence(2, 0, []), fence(2, 1, [])])
  ],
  ['fences of nine levels', run([...braid(), fence(9, 0, [])])],
  ['fences where all lead to the same', run(braid())],
  ['entries where a fence is due', run([entries(['a', value]), entries(['m', value])])],
  [
    'a step where entries are due',
    run([smallStep(0, ['m', value]).subarray(0, 3), fence(1, 0, [])])
  ],
  [
    'a fence that has no order',
    run([
      entries(['a', value]),
      entries(['m', value]),
      entries(['z', value]),
      fence(1, 0, ['t', 'f'])
    ])
  ],
  [
    'a fence with a child beyond its parent',
    run([
      entries(['a', value]),
      entries(['m', value]),
      fence(1, 0, ['t']),
      entries(['n', value]),
      fence(1, 3, []),
      fence(2, 2, ['f'])
    ])
  ],
  [
    'a fence of 2,000 children',
    run([...Array.from({ length: 2_000 }, () => entries(['m', value])), wide(2_000)])
  ],
  [
    'a block of 8 MiB in place of entries',
    run([Buffer.concat([entries(['a', value]), large]), fence(1, 0, [])])
  ],
  [
    'a block of 8 MiB in place of a fence',
    run([entries(['a', value]), Buffer.concat([fence(1, 0, []), large])])
  ],
  [
    '8 MiB of entries',
    run([
      entriesOf(
        Array.from(
          { length: 250_000 },
          (_, n) => [`m${String(n).padStart(9, '0')}`, value] as const
        )
      ),
      fence(1, 0, [])
    ])
  ],
  ['keys that do not rise', run([entries(['m', value], ['b', value]), fence(1, 0, [])])],
  ['a key twice', run([entries(['m', value], ['m', value]), fence(1, 0, [])])],
  [
    'blocks that do not rise',
    run([entries(['m', value]), entries(['b', value]), fence(1, 0, ['c'])])
  ],
  [
    'entries elsewhere than their fence says',
    run([
      entries(['b', value]),
      entries(['m', value], ['z', value]),
      entries(['zz', value]),
      fence(1, 0, ['f', 'y'])
    ])
  ],
  ['a value in a journal that is not there', run([pointer({ journal: 77 }), fence(1, 0, [])])],
  ['a value behind the end of its journal', run([pointer({ block: 9 }), fence(1, 0, [])])],
  ['a value in block 2^52', run([pointer({ block: 2 ** 52 }), fence(1, 0, [])])],
  ['a value that is none', run([pointer({}), fence(1, 0, [])])],
  ['a value of 2^50 bytes', run([pointer({ length: 2 ** 50 }), fence(1, 0, [])])],
  [
    'a value of another length',
    async (forge) => {
      const sources = [source('fence', 2)]
      const told = pointer({ length: 3_001 })
      await forge.journal(
        0,
        encodeValueBlock(new Uint8Array(3_000)),
        told,
        fence(1, 1, []),
        step(3, { values: 1, data: 1, sources })
      )
      await forge.layout({})
    }
  ],
  ['a journal that ends with entries', journal(entries(['m', value]))],
  ['a journal that ends with nothing', journal(Buffer.alloc(0))],
  ['a step of 8 MiB', journal(Buffer.concat([smallStep(0, ['m', value]), large]))],
  [
    'a step with 2^40 blocks',
    journal(entries(['m', value]), step(1, { data: 2 ** 40, sources: [source('fence', 0)] }))
  ],
  [
    'a step with 2,000 sources',
    journal(
      ...Array.from({ length: 2_000 }, () => entries(['m', value])),
      step(2_000, { sources: Array.from({ length: 2_000 }, (_, n) => source('fence', 1_999 - n)) })
    )
  ],
  [
    'a source that is behind its step',
    journal(entries(['m', value]), step(1, { sources: [{ ...source('fence', 0), block: -5 }] }))
  ],
  [
    'a source that is no fence',
    journal(entries(['m', value]), step(1, { sources: [source('fence', 0)] }))
  ],
  [
    'a small source that is none',
    journal(
      fence(1, 0, []),
      entries(['q', value]),
      step(2, { sources: [source('small', 0, ['b', 'm'])] })
    )
  ],
  [
    'a directory that leads to a fence',
    journal(
      entries(['m', value]),
      fence(1, 0, []),
      page(['m', 1]),
      step(3, { sources: [source('directory', 2)] })
    )
  ],
  [
    'a directory that leads to itself',
    journal(entries(['m', value]), page(['m', 1]), step(2, { sources: [source('directory', 1)] }))
  ],
  [
    'a directory that leads to another entry',
    journal(
      entries(['b', value], ['m', value]),
      page(['b', 0], ['m', 0], ['t', 0]),
      step(2, { sources: [source('directory', 1)] })
    )
  ],
  [
    'a directory that leads to several entries',
    journal(
      entries(['b', value], ['m', value]),
      page(['b', 0]),
      step(2, { sources: [source('directory', 1)] })
    )
  ],
  [
    'a directory of 8 MiB',
    journal(
      entries(['m', value]),
      Buffer.concat([page(['m', 0]), large]),
      step(2, { sources: [source('directory', 1)] })
    )
  ],
  [
    'a fence over pages of another range',
    journal(
      entries(['b', value], ['m', value]),
      page(['b', 0]),
      page(['m', 0]),
      fence(1, 1, ['f']),
      step(4, { sources: [source('directory', 3)] })
    )
  ]
]

for (const [what, make] of lies) {
  test(`hostile index: ${what}`, async (t) => {
    const forge = await Forge.open(t)
    await make(forge)
    const view = await forge.view(t)
    const before = process.memoryUsage().rss
    const looked: string[] = []
    for (const name of ['a', 'b', 'm', 'q', 't', 'z']) {
      looked.push(await outcome(() => view.get(key(name), { timeout: 2_000 })))
    }
    t.ok(
      looked.every((one) => ['CORRUPT', 'value', 'null'].includes(one)),
      `get: ${looked.join(' ')}`
    )
    for (const reverse of [false, true]) {
      const all = await outcome(() => listed(view, { ...dataRange(), reverse }))
      t.equal(all, 'CORRUPT', `a list${reverse ? ' from the end' : ''}`)
      const behind = await outcome(() => listed(view, { ...dataRange(), gte: key('b'), reverse }))
      t.ok(/^(CORRUPT|[01234] entries)$/.test(behind), `a list of some: ${behind}`)
    }
    const grown = (process.memoryUsage().rss - before) / mebibytes
    t.ok(grown < 200, `${Math.round(grown)} MiB more`)
  })
}

test('what this file makes is read when it is no lie', async (t) => {
  const forge = await Forge.open(t)
  const bytes = new Uint8Array(3_000).fill(7)
  await forge.journal(
    0,
    encodeValueBlock(bytes),
    entries(['b', { journal: 0, block: 0, length: 3_000 }]),
    entries(['m', value]),
    page(['b', 1], ['m', 2]),
    step(4, { values: 1, data: 2, sources: [source('directory', 3)] })
  )
  const blocks = [entries(['a', value], ['b', value]), entries(['q', value]), fence(1, 0, ['q'])]
  await forge.layout({ runs: [await forge.run(blocks)] })
  const view = await forge.view(t)
  for (const name of ['a', 'b', 'm', 'q']) {
    t.equal(await outcome(() => view.get(key(name))), 'value', name)
  }
  t.equal(await outcome(() => view.get(key('c'))), 'null')
  for (const reverse of [false, true]) {
    t.equal(await outcome(() => listed(view, { ...dataRange(), reverse })), '4 entries')
  }
})

test('hostile index: blocks that are not to be had end with the time of the read', async (t) => {
  const run: RunState = {
    hash: new Uint8Array(32),
    length: 2 ** 40,
    entries: 1,
    bytes: 1,
    top: new Uint8Array(0)
  }
  const forge = await Forge.open(t)
  await forge.journal(1, smallStep(0, ['zz', value]))
  await forge.journal(0)
  const journals = [
    { number: 0, base: 0, length: 2 ** 40 },
    { number: 1, base: 2 ** 40, length: 0 }
  ]
  await forge.layout({ runs: [run], journals })
  const view = await forge.view(t)
  t.equal(await outcome(() => view.get(key('m'), { timeout: 300 })), 'TIMEOUT')
  t.equal(await outcome(() => listed(view, dataRange(), 300)), 'TIMEOUT')
  t.equal(await outcome(() => view.get(key('m'), { wait: false })), 'OWNER_UNREACHABLE')
})

test('hostile index: changes of steps that claim what is not there', async (t) => {
  for (const [what, blocks] of [
    ['2^40 blocks', [entries(['m', value]), step(1, { data: 2 ** 40 })]],
    ['blocks before its journal', [step(0, { first: -7 }), smallStep(1, ['m', value])]],
    ['fences for entries', [fence(1, 0, []), fence(1, 0, []), step(2, {})]]
  ] as const) {
    const forge = await Forge.open(t)
    await forge.journal(0, ...blocks)
    await forge.layout({})
    const view = await forge.view(t)
    const snapshot = view.snapshot()
    const changes = async (): Promise<string> => {
      for await (const _ of snapshot.changes({ generation: 1, length: 0 }, dataRange())) void 0
      return 'an end'
    }
    t.equal(await outcome(changes), 'CORRUPT', what)
    await snapshot.close()
  }
})

const kept = (numbers: readonly number[]): KeptState[] =>
  numbers.map((number) => ({ number, base: 0, length: 1, bytes: 0, dead: 0 }))
const upTo = (count: number): number[] => Array.from({ length: count }, (_, n) => n)

test('hostile index: layouts that make no sense leave what was known in use, and say so', async (t) => {
  const forge = await Forge.open(t)
  for (const number of [5, 6]) await forge.journal(number, smallStep(0, ['m', value]))
  await forge.layout({ journals: [{ number: 5, base: 100, length: 0 }] })
  const view = await forge.view(t)
  await until(() => view.head.length === 101)
  const many = (count: number): { number: number; base: number; length: number }[] =>
    upTo(count).map((n) => ({ number: 7 + n, base: 101 + n, length: n === count - 1 ? 0 : 1 }))
  const layouts: [string, Uint8Array | Parameters<Forge['layout']>[0]][] = [
    ['no layout', Buffer.from('nonsense')],
    [
      '8 MiB',
      Buffer.concat([
        encodeLayout({ event: 'merged', journals: many(1), runs: [], kept: [] }),
        large
      ])
    ],
    ['the same journal, earlier', { journals: [{ number: 5, base: 0, length: 0 }] }],
    ['the same journal, later', { journals: [{ number: 5, base: 200, length: 0 }] }],
    ['an older journal', { journals: [{ number: 4, base: 200, length: 0 }] }],
    ['a newer journal that is behind', { journals: [{ number: 6, base: 0, length: 0 }] }],
    ['no journal', { journals: [] }],
    ['9 journals', { journals: many(9) }],
    ['4,000 journals', { journals: many(4_000) }],
    ['2^52 blocks', { journals: [{ number: 6, base: 2 ** 52, length: 0 }] }],
    [
      'a gap',
      {
        journals: [
          { number: 6, base: 101, length: 5 },
          { number: 7, base: 200, length: 0 }
        ]
      }
    ],
    ['200,000 kept journals', { journals: many(1), kept: kept(upTo(200_000)) }],
    [
      '65 runs',
      {
        journals: many(1),
        runs: upTo(65).map((n) => ({
          hash: new Uint8Array(32).fill(n),
          length: 2,
          entries: 1,
          bytes: 1,
          top: new Uint8Array(0)
        }))
      }
    ],
    [
      'a run of 2^52 blocks',
      {
        journals: many(1),
        runs: [
          {
            hash: new Uint8Array(32),
            length: 2 ** 52,
            entries: 1,
            bytes: 1,
            top: new Uint8Array(0)
          }
        ]
      }
    ]
  ]
  const heads: number[] = []
  view.onHead(() => heads.push(view.head.length))
  for (const [what, layout] of layouts) {
    const told = heads.length
    if (layout instanceof Uint8Array) await forge.anchor.append([layout])
    else await forge.layout(layout)
    await until(() => heads.length > told, { what: `a word on ${what}` })
    t.ok(isKVSwarmError(view.fault, 'CORRUPT'), what)
    t.equal(view.head.length, 101, 'the head stays')
    t.equal(await outcome(() => view.get(key('m'))), 'value', 'and is read')
  }
  await forge.layout({ journals: [{ number: 6, base: 101, length: 0 }] })
  await until(() => view.head.length === 102)
  t.equal(view.fault, null, 'what makes sense again is followed')
})

test('hostile index: an anchor that grows without end, with thousands of journals each time', async (t) => {
  const forge = await Forge.open(t)
  await forge.journal(0, smallStep(0, ['m', value]))
  await forge.layout({})
  const view = await forge.view(t)
  await until(() => view.head.length === 1)
  let opened = 0
  forge.cores.onOpen = () => opened++
  const before = process.memoryUsage().rss
  const started = performance.now()
  let delayed = 0
  let looked = performance.now()
  const looking = setInterval(() => {
    delayed = Math.max(delayed, performance.now() - looked)
    looked = performance.now()
  }, 20)
  for (let n = 1; n <= 3_000; n++) {
    const numbers = upTo(1_000).map((at) => at + 10_000 * n)
    await forge.layout({
      journals: [{ number: 10_000_000 + n, base: 1, length: 0 }],
      kept: kept(numbers)
    })
  }
  const seconds = (performance.now() - started) / 1000
  clearInterval(looking)
  const bound = 128 + 16 * (seconds + 1)
  t.ok(opened <= bound, `${opened} of 3,000 layouts were followed in ${seconds.toFixed(1)} s`)
  t.ok(forge.cores.logs.length < 10, `${forge.cores.logs.length} cores are open`)
  t.ok(delayed < 2_000, `others waited ${Math.round(delayed)} ms at most`)
  const grown = (process.memoryUsage().rss - before) / mebibytes
  t.ok(grown < 200, `${Math.round(grown)} MiB more`)
})

test('hostile index: values in hundreds of journals are read with few of them open', async (t) => {
  const forge = await Forge.open(t)
  const count = 200
  const bytes = new Uint8Array(2_000)
  const pairs = upTo(count).map((n) => {
    const at = { journal: n, block: 0, length: bytes.length }
    return [`m${String(n).padStart(5, '0')}`, at] as const
  })
  const blocks: Uint8Array[] = []
  const lowest: string[] = []
  for (let n = 0; n < count; n += 20) {
    blocks.push(entries(...pairs.slice(n, n + 20)))
    if (n > 0) lowest.push(pairs[n]?.[0] ?? '')
  }
  for (const n of upTo(count)) await forge.journal(n, encodeValueBlock(bytes), smallStep(1))
  await forge.journal(count, smallStep(0, ['zz', value]))
  await forge.layout({
    journals: [{ number: count, base: count, length: 0 }],
    runs: [await forge.run([...blocks, fence(1, 0, lowest)])],
    kept: kept(upTo(count))
  })
  const view = await forge.view(t)
  await until(() => view.head.length === count + 1)
  for (const pass of [1, 2]) {
    t.equal(await outcome(() => listed(view, dataRange())), `${count + 1} entries`, `list ${pass}`)
    const open = (): number => forge.cores.logs.length
    await until(() => open() <= indexKeptOpenMax + 3, { what: 'the others to be closed' })
  }
})

test('hostile index: more parts than an index has', async (t) => {
  const forge = await Forge.open(t)
  const journals = upTo(8).map((n) => ({ number: n, base: 257 * n, length: n === 7 ? 0 : 257 }))
  for (const n of upTo(8)) {
    const blocks = upTo(256).map(() => fence(1, 0, []))
    const sources = upTo(256).map((at) => source('fence', 255 - at))
    await forge.journal(n, ...blocks, step(256, { sources }))
  }
  await forge.layout({ journals })
  const view = await forge.view(t)
  t.equal(await outcome(() => view.get(key('m'))), 'CORRUPT')
  t.equal(await outcome(() => listed(view, dataRange())), 'CORRUPT')
})

test('hostile index: a read takes a bounded number of bytes, whatever leads on', async (t) => {
  const forge = await Forge.open(t)
  // Front-coded, a kibibyte a text takes three bytes of a block, and all of them in memory.
  const stem = 'x'.repeat(900)
  const names = upTo(1_000).map(
    (n) => stem + String.fromCharCode(33 + (n % 90), 40 + Math.floor(n / 90))
  )
  const lowest = names.map(text).toSorted()
  const writer = new ByteWriter()
  const level = (at: number, first: number): Uint8Array => {
    writer.byte(0x13)
    writer.byte(at)
    for (const one of [first, 1_000, 0]) writer.uint(one)
    let before = ''
    for (const one of ['', ...lowest.slice(1)]) {
      writer.text(before, one)
      before = one
    }
    return writer.take()
  }
  const sources = upTo(250).map((at) => source('fence', 1_000 + 249 - at))
  const blocks = upTo(1_000).map(() => entries(['a', value]))
  for (const n of upTo(4)) {
    await forge.journal(n, ...blocks, ...upTo(250).map(() => level(1, 0)), step(1_250, { sources }))
  }
  const journals = upTo(4).map((n) => ({ number: n, base: 1_251 * n, length: n === 3 ? 0 : 1_251 }))
  await forge.layout({ journals })
  const view = await forge.view(t)
  const before = process.memoryUsage().rss
  t.equal(await outcome(() => view.get(key('m'), { timeout: 10_000 })), 'CORRUPT', 'get')
  t.equal(await outcome(() => listed(view, dataRange(), 10_000)), 'CORRUPT', 'list')
  const grown = (process.memoryUsage().rss - before) / mebibytes
  t.ok(grown < 700, `${Math.round(grown)} MiB more`)
})
