/**
 * A process that shares a data directory, told what to do by its parent: one message a call, one
 * message an answer. Arguments: directory, mode, lock timeout in ms, configuration text or ''.
 */
import { FakeEngine } from './fake-engine.ts'
import { coordinate } from '../../lib/coordination/index.ts'
import type { KVSwarmError } from '../../lib/errors.ts'
import type { Engine, Role } from '../../lib/ports.ts'

export interface Message {
  readonly id: number
  readonly call: 'open' | 'put' | 'get' | 'list' | 'start' | 'end' | 'config' | 'set' | 'close'
  readonly key?: string
  readonly value?: string
  readonly request?: string
  readonly timeout?: number
}

const [directory, mode, lockTimeout, config] = process.argv.slice(2) as [
  string,
  'auto' | 'required' | 'single',
  string,
  string
]
let engine: Engine | null = null
const ends = new Map<string, () => Promise<void>>()

async function open(): Promise<string> {
  engine = await coordinate({
    directory,
    mode,
    lockTimeoutMs: Number(lockTimeout),
    configText: config === '' ? null : config,
    openEngine: async (text) => new FakeEngine(directory, text),
    onWarning: (message) => process.send?.({ warning: message }),
    onRoleChange: (seat) => process.send?.({ seat }),
    onStop: () => {
      process.send?.({ stop: true })
      void engine?.close().then(() => process.disconnect())
    },
    version: 'test'
  })
  return engine.nodeId
}

async function run({ call, key = '', value = '', request, timeout }: Message): Promise<unknown> {
  if (call === 'open') return await open()
  if (engine === null) throw new Error('not open')
  const bytes = new Uint8Array(Buffer.from(key))
  const wait = timeout === undefined ? {} : { timeout }
  switch (call) {
    case 'put':
      return await engine.write(
        {
          request: new Uint8Array(Buffer.from(request as string, 'hex')),
          operations: [{ type: 'put', key: bytes, value: new Uint8Array(Buffer.from(value)) }]
        },
        wait
      )
    case 'get': {
      const [entry] = await engine.getMany([bytes], wait)
      return entry ? Buffer.from(entry.value).toString() : null
    }
    case 'list': {
      const keys: string[] = []
      for await (const entry of engine.list({}, wait)) keys.push(Buffer.from(entry.key).toString())
      return keys
    }
    case 'start':
      ends.set(key, await engine.start(key as Role))
      return null
    case 'end':
      await ends.get(key)?.()
      return null
    case 'config':
      return await engine.config()
    case 'set':
      await engine.setConfig(value)
      return null
    default:
      await engine.close()
      return null
  }
}

process.on('message', (message: Message) => {
  run(message).then(
    (value) => process.send?.({ id: message.id, value: value ?? null }),
    (error: KVSwarmError) =>
      process.send?.({
        id: message.id,
        error: { code: error.code, message: error.message, hint: error.hint, data: error.data }
      })
  )
})
process.send?.({ up: true })
