/** One run of the command: from its arguments to its exit code. */
import { CommanderError } from 'commander'
import { normalise, usageError } from './args.ts'
import { type Io, contextOf, printerOf } from './context.ts'
import { exitCodeOf, exitCodes } from './exit-codes.ts'
import { type Program, buildProgram, usageOf } from './program.ts'
import { exitCodeOfSignal } from './signals.ts'
import { version } from '../lib/status.ts'

/** Runs the command. Never throws: what goes wrong is printed on stderr. */
export async function main(args: readonly string[], io: Io): Promise<number> {
  const built = buildProgram(version)
  let options: Readonly<Record<string, unknown>> = formatOf(args)
  try {
    const chosen = parse(args, built)
    if (chosen === null) {
      await printerOf(io, options).out(built.printed())
      return exitCodes.done
    }
    const { module, operands } = chosen
    options = chosen.options
    return await module.run(contextOf(io, options), operands, options)
  } catch (error) {
    // Closed by its own signal, whatever that broke off.
    if (io.signal.aborted) return exitCodeOfSignal(io.signal)
    printerOf(io, options).error(error)
    return exitCodeOf(error)
  }
}

/** An error that nobody caught: as every other, and then the process must end. */
export function reportCrash(error: unknown, args: readonly string[], io: Io): number {
  printerOf(io, formatOf(args)).error(error)
  return exitCodeOf(error)
}

/** What is asked for; null: help or the version, printed already. @throws USAGE */
function parse(args: readonly string[], built: Program): ReturnType<Program['chosen']> {
  const { program, grammar, chosen } = built
  const words = normalise(args, grammar)
  const asked = words.some((word) => !word.startsWith('--') || /^--(?:help|version)$/.test(word))
  if (!asked) {
    throw usageError('no command is given', 'see kvswarm --help; kvswarm demo shows it all')
  }
  try {
    program.parse(words, { from: 'user' })
  } catch (error) {
    if (!(error instanceof CommanderError)) throw error
    if (error.exitCode === 0) return null
    if (error.code === 'commander.help') {
      throw usageError('no command is given', 'see kvswarm --help; kvswarm demo shows it all')
    }
    throw usageOf(error, grammar, words[0] as string)
  }
  return chosen()
}

/** How an error is printed when the command line itself is wrong. */
function formatOf(args: readonly string[]): Record<string, unknown> {
  const end = args.indexOf('--')
  const options = end === -1 ? args : args.slice(0, end)
  return {
    json: options.includes('--json'),
    verbose: options.includes('-v') || options.includes('--verbose'),
    color: !options.includes('--no-color')
  }
}
