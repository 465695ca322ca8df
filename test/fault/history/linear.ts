/**
 * Linearizability of one key, after Wing and Gong, with Lowe's memory of states that were tried: is there an
 * order of the operations, each at one moment between its call and its answer, in which every read gives what
 * was written last?
 *
 * A write whose answer never came may have happened at any moment after its call, or not at all. A search that
 * takes too long is given up, and that is an answer of its own: never "yes".
 */

/** One operation on one key. */
export interface Op {
  /** Who: one thing after the other. */
  readonly client: string
  /** What it writes; unset for a read. */
  readonly write?: string | null
  /** What it read; unset for a write. Null: no such key. */
  readonly read?: string | null
  /** Monotonic, of one clock. */
  readonly called: number
  /** Infinity: nobody knows what became of it. A read without an answer is left out. */
  readonly answered: number
}

export type Outcome = 'yes' | 'no' | 'given up'

export const operationsMax = 1000
export const clientsMax = 10
/** States that are looked at before the search is given up. */
const stepsMax = 2_000_000

interface Event {
  readonly op: number
  readonly isAnswer: boolean
  before: Event | null
  next: Event | null
  /** Of a call: its answer; null: there is none. */
  answer: Event | null
}

/** @param initial what the key has before everything */
export function isLinearizable(ops: readonly Op[], initial: string | null = null): Outcome {
  const clients = new Set(ops.map(({ client }) => client))
  if (ops.length > operationsMax || clients.size > clientsMax) return 'given up'
  const head = eventsOf(ops)
  /** How many operations must still be put in their place: those with an answer. */
  let open = ops.filter(({ answered }) => answered !== Infinity).length
  let value = initial
  const done = new Uint32Array(Math.ceil(ops.length / 32))
  const tried = new Set<string>()
  const stack: { event: Event; value: string | null }[] = []
  let event = head.next
  for (let steps = 0; open > 0; steps++) {
    if (steps > stepsMax) return 'given up'
    if (event !== null && !event.isAnswer) {
      const op = ops[event.op] as Op
      const next = op.write === undefined ? value : op.write
      if (op.write !== undefined || op.read === value) {
        flip(done, event.op)
        const state = `${done.join()} ${next === null ? 0 : `1${next}`}`
        if (!tried.has(state)) {
          tried.add(state)
          stack.push({ event, value })
          value = next
          if (event.answer !== null) open--
          lift(event)
          event = head.next
          continue
        }
        flip(done, event.op)
      }
      event = event.next
      continue
    }
    // An operation has ended that has no place yet: something was put in the wrong one.
    const last = stack.pop()
    if (last === undefined) return 'no'
    flip(done, last.event.op)
    value = last.value
    if (last.event.answer !== null) open++
    unlift(last.event)
    event = last.event.next
  }
  return 'yes'
}

function flip(bits: Uint32Array, at: number): void {
  bits[at >> 5] = (bits[at >> 5] ?? 0) ^ (1 << (at & 31))
}

/** Calls and answers in the order of time, as a list. */
function eventsOf(ops: readonly Op[]): Event {
  const head: Event = { op: -1, isAnswer: false, before: null, next: null, answer: null }
  const timed = ops.flatMap((op, i) => {
    const make = (isAnswer: boolean): Event => ({
      op: i,
      isAnswer,
      before: null,
      next: null,
      answer: null
    })
    const call = make(false)
    if (op.answered === Infinity) return [{ at: op.called, event: call }]
    call.answer = make(true)
    return [
      { at: op.called, event: call },
      { at: op.answered, event: call.answer }
    ]
  })
  // Calls first where the times are equal: then the two may have been at once.
  timed.sort((a, b) => a.at - b.at || Number(a.event.isAnswer) - Number(b.event.isAnswer))
  let last = head
  for (const { event } of timed) {
    last.next = event
    event.before = last
    last = event
  }
  return head
}

function lift({ before, next, answer }: Event): void {
  if (before) before.next = next
  if (next) next.before = before
  if (answer === null) return
  if (answer.before) answer.before.next = answer.next
  if (answer.next) answer.next.before = answer.before
}

function unlift(event: Event): void {
  const { answer } = event
  if (answer !== null) {
    if (answer.before) answer.before.next = answer
    if (answer.next) answer.next.before = answer
  }
  if (event.before) event.before.next = event
  if (event.next) event.next.before = event
}
