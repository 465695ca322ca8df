import test from 'tape'
import Config from '../../config/index.ts'
import { isKVSwarmError } from '../../lib/errors.ts'
import { random } from '../helpers/random.ts'
import { randomChanges, slicingSequence } from '../slices/sequences.ts'
import { A, B, C, D, zD } from './ids.ts'

const golden = `{
  "bins": {
    "${A}": {"size":5,"slices":"0+7CEONLt-Z"},
    "${B}": {"size":10,"slices":"7CEONLt-Z+EOSmkhlz5"},
    "${C}": {"size":0.000001,"slices":"Lah961dxe+O8GW6"},
    "${D}": {"size":7.25,"slices":"Lah9U9uRk+ARKsXs7aI"}
  },
  "bootstrap": ["127.0.0.1:4000","[::1]:5","node.example:65535"],
  "epoch": 3,
  "hashKey": "00112233445566778899aabbccddeeff",
  "version": 2,
  "writers": [
    "${A}",
    "${D}"
  ]
}
`

test('the canonical text', (t) => {
  const config = new Config({
    bootstrap: ['127.0.0.1:4000', '[::1]:5', 'node.example:65535'],
    epoch: 3,
    capacities: { [D]: 7.25, [C]: 0.000001, [A]: 5, [B]: 10 },
    writers: [zD, A.toUpperCase()],
    hashKey: '00112233445566778899AABBCCDDEEFF'
  })
  t.equal(config.serialize(), golden)
  t.equal(Config.parse(golden).serialize(), golden)
  t.end()
})

test('a text of the same document in another form is the same document', (t) => {
  const value = JSON.parse(golden) as { bins: Record<string, unknown>; writers: string[] }
  const { hash } = Config.parse(golden)
  t.equal(Config.parse(JSON.stringify(value)).hash, hash)
  const reversed = {
    ...Object.fromEntries(Object.entries(value).toReversed()),
    writers: [zD, A],
    bins: Object.fromEntries(
      Object.entries(value.bins)
        .toReversed()
        .map(([id, bin]) => [id === D ? zD : id.toUpperCase(), bin])
    )
  }
  t.equal(Config.parse(JSON.stringify(reversed, null, '\t')).hash, hash)
  t.end()
})

test('what is written is read as the same, after any changes', (t) => {
  const source = random(t)
  let config: Config | null = null
  let steps = 0
  let wrong = 0
  for (const capacities of randomChanges(source, 25)) {
    if (config === null) config = new Config({ capacities, hashKey: Config.randomHashKey() })
    else {
      const writers = source.shuffle(config.storageNodes).slice(0, source.int(0, 5))
      const mixed = Object.fromEntries(source.shuffle(Object.entries(capacities)))
      const other: Config = Config.parse(config.serialize())
      config.update({ capacities, writers })
      other.update({ capacities: mixed, writers: writers.toReversed() })
      if (other.serialize() !== config.serialize()) wrong++
    }
    const text = config.serialize()
    const read = Config.parse(text)
    if (read.serialize() !== text || read.hash !== config.hash) wrong++
    if (read.slicesHash !== config.slicesHash || read.epoch !== config.epoch) wrong++
    if (JSON.stringify(read.capacities) !== JSON.stringify(config.capacities)) wrong++
    if (++steps === 200) break
  }
  t.equal(wrong, 0)
  t.end()
})

test('a configuration is small: at most 40 bytes a slice and 100 bytes a node', (t) => {
  let config: Config | null = null
  for (const capacities of slicingSequence()) {
    if (config === null) config = new Config({ capacities })
    else config.update({ capacities })
  }
  if (config === null) throw new Error('no change')
  const bytes = Buffer.byteLength(config.serialize())
  const [slices, nodes] = [config.slices.length, config.storageNodes.length]
  t.ok(bytes <= 40 * slices + 100 * nodes, `${bytes} bytes, ${slices} slices, ${nodes} nodes`)
  t.end()
})

test('a damaged text is refused with CONFIG_INVALID or is another valid configuration', (t) => {
  const source = random(t)
  const config = new Config({ capacities: { [A]: 1, [B]: 2, [C]: 3 }, writers: [D] })
  config.update({ capacities: { [D]: 2.5 } })
  const text = config.serialize()
  const pieces = [
    '"',
    '{',
    '}',
    '[',
    ']',
    ',',
    ':',
    '0',
    '+',
    '-',
    ' ',
    '\\',
    'null',
    '__proto__',
    '1e9',
    '\u0000',
    '"size":5,'
  ]
  let refused = 0
  let accepted = 0
  for (let i = 0; i < 4000; i++) {
    const at = source.int(0, text.length)
    const gone = source.pick([0, 1, 1, 2, 10])
    const damaged = text.slice(0, at) + source.pick(pieces) + text.slice(at + gone)
    try {
      const read = Config.parse(damaged)
      accepted++
      if (Config.parse(read.serialize()).hash !== read.hash) t.fail(`not canonical: ${damaged}`)
    } catch (error) {
      if (isKVSwarmError(error, 'CONFIG_INVALID') && !error.message.includes('\n')) refused++
      else {
        t.fail(`${String(error)} for ${damaged}`)
        break
      }
    }
  }
  t.equal(refused + accepted, 4000, `${refused} refused, ${accepted} accepted`)
  t.ok(refused > 3000)
  t.end()
})
