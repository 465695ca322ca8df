// Every example runs, ends by itself, and prints what its reader expects.
import { readdir } from 'node:fs/promises'
import { fileURLToPath } from 'node:url'
import test from 'tape'
import { runProgram } from '../helpers/process.ts'

const root = fileURLToPath(new URL('../..', import.meta.url))

const expected: Record<string, string[]> = {
  'promises.ts': [
    'applied: 2',
    'greeting: hi',
    'alice: {"name":"Alice","since":"1970-01-01T00:00:00.000Z"}',
    'nobody: null',
    "listed: [ 'users', 'alice' ]",
    'deleted: null'
  ],
  'callbacks.ts': ['cool: beans', 'writers: 1']
}

test('examples', async (t) => {
  const files = (await readdir(new URL('../../examples', import.meta.url))).filter((name) =>
    name.endsWith('.ts')
  )
  t.deepEqual(files.toSorted(), Object.keys(expected).toSorted(), 'every example is expected here')
  for (const [name, lines] of Object.entries(expected)) {
    const command = [process.execPath, '--import', 'tsx', `examples/${name}`]
    const { code, stdout, stderr } = await runProgram(command, { cwd: root })
    t.equal(code, 0, `${name}: ${stderr}`)
    t.deepEqual(stdout.trimEnd().split('\n'), lines, name)
  }
})
