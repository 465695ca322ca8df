/**
 * The original API with callbacks, as its page writes it.
 * Run it: npx tsx examples/callbacks.ts
 */
// With a callback a call needs no promise.
/* oxlint-disable typescript/no-floating-promises, promise/no-promise-in-callback */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Config } from '../config/index.ts'
import { kvswarm, startBootstrap } from '../lib/index.ts'

const folder = mkdtempSync(join(tmpdir(), 'kvswarm-example-'))

function fail(error: Error): never {
  rmSync(folder, { recursive: true, force: true })
  throw error
}

startBootstrap().then((dht) => {
  const bootstrap = dht.address
  const a = kvswarm({ storage: join(folder, 'a'), bootstrap })
  const x = kvswarm({ storage: join(folder, 'x'), bootstrap })

  a.ready((error) => {
    if (error) fail(error)
    x.ready((error) => {
      if (error) fail(error)
      const config = new Config({ capacities: { [a.nodeId]: 5 }, writers: [x.nodeId] })
      a.setConfig(config, (error) => {
        if (error) fail(error)
        x.setConfig(config, (error) => {
          if (error) fail(error)
          a.listen((error) => {
            if (error) fail(error)
            void x.connect()
            write()
          })
        })
      })
    })
  })

  function write(): void {
    x.put('greeting', 'hi')
    x.put('cool', 'beans')
    x.del('never mind')
    x.flush({ receipt: true }, (error) => {
      if (error) fail(error)
      x.get('cool', (error, value) => {
        if (error) fail(error)
        console.log('cool:', value)
        x.getWriters((error, writers) => {
          if (error) fail(error)
          console.log('writers:', writers?.length)
          end()
        })
      })
    })
  }

  function end(): void {
    x.close((error) => {
      if (error) fail(error)
      a.close((error) => {
        if (error) fail(error)
        dht.close().then(() => rmSync(folder, { recursive: true }), fail)
      })
    })
  }
}, fail)
