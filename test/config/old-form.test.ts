import test from 'tape'
import Config, { type ConfigOptions } from '../../config/index.ts'
import { A, B, C, refusal, zD } from './ids.ts'

const space = Config.SPACE

/** The example of the module that the original kvswarm used: A shrank from 40 to 32, C came with 80. */
const bins = {
  [A]: {
    size: 32,
    slices: [
      [
        ['0', '1'],
        ['4', '29']
      ]
    ]
  },
  [B]: {
    size: 120,
    slices: [
      [
        ['1', '4'],
        ['89', '116']
      ]
    ]
  },
  [C]: {
    size: 80,
    slices: [
      [
        ['4', '29'],
        ['1', '4']
      ],
      [
        ['89', '116'],
        ['1', '1']
      ]
    ]
  }
} as const satisfies ConfigOptions['bins']

/** n / d of the space, to the nearest point. */
const point = (n: bigint, d: bigint): bigint => (2n * n * space + d) / (2n * d)

const expected = [
  { start: 0n, end: point(4n, 29n), owner: A },
  { start: point(4n, 29n), end: space / 4n, owner: C },
  { start: space / 4n, end: point(89n, 116n), owner: B },
  { start: point(89n, 116n), end: space, owner: C }
]

test('the JSON of the original kvswarm is read', (t) => {
  const config = Config.parse(JSON.stringify({ writers: [C], bins }))
  t.equal(config.epoch, 1)
  t.equal(config.hashKey, new Config({ capacities: { [A]: 1 } }).hashKey)
  t.deepEqual(config.writers, [C])
  t.deepEqual(config.capacities, { [A]: 32, [B]: 120, [C]: 80 })
  t.deepEqual(config.slices, expected)
  t.equal(Config.parse(config.serialize()).hash, config.hash)
  config.update({ capacities: { [zD]: 8 } })
  t.equal(config.epoch, 2)
  t.end()
})

test('fractions are numbers, text or bigints in code, and ends may be plain numbers', (t) => {
  const asBigints = {
    [A]: {
      size: 32n,
      slices: [
        [
          [0n, 1n],
          [4n, 29n]
        ]
      ]
    },
    [B]: {
      size: '120',
      slices: [
        [
          [1, 4],
          ['89', 116n]
        ]
      ]
    },
    [C]: {
      size: 80,
      slices: [
        [[89, 116], 1],
        [[8, 58], 0.25]
      ]
    }
  } as const satisfies ConfigOptions['bins']
  t.deepEqual(new Config({ bins: asBigints }).slices, expected)
  t.end()
})

test('fractions with very many digits are read to the nearest point', (t) => {
  // 1/3 and 2/3 written with 200 digits, as long sequences of changes leave them
  const one = '3'.repeat(200)
  const two = '6'.repeat(200)
  const whole = '9'.repeat(200)
  const config = new Config({
    bins: {
      [A]: {
        size: 1,
        slices: [
          [
            [0, 1],
            [one, whole]
          ]
        ]
      },
      [B]: {
        size: 1,
        slices: [
          [
            [one, whole],
            [two, whole]
          ]
        ]
      },
      [C]: {
        size: 1,
        slices: [
          [
            [two, whole],
            [whole, whole]
          ]
        ]
      }
    }
  })
  t.deepEqual(
    config.slices.map(({ start }) => start),
    [0n, point(1n, 3n), point(2n, 3n)]
  )
  t.end()
})

test('slices in any order, split, or without points are as good', (t) => {
  const config = new Config({
    bins: {
      [A]: {
        size: 1,
        slices: [
          [
            [1, 4],
            [1, 2]
          ],
          [
            [0, 1],
            [1, 4]
          ],
          [
            [1, 3],
            [1, 3]
          ]
        ]
      },
      [B]: {
        size: 1,
        slices: [
          [
            [1, 2],
            [1, 1]
          ]
        ]
      }
    }
  })
  t.deepEqual(config.slices, [
    { start: 0n, end: space / 2n, owner: A },
    { start: space / 2n, end: space, owner: B }
  ])
  t.end()
})

test('slices that do not fit the sizes are adjusted, by the least that does', (t) => {
  const text = JSON.stringify({
    writers: [],
    bins: {
      [A]: {
        size: 1,
        slices: [
          [
            [0, 1],
            [1, 2]
          ]
        ]
      },
      [B]: {
        size: 3,
        slices: [
          [
            [1, 2],
            [1, 1]
          ]
        ]
      }
    }
  })
  const config = Config.parse(text)
  t.deepEqual(config.slices, [
    { start: 0n, end: space / 4n, owner: A },
    { start: space / 4n, end: space, owner: B }
  ])
  t.equal(Config.parse(config.serialize()).hash, config.hash)
  t.end()
})

test('what is no configuration of the original kvswarm is refused', (t) => {
  const parse = (value: unknown) => refusal(() => Config.parse(JSON.stringify(value)))
  const bin = (slices: unknown) => parse({ writers: [], bins: { [A]: { size: 1, slices } } })
  t.match(parse({ bins }), /^writers: missing$/)
  t.match(parse({ writers: [] }), /^bins: missing$/)
  t.match(parse({ writers: [], bins: {} }), /^bins: no storage node is named$/)
  t.match(parse({ writers: [], bins, mirrors: {} }), /^mirrors: unknown key$/)
  t.match(
    bin([
      [
        [0, 1],
        [1, 2]
      ]
    ]),
    /^bins: no slice covers the points 4503599627370496 to 9007199254740991$/
  )
  t.match(bin([]), /^bins: no slice covers the points 0 to 9007199254740991$/)
  t.match(
    bin([
      [
        [0, 1],
        [2, 3]
      ],
      [
        [1, 3],
        [1, 1]
      ]
    ]),
    /^bins\.a1\w+\.slices\[1\]: overlaps bins\.a1\w+\.slices\[0\] in the points 3002399751580331 to 6004799503160660$/
  )
  for (const slice of [
    [
      [0, 1],
      [1, 0]
    ],
    [
      [0, 1],
      [2, 1]
    ],
    [
      [0, 1],
      [-1, -1]
    ],
    [
      [0, 1],
      ['1.5', '2']
    ],
    [
      [0, 1],
      ['', '1']
    ],
    [[0, 1], [1]],
    [
      [0, 1],
      [1, 1, 1]
    ],
    [[0, 1], 1.5],
    [[0, 1], null],
    [
      [1, 1],
      [0, 1]
    ],
    [[0, 1]],
    [],
    'x',
    null,
    [
      [0, 1],
      ['9'.repeat(1001), '9'.repeat(1001)]
    ]
  ]) {
    t.match(
      bin([slice]),
      /^bins\.a1\w+\.slices\[0\]: expected an interval/,
      JSON.stringify(slice).slice(0, 60)
    )
  }
  t.match(bin('0+W00000000'), /slices: expected an array of intervals/)
  t.end()
})
