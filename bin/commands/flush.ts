/** What put, del and write share: the flush, what it waits for, and what it prints. */
import type { Command } from 'commander'
import type { Context, Options } from '../context.ts'
import { type Deadline, connected, waitOf } from '../store.ts'
import type { Config } from '../../config/index.ts'
import { KVSwarmError, isKVSwarmError } from '../../lib/errors.ts'
import type { FlushResult, KVSwarm } from '../../lib/index.ts'
import type { Key, NodeId, Value } from '../../lib/types.ts'

/** Adds `--ack` and `--receipt`. */
export function addFlushOptions(command: Command): Command {
  return command
    .option('--ack', 'connect, and wait until the storage nodes hold it on disk')
    .option('--receipt', 'connect, and wait until it is applied and readable')
}

/** Text about what a write promises. */
export const flushHelp = `
Without --ack and --receipt it works offline: it ends when the operations are on
this machine's disk, and they are delivered when the node is connected next
(kvswarm connect). With --json it prints {"id":…,"operations":…,"parts":…}; the
id is for get --after. A timeout behind the write ends with 4 and says that the
operations are safe.`

/** @throws NOT_WRITER */
export function mustBeWriter(config: Config, id: NodeId): void {
  if (config.isWriter(id)) return
  throw new KVSwarmError('NOT_WRITER', `this node (${id}) is not a writer of the configuration`, {
    hint: 'add it with kvswarm init --writer=ID, or write from another node'
  })
}

/** What is waited for behind the disk. */
export function awaitedOf(options: Options): { ack: boolean; receipt: boolean } {
  return { ack: options['ack'] === true, receipt: options['receipt'] === true }
}

/** Refuses what cannot be a key or a value, before anything is opened. @throws KEY_…, VALUE_… */
export async function checkKey(key: Key, value: Value = null): Promise<void> {
  const { encodeKey } = await import('../../lib/wire/keys.ts')
  const { encodeValue } = await import('../../lib/wire/values.ts')
  encodeKey(key)
  encodeValue(value)
}

/** Flushes what was put, waits as the options ask, and prints the result with `--json`. */
export async function flushAndPrint(
  context: Context,
  kv: KVSwarm,
  options: Options,
  deadline: Deadline
): Promise<void> {
  // First the disk, whatever the network does.
  const flushed = await kv.flush({ signal: context.io.signal })
  const { ack, receipt } = awaitedOf(options)
  if (ack || receipt) {
    await safely(flushed, async () => {
      await connected(kv, deadline)
      await kv.receipt(flushed.id, { ...waitOf(context, deadline), ack: !receipt })
    })
  }
  await printFlush(context, flushed)
}

/** What fails behind the disk says that the operations are safe. */
export async function safely(flushed: FlushResult, wait: () => Promise<unknown>): Promise<void> {
  try {
    await wait()
  } catch (error) {
    if (!isKVSwarmError(error, 'TIMEOUT', 'ABORTED', 'NOT_CONNECTED', 'OWNER_UNREACHABLE'))
      throw error
    throw new KVSwarmError(error.code, `${error.message}; the operations are safe on this disk`, {
      hint: 'they are delivered while this node is connected: kvswarm connect',
      durable: true,
      flushId: flushed.id,
      data: error.data,
      cause: error
    })
  }
}

/** The result of a flush on one line. */
export async function printFlush({ print }: Context, flushed: FlushResult): Promise<void> {
  if (print.options.json) await print.json(flushed)
}
