/** A reader of several storage nodes, of whom one has signed what it should not. */
import test, { type Test } from 'tape'
import type { FollowedIndex } from '../../lib/lsm/view.ts'
import type { IndexSnapshot, IndexView } from '../../lib/ports.ts'
import { isKVSwarmError, KVSwarmError } from '../../lib/errors.ts'
import { Reader } from '../../lib/read/reader.ts'
import { OwnerView } from '../../lib/read/views.ts'
import type { NodeId } from '../../lib/types.ts'
import { decodeKey, encodeKey } from '../../lib/wire/keys.ts'
import { deadline, until } from '../helpers/events.ts'
import { errorOf } from '../helpers/errors.ts'
import { Forge, record, smallStep, type Pairs } from './forge.ts'

/** A storage node's index with these entries, in their order. */
async function indexOf(t: Test, ...pairs: Pairs): Promise<FollowedIndex> {
  const forge = await Forge.open(t)
  await forge.journal(0, smallStep(0, ...pairs))
  await forge.layout({})
  const view = await forge.view(t)
  await until(() => view.head.length === 1)
  return view
}

async function ownerView(view: IndexView): Promise<OwnerView> {
  const owner = new OwnerView(view.node, { open: () => Promise.resolve(view), attach: () => {} })
  await owner.announce(1)
  return owner
}

/** A reader to whom keys belong by their first letter: a to m to the first, n to z to the second. */
async function readerOf(first: IndexView, second: IndexView, online = false): Promise<Reader> {
  const views = new Map<NodeId, OwnerView>()
  for (const view of [first, second]) views.set(view.node, await ownerView(view))
  return new Reader({
    owners: () => [...views.keys()].toSorted(),
    ownerOf: (key) => (String(decodeKey(key)) < 'n' ? first.node : second.node),
    view: (owner: NodeId) => views.get(owner) as OwnerView,
    online: () => online,
    askHead: (owner) =>
      Promise.resolve({ generation: 1, length: owner === second.node ? 2 : first.head.length }),
    asked: () => false
  })
}

async function listed(reader: Reader): Promise<{ keys: string[]; error: unknown }> {
  const keys: string[] = []
  try {
    for await (const { key } of reader.list({}, {})) keys.push(String(decodeKey(key)))
    return { keys, error: null }
  } catch (error) {
    return { keys, error }
  }
}

function isNamed(error: unknown, liar: IndexView): boolean {
  return isKVSwarmError(error, 'CORRUPT') && error.message.includes(liar.node)
}

const textOf = (entry: { value: Uint8Array } | null): string =>
  Buffer.from(entry?.value.subarray(1) ?? []).toString()

test('an entry of another storage node is no entry: a list refuses it, a get never sees it', async (t) => {
  const honest = await indexOf(t, ['apple', record('first')], ['melon', record('first')])
  const liar = await indexOf(t, ['apple', record('forged')], ['pear', record('second')])
  const reader = await readerOf(honest, liar)
  const { keys, error } = await listed(reader)
  t.ok(isNamed(error, liar), `the liar is named: ${String(error)}`)
  t.notOk(keys.includes('apple'), 'and nothing of it was given')
  const found = await reader.getMany([encodeKey('apple'), encodeKey('pear')], {})
  t.deepEqual(found.map(textOf), ['first', 'second'], 'each from its owner')
})

test('a record that is no entry, an index that makes no sense: CORRUPT, and the node is named', async (t) => {
  const honest = await indexOf(t, ['apple', record('1')], ['banana', record('2')])
  const forge = await Forge.open(t)
  await forge.journal(0, Buffer.from('no step'))
  await forge.layout({})
  const senseless = await forge.view(t)
  await until(() => senseless.head.length === 1)
  for (const liar of [await indexOf(t, ['pear', Buffer.from([9, 9, 9])]), senseless]) {
    const reader = await readerOf(honest, liar)
    t.ok(isNamed((await listed(reader)).error, liar), 'list')
    t.ok(isNamed(await errorOf(reader.getMany([encodeKey('pear')], {})), liar), 'get')
    const both = [encodeKey('apple'), encodeKey('pear')]
    t.ok(isNamed(await errorOf(reader.getMany(both, {})), liar), 'get of several')
    const others = await reader.getMany([encodeKey('apple'), encodeKey('banana')], {})
    t.deepEqual(others.map(textOf), ['1', '2'], 'others can be read')
  }
})

test('a storage node whose layout makes no sense is CORRUPT at once, or read as it was', async (t) => {
  const honest = await indexOf(t, ['apple', record('1')])
  const forge = await Forge.open(t)
  await forge.anchor.append([Buffer.from('nonsense')])
  const senseless = await forge.view(t)
  const reader = await readerOf(honest, senseless, true)
  const wait = { timeout: 60_000 }
  const error = errorOf(reader.getMany([encodeKey('pear')], wait))
  t.ok(isNamed(await deadline(error, 20_000, 'an answer'), senseless), 'it is named')
  t.equal((await reader.getMany([encodeKey('apple')], wait)).map(textOf)[0], '1')

  const later = await Forge.open(t)
  await later.journal(0, smallStep(0, ['pear', record('2')]))
  await later.layout({})
  const view = await later.view(t)
  await until(() => view.head.length === 1)
  await later.anchor.append([Buffer.from('nonsense')])
  const again = await readerOf(honest, view, true)
  const found = deadline(again.getMany([encodeKey('pear')], wait), 20_000, 'an answer')
  t.equal((await found).map(textOf)[0], '2', 'what it had signed before is read')
  const fresh = errorOf(again.getMany([encodeKey('pear')], { ...wait, fresh: true }))
  t.ok(isNamed(await deadline(fresh, 20_000, 'an answer'), view), 'a fresh read is CORRUPT')
})

test('an index that is replaced as fast as it is read: reads end with their time', async (t) => {
  const gone = new KVSwarmError('INDEX_REPLACED', 'gone')
  const replaced = async (): Promise<never> => {
    await new Promise(setImmediate)
    throw gone
  }
  const snapshot: IndexSnapshot = {
    head: { generation: 1, length: 1 },
    get: replaced,
    async *range() {
      yield await replaced()
    },
    tellsSince: () => true,
    async *changes() {},
    close: () => Promise.resolve()
  }
  const honest = await indexOf(t, ['apple', record('1')])
  const liar: IndexView = {
    node: 'dd'.repeat(32),
    head: snapshot.head,
    get: replaced,
    snapshot: () => snapshot,
    onHead: () => () => {},
    close: () => Promise.resolve()
  }
  const reader = await readerOf(honest, liar)
  const wait = { timeout: 200 }
  const both = errorOf(reader.getMany([encodeKey('pear'), encodeKey('plum')], wait))
  t.equal((await deadline(both, 20_000, 'an answer')).code, 'OWNER_UNREACHABLE', 'get')
  const all = async (): Promise<void> => {
    for await (const _ of reader.list({}, wait)) void 0
  }
  t.equal((await deadline(errorOf(all()), 20_000, 'an answer')).code, 'OWNER_UNREACHABLE', 'list')
})
