/** The control socket against those who do not speak its language, or too much of it. */
import { once } from 'node:events'
import { type IncomingHttpHeaders, request } from 'node:http'
import { connect } from 'node:net'
import { join } from 'node:path'
import test from 'tape'
import { writesIn } from './fake-engine.ts'
import { holder } from './handles.ts'
import { Budget } from '../../lib/coordination/budget.ts'
import { parseJson, unpackBytes } from '../../lib/coordination/json.ts'
import { linesOf } from '../../lib/coordination/lines.ts'
import { isKVSwarmError } from '../../lib/errors.ts'
import type { Engine } from '../../lib/ports.ts'
import { random } from '../helpers/random.ts'
import { tmpdir } from '../helpers/tmp.ts'

interface Answer {
  readonly status: number
  readonly headers: IncomingHttpHeaders
  readonly text: string
  /** The error's code, when there is one. */
  readonly code: string | undefined
}

const json: Record<string, string> = { 'content-type': 'application/json', 'kvswarm-protocol': '1' }

function ask(
  socketPath: string,
  path: string,
  body: string | readonly string[],
  { method = 'POST', headers = json } = {}
): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const whole = typeof body === 'string'
    const length = whole ? { 'content-length': String(Buffer.byteLength(body)) } : {}
    const sent = request({ socketPath, path, method, headers: { ...length, ...headers } })
    sent.once('error', reject)
    sent.once('response', (response) => {
      let text = ''
      response.setEncoding('utf8')
      response.on('data', (chunk: string) => {
        text += chunk
      })
      response.once('error', reject)
      response.once('end', () => {
        const code = /"code":"([A-Z_]+)"/.exec(text)?.[1]
        resolve({ status: response.statusCode ?? 0, headers: response.headers, text, code })
      })
    })
    if (whole) sent.end(body)
    else {
      for (const part of body) sent.write(part)
      sent.end()
    }
  })
}

async function serve(t: test.Test): Promise<{ socket: string; directory: string; engine: Engine }> {
  const directory = tmpdir(t)
  const engine = await holder(t, directory)
  return { socket: join(directory, 'kvswarm.sock'), directory, engine }
}

test('what is no request of ours is refused, and the next one is served', async (t) => {
  const { socket } = await serve(t)
  const cases: [string, string, string, Parameters<typeof ask>[3]?][] = [
    ['an unknown path', '/nothing', '{}'],
    ['a path that objects inherit', '/constructor', '{}'],
    ['another method', '/status', '', { method: 'GET' }],
    ['no protocol', '/status', '{}', { headers: { 'content-type': 'application/json' } }],
    ['another protocol', '/status', '{}', { headers: { ...json, 'kvswarm-protocol': '2' } }],
    ['no JSON', '/get-many', '{"keys":'],
    ['no object', '/get-many', '[]'],
    ['null', '/get-many', 'null'],
    ['deep JSON', '/get-many', `{"keys":${'['.repeat(100_000)}${']'.repeat(100_000)}}`],
    ['deep and cut off', '/get-many', '['.repeat(1_000_000)],
    ['keys that are no list', '/get-many', '{"keys":{},"options":{}}'],
    ['a key that is no base64', '/get-many', '{"keys":["%%%%"],"options":{}}'],
    ['no options', '/get-many', '{"keys":[]}'],
    ['a timeout that is none', '/get-many', '{"keys":[],"options":{"timeout":-1}}'],
    ['a range that is none', '/list', '{"range":5,"options":{}}'],
    ['a limit that is none', '/list', '{"range":{"limit":1.5},"options":{}}'],
    ['a role that is none', '/role', '{"role":"king"}'],
    ['a configuration that is no text', '/set-config', '{"text":{"__proto__":1}}'],
    ['a receipt without an id', '/receipt', '{}']
  ]
  for (const [name, path, body, options] of cases) {
    const answer = await ask(socket, path, body, options)
    t.deepEqual([answer.status, answer.code], [400, 'PROTOCOL_ERROR'], name)
  }
  t.equal((await ask(socket, '/config', '{}')).text, '{"value":null}')
})

test('writes that lie about themselves append nothing', async (t) => {
  const { socket, directory } = await serve(t)
  const id = Buffer.alloc(16, 1).toString('base64')
  const key = Buffer.from('k').toString('base64')
  const operation = { type: 'put', key, value: key }
  const head = (fields: object): string =>
    `${JSON.stringify({ request: id, bytes: 0, ...fields })}\n`
  const portion = (...operations: unknown[]): string => `${JSON.stringify({ operations })}\n`
  const cases: [string, string[]][] = [
    ['nothing', ['']],
    ['no request id', ['{"bytes":0}\n']],
    ['a short request id', [head({ request: 'AAAA' })]],
    ['too many bytes', [head({ bytes: 2 ** 40 })]],
    ['no bytes', [head({ bytes: null })]],
    ['more than announced', [head({ bytes: 10 }), portion(operation)]],
    ['less than announced', [head({ bytes: 10_000 }), portion(operation)]],
    ['an unknown operation', [head({ bytes: 500 }), portion({ ...operation, type: 'drop' })]],
    ['an operation that is none', [head({ bytes: 500 }), portion(null)]],
    [
      'a group in a group',
      [
        head({ bytes: 500 }),
        portion({
          type: 'group',
          checks: [],
          mutations: [{ type: 'group', checks: [], mutations: [] }]
        })
      ]
    ],
    ['a second line that is no JSON', [head({ bytes: 500 }), 'x\n']],
    [
      'an endless line',
      [head({ bytes: 500 }), ...Array.from({ length: 20 }, () => 'x'.repeat(2 ** 20))]
    ]
  ]
  for (const [name, parts] of cases) {
    try {
      const answer = await ask(socket, '/write', parts)
      t.deepEqual([answer.status, answer.code], [400, 'PROTOCOL_ERROR'], name)
    } catch (error) {
      // The answer can be lost when the connection is cut while the client still sends.
      t.ok(['EPIPE', 'ECONNRESET'].includes((error as { code: string }).code), `${name}: cut off`)
    }
  }
  t.deepEqual(writesIn(directory), [])
  const good = [head({ bytes: 130 }), portion(operation)]
  t.equal((await ask(socket, '/write', good)).status, 200, 'a true one is served')
  t.deepEqual(writesIn(directory), ['k'])
})

test('sizes are bounded before anything is read', async (t) => {
  const { socket } = await serve(t)
  const large = await ask(socket, '/get-many', '{}', {
    headers: { ...json, 'content-length': String(17 * 1024 * 1024), expect: '100-continue' }
  }).catch((error: { code: string }) => ({ code: error.code }))
  t.ok(['PROTOCOL_ERROR', 'ECONNRESET', 'EPIPE'].includes(large.code as string), 'a body of 17 MiB')
  const endless = await ask(socket, '/get-many', ['{', '}'])
  t.equal(endless.code, 'PROTOCOL_ERROR', 'a body without a length')
  const header = await ask(socket, '/status', '{}', {
    headers: { ...json, cookie: 'x'.repeat(20_000) }
  })
  t.equal(header.status, 431, 'headers of 20 kB')
  const url = await ask(socket, `/${'x'.repeat(20_000)}`, '{}')
  t.equal(url.status, 431, 'a path of 20 kB')
  t.equal((await ask(socket, '/config', '{}')).text, '{"value":null}')
})

test('bytes that are no HTTP: 300 connections of noise, and the holder serves on', async (t) => {
  const { socket, engine } = await serve(t)
  const rng = random(t)
  const starts = ['', 'GET / HTTP/1.1\r\n', 'POST /write HTTP/1.1\r\nkvswarm-protocol: 1\r\n\r\n']
  const noise = Array.from({ length: 300 }, async () => {
    const client = connect(socket)
    client.on('error', () => {})
    client.resume()
    client.end(Buffer.concat([Buffer.from(rng.pick(starts)), rng.bytes(rng.int(0, 2_000))]))
    await once(client, 'close')
  })
  await Promise.all(noise)
  t.equal((await ask(socket, '/config', '{}')).text, '{"value":null}')
  t.equal(await engine.config(), null)
})

test('a client that sends half a request does not keep the holder from closing', async (t) => {
  const { socket, engine } = await serve(t)
  const client = connect(socket)
  client.on('error', () => {})
  client.write(
    'POST /get-many HTTP/1.1\r\nhost: x\r\nkvswarm-protocol: 1\r\ncontent-length: 100\r\n\r\n{'
  )
  await once(client, 'connect')
  await ask(socket, '/config', '{}')
  const closed = once(client, 'close')
  client.resume()
  await engine.close()
  await closed
  t.pass('both are closed')
})

test('JSON and base64 are read strictly', (t) => {
  const refused = (run: () => unknown): boolean => {
    try {
      run()
      return false
    } catch (error) {
      return isKVSwarmError(error, 'PROTOCOL_ERROR')
    }
  }
  t.deepEqual(parseJson('{"a":"[[[[[[[[[[[[\\"[[[[","b":[1]}'), { a: '[[[[[[[[[[[["[[[[', b: [1] })
  t.deepEqual(parseJson('"\\\\"'), '\\', 'a string that ends with a backslash')
  t.ok(refused(() => parseJson('"'.repeat(3))))
  t.ok(refused(() => parseJson(`${'[['.repeat(5)}"`)))
  for (const text of ['A', 'AA', 'AAA', 'AA=A', 'AA==AA==', '====', 'A A=', 7, null]) {
    t.ok(
      refused(() => unpackBytes(text, 'x')),
      String(text)
    )
  }
  t.deepEqual(unpackBytes('AAH/', 'x'), new Uint8Array([0, 1, 255]))
  t.end()
})

test('lines come out of chunks cut anywhere', async (t) => {
  const rng = random(t)
  const lines = Array.from({ length: 200 }, () => rng.text(rng.int(1, 50)))
  const text = lines.join('\n')
  async function* cut(): AsyncGenerator<string> {
    for (let at = 0; at < text.length;) {
      const length = rng.int(1, 40)
      yield text.slice(at, at + length)
      at += length
    }
  }
  const found: string[] = []
  for await (const line of linesOf(cut(), 50)) found.push(line)
  t.deepEqual(found, lines)
  let code = ''
  try {
    for await (const line of linesOf(cut(), 20)) found.push(line)
  } catch (error) {
    code = (error as { code: string }).code
  }
  t.equal(code, 'PROTOCOL_ERROR', 'a line that is too long')
})

test('the budget is given out in order, and never more than there is', async (t) => {
  const budget = new Budget(10)
  const never = new AbortController().signal
  const order: string[] = []
  const first = await budget.take(8, never)
  const aborter = new AbortController()
  const large = budget.take(9, aborter.signal).then(
    () => order.push('large'),
    () => order.push('large aborted')
  )
  const small = budget.take(1, never).then((free) => {
    order.push('small')
    return free
  })
  const middle = budget.take(5, never).then((free) => {
    order.push('middle')
    return free
  })
  t.deepEqual(order, [], 'a small one does not overtake a large one')
  aborter.abort()
  await Promise.all([large, small])
  t.deepEqual(order.toSorted(), ['large aborted', 'small'])
  first()
  first()
  const free = await middle
  free()
  const freeSmall = await small
  freeSmall()
  const whole = await budget.take(10, never)
  whole()
  t.pass('all is free again, and given back twice counts once')
})
