/** `kvswarm connect`: keeps a node connected. */
import type { CommandModule } from '../context.ts'
import { addQueueOptions, queueOf } from './flush.ts'
import { serve } from '../serve.ts'

export const connect: CommandModule = {
  define: (command) =>
    addQueueOptions(
      command
        .summary('keep a node connected')
        .description(
          'Connects to the storage nodes: delivers what was written offline, and keeps connections for the reads of other commands on the same data directory. Runs until it is stopped (Ctrl-C, or kvswarm stop), and prints nothing on stdout. When the configuration file is replaced by one with a higher epoch, that is taken over.'
        )
        .optionsGroup('Options:')
    ).addHelpText('after', '\nExample:\n  kvswarm -c config.json -d /tmp/x connect &'),
  run: async (context, _operands, options) =>
    await serve(context, { queue: queueOf(options) }, async (kv) => await kv.connect())
}
