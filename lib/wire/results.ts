/**
 * What became of one place of an outbox block, as its owner records it in the index and the writer reads it.
 *
 * Bytes: version (1), kind (1); ok: versionstamp (10); failed: count, and for each failed check its index in the
 * group and the versionstamp found, or none; rejected: reason and text, each with its length.
 */
import { assert } from '../assert.ts'
import { groupOperationsMax } from '../../config/limits.ts'
import type { Versionstamp } from '../types.ts'
import {
  type Codec,
  decodeWith,
  encodeWith,
  lengthPrefixed,
  list,
  nullable,
  type State,
  uint,
  uint8
} from './codec.ts'
import { corrupt } from './show.ts'
import { stampCodec } from './stamps.ts'

/** Why an owner refuses an operation; later versions may know more. */
export type RejectReason =
  | 'invalid' // the bytes are no operation
  | 'too-large' // beyond a published limit
  | 'not-allowed' // the writer may not do this here
  | 'unsupported' // of a kind that this owner does not know

/** One check of an atomic group that did not hold. */
export interface FailedCheck {
  /** Which of the group's checks, from 0. */
  readonly index: number
  /** What the key had instead; null: it was absent. */
  readonly found: Versionstamp | null
}

export type Result =
  | { readonly type: 'ok'; readonly versionstamp: Versionstamp }
  | { readonly type: 'failed'; readonly checks: readonly FailedCheck[] }
  | {
      readonly type: 'rejected'
      /** A RejectReason, or one that a newer owner knows: lower-case letters and hyphens. */
      readonly reason: string
      /** For people; longer ones are cut at 256 bytes of UTF-8. */
      readonly text: string
    }

/** Why bytes are no operation or block; readOperation() and decodeBlock() turn it into their result. */
export class Refusal extends Error {
  readonly reason: RejectReason

  constructor(reason: RejectReason, text: string) {
    super(text)
    this.reason = reason
  }
}

const version = 1
const kindOk = 0
const kindFailed = 1
const kindRejected = 2

const textBytesMax = 256
const reasonForm = /^[a-z][a-z-]{0,31}$/
const utf8Decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })

export function encodeResult(result: Result): Uint8Array {
  return encodeWith(resultCodec, result)
}

/** @throws CORRUPT */
export function decodeResult(bytes: Uint8Array): Result {
  return decodeWith(resultCodec, bytes, 'result')
}

const failedCheck: Codec<FailedCheck> = {
  preencode: (state, check) => {
    uint.preencode(state, check.index)
    nullable(stampCodec).preencode(state, check.found)
  },
  encode: (state, check) => {
    uint.encode(state, check.index)
    nullable(stampCodec).encode(state, check.found)
  },
  decode: (state) => ({
    index: uint.decode(state),
    found: nullable(stampCodec).decode(state)
  })
}

const failedChecks = list(failedCheck, 2, groupOperationsMax)

const resultCodec: Codec<Result> = {
  preencode(state, result) {
    state.end += 2
    if (result.type === 'ok') stampCodec.preencode(state, result.versionstamp)
    else if (result.type === 'failed') failedChecks.preencode(state, result.checks)
    else {
      assert(reasonForm.test(result.reason), `reason ${result.reason}`)
      lengthPrefixed.preencode(state, Buffer.from(result.reason))
      lengthPrefixed.preencode(state, textBytes(result.text))
    }
  },
  encode(state, result) {
    uint8.encode(state, version)
    if (result.type === 'ok') {
      uint8.encode(state, kindOk)
      stampCodec.encode(state, result.versionstamp)
    } else if (result.type === 'failed') {
      uint8.encode(state, kindFailed)
      failedChecks.encode(state, result.checks)
    } else {
      uint8.encode(state, kindRejected)
      lengthPrefixed.encode(state, Buffer.from(result.reason))
      lengthPrefixed.encode(state, textBytes(result.text))
    }
  },
  decode(state) {
    const found = uint8.decode(state)
    if (found !== version) throw corrupt(`result of version ${found}`)
    const kind = uint8.decode(state)
    if (kind === kindOk) return { type: 'ok', versionstamp: stampCodec.decode(state) }
    if (kind === kindFailed) return { type: 'failed', checks: failedChecks.decode(state) }
    if (kind !== kindRejected) throw corrupt(`result of kind ${kind}`)
    const reason = decodeText(state)
    if (!reasonForm.test(reason)) throw corrupt('result with an ill-formed reason')
    return { type: 'rejected', reason, text: decodeText(state) }
  }
}

function decodeText(state: State): string {
  const bytes = lengthPrefixed.decode(state)
  if (bytes.length > textBytesMax) throw corrupt(`text of ${bytes.length} bytes`)
  return utf8Decoder.decode(bytes)
}

/** At most textBytesMax bytes of UTF-8, never half a character. */
function textBytes(text: string): Uint8Array {
  const bytes = new Uint8Array(textBytesMax)
  return bytes.subarray(0, new TextEncoder().encodeInto(text, bytes).written)
}
