/** The checker says yes to what can have been, no to what cannot, and never guesses. */
import test from 'tape'
import { random } from '../../helpers/random.ts'
import { clientsMax, isLinearizable, operationsMax, type Op } from './linear.ts'

const w = (client: string, value: string | null, called: number, answered = Infinity): Op => ({
  client,
  write: value,
  called,
  answered
})
const r = (client: string, value: string | null, called: number, answered: number): Op => ({
  client,
  read: value,
  called,
  answered
})

test('histories made by hand', (t) => {
  const good: Record<string, Op[]> = {
    'nothing happened': [],
    'one after the other': [
      w('a', '1', 0, 1),
      r('b', '1', 2, 3),
      w('a', '2', 4, 5),
      r('b', '2', 6, 7)
    ],
    'a read at once with a write, old': [
      w('a', '1', 0, 10),
      r('b', null, 1, 2),
      r('b', '1', 11, 12)
    ],
    'a read at once with a write, new': [w('a', '1', 0, 10), r('b', '1', 1, 2)],
    'two writes at once, either order': [
      w('a', '1', 0, 10),
      w('b', '2', 0, 10),
      r('c', '1', 11, 12)
    ],
    'a write without answer that never was': [w('a', '1', 0), r('b', null, 5, 6)],
    'a write without answer, much later': [w('a', '1', 0), r('b', null, 5, 6), r('b', '1', 7, 8)],
    'a delete': [w('a', '1', 0, 1), w('a', null, 2, 3), r('b', null, 4, 5)],
    'two without answer, both orders at once': [
      w('a', '1', 0),
      w('b', '2', 0),
      r('c', '2', 3, 4),
      r('c', '1', 5, 6)
    ],
    'a write without answer after one with': [w('a', '1', 0), w('b', '2', 3, 4), r('c', '1', 5, 6)]
  }
  const bad: Record<string, Op[]> = {
    'a lost write': [w('a', '1', 0, 1), r('b', null, 2, 3)],
    'an old value': [w('a', '1', 0, 1), w('a', '2', 2, 3), r('b', '1', 4, 5)],
    'a value from nowhere': [w('a', '1', 0, 1), r('b', '7', 2, 3)],
    'a value before its write': [r('b', '1', 0, 1), w('a', '1', 2, 3)],
    'back and forth': [w('a', '1', 0, 10), r('b', '1', 1, 2), r('c', null, 3, 4)],
    'two reads at odds': [
      w('a', '1', 0, 10),
      w('b', '2', 0, 10),
      r('c', '1', 11, 12),
      r('d', '2', 13, 14)
    ],
    'a deleted value comes back': [
      w('a', '1', 0, 1),
      w('a', null, 2, 3),
      r('b', null, 4, 5),
      r('b', '1', 6, 7)
    ],
    'applied twice': [
      w('a', '1', 0, 1),
      w('b', '2', 2, 3),
      r('c', '2', 4, 5),
      r('c', '1', 6, 7),
      r('c', '1', 8, 9)
    ],
    'a write without answer, seen, gone': [w('a', '1', 0), r('b', '1', 5, 6), r('b', null, 7, 8)],
    'a write without answer before its call': [r('b', '1', 0, 1), w('a', '1', 2)],
    'an order that nobody can have seen': [
      w('a', '1', 0, 5),
      w('b', '2', 0, 5),
      r('c', '1', 6, 7),
      r('c', '2', 8, 9)
    ]
  }
  for (const [name, ops] of Object.entries(good)) t.equal(isLinearizable(ops), 'yes', name)
  for (const [name, ops] of Object.entries(bad)) t.equal(isLinearizable(ops), 'no', name)
  t.end()
})

/** All orders, one by one. */
function bruteForce(ops: readonly Op[]): boolean {
  const search = (left: readonly Op[], value: string | null): boolean => {
    if (left.every(({ answered }) => answered === Infinity)) return true
    const first = Math.min(...left.map(({ answered }) => answered))
    return left.some((op) => {
      if (op.called > first) return false
      const rest = left.filter((other) => other !== op)
      if (op.write !== undefined) return search(rest, op.write)
      return op.read === value && search(rest, value)
    })
  }
  return search(ops, null)
}

test('random histories, against all orders', (t) => {
  const source = random(t)
  const counts = { yes: 0, no: 0 }
  let wrong = 0
  for (let n = 0; n < 4000; n++) {
    const ops: Op[] = []
    for (const client of ['a', 'b', 'c'].slice(0, source.int(1, 3))) {
      let now = source.int(0, 4)
      for (let i = source.int(0, 3); i > 0; i--) {
        const called = now
        const answered = called + source.int(0, 8)
        now = answered + source.int(0, 3)
        const value = source.pick(['1', '2', '3', null])
        const lost = source.chance(0.15)
        if (source.chance(0.5)) ops.push(r(client, value, called, answered))
        else ops.push(w(client, value, called, lost ? Infinity : answered))
        if (lost) break
      }
    }
    const expected = bruteForce(ops) ? 'yes' : 'no'
    counts[expected]++
    if (isLinearizable(ops) !== expected) wrong++
  }
  t.equal(wrong, 0, `${counts.yes} that can be, ${counts.no} that cannot`)
  t.ok(Math.min(counts.yes, counts.no) > 400, 'many of both')
  t.end()
})

test('as large as it may be, and larger', (t) => {
  const source = random(t)
  // A register, and clients whose calls are longer than what they do.
  let value: string | null = null
  let now = 0
  const free = new Map(Array.from({ length: clientsMax }, (_, i) => [`c${i}`, 0]))
  const ops: Op[] = []
  while (ops.length < operationsMax) {
    now += 1
    const ready = [...free].filter(([, at]) => at < now)
    if (ready.length === 0) continue
    const [client, at] = source.pick(ready)
    const called = source.int(at, now)
    const answered = now + source.int(1, 20)
    free.set(client, answered + 1)
    if (source.chance(0.4)) {
      value = `v${ops.length}`
      ops.push(w(client, value, called, answered))
    } else ops.push(r(client, value, called, answered))
  }
  t.equal(isLinearizable(ops), 'yes', `${ops.length} operations of ${clientsMax} clients`)
  const last = ops.findLastIndex(({ read }) => read !== undefined)
  const spoilt = ops.with(last, { ...(ops[last] as Op), read: 'v-1' })
  t.equal(isLinearizable(spoilt), 'no', 'and one wrong read among them')
  t.equal(isLinearizable([...ops, r('c1', value, now + 99, now + 100)]), 'given up', 'one more')
  t.equal(
    isLinearizable(Array.from({ length: 11 }, (_, i) => w(`d${i}`, '1', 0, 1))),
    'given up',
    'too many clients'
  )
  t.end()
})
