/** Folders that last as long as a test. */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir as systemTmpdir } from 'node:os'
import { join } from 'node:path'
import type { Test } from 'tape'
import { cleanup } from './cleanup.ts'

/** A new empty folder, mode 0700, removed with all that is in it after the test. Its path is short. */
export function tmpdir(t: Test): string {
  const path = mkdtempSync(join(systemTmpdir(), 'kvs-'))
  cleanup(t, () => rmSync(path, { recursive: true, force: true, maxRetries: 3 }))
  return path
}
