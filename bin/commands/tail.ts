/** `kvswarm tail`: prints what has changed, and goes on with what changes. */
import { type CommandModule, textOption } from '../context.ts'
import { exitCodes } from '../exit-codes.ts'
import { entryToJson } from './get.ts'
import { keyToJson, keyToText, valueToJson } from '../json-values.ts'
import { escapeControls } from '../print.ts'
import { connected, waitOf, withStore } from '../store.ts'
import type { Change } from '../../lib/index.ts'

export const tail: CommandModule = {
  define: (command) =>
    command
      .summary('print what has changed')
      .description(
        'Prints the state of all keys, or what has changed since a bookmark, one change on a line: `put KEY VALUE` or `del KEY`, separated by tabs. The newest state of a key is always told; states between may be left out. `bookmark TEXT` says from where to go on; `reset` says that what was told before is void, and all of it follows.'
      )
      .optionsGroup('Options:')
      .option('--since <bookmark>', 'only what has changed since then')
      .option('--follow', 'go on with what changes, until a signal')
      .option('--local', 'use only what is on this machine; do not connect')
      .addHelpText(
        'after',
        `
Examples:
  kvswarm -c config.json -d /tmp/x tail
  kvswarm -c config.json -d /tmp/x tail --follow --json`
      ),
  run: async (context, _operands, options) => {
    const { print } = context
    const follow = options['follow'] === true
    return await withStore(context, {}, async (kv, deadline) => {
      if (options['local'] !== true) {
        await connected(kv, deadline)
        await kv.refresh(waitOf(context, deadline))
      }
      const wait = follow
        ? { ...waitOf(context, deadline), timeout: Infinity }
        : waitOf(context, deadline)
      for await (const change of kv.tail(textOption(options, 'since') ?? null, {
        ...wait,
        follow
      })) {
        if (print.options.json) await print.json(toJson(change))
        else await print.line(lineOf(change))
      }
      return exitCodes.done
    })
  }
}

function toJson(change: Change): unknown {
  if (change.type === 'put') return { type: 'put', ...(entryToJson(change) as object) }
  if (change.type === 'del') return { type: 'del', key: keyToJson(change.key) }
  return change
}

function lineOf(change: Change): string {
  switch (change.type) {
    case 'put': {
      const { key, value } = change
      const text = typeof value === 'string' ? value : JSON.stringify(valueToJson(value))
      return `put\t${escapeControls(keyToText(key))}\t${escapeControls(text)}`
    }
    case 'del':
      return `del\t${escapeControls(keyToText(change.key))}`
    case 'bookmark':
      return `bookmark\t${change.bookmark}`
    case 'reset':
      return 'reset'
  }
}
