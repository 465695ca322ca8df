/** Of which cores a layout of an index consists. */
import { coreKey, type CoreName } from '../index-ports.ts'
import type { IndexLayout } from '../wire/index-state.ts'

/** Journals, those that are kept too, and runs. */
export function namesOf({ journals, runs, kept }: IndexLayout): CoreName[] {
  return [...[...journals, ...kept].map(journalName), ...runs.map(runName)]
}

export function journalName({ number }: { readonly number: number }): CoreName {
  return { kind: 'journal', number }
}

export function runName(run: { readonly hash: Uint8Array; readonly length: number }): CoreName {
  return { kind: 'run', hash: run.hash, length: run.length }
}

/** The keys of a layout's cores. */
export function keysOf(layout: IndexLayout): Set<string> {
  return new Set(namesOf(layout).map(coreKey))
}

/** Cores of a layout that are not part of the one after it. */
export function leftBehind(before: IndexLayout, after: IndexLayout): CoreName[] {
  const named = keysOf(after)
  return namesOf(before).filter((name) => !named.has(coreKey(name)))
}
