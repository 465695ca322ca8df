/** `kvswarm demo`: the whole example on a private swarm, with real processes, in a temporary folder. */
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { CommandModule, Context } from '../context.ts'
import { DemoProcesses } from '../demo-processes.ts'
import { exitCodes } from '../exit-codes.ts'
import { exitCodeOfSignal, untilSignal } from '../signals.ts'
import { KVSwarmError } from '../../lib/errors.ts'
import { pause } from '../../lib/wait.ts'

/** A write is delivered within seconds; the example gives it so long. */
const deliveredWithinMs = 15_000
const betweenTriesMs = 250

export const demo: CommandModule = {
  define: (command) =>
    command
      .summary('run the whole example by itself')
      .description(
        'Runs a private swarm of three storage nodes and two writers, each as its own process, in a temporary folder on this machine; writes, reads, shows every line that it runs and what that prints. Leaves nothing behind.'
      )
      .optionsGroup('Options:')
      .option('--stay', 'keep the swarm up until Ctrl-C, to try it')
      .addHelpText('after', '\nExamples:\n  kvswarm demo\n  kvswarm demo --stay'),
  run: async (context, _operands, options) => {
    const { io } = context
    const folder = await mkdtemp(join(tmpdir(), 'kvswarm-demo-'))
    const processes = new DemoProcesses(context)
    try {
      await run(context, processes, folder)
      if (options['stay'] === true) return await stay(context, folder, processes)
      await context.print.line('# Done: both values were read.')
      return exitCodes.done
    } catch (error) {
      if (io.signal.aborted) return exitCodeOfSignal(io.signal)
      throw error
    } finally {
      await processes.close()
      await rm(folder, { recursive: true, force: true, maxRetries: 3 })
    }
  }
}

async function run({ print }: Context, processes: DemoProcesses, folder: string): Promise<void> {
  const config = join(folder, 'config.json')
  const at = (name: string): string => join(folder, name)

  await print.line('# A private swarm on this machine, in a temporary folder')
  const address = await processes.start(['bootstrap'])
  processes.setBootstrap(address)
  await print.line(`$ export KVSWARM_BOOTSTRAP=${address}\n`)

  await print.line('# Three storage nodes A, B, C and two writers X, Y; each has an id')
  const ids: Record<string, string> = {}
  for (const name of ['A', 'B', 'C', 'X', 'Y']) {
    const line = ['id', '-d', at(name.toLowerCase())]
    ids[name] = (await processes.run(line, { assign: name })).trim()
  }
  await print.line('\n# Who stores how much, and who may write')
  const init = [
    'init',
    `--capacity.${ids['A']}=5`,
    `--capacity.${ids['B']}=10`,
    `--capacity.${ids['C']}=7`,
    `--writer=${ids['X']}`,
    `--writer=${ids['Y']}`
  ]
  const shown = 'init --capacity.$A=5 --capacity.$B=10 --capacity.$C=7 --writer=$X --writer=$Y'
  await writeFile(config, await processes.run(init, { shown: `${shown} > ${config}`, quiet: true }))

  await print.line('\n# The storage nodes: each prints its id when it is ready')
  await Promise.all(
    ['a', 'b', 'c'].map((name) => processes.start(['listen', '-d', at(name), '-c', config]))
  )

  await print.line('\n# Written offline: nothing is connected yet')
  await processes.run(['-c', config, '-d', at('x'), 'write', '--put.greeting=hi'])
  await processes.run(['-c', config, '-d', at('y'), 'write', '--put.cool=beans'])

  await print.line('\n# Connected: what was written is delivered')
  await processes.startSilent(['-c', config, '-d', at('x'), 'connect'])
  await processes.startSilent(['-c', config, '-d', at('y'), 'connect'])

  await print.line('\n# Any node can read')
  await read(processes, ['-c', config, '-d', at('x'), 'get', 'cool'], 'beans')
  await read(processes, ['-c', config, '-d', at('y'), 'get', 'greeting'], 'hi')
  await print.line('')
}

/** A get that runs before the delivery rightly says that there is no such key: then once more. */
async function read(processes: DemoProcesses, line: string[], value: string): Promise<void> {
  const end = performance.now() + deliveredWithinMs
  for (;;) {
    const { code, stdout } = await processes.attempt(line)
    if (code === exitCodes.done && stdout === `${value}\n`) return
    const again = code === exitCodes.notFound || code === exitCodes.noAnswer
    if (!again || performance.now() > end) {
      throw new KVSwarmError(
        'TIMEOUT',
        `kvswarm ${line.join(' ')} ended with ${code} and printed ${JSON.stringify(stdout)}`,
        { hint: `expected ${value}` }
      )
    }
    await processes.remark(`ended with ${code}: not delivered yet, once more`)
    await pause(betweenTriesMs, processes.signal)
  }
}

async function stay(
  { io, print }: Context,
  folder: string,
  processes: DemoProcesses
): Promise<number> {
  await print.line(`# The swarm is up until you press Ctrl-C. In another terminal:

  export KVSWARM_BOOTSTRAP=${processes.bootstrap} KVSWARM_CONFIG=${join(folder, 'config.json')}
  kvswarm -d ${join(folder, 'x')} put hello world --receipt
  kvswarm -d ${join(folder, 'y')} get hello
  kvswarm -d ${join(folder, 'y')} list --values
  kvswarm -d ${join(folder, 'x')} status
  kvswarm where hello`)
  return await untilSignal(io.signal)
}
