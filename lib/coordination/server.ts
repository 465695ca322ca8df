/**
 * The holder's side of the control socket: serves the engine to other processes of the same user.
 *
 * - Bounded: connections, header and body sizes, the time that they take, depth of JSON, bytes taken in at once.
 * - A client that goes away aborts what it asked for, and its roles end.
 * - A closing holder answers `closing`, so that clients look for the next one instead of failing.
 */
import { type IncomingMessage, type Server, type ServerResponse, createServer } from 'node:http'
import { once } from 'node:events'
import { chmod } from 'node:fs/promises'
import { answerWith, beginStream, stream, writeLine } from './answers.ts'
import { Budget } from './budget.ts'
import {
  type Fields,
  countOf,
  fieldsOf,
  flagOf,
  listOf,
  operationCost,
  packEntry,
  packError,
  packTail,
  parseJson,
  protocolError,
  textOf,
  unpackBytes,
  unpackOperation,
  unpackRange,
  unpackRead,
  unpackTimeout,
  unpackWriteOptions
} from './json.ts'
import {
  bodySilenceMs,
  callNameCharactersMax,
  closeGraceMs,
  connectionsServedMax,
  controlProtocol,
  earlyAbortsMax,
  headerBytesMax,
  headersLookMs,
  headersTimeoutMs,
  intakeBytesMax,
  keysOfRequestMax,
  roleStartPulseMs
} from './limits.ts'
import { linesOf } from './lines.ts'
import type { RoleTable } from './roles.ts'
import { withMask } from './socket-path.ts'
import { cacheOperationsMax, controlRequestBytesMax } from '../../config/limits.ts'
import { KVSwarmError, isKVSwarmError } from '../errors.ts'
import type { Engine, Role, Status } from '../ports.ts'
import type { Operation } from '../types.ts'

/** What the server serves. */
export interface ControlServerOptions {
  readonly engine: Engine
  readonly roles: RoleTable
  /** Facts about the holder, for a client that comes. */
  readonly hello: () => Promise<Fields>
  readonly status: () => Promise<Status>
  readonly setConfig: (text: string) => Promise<void>
  /** A client asks this process to end. */
  readonly onStop: () => void
}

/** One call under way. */
interface Call {
  readonly request: IncomingMessage
  readonly response: ServerResponse
  /** Fires when the client is gone, aborts, or the holder closes. */
  readonly signal: AbortSignal
}

type Handler = (call: Call) => Promise<void>

const none = (): void => {}

/** Serves one engine on one socket. */
export class ControlServer {
  readonly #options: ControlServerOptions
  readonly #server: Server
  readonly #budget = new Budget(intakeBytesMax)
  /** Writes may wait long, for room in the queue: everything else must not wait for them. */
  readonly #writeBudget = new Budget(intakeBytesMax)
  readonly #calls = new Set<Promise<void>>()
  readonly #aborters = new Set<AbortController>()
  /** Calls that a client can abort by name and still hear the outcome of. */
  readonly #named = new Map<string, AbortController>()
  /** Aborted before they came in; the oldest are forgotten. */
  readonly #abortedEarly = new Set<string>()
  readonly #leases = new Set<ServerResponse>()
  /** Writes under way by request: the same one again waits for the first. */
  readonly #writes = new Map<string, Promise<unknown>>()
  readonly #handlers: ReadonlyMap<string, Handler>
  #closing = false

  constructor(options: ControlServerOptions) {
    this.#options = options
    this.#handlers = new Map<string, Handler>([
      ['/hello', (call) => this.#answer(call, () => options.hello())],
      ['/config', (call) => this.#answer(call, () => options.engine.config())],
      ['/set-config', (call) => this.#answer(call, (body) => this.#setConfig(body))],
      ['/receipt', (call) => this.#answer(call, (body) => this.#receipt(body, call.signal))],
      ['/status', (call) => this.#answer(call, () => options.status())],
      ['/refresh', (call) => this.#answer(call, (body) => this.#refresh(body, call.signal))],
      ['/tail', (call) => this.#tail(call)],
      ['/abort', (call) => this.#answer(call, (body) => this.#abort(body))],
      ['/write', (call) => this.#write(call)],
      ['/get-many', (call) => this.#getMany(call)],
      ['/list', (call) => this.#list(call)],
      ['/role', (call) => this.#role(call)],
      ['/stop', (call) => this.#stop(call)]
    ])
    const httpOptions = {
      maxHeaderSize: headerBytesMax,
      headersTimeout: headersTimeoutMs,
      connectionsCheckingInterval: headersLookMs
    }
    this.#server = createServer(httpOptions, (request, response) => {
      const call = this.#serve(request, response)
      this.#calls.add(call)
      void call.finally(() => this.#calls.delete(call))
    })
    this.#server.maxConnections = connectionsServedMax
  }

  /** Serves on the path, for this user alone. Does not keep the process alive by itself. */
  async listen(path: string): Promise<void> {
    const listening = once(this.#server, 'listening')
    // The socket is made within this call; its mode follows the mask of the moment.
    withMask(0o177, () => this.#server.listen({ path, exclusive: true }))
    await listening
    this.#server.on('error', none)
    this.#server.unref()
    await chmod(path, 0o600)
  }

  /** Tells clients with roles which configuration holds now, for when they take over. */
  announceConfig(text: string): void {
    for (const lease of this.#leases) writeLine(lease, { value: { config: text } })
  }

  /** Ends all calls and leases and closes the socket; idempotent. Resolves when nothing is left. */
  async close(): Promise<void> {
    this.#closing = true
    const closed = new Promise<void>((resolve) => {
      this.#server.close(() => resolve())
    })
    for (const aborter of this.#aborters) aborter.abort(closingError())
    for (const lease of this.#leases) lease.end(`${JSON.stringify({ closing: true })}\n`)
    const cut = setTimeout(() => this.#server.closeAllConnections(), closeGraceMs)
    await Promise.allSettled(this.#calls)
    this.#server.closeIdleConnections()
    await closed
    clearTimeout(cut)
  }

  async #serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const aborter = new AbortController()
    const given = request.headers['kvswarm-call']
    const name = typeof given === 'string' && given.length <= callNameCharactersMax ? given : null
    this.#aborters.add(aborter)
    if (name !== null) {
      this.#named.set(name, aborter)
      if (this.#abortedEarly.delete(name)) aborter.abort(abortedError())
    }
    response.once('close', () => {
      if (!response.writableFinished)
        aborter.abort(new KVSwarmError('ABORTED', 'the client went away'))
    })
    response.on('error', none)
    try {
      if (this.#closing) throw closingError()
      const handler = this.#handlerOf(request)
      await handler({ request, response, signal: aborter.signal })
    } catch (error) {
      this.#refuse(request, response, error)
    } finally {
      this.#aborters.delete(aborter)
      if (name !== null) this.#named.delete(name)
    }
  }

  #handlerOf(request: IncomingMessage): Handler {
    const theirs = request.headers['kvswarm-protocol']
    if (theirs !== String(controlProtocol)) {
      throw protocolError(`the holder speaks protocol ${controlProtocol}, not ${String(theirs)}`)
    }
    const handler = this.#handlers.get(request.url ?? '')
    if (request.method !== 'POST' || handler === undefined) {
      throw protocolError('there is no such call')
    }
    return handler
  }

  #refuse(request: IncomingMessage, response: ServerResponse, error: unknown): void {
    const closing = this.#closing && isKVSwarmError(error, 'ABORTED', 'CLOSED', 'QUEUE_CLOSED')
    const fields = closing ? { closing: true } : { error: packError(error) }
    if (response.destroyed || response.writableEnded) return
    if (response.headersSent) {
      response.end(`${JSON.stringify(fields)}\n`)
      return
    }
    const text = JSON.stringify(fields)
    response.writeHead(closing ? 503 : 400, {
      'content-type': 'application/json',
      'content-length': Buffer.byteLength(text),
      // What is left of an unread body is not read.
      ...(request.complete ? {} : { connection: 'close' })
    })
    response.end(text)
  }

  async #answer(call: Call, make: (body: Fields) => Promise<unknown>): Promise<void> {
    const { body, free } = await this.#body(call)
    let value: unknown
    try {
      value = await make(body)
    } finally {
      free()
    }
    answerWith(call.response, value)
  }

  /** The JSON object of a request, within the bounds. */
  async #body({ request, signal }: Call): Promise<{ body: Fields; free: () => void }> {
    const length = Number(request.headers['content-length'] ?? Number.NaN)
    if (!(length <= controlRequestBytesMax))
      throw protocolError('a request without or of too great length')
    const free = await this.#budget.take(length, signal)
    try {
      const parts: string[] = []
      for await (const chunk of chunksOf(request)) parts.push(chunk)
      return { body: fieldsOf(parseJson(parts.join('')), 'a request'), free }
    } catch (error) {
      free()
      throw error
    }
  }

  async #setConfig(body: Fields): Promise<true> {
    await this.#options.setConfig(textOf(body['text'], 'the configuration'))
    return true
  }

  #receipt(body: Fields, signal: AbortSignal): Promise<unknown> {
    return this.#options.engine.receipt(textOf(body['id'], 'the id'), {
      ...unpackTimeout(body),
      ...(flagOf(body['ack'], 'ack') ? { ack: true } : {}),
      signal
    })
  }

  async #abort(body: Fields): Promise<true> {
    const call = textOf(body['call'], 'the call')
    if (call.length > callNameCharactersMax) throw protocolError('the name of a call is too long')
    const aborter = this.#named.get(call)
    const late = flagOf(body['timeout'], 'timeout')
    if (aborter !== undefined) aborter.abort(late ? lateError() : abortedError())
    else {
      this.#abortedEarly.add(call)
      const [oldest] = this.#abortedEarly
      if (this.#abortedEarly.size > earlyAbortsMax) this.#abortedEarly.delete(oldest as string)
    }
    return true
  }

  async #write(call: Call): Promise<void> {
    const lines = linesOf(chunksOf(call.request), controlRequestBytesMax)
    const first = await lines.next()
    const head = fieldsOf(parseJson(first.done === true ? 'null' : first.value), 'a write')
    const request = unpackBytes(head['request'], 'the request id')
    const bytes = countOf(head['bytes'], 'bytes')
    if (request.length !== 16) throw protocolError('a request id has 16 bytes')
    if (bytes > intakeBytesMax) throw protocolError(`one write of ${bytes} bytes is too large`)
    const asked = flagOf(head['retry'], 'retry')
    const options = {
      ...unpackTimeout(head),
      ack: flagOf(head['ack'], 'ack'),
      receipt: flagOf(head['receipt'], 'receipt'),
      ...unpackWriteOptions(head),
      signal: call.signal
    }
    const free = await this.#writeBudget.take(bytes, call.signal)
    try {
      const operations = await operationsOf(lines, bytes)
      const id = Buffer.from(request).toString('hex')
      const value = await this.#inTurn(id, (again) => {
        const retry = asked || again ? { retry: true } : {}
        return this.#options.engine.write({ request, operations, ...retry }, options)
      })
      answerWith(call.response, value)
    } finally {
      free()
    }
  }

  /** A write that a client repeats waits for the first, so that the engine can find it. */
  async #inTurn<T>(id: string, write: (again: boolean) => Promise<T>): Promise<T> {
    let again = false
    for (let other = this.#writes.get(id); other; other = this.#writes.get(id)) {
      await other.catch(none)
      again = true
    }
    const writing = write(again)
    this.#writes.set(id, writing)
    try {
      return await writing
    } finally {
      this.#writes.delete(id)
    }
  }

  async #getMany(call: Call): Promise<void> {
    const { body, free } = await this.#body(call)
    try {
      const asked = listOf(body['keys'], 'keys')
      if (asked.length > keysOfRequestMax) throw protocolError(`${asked.length} keys at once`)
      const keys = asked.map((key) => unpackBytes(key, 'a key'))
      const options = { ...unpackRead(body['options']), signal: call.signal }
      const entries = await this.#options.engine.getMany(keys, options)
      await stream(call.response, call.signal, entries, packEntry)
    } finally {
      free()
    }
  }

  async #list(call: Call): Promise<void> {
    const { body, free } = await this.#body(call)
    free()
    const range = unpackRange(body['range'])
    const options = { ...unpackRead(body['options']), signal: call.signal }
    await stream(call.response, call.signal, this.#options.engine.list(range, options), packEntry)
  }

  async #refresh(body: Fields, signal: AbortSignal): Promise<true> {
    await this.#options.engine.refresh({ ...unpackTimeout(body), signal })
    return true
  }

  async #tail(call: Call): Promise<void> {
    const { body, free } = await this.#body(call)
    free()
    const { bookmark } = body
    const from = bookmark === null ? null : textOf(bookmark, 'the bookmark')
    const follow = flagOf(body['follow'], 'follow')
    const options = { ...unpackTimeout(body), follow, signal: call.signal }
    const events = this.#options.engine.tail(from, options)
    if (follow) beginStream(call.response)
    await stream(call.response, call.signal, events, packTail, follow)
  }

  /** Roles that clients keep up. */
  get leases(): number {
    return this.#leases.size
  }

  /** A role lives as long as this answer: until the client closes it or ends. */
  async #role(call: Call): Promise<void> {
    const { body, free } = await this.#body(call)
    free()
    const role = roleOf(body['role'])
    const { response, signal } = call
    beginStream(response)
    // Starting can take long: the client hears that it goes on.
    const pulse = (): unknown => writeLine(response, { value: { starting: true } })
    pulse()
    const pulsing = setInterval(pulse, roleStartPulseMs)
    const end = await this.#options.roles.hold(role).finally(() => clearInterval(pulsing))
    try {
      signal.throwIfAborted()
      this.#leases.add(response)
      writeLine(response, { value: { started: true } })
      await new Promise<void>((resolve) => {
        response.once('close', resolve)
      })
    } finally {
      this.#leases.delete(response)
      await end()
    }
  }

  async #stop(call: Call): Promise<void> {
    const { free } = await this.#body(call)
    free()
    const { response } = call
    response.once('close', () => {
      // Clients with roles are stopped too: one of them would only take the directory over.
      for (const lease of this.#leases) writeLine(lease, { value: { stop: true } })
      this.#options.onStop()
    })
    answerWith(response, { pid: process.pid }, true)
  }
}

function abortedError(): KVSwarmError {
  return new KVSwarmError('ABORTED', 'the call was aborted')
}

function lateError(): KVSwarmError {
  return new KVSwarmError('TIMEOUT', "the call's time was over")
}

function closingError(): KVSwarmError {
  return new KVSwarmError('CLOSED', 'the holder is closing')
}

/**
 * The text of a body; a client that is silent in the middle of it is cut off. Leaving the loop keeps the connection,
 * so that an error can be answered.
 */
async function* chunksOf(request: IncomingMessage): AsyncGenerator<string, void, undefined> {
  request.setEncoding('utf8')
  const chunks = request.iterator({ destroyOnReturn: false })
  const cut = (): unknown => request.destroy(protocolError('a request that does not go on'))
  try {
    for (;;) {
      const timer = setTimeout(cut, bodySilenceMs)
      const step = (await chunks
        .next()
        .finally(() => clearTimeout(timer))) as IteratorResult<string>
      if (step.done === true) return
      yield step.value
    }
  } finally {
    await chunks.return?.()
  }
}

function roleOf(value: unknown): Role {
  if (value === 'connect' || value === 'listen') return value
  throw protocolError('there is no such role')
}

async function operationsOf(lines: AsyncIterable<string>, bytes: number): Promise<Operation[]> {
  const operations: Operation[] = []
  let left = bytes
  for await (const line of lines) {
    const portion = fieldsOf(parseJson(line), 'a portion')
    for (const packed of listOf(portion['operations'], 'operations')) {
      const operation = unpackOperation(packed)
      operations.push(operation)
      left -= operationCost(operation)
      if (left < 0 || operations.length > cacheOperationsMax) {
        throw protocolError('a write is larger than announced')
      }
    }
  }
  // Also what was cut off on the way would come out here.
  if (left !== 0) throw protocolError('a write is smaller than announced')
  return operations
}
