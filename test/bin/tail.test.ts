// `kvswarm tail`: the state, then what has changed since a bookmark.
import { readFile } from 'node:fs/promises'
import test from 'tape'
import Config from '../../config/index.ts'
import { KVSwarm, MemoryHub } from '../../lib/index.ts'
import { cleanup } from '../helpers/cleanup.ts'
import { inProcess, makeLab } from './helpers.ts'

test('the state of all keys, and what has changed since', async (t) => {
  const { at, config } = await makeLab(t)
  const parsed = Config.parse(await readFile(config, 'utf8'))
  const hub = new MemoryHub()
  const open = (name: string): KVSwarm => {
    const kv = new KVSwarm({ storage: at(name), config: parsed, network: hub.network() })
    cleanup(t, () => kv.close())
    return kv
  }
  for (const name of ['a', 'b']) await open(name).listen()
  const writer = open('x')
  await writer.connect()
  writer.put('one', 'first\tline')
  writer.put('two', { n: 2 })
  await writer.flush({ receipt: true })

  const x = ['-c', config, '-d', at('x')]
  const first = await inProcess([...x, 'tail'])
  t.equal(first.code, 0, first.stderr)
  const lines = first.stdout.trimEnd().split('\n')
  t.deepEqual(
    lines.filter((line) => line.startsWith('put')).toSorted(),
    ['put\tone\tfirst\\tline', 'put\ttwo\t{"n":2}'],
    'one change a line'
  )
  const bookmark = lines.at(-1)?.split('\t')[1] ?? ''
  t.ok(lines.at(-1)?.startsWith('bookmark\t') && bookmark !== '', 'and where to go on')

  await writer.delete('one', { receipt: true })
  const since = await inProcess([...x, 'tail', '--since', bookmark, '--json'])
  t.equal(since.code, 0, since.stderr)
  const changes = since.stdout
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line) as { type: string; key?: unknown })
  t.deepEqual(changes[0], { type: 'del', key: 'one' })
  t.equal(changes.at(-1)?.type, 'bookmark')
  t.equal(changes.length, 2, 'nothing else')
  const wrong = await inProcess([...x, 'tail', '--since', 'nonsense'])
  t.equal(wrong.code, 2, wrong.stderr)
})
