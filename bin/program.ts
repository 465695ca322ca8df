/** The grammar of the whole command: all commands with their options, and the help. */
import { Command, CommanderError } from 'commander'
import { type Grammar, nearest, usageError } from './args.ts'
import { type CommandModule, type Options, addGlobals } from './context.ts'
import { exitMeanings } from './exit-codes.ts'
import { backup } from './commands/backup.ts'
import { bootstrap } from './commands/bootstrap.ts'
import { completionOf } from './commands/completion.ts'
import { connect } from './commands/connect.ts'
import { del } from './commands/del.ts'
import { demo } from './commands/demo.ts'
import { get } from './commands/get.ts'
import { id } from './commands/id.ts'
import { init } from './commands/init.ts'
import { list } from './commands/list.ts'
import { listen } from './commands/listen.ts'
import { put } from './commands/put.ts'
import { restore } from './commands/restore.ts'
import { status } from './commands/status.ts'
import { tail } from './commands/tail.ts'
import { stop } from './commands/stop.ts'
import { where } from './commands/where.ts'
import { write } from './commands/write.ts'
import type { KVSwarmError } from '../lib/errors.ts'

/** Columns of the help; the same everywhere, so that it can be tested. */
const helpColumns = 80

/** Every command, in the order of the help. */
const modules: Readonly<Record<string, CommandModule>> = {
  id,
  init,
  listen,
  connect,
  write,
  put,
  del,
  get,
  list,
  tail,
  status,
  where,
  backup,
  restore,
  bootstrap,
  demo,
  stop,
  completion: completionOf(() => buildProgram().program)
}

/** What a command line asks for. */
export interface Chosen {
  readonly module: CommandModule
  readonly operands: readonly string[]
  readonly options: Options
}

/** The program, and what its parsing has found. */
export interface Program {
  readonly program: Command
  readonly grammar: Grammar
  /** What commander has printed: help or the version. */
  readonly printed: () => string
  readonly chosen: () => Chosen | null
}

/** Builds the grammar; `version` is asked for when it is printed. */
export function buildProgram(version: () => string = () => ''): Program {
  let printed = ''
  let chosen: Chosen | null = null
  const program = new Command('kvswarm')
  quieten(program, (text) => {
    printed += text
  })
  program
    .usage('[options] <command> [arguments]')
    .description('A peer-to-peer key/value store, partitioned over many nodes.')
    .helpOption('-h, --help', 'print help; kvswarm <command> --help tells all about one')
    .option('-V, --version', 'print the version')
    .on('option:version', () => {
      printed += `${version()}\n`
      throw new CommanderError(0, 'commander.version', '')
    })
    .helpCommand('help [command]', 'print help about a command')
    .addHelpText('after', afterHelp())
  for (const [name, module] of Object.entries(modules)) {
    const command = program.command(name)
    quieten(command, (text) => {
      printed += text
    })
    addGlobals(module.define(command))
    command.helpOption('-h, --help', 'print this help')
    command.action((...given: unknown[]) => {
      const operands = given.slice(0, -2) as string[]
      chosen = { module, operands, options: given.at(-2) as Options }
    })
  }
  return {
    program,
    grammar: grammarOf(program),
    printed: () => printed,
    chosen: () => chosen
  }
}

/** Nothing is printed and no process ended by commander itself. */
function quieten(command: Command, print: (text: string) => void): void {
  command
    .exitOverride()
    .configureOutput({
      writeOut: print,
      // Help in place of an error is one, too; errors themselves come as CommanderError.
      writeErr: () => {},
      getOutHelpWidth: () => helpColumns,
      getErrHelpWidth: () => helpColumns,
      getOutHasColors: () => false,
      getErrHasColors: () => false
    })
    .configureHelp({ showGlobalOptions: false })
}

function grammarOf(program: Command): Grammar {
  const options = new Map([
    ['help', false],
    ['version', false]
  ])
  const letters = new Map([
    ['h', 'help'],
    ['V', 'version']
  ])
  for (const command of program.commands) {
    for (const { long, short, required, optional, hidden } of command.options) {
      const name = (long ?? '').slice(2)
      if (!hidden) options.set(name, required || optional)
      if (short) letters.set(short.slice(1), name)
    }
  }
  return { options, letters, commands: new Set([...Object.keys(modules), 'help']) }
}

/** Commander's error as ours. */
export function usageOf(error: CommanderError, grammar: Grammar, command: string): KVSwarmError {
  const [, text = '', said] =
    /^(?:error: )?(.*?)(?:\n\(Did you mean (?:one of )?(.*)\?\))?$/s.exec(error.message) ?? []
  // Pairs as they were written.
  const message = text.replace(/'--(put|del|capacity)=/, "'--$1.").replaceAll('\0', '=')
  const word = /'([^']*)'/.exec(message)?.[1] ?? ''
  const help = grammar.commands.has(command) ? `kvswarm ${command} --help` : 'kvswarm --help'
  const near =
    said ?? (error.code === 'commander.unknownCommand' ? nearest(word, grammar.commands) : null)
  return usageError(
    message.replace(/\.$/, ''),
    near === null ? `see ${help}` : `did you mean ${near}?`
  )
}

function afterHelp(): string {
  return `
Options before or behind the command word; all commands take:
  -d, --datadir FOLDER    the node's data directory (KVSWARM_DATADIR)
  -c, --config FILE       the configuration (KVSWARM_CONFIG)
  --bootstrap HOST:PORT   DHT nodes of a private swarm (KVSWARM_BOOTSTRAP)
  --timeout TIME          how long to wait: 10s, 500ms, 2, none (default: 10s)
  --durability MODE       'sync' or 'os' (default: sync)
  --json  -q  -v  --no-color

Example:
  A=$(kvswarm id -d /tmp/a)
  X=$(kvswarm id -d /tmp/x)
  kvswarm init --capacity.$A=5 --writer=$X > config.json
  kvswarm listen -d /tmp/a -c config.json &
  kvswarm -c config.json -d /tmp/x write --put.greeting=hi
  kvswarm -c config.json -d /tmp/x connect &
  kvswarm -c config.json -d /tmp/x get greeting

Exit codes:
${exitMeanings.map(([code, text]) => `  ${String(code).padEnd(5)}${text}`).join('\n')}`
}
