/** A reader of several storage nodes, of whom one has signed what it should not. */
import test, { type Test } from 'tape'
import { isKVSwarmError } from '../../lib/errors.ts'
import { BeeView } from '../../lib/hyper/bee.ts'
import { Store } from '../../lib/hyper/store.ts'
import { Reader } from '../../lib/read/reader.ts'
import type { OwnerView } from '../../lib/read/views.ts'
import type { NodeId } from '../../lib/types.ts'
import { decodeKey, encodeKey } from '../../lib/wire/keys.ts'
import { dataKey, encodeEntry } from '../../lib/wire/records.ts'
import { makeStamp } from '../../lib/wire/stamps.ts'
import { encodeValue } from '../../lib/wire/values.ts'
import { cleanup } from '../helpers/cleanup.ts'
import { tmpdir } from '../helpers/tmp.ts'
import { header, treeBlock } from './tree-blocks.ts'

const entry = (value: string): Uint8Array =>
  encodeEntry({
    value: encodeValue(value),
    versionstamp: makeStamp({ epoch: 1, serial: 1, counter: 1 }),
    expireAt: 0
  })

/** A storage node's index with these entries, in their order. */
async function indexOf(
  t: Test,
  entries: readonly (readonly [key: string, record: Uint8Array])[]
): Promise<BeeView> {
  const store = await Store.open({ directory: tmpdir(t), durability: 'os' })
  cleanup(t, () => store.close())
  const name = { kind: 'index', node: store.nodeId } as const
  const log = await store.begin(name, 1)
  const keys = entries.map((_, i) => i + 1)
  const blocks = entries.map(([key, record], i) =>
    treeBlock(dataKey(encodeKey(key)), record, [{ keys: keys.slice(0, i + 1) }])
  )
  await log.append([header, ...blocks])
  const view = await BeeView.open(await store.peerLog(name, 1))
  cleanup(t, () => view.close())
  return view
}

/** A reader to whom keys belong by their first letter: a to m to the first, n to z to the second. */
function readerOf(first: BeeView, second: BeeView): Reader {
  const views = new Map([first, second].map((view) => [view.node, view]))
  return new Reader({
    owners: () => [...views.keys()].toSorted(),
    ownerOf: (key) => (String(decodeKey(key)) < 'n' ? first.node : second.node),
    view: (owner: NodeId) => {
      const current = views.get(owner)
      return { current, head: current?.head } as unknown as OwnerView
    },
    online: () => false,
    askHead: () => Promise.reject(new Error('nobody is asked')),
    asked: () => true
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

test('an entry of another storage node is no entry: a list refuses it, a get never sees it', async (t) => {
  const honest = await indexOf(t, [
    ['apple', entry('of the first')],
    ['melon', entry('of the first')]
  ])
  const liar = await indexOf(t, [
    ['apple', entry('forged')],
    ['pear', entry('of the second')]
  ])
  const reader = readerOf(honest, liar)
  const { keys, error } = await listed(reader)
  t.ok(isKVSwarmError(error, 'CORRUPT'), String(error))
  t.ok(String(error).includes(liar.node), 'the liar is named')
  t.notOk(keys.includes('apple'), 'and nothing of it was given')
  const found = await reader.getMany([encodeKey('apple'), encodeKey('pear')], {})
  t.deepEqual(
    found.map((one) => Buffer.from(one?.value ?? []).toString()),
    [entryText('of the first'), entryText('of the second')],
    'each from its owner'
  )
})

test('a record that is no entry: CORRUPT, and the node is named', async (t) => {
  const honest = await indexOf(t, [['apple', entry('1')]])
  const liar = await indexOf(t, [['pear', Buffer.from([9, 9, 9])]])
  const reader = readerOf(honest, liar)
  const { error } = await listed(reader)
  t.ok(isKVSwarmError(error, 'CORRUPT') && error.message.includes(liar.node), String(error))
  try {
    await reader.getMany([encodeKey('pear')], {})
    t.fail('it was given')
  } catch (failure) {
    t.ok(isKVSwarmError(failure, 'CORRUPT') && failure.message.includes(liar.node), String(failure))
  }
  t.equal((await reader.getMany([encodeKey('apple')], {})).length, 1, 'others can be read')
})

function entryText(text: string): string {
  return Buffer.from(encodeValue(text)).toString()
}
