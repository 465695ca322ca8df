import { createSocket, type Socket } from 'node:dgram'
import { networkInterfaces } from 'node:os'
import test from 'tape'
import { isKVSwarmError, type KVSwarmError } from '../../lib/errors.ts'
import { parseBootstrap, startBootstrap } from '../../lib/hyper/bootstrap.ts'
import { hyperswarmNetwork } from '../../lib/hyper/swarm.ts'
import { cleanup } from '../helpers/cleanup.ts'
import { deadline } from '../helpers/events.ts'
import { ask, keyPairOf, TestNode } from './node.ts'

async function errorOf(run: () => unknown): Promise<KVSwarmError | null> {
  try {
    await run()
    return null
  } catch (error) {
    if (isKVSwarmError(error)) return error
    throw error
  }
}

test('bootstrap: addresses', async (t) => {
  t.deepEqual(parseBootstrap('127.0.0.1:49737'), { host: '127.0.0.1', port: 49737 })
  t.deepEqual(parseBootstrap('node-1.example.org:1'), { host: 'node-1.example.org', port: 1 })
  t.deepEqual(parseBootstrap('localhost:65535'), { host: 'localhost', port: 65535 })
  const wrong = [
    '',
    ':',
    'host',
    '127.0.0.1',
    '127.0.0.1:',
    '127.0.0.1:0',
    '127.0.0.1:65536',
    '127.0.0.1:1e3',
    '127.0.0.1: 1',
    '127.0.0:1',
    '127.0.0.256:1',
    ':49737',
    'a b:1',
    '-a:1',
    'a_b:1',
    'http://a:1'
  ]
  for (const text of wrong) {
    const error = await errorOf(() => parseBootstrap(text))
    t.equal(error?.code, 'INVALID_ARGUMENT', JSON.stringify(text))
    t.ok(error?.message.includes(JSON.stringify(text)), 'the value is named')
    t.ok(error?.hint, 'with a hint')
  }
  for (const text of ['::1:49737', '[::1]:49737', '::1']) {
    const error = await errorOf(() => parseBootstrap(text))
    t.ok(error?.message.includes('does not support IPv6'), `${text}: ${error?.message}`)
  }
  const list = await errorOf(() => hyperswarmNetwork({ bootstrap: ['127.0.0.1:1', 'nonsense'] }))
  t.ok(list?.message.includes('"nonsense"'), 'told when the network is made')
  t.equal((await errorOf(() => hyperswarmNetwork({ bootstrap: [] })))?.code, 'INVALID_ARGUMENT')
})

test('bootstrap: a node on a free port, on a given one, and on one that is taken', async (t) => {
  const free = await startBootstrap()
  cleanup(t, () => free.close())
  t.equal(free.address, `127.0.0.1:${free.port}`, free.address)
  const taken = await errorOf(() => startBootstrap({ port: free.port }))
  t.equal(taken?.code, 'IO_ERROR')
  t.ok(taken?.message.includes(free.address) && taken.message.includes('in use'), taken?.message)
  await Promise.all([free.close(), free.close()])
  const again = await startBootstrap({ port: free.port })
  cleanup(t, () => again.close())
  t.equal(again.port, free.port, 'close() has freed the port')
  const wrong: [string, object][] = [
    ['0.0.0.0', { host: '0.0.0.0' }],
    ['localhost', { host: 'localhost' }],
    ['::1', { host: '::1' }],
    ['70000', { port: 70_000 }],
    ['-1', { port: -1 }]
  ]
  for (const [value, options] of wrong) {
    const error = await errorOf(() => startBootstrap(options))
    t.equal(error?.code, 'INVALID_ARGUMENT', value)
    t.ok(error?.message.includes(value), error?.message)
  }
})

test('bootstrap: an address that is not of this machine', async (t) => {
  const elsewhere = '198.51.100.7' // for documentation only; nobody has it
  const node = await errorOf(() => startBootstrap({ host: elsewhere }))
  t.equal(node?.code, 'IO_ERROR')
  t.ok(node?.message.includes(elsewhere), node?.message)
  const network = hyperswarmNetwork({ bootstrap: ['127.0.0.1:1'], host: elsewhere })
  const error = await errorOf(() =>
    network.open({ keyPair: keyPairOf('a'), accepts: () => true, onConnection: () => {} })
  )
  t.equal(error?.code, 'IO_ERROR')
  t.ok(error?.message.includes(elsewhere), error?.message)
  await deadline(network.close(), 5000, 'close() after a failed open()')
})

test('bootstrap: nobody answers: open, listen and close end all the same', async (t) => {
  const deaf = await new Promise<Socket>((resolve) => {
    const socket = createSocket('udp4').bind(0, '127.0.0.1', () => resolve(socket))
  })
  cleanup(t, () => deaf.close())
  const network = hyperswarmNetwork({ bootstrap: [`127.0.0.1:${deaf.address().port}`] })
  await network.open({ keyPair: keyPairOf('a'), accepts: () => true, onConnection: () => {} })
  const listening = network.listen()
  network.join('ab'.repeat(32))
  const since = performance.now()
  await deadline(network.close(), 10_000, 'close()')
  const ms = performance.now() - since
  t.pass(`closed after ${Math.round(ms)} ms`)
  await deadline(
    listening.then(
      () => {},
      () => {}
    ),
    10_000,
    'listen()'
  )
  t.pass('listen() ended')
})

/** An address of this machine other than 127.0.0.1, which is treated apart. */
function otherAddress(): string {
  const all = Object.values(networkInterfaces()).flatMap((list) => list ?? [])
  return all.find((one) => one.family === 'IPv4' && !one.internal)?.address ?? '127.0.0.2'
}

test('bootstrap: a private swarm on an address of this machine connects at once', async (t) => {
  const host = otherAddress()
  const bootstrap = await startBootstrap({ host })
  cleanup(t, () => bootstrap.close())
  // With upstream's own judgement most of these would hang for 13 s on a half-open connection.
  for (let i = 0; i < 5; i++) {
    const [one, other] = [`one ${i}`, `other ${i}`]
    const make = (): ReturnType<typeof hyperswarmNetwork> =>
      hyperswarmNetwork({ bootstrap: [bootstrap.address] })
    const a = await TestNode.start(t, make(), one)
    const b = await TestNode.start(t, make(), other, false)
    const since = performance.now()
    b.network.join(a.id)
    t.equal(await ask(await b.connection(a), 'there?'), 'there?', 'connected')
    const ms = performance.now() - since
    t.ok(
      ms < 2500,
      `after ${Math.round(ms)} ms on ${host === '127.0.0.2' ? host : 'its own address'}`
    )
  }
})
