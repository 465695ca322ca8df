/** Node ids for the tests of the configuration, in order. */
export const A: string = 'a1'.repeat(32)
export const B: string = 'b2'.repeat(32)
export const C: string = 'c3'.repeat(32)
export const D: string = 'd2'.repeat(32)
/** D in z-base-32. */
export const zD = '4mjpfws14mjpfws14mjpfws14mjpfws14mjpfws14mjpfws14mjy'

/** What `call` throws; fails when it is no CONFIG_INVALID of one line. */
export function refusal(call: () => unknown): string {
  try {
    call()
  } catch (error) {
    const { code, message, hint } = error as { code?: string; message: string; hint?: string }
    if (code !== 'CONFIG_INVALID') throw error
    if (/[\r\n]/.test(message) || !hint)
      throw new Error(`not one line with a hint: ${message}`, { cause: error })
    return message.replace('configuration refused: ', '')
  }
  throw new Error('it was not refused')
}
