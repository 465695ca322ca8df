/** `kvswarm put`: writes one key. */
import type { CommandModule } from '../context.ts'
import { exitCodes } from '../exit-codes.ts'
import {
  addFlushOptions,
  checkKey,
  flushAndPrint,
  flushHelp,
  mustBeWriter,
  queueOf
} from './flush.ts'
import { withStore } from '../store.ts'

export const put: CommandModule = {
  define: (command) =>
    addFlushOptions(
      command
        .summary('write one key')
        .description('Writes a value under a key. Ends with 5 when this node is not a writer.')
        .argument('<key>', 'a string')
        .argument('<value>', 'a string, stored as it is')
        .optionsGroup('Options:')
    ).addHelpText(
      'after',
      `${flushHelp}

Examples:
  kvswarm -c config.json -d /tmp/x put greeting hi
  kvswarm -c config.json -d /tmp/x put greeting hi --receipt
  kvswarm -c config.json -d /tmp/x put -- -key -value`
    ),
  run: async (context, [key, value], options) => {
    await checkKey(key as string, value)
    return await withStore(
      context,
      { authorise: mustBeWriter, queue: queueOf(options) },
      async (kv, deadline) => {
        kv.put(key as string, value)
        await flushAndPrint(context, kv, options, deadline)
        return exitCodes.done
      }
    )
  }
}
