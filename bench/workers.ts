/** Starts the processes of a benchmark and asks them to do things: the other end of bench/worker.ts. */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import type { Commands } from './commands.ts'

/** A process that does not end by itself in this time is killed. */
const endMs = 10_000

export interface Question {
  readonly id: number
  readonly name: keyof Commands
  readonly argument: unknown
}

export interface Answer {
  readonly id: number
  readonly value?: unknown
  readonly error?: string | undefined
}

export interface WorkerOptions {
  /** Network namespace to run in. @default this process's */
  readonly namespace?: string | undefined
  /** Options of node itself, such as --cpu-prof. */
  readonly nodeOptions?: readonly string[] | undefined
}

export class Worker {
  readonly #child: ChildProcess
  readonly #waiting = new Map<
    number,
    { resolve: (value: never) => void; reject: (error: Error) => void }
  >()
  #id = 0

  private constructor(child: ChildProcess) {
    this.#child = child
    child.on('message', (answer: Answer) => this.#answered(answer))
    child.on('exit', (code, signal) => this.#ended(signal ?? `code ${code}`))
    child.on('error', (error) => this.#ended(error.message))
  }

  /** @param file the compiled bench/worker */
  static start(file: string, options: WorkerOptions = {}): Worker {
    const { namespace, nodeOptions = [] } = options
    const command = [process.execPath, ...nodeOptions, file]
    if (namespace !== undefined) command.unshift('ip', 'netns', 'exec', namespace)
    const [program = '', ...rest] = command
    const child = spawn(program, rest, { stdio: ['ignore', 'inherit', 'inherit', 'ipc'] })
    return new Worker(child)
  }

  get pid(): number {
    return this.#child.pid ?? 0
  }

  ask<K extends keyof Commands>(
    name: K,
    ...[argument]: Parameters<Commands[K]>
  ): ReturnType<Commands[K]> {
    const asked = new Promise<never>((resolve, reject) => {
      const id = ++this.#id
      this.#waiting.set(id, { resolve, reject })
      this.#child.send({ id, name, argument } satisfies Question, (error) => {
        if (error !== null) reject(error)
      })
    })
    return asked as unknown as ReturnType<Commands[K]>
  }

  /** Closes the node, then the process. */
  async end(): Promise<void> {
    const gone = once(this.#child, 'exit')
    await this.ask('close')
    this.#child.disconnect()
    const timer = setTimeout(() => this.#child.kill('SIGKILL'), endMs)
    await gone
    clearTimeout(timer)
  }

  /** Ends it as it is. */
  kill(): void {
    this.#child.kill('SIGKILL')
  }

  #answered({ id, value, error }: Answer): void {
    const waiting = this.#waiting.get(id)
    this.#waiting.delete(id)
    if (error === undefined) waiting?.resolve(value as never)
    else waiting?.reject(new Error(error))
  }

  #ended(how: string): void {
    for (const { reject } of this.#waiting.values()) reject(new Error(`a process ended: ${how}`))
    this.#waiting.clear()
  }
}
