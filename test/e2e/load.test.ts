/** The judge of the crash tests finds what it is there to find. */
import test from 'tape'
import { Config } from '../../config/index.ts'
import type { KVEntry } from '../../lib/index.ts'
import { makeStamp } from '../../lib/wire/stamps.ts'
import { Facts, judge, operationsOf } from './load.ts'

const owner = '1'.repeat(64)
const config = new Config({ capacities: { [owner]: 1 }, writers: ['2'.repeat(64)] })
const part = JSON.stringify([{ owner, generation: 1, from: 1, to: 2 }])

/** Two flushes that resolved, and one whose caller was told nothing. */
function told(): Facts {
  const facts = new Facts()
  const lines = ['up', 'call 0 t:2 u:1', 'call 1 t:2', `done 0 ${part}`, 'ack 0', 'receipt 0']
  for (const line of [...lines, `done 1 ${part}`, 'call 2 u:2']) facts.add('x', line)
  return facts
}

/** The state after the operations of these flushes were applied, one after the other. */
function stateAfter(facts: Facts, flushes: readonly number[]): Map<string, KVEntry> {
  const state = new Map<string, KVEntry>()
  let counter = 0
  for (const n of flushes) {
    for (const { key, value } of operationsOf('x', n, facts.of('x')[n]?.tags ?? [])) {
      const versionstamp = makeStamp({ epoch: 1, serial: 1, counter: ++counter })
      state.set(key, { key, value, versionstamp, expireAt: null })
    }
  }
  return state
}

function faultsOf(
  flushes: readonly number[],
  change: (state: Map<string, KVEntry>) => void = () => {}
): readonly string[] {
  const facts = told()
  const state = stateAfter(facts, flushes)
  change(state)
  return judge(facts, [...state.values()], config).faults
}

test('what is right is found right', (t) => {
  t.deepEqual(faultsOf([0, 1]), [], 'what was cut off may be absent')
  t.deepEqual(faultsOf([0, 1, 2]), [], 'and present')
  const facts = told()
  const { applied, overwritten, unknown, unknownApplied } = judge(
    facts,
    [...stateAfter(facts, [0, 1, 2]).values()],
    config
  )
  t.deepEqual(
    { applied, overwritten, unknown, unknownApplied },
    { applied: 11, overwritten: 2, unknown: 1, unknownApplied: 1 }
  )
  t.deepEqual([facts.acks, facts.receipts], [1, 1])
  t.end()
})

test('each kind of fault is found', (t) => {
  const finds = (what: string, faults: readonly string[], pattern: RegExp): void => {
    t.ok(
      faults.some((fault) => pattern.test(fault)),
      `${what}: ${faults.join('; ')}`
    )
  }
  finds('a flush is lost', faultsOf([0]), /\{t\}\/x\/1\/0 is missing; flush\(\) had resolved/)
  finds('applied twice at once', faultsOf([0, 0, 1]), /took 13 versionstamps for 8 operations/)
  finds('applied again later', faultsOf([0, 1, 0]), /versionstamps for 8 operations/)
  finds('applied again later', faultsOf([0, 1, 0]), /\{t\}\/last is 'x 0', which is nobody's last/)
  finds('two flushes in the wrong order', faultsOf([1, 0]), /x\/1\/0 has the stamp .* before it/)
  finds(
    'one of a flush is lost',
    faultsOf([0, 1], (s) => s.delete('{t}/x/1/1')),
    /x\/1\/1 is miss/
  )
  finds(
    'an overwritten key is lost',
    faultsOf([0, 1], (s) => s.delete('{u}/last')),
    /\/last is mis/
  )
  finds(
    'half of what was cut off',
    faultsOf([0, 1, 2], (s) => s.delete('{u}/x/2/1')),
    /x\/2\/1 is missing; flush\(\) had not resolved/
  )
  const replace = (key: string, change: Partial<KVEntry>) => (state: Map<string, KVEntry>) => {
    const entry = state.get(key)
    if (entry) state.set(key, { ...entry, ...change })
  }
  finds(
    'a wrong value',
    faultsOf([0, 1], replace('{t}/x/0/0', { value: 'y' })),
    /has the value 'y'/
  )
  finds('an older value', faultsOf([0, 1], replace('{t}/last', { value: 'x 0' })), /nobody's last/)
  const old = makeStamp({ epoch: 1, serial: 1, counter: 1 })
  finds(
    'an older stamp',
    faultsOf([0, 1], replace('{t}/last', { versionstamp: old })),
    /has an older stamp than/
  )
  finds(
    'one stamp for two',
    faultsOf([0, 1], replace('{u}/last', { versionstamp: old })),
    /shares its stamp/
  )
  finds(
    'another generation',
    faultsOf(
      [0, 1],
      replace('{t}/last', { versionstamp: makeStamp({ epoch: 1, serial: 2, counter: 1 }) })
    ),
    /has the stamp 00000100020000000001/
  )
  const stray = { key: 'stray', value: '', versionstamp: old, expireAt: null }
  finds(
    'from nowhere',
    faultsOf([0, 1], (s) => s.set('stray', stray)),
    /stray was never written/
  )
  t.end()
})

test('lines that make no sense are refused', (t) => {
  t.throws(() => told().add('x', 'receipt 7'), /receipt 7/)
  t.throws(() => told().add('x', 'failed Error: no'), /failed Error: no/)
  t.throws(() => told().add('x', 'call 7 t:1'), /called flush 7/)
  t.throws(() => told().add('x', 'call 1 t:1'), /called flush 1/)
  t.end()
})
