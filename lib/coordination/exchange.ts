/**
 * One request to the holder of a data directory and its answer: HTTP over the control socket.
 *
 * - An exchange ends in one of four ways: an answer, the holder's coded error, `HolderGone` (the
 *   connection is lost or the holder is closing: ask who holds the directory now), or the caller's own
 *   end (timeout, abort).
 * - A guard bounds every wait for the holder, in case it is stopped: it fires later than the call's own
 *   timeout, which the holder keeps.
 */
import { type Agent, type ClientRequest, type IncomingMessage, request } from 'node:http'
import { answerBytesMax, controlProtocol } from './limits.ts'
import { type Fields, fieldsOf, protocolError, unpackError } from './json.ts'
import { linesOf } from './lines.ts'
import { controlRequestBytesMax } from '../../config/limits.ts'
import { KVSwarmError, isKVSwarmError, messageOf } from '../errors.ts'
import { timerMsMax } from '../wait.ts'

/** The holder has ended, is ending, or cannot take another connection now. Never leaves this room. */
export class HolderGone extends Error {
  override readonly name = 'HolderGone'
}

/** What is asked. */
export interface Question {
  readonly path: string
  /** The body, or its lines; read again when a kept connection turns out to be dead. */
  readonly body: string | (() => Iterable<string>)
  /** How long a silent holder is waited for, in milliseconds; for streams: for each line. */
  readonly guardMs: number
  readonly signal?: AbortSignal | undefined
  /** Names the call for an abort that waits for its outcome. */
  readonly call?: string
}

const nothing = (): void => {}

/** One exchange, under way. */
export class Exchange {
  readonly #socketPath: string
  readonly #agent: Agent | false
  readonly #question: Question
  #request: ClientRequest | null = null
  /** Why we ended it ourselves; it replaces the error that the connection then gives. */
  #reason: Error | null = null
  #timer: NodeJS.Timeout | undefined

  constructor(socketPath: string, agent: Agent | false, question: Question) {
    this.#socketPath = socketPath
    this.#agent = agent
    this.#question = question
  }

  /** The one JSON value of the answer. */
  async value(): Promise<unknown> {
    const { signal } = this.#question
    signal?.addEventListener('abort', this.#onAbort, { once: true })
    try {
      const response = await this.#response()
      const text = await this.#text(response)
      return answerOf(text, 'value')
    } catch (error) {
      throw this.#told(error)
    } finally {
      this.#finish()
    }
  }

  /** The values of a streamed answer. Leaving the loop ends the exchange. */
  async *values(): AsyncGenerator<unknown, void, undefined> {
    const { signal } = this.#question
    signal?.addEventListener('abort', this.#onAbort, { once: true })
    let whole = false
    try {
      const response = await this.#response()
      if (!isStream(response)) {
        answerOf(await this.#text(response), 'value')
        throw protocolError('a stream was expected')
      }
      const lines = linesOf(response.setEncoding('utf8'), controlRequestBytesMax)
      for (;;) {
        this.#arm()
        const { value: line, done } = await lines.next()
        this.#disarm()
        if (done === true) break
        const fields = parseFields(line)
        // What is behind the end is read too, so that the connection can be used again.
        if (fields['end'] === true) whole = true
        else yield answerOfFields(fields, 'value')
      }
      if (!whole) throw new HolderGone('the answer was cut off')
    } catch (error) {
      throw this.#told(error)
    } finally {
      if (!whole) this.destroy()
      this.#finish()
    }
  }

  /** Ends it at once; whoever waits gets `reason`. */
  destroy(reason?: Error): void {
    this.#reason ??= reason ?? new HolderGone('the exchange was ended')
    this.#request?.destroy()
  }

  readonly #onAbort = (): void => {
    this.destroy(
      new KVSwarmError('ABORTED', 'the call was aborted', { cause: this.#question.signal?.reason })
    )
  }

  async #response(): Promise<IncomingMessage> {
    if (this.#question.signal?.aborted === true) this.#onAbort()
    if (this.#reason !== null) throw this.#reason
    this.#arm()
    try {
      return await this.#send(this.#agent)
    } catch (error) {
      // The holder closed a kept connection just as it was used again: nothing was asked yet.
      if (this.#reason !== null || this.#request?.reusedSocket !== true) throw error
      return await this.#send(false)
    } finally {
      this.#disarm()
    }
  }

  #send(agent: Agent | false): Promise<IncomingMessage> {
    const { path, body, call } = this.#question
    return new Promise((resolve, reject) => {
      const sent = request({
        socketPath: this.#socketPath,
        path,
        method: 'POST',
        agent,
        headers: {
          host: 'kvswarm',
          'content-type': typeof body === 'string' ? 'application/json' : 'application/x-ndjson',
          'kvswarm-protocol': String(controlProtocol),
          ...(call === undefined ? {} : { 'kvswarm-call': call }),
          ...(typeof body === 'string' ? { 'content-length': Buffer.byteLength(body) } : {})
        }
      })
      this.#request = sent
      sent.once('response', resolve)
      sent.once('error', reject)
      sent.once('close', () => reject(new HolderGone('the connection was closed')))
      // Errors behind the answer are told by the response.
      sent.on('error', nothing)
      if (typeof body === 'string') sent.end(body)
      else sendLines(sent, body())
    })
  }

  async #text(response: IncomingMessage): Promise<string> {
    const parts: string[] = []
    let length = 0
    this.#arm()
    for await (const chunk of response.setEncoding('utf8') as AsyncIterable<string>) {
      length += chunk.length
      if (length > answerBytesMax) throw protocolError('an answer is too large')
      parts.push(chunk)
    }
    if (!response.complete) throw new HolderGone('the answer was cut off')
    return parts.join('')
  }

  #arm(): void {
    const { guardMs } = this.#question
    // A longer guard is none.
    if (guardMs > timerMsMax) return
    clearTimeout(this.#timer)
    this.#timer = setTimeout(() => {
      this.destroy(
        new KVSwarmError('TIMEOUT', 'the process that holds the data directory does not answer', {
          hint: 'look whether it is stopped or overloaded; kvswarm status names it',
          data: { silent: true }
        })
      )
    }, guardMs)
  }

  #disarm(): void {
    clearTimeout(this.#timer)
  }

  #finish(): void {
    this.#disarm()
    this.#question.signal?.removeEventListener('abort', this.#onAbort)
  }

  /** The error to give: our own reason, the holder's coded error, or that the holder is gone. */
  #told(error: unknown): Error {
    if (this.#reason !== null) return this.#reason
    if (isKVSwarmError(error) || error instanceof HolderGone) return error
    const code = (error as NodeJS.ErrnoException).code
    if (code === 'EACCES' || code === 'EPERM') {
      return new KVSwarmError(
        'DATADIR_FOREIGN',
        `the control socket ${this.#socketPath} is not yours`,
        {
          hint: 'run as the user to whom the data directory belongs',
          cause: error
        }
      )
    }
    if (code?.startsWith('HPE_') === true) return protocolError(messageOf(error))
    return new HolderGone(messageOf(error), { cause: error })
  }
}

/** Writes lines as fast as the connection takes them. */
function sendLines(sent: ClientRequest, lines: Iterable<string>): void {
  const rest = lines[Symbol.iterator]()
  const more = (): void => {
    while (!sent.destroyed) {
      const { value, done } = rest.next()
      if (done === true) {
        sent.end()
        return
      }
      if (!sent.write(value)) {
        sent.once('drain', more)
        return
      }
    }
  }
  more()
}

function isStream(response: IncomingMessage): boolean {
  return response.headers['content-type'] === 'application/x-ndjson'
}

function parseFields(text: string): Fields {
  try {
    return fieldsOf(JSON.parse(text) as unknown, 'an answer')
  } catch (error) {
    throw isKVSwarmError(error) ? error : protocolError('an answer is not JSON')
  }
}

/** The value of an answer. @throws what the holder met; HolderGone when it is closing */
function answerOf(text: string, name: string): unknown {
  return answerOfFields(parseFields(text), name)
}

function answerOfFields(fields: Fields, name: string): unknown {
  if (fields['closing'] === true) throw new HolderGone('the holder is closing')
  if (fields['error'] !== undefined) throw unpackError(fields['error'])
  return fields[name]
}
