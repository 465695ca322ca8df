/**
 * The original API with promises: a swarm of one storage node and one writer in this process.
 * Run it: npx tsx examples/promises.ts
 */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Config } from '../config/index.ts'
import { kvswarm, startBootstrap } from '../lib/index.ts'

async function main(): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), 'kvswarm-example-'))
  const dht = await startBootstrap()
  const bootstrap = dht.address

  // A node's id is made with its data directory.
  const idOf = async (name: string): Promise<string> => {
    const kv = kvswarm({ storage: join(folder, name) })
    await kv.ready()
    const id = kv.nodeId
    await kv.close()
    return id
  }
  const config = new Config({
    capacities: { [await idOf('a')]: 5 },
    writers: [await idOf('x')]
  })

  const a = kvswarm({ storage: join(folder, 'a'), config, bootstrap })
  await a.listen()
  const x = kvswarm({ storage: join(folder, 'x'), config, bootstrap })
  await x.connect()

  x.put('greeting', 'hi')
  x.put(['users', 'alice'], { name: 'Alice', since: new Date(0) })
  const { operations } = await x.flush({ receipt: true })
  console.log('applied:', operations)
  console.log('greeting:', await x.get('greeting'))
  console.log('alice:', JSON.stringify(await x.get(['users', 'alice'])))
  console.log('nobody:', await x.get(['users', 'bob']))
  for await (const { key } of x.list({ prefix: ['users'] })) console.log('listed:', key)
  await x.delete('greeting', { receipt: true })
  console.log('deleted:', await x.get('greeting'))

  await x.close()
  await a.close()
  await dht.close()
  await rm(folder, { recursive: true })
}

main().catch((error: unknown) => {
  console.error(error)
  process.exitCode = 1
})
