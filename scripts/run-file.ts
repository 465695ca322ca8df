/**
 * Runs one test file in this process: `tsx scripts/run-file.ts <file>`.
 *
 * - The file is loaded as the ES module that it is; tape's own command would load it as CommonJS.
 * - A process whose tests are done must exit by itself. tape ends its output at the exit of the
 *   process, so something that holds it (a server, a timer, a swarm) would look like a test that hangs:
 *   after `exitGraceMs` the process ends with `notExitedCode` and tells what holds it.
 */
import { resolve } from 'node:path'
import { pathToFileURL } from 'node:url'
import test from 'tape'

const exitGraceMs = 5_000
/** Known to scripts/runner.ts, which cannot import this file. */
const notExitedCode = 97

const file = process.argv[2]
if (file === undefined) throw new Error('usage: tsx scripts/run-file.ts <file>')

test.wait() // until the file is loaded
test.onFinish(() => {
  setTimeout(() => {
    const held = process.getActiveResourcesInfo().join(', ')
    process.stderr.write(`# tests are done, but the process does not exit; held by: ${held}\n`)
    process.exit(notExitedCode)
  }, exitGraceMs).unref()
})
await import(pathToFileURL(resolve(file)).href)
test.run()
