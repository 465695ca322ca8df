/** `kvswarm write`: writes many keys, from options and from NDJSON. */
import { createReadStream } from 'node:fs'
import { Option } from 'commander'
import { pairSeparator, usageError } from '../args.ts'
import { type CommandModule, type Context, type Options, textOption } from '../context.ts'
import { exitCodes } from '../exit-codes.ts'
import {
  addFlushOptions,
  awaitedOf,
  checkKey,
  flushAndPrint,
  flushHelp,
  mustBeWriter,
  printFlush,
  queueOf,
  safely
} from './flush.ts'
import { keyFromJson, valueFromJson } from '../json-values.ts'
import { type Deadline, connected, withStore } from '../store.ts'
import { controlRequestBytesMax } from '../../config/limits.ts'
import { linesOf } from '../../lib/coordination/lines.ts'
import { KVSwarmError, isKVSwarmError, messageOf } from '../../lib/errors.ts'
import type { KVSwarm } from '../../lib/index.ts'
import type { Key, Value } from '../../lib/types.ts'

/** One flush of what comes from NDJSON holds at most so many operations and characters. */
const portionOperationsMax = 10_000
const portionCharactersMax = 4 * 1024 * 1024
/** Flushes whose ack or receipt is waited for at once. */
const portionsAwaitedMax = 8

/** An operation of the command line, in its order. */
interface Operation {
  readonly key: string
  /** Undefined: delete. */
  readonly value?: string
}

const collect =
  (make: (text: string) => Operation) =>
  (text: string, before: readonly Operation[] = []): readonly Operation[] => [...before, make(text)]

const putOf = (text: string): Operation => {
  const at = text.indexOf(pairSeparator)
  return { key: text.slice(0, at), value: text.slice(at + 1) }
}

export const write: CommandModule = {
  define: (command) => {
    // Both options fill one list, since their order among each other counts.
    let operations: readonly Operation[] = []
    const add =
      (make: (text: string) => Operation) =>
      (text: string): readonly Operation[] => {
        operations = collect(make)(text, operations)
        command.setOptionValue('operations', operations)
        return operations
      }
    return addFlushOptions(
      command
        .summary('write keys')
        .description(
          'Writes and deletes keys, in the order of the options, as one flush. Ends with 5 when this node is not a writer.'
        )
        .optionsGroup('Options:')
        .addOption(new Option('--put <key=value>', 'pair').argParser(add(putOf)).hideHelp())
        .addOption(new Option('--del <key>', 'pair').argParser(add((key) => ({ key }))).hideHelp())
        .option('--from <file>', "read operations from a file, '-' for stdin: NDJSON, see below")
    ).addHelpText(
      'after',
      `
Operations:
  --put.KEY=VALUE         the key ends at the first =, the rest is the value
  --put.KEY VALUE
  --del.KEY

NDJSON, one operation on each line, flushed in portions:
  {"put":"key","value":"text, number, list, object, …"}
  {"put":["users","alice"],"value":{"$bytes":"AAEC"}}
  {"del":"key"}
What list --json prints as value can be given as value.
${flushHelp}

Examples:
  kvswarm -c config.json -d /tmp/x write --put.greeting=hi
  kvswarm -c config.json -d /tmp/x write --put.a=1 --del.b --receipt
  kvswarm -c config.json -d /tmp/x write --from - < operations.ndjson`
    )
  },
  run: async (context, _operands, options) => {
    const operations = (options['operations'] ?? []) as readonly Operation[]
    const from = textOption(options, 'from')
    if (operations.length === 0 && from === undefined) {
      throw usageError('nothing is to be written', 'add --put.KEY=VALUE, --del.KEY or --from FILE')
    }
    for (const { key, value } of operations) await checkKey(key, value)
    return await withStore(
      context,
      { authorise: mustBeWriter, queue: queueOf(options) },
      async (kv, deadline) => {
        for (const { key, value } of operations) {
          if (value === undefined) kv.del(key)
          else kv.put(key, value)
        }
        if (from === undefined) await flushAndPrint(context, kv, options, deadline)
        else await writeFrom(context, kv, from, options, deadline)
        return exitCodes.done
      }
    )
  }
}

/** Reads NDJSON and flushes it in portions, so that memory stays bounded. */
async function writeFrom(
  context: Context,
  kv: KVSwarm,
  from: string,
  options: Options,
  deadline: Deadline
): Promise<void> {
  const portions = new Portions(context, kv, options, deadline)
  let number = 0
  try {
    for await (const line of linesOf(chunksOf(context, from), controlRequestBytesMax)) {
      number++
      const { key, value, remove } = operationOf(line, number, from)
      if (remove) kv.del(key)
      else kv.put(key, value)
      await portions.count(line.length)
    }
    await portions.flush()
  } catch (error) {
    // The lines before a bad one are written, as it says; but nothing is tried again that failed.
    if (!portions.failed) await portions.flush()
    await portions.settle()
    throw isKVSwarmError(error) ? error : readError(from, error)
  }
  await portions.finish()
}

/** Flushes, and a bounded number of them under way. */
class Portions {
  readonly #context: Context
  readonly #kv: KVSwarm
  readonly #options: Options
  readonly #deadline: Deadline
  readonly #awaited: Promise<unknown>[] = []
  #operations = 0
  #characters = 0
  #connected: Promise<void> | null = null
  /** A flush did not come to the disk. */
  failed = false

  constructor(context: Context, kv: KVSwarm, options: Options, deadline: Deadline) {
    this.#context = context
    this.#kv = kv
    this.#options = options
    this.#deadline = deadline
  }

  /** One more operation of so many characters. */
  async count(characters: number): Promise<void> {
    this.#operations++
    this.#characters += characters
    const full =
      this.#operations >= portionOperationsMax || this.#characters >= portionCharactersMax
    if (full) await this.flush()
  }

  /** Makes what there is durable; its ack or receipt is waited for later. */
  async flush(): Promise<void> {
    this.#operations = 0
    this.#characters = 0
    const { signal } = this.#context.io
    this.failed = true
    const flushed = await this.#kv.flush({ signal })
    this.failed = false
    if (flushed.operations === 0) return
    const { ack, receipt } = awaitedOf(this.#options)
    if (ack || receipt) {
      const { timeoutMs: timeout } = this.#context.globals
      const awaited = safely(flushed, async () => {
        await (this.#connected ??= connected(this.#kv, this.#deadline))
        await this.#kv.receipt(flushed.id, { timeout, signal, ack: !receipt })
      })
      awaited.catch(() => {})
      this.#awaited.push(awaited)
      if (this.#awaited.length >= portionsAwaitedMax) await this.#awaited.shift()
    }
    await printFlush(this.#context, flushed)
  }

  /** Waits for what is under way, whatever comes of it. */
  async settle(): Promise<void> {
    await Promise.allSettled(this.#awaited)
  }

  /** @throws what became of any flush */
  async finish(): Promise<void> {
    await Promise.all(this.#awaited)
  }
}

function chunksOf({ io }: Context, from: string): AsyncIterable<string> {
  return from === '-'
    ? (io.stdin.setEncoding('utf8') as AsyncIterable<string>)
    : (createReadStream(from, 'utf8') as AsyncIterable<string>)
}

function operationOf(
  line: string,
  number: number,
  from: string
): { key: Key; value: Value; remove: boolean } {
  const place = `line ${number} of ${from === '-' ? 'stdin' : from}`
  try {
    const fields = JSON.parse(line) as Record<string, unknown>
    const names =
      typeof fields === 'object' && fields !== null ? Object.keys(fields).toSorted() : []
    if (names.join() === 'put,value') {
      return {
        key: keyFromJson(fields['put']),
        value: valueFromJson(fields['value']),
        remove: false
      }
    }
    if (names.join() === 'del')
      return { key: keyFromJson(fields['del']), value: null, remove: true }
  } catch (error) {
    const hint = isKVSwarmError(error) ? error.hint : 'write one JSON object on each line'
    const code = isKVSwarmError(error) ? error.code : 'INVALID_ARGUMENT'
    throw new KVSwarmError(code, `${place}: ${messageOf(error)}`, {
      hint: `${hint}; the lines before it are written`,
      cause: error
    })
  }
  throw new KVSwarmError('INVALID_ARGUMENT', `${place} is no operation`, {
    hint: 'write {"put":KEY,"value":VALUE} or {"del":KEY} on each line; the lines before it are written'
  })
}

function readError(from: string, error: unknown): KVSwarmError {
  return new KVSwarmError('IO_ERROR', `${from} cannot be read: ${messageOf(error)}`, {
    hint: 'check the path',
    cause: error
  })
}
