/** `kvswarm init`: prints a new configuration. */
import { Option } from 'commander'
import { pairSeparator, usageError } from '../args.ts'
import type { CommandModule } from '../context.ts'
import { exitCodes } from '../exit-codes.ts'
import { escapeControls } from '../print.ts'
import { isKVSwarmError } from '../../lib/errors.ts'
import type { NodeId } from '../../lib/types.ts'
import { parseNodeId } from '../../lib/wire/ids.ts'

const collect = (value: string, before: readonly string[] = []): readonly string[] => [
  ...before,
  value
]

export const init: CommandModule = {
  define: (command) =>
    command
      .summary('print a new configuration')
      .description(
        'Prints a configuration on stdout: which storage nodes there are, with which capacities, and who may write. A node gets the share capacity / sum of capacities of all keys.'
      )
      .optionsGroup('Options:')
      .addOption(new Option('--capacity <id=number>', 'pair').argParser(collect).hideHelp())
      .addOption(
        new Option('--writer <id>', 'a node that may write; may be given several times').argParser(
          collect
        )
      )
      .addHelpText(
        'after',
        `
Capacities:
  --capacity.ID=NUMBER    a storage node and its capacity, a positive number with
                          at most six decimals; at least one

With --bootstrap the addresses are stored in the configuration.

Example:
  kvswarm init --capacity.$A=5 --capacity.$B=10 --writer=$X > config.json`
      ),
  run: async ({ print, globals }, _operands, options) => {
    const capacities = capacitiesOf((options['capacity'] ?? []) as readonly string[])
    const writers = ((options['writer'] ?? []) as readonly string[]).map((text) =>
      idOf('--writer', text)
    )
    const { default: Config } = await import('../../config/index.ts')
    try {
      const config = new Config({
        capacities: Object.fromEntries(capacities),
        writers: [...new Set(writers)],
        hashKey: Config.randomHashKey(),
        ...(globals.bootstrapGiven ? { bootstrap: globals.bootstrap } : {})
      })
      await print.out(config.serialize())
    } catch (error) {
      // Here the command line is the configuration.
      if (!isKVSwarmError(error, 'CONFIG_INVALID')) throw error
      throw usageError(error.message, error.hint)
    }
    return exitCodes.done
  }
}

function capacitiesOf(pairs: readonly string[]): Map<NodeId, number> {
  const capacities = new Map<NodeId, number>()
  for (const pair of pairs) {
    const at = pair.indexOf(pairSeparator)
    const id = idOf('--capacity', pair.slice(0, at))
    const text = pair.slice(at + 1)
    // Not Number() alone: it takes '', ' 5 ' and 0x10.
    const capacity = /^[0-9]+(?:\.[0-9]+)?(?:e[+-]?[0-9]+)?$/i.test(text)
      ? Number(text)
      : Number.NaN
    if (!Number.isFinite(capacity) || capacity <= 0) {
      throw usageError(
        `the capacity of ${id} is '${escapeControls(text)}'`,
        'give a positive number with at most six decimals, such as 5 or 0.5'
      )
    }
    if (capacities.has(id)) {
      throw usageError(`the capacity of ${id} is given twice`, 'give each node one capacity')
    }
    capacities.set(id, capacity)
  }
  if (capacities.size > 0) return capacities
  throw usageError('no storage node is given', 'add at least one --capacity.ID=NUMBER')
}

function idOf(option: string, text: string): NodeId {
  try {
    return parseNodeId(text)
  } catch (error) {
    if (!isKVSwarmError(error)) throw error
    throw usageError(`${option}: ${error.message}`, error.hint)
  }
}
