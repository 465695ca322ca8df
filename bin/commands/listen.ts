/** `kvswarm listen`: runs a storage node. */
import type { CommandModule } from '../context.ts'
import { addQueueOptions, queueOf } from './flush.ts'
import { serve } from '../serve.ts'
import type { Config } from '../../config/index.ts'
import { KVSwarmError } from '../../lib/errors.ts'
import type { NodeId } from '../../lib/types.ts'

export const listen: CommandModule = {
  define: (command) =>
    addQueueOptions(
      command
        .summary('run a storage node')
        .description(
          "Takes in what writers send, applies it, and serves reads, until it is stopped (Ctrl-C, or kvswarm stop). Prints the node's id as its first line on stdout when others can reach it. When the configuration file is replaced by one with a higher epoch, that is taken over."
        )
        .optionsGroup('Options:')
    ).addHelpText(
      'after',
      `
Ends with 5 when the configuration gives this node no capacity; writers and\nreaders use kvswarm connect.

Example:
  kvswarm listen -d /tmp/a -c config.json &`
    ),
  run: async (context, _operands, options) =>
    await serve(context, { authorise: mustStore, queue: queueOf(options) }, async (kv) => {
      const { print } = context
      await kv.listen()
      await (print.options.json ? print.json({ id: kv.nodeId }) : print.line(kv.nodeId))
    })
}

function mustStore(config: Config, id: NodeId): void {
  if (config.isStorageNode(id)) return
  throw new KVSwarmError(
    'NOT_AUTHORISED',
    `the configuration gives this node (${id}) no role to listen for`,
    { hint: 'give it a capacity (kvswarm init --capacity.ID=NUMBER), or use kvswarm connect' }
  )
}
