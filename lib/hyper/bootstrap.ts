/**
 * Where a private swarm begins: addresses of bootstrap nodes, and such a node itself.
 *
 * The DHT speaks IPv4 only. A bootstrap node needs a concrete address: it tells others where it is.
 */
import { createSocket } from 'node:dgram'
import { isIPv4, isIPv6 } from 'node:net'
import HyperDHT from 'hyperdht'
import { KVSwarmError } from '../errors.ts'
import { bindError, destroyDht } from './dht.ts'

/** Tries to get a free port: between its choice and its use another process may take it. */
const portTries = 5

export interface BootstrapAddress {
  /** IPv4 address or host name. */
  readonly host: string
  readonly port: number
}

export interface BootstrapNode extends BootstrapAddress {
  /** `host:port`, as `bootstrap` and KVSWARM_BOOTSTRAP take it. */
  readonly address: string
  /** Idempotent. */
  close(): Promise<void>
}

/**
 * Reads 'host:port'.
 * @throws INVALID_ARGUMENT naming the value
 */
export function parseBootstrap(text: string): BootstrapAddress {
  const refuse = (why: string): never => {
    throw new KVSwarmError(
      'INVALID_ARGUMENT',
      `not a bootstrap address, ${JSON.stringify(text)}: ${why}`,
      {
        hint: 'give host:port, as 127.0.0.1:49737'
      }
    )
  }
  if (typeof text !== 'string') return refuse('Expected a string')
  const colon = text.lastIndexOf(':')
  if (colon === -1) return refuse('the port is missing')
  const host = text.slice(0, colon)
  const digits = text.slice(colon + 1)
  if (host.includes(':') || host.startsWith('[') || isIPv6(text)) {
    return refuse('the DHT does not support IPv6')
  }
  const port = /^[0-9]{1,5}$/.test(digits) ? Number(digits) : 0
  if (port < 1 || port > 65_535) return refuse('the port is no number from 1 to 65535')
  if (/^[0-9.]*$/.test(host) ? !isIPv4(host) : !isHostName(host)) {
    return refuse('the host is neither an IPv4 address nor a host name')
  }
  return { host, port }
}

/** True for an address that does not leave this machine. */
export function isLoopback(host: string): boolean {
  return host === 'localhost' || (isIPv4(host) && host.startsWith('127.'))
}

/**
 * Runs a DHT node that a private swarm can bootstrap from.
 * @param options.host IPv4 address at which others reach it. @default '127.0.0.1'
 * @param options.port UDP port; 0 takes a free one. @default 0
 * @throws INVALID_ARGUMENT; IO_ERROR when the port is in use or the address is not this machine's
 */
export async function startBootstrap(
  options: { readonly host?: string; readonly port?: number } = {}
): Promise<BootstrapNode> {
  const { host = '127.0.0.1', port = 0 } = options
  if (!isIPv4(host) || host === '0.0.0.0') {
    throw new KVSwarmError('INVALID_ARGUMENT', `not an address for a bootstrap node: ${host}`, {
      hint: 'give the IPv4 address at which others reach this machine, as 127.0.0.1'
    })
  }
  if (!Number.isInteger(port) || port < 0 || port > 65_535) {
    throw new KVSwarmError('INVALID_ARGUMENT', `not a port: ${String(port)}`, {
      hint: 'give a number from 1 to 65535, or 0 for a free one'
    })
  }
  for (let tries = 1; ; tries++) {
    try {
      const free = await probe(host, port)
      return await start(host, free)
    } catch (error) {
      if (port === 0 && tries < portTries) continue
      throw bindError(error, host, port)
    }
  }
}

async function start(host: string, port: number): Promise<BootstrapNode> {
  const dht = HyperDHT.bootstrapper(port, host, { host })
  try {
    await dht.bind()
    await dht.fullyBootstrapped()
  } catch (error) {
    await destroyDht(dht)
    throw error
  }
  let closing: Promise<void> | null = null
  return {
    host,
    port,
    address: `${host}:${port}`,
    close: () => (closing ??= destroyDht(dht))
  }
}

/** Binds and frees the port: a DHT node that cannot bind does not say so in good order. */
function probe(host: string, port: number): Promise<number> {
  return new Promise((resolve, reject) => {
    const socket = createSocket('udp4')
    socket.once('error', (error) => {
      socket.close()
      reject(error)
    })
    socket.bind({ address: host, port, exclusive: true }, () => {
      const free = socket.address().port
      socket.close(() => resolve(free))
    })
  })
}

function isHostName(host: string): boolean {
  return (
    host.length <= 253 &&
    /^(?!-)[a-z0-9-]{1,63}(?<!-)(\.(?!-)[a-z0-9-]{1,63}(?<!-))*\.?$/i.test(host)
  )
}
