/** Signals of the operating system, as an AbortSignal and as exit codes. */
import { exitCodes } from './exit-codes.ts'

/** Signals that end the command, and with what. */
const codes: Readonly<Record<'SIGINT' | 'SIGTERM' | 'SIGHUP', number>> = {
  SIGINT: exitCodes.interrupted,
  SIGTERM: exitCodes.terminated,
  SIGHUP: 129
}

/** Why the signal of `Io` fired: a signal's name, or that the reader of stdout has left. */
export type EndReason = keyof typeof codes | 'EPIPE'

/** The exit code that belongs to the reason of an aborted signal. */
export function exitCodeOfSignal({ reason }: AbortSignal): number {
  const name = reason as EndReason
  return name === 'EPIPE' ? exitCodes.done : codes[name]
}

/**
 * Aborts at the first signal, so that everything is closed in order; at the second the process ends at
 * once, which loses nothing that was acknowledged.
 */
export function listenToSignals(stop: AbortController): void {
  for (const [name, code] of Object.entries(codes)) {
    process.on(name, () => {
      if (stop.signal.aborted) process.exit(code)
      stop.abort(name)
    })
  }
}

/** Resolves with the exit code when the process is asked to end. */
export function untilSignal(signal: AbortSignal): Promise<number> {
  return new Promise((resolve) => {
    const end = (): void => resolve(exitCodeOfSignal(signal))
    if (signal.aborted) end()
    else signal.addEventListener('abort', end, { once: true })
  })
}
