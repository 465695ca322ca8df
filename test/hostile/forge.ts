/** Indexes that their storage node has signed, block by block, whatever they say; and views of them. */
import type { Test } from 'tape'
import { HyperIndexCores } from '../../lib/hyper/index-cores.ts'
import { Store } from '../../lib/hyper/store.ts'
import { FollowedIndex } from '../../lib/lsm/view.ts'
import type { Log } from '../../lib/ports.ts'
import {
  encodeFence,
  kindOf,
  writeDirectoryEntry,
  writeEntry,
  type StoredValue
} from '../../lib/wire/index-blocks.ts'
import { ByteWriter, keyText, type KeyText } from '../../lib/wire/index-bytes.ts'
import { hashKey, markOf, tagOf } from '../../lib/wire/index-filter.ts'
import { encodeLayout, type IndexLayout, type RunState } from '../../lib/wire/index-state.ts'
import { encodeStep, type Step, type StepSource } from '../../lib/wire/index-step.ts'
import { encodeKey } from '../../lib/wire/keys.ts'
import { dataKey, encodeEntry } from '../../lib/wire/records.ts'
import { makeStamp } from '../../lib/wire/stamps.ts'
import { encodeValue } from '../../lib/wire/values.ts'
import { cleanup } from '../helpers/cleanup.ts'
import { tmpdir } from '../helpers/tmp.ts'

export const key = (name: string): Uint8Array => dataKey(encodeKey(name))
export const text = (name: string): KeyText => keyText(key(name))
export const record = (value: string): Uint8Array =>
  encodeEntry({
    value: encodeValue(value),
    versionstamp: makeStamp({ epoch: 1, serial: 1, counter: 1 }),
    expireAt: 0
  })
export const value: Uint8Array = record('v')

export type Pairs = readonly (readonly [name: string, value: StoredValue])[]

/** Entries in any order. */
export function entries(...pairs: Pairs): Uint8Array {
  return entriesOf(pairs)
}

export function entriesOf(pairs: Pairs): Uint8Array {
  const writer = new ByteWriter()
  writer.byte(kindOf.entries)
  let before = ''
  for (const [name, one] of pairs) {
    writeEntry(writer, before, text(name), one)
    before = text(name)
  }
  return writer.take()
}

export function fence(level: number, first: number, names: readonly string[]): Uint8Array {
  const lowest = ['', ...names.map(text)]
  return encodeFence({ level, first, lowest, filter: null })
}

export function page(...places: readonly (readonly [name: string, block: number])[]): Uint8Array {
  const writer = new ByteWriter()
  writer.byte(kindOf.directory)
  let before = ''
  for (const [at, [name, block]] of places.entries()) {
    const lowest = at === 0 ? '' : text(name)
    writeDirectoryEntry(writer, before, lowest, markOf(hashKey(text(name))), block)
    before = lowest
  }
  return writer.take()
}

/** A step behind `own` blocks of one append that began at block 0. */
export function step(own: number, parts: Partial<Step>): Uint8Array {
  const whole: Step = { first: 0, values: 0, data: own, inline: null, sources: [], ...parts }
  return encodeStep(whole, own)
}

export function source(kind: StepSource['kind'], block: number, names: string[] = []): StepSource {
  const tags = names.map((name) => tagOf(hashKey(text(name))))
  return { kind, block, count: Math.max(1, names.length), tags }
}

/** A step with its entries beside. */
export function smallStep(own: number, ...pairs: Pairs): Uint8Array {
  const inline = { keys: pairs.map(([name]) => text(name)), values: pairs.map(([, one]) => one) }
  const told = source(
    'small',
    own,
    pairs.map(([name]) => name)
  )
  return step(own, { first: own, data: 0, inline, sources: [told] })
}

export class Forge {
  readonly store: Store
  readonly cores: HyperIndexCores
  readonly anchor: Log
  #runs = 0

  private constructor(store: Store, anchor: Log) {
    this.store = store
    this.anchor = anchor
    this.cores = new HyperIndexCores(store, store.nodeId, 1)
  }

  static async open(t: Test): Promise<Forge> {
    const store = await Store.open({ directory: tmpdir(t), durability: 'os' })
    cleanup(t, () => store.close())
    return new Forge(store, await store.begin({ kind: 'index', node: store.nodeId }, 1))
  }

  async journal(number: number, ...blocks: readonly Uint8Array[]): Promise<void> {
    const name = { kind: 'journal', node: this.store.nodeId, index: 1 } as const
    const log = await this.store.begin(name, number)
    if (blocks.length > 0) await log.append(blocks)
    await log.close()
  }

  /** @param top told in place of the last block */
  async run(blocks: readonly Uint8Array[], top?: Uint8Array): Promise<RunState> {
    const core = await this.store.buildRun(1, `forged ${this.#runs++}`)
    await core.append([...blocks])
    const run = await this.store.finishRun(core, 1, () => Promise.resolve())
    return { ...run, entries: 1, bytes: 1, top: top ?? new Uint8Array(0) }
  }

  /** Tells a layout; the newest journal is number 0, and empty, when none is named. */
  async layout(layout: Partial<IndexLayout>): Promise<void> {
    const journals = layout.journals ?? [{ number: 0, base: 0, length: 0 }]
    const whole: IndexLayout = { event: 'flushed', runs: [], kept: [], ...layout, journals }
    await this.anchor.append([encodeLayout(whole)])
  }

  async view(t: Test): Promise<FollowedIndex> {
    const anchor = await this.store.peerLog({ kind: 'index', node: this.store.nodeId }, 1)
    const view = await FollowedIndex.open(anchor, this.cores, { deletes: false })
    cleanup(t, () => view.close())
    return view
  }
}
