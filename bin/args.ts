/**
 * The command line, put into a form in which nothing can be misread.
 *
 * - The command word comes first, wherever it stood; then each option as one word; then `--` and the
 *   operands. So commander never takes a value for an option or a number.
 * - `--put.K=V`, `--put.K V`, `--del.K`, `--capacity.ID=N` and `--capacity.ID N` become `--put=K\0V` and
 *   so on: an argument cannot contain NUL, so keys with dots and values with anything stay as they are.
 * - The key ends at the first `=`; what is behind it is the value, also when empty. In `--del.K` all is key.
 */
import { KVSwarmError } from '../lib/errors.ts'

/** What is known of the options of all commands together. */
export interface Grammar {
  /** Long name without dashes -> does it take a value? */
  readonly options: ReadonlyMap<string, boolean>
  /** One letter -> long name. */
  readonly letters: ReadonlyMap<string, string>
  readonly commands: ReadonlySet<string>
}

/** Options that are written with a key behind a dot, and whether a value follows the key. */
const pairs: ReadonlyMap<string, boolean> = new Map([
  ['put', true],
  ['del', false],
  ['capacity', true]
])

/** Between key and value of a pair in the rewritten form. */
export const pairSeparator = '\0'

/** The error of a command line that is wrong. */
export function usageError(message: string, hint: string): KVSwarmError {
  return new KVSwarmError('USAGE', message, { hint })
}

/**
 * @param args what follows the program's name
 * @returns command word, options, `--`, operands; without a command word the options alone
 * @throws USAGE
 */
export function normalise(args: readonly string[], grammar: Grammar): string[] {
  const words = [...args]
  const options: string[] = []
  const operands: string[] = []
  let command: string | null = null
  for (let word = words.shift(); word !== undefined; word = words.shift()) {
    if (word === '--') {
      operands.push(...words.splice(0))
    } else if (word.startsWith('--')) {
      options.push(longOption(word, words, grammar, command))
    } else if (word.length > 1 && word.startsWith('-')) {
      options.push(...shortOptions(word, words, grammar, command))
    } else if (command === null) {
      command = word
    } else {
      operands.push(word)
    }
  }
  command ??= operands.shift() ?? null
  if (command === null) return options
  return [command, ...options, ...(operands.length > 0 ? ['--', ...operands] : [])]
}

function longOption(
  word: string,
  words: string[],
  grammar: Grammar,
  command: string | null
): string {
  const dot = word.indexOf('.')
  const name = word.slice(2, dot === -1 ? undefined : dot)
  if (dot !== -1 && pairs.has(name)) return pairOption(name, word, words, grammar)

  const equals = word.indexOf('=')
  const long = word.slice(2, equals === -1 ? undefined : equals)
  if (pairs.has(long)) {
    const form = pairs.get(long) === true ? `--${long}.KEY=VALUE` : `--${long}.KEY`
    throw usageError(`the option --${long} needs a key`, `write ${form}`)
  }
  const takesValue = grammar.options.get(long)
  if (takesValue === undefined) {
    const pair = dot === -1 ? null : nearest(name, pairs.keys())
    if (pair !== null) throw usageError(`unknown option '${word}'`, `did you mean --${pair}.KEY?`)
    // Behind the command word commander refuses it, with a suggestion among that command's options.
    if (command !== null && grammar.commands.has(command)) return word
    throw unknownOption(`--${long}`, grammar)
  }
  if (!takesValue) {
    if (equals === -1) return word
    throw usageError(`the option --${long} takes no value`, `write --${long} alone`)
  }
  return equals === -1 ? `--${long}=${valueOf(word, words, grammar)}` : word
}

function pairOption(name: string, word: string, words: string[], grammar: Grammar): string {
  const rest = word.slice(name.length + 3)
  const equals = pairs.get(name) === true ? rest.indexOf('=') : -1
  const key = equals === -1 ? rest : rest.slice(0, equals)
  if (key === '') throw usageError(`the key of ${word} is empty`, `write --${name}.KEY`)
  if (pairs.get(name) !== true) return `--${name}=${key}`
  const value = equals === -1 ? valueOf(word, words, grammar) : rest.slice(equals + 1)
  return `--${name}=${key}${pairSeparator}${value}`
}

/** The next word as a value. One that is an option is no value: that is a forgotten one. */
function valueOf(word: string, words: string[], grammar: Grammar): string {
  const value = words.shift()
  if (value === undefined || isOption(value, grammar)) {
    throw usageError(
      value === undefined
        ? `the option ${word} needs a value`
        : `the option ${word} needs a value, but the option ${value} follows`,
      `write ${word}=VALUE`
    )
  }
  return value
}

function isOption(word: string, grammar: Grammar): boolean {
  if (word === '--') return true
  if (word.startsWith('--')) {
    const long = word.slice(2).split(/[=.]/, 1)[0] as string
    return grammar.options.has(long) || pairs.has(long)
  }
  return /^-[a-zA-Z]$/.test(word) && grammar.letters.has(word.slice(1))
}

/** `-d x`, `-dx`, `-qv`: each letter as its long option. */
function shortOptions(
  word: string,
  words: string[],
  grammar: Grammar,
  command: string | null
): string[] {
  const options: string[] = []
  for (let at = 1; at < word.length; at++) {
    const letter = word.charAt(at)
    const long = grammar.letters.get(letter)
    if (long === undefined) {
      if (command !== null && grammar.commands.has(command)) return [...options, `-${letter}`]
      throw unknownOption(`-${letter}`, grammar)
    }
    if (grammar.options.get(long) !== true) {
      options.push(`--${long}`)
      continue
    }
    const attached = word.slice(at + 1)
    const value = attached === '' ? valueOf(`-${letter}`, words, grammar) : attached
    return [...options, `--${long}=${value}`]
  }
  return options
}

function unknownOption(flag: string, grammar: Grammar): KVSwarmError {
  const near = nearest(
    flag,
    [...grammar.options.keys()].map((name) => `--${name}`)
  )
  const hint = near === null ? 'see kvswarm --help' : `did you mean ${near}?`
  return usageError(`unknown option '${flag}'`, hint)
}

/** The candidate that differs from `word` by at most two letters in five, or null. */
export function nearest(word: string, candidates: Iterable<string>): string | null {
  let best: string | null = null
  let bestDistance = Math.max(1, Math.floor(word.length * 0.4)) + 1
  for (const candidate of candidates) {
    const distance = editDistance(word, candidate)
    if (distance < bestDistance) {
      best = candidate
      bestDistance = distance
    }
  }
  return best
}

/** Letters to insert, delete, replace or swap (Damerau-Levenshtein, optimal string alignment). */
function editDistance(a: string, b: string): number {
  let before: number[] = []
  let last = Array.from({ length: b.length + 1 }, (_, j) => j)
  for (let i = 1; i <= a.length; i++) {
    const row = [i]
    for (let j = 1; j <= b.length; j++) {
      const same = a[i - 1] === b[j - 1] ? 0 : 1
      let least = Math.min(
        (last[j] as number) + 1,
        (row[j - 1] as number) + 1,
        (last[j - 1] as number) + same
      )
      if (i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1]) {
        least = Math.min(least, (before[j - 2] as number) + 1)
      }
      row.push(least)
    }
    before = last
    last = row
  }
  return last[b.length] as number
}
