/** The judge of the fault runs finds what it is there to find. */
import test from 'tape'
import { Config } from '../../../config/index.ts'
import type { KVEntry } from '../../../lib/index.ts'
import { makeStamp } from '../../../lib/wire/stamps.ts'
import { keysOf, type Answer } from '../driver/client.ts'
import { graceMs, judgeHistory, type Made } from './promises.ts'

const config = new Config({ capacities: { ['1'.repeat(64)]: 1 }, writers: ['2'.repeat(64)] })
const tag = 'w0-0'
const stamp = (counter: number): string => makeStamp({ epoch: 1, serial: 1, counter })

/** One call of `client`, from `at` to `end`. */
function made(
  client: string,
  call: number,
  type: Made['type'],
  at: number,
  end: number | null,
  answer: Partial<Answer> = {}
): Made {
  const told = end === null ? null : { done: call, at: end, idle: 0, ...answer }
  return { client, life: 1, call, at, type, tag, timeout: 1000, answer: told }
}

const put = (client: string, call: number, at: number, end: number | null = at + 1): Made =>
  made(client, call, 'put', at, end)
const get = (
  client: string,
  call: number,
  at: number,
  value: string | null,
  counter: number | null,
  type: 'fresh' | 'get' = 'fresh'
): Made =>
  made(client, call, type, at, at + 1, { value, stamp: counter === null ? null : stamp(counter) })

/** The state after these writes were applied in this order: each takes a stamp for its value and its own key. */
function stateAfter(writes: readonly Made[]): Map<string, KVEntry> {
  const state = new Map<string, KVEntry>()
  let counter = 0
  for (const { client, call, type } of writes) {
    const { main, own } = keysOf(tag, client, call)
    const set = (key: string, value: string): void => {
      state.set(key, { key, value, versionstamp: stamp(++counter), expireAt: null })
    }
    if (type === 'put') set(main, `${client} ${call}`)
    else state.delete(main)
    set(own, '')
  }
  return state
}

function faultsOf(history: readonly Made[], applied: readonly Made[]): readonly string[] {
  return judgeHistory(history, [...stateAfter(applied).values()], config).faults
}

const first = put('x', 0, 0)
const second = put('x', 1, 10)
const lost = put('y', 0, 5, null)

test('what is right is found right', (t) => {
  const reads = [
    get('z', 0, 2, 'x 0', 1),
    get('z', 1, 12, 'x 1', 3, 'get'),
    get('z', 2, 14, 'x 1', 3)
  ]
  t.deepEqual(faultsOf([first, second, ...reads], [first, second]), [])
  t.deepEqual(faultsOf([first, second, lost], [first, second]), [], 'unknown, and not applied')
  t.deepEqual(faultsOf([first, second, lost], [first, lost, second]), [], 'unknown, and applied')
  t.deepEqual(
    faultsOf([first, second, get('z', 0, 12, 'x 0', 1, 'get')], [first, second]),
    [],
    'a read that need not be fresh may be old'
  )
  const verdict = judgeHistory([first, lost], [...stateAfter([first, lost]).values()], config)
  t.deepEqual([verdict.calls, verdict.unknown, verdict.unknownApplied], [2, 1, 1])
  t.end()
})

test('each kind of fault is found', (t) => {
  const finds = (what: string, faults: readonly string[], pattern: RegExp): void => {
    t.ok(
      faults.some((fault) => pattern.test(fault)),
      `${what}: ${faults.join('; ')}`
    )
  }
  finds('a lost write', faultsOf([first, second], [first]), /x 1: receipted, and not there/)
  finds('applied twice', faultsOf([first, second], [first, first, second]), /took 6 stamps for 4/)
  finds(
    'out of order',
    faultsOf([first, second], [second, first]),
    /x 1: applied before an earlier/
  )
  finds(
    'a fresh read that is old',
    faultsOf([first, second, get('z', 0, 12, 'x 0', 1)], [first, second]),
    /linearizable: no/
  )
  finds(
    'a reader that goes back',
    faultsOf(
      [first, second, get('z', 0, 12, 'x 1', 3, 'get'), get('z', 1, 14, 'x 0', 1, 'get')],
      [first, second]
    ),
    /z 1 read .* after/
  )
  finds(
    'nothing after something',
    faultsOf([first, get('z', 0, 2, 'x 0', 1, 'get'), get('z', 1, 4, null, null, 'get')], [first]),
    /z 1 read nothing after/
  )
  finds(
    'its own write is not seen',
    faultsOf(
      [first, second, get('z', 0, 12, 'x 1', 3), get('x', 2, 14, 'x 0', 1, 'get')],
      [first, second]
    ),
    /x 2 read .* after/
  )
  finds(
    'from nowhere',
    faultsOf([get('z', 0, 0, 'q 7', 1, 'get')], []),
    /'q 7' was read, not written/
  )
  finds(
    'two stamps',
    faultsOf([first, get('z', 0, 2, 'x 0', 1, 'get'), get('y', 0, 2, 'x 0', 2, 'get')], [first]),
    /has the stamps/
  )
  const late = made('z', 0, 'get', 0, 1000 + graceMs + 1, { error: 'TIMEOUT' })
  finds('a call that hangs', faultsOf([late], []), /took 6001 ms with a timeout of 1000/)
  t.end()
})
