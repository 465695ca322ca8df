/** `kvswarm backup`: copies a data directory, held or not. */
import type { CommandModule } from '../context.ts'
import { exitCodes } from '../exit-codes.ts'
import { datadirOf } from '../store.ts'

export const backup: CommandModule = {
  define: (command) =>
    command
      .summary('copy a data directory, also while it is in use')
      .description(
        'Copies the data directory to a folder that does not exist yet: one consistent state, with all that was acknowledged before; every checksum is verified on the way. Works while another process holds the directory. The copy is there whole or not at all.'
      )
      .argument('<folder>', 'where the backup is made')
      .addHelpText(
        'after',
        `
The backup holds the node's secret key: whoever has it can act as this node. It is
made for its owner alone (folders 0700, files 0600); keep it as private as the
directory. kvswarm restore makes a data directory of it.

Example:
  kvswarm backup -d /tmp/a /backups/a-1`
      ),
  run: async (context, [folder]) => {
    const { print, io } = context
    const { backup: make } = await import('../../lib/index.ts')
    const result = await make(datadirOf(context), folder as string, { signal: io.signal })
    if (print.options.json) await print.json({ ...result })
    else print.note(`${result.files} files, ${result.bytes} bytes, of node ${result.node}`)
    return exitCodes.done
  }
}
