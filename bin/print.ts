/**
 * Everything that the command prints.
 *
 * - stdout holds what was asked for, and nothing else; it is stable where machines read it.
 * - stderr holds errors (`error: what happened. what to do`), warnings and notes, each on one line.
 * - Keys, values and messages of others may be hostile: control characters are escaped in everything that
 *   is printed for a person.
 */
import type { Writable } from 'node:stream'
import { isKVSwarmError, messageOf } from '../lib/errors.ts'

/** A stream that may be a terminal. */
export type Output = Writable & { readonly isTTY?: boolean }

/** How to print. */
export interface PrintOptions {
  readonly json: boolean
  readonly quiet: boolean
  readonly verbose: boolean
  readonly color: boolean
}

/** C0 and C1 controls, DEL, line and paragraph separators, and what changes the direction of text. */
const controls =
  // oxlint-disable-next-line no-control-regex
  /[\u0000-\u001f\u007f-\u009f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ufeff]/g

/** The text on one line, without anything that a terminal would act on. */
export function escapeControls(text: string): string {
  return text.replaceAll(controls, (character) => {
    if (character === '\n') return String.raw`\n`
    if (character === '\t') return String.raw`\t`
    if (character === '\r') return String.raw`\r`
    const code = character.charCodeAt(0)
    return code < 0x100
      ? String.raw`\x${code.toString(16).padStart(2, '0')}`
      : String.raw`\u${code.toString(16).padStart(4, '0')}`
  })
}

/** As escapeControls(), but lines and tabs stay. */
export function escapeForTerminal(text: string): string {
  return text.replaceAll(controls, (character) =>
    character === '\n' || character === '\t' ? character : escapeControls(character)
  )
}

/** Prints to one pair of streams. */
export class Printer {
  readonly #stdout: Output
  readonly #stderr: Output
  readonly options: PrintOptions

  constructor(stdout: Output, stderr: Output, options: PrintOptions) {
    this.#stdout = stdout
    this.#stderr = stderr
    this.options = options
  }

  /** True when a person reads stdout. */
  get isTerminal(): boolean {
    return this.#stdout.isTTY === true
  }

  /** Writes to stdout as it is; waits while the reader is slow. A reader that has left is no error. */
  out(data: string | Uint8Array): Promise<void> {
    const { promise, resolve } = deferred()
    if (this.#stdout.destroyed) return Promise.resolve()
    this.#stdout.write(data, () => resolve())
    return promise
  }

  /** One line on stdout, as it is. */
  line(text: string): Promise<void> {
    return this.out(`${text}\n`)
  }

  /** One line of JSON on stdout. */
  json(value: unknown): Promise<void> {
    return this.line(JSON.stringify(value))
  }

  /** Bold on a terminal. */
  bold(text: string): string {
    return this.options.color && this.isTerminal ? `\u001b[1m${text}\u001b[22m` : text
  }

  /** An error, as one line (with `--json` as one object). With `--verbose` its stack follows. */
  error(error: unknown): void {
    const { json, verbose } = this.options
    if (json) this.#toStderr(JSON.stringify(factsOf(error)))
    else this.#toStderr(`${this.#mark('error:', 31)} ${escapeControls(sentenceOf(error))}`)
    if (verbose && error instanceof Error) this.#toStderr(stackOf(error))
  }

  /** Something that somebody should know, unless `--quiet`. */
  warning(message: string): void {
    const { quiet, json } = this.options
    if (quiet) return
    if (json) this.#toStderr(JSON.stringify({ warning: message }))
    else this.#toStderr(`${this.#mark('warning:', 33)} ${escapeControls(message)}`)
  }

  /** What the command is doing, unless `--quiet`. */
  note(message: string): void {
    const { quiet, json } = this.options
    if (quiet) return
    this.#toStderr(json ? JSON.stringify({ note: message }) : escapeControls(message))
  }

  #mark(word: string, color: number): string {
    const colored = this.options.color && this.#stderr.isTTY === true
    return colored ? `\u001b[${color}m${word}\u001b[39m` : word
  }

  #toStderr(line: string): void {
    if (!this.#stderr.destroyed) this.#stderr.write(`${line}\n`)
  }
}

function deferred(): { promise: Promise<void>; resolve: () => void } {
  let resolve = (): void => {}
  const promise = new Promise<void>((done) => {
    resolve = done
  })
  return { promise, resolve }
}

/** `what happened. what to do` */
export function sentenceOf(error: unknown): string {
  const message = messageOf(error)
  const hint = isKVSwarmError(error) ? error.hint : ''
  if (hint === '') return message
  return `${message}${/[.!?]$/.test(message) ? '' : '.'} ${hint}`
}

function factsOf(error: unknown): Record<string, unknown> {
  if (isKVSwarmError(error)) return error.toJSON()
  return { code: 'INTERNAL', message: messageOf(error), hint: 'please report it' }
}

function stackOf(error: Error): string {
  const stack = error.stack ?? ''
  const below = error.cause instanceof Error ? `\ncaused by ${stackOf(error.cause)}` : ''
  return escapeForTerminal(stack + below)
}
