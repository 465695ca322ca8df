/** What a call that fails rejects with. */
import { isKVSwarmError, type KVSwarmError } from '../../lib/errors.ts'

/** The error that a promise rejects with; it must be one of ours. */
export async function errorOf(promise: Promise<unknown>): Promise<KVSwarmError> {
  try {
    await promise
  } catch (error) {
    if (isKVSwarmError(error)) return error
    throw error
  }
  throw new Error('it did not fail')
}

/** The code that a promise rejects with; the error as text when it is none of ours, 'no error' when it resolves. */
export async function codeOf(promise: Promise<unknown> | undefined): Promise<string> {
  try {
    await promise
    return 'no error'
  } catch (error) {
    return isKVSwarmError(error) ? error.code : String(error)
  }
}
