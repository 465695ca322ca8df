/**
 * Clean-up of a test in the reverse order of its set-up: what was made last goes first.
 *
 * tape runs teardowns in the order of their registration (a folder would go before the process that
 * writes into it), and a teardown that rejects makes it wait for ever. Here each call runs, whatever
 * the others did, and a failing one fails the test.
 */
import type { Test } from 'tape'

const stacks = new WeakMap<Test, (() => unknown)[]>()

/** Calls `clean` after the test, before everything that was registered earlier. */
export function cleanup(t: Test, clean: () => unknown): void {
  const stack = stacks.get(t)
  if (stack !== undefined) {
    stack.push(clean)
    return
  }
  const made = [clean]
  stacks.set(t, made)
  t.teardown(async () => {
    for (let next = made.pop(); next !== undefined; next = made.pop()) {
      try {
        await next()
      } catch (error) {
        t.error(error, 'clean-up after the test')
      }
    }
  })
}
