/**
 * A simulated storage node: the shell of lib/apply/ around the decisions of lib/protocol/.
 */
import { compose, fits } from '../../lib/protocol/batch.ts'
import { ChainLinks } from '../../lib/protocol/chain-links.ts'
import { evaluate, logId, type PlacedBlock } from '../../lib/protocol/evaluate.ts'
import { arrivals } from '../../lib/protocol/holding.ts'
import { plan, type Generation, type Plan } from '../../lib/protocol/intake.ts'
import { membershipChange } from '../../lib/protocol/membership.ts'
import { comparePositions, later } from '../../lib/protocol/positions.ts'
import { relieve, type RotationLimits } from '../../lib/protocol/rotation.ts'
import { beginIndex } from '../../lib/protocol/startup.ts'
import type { Head, IndexChange } from '../../lib/ports.ts'
import type { Position } from '../../lib/types.ts'
import {
  cutOffKey,
  encodeCursor,
  encodeIndexState,
  indexStateKey,
  type IndexState
} from '../../lib/wire/records.ts'
import { Content } from './content.ts'
import type { SimBlock } from './disk.ts'
import { SimNode, type Message, type Task } from './node.ts'
import type { SimWriter } from './writer.ts'

/** Blocks that are asked for at a time. */
const window = 3
/** What one operation counts, so that shares of a batch matter. */
const weight = 150

interface Opened {
  held: number
  firstMissing(from: number): number
}

export interface SimInbox {
  readonly writer: SimWriter
  readonly links: ChainLinks
  applied: Position | null
  acked: Position | null
  cutOff: Position | null
  oldest: number | null
  authorised: boolean
  stopped: string | null
  again: boolean
  readonly logs: Map<number, Opened>
  /** Generations of which more than the first block may lie here. */
  readonly stored: Set<number>
  /** What the connected writer says of its logs. */
  readonly remote: Map<number, number>
  readonly asked: Set<string>
}

export class SimStorage extends SimNode {
  inboxes: SimInbox[] = []
  generation = 0
  /** Blocks of the index that everybody can see. */
  visible = 0
  content: Content = new Content()
  /** Of the configuration that is used; recorded in the index behind it. */
  #epoch = 1
  #adopting: number[] = []
  #between: { readonly epoch: number; readonly changes: readonly IndexChange[] } | null = null
  #poked = false
  /** Cursors of every head that was ever signed. */
  readonly #history = new Map<string, ReadonlyMap<string, Position>>()

  protected isOwn(key: string): boolean {
    return key.startsWith(`index/`)
  }

  get head(): Head {
    return { generation: this.generation, length: this.visible }
  }

  get state(): IndexState {
    return this.content.state as IndexState
  }

  /** The cursor that a reader of the index finds at a head. */
  cursorAt({ generation, length }: Head, writer: SimWriter): Position | null {
    const cursors = this.#history.get(`${generation}/${length}`)
    return cursors?.get(writer.id) ?? null
  }

  readonly #keys = new Map<SimWriter, Map<number, string>>()

  inboxKey(writer: SimWriter, generation: number): string {
    let keys = this.#keys.get(writer)
    if (!keys) this.#keys.set(writer, (keys = new Map()))
    let key = keys.get(generation)
    if (!key) keys.set(generation, (key = `inbox/${writer.name}/${generation}`))
    return key
  }

  protected *boot(): Task {
    const { world, disk } = this
    yield* this.openStore()
    yield* this.#openIndex()
    this.inboxes = world.writers.map((writer) => this.#makeInbox(writer))
    for (const inbox of this.inboxes) {
      const { writer } = inbox
      const known = disk.state.get(writer.name) as number | undefined
      const cutOff = this.content.cutOffs.get(writer.id)
      const named = world.writersOf(this.state.epoch).includes(writer)
      if (!named || cutOff) {
        inbox.authorised = false
        inbox.cutOff = cutOff ?? null
      }
      const generation = named && !cutOff ? known : (cutOff?.generation ?? known)
      if (generation) inbox.links.announce(generation)
    }
    this.isUp = true
    this.#epoch = this.state.epoch
    this.#between = null
    this.#adopting = [this.#epoch]
    this.#poked = true
    for (const inbox of this.inboxes) {
      inbox.again = true
      this.work(`inbox ${inbox.writer.name}`, () => inbox.again, this.#taking(inbox))
    }
    this.work(
      'adopt',
      () => this.#adopting.length > 0 && this.#between === null,
      this.#adoptingAll()
    )
    this.work('apply', () => this.#poked || this.#between !== null, this.#applying())
    // What a session that was cut short has left of generations that the cursors have passed.
    yield* this.deleteLogs(
      this.inboxes.flatMap(({ writer, applied }) => this.#passed(writer, applied)),
      false
    )
  }

  *#openIndex(): Task {
    const { world, disk } = this
    const numbers = this.#numbers()
    let newest: { generation: number; content: Content; whole: boolean } | null = null
    for (const generation of numbers) {
      const key = `index/${generation}`
      const content = new Content()
      for (const block of disk.logs.get(key)?.blocks ?? []) if (block) content.apply(block.changes)
      const whole = yield* this.isWhole(key)
      if (content.state !== null) newest = { generation, content, whole }
    }
    if (newest?.whole) {
      this.generation = newest.generation
      this.content = newest.content
      this.visible = disk.logs.get(`index/${this.generation}`)?.length ?? 0
      return this.#opened()
    }
    if (newest === null) world.checks.began(this)
    const generation = this.nextGeneration(numbers)
    const key = `index/${generation}`
    yield* this.begin(key)
    const config = { epoch: 1, hash: world.hashOf(1) }
    const state = beginIndex(newest?.content.state ?? null, config, world.now)
    const content = new Content()
    const copied = newest?.content.copied() ?? []
    content.apply(copied)
    if (copied.length > 0) yield* this.append(key, [world.block(null, [], copied)], true)
    const last = [{ key: indexStateKey, value: encodeIndexState(state) }]
    yield* this.append(key, [world.block(null, [], last)], true)
    content.apply(last)
    this.content = content
    this.generation = generation
    this.visible = disk.logs.get(key)?.length ?? 0
    this.#opened()
  }

  #opened(): void {
    const { blocks } = this.disk.logs.get(`index/${this.generation}`) ?? { blocks: [] }
    this.world.checks.opened(this, blocks)
    const content = new Content()
    for (const [i, block] of blocks.entries()) {
      if (block) content.apply(block.changes)
      this.#history.set(`${this.generation}/${i + 1}`, content.cursors)
    }
    this.#show()
  }

  #makeInbox(writer: SimWriter): SimInbox {
    return {
      writer,
      links: new ChainLinks(3),
      applied: this.content.cursors.get(writer.id) ?? null,
      acked: null,
      cutOff: null,
      oldest: null,
      authorised: true,
      stopped: null,
      again: true,
      logs: new Map(),
      stored: new Set(this.#storedOf(writer)),
      remote: new Map(),
      asked: new Set()
    }
  }

  inbox(writer: SimNode): SimInbox {
    return this.inboxes.find((inbox) => inbox.writer === writer) as SimInbox
  }

  connected(other: SimNode): void {
    const inbox = this.inbox(other)
    this.#tell(inbox, { type: 'head', ...this.head })
    if (!inbox.authorised) return
    if (inbox.acked) this.#tell(inbox, { type: 'ack', ...inbox.acked })
    if (inbox.applied) {
      this.#tell(inbox, { type: 'applied', ...inbox.applied, head: this.head })
    }
    inbox.again = true
  }

  disconnected(other: SimNode): void {
    const inbox = this.inbox(other)
    if (!inbox) return
    inbox.remote.clear()
    inbox.asked.clear()
    inbox.again = true
  }

  received(from: SimNode, message: Message): void {
    const inbox = this.inbox(from)
    const named = this.world.writersOf(this.#epoch).includes(inbox.writer)
    switch (message.type) {
      case 'record':
        if (!named) return
        if (((this.disk.state.get(from.name) as number | undefined) ?? 0) < message.generation) {
          this.disk.state.set(from.name, message.generation)
        }
        this.#announce(inbox, message.generation)
        break
      case 'length':
        inbox.remote.set(message.generation, message.length)
        if (inbox.logs.has(message.generation)) this.#grown(inbox, message.generation)
        break
      case 'block': {
        const { generation, block, data, length } = message
        if (!inbox.logs.has(generation) || !inbox.authorised) return
        inbox.asked.delete(`${generation}/${block}`)
        const key = this.inboxKey(inbox.writer, generation)
        this.disk.write((logs) => {
          const log = logs.get(key) ?? { blocks: [], length: 0 }
          logs.set(key, log)
          log.blocks[block] = data
          log.length = Math.max(log.length, length)
        })
        if (block === 0) this.#learn(inbox, generation)
        else inbox.stored.add(generation)
        break
      }
      case 'oldest':
        if (named && (inbox.oldest ?? 0) < message.generation) inbox.oldest = message.generation
        break
      default:
        throw new Error(`a storage node got ${message.type}`)
    }
    inbox.again = true
  }

  adopt(epoch: number): void {
    this.#adopting.push(epoch)
  }

  #announce({ links }: SimInbox, generation: number): void {
    if (links.newest === null || generation > links.newest) links.announce(generation)
  }

  #learn(inbox: SimInbox, generation: number): void {
    const first = this.#block(inbox, generation, 0)
    if (!first || inbox.links.all.has(generation)) return
    const { content } = first
    const continues = content?.type === 'head' ? content.continues : null
    inbox.links.learn(generation, continues, inbox.applied)
  }

  /** The length that a connected writer has proved. */
  #grown(inbox: SimInbox, generation: number): void {
    const length = inbox.remote.get(generation) ?? 0
    const key = this.inboxKey(inbox.writer, generation)
    if ((this.disk.logs.get(key)?.length ?? 0) >= length) return
    this.disk.write((logs) => {
      const log = logs.get(key) ?? { blocks: [], length: 0 }
      logs.set(key, log)
      log.length = Math.max(log.length, length)
    })
  }

  *#taking(inbox: SimInbox): Task {
    for (;;) {
      while (inbox.again) {
        inbox.again = false
        const arrived = arrivals(inbox.logs, inbox.applied)
        if (arrived.length > 0) {
          yield* this.barrier()
          for (const { opened, to } of arrived) opened.held = to
        }
        this.#look(inbox)
      }
      yield 'idle'
    }
  }

  #look(inbox: SimInbox): void {
    const next = this.#plan(inbox)
    if (next.chain !== null) inbox.links.retain(next.chain)
    const acked = later(inbox.acked, next.acked)
    if (acked && (inbox.acked === null || comparePositions(acked, inbox.acked) > 0)) {
      inbox.acked = acked
      this.world.checks.acked(this, inbox, acked)
      this.#tell(inbox, { type: 'ack', ...acked })
    }
    this.#use(inbox, next.needed)
    this.#fetch(inbox, next)
    if (next.apply) this.#poked = true
    if (next.done && inbox.links.applied(inbox.applied)) inbox.again = true
  }

  #use(inbox: SimInbox, needed: readonly number[]): void {
    for (const generation of inbox.logs.keys()) {
      if (!needed.includes(generation)) inbox.logs.delete(generation)
    }
    for (const generation of needed) {
      if (inbox.logs.has(generation)) continue
      const firstMissing = (from: number): number => {
        const log = this.disk.logs.get(this.inboxKey(inbox.writer, generation))
        const end = log?.length ?? 0
        let block = from
        while (block < end && log?.blocks[block]) block++
        return block
      }
      inbox.logs.set(generation, { held: 0, firstMissing })
      if (inbox.authorised) this.#grown(inbox, generation)
      inbox.again = true
    }
  }

  #fetch(inbox: SimInbox, { head, fetch }: Plan): void {
    if (head !== null && this.#block(inbox, head, 0)) {
      this.#learn(inbox, head)
      inbox.again = true
    } else if (head !== null) this.#want(inbox, head, 0)
    if (fetch === null) return
    let count = 0
    for (let block = fetch.from; block < fetch.to && count < window; block++) {
      if (this.#block(inbox, fetch.generation, block)) continue
      count++
      this.#want(inbox, fetch.generation, block)
    }
  }

  #want(inbox: SimInbox, generation: number, block: number): void {
    const name = `${generation}/${block}`
    if (!inbox.authorised || inbox.asked.has(name)) return
    if ((inbox.remote.get(generation) ?? 0) <= block) return
    inbox.asked.add(name)
    this.#tell(inbox, { type: 'want', generation, block })
  }

  #plan(inbox: SimInbox): Plan {
    const { links, applied, cutOff, oldest } = inbox
    const generations = new Map<number, Generation>()
    for (const [generation, { held, firstMissing }] of inbox.logs) {
      const log = this.disk.logs.get(this.inboxKey(inbox.writer, generation))
      const start = applied?.generation === generation ? applied.length : 0
      const here = firstMissing(Math.max(held, start))
      generations.set(generation, { length: log?.length ?? 0, held, here })
    }
    const { from: newest, end, all } = links
    const { stored } = inbox
    return plan({ newest, end, applied, generations, stored, links: all, cutOff, oldest })
  }

  *#applying(): Task {
    for (;;) {
      if (this.#between) yield* this.#record(this.#between)
      this.#poked = false
      const blocks = this.#collect()
      if (blocks.length > 0) yield* this.#apply(blocks)
      yield 'idle'
    }
  }

  #collect(): PlacedBlock[] {
    const ready = this.inboxes.filter(
      (inbox) => inbox.stopped === null && this.#plan(inbox).apply !== null
    )
    const [leader] = ready
    if (!leader) return []
    this.inboxes = [...this.inboxes.filter((inbox) => inbox !== leader), leader]
    const batch: PlacedBlock[] = []
    const turns = compose(ready)
    for (let turn = turns.next(); !turn.done;) {
      const { inbox } = turn.value
      const taken = { operations: 0, bytes: 0 }
      const { apply } = this.#plan(inbox)
      const count = batch.length
      const end = apply?.to ?? 0
      for (let block = apply?.from ?? 0; block < end; block++) {
        const found = this.#block(inbox, apply?.generation ?? 0, block)
        if (!found?.content) break
        const operations = taken.operations + Math.max(1, found.operations.length) * weight
        const size = { operations, bytes: taken.bytes + 1 }
        if (!fits(turn.value, batch.length - count, size)) break
        taken.operations = size.operations
        taken.bytes = size.bytes
        batch.push({
          writer: inbox.writer.id,
          owner: this.id,
          generation: apply?.generation ?? 0,
          block,
          content: found.content
        })
      }
      turn = turns.next(taken)
    }
    return batch
  }

  *#apply(blocks: readonly PlacedBlock[]): Task {
    const owns = (key: Uint8Array): boolean => this.world.ownerOf(key) === this
    const outcome = evaluate(this.state, blocks, { owns }, this.world.now)
    for (const [id, reason] of outcome.stopped) {
      const inbox = this.inboxes.find(({ writer }) => logId(writer.id, this.id) === id)
      if (inbox) inbox.stopped = reason
    }
    for (const { reason } of outcome.rejected)
      this.world.fail(`an operation was rejected: ${reason}`)
    if (outcome.changes.length === 0) return
    yield* this.#appendIndex(outcome.changes)
    for (const inbox of this.inboxes) {
      const position = outcome.cursors.get(logId(inbox.writer.id, this.id))
      if (!position) continue
      const before = inbox.applied
      inbox.applied = position
      inbox.again = true
      this.#tell(inbox, { type: 'applied', ...position, head: this.head })
      if (before && before.generation < position.generation) {
        for (const generation of inbox.logs.keys()) {
          if (generation < position.generation) inbox.logs.delete(generation)
        }
        for (const generation of inbox.stored) {
          if (generation < position.generation) inbox.stored.delete(generation)
        }
        const passed = this.#passed(inbox.writer, position)
        yield* this.deleteLogs(passed, false)
      }
    }
    this.#relieve()
    this.#poked = true
  }

  *#appendIndex(changes: readonly IndexChange[]): Task {
    const key = `index/${this.generation}`
    yield* this.append(key, [this.world.block(null, [], changes)], true)
    const before = this.content
    this.content = before.with(changes)
    this.visible = this.disk.logs.get(key)?.length ?? 0
    this.world.checks.indexed(this, before, this.content, changes)
    this.#show()
  }

  *#adoptingAll(): Task {
    for (;;) {
      const epoch = this.#adopting.shift()
      if (epoch !== undefined) this.#change(epoch)
      yield 'idle'
    }
  }

  #change(epoch: number): void {
    if (epoch < this.state.epoch) return
    const changes: IndexChange[] = []
    for (const inbox of this.inboxes) {
      const { writer, authorised, acked, applied } = inbox
      const named = this.world.writersOf(epoch).includes(writer)
      const change = membershipChange({ named, authorised, acked, applied })
      const key = cutOffKey(writer.id, this.id)
      if (change.type === 'authorise') {
        inbox.authorised = true
        inbox.cutOff = null
        changes.push({ key, value: null })
      } else if (change.type === 'remove') {
        inbox.authorised = false
        inbox.cutOff = change.cutOff
        inbox.asked.clear()
        changes.push({ key, value: encodeCursor(change.cutOff) })
      }
      inbox.again = true
    }
    this.#epoch = epoch
    if (epoch !== this.state.epoch || changes.length > 0) this.#between = { epoch, changes }
    else this.#announceKnown()
  }

  *#record({ epoch, changes }: { epoch: number; changes: readonly IndexChange[] }): Task {
    const state = { ...this.state, epoch, configHash: this.world.hashOf(epoch) }
    yield* this.#appendIndex([...changes, { key: indexStateKey, value: encodeIndexState(state) }])
    for (const inbox of this.inboxes) inbox.stopped = null
    this.#between = null
    this.#announceKnown()
  }

  #announceKnown(): void {
    this.#poked = true
    for (const inbox of this.inboxes) {
      inbox.again = true
      const known = this.disk.state.get(inbox.writer.name) as number | undefined
      if (inbox.authorised && known) this.#announce(inbox, known)
      if (inbox.authorised)
        for (const generation of inbox.logs.keys()) this.#grown(inbox, generation)
    }
  }

  #relieve(): void {
    const limits: RotationLimits = {
      bytes: 0,
      quietBytes: 0,
      quietMs: 0,
      askedBytesMin: 3,
      appliedBytesMax: 10
    }
    const stored = this.inboxes.map(({ writer, applied }) => ({
      writer: writer.id,
      bytes: applied?.length ?? 0,
      connected: this.world.net.isConnected(this, writer),
      idle: false
    }))
    for (const id of relieve(stored, limits).ask) {
      const inbox = this.inboxes.find(({ writer }) => writer.id === id)
      if (inbox?.applied) {
        this.#tell(inbox, { type: 'rotate', generation: inbox.applied.generation })
      }
    }
  }

  /** Everybody can see this much of the index. */
  #show(): void {
    const key = `index/${this.generation}`
    this.world.checks.signed(
      `${this.name}/${key}`,
      this.disk.logs.get(key)?.blocks ?? [],
      this.visible
    )
    this.#history.set(`${this.generation}/${this.visible}`, this.content.cursors)
    for (const inbox of this.inboxes) this.#tell(inbox, { type: 'head', ...this.head })
  }

  #passed(writer: SimWriter, applied: Position | null): string[] {
    return this.#storedOf(writer)
      .filter((generation) => applied !== null && generation < applied.generation)
      .map((generation) => this.inboxKey(writer, generation))
  }

  #storedOf(writer: SimWriter): number[] {
    const prefix = this.inboxKey(writer, 0).slice(0, -1)
    return [...this.disk.logs.keys()]
      .filter((key) => key.startsWith(prefix))
      .map((key) => Number(key.slice(prefix.length)))
  }

  #numbers(): number[] {
    return this.ownKeys()
      .map((key) => Number(key.slice('index/'.length)))
      .toSorted((a, b) => a - b)
  }

  #block(inbox: SimInbox, generation: number, block: number): SimBlock | undefined {
    return this.disk.logs.get(this.inboxKey(inbox.writer, generation))?.blocks[block]
  }

  #tell({ writer }: SimInbox, message: Message): void {
    this.world.net.send(this, writer, message)
  }
}
