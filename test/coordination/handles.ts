/** Handles on a data directory in this process, for tests. */
import type { Test } from 'tape'
import { FakeEngine } from './fake-engine.ts'
import { type CoordinateOptions, coordinate } from '../../lib/coordination/index.ts'
import { isKVSwarmError } from '../../lib/errors.ts'
import type { Engine } from '../../lib/ports.ts'
import type { Entry, Operation } from '../../lib/types.ts'
import { cleanup } from '../helpers/cleanup.ts'

/** Text as bytes. */
export const bytes = (text: string): Uint8Array => new Uint8Array(Buffer.from(text))
/** A put. */
export const put = (key: string, value: string | Uint8Array): Operation => ({
  type: 'put',
  key: bytes(key),
  value: typeof value === 'string' ? bytes(value) : value
})
let requests = 0
/** A request id that no other write has. */
export const request = (): Uint8Array => {
  const id = Buffer.alloc(16)
  id.writeUInt32BE(++requests)
  return new Uint8Array(id)
}

/** Opens a directory with a fake engine; any warning fails the test. */
export async function open(
  t: Test,
  directory: string,
  options: Partial<CoordinateOptions> = {}
): Promise<Engine> {
  const engine = await coordinate({
    directory,
    mode: 'auto',
    lockTimeoutMs: 5_000,
    configText: null,
    openEngine: async (text) => new FakeEngine(directory, text),
    onWarning: (message) => t.fail(`warned: ${message}`),
    ...options
  })
  cleanup(t, () => engine.close())
  return engine
}

/** The handle that holds the directory and serves its socket. */
export function holder(t: Test, directory: string): Promise<Engine> {
  return open(t, directory, { mode: 'required', lockTimeoutMs: 1_000 })
}

/** The code of the error that a promise rejects with. */
export async function codeOf(promise: Promise<unknown>): Promise<string> {
  try {
    await promise
    return 'none'
  } catch (error) {
    return isKVSwarmError(error) ? error.code : `no KVSwarmError: ${String(error)}`
  }
}

/** The keys of a list, as text. */
export async function all(entries: AsyncIterable<Entry>): Promise<string[]> {
  const keys: string[] = []
  for await (const entry of entries) keys.push(Buffer.from(entry.key).toString())
  return keys
}
