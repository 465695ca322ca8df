/** What listen and connect share: a role that runs until the process is asked to end. */
import type { Context } from './context.ts'
import { exitCodeOf, exitCodes } from './exit-codes.ts'
import { untilSignal } from './signals.ts'
import { type StoreOptions, withStore } from './store.ts'
import { ConfigWatch } from './watch-config.ts'
import type { KVSwarmError } from '../lib/errors.ts'
import type { KVSwarm } from '../lib/index.ts'

/**
 * Opens the data directory, starts the role, and keeps it up until a signal, `kvswarm stop`, or an error
 * that the library can tell nobody else. A higher epoch of the configuration file is taken over.
 */
export async function serve(
  context: Context,
  options: StoreOptions,
  start: (kv: KVSwarm) => Promise<void>
): Promise<number> {
  const { io, print, globals } = context
  const end = new Ending(io.signal)
  const onError = (error: KVSwarmError): void => {
    print.error(error)
    end.with(exitCodeOf(error))
  }
  return await withStore(context, { ...options, onError }, async (kv) => {
    kv.once('stop', () => end.with(exitCodes.done))
    await Promise.race([start(kv), end.code])
    const watch =
      globals.config === undefined || end.isReached
        ? null
        : await ConfigWatch.open({
            path: globals.config,
            current: () => kv.config,
            onConfig: async (config) => {
              await kv.setConfig(config)
              print.note(`configuration ${config.epoch} is in use`)
            },
            onProblem: (message) => print.warning(message)
          })
    try {
      return await end.code
    } finally {
      await watch?.close()
    }
  })
}

/** What ends a role first decides the exit code. */
class Ending {
  readonly code: Promise<number>
  #resolve: (code: number) => void = () => {}
  isReached = false

  constructor(signal: AbortSignal) {
    this.code = new Promise((resolve) => {
      this.#resolve = resolve
    })
    void untilSignal(signal).then((code) => this.with(code))
  }

  with(code: number): void {
    this.isReached = true
    this.#resolve(code)
  }
}
