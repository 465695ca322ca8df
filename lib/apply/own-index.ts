/**
 * This storage node's own index: which generation it is in, and its state (epoch, serial, counter).
 *
 * Invariants: an index generation is in use only when its state record is there, which is written last; one
 * without it was not finished and its number is never used again. A generation that may have lost a tail is
 * not appended to: its entries are copied to a new one, under the next serial, so that versionstamps still rise.
 */
import { KVSwarmError } from '../errors.ts'
import type { Index, IndexChange, Log, OwnLogs } from '../ports.ts'
import { beginIndex } from '../protocol/startup.ts'
import type { LogName, NodeId } from '../types.ts'
import {
  decodeIndexState,
  encodeIndexState,
  indexStateKey,
  type IndexState
} from '../wire/records.ts'

/** Entries for one append while an index is copied. */
const copyEntriesMax = 1000
const copyBytesMax = 4 * 1024 * 1024

export interface OpenedIndex {
  readonly index: Index
  readonly log: Log
  readonly state: IndexState
}

/**
 * Opens the index, beginning it when there is none.
 * @param openIndex makes an Index of a log of ours
 * @param config epoch and hash of the configuration, which a new index begins with
 * @throws CONFIG_STALE, CONFIG_CONFLICT, before anything is written
 */
export async function openOwnIndex(
  node: NodeId,
  logs: OwnLogs,
  openIndex: (log: Log, whole: boolean) => Promise<Index & { readonly isWhole: boolean }>,
  config: { readonly epoch: number; readonly hash: string },
  now: number
): Promise<OpenedIndex> {
  const name: LogName = { kind: 'index', node }
  const found: (OpenedIndex & { whole: boolean })[] = []
  for (const { log, whole } of await logs.ownGenerations(name)) {
    if (log.length === 0) {
      await log.close()
      continue
    }
    const index = await openIndex(log, whole)
    const state = await readState(index)
    if (state === null) await index.close()
    else found.push({ index, log, state, whole: index.isWhole })
  }
  const newest = found.pop()
  for (const older of found) await older.index.close()
  if (newest) {
    try {
      checkConfig(newest.state, config)
    } catch (error) {
      await newest.index.close()
      throw error
    }
  }
  if (newest?.whole) return newest

  const log = await logs.begin(name, logs.nextGeneration(name))
  const index = await openIndex(log, true)
  const state = beginIndex(newest?.state ?? null, config, now)
  if (newest) {
    await copy(newest.index, index)
    await newest.index.close()
  }
  await index.apply([{ key: indexStateKey, value: encodeIndexState(state) }])
  return { index, log, state }
}

/**
 * An index goes on only with the configuration that it has adopted, or a newer one.
 * @throws CONFIG_STALE, CONFIG_CONFLICT
 */
export function checkConfig(
  { epoch, configHash }: IndexState,
  config: { readonly epoch: number; readonly hash: string }
): void {
  if (config.epoch < epoch) {
    throw new KVSwarmError(
      'CONFIG_STALE',
      `the configuration has epoch ${config.epoch}, but this storage node's index has adopted epoch ${epoch}`,
      { hint: 'use the newest configuration file', data: { epoch: config.epoch, adopted: epoch } }
    )
  }
  if (config.epoch === epoch && config.hash !== configHash) {
    throw new KVSwarmError(
      'CONFIG_CONFLICT',
      `this storage node's index has adopted epoch ${epoch} as ${configHash}, and this is another document of that epoch: ${config.hash}`,
      { hint: 'use the one that was adopted, or make the change as a new epoch' }
    )
  }
}

/** @returns null when the index was never finished */
async function readState(index: Index): Promise<IndexState | null> {
  if (index.head.length === 0) return null
  const value = await index.get(indexStateKey, { wait: false })
  return value === null ? null : decodeIndexState(value)
}

async function copy(from: Index, to: Index): Promise<void> {
  const snapshot = from.snapshot()
  let changes: IndexChange[] = []
  let bytes = 0
  try {
    for await (const { key, value } of snapshot.range({}, { wait: false })) {
      if (Buffer.from(key).equals(Buffer.from(indexStateKey))) continue
      changes.push({ key, value })
      bytes += key.length + value.length
      if (changes.length >= copyEntriesMax || bytes >= copyBytesMax) {
        await to.apply(changes)
        changes = []
        bytes = 0
      }
    }
    if (changes.length > 0) await to.apply(changes)
  } catch (error) {
    throw new KVSwarmError('DATADIR_DAMAGED', "the storage node's index cannot be read whole", {
      hint: 'restore the data directory from a backup',
      cause: error
    })
  } finally {
    await snapshot.close()
  }
}
