/**
 * A node in a process of its own, for tests that kill it.
 *
 * Argument: JSON `{ bootstrap, names, join, mode }`. Each name is a node; all join the names in `join`.
 * Prints a line for each event: `up`, `open <node> <peer>`, `close <node> <peer>` (first 8 digits of ids).
 * With mode 'channel' each connection gets our channel. With mode 'exit' it closes everything after `up` (and after a connection, when it joins somebody) and then
 * has to end by itself.
 */
import { hyperswarmNetwork } from '../../lib/hyper/swarm.ts'
import { openPeer } from '../../lib/hyper/peer.ts'
import type { Message } from '../../lib/wire/messages.ts'
import { answer, idOf, keyPairOf } from './node.ts'
import { codec, quick, quiet } from './pair.ts'

interface Order {
  readonly bootstrap: string
  readonly names: readonly string[]
  readonly join?: readonly string[]
  readonly mode?: 'exit' | 'channel'
}

const { bootstrap, names, join = [], mode } = JSON.parse(process.argv[2] ?? '') as Order
const say = (line: string): boolean => process.stdout.write(`${line}\n`)

let connected: () => void = () => {}
const connection = new Promise<void>((resolve) => {
  connected = resolve
})
const networks = await Promise.all(
  names.map(async (name) => {
    const network = hyperswarmNetwork({ bootstrap: [bootstrap] })
    const own = idOf(name).slice(0, 8)
    await network.open({
      keyPair: keyPairOf(name),
      accepts: () => true,
      onConnection: (one) => {
        const peer = one.remoteId.slice(0, 8)
        say(`open ${own} ${peer}`)
        one.onClose(() => say(`close ${own} ${peer}`))
        if (mode === 'channel') openPeer<Message>(one, codec, quiet, quick)
        else answer(one)
        connected()
      }
    })
    await network.listen()
    for (const peer of join) network.join(idOf(peer))
    return network
  })
)
say('up')
if (mode === 'exit') {
  if (join.length > 0 && !bootstrap.endsWith(':1')) await connection
  await Promise.all(networks.map((network) => network.close()))
  say('closed')
}
