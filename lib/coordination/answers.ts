/** The forms of an answer on the control socket: one value, or a stream of lines with back-pressure. */
import type { ServerResponse } from 'node:http'
import type { Fields } from './json.ts'

/** Answers with one value. @param last true: the connection is not kept */
export function answerWith(response: ServerResponse, value: unknown, last = false): void {
  const text = JSON.stringify({ value })
  response.writeHead(200, {
    'content-type': 'application/json',
    'content-length': Buffer.byteLength(text),
    ...(last ? { connection: 'close' } : {})
  })
  response.end(text)
}

/** Begins an answer of many lines. */
export function beginStream(response: ServerResponse): void {
  response.writeHead(200, { 'content-type': 'application/x-ndjson' })
}

/** False: the connection is full; wait for 'drain'. */
export function writeLine(response: ServerResponse, fields: Fields): boolean {
  return response.destroyed || response.write(`${JSON.stringify(fields)}\n`)
}

/** Values one a line, no faster than the client reads. @param begun the answer has begun already */
export async function stream<T>(
  response: ServerResponse,
  signal: AbortSignal,
  values: Iterable<T> | AsyncIterable<T>,
  pack: (value: T) => unknown,
  begun = false
): Promise<void> {
  for await (const value of values) {
    signal.throwIfAborted()
    if (!begun) beginStream(response)
    begun = true
    if (!writeLine(response, { value: pack(value) })) await drained(response, signal)
  }
  if (!begun) beginStream(response)
  response.end(`${JSON.stringify({ end: true })}\n`)
}

function drained(response: ServerResponse, signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const done = (): void => {
      response.off('drain', done)
      signal.removeEventListener('abort', aborted)
      resolve()
    }
    const aborted = (): void => {
      response.off('drain', done)
      reject(signal.reason as Error)
    }
    response.once('drain', done)
    signal.addEventListener('abort', aborted, { once: true })
  })
}
