/** `kvswarm stop`: ends the processes of a data directory. */
import type { CommandModule } from '../context.ts'
import { exitCodes } from '../exit-codes.ts'
import { datadirOf } from '../store.ts'

export const stop: CommandModule = {
  define: (command) =>
    command
      .summary('end the processes of a data directory')
      .description(
        'Asks the process that holds the data directory (listen, connect, …) to end, and those that share it, and waits until the directory is free. Ends with 0 when nobody held it; with 6 when the holder does not end in time.'
      )
      .addHelpText('after', '\nExample:\n  kvswarm stop -d /tmp/a'),
  run: async (context) => {
    const { print, globals, io } = context
    const { stopHolder } = await import('../../lib/coordination/index.ts')
    const stopped = await stopHolder(datadirOf(context), {
      timeout: globals.timeoutMs,
      signal: io.signal
    })
    if (print.options.json) await print.json({ stopped })
    else if (stopped.length === 0) print.note('nobody holds the data directory')
    return exitCodes.done
  }
}
