/** Help, version, and wrong use of every command: stdout, stderr and exit code exactly. */
import test from 'tape'
import { inProcess } from './helpers.ts'
import { buildProgram } from '../../bin/program.ts'

const names = buildProgram().program.commands.map((command) => command.name())

test('help is complete and goes to stdout', async (t) => {
  const top = await inProcess(['--help'])
  t.equal(top.code, 0)
  t.equal(top.stderr, '')
  for (const name of names) t.ok(top.stdout.includes(`\n  ${name} [options]`), `lists ${name}`)
  for (const code of [0, 1, 2, 3, 4, 5, 6, 7, 8, 130, 143]) {
    t.ok(new RegExp(`^  ${code} +\\S`, 'm').test(top.stdout), `explains exit code ${code}`)
  }
  for (const name of names) {
    const { code, stdout, stderr } = await inProcess([name, '--help'])
    t.deepEqual([code, stderr], [0, ''], name)
    t.ok(stdout.startsWith(`Usage: kvswarm ${name} `), `${name}: usage`)
    t.ok(/\nExamples?:\n {2}\S/.test(stdout), `${name}: an example`)
    t.ok(stdout.includes('--datadir <folder>'), `${name}: the global options`)
    t.ok(
      stdout.split('\n').every((line) => line.length <= 84),
      `${name}: fits a terminal`
    )
    t.equal((await inProcess(['help', name])).stdout, stdout, `help ${name}`)
    t.equal((await inProcess(['-d', 'x', name, '-h'])).stdout, stdout, `-h behind an option`)
  }
})

test('the version', async (t) => {
  const { code, stdout, stderr } = await inProcess(['--version'])
  t.deepEqual([code, stderr], [0, ''])
  t.ok(/^\d+\.\d+\.\d+\n$/.test(stdout), stdout)
  t.equal((await inProcess(['-V'])).stdout, stdout)
})

const id = 'ab'.repeat(32)

test('wrong use: one line, exit code 2, nothing on stdout', async (t) => {
  const table: [string[], string][] = [
    [[], 'no command is given. see kvswarm --help; kvswarm demo shows it all'],
    [['--json'], 'no command is given. see kvswarm --help; kvswarm demo shows it all'],
    [['gte', 'k'], "unknown command 'gte'. did you mean get?"],
    [['frobnicate'], "unknown command 'frobnicate'. see kvswarm --help"],
    [['get'], "missing required argument 'key'. see kvswarm get --help"],
    [
      ['get', 'a', 'b'],
      "too many arguments for 'get'. Expected 1 argument but got 2. see kvswarm get --help"
    ],
    [['write', '--recipt'], "unknown option '--recipt'. did you mean --receipt?"],
    [['get', '--prefix=x', 'k'], "unknown option '--prefix=x'. see kvswarm get --help"],
    [['get', '--put.a=1', 'k'], "unknown option '--put.a=1'. see kvswarm get --help"],
    [['get', '-x', 'k'], "unknown option '-x'. see kvswarm get --help"],
    [['get', 'k'], 'no data directory is given. use -d FOLDER, or set KVSWARM_DATADIR'],
    [['where', 'k'], 'no configuration is given. use -c FILE, or set KVSWARM_CONFIG'],
    [['id', '-d', ''], 'no data directory is given. use -d FOLDER, or set KVSWARM_DATADIR'],
    [
      ['id', '--timeout', 'soon', '-d', 'x'],
      "--timeout is 'soon'. give a time such as 10s, 500ms, 2 (seconds), 0 (at once) or none"
    ],
    [
      ['id', '-d', 'x', '--bootstrap', 'here'],
      "--bootstrap names 'here'. give host:port, several separated by commas"
    ],
    [['id', '-d', 'x', '--durability', 'none'], "--durability is 'none'. use sync or os"],
    [['list', '--limit', 'x', '-d', 'x'], "--limit is 'x'. give a whole number"],
    [
      ['list', '--prefix', 'x', '--start', 'y', '-d', 'x'],
      '--prefix does not go with --start and --end. use one or the other'
    ],
    [
      ['write', '-d', 'x'],
      'nothing is to be written. add --put.KEY=VALUE, --del.KEY or --from FILE'
    ],
    [['bootstrap', '--port', '70000'], "--port is '70000'. give a number from 0 to 65535"],
    [['completion', 'csh'], "there is no completion for 'csh'. use bash, zsh or fish"],
    [['completion', '__proto__'], "there is no completion for '__proto__'. use bash, zsh or fish"],
    [['init'], 'no storage node is given. add at least one --capacity.ID=NUMBER'],
    ...['0', '-1', 'x', '', 'NaN', 'Infinity', '1e999', '0x10', ' 5'].map(
      (capacity): [string[], string] => [
        ['init', `--capacity.${id}=${capacity}`],
        `the capacity of ${id} is '${capacity}'. give a positive number with at most six decimals, such as 5 or 0.5`
      ]
    ),
    [
      ['init', `--capacity.${id}=1`, `--capacity.${id.toUpperCase()}=2`],
      `the capacity of ${id} is given twice. give each node one capacity`
    ]
  ]
  for (const [args, wanted] of table) {
    const result = await inProcess(args)
    const line = args.includes('--json')
      ? `{"code":"USAGE","message":"no command is given","hint":"see kvswarm --help; kvswarm demo shows it all"}\n`
      : `error: ${wanted}\n`
    t.deepEqual(result, { code: 2, stdout: '', stderr: line }, JSON.stringify(args))
  }
})

test('ids and capacities that are none are named', async (t) => {
  for (const [args, word] of [
    [['init', '--capacity.abc=5'], 'abc'],
    [['init', `--capacity.${id}=5`, '--writer=xyz'], 'xyz'],
    [['init', `--capacity.${id.slice(1)}=5`], id.slice(1, 30)],
    [['init', `--capacity.${id}=0.0000001`], id]
  ] as const) {
    const { code, stdout, stderr } = await inProcess(args)
    t.deepEqual([code, stdout], [2, ''], stderr)
    t.ok(stderr.startsWith('error: ') && stderr.includes(word), stderr)
    t.equal(stderr.split('\n').length, 2, 'one line')
  }
})

test('errors as an object with --json, with their stack with -v', async (t) => {
  const json = await inProcess(['get', 'k', '--json'])
  t.deepEqual(JSON.parse(json.stderr), {
    code: 'USAGE',
    message: 'no data directory is given',
    hint: 'use -d FOLDER, or set KVSWARM_DATADIR'
  })
  const verbose = await inProcess(['get', 'k', '-v'])
  t.ok(/^error: .*\n.*KVSwarmError: no data directory.*\n {4}at /.test(verbose.stderr))
  t.notOk((await inProcess(['get', 'k'])).stderr.includes(' at '), 'no stack without -v')
})

test('colours on a terminal alone, and not when refused', async (t) => {
  const red = '\u001b[31merror:\u001b[39m'
  t.ok((await inProcess(['get'], { terminal: true })).stderr.startsWith(red))
  for (const [args, env] of [
    [['get', '--no-color'], {}],
    [['get'], { NO_COLOR: '1' }]
  ] as const) {
    const { stderr } = await inProcess(args, { terminal: true, env })
    t.ok(stderr.startsWith('error: '), stderr)
  }
  t.ok((await inProcess(['get'])).stderr.startsWith('error: '), 'not a terminal')
})

test('control characters in what a user gave are escaped', async (t) => {
  const { stderr } = await inProcess(['ge\u001b[2Jt\n', 'k'])
  t.equal(stderr, String.raw`error: unknown command 'ge\x1b[2Jt\n'. see kvswarm --help` + '\n')
})
