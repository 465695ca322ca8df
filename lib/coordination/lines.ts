/** Lines out of a stream of text chunks (NDJSON), each of bounded length. */
import { protocolError } from './json.ts'

/**
 * The lines of a stream, without their ends; empty ones are left out. A last line without an end is
 * given too.
 * @throws PROTOCOL_ERROR when a line has more than `charactersMax`
 */
export async function* linesOf(
  chunks: AsyncIterable<string>,
  charactersMax: number
): AsyncGenerator<string, void, undefined> {
  // Chunks of an unfinished line are joined once: a value of megabytes comes in hundreds of them.
  let parts: string[] = []
  let length = 0
  for await (const chunk of chunks) {
    let from = 0
    for (let at = chunk.indexOf('\n'); at !== -1; at = chunk.indexOf('\n', from)) {
      parts.push(chunk.slice(from, at))
      const line = parts.join('')
      parts = []
      length = 0
      from = at + 1
      if (line.length > charactersMax) throw protocolError(`a line is longer than ${charactersMax}`)
      if (line !== '') yield line
    }
    if (from < chunk.length) parts.push(chunk.slice(from))
    length += chunk.length - from
    if (length > charactersMax) throw protocolError(`a line is longer than ${charactersMax}`)
  }
  if (parts.length > 0) yield parts.join('')
}
