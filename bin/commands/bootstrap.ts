/** `kvswarm bootstrap`: runs a DHT node that a private swarm can start from. */
import { usageError } from '../args.ts'
import { type CommandModule, textOption } from '../context.ts'
import { untilSignal } from '../signals.ts'

export const bootstrap: CommandModule = {
  define: (command) =>
    command
      .summary('run a DHT node for a private swarm')
      .description(
        'Runs a DHT node that the nodes of a private swarm find each other through, until it is stopped. Its first line on stdout is host:port, for --bootstrap or KVSWARM_BOOTSTRAP.'
      )
      .optionsGroup('Options:')
      .option('--host <address>', 'IPv4 address to listen on', '127.0.0.1')
      .option('--port <number>', 'UDP port; 0: any free one', '0')
      .addHelpText(
        'after',
        `
Example:
  kvswarm bootstrap --port 49737 &
  export KVSWARM_BOOTSTRAP=127.0.0.1:49737`
      ),
  run: async ({ io, print }, _operands, options) => {
    const port = textOption(options, 'port') ?? ''
    if (!/^[0-9]{1,5}$/.test(port) || Number(port) > 65_535) {
      throw usageError(`--port is '${port}'`, 'give a number from 0 to 65535')
    }
    const host = textOption(options, 'host') as string
    const { startBootstrap } = await import('../../lib/hyper/bootstrap.ts')
    const node = await startBootstrap({ host, port: Number(port) })
    try {
      const { address } = node
      await (print.options.json ? print.json({ address }) : print.line(address))
      return await untilSignal(io.signal)
    } finally {
      await node.close()
    }
  }
}
