// time limit: 10 min
/**
 * 500 connections of strangers that do nothing, half of a handshake, or everything but read, against a storage node
 * that is a process of its own: few get in, and those whom the configuration names do not notice.
 */
import { createSocket } from 'node:dgram'
import type NoiseSecretStream from '@hyperswarm/secret-stream'
import test from 'tape'
import { connectionsUnnamedMax, handshakesUnnamedMax } from '../../config/limits.ts'
import { encodeMessage } from '../../lib/wire/messages.ts'
import { cleanup } from '../helpers/cleanup.ts'
import { until } from '../helpers/events.ts'
import { random } from '../helpers/random.ts'
import { makeSite } from '../e2e/site.ts'
import { keyPairOf } from '../network/node.ts'
import { Dialler, megabytesOf } from './dialler.ts'
import { speak } from './raw.ts'

const strangers = 500
const samples = 150

function p99(times: readonly number[]): number {
  return times.toSorted((a, b) => a - b)[Math.floor(0.99 * (times.length - 1))] ?? Number.NaN
}

test('500 idle and half-open connections: 64 at most get in, and the honest do not wait', async (t) => {
  const rng = random(t)
  const site = await makeSite(t, { capacities: { a: 1 }, writers: ['x'] })
  const [node] = await site.listen('a')
  if (node === undefined) throw new Error('no node')
  const honest = site.open('x')
  await honest.connect()
  const target = site.id('a')
  let written = 0
  /** Milliseconds of a receipted write and a fresh read each. */
  const measure = async (count: number): Promise<number[]> => {
    const times: number[] = []
    for (let i = 0; i < count; i++) {
      const from = performance.now()
      honest.put(['k', ++written], written)
      await honest.flush({ receipt: true })
      if ((await honest.get(['k', written], { fresh: true })) !== written) t.fail('another value')
      times.push(performance.now() - from)
    }
    return times
  }
  await measure(100)
  const alone = p99(await measure(samples))
  const before = megabytesOf(node.pid)

  const hello = encodeMessage({
    type: 'hello',
    protocolVersion: 1,
    epoch: site.config.epoch,
    configHash: site.config.hash
  })
  const dialler = await Dialler.open(t, site.bootstrap)
  const open = new Set<NoiseSecretStream>()
  const silent = new Set<NoiseSecretStream>()
  let most = 0
  const behaviours: ((stream: NoiseSecretStream) => void)[] = [
    // Silent behind the handshake.
    () => {},
    // A channel, and no hello.
    (stream) => void speak(stream, null),
    // A hello, questions without end, and nothing is ever read.
    (stream) => {
      const { say } = speak(stream, hello)
      const question = encodeMessage({ type: 'headRequest', id: 1 })
      for (let i = 0; i < 2_000; i++) say(question)
      stream.pause()
    },
    // Half a frame of the largest size.
    (stream) => void stream.rawStream?.write(Buffer.from([0xff, 0xff, 0x07, 1, 2, 3]))
  ]
  /** The place of the one that says hello: it may stay, as an idle reader may. */
  const greeting = 2
  // Half a handshake: what comes back is not answered any more.
  const half = (stream: NoiseSecretStream): void => {
    setTimeout(() => stream.destroy(), rng.int(5, 60)).unref()
  }
  for (let i = 0; i < strangers; i++) {
    const stream = dialler.begin(target, keyPairOf(`idle ${i}`))
    if (i % 5 === 4) half(stream)
    void stream.opened.then((opened) => {
      if (!opened) return
      open.add(stream)
      if (i % behaviours.length !== greeting) silent.add(stream)
      most = Math.max(most, open.size)
      stream.on('close', () => {
        open.delete(stream)
        silent.delete(stream)
      })
      behaviours[i % behaviours.length]?.(stream)
    })
    if (i % 50 === 49) await until(() => true)
  }
  // Noise on the socket itself.
  const udp = createSocket('udp4')
  cleanup(t, () => udp.close())
  const port = Number(site.bootstrap.split(':')[1])
  for (let i = 0; i < 2_000; i++) udp.send(rng.bytes(rng.int(0, 1_200)), port, '127.0.0.1')

  await until(() => open.size > 0, { what: 'a stranger that got in' })
  const beside = p99(await measure(samples))
  const peers = open.size
  t.comment(`p99 ${Math.round(alone)} ms alone, ${Math.round(beside)} ms beside; ${peers} in now`)
  // A dialler takes a connection for open before it is; of those there are few, too.
  const bound = connectionsUnnamedMax + handshakesUnnamedMax
  t.ok(most > 0 && most <= bound, `${most} were in at a time`)
  // Generous: other tests run at the same time. What was measured stands in docs/benchmarks.md.
  t.ok(beside <= Math.max(3 * alone, 2_000), 'they do not hang')
  const grown = megabytesOf(node.pid) - before
  t.ok(grown < 128, `${Math.round(grown)} MB more than ${Math.round(before)}`)
  t.equal(node.stderr, '', 'nothing to report')
  await until(() => silent.size === 0, {
    timeoutMs: 60_000,
    what: 'the end of those that say nothing'
  })
  t.pass('who says no hello loses its connection')
  t.equal((await measure(1)).length, 1, 'the honest go on')
})
