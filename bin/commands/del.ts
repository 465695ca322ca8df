/** `kvswarm del`: deletes one key. */
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

export const del: CommandModule = {
  define: (command) =>
    addFlushOptions(
      command
        .summary('delete one key')
        .description(
          'Deletes a key, whether it exists or not. Ends with 5 when this node is not a writer.'
        )
        .argument('<key>', 'a string')
        .optionsGroup('Options:')
    ).addHelpText(
      'after',
      `${flushHelp}

Example:
  kvswarm -c config.json -d /tmp/x del greeting --receipt`
    ),
  run: async (context, [key], options) => {
    await checkKey(key as string)
    return await withStore(
      context,
      { authorise: mustBeWriter, queue: queueOf(options) },
      async (kv, deadline) => {
        kv.del(key as string)
        await flushAndPrint(context, kv, options, deadline)
        return exitCodes.done
      }
    )
  }
}
