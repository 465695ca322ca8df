/**
 * Strict JSON: what JSON.parse() takes, without keys that stand twice in one object.
 *
 * JSON.parse() keeps the last of two equal keys in silence; in a configuration the other one was meant as often.
 */
import { messageOf } from '../lib/errors.ts'
import { configInvalid, type Fault, pathOf } from './faults.ts'

/**
 * The value of a JSON text, and its duplicate keys.
 * @throws CONFIG_INVALID when it is no JSON, with line and column
 */
export function readJson(text: string): { value: unknown; faults: Fault[] } {
  try {
    return { value: JSON.parse(text) as unknown, faults: duplicateKeys(text) }
  } catch (error) {
    const message = messageOf(error).replaceAll(/\s+/g, ' ')
    throw configInvalid(
      [{ path: '', message: `not JSON: ${message}${place(text, message)}` }],
      error
    )
  }
}

/** An object or array that is open at one place of the text. */
interface Level {
  /** Keys so far; null in an array. */
  readonly keys: Set<string> | null
  /** Where in it: the present key or index. */
  at: string | number
}

/** The keys that stand twice in one object of a text that is valid JSON. */
function duplicateKeys(text: string): Fault[] {
  const faults: Fault[] = []
  const levels: Level[] = []
  let keyNext = false
  for (let i = 0; i < text.length; i++) {
    const level = levels.at(-1)
    switch (text[i]) {
      case '{':
        levels.push({ keys: new Set(), at: '' })
        keyNext = true
        break
      case '[':
        levels.push({ keys: null, at: 0 })
        break
      case '}':
      case ']':
        levels.pop()
        break
      case ',':
        if (typeof level?.at === 'number') level.at++
        else keyNext = true
        break
      case '"': {
        const end = stringEnd(text, i)
        if (keyNext && level?.keys) {
          const key = JSON.parse(text.slice(i, end)) as string
          level.at = key
          if (level.keys.has(key)) {
            faults.push({ path: pathOf(levels.map(({ at }) => at)), message: 'duplicate key' })
          }
          level.keys.add(key)
          keyNext = false
        }
        i = end - 1
        break
      }
      default:
    }
  }
  return faults
}

/** Behind the closing quote of the string that begins at `start`. */
function stringEnd(text: string, start: number): number {
  let i = start + 1
  while (text[i] !== '"') i += text[i] === '\\' ? 2 : 1
  return i + 1
}

/** Line and column, where the engine's message gives no more than a position. */
function place(text: string, message: string): string {
  const position = /at position (\d+)(?! \(line)/.exec(message)?.[1]
  if (position === undefined) return ''
  const before = text.slice(0, Number(position)).split('\n')
  return ` (line ${before.length} column ${(before.at(-1)?.length ?? 0) + 1})`
}
