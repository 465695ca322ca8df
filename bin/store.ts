/** Opening the data directory for a command, and closing it whatever happens. */
import { readFile } from 'node:fs/promises'
import type { Context } from './context.ts'
import { usageError } from './args.ts'
import type { Config } from '../config/index.ts'
import { KVSwarmError, isKVSwarmError, messageOf } from '../lib/errors.ts'
import type { KVSwarm, KVSwarmOptions } from '../lib/index.ts'
import type { NodeId } from '../lib/types.ts'
import { timerMsMax } from '../lib/wait.ts'

/** Options of the write queue, as the library takes them. */
export type QueueOptions = Pick<KVSwarmOptions, 'maxPendingBytes' | 'maxPendingBlocks' | 'onFull'>

/** How a command wants the data directory. */
export interface StoreOptions {
  /** Checked with the node's id before the configuration is adopted, so that a refusal leaves nothing. */
  readonly authorise?: (config: Config, id: NodeId) => void
  /** True: the configuration file is not read. */
  readonly withoutConfig?: boolean
  /** Bounds of the write queue. @default the library's */
  readonly queue?: QueueOptions
  /** An error that the library can tell nobody else. @default printed as a warning */
  readonly onError?: (error: KVSwarmError) => void
}

/** The data directory of `-d`. @throws USAGE */
export function datadirOf({ globals }: Context): string {
  if (globals.datadir !== undefined) return globals.datadir
  throw usageError('no data directory is given', 'use -d FOLDER, or set KVSWARM_DATADIR')
}

/** Path of the configuration file. @throws USAGE */
export function configPathOf({ globals }: Context): string {
  if (globals.config !== undefined) return globals.config
  throw usageError('no configuration is given', 'use -c FILE, or set KVSWARM_CONFIG')
}

/** Reads a configuration file. @throws CONFIG_INVALID */
export async function readConfig(path: string): Promise<Config> {
  let text: string
  try {
    text = await readFile(path, 'utf8')
  } catch (error) {
    throw new KVSwarmError(
      'CONFIG_INVALID',
      `the configuration ${path} cannot be read: ${messageOf(error)}`,
      { hint: 'check the path; kvswarm init makes a configuration', cause: error }
    )
  }
  const { default: Config } = await import('../config/index.ts')
  try {
    return Config.parse(text)
  } catch (error) {
    if (!isKVSwarmError(error)) throw error
    throw new KVSwarmError(error.code, `${path}: ${error.message}`, {
      hint: error.hint,
      data: error.data,
      cause: error
    })
  }
}

/** A deadline over several steps of one command. */
export class Deadline {
  readonly #end: number

  constructor(timeoutMs: number) {
    this.#end = performance.now() + timeoutMs
  }

  /** What is left, in milliseconds. */
  get leftMs(): number {
    return Math.max(0, this.#end - performance.now())
  }

  /** The promise's value, or TIMEOUT when the time is over. */
  async within<T>(promise: Promise<T>, what: string): Promise<T> {
    const { leftMs } = this
    if (leftMs === Infinity) return await promise
    let timer: NodeJS.Timeout | undefined
    const late = new Promise<never>((_, reject) => {
      const end = (): void =>
        reject(
          new KVSwarmError('TIMEOUT', `${what} took too long`, {
            hint: 'try again, or with a longer --timeout'
          })
        )
      timer = setTimeout(end, Math.min(leftMs, timerMsMax))
    })
    try {
      return await Promise.race([promise, late])
    } finally {
      clearTimeout(timer)
    }
  }
}

/**
 * Opens the data directory, runs `use`, closes it. Warnings of the library are printed.
 * @throws what opening throws; what `use` throws
 */
export async function withStore<T>(
  context: Context,
  options: StoreOptions,
  use: (kv: KVSwarm, deadline: Deadline) => Promise<T>
): Promise<T> {
  const storage = datadirOf(context)
  const { globals, print } = context
  const deadline = new Deadline(globals.timeoutMs)
  const config =
    options.withoutConfig === true || globals.config === undefined
      ? undefined
      : await readConfig(globals.config)
  const bootstrap = globals.bootstrap ?? config?.bootstrap
  const { KVSwarm } = await import('../lib/index.ts')
  // With a check to make, the node's id comes first and the configuration after.
  const late = config !== undefined && options.authorise !== undefined
  const kv = new KVSwarm({
    storage,
    ...(config === undefined || late ? {} : { config }),
    ...(bootstrap === undefined ? {} : { bootstrap: [...bootstrap] }),
    durability: globals.durability,
    timeout: globals.timeoutMs,
    lockTimeout: globals.timeoutMs,
    ...options.queue
  })
  kv.on('warning', (message) => print.warning(message))
  kv.on('error', options.onError ?? ((error) => print.warning(error.message)))
  try {
    await kv.ready()
    const known = config ?? kv.config
    if (known !== null) options.authorise?.(known, kv.nodeId)
    if (late) await kv.setConfig(config)
    const result = await use(kv, deadline)
    await kv.close()
    return result
  } catch (error) {
    // What was told as not written must not be written behind the caller's back.
    await kv.close({ flush: false }).catch(() => {})
    throw error
  }
}

/** Joins the swarm for the time of one command. */
export async function connected(kv: KVSwarm, deadline: Deadline): Promise<void> {
  await deadline.within(kv.connect(), 'connecting')
}

/** The options of a wait. */
export function waitOf(
  { io }: Context,
  deadline: Deadline
): { timeout: number; signal: AbortSignal } {
  return { timeout: deadline.leftMs, signal: io.signal }
}
