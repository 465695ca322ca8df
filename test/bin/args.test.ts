/** The command line: exact values, wherever the options stand, and everything misspelt refused. */
import test from 'tape'
import { nearest, normalise } from '../../bin/args.ts'
import { timeoutOf } from '../../bin/context.ts'
import { buildProgram } from '../../bin/program.ts'
import { isKVSwarmError } from '../../lib/errors.ts'

const { grammar } = buildProgram()
const id = '1'.repeat(64)

/** The message of the error that a call throws. */
function refusal(run: () => unknown): string {
  try {
    run()
    return 'not refused'
  } catch (error) {
    return isKVSwarmError(error, 'USAGE') ? `${error.message}. ${error.hint}` : String(error)
  }
}

test('the command word first, options as one word each, operands behind --', (t) => {
  const table: [string[], string[]][] = [
    [
      ['get', 'k'],
      ['get', '--', 'k']
    ],
    [
      ['-c', 'f', '-d', 'x', 'get', 'k'],
      ['get', '--config=f', '--datadir=x', '--', 'k']
    ],
    [
      ['get', '-c', 'f', 'k', '-d', 'x'],
      ['get', '--config=f', '--datadir=x', '--', 'k']
    ],
    [
      ['--json', 'get', 'k', '--fresh'],
      ['get', '--json', '--fresh', '--', 'k']
    ],
    [
      ['--config=f', 'get', 'k'],
      ['get', '--config=f', '--', 'k']
    ],
    [
      ['-cf', '-qv', 'get', '-'],
      ['get', '--config=f', '--quiet', '--verbose', '--', '-']
    ],
    [
      ['-qvc', 'f', 'get', 'k'],
      ['get', '--quiet', '--verbose', '--config=f', '--', 'k']
    ],
    [
      ['get', '--', '-k'],
      ['get', '--', '-k']
    ],
    [
      ['get', '--', '--put.a=1'],
      ['get', '--', '--put.a=1']
    ],
    [
      ['--', 'get', 'k'],
      ['get', '--', 'k']
    ],
    [
      ['put', 'k', '--', '-v'],
      ['put', '--', 'k', '-v']
    ],
    [
      ['put', '', ''],
      ['put', '--', '', '']
    ],
    [
      ['--no-color', 'id'],
      ['id', '--no-color']
    ],
    [
      ['list', '--prefix', ''],
      ['list', '--prefix=']
    ],
    [
      ['list', '--prefix='],
      ['list', '--prefix=']
    ],
    [
      ['list', '--start', '-5'],
      ['list', '--start=-5']
    ],
    [
      ['--start', 'x', 'list'],
      ['list', '--start=x']
    ],
    [
      ['list', '--prefix', 'a=b'],
      ['list', '--prefix=a=b']
    ],
    [
      ['--timeout', '5', 'get', '007'],
      ['get', '--timeout=5', '--', '007']
    ],
    [
      ['get', id],
      ['get', '--', id]
    ],
    [['--help'], ['--help']],
    [
      ['get', '-h'],
      ['get', '--help']
    ],
    [['-V'], ['--version']],
    [[], []]
  ]
  for (const [args, wanted] of table) {
    t.deepEqual(normalise(args, grammar), wanted, JSON.stringify(args))
  }
  t.end()
})

test('pairs keep their keys and values exactly', (t) => {
  const table: [string[], string, string?][] = [
    [['--put.greeting=hi'], 'greeting', 'hi'],
    [['--put.greeting', 'hi'], 'greeting', 'hi'],
    [['--put.k=007'], 'k', '007'],
    [['--put.k', '007'], 'k', '007'],
    [['--put.k='], 'k', ''],
    [['--put.k', ''], 'k', ''],
    [['--put.k=a=b'], 'k', 'a=b'],
    [['--put.k', 'a=b'], 'k', 'a=b'],
    [['--put.k=--ack'], 'k', '--ack'],
    [['--put.k=-'], 'k', '-'],
    [['--put.k', '-'], 'k', '-'],
    [['--put.k', '-5'], 'k', '-5'],
    [['--put.a.b=c'], 'a.b', 'c'],
    [['--put..a=c'], '.a', 'c'],
    [['--put.a.=c'], 'a.', 'c'],
    [['--put.__proto__=x'], '__proto__', 'x'],
    [['--put.constructor', 'x'], 'constructor', 'x'],
    [['--put.0=x'], '0', 'x'],
    [['--put.1e3=x'], '1e3', 'x'],
    [['--put.put.put=put'], 'put.put', 'put'],
    [['--put.k=true'], 'k', 'true'],
    [['--put.k=null'], 'k', 'null'],
    [['--put.ключ=значение\n2'], 'ключ', 'значение\n2'],
    [['--put. =\t'], ' ', '\t'],
    [['--capacity.' + id + '=5'], id, '5'],
    [['--capacity.' + id, '0.5'], id, '0.5'],
    [['--capacity.' + id, '1e3'], id, '1e3'],
    [['--del.k'], 'k'],
    [['--del.a.b'], 'a.b'],
    [['--del.a=b'], 'a=b'],
    [['--del.__proto__'], '__proto__'],
    [['--del.' + id], id]
  ]
  for (const [args, key, value] of table) {
    const name = (args[0] as string).slice(2).split('.', 1)[0]
    const wanted = value === undefined ? `--${name}=${key}` : `--${name}=${key}\0${value}`
    t.deepEqual(normalise(['write', ...args], grammar), ['write', wanted], JSON.stringify(args))
    t.deepEqual(normalise([...args, 'write'], grammar), ['write', wanted], 'before the command')
  }
  t.end()
})

test('what cannot be meant is refused', (t) => {
  const table: [string[], string][] = [
    [['--datdir', 'x', 'get', 'k'], "unknown option '--datdir'. did you mean --datadir?"],
    [['--recipt', 'put', 'k', 'v'], "unknown option '--recipt'. did you mean --receipt?"],
    [['-x', 'get', 'k'], "unknown option '-x'. see kvswarm --help"],
    [['write', '--putt.a=1'], "unknown option '--putt.a=1'. did you mean --put.KEY?"],
    [['--capcity.1=1', 'init'], "unknown option '--capcity.1=1'. did you mean --capacity.KEY?"],
    [['get', '--json=1', 'k'], 'the option --json takes no value. write --json alone'],
    [['get', 'k', '-c'], 'the option -c needs a value. write -c=VALUE'],
    [['get', 'k', '--config'], 'the option --config needs a value. write --config=VALUE'],
    [
      ['get', '-c', '-d', 'x', 'k'],
      'the option -c needs a value, but the option -d follows. write -c=VALUE'
    ],
    [['write', '--put'], 'the option --put needs a key. write --put.KEY=VALUE'],
    [['write', '--put=a'], 'the option --put needs a key. write --put.KEY=VALUE'],
    [['write', '--del', 'a'], 'the option --del needs a key. write --del.KEY'],
    [['write', '--put.=x'], 'the key of --put.=x is empty. write --put.KEY'],
    [['write', '--del.'], 'the key of --del. is empty. write --del.KEY'],
    [['write', '--put.k'], 'the option --put.k needs a value. write --put.k=VALUE'],
    [
      ['write', '--put.k', '--ack'],
      'the option --put.k needs a value, but the option --ack follows. write --put.k=VALUE'
    ],
    [
      ['write', '--put.k', '--put.l=1'],
      'the option --put.k needs a value, but the option --put.l=1 follows. write --put.k=VALUE'
    ]
  ]
  for (const [args, wanted] of table) {
    t.equal(
      refusal(() => normalise(args, grammar)),
      wanted,
      JSON.stringify(args)
    )
  }
  t.end()
})

test('times', (t) => {
  const table: [string | undefined, number][] = [
    [undefined, 10_000],
    ['10s', 10_000],
    ['500ms', 500],
    ['2', 2_000],
    ['0.5', 500],
    ['1.5s', 1_500],
    ['2m', 120_000],
    ['1h', 3_600_000],
    ['0', 0],
    ['none', Infinity]
  ]
  for (const [text, wanted] of table) t.equal(timeoutOf(text), wanted, String(text))
  for (const text of ['', '-1', '1 s', 's', '1e3', 'NaN', 'Infinity', '10sec', '1.', '0x10']) {
    t.ok(refusal(() => timeoutOf(text)).startsWith(`--timeout is '${text}'`), `'${text}'`)
  }
  t.end()
})

test('suggestions', (t) => {
  t.equal(nearest('gte', ['get', 'put']), 'get', 'swapped')
  t.equal(nearest('lst', ['list', 'listen']), 'list', 'the nearest')
  t.equal(nearest('frobnicate', ['get', 'put']), null, 'nothing near')
  t.end()
})
