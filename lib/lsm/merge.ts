/**
 * Merging parts of an index in order of keys: of a key that several have, the newest says what holds.
 */
import type { Entries, StoredValue } from '../wire/index-blocks.ts'
import type { KeyText } from '../wire/index-bytes.ts'

/** Entries that are given at a time, at most. */
const chunkEntries = 256

class Stream {
  readonly entries: AsyncGenerator<Entries>
  chunk: Entries = { keys: [], values: [] }
  at = 0

  constructor(entries: AsyncGenerator<Entries>) {
    this.entries = entries
  }

  get key(): KeyText {
    return this.chunk.keys[this.at] as KeyText
  }

  get value(): StoredValue {
    return this.chunk.values[this.at] as StoredValue
  }

  /** To the next entry. False: there is none. */
  advance(): boolean | Promise<boolean> {
    this.at++
    return this.at < this.chunk.keys.length || this.next()
  }

  async next(): Promise<boolean> {
    for (;;) {
      const step = await this.entries.next()
      if (step.done === true) return false
      this.chunk = step.value
      this.at = 0
      if (this.chunk.keys.length > 0) return true
    }
  }
}

/**
 * @param parts the newest first, each in the same order
 * @param reverse keys fall
 * @param dropped told of each value that a newer part overrules
 */
export async function* mergeParts(
  parts: readonly AsyncGenerator<Entries>[],
  reverse = false,
  dropped: (value: StoredValue) => void = () => {}
): AsyncGenerator<Entries> {
  const all = parts.map((part) => new Stream(part))
  try {
    const begun = await Promise.all(all.map((stream) => stream.next()))
    let open = all.filter((_, at) => begun[at])
    let keys: KeyText[] = []
    let values: StoredValue[] = []
    while (open.length > 0) {
      let [first] = open as [Stream]
      for (const stream of open) {
        if (reverse ? stream.key > first.key : stream.key < first.key) first = stream
      }
      const { key } = first
      keys.push(key)
      values.push(first.value)
      let ended = false
      for (const stream of open) {
        if (stream.key !== key) continue
        if (stream !== first) dropped(stream.value)
        const going = stream.advance()
        if (going === true) continue
        if (going !== false) going.catch(() => {}) // thrown when it is awaited
        // What is ready is given before anything is waited for.
        if (keys.length > 0) {
          yield { keys, values }
          ;[keys, values] = [[], []]
        }
        if (!(await going)) {
          stream.at = -1
          ended = true
        }
      }
      if (ended) open = open.filter((stream) => stream.at >= 0)
      if (keys.length >= chunkEntries) {
        yield { keys, values }
        ;[keys, values] = [[], []]
      }
    }
    if (keys.length > 0) yield { keys, values }
  } finally {
    for (const { entries } of all) await entries.return(undefined)
  }
}
