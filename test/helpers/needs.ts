/** Skips a test where the machine lacks what it needs, with a reason that the runner can check. */
import type { TestOptions } from 'tape'
import { type CapabilityName, hasCapability } from '../../scripts/capabilities.ts'

/**
 * Options for `test(name, needs('root'), …)`: skipped, as `needs: <what is missing>`, when the machine
 * lacks one of them.
 */
export function needs(...capabilities: CapabilityName[]): TestOptions {
  const missing = capabilities.find((name) => hasCapability(name) !== true)
  return { skip: missing === undefined ? false : `needs: ${missing}` }
}
