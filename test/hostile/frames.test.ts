// time limit: 10 min
/**
 * Malformed frames against a storage node that is a process of its own: on the stream below the handshake, on the
 * multiplexer, on our channel and on hypercore's. It neither ends nor hangs, and takes no more memory.
 */
import type NoiseSecretStream from '@hyperswarm/secret-stream'
import Corestore from 'corestore'
import HypercoreStorage from 'hypercore-storage'
import test from 'tape'
import { Store } from '../../lib/hyper/store.ts'
import type { KeyPair } from '../../lib/types.ts'
import { pause } from '../../lib/wait.ts'
import { encodeMessage, type Message } from '../../lib/wire/messages.ts'
import { logNamespace } from '../../lib/wire/namespaces.ts'
import { cleanup } from '../helpers/cleanup.ts'
import { deadline } from '../helpers/events.ts'
import { random, type Random } from '../helpers/random.ts'
import { tmpdir } from '../helpers/tmp.ts'
import { makeSite } from '../e2e/site.ts'
import { keyPairOf } from '../network/node.ts'
import { Dialler, megabytesOf } from './dialler.ts'
import { manifestOf, speak } from './raw.ts'

const framesMin = 100_000
/** Written together before the other side's answer, or its end, is looked at. */
const burst = 16
/** Bytes at which encodings change their meaning. */
const edges = [0, 1, 2, 3, 7, 8, 9, 10, 0x7f, 0x80, 0xfb, 0xfc, 0xfd, 0xfe, 0xff]

/** So that what was sent is on its way, and what came is seen: nothing tells when, and waiting for more is vain. */
function turn(): Promise<void> {
  return pause(1)
}

function body(rng: Random): Uint8Array {
  switch (rng.int(0, 4)) {
    case 0:
      return rng.bytes(rng.int(0, 40))
    case 1:
      return Buffer.alloc(rng.int(1, 80), 0xff)
    case 2:
      return Uint8Array.from({ length: rng.int(1, 60) }, () => rng.pick(edges))
    case 3: // a number of up to 2^64, then others
      return Buffer.concat([Buffer.from([0xff]), rng.bytes(8), Buffer.from([rng.pick(edges)])])
    default:
      return rng.bytes(rng.int(100, 2_000))
  }
}

/** Gives one malformed frame to a stream. */
type Malform = (rng: Random) => void

/** Makes ready what is to be malformed, on a fresh connection. */
type Level = (stream: NoiseSecretStream) => Promise<Malform>

function mutated(rng: Random, bytes: Uint8Array): Uint8Array {
  const copy = Buffer.from(bytes)
  for (let i = rng.int(0, 3); i >= 0 && copy.length > 0; i--) {
    copy[rng.int(0, copy.length - 1)] = rng.pick(edges)
  }
  return rng.chance(0.2) ? copy.subarray(0, rng.int(0, copy.length)) : copy
}

test('100,000 malformed frames: the node serves on, and takes no more memory', async (t) => {
  const rng = random(t)
  const site = await makeSite(t, { capacities: { a: 1 }, writers: ['x', 'y'] })
  const [node] = await site.listen('a')
  if (node === undefined) throw new Error('no node')
  const honest = site.open('x')
  await honest.connect()
  for (let n = 0; n < 100; n++) honest.put(['k', n], `value ${n}`)
  await honest.flush({ receipt: true })
  const { index } = await honest.status().then(({ views }) => ({ index: views[0]?.head }))
  if (index === undefined) throw new Error('no index')

  const target = site.id('a')
  const dialler = await Dialler.open(t, site.bootstrap)
  const named = await keyPairIn(site.directory('y'))
  const hello: Message = {
    type: 'hello',
    protocolVersion: 1,
    epoch: site.config.epoch,
    configHash: site.config.hash
  }
  const messages: Message[] = [
    hello,
    { type: 'ack', generation: 1, length: 2 },
    { type: 'applied', generation: 1, length: 2, index: { generation: 1, length: 2 }, rejected: 1 },
    { type: 'headRequest', id: 7 },
    { type: 'head', id: 7, generation: 1, length: 2 },
    { type: 'records', records: [Buffer.alloc(120, 1)] }
  ]
  const store = new Corestore(new HypercoreStorage(tmpdir(t)))
  await store.ready()
  cleanup(t, () => store.close())
  const name = { kind: 'index', node: target } as const
  const manifest = manifestOf(target, logNamespace(name, index.generation))

  const levels: Record<string, Level> = {
    stream: async (stream) => (rng) => void stream.rawStream?.write(Buffer.from(body(rng))),
    multiplexer: async (stream) => {
      stream.resume()
      const frame = (rng: Random): Uint8Array =>
        Buffer.concat([Buffer.from([rng.pick([0, 0, 0, 1, 2]), rng.int(0, 4)]), body(rng)])
      return (rng) => void stream.write(Buffer.from(frame(rng)))
    },
    'our channel': async (stream) => {
      const { say } = speak(stream, hello)
      return (rng) => say(mutated(rng, encodeMessage(rng.pick(messages))))
    },
    hypercore: async (stream) => {
      const { mux } = speak(stream, hello)
      const core = store.get({ manifest: manifest as never })
      await core.ready()
      core.replicate(mux)
      const opened = (): boolean => core.peers.length > 0 || stream.destroying
      for (let i = 0; i < 1_000 && !opened(); i++) await turn()
      // Channel 1 is ours, 2 the core's. Messages 0 to 9, as they stand or with nonsense in them.
      const frame = (rng: Random): Uint8Array =>
        Buffer.concat([Buffer.from([2, rng.int(0, 9)]), body(rng)])
      stream.on('close', () => void core.close())
      return (rng) => void stream.write(Buffer.from(frame(rng)))
    }
  }

  /** Sends to one connection until it is closed; gives how many frames. */
  const attack = async (level: Level, keyPair: KeyPair, max: number): Promise<number> => {
    const stream = await deadline(dialler.connect(target, keyPair), 20_000, 'a connection')
    if (stream === null) return 0
    const malform = await level(stream)
    let sent = 0
    while (sent < max && !stream.destroying) {
      for (let i = 0; i < burst && !stream.destroying; i++, sent++) malform(rng)
      await turn()
    }
    stream.destroy()
    return sent
  }

  for (const level of Object.values(levels)) await attack(level, keyPairOf('first'), 1_000)
  const before = megabytesOf(node.pid)
  let frames = 0
  const each = new Map<string, { frames: number; connections: number }>()
  const from = performance.now()
  for (let round = 0; frames < framesMin; round++) {
    const names = Object.keys(levels)
    const name = names[round % names.length] as string
    const keyPair = rng.chance(0.3) ? named : keyPairOf(`stranger ${round % 40}`)
    const sent = await attack(levels[name] as Level, keyPair, 2_000)
    frames += sent
    const so = each.get(name) ?? { frames: 0, connections: 0 }
    each.set(name, { frames: so.frames + sent, connections: so.connections + 1 })
    if (round % 100 === 0) {
      t.equal(await honest.get(['k', round % 100], { fresh: true }), `value ${round % 100}`)
    }
  }
  for (const [name, so] of each) t.comment(`${name}: ${so.frames} over ${so.connections}`)
  t.comment(`${Math.round(performance.now() - from)} ms`)
  t.ok(frames >= framesMin, `${frames} frames`)
  t.equal(await honest.get(['k', 5], { fresh: true }), 'value 5', 'the honest reader is served')
  honest.put('after', 1)
  await honest.flush({ receipt: true })
  t.pass('and the honest writer')
  const grown = megabytesOf(node.pid) - before
  t.ok(grown < 64, `${Math.round(grown)} MB more than ${Math.round(before)}`)
  const said = node.stderr.split('\n').filter((line) => line !== '')
  const known =
    /^warning: .*(another configuration|version \d+ of the protocol|left out|has deleted what it wrote)/
  t.deepEqual(
    said.filter((line) => !known.test(line)),
    [],
    'what a writer says of itself is reported, nothing else'
  )
  t.ok(said.length < 100, `in ${said.length} lines`)
})

/** The identity of a data directory. */
async function keyPairIn(directory: string): Promise<KeyPair> {
  const store = await Store.open({ directory, durability: 'sync' })
  const { keyPair } = store
  await store.close()
  return { publicKey: keyPair.publicKey, secretKey: keyPair.secretKey }
}
