// A rotation, and the deletion behind it, cut off before each of its steps: nothing is lost, doubled or forked.
import { randomBytes } from 'node:crypto'
import { join } from 'node:path'
import test, { type Test } from 'tape'
import { Store } from '../../lib/hyper/store.ts'
import type { Log, OwnLogs } from '../../lib/ports.ts'
import type { FlushPart, Operation, Position } from '../../lib/types.ts'
import { rotationLimits } from '../../lib/protocol/rotation.ts'
import { decodeBlock } from '../../lib/wire/blocks.ts'
import { decodeKey, encodeKey } from '../../lib/wire/keys.ts'
import { encodeValue } from '../../lib/wire/values.ts'
import { Outbox } from '../../lib/write/outbox.ts'
import { cleanup } from '../helpers/cleanup.ts'
import { tmpdir } from '../helpers/tmp.ts'

const owner = 'b'.repeat(64)
const limits = { ...rotationLimits, bytes: 4096 }

/** Passes everything on to the store, until the power goes: at the nth step that would write. */
class Cut implements OwnLogs {
  readonly steps: string[] = []
  readonly #store: Store
  readonly #at: number

  constructor(store: Store, at: number) {
    this.#store = store
    this.#at = at
  }

  get isOver(): boolean {
    return this.steps.length >= this.#at
  }

  async step<T>(name: string, run: () => Promise<T>): Promise<T> {
    this.steps.push(name)
    if (this.isOver) throw new Error(`cut before ${name}`)
    return await run()
  }

  ownNames: OwnLogs['ownNames'] = (kind) => this.#store.ownNames(kind)
  newestGeneration: OwnLogs['newestGeneration'] = (name) => this.#store.newestGeneration(name)
  nextGeneration: OwnLogs['nextGeneration'] = (name) => this.#store.nextGeneration(name)
  ownGenerations: OwnLogs['ownGenerations'] = async (name) =>
    (await this.#store.ownGenerations(name)).map((one) => ({ ...one, log: this.#wrap(one.log) }))
  begin: OwnLogs['begin'] = async (name, generation) =>
    this.#wrap(await this.step('begin', () => this.#store.begin(name, generation)))
  delete: OwnLogs['delete'] = (name, generation, log) =>
    this.step('delete', async () => {
      await log?.close()
      await this.#store.delete(name, generation)
    })

  #wrap(log: Log): Log {
    return new Proxy(log, {
      get: (target, property) => {
        const value: unknown = Reflect.get(target, property, target)
        if (typeof value !== 'function') return value
        const call = (...args: unknown[]): unknown => Reflect.apply(value, target, args)
        if (property === 'append') {
          const kinds = (blocks: Uint8Array[]): string =>
            blocks.map((block) => decodeBlock(block).type).join('+')
          return (blocks: Uint8Array[]) =>
            this.step(kinds(blocks), () => call(blocks) as Promise<unknown>)
        }
        if (property === 'setNote')
          return (note: unknown) => this.step('note', () => call(note) as Promise<unknown>)
        return call
      }
    })
  }
}

interface Life {
  readonly store: Store
  readonly cut: Cut
  readonly outbox: Outbox
  readonly failures: unknown[]
  end(): Promise<void>
}

async function live(t: Test, directory: string, cutAt: number): Promise<Life> {
  const store = await Store.open({ directory, durability: 'sync' })
  cleanup(t, () => store.close().catch(() => {}))
  const cut = new Cut(store, cutAt)
  const failures: unknown[] = []
  const outbox = await Outbox.open(store.nodeId, owner, cut, {
    seen: () => null,
    mark: () => ({ configHash: '0'.repeat(64), lengths: [] }),
    begun: () => {},
    appended: () => {},
    rotationFailed: (_, error) => failures.push(error),
    limits
  })
  return {
    store,
    cut,
    outbox,
    failures,
    end: async () => {
      await outbox.close()
      await store.close()
    }
  }
}

const put = (n: number): Operation => ({
  type: 'put',
  key: encodeKey(`key ${n}`),
  value: encodeValue(new Uint8Array(1000))
})

interface Written {
  readonly n: number
  readonly request: Uint8Array
  part: FlushPart | null
}

async function write({ outbox, cut }: Life, from: number, count: number): Promise<Written[]> {
  const written: Written[] = []
  for (let n = from; n < from + count; n++) {
    const request = randomBytes(16)
    const one: Written = { n, request, part: null }
    written.push(one)
    try {
      one.part = await outbox.append({ request, operations: [put(n)], epoch: 1 })
    } catch (error) {
      if (!cut.isOver) throw error
      return written
    }
  }
  return written
}

/** What an owner would apply, in its order: the generations one after the other, each up to where it ends. */
async function applied(outbox: Outbox): Promise<{ numbers: number[]; faults: string[] }> {
  const numbers: number[] = []
  const faults: string[] = []
  let before: Position | null = null
  for (const log of outbox.logs) {
    for (let block = 0; block < log.length; block++) {
      const data = await log.get(block, { wait: false })
      if (data === null) throw new Error('a block is missing')
      const content = decodeBlock(data)
      if ((block === 0) !== (content.type === 'head')) faults.push(`${content.type} at ${block}`)
      if (content.type === 'head' && before !== null) {
        const { continues } = content
        if (continues?.generation !== before.generation || continues.length !== before.length) {
          faults.push(`generation ${log.generation} continues ${JSON.stringify(continues)}`)
        }
      }
      if (content.type === 'end') {
        if (block !== log.length - 1)
          faults.push(`generation ${log.generation} goes on after its end`)
        const next = outbox.logs[outbox.logs.indexOf(log) + 1]?.generation
        if (next !== undefined && next !== content.next) faults.push('its end names another one')
      }
      if (content.type !== 'operations') continue
      for (const { operations } of content.segments) {
        for (const operation of operations) {
          if (operation.type !== 'put') continue
          numbers.push(Number(String(decodeKey(operation.key)).slice(4)))
        }
      }
    }
    before = { generation: log.generation, length: log.length }
  }
  return { numbers, faults }
}

test('a rotation that is cut off before any of its steps', async (t) => {
  const folder = tmpdir(t)
  const seen = new Set<string>()
  for (let cutAt = 1; ; cutAt++) {
    const directory = join(folder, `rotate ${cutAt}`)
    const first = await live(t, directory, cutAt)
    const written = await write(first, 0, 12)
    const { steps } = first.cut
    await first.end()
    if (!first.cut.isOver) {
      t.ok(steps.filter((step) => step === 'end').length >= 2, steps.join(' '))
      break
    }
    seen.add(steps.at(-1) ?? '')

    const second = await live(t, directory, Infinity)
    const more = await write(second, 100, 8)
    const { numbers, faults } = await applied(second.outbox)
    const durable = written.filter(({ part }) => part !== null).map(({ n }) => n)
    t.deepEqual(faults, [], `cut before step ${cutAt}, ${steps.at(-1)}`)
    t.deepEqual(numbers, [...durable, ...more.map(({ n }) => n)], 'all of it, once, in order')
    for (const { request, part } of [...written, ...more]) {
      const found = await second.outbox.find(request)
      if (JSON.stringify(found) !== JSON.stringify(part)) t.fail('a request is found elsewhere')
    }
    await second.end()
  }
  t.deepEqual(
    [...seen].toSorted(),
    ['begin', 'end', 'head+mark', 'head+mark+operations', 'operations'],
    'every kind of step was cut off'
  )
})

test('a deletion that is cut off before any of its steps', async (t) => {
  const folder = tmpdir(t)
  const template = join(folder, 'template')
  const whole = await live(t, template, Infinity)
  await whole.end()
  const seen = new Set<string>()
  for (let cutAt = 1; ; cutAt++) {
    const directory = join(folder, `retire ${cutAt}`)
    const start = await live(t, directory, Infinity)
    const written = await write(start, 0, 16)
    await start.end()
    // The last append can have been followed by a rotation.
    const newest = start.outbox.generation ?? 0

    const first = await live(t, directory, cutAt)
    const shown = { generation: newest, length: 1 }
    await first.outbox
      .retire(shown, () => true)
      .catch((error: unknown) => {
        if (!first.cut.isOver) throw error
      })
    const { steps } = first.cut
    await first.end()
    if (first.cut.isOver) seen.add(steps.at(-1) ?? '')

    const second = await live(t, directory, Infinity)
    const { faults } = await applied(second.outbox)
    t.deepEqual(faults, [], `cut before step ${cutAt}, ${steps.at(-1)}`)
    for (const { request, part } of written) {
      const found = await second.outbox.find(request)
      if (JSON.stringify(found) !== JSON.stringify(part)) t.fail('a request is not found again')
      if (part && !(await second.outbox.holds(part, request))) t.fail('a flush is unknown')
      if (part && !second.outbox.covers(shown, part) && part.generation < newest)
        t.fail('no receipt')
    }
    await second.outbox.retire(shown, () => true)
    t.equal(second.outbox.oldest, newest, 'the next session deletes the rest')
    t.deepEqual(
      (await second.store.stored('outbox')).map(({ generation }) => generation),
      [newest],
      'nothing is left behind'
    )
    await second.end()
    if (!first.cut.isOver) break
  }
  t.deepEqual([...seen].toSorted(), ['delete', 'note'], 'every kind of step was cut off')
})

test('an owner that tells of an older index while a deletion is prepared keeps what is not deleted yet', async (t) => {
  const folder = tmpdir(t)
  for (const stops of ['note', 'delete'] as const) {
    const life = await live(t, join(folder, stops), Infinity)
    const written = await write(life, 0, 16)
    const generations = life.outbox.logs.map((log) => log.generation)
    t.ok(generations.length >= 4, `${generations.length} generations`)
    const newest = generations.at(-1) ?? 0
    const shown = { generation: newest, length: 1 }
    // It was restored, and says so, when this step was begun.
    const stands = (): boolean => !life.cut.steps.includes(stops)
    const gone = stops === 'note' ? 0 : 1
    t.equal(await life.outbox.retire(shown, stands), gone > 0)
    const left = generations.slice(gone)
    t.deepEqual(
      life.outbox.logs.map((log) => log.generation),
      left,
      `at the ${stops}: the rest is served on`
    )
    t.equal(life.outbox.oldest, left[0], 'and the owner is told of no more')
    const { numbers, faults } = await applied(life.outbox)
    t.deepEqual(faults, [])
    const kept = written.filter(({ part }) => part && part.generation >= (left[0] ?? 0))
    t.deepEqual(
      numbers,
      kept.map(({ n }) => n),
      'with everything in it'
    )
    for (const { request, part } of written) {
      if (JSON.stringify(await life.outbox.find(request)) === JSON.stringify(part)) continue
      t.fail('a request is found elsewhere')
    }
    t.equal(await life.outbox.retire(shown, () => false), false, 'nothing goes without its word')
    await life.outbox.retire(shown, () => true)
    t.equal(life.outbox.oldest, newest, 'applied again, it goes')
    await life.end()
  }
})
