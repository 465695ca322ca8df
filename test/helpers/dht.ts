/** A private DHT for one test: no packet leaves the machine. */
import type { Test } from 'tape'
import { startBootstrap } from '../../lib/hyper/bootstrap.ts'
import { cleanup } from './cleanup.ts'

/** Starts a bootstrap node on a free port of 127.0.0.1 and gives its 'host:port'. */
export async function privateDht(t: Test): Promise<string> {
  const bootstrap = await startBootstrap({ host: '127.0.0.1', port: 0 })
  cleanup(t, () => bootstrap.close())
  return bootstrap.address
}
