/** What put, del and write share: the flush, what it waits for, and what it prints. */
import type { Command } from 'commander'
import { usageError } from '../args.ts'
import { type Context, type Options, textOption } from '../context.ts'
import { type Deadline, type QueueOptions, connected, waitOf } from '../store.ts'
import type { Config } from '../../config/index.ts'
import { KVSwarmError, isKVSwarmError } from '../../lib/errors.ts'
import type { FlushResult, KVSwarm } from '../../lib/index.ts'
import type { Key, NodeId, Value } from '../../lib/types.ts'

/** Adds `--ack` and `--receipt`. */
export function addFlushOptions(command: Command): Command {
  return addOnFull(
    command
      .option('--ack', 'connect, and wait until the storage nodes hold it on disk')
      .option('--receipt', 'connect, and wait until it is applied and readable')
  )
}

/** Adds the bounds of the write queue. */
export function addQueueOptions(command: Command): Command {
  return command
    .option('--max-pending-bytes <number>', 'bytes without receipt in the outboxes, or none')
    .option('--max-pending-blocks <number>', 'the same in blocks (default: 1 GiB, 1000000)')
}

/** Adds `--on-full`. */
export function addOnFull(command: Command): Command {
  return command.option(
    '--on-full <what>',
    "'wait' or 'reject', when too much has no receipt yet (default: wait)"
  )
}

/** The options of the write queue as the library takes them. @throws USAGE */
export function queueOf(options: Options): QueueOptions {
  const bytes = boundOf(options, 'max-pending-bytes', 'maxPendingBytes')
  const blocks = boundOf(options, 'max-pending-blocks', 'maxPendingBlocks')
  const onFull = textOption(options, 'onFull')
  if (onFull !== undefined && onFull !== 'wait' && onFull !== 'reject') {
    throw usageError(`--on-full is '${onFull}'`, 'use wait or reject')
  }
  return {
    ...(bytes === undefined ? {} : { maxPendingBytes: bytes }),
    ...(blocks === undefined ? {} : { maxPendingBlocks: blocks }),
    ...(onFull === undefined ? {} : { onFull })
  }
}

function boundOf(options: Options, name: string, option: string): number | undefined {
  const text = textOption(options, option)
  if (text === undefined) return undefined
  if (text === 'none') return Infinity
  if (/^[1-9][0-9]{0,14}$/.test(text)) return Number(text)
  throw usageError(`--${name} is '${text}'`, 'give a whole number, or none')
}

/** Text about what a write promises. */
export const flushHelp = `
Without --ack and --receipt it works offline: it ends when the operations are on
this machine's disk, and they are delivered when the node is connected next
(kvswarm connect). With --json it prints {"id":…,"operations":…,"parts":…}; the
id is for get --after. A timeout behind the write ends with 4 and says that the
operations are safe; one before it says that nothing was written.`

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
