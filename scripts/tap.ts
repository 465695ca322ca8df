/**
 * Reads the TAP that tape prints: what passed, failed and was skipped, and why.
 *
 * Only lines without indentation count; what belongs to an assertion is indented by tape.
 */

/** A test or an assertion that was skipped. */
export interface Skip {
  /** Its name, with the reason when that is a part of it. */
  readonly name: string
  /** The capability after 'needs:', or null when none is named. */
  readonly needs: string | null
}

/** What a TAP stream has told so far. */
export interface TapCount {
  passed: number
  failed: number
  /** Failing assertions that tape was told to let pass. We have none. */
  todo: number
  readonly skipped: Skip[]
  /** Assertions that the stream says it holds; null while it has not ended. */
  plan: number | null
}

function skipOf(name: string): Skip {
  return { name, needs: /\bneeds: ([\w .-]+?)\s*$/.exec(name)?.[1] ?? null }
}

/** Takes in one line. */
export function countLine(count: TapCount, line: string): void {
  const assertion = /^(not )?ok \d+(?: (.*))?$/.exec(line)
  if (assertion !== null) {
    const text = assertion[2] ?? ''
    const directive = /(?:^|\s)# (SKIP|TODO)\b ?(.*)$/.exec(text)
    if (directive?.[1] === 'TODO') count.todo++
    else if (directive?.[1] === 'SKIP') {
      const name = text.slice(0, directive.index)
      count.skipped.push(skipOf([name, directive[2]].filter(Boolean).join(' ')))
    } else if (assertion[1] === undefined) count.passed++
    else count.failed++
    return
  }
  const skipped = /^# SKIP (.*)$/.exec(line)
  if (skipped !== null) count.skipped.push(skipOf(skipped[1] ?? ''))
  const plan = /^1\.\.(\d+)$/.exec(line)
  if (plan !== null) count.plan = Number(plan[1])
}

/** A count of nothing. */
export function emptyCount(): TapCount {
  return { passed: 0, failed: 0, todo: 0, skipped: [], plan: null }
}
