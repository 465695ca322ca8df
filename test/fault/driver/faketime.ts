/** Where the machine has libfaketime. */
import { readdirSync } from 'node:fs'
import { join } from 'node:path'

/** Path of the library for programs with threads; null when it is not installed. */
export function findFaketime(): string | null {
  for (const triple of readdirSync('/usr/lib')) {
    const path = join('/usr/lib', triple, 'faketime')
    try {
      if (readdirSync(path).includes('libfaketimeMT.so.1')) return join(path, 'libfaketimeMT.so.1')
    } catch {
      // No such folder: not this one.
    }
  }
  return null
}
