#!/usr/bin/env node
/** The command `kvswarm`: the process around main(). */
import { main, reportCrash } from './main.ts'
import { listenToSignals } from './signals.ts'

// hypercore prints a fork that it sees with console.log: stdout is for answers.
console.log = console.error
const stop = new AbortController()
listenToSignals(stop)
const { stdin, stdout, stderr, env } = process
const args = process.argv.slice(2)
const io = { stdin, stdout, stderr, env, signal: stop.signal }
const crash = (error: unknown): void => process.exit(reportCrash(error, args, io))
process.on('uncaughtException', crash)
stdout.on('error', (error: NodeJS.ErrnoException) => {
  // The reader has left (`kvswarm list | head`): nothing more is wanted, and nothing is wrong.
  if (error.code !== 'EPIPE') crash(error)
  else if (!stop.signal.aborted) stop.abort('EPIPE')
})
stderr.on('error', () => {})
const code = await main(args, io)
// Everything is closed and printed; what a library still holds must not keep the process.
stdout.write('', () => process.exit(code))
