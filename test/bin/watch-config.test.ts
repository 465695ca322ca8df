/** A watched configuration file: replaced, written in place, behind links, broken, gone. */
import { mkdirSync, renameSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import test from 'tape'
import { ConfigWatch } from '../../bin/watch-config.ts'
import Config from '../../config/index.ts'
import { cleanup } from '../helpers/cleanup.ts'
import { until } from '../helpers/events.ts'
import { tmpdir } from '../helpers/tmp.ts'

const id = (digit: string): string => digit.repeat(64)

/** Text of a configuration of this epoch. */
function text(epoch: number): string {
  return new Config({ capacities: { [id('a')]: 1 }, epoch }).serialize()
}

/** Watches the file; epochs that are taken over and problems are collected. */
async function watching(
  t: test.Test,
  path: string
): Promise<{ epochs: number[]; problems: string[] }> {
  const epochs: number[] = []
  const problems: string[] = []
  let used = Config.parse(text(1))
  const watch = await ConfigWatch.open({
    path,
    current: () => used,
    onConfig: async (config) => {
      used = config
      epochs.push(config.epoch)
    },
    onProblem: (message) => problems.push(message)
  })
  cleanup(t, () => watch.close())
  return { epochs, problems }
}

test('replaced and written in place, again and again', async (t) => {
  const folder = tmpdir(t)
  const path = join(folder, 'config.json')
  writeFileSync(path, text(1))
  const { epochs, problems } = await watching(t, path)
  for (let epoch = 2; epoch <= 7; epoch++) {
    if (epoch % 2 === 0) {
      writeFileSync(`${path}.new`, text(epoch))
      renameSync(`${path}.new`, path)
    } else writeFileSync(path, text(epoch))
    await until(() => epochs.at(-1) === epoch, { what: `epoch ${epoch}` })
  }
  t.deepEqual(epochs, [2, 3, 4, 5, 6, 7])
  t.deepEqual(problems, [])
})

test('a change before the watch began is noticed', async (t) => {
  const path = join(tmpdir(t), 'config.json')
  writeFileSync(path, text(5))
  const { epochs } = await watching(t, path)
  await until(() => epochs.length === 1, { what: 'the change' })
  t.deepEqual(epochs, [5])
})

test('behind links: the link is turned, or the file it points to is replaced', async (t) => {
  const folder = tmpdir(t)
  const shown = join(folder, 'shown')
  mkdirSync(shown)
  for (const name of ['one', 'two']) mkdirSync(join(folder, name))
  const target = join(folder, 'one', 'config.json')
  writeFileSync(target, text(1))
  writeFileSync(join(folder, 'two', 'config.json'), text(3))
  const path = join(shown, 'config.json')
  symlinkSync(target, path)
  const { epochs } = await watching(t, path)
  writeFileSync(`${target}.new`, text(2))
  renameSync(`${target}.new`, target)
  await until(() => epochs.at(-1) === 2, { what: 'the target to be replaced' })
  symlinkSync(join(folder, 'two', 'config.json'), join(shown, 'new'))
  renameSync(join(shown, 'new'), path)
  await until(() => epochs.at(-1) === 3, { what: 'the link to be turned' })
  writeFileSync(join(folder, 'two', 'config.json'), text(4))
  await until(() => epochs.at(-1) === 4, { what: 'the new target to be written' })
  t.deepEqual(epochs, [2, 3, 4])
})

test('what is broken, lower, another one or gone is reported once, and the next good one is taken', async (t) => {
  const path = join(tmpdir(t), 'config.json')
  writeFileSync(path, text(1))
  const { epochs, problems } = await watching(t, path)
  writeFileSync(path, text(4))
  await until(() => epochs.length === 1, { what: 'epoch 4' })
  const other = new Config({ capacities: { [id('b')]: 1 }, epoch: 4 }).serialize()
  const cases: [() => void, string][] = [
    [() => writeFileSync(path, '{'), 'not JSON'],
    [() => writeFileSync(path, text(2)), 'has epoch 2, and 4 is in use'],
    [() => writeFileSync(path, other), 'has epoch 4 like the one in use, but is another one'],
    [() => rmSync(path), 'ENOENT']
  ]
  for (const [change, problem] of cases) {
    const before = problems.length
    change()
    await until(() => problems.length > before, { what: problem })
    t.ok(problems.at(-1)?.includes(problem), problems.at(-1))
    t.ok(problems.at(-1)?.startsWith('the configuration stays as it is: '))
  }
  writeFileSync(path, text(5))
  await until(() => epochs.at(-1) === 5, { what: 'epoch 5' })
  t.deepEqual(epochs, [4, 5])
})
