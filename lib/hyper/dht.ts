/**
 * What both users of the DHT share: ending a node within a bound, and saying why it could not bind.
 * No public type mentions this file, since hyperdht has no types.
 */
import type HyperDHT from 'hyperdht'
import { KVSwarmError, messageOf } from '../errors.ts'

/** What closing may take; then the sockets are closed without saying good-bye. */
const closeTimeoutMs = 2_000

/** Ends a DHT node within a bound, also one whose sockets could not be bound. */
export async function destroyDht(dht: HyperDHT): Promise<void> {
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<void>((resolve) => {
    timer = setTimeout(resolve, closeTimeoutMs)
  })
  const gone = dht.destroy().catch(() => {
    // A failed bind rejects for ever, and leaves these two open (hyperdht 6.34).
    clearInterval(dht._tickInterval)
    dht.io.networkInterfaces.destroy()
  })
  await Promise.race([gone, late])
  clearTimeout(timer)
}

/** What a failed bind means to the user. */
export function bindError(error: unknown, host: string, port: number): KVSwarmError {
  const code = (error as { code?: unknown } | null)?.code
  const where = port === 0 ? host : `${host}:${port}`
  const details = { cause: error, data: { host, port } }
  if (code === 'EADDRINUSE') {
    return new KVSwarmError('IO_ERROR', `the UDP port ${where} is in use`, {
      ...details,
      hint: 'choose another port, or 0 for a free one'
    })
  }
  if (code === 'EADDRNOTAVAIL') {
    return new KVSwarmError('IO_ERROR', `${host} is no address of this machine`, {
      ...details,
      hint: 'give an IPv4 address of this machine'
    })
  }
  return new KVSwarmError('IO_ERROR', `cannot bind UDP ${where}: ${messageOf(error)}`, {
    ...details,
    hint: 'check the address, the port and the permissions'
  })
}
