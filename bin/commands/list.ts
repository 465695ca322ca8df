/** `kvswarm list`: prints keys in order. */
import { usageError } from '../args.ts'
import { type CommandModule, type Options, textOption } from '../context.ts'
import { exitCodes } from '../exit-codes.ts'
import { entryToJson, readOptionsOf } from './get.ts'
import { keyToText, valueToJson } from '../json-values.ts'
import { escapeControls } from '../print.ts'
import { connected, waitOf, withStore } from '../store.ts'
import type { KVEntry, ListSelector } from '../../lib/index.ts'

export const list: CommandModule = {
  define: (command) =>
    command
      .summary('print keys in order')
      .description(
        'Prints the keys of all storage nodes, one on a line, ordered by their bytes. Control characters are escaped, so that one line is one key; --json is exact.'
      )
      .optionsGroup('Options:')
      .option('--prefix <text>', 'keys that begin with this')
      .option('--start <key>', 'from this key on')
      .option('--end <key>', 'up to, and without, this key')
      .option('--limit <number>', 'at most so many')
      .option('--reverse', 'last key first')
      .option('--values', 'print each value too, behind a tab')
      .option('--fresh', 'ask every owner for its newest state first')
      .option('--local', 'use only what is on this machine; do not connect')
      .addHelpText(
        'after',
        `
With --json one object on each line, as get --json prints it.

Examples:
  kvswarm -c config.json -d /tmp/x list --prefix user: --limit 10
  kvswarm -c config.json -d /tmp/x list --json > all.ndjson`
      ),
  run: async (context, _operands, options) => {
    const { print } = context
    const selector = selectorOf(options)
    const withValues = options['values'] === true
    return await withStore(context, {}, async (kv, deadline) => {
      if (options['local'] !== true) await connected(kv, deadline)
      const wait = { ...waitOf(context, deadline), ...readOptionsOf(options) }
      for await (const entry of kv.list(selector, wait)) {
        if (print.options.json) await print.json(entryToJson(entry))
        else await print.line(lineOf(entry, withValues))
      }
      return exitCodes.done
    })
  }
}

function lineOf({ key, value }: KVEntry, withValues: boolean): string {
  const name = escapeControls(keyToText(key))
  if (!withValues) return name
  const text = typeof value === 'string' ? value : JSON.stringify(valueToJson(value))
  return `${name}\t${escapeControls(text)}`
}

function selectorOf(options: Options): ListSelector {
  const prefix = textOption(options, 'prefix')
  const start = textOption(options, 'start')
  const end = textOption(options, 'end')
  if (prefix !== undefined && (start !== undefined || end !== undefined)) {
    throw usageError('--prefix does not go with --start and --end', 'use one or the other')
  }
  const limit = textOption(options, 'limit')
  if (limit !== undefined && !/^[0-9]{1,15}$/.test(limit)) {
    throw usageError(`--limit is '${limit}'`, 'give a whole number')
  }
  return {
    ...(prefix === undefined || prefix === '' ? {} : { prefix }),
    ...(start === undefined || start === '' ? {} : { start }),
    ...(end === undefined ? {} : { end }),
    ...(limit === undefined ? {} : { limit: Number(limit) }),
    ...(options['reverse'] === true ? { reverse: true } : {})
  }
}
