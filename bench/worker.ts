/** A process of a benchmark: answers the questions of the one that started it (bench/workers.ts). */
import { commands } from './commands.ts'
import type { Answer, Question } from './workers.ts'

process.on('message', (question: Question) => {
  const { id, name, argument } = question
  const command = commands[name] as (argument: unknown) => Promise<unknown>
  command(argument).then(
    (value) => answer({ id, value }),
    (error: unknown) => answer({ id, error: error instanceof Error ? error.stack : String(error) })
  )
})
// Without whoever asks there is nothing to measure.
process.on('disconnect', () => process.exit(0))

function answer(message: Answer): void {
  if (process.connected) process.send?.(message)
}
