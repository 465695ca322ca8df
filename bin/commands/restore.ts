/** `kvswarm restore`: makes a data directory of a backup. */
import type { CommandModule } from '../context.ts'
import { exitCodes } from '../exit-codes.ts'
import { datadirOf } from '../store.ts'

export const restore: CommandModule = {
  define: (command) =>
    command
      .summary('make a data directory of a backup')
      .description(
        'Makes a new data directory of a backup, after checking every file of it. It is the same node; each of its logs goes on as a new generation, since others may know more of the old one than the backup has. Also takes a data directory that was copied by other means and therefore does not open.'
      )
      .argument('<folder>', 'what kvswarm backup made')
      .addHelpText(
        'after',
        `
The directory of -d must not exist yet, or be empty: nothing is overwritten.
Never let the original run again: two copies of a node contradict each other, and
others refuse what they say. What the original did after the backup is lost here
unless others have it: a storage node takes in again what its writers still hold.

Example:
  kvswarm restore /backups/a-1 -d /tmp/a`
      ),
  run: async (context, [folder]) => {
    const { print, io } = context
    const { restore: make } = await import('../../lib/index.ts')
    const result = await make(folder as string, datadirOf(context), { signal: io.signal })
    if (print.options.json) await print.json({ ...result })
    else await print.line(result.node)
    return exitCodes.done
  }
}
