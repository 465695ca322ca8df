/**
 * The processes of `kvswarm demo`: children that run this very command.
 *
 * - Each is in a process group of its own, so that Ctrl-C reaches the demo alone, which then ends them.
 * - None outlives the demo: they are asked to end, then killed; when the demo crashes, they are killed.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import type { Context } from './context.ts'
import { exitCodes } from './exit-codes.ts'
import { escapeForTerminal } from './print.ts'
import { KVSwarmError } from '../lib/errors.ts'

/** A process that was asked to end has so long, then it is killed. */
const endMs = 10_000
/** A process that stays has so long to say that it is ready. */
const readyMs = 60_000

/** What a finished process left. */
export interface Finished {
  readonly code: number | null
  readonly stdout: string
  readonly stderr: string
}

/** How a line is shown. */
export interface ShowOptions {
  /** `NAME=$(kvswarm …)` */
  readonly assign?: string
  /** Shown in place of the arguments. */
  readonly shown?: string
  /** What it prints is not shown. */
  readonly quiet?: boolean
}

/** Starts, shows and ends the processes of one demo. */
export class DemoProcesses {
  readonly #context: Context
  readonly #children = new Set<ChildProcess>()
  /** This program, started the way it was. */
  readonly #program: readonly string[]
  #env: NodeJS.ProcessEnv
  #bootstrap = ''
  #closing = false

  constructor(context: Context) {
    this.#context = context
    this.#program = [...process.execArgv, process.argv[1] as string]
    // The demo has its own data directories, configuration and swarm.
    const ours = {
      KVSWARM_DATADIR: undefined,
      KVSWARM_CONFIG: undefined,
      KVSWARM_BOOTSTRAP: undefined
    }
    this.#env = { ...context.io.env, ...ours }
    process.once('exit', this.#killAll)
  }

  /** Fires when the demo is asked to end. */
  get signal(): AbortSignal {
    return this.#context.io.signal
  }

  /** `host:port` of the swarm. */
  get bootstrap(): string {
    return this.#bootstrap
  }

  /** All processes from now on use this swarm. */
  setBootstrap(address: string): void {
    this.#bootstrap = address
    this.#env = { ...this.#env, KVSWARM_BOOTSTRAP: address }
  }

  /** Runs a line to its end and shows it. Resolves with its stdout. @throws when it fails */
  async run(args: readonly string[], show: ShowOptions = {}): Promise<string> {
    const line = `kvswarm ${show.shown ?? args.join(' ')}`
    await this.#show(show.assign === undefined ? `$ ${line}` : `$ ${show.assign}=$(${line})`)
    const { code, stdout, stderr } = await this.#finish(this.#spawn(args))
    if (code !== exitCodes.done) throw failed(line, `ended with ${code}`, stderr)
    if (show.assign !== undefined) await this.#show(`# ${show.assign} is ${stdout.trim()}`)
    else if (show.quiet !== true) await this.#output(stdout)
    return stdout
  }

  /** Runs a line to its end, shows it, and leaves the judgement to the caller. */
  async attempt(args: readonly string[]): Promise<Finished> {
    await this.#show(`$ kvswarm ${args.join(' ')}`)
    const finished = await this.#finish(this.#spawn(args))
    await this.#output(finished.stdout)
    return finished
  }

  /** Starts a line that stays. Resolves with the first line that it prints. */
  async start(args: readonly string[]): Promise<string> {
    const line = `kvswarm ${args.join(' ')}`
    await this.#show(`$ ${line} &`)
    const child = this.#spawn(args)
    const first = await this.#firstLine(child, line)
    await this.#output(`${first}\n`)
    return first
  }

  /** Starts a line that stays and prints nothing. */
  async startSilent(args: readonly string[]): Promise<void> {
    const line = `kvswarm ${args.join(' ')}`
    await this.#show(`$ ${line} &`)
    const child = this.#spawn(args)
    child.stdout?.resume()
    const stderr = collect(child.stderr)
    child.once('exit', (code) => {
      if (!this.#closing) this.#context.print.warning(`${line} ended with ${code}. ${stderr()}`)
    })
  }

  /** Ends every process; resolves when all are gone. Idempotent. */
  async close(): Promise<void> {
    this.#closing = true
    const gone = Array.from(this.#children, (child) => once(child, 'close'))
    for (const child of this.#children) child.kill('SIGTERM')
    const kill = setTimeout(this.#killAll, endMs)
    await Promise.all(gone)
    clearTimeout(kill)
    process.off('exit', this.#killAll)
  }

  readonly #killAll = (): void => {
    for (const child of this.#children) child.kill('SIGKILL')
  }

  #spawn(args: readonly string[]): ChildProcess {
    if (this.signal.aborted) throw new KVSwarmError('ABORTED', 'the demo was ended')
    const child = spawn(process.execPath, [...this.#program, ...args], {
      env: this.#env,
      detached: true,
      stdio: ['ignore', 'pipe', 'pipe']
    })
    this.#children.add(child)
    child.once('close', () => this.#children.delete(child))
    return child
  }

  async #finish(child: ChildProcess): Promise<Finished> {
    const stdout = collect(child.stdout)
    const stderr = collect(child.stderr)
    const end = (): unknown => child.kill('SIGTERM')
    this.signal.addEventListener('abort', end, { once: true })
    const [code] = (await once(child, 'close')) as [number | null]
    this.signal.removeEventListener('abort', end)
    return { code, stdout: stdout(), stderr: stderr() }
  }

  #firstLine(child: ChildProcess, line: string): Promise<string> {
    const stdout = collect(child.stdout)
    const stderr = collect(child.stderr)
    return new Promise((resolve, reject) => {
      const late = setTimeout(() => reject(failed(line, 'is not ready', stderr())), readyMs)
      const end = (): void => reject(new KVSwarmError('ABORTED', 'the demo was ended'))
      this.signal.addEventListener('abort', end, { once: true })
      child.once('close', (code) => {
        clearTimeout(late)
        reject(failed(line, `ended with ${code}`, stderr()))
      })
      child.stdout?.on('data', () => {
        const at = stdout().indexOf('\n')
        if (at === -1) return
        clearTimeout(late)
        this.signal.removeEventListener('abort', end)
        resolve(stdout().slice(0, at))
      })
    })
  }

  /** A remark between the lines. */
  async remark(text: string): Promise<void> {
    await this.#show(`# ${text}`)
  }

  #show(line: string): Promise<void> {
    return this.#context.print.line(line)
  }

  async #output(text: string): Promise<void> {
    if (text !== '') await this.#context.print.out(escapeForTerminal(text))
  }
}

/** Collects a stream's text. */
function collect(stream: NodeJS.ReadableStream | null): () => string {
  let text = ''
  stream?.setEncoding('utf8')
  stream?.on('data', (chunk: string) => {
    text += chunk
  })
  return () => text
}

function failed(line: string, how: string, stderr: string): KVSwarmError {
  return new KVSwarmError('INTERNAL', `'${line}' ${how}: ${stderr.trim()}`, {
    hint: 'look at what it says; nothing is left behind'
  })
}
