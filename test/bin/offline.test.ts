/** Every command that needs no network: stdout, stderr and exit code, against the real engine. */
import { existsSync, mkdirSync, readFileSync, readdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import test from 'tape'
import { type Lab, inProcess, makeLab, run } from './helpers.ts'
import { tmpdir } from '../helpers/tmp.ts'

/** Runs and asserts the exit code; the whole result is told when it differs. */
async function expect(
  t: test.Test,
  code: number,
  args: readonly string[],
  options: Parameters<typeof inProcess>[1] = {}
): Promise<{ stdout: string; stderr: string }> {
  const result = await inProcess(args, options)
  t.equal(result.code, code, `${args.join(' ').slice(0, 80)} -> ${code} ${result.stderr.trim()}`)
  return result
}

const write = (lab: Lab, name: string, ...rest: string[]): string[] => [
  '-c',
  lab.config,
  '-d',
  lab.at(name),
  'write',
  ...rest
]

test('id makes a private directory and always tells the same id', async (t) => {
  const folder = tmpdir(t)
  const a = await run(['id', '-d', join(folder, 'a')])
  t.deepEqual([a.code, a.stderr], [0, ''])
  t.ok(/^[0-9a-f]{64}\n$/.test(a.stdout), a.stdout)
  const again = await expect(t, 0, ['id'], { env: { KVSWARM_DATADIR: join(folder, 'a') } })
  t.equal(again.stdout, a.stdout)
  const json = await expect(t, 0, ['id', '--json', '-d', join(folder, 'a')])
  t.deepEqual(JSON.parse(json.stdout), { id: a.stdout.trim() })
})

test('a directory that is not ours is refused, and nothing is written there', async (t) => {
  const folder = tmpdir(t)
  const foreign = join(folder, 'foreign')
  mkdirSync(foreign, { mode: 0o700 })
  writeFileSync(join(foreign, 'thesis.tex'), '')
  const { stdout, stderr } = await expect(t, 1, ['id', '-d', foreign])
  t.equal(stdout, '')
  t.ok(/^error: .*thesis\.tex.*\n$/.test(stderr), stderr)
  t.deepEqual(readdirSync(foreign), ['thesis.tex'])
  await expect(t, 1, ['status', '-d', join(folder, 'none')])
  await expect(t, 1, ['stop', '-d', join(folder, 'none')])
  t.deepEqual(readdirSync(folder), ['foreign'], 'looking makes no directory')
})

test('init and where', async (t) => {
  const lab = await makeLab(t)
  const text = readFileSync(lab.config, 'utf8')
  const { default: Config } = await import('../../config/index.ts')
  const config = Config.parse(text)
  t.equal(text, config.serialize(), 'canonical')
  t.deepEqual(config.capacities, { [lab.id.a]: 5, [lab.id.b]: 10 })
  t.deepEqual(config.writers, [lab.id.x])
  t.equal(config.bootstrap, undefined, 'stored only when it is given')
  const other = await expect(t, 0, ['init', `--capacity.${lab.id.a}`, '0.5'], {
    env: { KVSWARM_BOOTSTRAP: '127.0.0.1:1' }
  })
  t.equal(Config.parse(other.stdout).bootstrap, undefined)
  t.notEqual(Config.parse(other.stdout).hashKey, config.hashKey, 'the hash key is random')
  const given = await expect(t, 0, [
    'init',
    `--capacity.${lab.id.a}=1`,
    '--bootstrap',
    '127.0.0.1:1,127.0.0.1:2'
  ])
  t.deepEqual(Config.parse(given.stdout).bootstrap, ['127.0.0.1:1', '127.0.0.1:2'])

  const where = await expect(t, 0, ['where', 'cool', '-c', lab.config])
  const owner = config.ownerOf('cool')
  const lines = where.stdout.split('\n')
  t.equal(lines[0], `owner    ${owner}`)
  t.equal(lines[1], `share    ${owner === lab.id.a ? '33.33' : '66.67'} %`)
  const json = JSON.parse(
    (await expect(t, 0, ['where', 'cool', '-c', lab.config, '--json'])).stdout
  )
  t.equal(json.owner, owner)
  t.ok(json.slice.start <= json.address && json.address < json.slice.end)
  await expect(t, 2, ['where', '', '-c', lab.config])
})

test('bad configurations end with 7 and one line that names the file', async (t) => {
  const lab = await makeLab(t)
  const good = readFileSync(lab.config, 'utf8')
  const cases: [string, string][] = [
    ['no JSON', '{'],
    ['an unknown key', good.replace('"epoch"', '"epohc"')],
    ['__proto__', good.replace('"epoch"', '"__proto__":{},"epoch"')],
    ['a duplicate key', good.replace('"epoch": 1', '"epoch": 1, "epoch": 1')]
  ]
  const path = join(lab.folder, 'bad.json')
  for (const [name, text] of cases) {
    writeFileSync(path, text)
    const { stdout, stderr } = await expect(t, 7, ['where', 'k', '-c', path])
    t.equal(stdout, '')
    t.ok(
      stderr.startsWith(`error: ${path}: `) && stderr.split('\n').length === 2,
      `${name}: ${stderr}`
    )
  }
  const { stderr } = await expect(t, 7, [
    'get',
    'k',
    '-d',
    lab.at('r'),
    '-c',
    join(lab.folder, 'no')
  ])
  t.ok(stderr.includes(join(lab.folder, 'no')), 'a missing file is named')
})

test('write is offline, durable, exact, and for writers alone', async (t) => {
  const lab = await makeLab(t)
  const first = await expect(t, 0, write(lab, 'x', '--put.greeting=hi'))
  t.deepEqual(first, { ...first, stdout: '', stderr: '' }, 'it prints nothing')
  const many = write(lab, 'x', '--put.a.b=c', '--put.k', '007', '--put.e=', '--del.a=b', '--json')
  const result = JSON.parse((await expect(t, 0, [...many, '--put.__proto__=x'])).stdout)
  t.equal(result.operations, 5)
  t.ok(typeof result.id === 'string' && result.id.length > 20 && Array.isArray(result.parts))
  await expect(t, 0, ['-c', lab.config, '-d', lab.at('x'), 'put', 'k', ''])
  await expect(t, 0, ['-c', lab.config, '-d', lab.at('x'), 'del', 'k'])

  const status = await expect(t, 0, ['status', '-d', lab.at('x'), '--json'])
  const { outboxes, writer, epoch, node } = JSON.parse(status.stdout)
  t.deepEqual([writer, epoch, node], [true, 1, lab.id.x])
  t.ok(outboxes.length >= 1 && outboxes.every((box: { acked: unknown }) => box.acked === null))
  const text = await expect(t, 0, ['status', '-d', lab.at('x')])
  t.ok(text.stdout.startsWith(`node       ${lab.id.x}\n`), 'for a person')
  t.ok(text.stdout.includes('outboxes (blocks)\n'))

  const before = readdirSync(lab.at('r')).toSorted()
  for (const args of [
    write(lab, 'r', '--put.a=1'),
    ['-c', lab.config, '-d', lab.at('r'), 'put', 'a', '1'],
    ['-c', lab.config, '-d', lab.at('r'), 'del', 'a']
  ]) {
    const refused = await expect(t, 5, args)
    t.ok(refused.stderr.includes(lab.id.r), refused.stderr)
  }
  const listen = await expect(t, 5, ['listen', '-d', lab.at('r'), '-c', lab.config])
  t.deepEqual([listen.stdout, listen.stderr.includes(lab.id.r)], ['', true])
  t.deepEqual(readdirSync(lab.at('r')).toSorted(), before, 'nothing is left behind')
  const unadopted = JSON.parse((await expect(t, 0, ['status', '-d', lab.at('r'), '--json'])).stdout)
  t.equal(unadopted.epoch, null, 'not even the configuration')
})

test('what cannot be written is refused before anything is', async (t) => {
  const lab = await makeLab(t)
  for (const args of [
    write(lab, 'x', '--put.fine=1', `--put.${'k'.repeat(2_000)}=2`),
    ['-c', lab.config, '-d', lab.at('x'), 'put', '', 'v'],
    ['-c', lab.config, '-d', lab.at('x'), 'put', 'k\ud800', 'v'],
    ['-c', lab.config, '-d', lab.at('x'), 'put', 'k', 'x'.repeat(8 * 1024 * 1024)],
    ['-c', lab.config, '-d', lab.at('x'), 'del', ''],
    ['-c', lab.config, '-d', lab.at('x'), 'get', '']
  ]) {
    const { stdout, stderr } = await expect(t, 2, args)
    t.deepEqual([stdout, stderr.split('\n').length], ['', 2], 'one line')
    t.ok(stderr.length < 400, 'the value is shortened')
  }
  const status = JSON.parse((await expect(t, 0, ['status', '-d', lab.at('x'), '--json'])).stdout)
  t.deepEqual(status.outboxes, [])
})

test('write --from reads NDJSON in portions', async (t) => {
  const lab = await makeLab(t)
  const lines = Array.from({ length: 25_000 }, (_, i) => JSON.stringify({ put: `k${i}`, value: i }))
  lines.push('{"del":"k1"}', '', '{"put":["users","alice"],"value":{"$bytes":"AAEC"}}')
  const from = await expect(t, 0, write(lab, 'x', '--from', '-', '--json'), {
    input: lines.join('\n')
  })
  const flushes = from.stdout
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line).operations)
  t.ok(flushes.length >= 3, `${flushes.length} flushes`)
  t.equal(
    flushes.reduce((sum, count) => sum + count, 0),
    25_002
  )

  const file = join(lab.folder, 'ops.ndjson')
  writeFileSync(file, '{"put":"a","value":"1"}\n{"put":"b","value":"2","x":1}\n')
  const bad = await expect(t, 2, write(lab, 'x', '--from', file))
  t.ok(bad.stderr.startsWith(`error: line 2 of ${file} is no operation. `), bad.stderr)
  for (const input of [
    'x',
    '7',
    'null',
    '[]',
    '{"put":"a"}',
    '{"del":7}',
    '{"put":"a","value":{"$date":"x"}}'
  ]) {
    const { stderr } = await expect(t, 2, write(lab, 'x', '--from', '-'), { input })
    t.ok(stderr.startsWith('error: line 1 of stdin'), stderr)
  }
  await expect(t, 0, write(lab, 'x', '--from', '-'), { input: '' })
  await expect(t, 1, write(lab, 'x', '--from', join(lab.folder, 'none')))
})

test('get and list without a connection answer from what is here, or say that nothing is', async (t) => {
  const lab = await makeLab(t)
  const read = ['-c', lab.config, '-d', lab.at('r')]
  const get = await expect(t, 4, [...read, 'get', 'cool', '--local'])
  t.equal(get.stdout, '')
  await expect(t, 4, [...read, 'list', '--local'])
  await expect(t, 7, ['-d', join(lab.folder, 'new'), 'get', 'cool', '--local'])
  await expect(t, 2, [...read, 'get', 'cool', '--local', '--after', 'nonsense'])
})

test('stop on a directory that nobody holds', async (t) => {
  const lab = await makeLab(t)
  const note = await expect(t, 0, ['stop', '-d', lab.at('x')])
  t.deepEqual([note.stdout, note.stderr], ['', 'nobody holds the data directory\n'])
  t.equal((await expect(t, 0, ['stop', '-q', '-d', lab.at('x')])).stderr, '')
  t.equal((await expect(t, 0, ['stop', '--json', '-d', lab.at('x')])).stdout, '{"stopped":[]}\n')
})

test('completion scripts name every command and option, and shells accept them', async (t) => {
  const { spawnSync } = await import('node:child_process')
  for (const shell of ['bash', 'zsh', 'fish']) {
    const { stdout, stderr } = await expect(t, 0, ['completion', shell])
    t.equal(stderr, '')
    for (const word of ['listen', 'completion', 'receipt', 'put.', 'capacity.', 'datadir']) {
      t.ok(stdout.includes(word), `${shell}: ${word}`)
    }
    const checked = spawnSync(shell, ['-n'], { input: stdout, encoding: 'utf8' })
    const missing = checked.error !== undefined
    t.ok(
      missing || checked.status === 0,
      missing ? `${shell} is not here` : `${shell} -n ${checked.stderr}`
    )
  }
  const complete = (words: string): string => {
    const script = `source /dev/stdin <<< "$S"; COMP_WORDS=(${words}); COMP_CWORD=$((\${#COMP_WORDS[@]}-1)); compopt() { :; }; _kvswarm; echo "\${COMPREPLY[@]}"`
    return spawnSync('bash', ['-c', script], {
      env: { ...process.env, S },
      encoding: 'utf8'
    }).stdout.trim()
  }
  const S = (await inProcess(['completion', 'bash'])).stdout
  t.equal(complete('kvswarm li'), 'listen list')
  t.equal(complete('kvswarm -c x get --f'), '--fresh')
  t.equal(complete('kvswarm write --pu'), '--put.')
})

test('a whole line in the shell: the configuration of the page', async (t) => {
  const lab = await makeLab(t)
  const { code, stdout, stderr } = await run(
    ['-c', lab.config, '-d', lab.at('x'), 'write', '--put.greeting=hi'],
    { env: { KVSWARM_BOOTSTRAP: '' } }
  )
  t.deepEqual([code, stdout, stderr], [0, '', ''])
  t.ok(existsSync(join(lab.at('x'), 'kvswarm.lock')), 'the sidecar keeps its name')
  t.notOk(existsSync(join(lab.at('x'), 'db', 'kvswarm.lock')))
})
