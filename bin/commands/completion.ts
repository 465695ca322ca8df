/** `kvswarm completion`: prints a script that completes the command line in a shell. */
import { Argument, type Command } from 'commander'
import { usageError } from '../args.ts'
import type { CommandModule } from '../context.ts'
import { exitCodes } from '../exit-codes.ts'

/** A command for the scripts: its name, summary and long options. */
interface Described {
  readonly name: string
  readonly summary: string
  readonly options: readonly {
    readonly flag: string
    readonly text: string
    readonly file: boolean
  }[]
}

const scripts: Readonly<Record<string, (commands: readonly Described[]) => string>> = {
  bash,
  zsh,
  fish
}

/** @param program gives the whole program, whose commands the scripts name */
export function completionOf(program: () => Command): CommandModule {
  return {
    define: (command) =>
      command
        .summary('print a completion script for a shell')
        .description('Prints a script that completes commands and options in your shell.')
        .addArgument(new Argument('<shell>', 'bash, zsh or fish'))
        .addHelpText(
          'after',
          `
Examples:
  source <(kvswarm completion bash)        # in ~/.bashrc
  source <(kvswarm completion zsh)         # in ~/.zshrc, behind compinit
  kvswarm completion fish > ~/.config/fish/completions/kvswarm.fish`
        ),
    run: async ({ print }, [shell]) => {
      const script = scripts[shell as string]
      if (script === undefined || !Object.hasOwn(scripts, shell as string)) {
        throw usageError(`there is no completion for '${shell}'`, 'use bash, zsh or fish')
      }
      await print.out(script(describe(program())))
      return exitCodes.done
    }
  }
}

function describe(program: Command): Described[] {
  return program.commands.map((command) => ({
    name: command.name(),
    summary: command.summary(),
    options: [
      ...command.options.map((option) => ({
        // Pairs go on with a key behind a dot.
        flag: option.hidden ? `${option.long}.` : (option.long as string),
        text: option.hidden ? 'KEY=VALUE' : option.description,
        file: /<(?:file|folder)>/.test(option.flags)
      })),
      { flag: '--help', text: 'print help', file: false }
    ]
  }))
}

function bash(commands: readonly Described[]): string {
  const cases = commands.map(
    ({ name, options }) => `    ${name}) words='${options.map(({ flag }) => flag).join(' ')}' ;;`
  )
  const files = new Set(commands.flatMap(({ options }) => fileFlags(options)))
  return `# bash completion for kvswarm
_kvswarm() {
  local cur=\${COMP_WORDS[COMP_CWORD]} prev=\${COMP_WORDS[COMP_CWORD-1]} word command='' words
  COMPREPLY=()
  case $prev in
    ${[...files, '-d', '-c'].join('|')}) compopt -o default; return ;;
  esac
  for word in "\${COMP_WORDS[@]:1:COMP_CWORD-1}"; do
    case " ${commands.map(({ name }) => name).join(' ')} " in
      *" $word "*) command=$word; break ;;
    esac
  done
  case $command in
    '') words='${commands.map(({ name }) => name).join(' ')} --help --version' ;;
${cases.join('\n')}
  esac
  COMPREPLY=($(compgen -W "$words" -- "$cur"))
  case \${COMPREPLY[0]-} in
    *.) compopt -o nospace ;;
  esac
}
complete -F _kvswarm kvswarm
`
}

function zsh(commands: readonly Described[]): string {
  const names = commands.map(({ name, summary }) => `    ${quote(`${name}:${summary}`)}`)
  const cases = commands.map(({ name, options }) => {
    const flags = options.map(({ flag, text, file }) => {
      const label = text.replaceAll(/[\\[\]:]/g, (c) => `\\${c}`)
      return quote(`${flag}[${label}]${file ? ':file:_files' : ''}`)
    })
    return `    ${name}) _arguments ${flags.join(' ')} '*::key:' ;;`
  })
  return `#compdef kvswarm
# zsh completion for kvswarm
_kvswarm() {
  local -a commands
  commands=(
${names.join('\n')}
  )
  local word command=''
  for word in \${words[2,CURRENT-1]}; do
    if (( \${commands[(I)\${word}:*]} )); then command=$word; break; fi
  done
  case $command in
    '') _describe command commands ;;
${cases.join('\n')}
  esac
}
if [[ $zsh_eval_context[-1] == loadautofunc ]]; then _kvswarm "$@"; else compdef _kvswarm kvswarm; fi
`
}

function fish(commands: readonly Described[]): string {
  const lines = ['# fish completion for kvswarm', 'complete -c kvswarm -f']
  const names = commands.map(({ name }) => name).join(' ')
  for (const { name, summary, options } of commands) {
    lines.push(
      `complete -c kvswarm -n 'not __fish_seen_subcommand_from ${names}' -a ${name} -d ${quote(summary)}`
    )
    for (const { flag, text, file } of options) {
      const files = file ? ' -r -F' : ''
      lines.push(
        `complete -c kvswarm -n '__fish_seen_subcommand_from ${name}' -l ${flag.slice(2)}${files} -d ${quote(text)}`
      )
    }
  }
  return `${lines.join('\n')}\n`
}

function fileFlags(options: Described['options']): string[] {
  return options.filter(({ file }) => file).map(({ flag }) => flag)
}

/** A word in single quotes, as all three shells take it. */
function quote(text: string): string {
  return `'${text.replaceAll("'", String.raw`'\''`)}'`
}
