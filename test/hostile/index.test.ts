/** An index that its own storage node has signed and made wrong on purpose: readers get an error, in time. */
import test, { type Test } from 'tape'
import { isKVSwarmError } from '../../lib/errors.ts'
import { BeeIndex, BeeView } from '../../lib/hyper/bee.ts'
import { Store } from '../../lib/hyper/store.ts'
import type { IndexRange } from '../../lib/ports.ts'
import { encodeKey } from '../../lib/wire/keys.ts'
import { dataKey, dataRange, encodeEntry } from '../../lib/wire/records.ts'
import { makeStamp } from '../../lib/wire/stamps.ts'
import { encodeValue } from '../../lib/wire/values.ts'
import { cleanup } from '../helpers/cleanup.ts'
import { deadline } from '../helpers/events.ts'
import { random } from '../helpers/random.ts'
import { tmpdir } from '../helpers/tmp.ts'
import { header, treeBlock, treeNode, type TreeNode } from './tree-blocks.ts'

/** Far more than any of these takes; an endless loop would not even let it pass. */
const boundMs = 20_000
const key = (name: string): Uint8Array => dataKey(encodeKey(name))
const value: Uint8Array = encodeEntry({
  value: encodeValue('v'),
  versionstamp: makeStamp({ epoch: 1, serial: 1, counter: 1 }),
  expireAt: 0
})
const leaf = (...keys: number[]): TreeNode => ({ keys })

/** A view of an index with these blocks behind the header. */
async function viewOf(t: Test, blocks: readonly Uint8Array[]): Promise<BeeView> {
  const store = await Store.open({ directory: tmpdir(t), durability: 'os' })
  cleanup(t, () => store.close())
  const name = { kind: 'index', node: store.nodeId } as const
  const log = await store.begin(name, 1)
  await log.append([header, ...blocks])
  const view = await BeeView.open(await store.peerLog(name, 1))
  cleanup(t, () => view.close())
  return view
}

async function listed(view: BeeView, range: IndexRange, max = 10_000): Promise<string> {
  const snapshot = view.snapshot()
  let entries = 0
  try {
    for await (const _ of snapshot.range(range, { timeout: 5_000 })) {
      if (++entries > max) return 'no end'
    }
    return `${entries} entries`
  } finally {
    await snapshot.close()
  }
}

async function outcome(t: Test, view: BeeView, run: () => Promise<unknown>): Promise<string> {
  try {
    const result = await deadline(run(), boundMs, 'an answer')
    return result instanceof Uint8Array ? 'value' : String(result)
  } catch (error) {
    if (!isKVSwarmError(error)) return `no code: ${String(error)}`
    if (error.code === 'CORRUPT') t.ok(error.message.includes(view.node), 'the node is named')
    return error.code
  }
}

/** A chain of blocks, each with one key and the one before as its children: as deep as it is long. */
function chain(length: number): Uint8Array[] {
  return Array.from({ length }, (_, i) => {
    const seq = i + 1
    const name = `k${String(length - i).padStart(8, '0')}`
    const children: [number, number][] =
      i === 0
        ? []
        : [
            [seq - 1, 0],
            [seq - 1, 0]
          ]
    return treeBlock(key(name), value, [{ keys: [seq], children }])
  })
}

/** Tree nodes of one block, each leading to the next. */
function nested(count: number): TreeNode[] {
  return Array.from({ length: count }, (_, i) => ({
    keys: [1],
    ...(i === count - 1
      ? {}
      : {
          children: [
            [1, i + 1],
            [1, i + 1]
          ] as [number, number][]
        })
  }))
}

const a = key('a')
const m = key('m')
const lies: readonly [what: string, blocks: readonly Uint8Array[]][] = [
  [
    'a root that is its own child',
    [
      treeBlock(m, value, [
        {
          keys: [1],
          children: [
            [1, 0],
            [1, 0]
          ]
        }
      ])
    ]
  ],
  [
    'two tree nodes that are each other’s children',
    [
      treeBlock(m, value, [
        {
          keys: [1],
          children: [
            [1, 1],
            [1, 1]
          ]
        },
        {
          keys: [1],
          children: [
            [1, 0],
            [1, 0]
          ]
        }
      ])
    ]
  ],
  [
    'blocks that are each other’s children',
    [
      treeBlock(m, value, [
        {
          keys: [1],
          children: [
            [2, 0],
            [2, 0]
          ]
        }
      ]),
      treeBlock(a, value, [
        {
          keys: [1],
          children: [
            [1, 0],
            [1, 0]
          ]
        }
      ])
    ]
  ],
  [
    'a child beyond the end of the log',
    [
      treeBlock(m, value, [
        {
          keys: [1],
          children: [
            [99, 0],
            [99, 0]
          ]
        }
      ])
    ]
  ],
  [
    'a child in block 2^52',
    [
      treeBlock(m, value, [
        {
          keys: [1],
          children: [
            [2 ** 52, 0],
            [1, 1]
          ]
        }
      ])
    ]
  ],
  ['a key beyond the end of the log', [treeBlock(m, value, [leaf(77)])]],
  ['a key in the header', [treeBlock(m, value, [leaf(0)])]],
  [
    'a child that the other block does not have',
    [
      treeBlock(m, value, [leaf(1)]),
      treeBlock(a, value, [
        {
          keys: [1],
          children: [
            [1, 5],
            [1, 5]
          ]
        }
      ])
    ]
  ],
  ['a block without tree nodes', [treeBlock(m, value, [])]],
  [
    'children without keys',
    [treeBlock(m, value, [leaf(1)]), treeBlock(a, value, [{ keys: [], children: [[1, 0]] }])]
  ],
  [
    'more keys than children',
    [treeBlock(m, value, [leaf(1)]), treeBlock(a, value, [{ keys: [1, 2, 1], children: [[1, 0]] }])]
  ],
  [
    'a node of 100,000 keys',
    [treeBlock(m, value, [leaf(...Array.from({ length: 100_000 }, () => 1))])]
  ],
  ['a million empty tree nodes', [treeBlock(m, value, Buffer.alloc(2_000_000, '0a00', 'hex'))]],
  ['a tree of 10,000 levels in a block', [treeBlock(m, value, nested(10_000))]],
  ['bytes for tree nodes', [treeBlock(m, value, Buffer.alloc(64, 0xff))]],
  ['a length of 2^50', [treeBlock(m, value, Buffer.from('0affffffffffffff0f', 'hex'))]],
  ['a block that is no tree block', [Buffer.from('no tree at all')]],
  ['an empty block', [Buffer.alloc(0)]],
  ['8 MB of zeros', [Buffer.alloc(8 * 1024 * 1024)]]
]

for (const [what, blocks] of lies) {
  test(`hostile index: ${what}`, async (t) => {
    const view = await viewOf(t, blocks)
    const looked = ['a', 'b', 'm', 'z']
    const gets: string[] = []
    for (const name of looked) {
      gets.push(await outcome(t, view, () => view.get(key(name), { timeout: 5_000 })))
    }
    t.ok(gets.includes('CORRUPT'), `get: ${gets.join(' ')}`)
    t.ok(
      gets.every((one) => ['CORRUPT', 'value', 'null'].includes(one)),
      'and never anything else'
    )
    const snapshot = view.snapshot()
    t.equal(await outcome(t, view, () => snapshot.get(key('b'))), gets[1], 'the same of a snapshot')
    await snapshot.close()
    for (const reverse of [false, true]) {
      const range = { ...dataRange(), reverse }
      t.equal(await outcome(t, view, () => listed(view, range)), 'CORRUPT', `list ${reverse}`)
    }
  })
}

test('hostile index: entries out of order, twice, without end', async (t) => {
  const cases: [string, readonly Uint8Array[]][] = [
    ['out of order', [treeBlock(m, value, [leaf(1)]), treeBlock(a, value, [leaf(1, 2)])]],
    ['twice', [treeBlock(m, value, [leaf(1, 1)])]],
    [
      'without end: the same subtree everywhere',
      Array.from({ length: 40 }, (_, i) =>
        treeBlock(
          m,
          value,
          i === 0
            ? [leaf(1)]
            : [
                {
                  keys: [i + 1],
                  children: [
                    [i, 0],
                    [i, 0]
                  ]
                }
              ]
        )
      )
    ]
  ]
  for (const [what, blocks] of cases) {
    const view = await viewOf(t, blocks)
    const both: string[] = []
    for (const reverse of [false, true]) {
      both.push(await outcome(t, view, () => listed(view, { ...dataRange(), reverse })))
    }
    t.ok(both.includes('CORRUPT'), `${what}: ${both.join(', ')}`)
    t.notOk(both.includes('no end'), 'and it ends')
  }
})

test('hostile index: a tree as deep as its log is long takes a bounded number of blocks', async (t) => {
  const view = await viewOf(t, chain(5_000))
  const before = process.memoryUsage().rss
  t.equal(await outcome(t, view, () => view.get(key('zzz'))), 'CORRUPT', 'get')
  t.equal(await outcome(t, view, () => listed(view, dataRange())), 'CORRUPT', 'list')
  const megabytes = (process.memoryUsage().rss - before) / 2 ** 20
  t.ok(megabytes < 64, `${Math.round(megabytes)} MB more`)
})

test('an honest index is read: every key, both ways, after many kinds of batches', async (t) => {
  const rng = random(t)
  const store = await Store.open({ directory: tmpdir(t), durability: 'os' })
  cleanup(t, () => store.close())
  const name = { kind: 'index', node: store.nodeId } as const
  const index = await BeeIndex.open(await store.begin(name, 1))
  const view = await BeeView.open(await store.peerLog(name, 1))
  cleanup(t, () => Promise.all([view.close(), index.close()]))
  const model = new Map<string, Uint8Array>()
  for (const size of [1, 5, 60, 2_500, 1, 700, 1_500, 3]) {
    const changes = Array.from({ length: size }, () => {
      const at = key(`k${rng.int(0, 3_000)}`)
      const gone = rng.chance(0.4)
      const name = Buffer.from(at).toString('latin1')
      if (gone) model.delete(name)
      else model.set(name, value)
      return { key: at, value: gone ? null : value }
    })
    await index.apply(changes)
    const sorted = [...model.keys()].map((one) => Buffer.from(one, 'latin1')).sort(Buffer.compare)
    for (const reverse of [false, true]) {
      const found: Buffer[] = []
      const snapshot = view.snapshot()
      for await (const entry of snapshot.range({ ...dataRange(), reverse })) {
        found.push(Buffer.from(entry.key))
      }
      await snapshot.close()
      t.deepEqual(found, reverse ? sorted.toReversed() : sorted, `${sorted.length} keys`)
    }
    for (let i = 0; i < 50; i++) {
      const at = key(`k${rng.int(0, 3_000)}`)
      const there = model.has(Buffer.from(at).toString('latin1'))
      if (((await view.get(at)) !== null) !== there) t.fail('a get differs')
    }
  }
})

test('tree blocks of this file are what hyperbee reads', async (t) => {
  const view = await viewOf(t, [
    treeBlock(a, value, [leaf(1)]),
    treeBlock(m, value, [leaf(1, 2)]),
    treeBlock(key('z'), value, [
      {
        keys: [2],
        children: [
          [2, 1],
          [3, 1]
        ]
      },
      leaf(3)
    ])
  ])
  t.equal(treeNode(leaf(1)).toString('hex'), '0a030a0101')
  t.equal(await outcome(t, view, () => view.get(key('z'))), 'value')
  t.equal(await outcome(t, view, () => view.get(key('m'))), 'value')
})
