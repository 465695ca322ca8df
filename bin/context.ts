/** What every command is given: its streams, the global options, and the signal that ends it. */
import type { Readable } from 'node:stream'
import type { Command } from 'commander'
import { usageError } from './args.ts'
import { type Output, Printer } from './print.ts'
import { timeoutCommandMs } from '../config/limits.ts'

/** The outer world of the command. */
export interface Io {
  readonly stdin: Readable
  readonly stdout: Output
  readonly stderr: Output
  readonly env: Readonly<Record<string, string | undefined>>
  /** Fires when the process is asked to end; its reason is the signal's name. */
  readonly signal: AbortSignal
}

/** The global options as they were given, or from the environment. */
export interface Globals {
  readonly datadir: string | undefined
  readonly config: string | undefined
  /** `host:port` of DHT nodes; undefined: the configuration's, or the public DHT. */
  readonly bootstrap: readonly string[] | undefined
  /** True when `--bootstrap` itself was given, not the environment variable. */
  readonly bootstrapGiven: boolean
  readonly timeoutMs: number
  readonly durability: 'sync' | 'os'
}

/** A command's surroundings. */
export interface Context {
  readonly io: Io
  readonly print: Printer
  readonly globals: Globals
}

/** Options as commander gives them. */
export type Options = Readonly<Record<string, unknown>>

/** One command: its part of the grammar and help, and what it does. */
export interface CommandModule {
  /** Adds description, arguments, options and examples. */
  readonly define: (command: Command) => Command
  /** @returns the exit code */
  readonly run: (context: Context, operands: readonly string[], options: Options) => Promise<number>
}

/** Adds the options that every command takes. */
export function addGlobals(command: Command): Command {
  return command
    .optionsGroup('Global options:')
    .option('-d, --datadir <folder>', "the node's data directory (KVSWARM_DATADIR)")
    .option('-c, --config <file>', 'the configuration (KVSWARM_CONFIG)')
    .option(
      '--bootstrap <host:port,…>',
      'DHT nodes of a private swarm (KVSWARM_BOOTSTRAP); without: the public DHT'
    )
    .option('--timeout <time>', 'how long to wait: 10s, 500ms, 2 (seconds), none, 0 (default: 10s)')
    .option('--durability <mode>', "'sync' or 'os': when own writes reach the disk (default: sync)")
    .option('--json', 'print JSON for machines; errors as an object on stderr')
    .option('-q, --quiet', 'print no warnings and notes')
    .option('-v, --verbose', 'print where errors come from')
    .option('--no-color', 'print without colours')
}

/** @throws USAGE */
export function contextOf(io: Io, options: Options): Context {
  const { env } = io
  const bootstrap = textOption(options, 'bootstrap')
  const durability = textOption(options, 'durability') ?? 'sync'
  if (durability !== 'sync' && durability !== 'os') {
    throw usageError(`--durability is '${durability}'`, 'use sync or os')
  }
  return {
    io,
    print: printerOf(io, options),
    globals: {
      datadir: nonEmpty('--datadir', textOption(options, 'datadir') ?? env['KVSWARM_DATADIR']),
      config: nonEmpty('--config', textOption(options, 'config') ?? env['KVSWARM_CONFIG']),
      bootstrap: bootstrapOf(bootstrap ?? env['KVSWARM_BOOTSTRAP']),
      bootstrapGiven: bootstrap !== undefined,
      timeoutMs: timeoutOf(textOption(options, 'timeout')),
      durability
    }
  }
}

/** How to print, also when the command line is wrong. */
export function printerOf({ stdout, stderr, env }: Io, options: Options): Printer {
  return new Printer(stdout, stderr, {
    json: options['json'] === true,
    quiet: options['quiet'] === true,
    verbose: options['verbose'] === true,
    color: options['color'] !== false && !env['NO_COLOR']
  })
}

/** An option with a value, or undefined. */
export function textOption(options: Options, name: string): string | undefined {
  const value = options[name]
  return typeof value === 'string' ? value : undefined
}

/** An empty variable in the environment counts as none; an empty option is a mistake. */
function nonEmpty(name: string, value: string | undefined): string | undefined {
  return value === '' ? undefined : value?.includes('\0') ? refuse(name) : value
}

function refuse(name: string): never {
  throw usageError(`${name} is no path`, 'give the path of a file')
}

function bootstrapOf(text: string | undefined): readonly string[] | undefined {
  if (text === undefined || text === '') return undefined
  const addresses = text.split(',').map((address) => address.trim())
  const wrong = addresses.find((address) => !/^[^\s:]+:[0-9]{1,5}$/.test(address))
  if (wrong === undefined) return addresses
  throw usageError(`--bootstrap names '${wrong}'`, 'give host:port, several separated by commas')
}

/** Milliseconds of a time as it is written on the command line. @throws USAGE */
export function timeoutOf(text: string | undefined): number {
  if (text === undefined) return timeoutCommandMs
  if (text === 'none') return Infinity
  const [, digits, unit = 's'] = /^([0-9]+(?:\.[0-9]+)?)(ms|s|m|h)?$/.exec(text) ?? []
  if (digits === undefined) {
    throw usageError(
      `--timeout is '${text}'`,
      'give a time such as 10s, 500ms, 2 (seconds), 0 (at once) or none'
    )
  }
  const units: Record<string, number> = { ms: 1, s: 1000, m: 60_000, h: 3_600_000 }
  return Number(digits) * (units[unit] as number)
}
