/** `kvswarm id`: prints the node's id, and makes it when there is none yet. */
import type { CommandModule } from '../context.ts'
import { exitCodes } from '../exit-codes.ts'
import { withStore } from '../store.ts'

export const id: CommandModule = {
  define: (command) =>
    command
      .summary("print this node's id")
      .description(
        'Prints the id of the node whose data directory is -d: 64 hex digits. A directory that does not exist is made, with a new identity. Works while another process holds the directory.'
      )
      .addHelpText('after', '\nExample:\n  A=$(kvswarm id -d /tmp/a)'),
  run: async (context) =>
    await withStore(context, { withoutConfig: true }, async (kv) => {
      const { print } = context
      await (print.options.json ? print.json({ id: kv.nodeId }) : print.line(kv.nodeId))
      return exitCodes.done
    })
}
