/** The control socket against another process of the user, and what others may have put in its place. */
import { once } from 'node:events'
import { lstatSync, mkdirSync, readFileSync, statSync, symlinkSync, writeFileSync } from 'node:fs'
import { request } from 'node:http'
import { connect, createServer, type Socket } from 'node:net'
import { join } from 'node:path'
import test from 'tape'
import { isTrustedSocket } from '../../lib/coordination/socket-path.ts'
import { cleanup } from '../helpers/cleanup.ts'
import { deadline } from '../helpers/events.ts'
import { tmpdir } from '../helpers/tmp.ts'
import { holder } from './handles.ts'

function ask(socketPath: string, path: string, body: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const headers = { 'kvswarm-protocol': '1', 'content-length': String(Buffer.byteLength(body)) }
    const sent = request({ socketPath, path, method: 'POST', headers }, (response) => {
      let text = ''
      response.setEncoding('utf8')
      response.on('data', (chunk: string) => (text += chunk))
      response.once('end', () => resolve(text))
    })
    sent.once('error', reject)
    sent.end(body)
  })
}

test('the socket is its owner’s alone', async (t) => {
  const directory = tmpdir(t)
  await holder(t, directory)
  const path = join(directory, 'kvswarm.sock')
  t.equal(statSync(path).mode & 0o777, 0o600, 'mode of the socket')
  t.equal(statSync(directory).mode & 0o077, 0, 'mode of its folder')
  t.ok(await isTrustedSocket(directory, path), 'a client trusts it')
})

test('what lies in the place of the socket is replaced, and not followed', async (t) => {
  for (const what of ['a file', 'a link']) {
    const directory = tmpdir(t)
    const elsewhere = join(tmpdir(t), 'precious')
    writeFileSync(elsewhere, 'precious')
    const path = join(directory, 'kvswarm.sock')
    if (what === 'a file') writeFileSync(path, 'left over')
    else symlinkSync(elsewhere, path)
    await holder(t, directory)
    t.ok(lstatSync(path).isSocket(), `${what}: a socket is there now`)
    t.equal(readFileSync(elsewhere, 'utf8'), 'precious', 'what it led to is as it was')
    t.match(await ask(path, '/config', '{}'), /value/, 'and it is served')
  }
})

test('a client does not follow a link to a socket, nor trust a file', async (t) => {
  const directory = tmpdir(t)
  const trap = join(tmpdir(t), 'trap.sock')
  let trapped = 0
  const server = createServer((socket) => {
    trapped++
    socket.destroy()
  })
  server.listen(trap)
  await once(server, 'listening')
  cleanup(t, () => server.close())
  const path = join(directory, 'kvswarm.sock')
  symlinkSync(trap, path)
  t.notOk(await isTrustedSocket(directory, path), 'a link')
  t.ok(
    await isTrustedSocket(directory, join(directory, 'none.sock')),
    'nothing there: nobody serves'
  )
  mkdirSync(join(directory, 'x.sock'))
  t.notOk(await isTrustedSocket(directory, join(directory, 'x.sock')), 'a folder')
  const engine = await holder(t, directory)
  t.equal(await engine.config(), null, 'whoever comes first becomes the holder')
  t.equal(trapped, 0, 'and nobody has spoken to the other')
})

test('names and lists are bounded; keys that objects inherit are keys like others', async (t) => {
  const directory = tmpdir(t)
  const engine = await holder(t, directory)
  const path = join(directory, 'kvswarm.sock')
  const long = JSON.stringify({ call: 'x'.repeat(1_000_000) })
  t.match(await ask(path, '/abort', long), /PROTOCOL_ERROR/, 'the name of a call')
  const keys = `{"keys":[${'"",'.repeat(1_000_000)}""],"options":{}}`
  t.match(await ask(path, '/get-many', keys), /PROTOCOL_ERROR/, 'a million keys')
  const inherited =
    '{"__proto__":{"keys":[]},"constructor":{},"options":{"__proto__":{"wait":false}}}'
  t.match(await ask(path, '/get-many', inherited), /PROTOCOL_ERROR/, 'nothing is inherited')
  t.equal(({} as { keys?: unknown }).keys, undefined, 'and nothing is polluted')
  const twice = '{"keys":["AA=="],"keys":5,"options":{}}'
  t.match(await ask(path, '/get-many', twice), /PROTOCOL_ERROR/, 'of two the last counts')
  for (const timeout of ['1e999', '-1e999', '"1"', '[]', '{"a":1}']) {
    const answer = await ask(path, '/get-many', `{"keys":[],"options":{"timeout":${timeout}}}`)
    if (timeout === '1e999') t.match(answer, /end/, 'for ever')
    else t.match(answer, /PROTOCOL_ERROR/, `a timeout of ${timeout}`)
  }
  t.match(await ask(path, '/list', '{"range":{"limit":1e300},"options":{}}'), /PROTOCOL_ERROR/)
  t.equal(await engine.config(), null, 'the holder is well')
})

test('96 clients at once are served, beside 300 that never finish their request', async (t) => {
  const directory = tmpdir(t)
  await holder(t, directory)
  const path = join(directory, 'kvswarm.sock')
  const half = Array.from({ length: 300 }, (_, i): Socket => {
    const socket = connect(path)
    socket.on('error', () => {})
    socket.resume()
    const starts = ['', 'POST /config HTTP/1.1\r\nhost: x\r\n', 'POST ']
    socket.write(starts[i % starts.length] as string)
    return socket
  })
  cleanup(t, () => half.forEach((socket) => socket.destroy()))
  const answers = await deadline(
    Promise.all(Array.from({ length: 96 }, () => ask(path, '/config', '{}'))),
    20_000,
    'answers'
  )
  t.ok(
    answers.every((answer) => answer === '{"value":null}'),
    'all are answered'
  )
  const begun = half.filter((_, i) => i % 3 !== 0)
  await deadline(
    Promise.all(
      begun.map(async (socket) => {
        if (!socket.closed) await once(socket, 'close')
      })
    ),
    40_000,
    'the end of those that do not go on'
  )
  t.pass('whoever begins a request and does not finish its headers is closed')
})
