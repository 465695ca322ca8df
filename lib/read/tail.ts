/**
 * What changed since a bookmark, as a stream under the rules of a watch.
 *
 * Invariants: state-based: the newest state of a key is always told, states between may be merged; keys of one
 * owner come in the order of keys, owner by owner; a bookmark (owner, generation, length of each index) comes only
 * when everything before it was told; when an index has gone on as another generation, the difference to the old
 * one cannot be known, so that `reset` and the full state of all owners follow. Memory does not grow with changes.
 */
import { isKVSwarmError, KVSwarmError } from '../errors.ts'
import type { EngineTailOptions, Head, IndexSnapshot, IndexView, TailEvent } from '../ports.ts'
import { reaches } from '../protocol/positions.ts'
import type { NodeId } from '../types.ts'
import { waitFor } from '../wait.ts'
import { dataRange, decodeEntry, keyOfData } from '../wire/records.ts'

export interface TailEnvironment {
  owners(): readonly NodeId[]
  /** The owner's view at a head to read from. @throws OWNER_UNREACHABLE, NOT_CONNECTED */
  current(owner: NodeId): Promise<IndexView>
  /** The owner's newest known head. */
  head(owner: NodeId): Head
  onHead(owner: NodeId, listener: () => void): () => void
  /** Says of a failed read whose index it was. */
  failed(error: unknown, owner: NodeId, head: Head): unknown
}

const nothing: Head = { generation: 0, length: 0 }

/** How far each owner's index was told. */
type Told = Map<NodeId, Head>

/** @throws INVALID_ARGUMENT when the bookmark is none; what the environment throws */
export async function* tail(
  environment: TailEnvironment,
  bookmark: string | null,
  options: EngineTailOptions
): AsyncGenerator<TailEvent> {
  const told = bookmark === null ? new Map<NodeId, Head>() : decodeBookmark(bookmark)
  for (;;) {
    let again = false
    for await (const event of round(environment, told, options)) {
      again = event === 'again'
      if (event === 'again') break
      yield event
    }
    if (again) continue
    const behind = (): boolean =>
      environment
        .owners()
        .some((owner) => !reaches(told.get(owner) ?? nothing, environment.head(owner)))
    if (options.follow !== true) {
      return
    }
    await waitFor(
      behind,
      (listener) => {
        const stops = environment.owners().map((owner) => environment.onHead(owner, listener))
        return () => {
          for (const stop of stops) stop()
        }
      },
      { timeout: Infinity, signal: options.signal },
      () => new KVSwarmError('TIMEOUT', 'nothing changed')
    )
  }
}

/** All owners once. 'again': an index was replaced meanwhile. */
async function* round(
  { owners, current, failed }: TailEnvironment,
  told: Told,
  options: EngineTailOptions
): AsyncGenerator<TailEvent | 'again'> {
  for (const owner of owners()) {
    const snapshot = (await current(owner)).snapshot()
    const gone = isGone(told.get(owner), snapshot)
    await snapshot.close()
    if (!gone) continue
    told.clear()
    yield { type: 'reset' }
    break
  }
  let moved = false
  for (const owner of owners()) {
    const snapshot = (await current(owner)).snapshot()
    const { head } = snapshot
    try {
      if (isGone(told.get(owner), snapshot)) {
        told.clear()
        yield { type: 'reset' }
        yield 'again'
        return
      }
      const from = told.get(owner) ?? nothing
      if (reaches(from, head)) continue
      // Of nothing, all is new.
      const news =
        from.length === 0
          ? snapshot.range(dataRange({}), options)
          : snapshot.changes(from, dataRange({}), options)
      for await (const { key, value } of news) {
        yield value === null
          ? { type: 'del', key: keyOfData(key) }
          : { type: 'put', entry: decodeEntry(key, value) }
      }
      told.set(owner, head)
      moved = true
      yield { type: 'bookmark', bookmark: encodeBookmark(told) }
    } catch (error) {
      // What is told again of a newer state is no harm.
      if (isKVSwarmError(error, 'INDEX_REPLACED')) {
        yield 'again'
        return
      }
      throw failed(error, owner, head)
    } finally {
      await snapshot.close()
    }
  }
  if (!moved) yield { type: 'bookmark', bookmark: encodeBookmark(told) }
}

/** What changed since then is not to be had: too much has, or the index went on as another generation. */
function isGone(told: Head | undefined, snapshot: IndexSnapshot): boolean {
  if (told === undefined || told.length === 0 || reaches(told, snapshot.head)) return false
  return !snapshot.tellsSince(told)
}

const form = 'b1.'

export function encodeBookmark(told: ReadonlyMap<NodeId, Head>): string {
  const list = [...told].map(([owner, { generation, length }]) => [owner, generation, length])
  return form + Buffer.from(JSON.stringify(list)).toString('base64url')
}

/** @throws INVALID_ARGUMENT */
export function decodeBookmark(text: string): Map<NodeId, Head> {
  try {
    if (!text.startsWith(form)) throw new Error('another form')
    const list: unknown = JSON.parse(Buffer.from(text.slice(form.length), 'base64url').toString())
    if (!Array.isArray(list)) throw new Error('no list')
    return new Map(
      list.map((item: unknown) => {
        const [owner, generation, length] = item as [unknown, unknown, unknown]
        if (typeof owner !== 'string' || !/^[0-9a-f]{64}$/.test(owner)) throw new Error('no id')
        for (const number of [generation, length]) {
          if (!Number.isSafeInteger(number) || (number as number) < 0) throw new Error('no number')
        }
        return [owner, { generation: generation as number, length: length as number }]
      })
    )
  } catch (cause) {
    throw new KVSwarmError('INVALID_ARGUMENT', 'this is no bookmark of tail()', {
      hint: 'give one that tail() gave, or none to begin with the full state',
      cause
    })
  }
}
