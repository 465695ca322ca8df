/**
 * The bounds at which an index of our own begins a journal, merges, and gives up what it keeps. Tests set smaller ones,
 * so that a short run comes to everything that a long one does.
 */
import {
  indexGraceMs,
  indexHistoryBytesMin,
  indexHistoryMs,
  indexJournalBytesMax,
  indexJournalEntriesMin,
  indexQuietMs,
  indexTidyEntriesMin,
  indexUpperRunsMax
} from '../../config/limits.ts'

export interface IndexLimits {
  readonly journalEntriesMin: number
  readonly journalBytesMax: number
  readonly upperRunsMax: number
  readonly tidyEntriesMin: number
  readonly quietMs: number
  readonly graceMs: number
  readonly historyMs: number
  readonly historyBytesMin: number
}

export const indexLimits: IndexLimits = {
  journalEntriesMin: indexJournalEntriesMin,
  journalBytesMax: indexJournalBytesMax,
  upperRunsMax: indexUpperRunsMax,
  tidyEntriesMin: indexTidyEntriesMin,
  quietMs: indexQuietMs,
  graceMs: indexGraceMs,
  historyMs: indexHistoryMs,
  historyBytesMin: indexHistoryBytesMin
}
