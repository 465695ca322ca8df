/** `kvswarm get`: prints the value of a key. */
import type { CommandModule, Context, Options } from '../context.ts'
import { textOption } from '../context.ts'
import { exitCodes } from '../exit-codes.ts'
import { checkKey } from './flush.ts'
import { keyToJson, valueToJson } from '../json-values.ts'
import { escapeForTerminal } from '../print.ts'
import { connected, waitOf, withStore } from '../store.ts'
import type { KVEntry } from '../../lib/index.ts'
import type { Value } from '../../lib/types.ts'

export const get: CommandModule = {
  define: (command) =>
    command
      .summary('print the value of a key')
      .description(
        'Prints the value of a key: a string and a newline, bytes as they are, anything else as JSON. Ends with 3, and prints nothing, when there is no such key; with 4 when nobody who has it answers in time.'
      )
      .argument('<key>', 'a string')
      .optionsGroup('Options:')
      .option('--raw', 'print the stored bytes alone, without a newline')
      .option('--fresh', "ask the key's owner for its newest state first")
      .option('--local', 'use only what is on this machine; do not connect')
      .option('--after <id>', 'wait until this flush (put --json prints its id) is readable')
      .addHelpText(
        'after',
        `
With --json: {"key":…,"value":…,"versionstamp":…,"expireAt":…} on one line.

Examples:
  kvswarm -c config.json -d /tmp/x get cool
  kvswarm -c config.json -d /tmp/x get photo --raw > photo.jpg
  kvswarm -d /tmp/x get cool --local --json`
      ),
  run: async (context, [key], options) => {
    await checkKey(key as string)
    return await withStore(context, {}, async (kv, deadline) => {
      const local = options['local'] === true
      if (!local) await connected(kv, deadline)
      const entry = await kv.getEntry(key as string, {
        ...waitOf(context, deadline),
        ...readOptionsOf(options)
      })
      if (entry === null) return exitCodes.notFound
      await printEntry(context, entry, options)
      return exitCodes.done
    })
  }
}

/** The options that get and list share, for the library. */
export function readOptionsOf(options: Options): {
  wait?: boolean
  fresh?: boolean
  after?: string
} {
  const after = textOption(options, 'after')
  return {
    ...(options['local'] === true ? { wait: false } : {}),
    ...(options['fresh'] === true ? { fresh: true } : {}),
    ...(after === undefined ? {} : { after })
  }
}

/** An entry as `--json` prints it. */
export function entryToJson({ key, value, versionstamp, expireAt }: KVEntry): unknown {
  return { key: keyToJson(key), value: valueToJson(value), versionstamp, expireAt }
}

async function printEntry({ print }: Context, entry: KVEntry, options: Options): Promise<void> {
  const { value } = entry
  if (options['raw'] === true) await print.out(await storedBytes(value))
  else if (print.options.json) await print.json(entryToJson(entry))
  else if (typeof value === 'string') {
    await print.line(print.isTerminal ? escapeForTerminal(value) : value)
  } else if (value instanceof Uint8Array) {
    await print.out(print.isTerminal ? escapeForTerminal(Buffer.from(value).toString()) : value)
  } else await print.json(valueToJson(value))
}

/** The bytes of a value without their tag. */
async function storedBytes(value: Value): Promise<Uint8Array> {
  if (value instanceof Uint8Array) return value
  const { encodeValue } = await import('../../lib/wire/values.ts')
  return encodeValue(value).subarray(1)
}
