/**
 * A simulated writer: the shell of lib/write/ around the decisions of lib/protocol/, and the caller that uses it.
 */
import { coverage, goOn, numberToBegin, runsOf, shouldContinue } from '../../lib/protocol/outbox.ts'
import { reaches } from '../../lib/protocol/positions.ts'
import {
  nothingReached,
  possible,
  withAck,
  withAnnounced,
  withCursor,
  withView,
  type Reached
} from '../../lib/protocol/reached.ts'
import {
  deletable,
  shouldRotate,
  stillStands,
  type RotationLimits
} from '../../lib/protocol/rotation.ts'
import type { Head } from '../../lib/ports.ts'
import type { Position } from '../../lib/types.ts'
import type { Segment } from '../../lib/wire/blocks.ts'
import type { DecodedOperation } from '../../lib/wire/operations.ts'
import type { SimBlock } from './disk.ts'
import { SimNode, type Message, type Task } from './node.ts'
import type { SimStorage } from './storage.ts'

/** A block is one byte here, so that these are blocks; quiet is always long enough. */
const limits: RotationLimits = {
  bytes: 7,
  quietBytes: 5,
  quietMs: 0,
  askedBytesMin: 3,
  appliedBytesMax: 10
}

export interface Part {
  readonly generation: number
  readonly from: number
  readonly to: number
}

/** What the caller has asked for. */
export interface Flush {
  readonly request: number
  readonly operations: ReadonlyMap<SimStorage, readonly number[]>
  readonly parts: Map<SimStorage, Part>
  /** The caller was told that it is on disk. */
  resolved: boolean
  /** The caller gave it up when the node stopped: nothing is known of it. */
  abandoned: boolean
  /** Those that a receipt was told for. */
  readonly receipted: Set<SimStorage>
  /** Those that are told to be lost, or are not known any more. */
  readonly lost: Set<SimStorage>
}

interface Pending {
  readonly type: 'flush'
  readonly flush: Flush
  readonly operations: readonly number[]
  readonly epoch: number
}

type Job = Pending | { readonly type: 'mark'; readonly epoch: number } | { readonly type: 'look' }

interface Own {
  readonly generation: number
  readonly whole: boolean
  /** What peers can see of it. */
  visible: number
}

interface Channel {
  readonly owner: SimStorage
  readonly jobs: Job[]
  generations: Own[]
  empty: number[]
  readonly ends: Map<number, number>
  current: Own | null
  next: number | null
  epoch: number
  asked: number | null
  reached: Reached
  present: number | null
  view: Head | null
  /** A number for each request that lay in a deleted generation; where. */
  deleted: { generations: Position[]; requests: Map<number, Part> }
  /** Something may have changed since it was last looked what can be deleted. */
  told: boolean
}

export class SimWriter extends SimNode {
  epoch = 0
  channels: Channel[] = []
  /** What was known when the caller last asked for receipts. */
  #asked: Reached[] = []
  /** What the caller remembers; it lives longer than the node. */
  readonly flushes: Flush[] = []

  channel(owner: SimStorage): Channel {
    return this.channels.find((channel) => channel.owner === owner) as Channel
  }

  protected isOwn(key: string): boolean {
    return key.startsWith(`outbox/${this.name}/`)
  }

  readonly #keys = new Map<SimStorage, Map<number, string>>()

  keyOf(owner: SimStorage, generation: number): string {
    let keys = this.#keys.get(owner)
    if (!keys) this.#keys.set(owner, (keys = new Map()))
    let key = keys.get(generation)
    if (!key) keys.set(generation, (key = `outbox/${this.name}/${owner.name}/${generation}`))
    return key
  }

  protected *boot(): Task {
    const { world, disk } = this
    yield* this.openStore()
    this.epoch = (disk.state.get('epoch') as number | undefined) ?? this.epoch
    this.channels = []
    for (const owner of world.storages) this.channels.push(yield* this.#open(owner))
    this.isUp = true
    for (const channel of this.channels) {
      for (const own of channel.generations) this.#show(channel, own, own.visible)
      this.work(
        `outbox ${channel.owner.name}`,
        () => channel.jobs.length > 0,
        this.#appending(channel)
      )
      this.work(
        `retire ${channel.owner.name}`,
        () => this.#mayRetire(channel),
        this.#retiring(channel)
      )
    }
    this.#retry()
  }

  *#open(owner: SimStorage): Generator<string, Channel, void> {
    const prefix = this.keyOf(owner, 0).slice(0, -1)
    const numbers = this.ownKeys()
      .filter((key) => key.startsWith(prefix))
      .map((key) => Number(key.slice(prefix.length)))
      .toSorted((a, b) => a - b)
    const channel: Channel = {
      owner,
      jobs: [],
      generations: [],
      empty: [],
      ends: new Map(),
      current: null,
      next: null,
      epoch: 0,
      asked: null,
      reached: nothingReached,
      present: null,
      view: null,
      deleted: { generations: [], requests: new Map() },
      told: true
    }
    for (const generation of numbers) {
      const whole = yield* this.isWhole(this.keyOf(owner, generation))
      const log = this.#log(channel, generation)
      if (log.length === 0) {
        if (whole) channel.empty.push(generation)
        continue
      }
      channel.generations.push({ generation, whole, visible: log.length })
      const head = log.blocks[0]?.content
      if (head?.type === 'head' && head.continues) {
        channel.ends.set(head.continues.generation, head.continues.length)
      }
    }
    const note = this.disk.logs.get(this.#noteKey(channel))?.blocks.at(-1)
    if (note) channel.deleted = this.world.notes.get(note.id) ?? channel.deleted
    const newest = channel.generations.at(-1)
    if (newest) {
      const log = this.#log(channel, newest.generation)
      const last = newest.whole ? (log.blocks[log.length - 1]?.content ?? null) : null
      const { append, next } = goOn({ whole: newest.whole, last })
      if (append) channel.current = newest
      channel.next = next
      if (!newest.whole) channel.ends.set(newest.generation, log.length)
      channel.epoch = newestEpoch(log.blocks)
    }
    return channel
  }

  connected(other: SimNode): void {
    const channel = this.channel(other as SimStorage)
    const newest = channel.generations.at(-1)
    if (!newest) return
    this.#tell(channel, { type: 'record', generation: newest.generation })
    for (const { generation, visible } of channel.generations) {
      this.#tell(channel, { type: 'length', generation, length: visible })
    }
    this.#tellOldest(channel)
  }

  disconnected(): void {}

  received(from: SimNode, message: Message): void {
    const channel = this.channel(from as SimStorage)
    channel.told = true
    switch (message.type) {
      case 'ack': {
        const claim = possible(message, this.#position(channel))
        if (claim) channel.reached = withAck(channel.reached, claim)
        break
      }
      case 'applied': {
        const claim = possible(message, this.#position(channel))
        channel.present = message.head.generation
        if (!claim) break
        channel.reached = withAnnounced(channel.reached, claim, message.head, channel.view)
        break
      }
      case 'head': {
        const { generation, length } = message
        if (length === 0 || reaches(channel.view, message)) break
        channel.view = { generation, length }
        channel.reached = withView(channel.reached, channel.view)
        break
      }
      case 'rotate':
        if (message.generation === channel.generations.at(-1)?.generation) {
          channel.asked = message.generation
          channel.jobs.push({ type: 'look' })
        }
        break
      case 'want': {
        const { generation, block } = message
        const own = channel.generations.find((one) => one.generation === generation)
        const data = this.#log(channel, generation).blocks[block]
        if (own && data && block < own.visible) {
          this.#tell(channel, { type: 'block', generation, block, data, length: own.visible })
        }
        break
      }
      case 'record':
      case 'length':
      case 'block':
      case 'oldest':
        throw new Error(`a writer got ${message.type}`)
    }
    this.receipts()
  }

  /** Looks up the cursor in the view, as it is done while somebody waits. */
  poll(): void {
    for (const channel of this.channels) {
      const cursor = channel.view && channel.owner.cursorAt(channel.view, this)
      const end = this.#position(channel)
      const foreign = end !== null && cursor !== null && cursor.generation > end.generation
      const claim = foreign || cursor === null ? cursor : possible(cursor, end)
      if (claim) channel.reached = withCursor(channel.reached, claim)
      channel.jobs.push({ type: 'look' })
      channel.told = true
    }
    this.#asked = []
    this.receipts()
  }

  adopt(epoch: number): void {
    if (epoch <= this.epoch) return
    this.epoch = epoch
    this.disk.state.set('epoch', epoch)
    for (const channel of this.channels) channel.jobs.push({ type: 'mark', epoch })
  }

  get isWriter(): boolean {
    return this.world.writersOf(this.epoch).includes(this)
  }

  flush(operations: Flush['operations']): void {
    if (!this.isWriter) return
    const flush: Flush = {
      request: this.flushes.length,
      operations,
      parts: new Map(),
      resolved: false,
      abandoned: false,
      receipted: new Set(),
      lost: new Set()
    }
    this.flushes.push(flush)
    this.#enter(flush)
  }

  /** The caller sends again what it has no answer for; without syncs or after a restore it does not. */
  #retry(): void {
    for (const flush of this.flushes) {
      if (flush.resolved || flush.abandoned) continue
      let here = 0
      for (const owner of flush.operations.keys()) {
        const part = this.#find(this.channel(owner), flush.request)
        if (part) flush.parts.set(owner, part)
        if (flush.parts.has(owner)) here++
      }
      if (!this.isWriter && here < flush.operations.size) flush.abandoned = true
      else this.#enter(flush)
    }
  }

  #enter(flush: Flush): void {
    for (const [owner, operations] of flush.operations) {
      if (flush.parts.has(owner)) continue
      this.channel(owner).jobs.push({ type: 'flush', flush, operations, epoch: this.epoch })
    }
    this.#resolve(flush)
  }

  #resolve(flush: Flush): void {
    if (flush.parts.size === flush.operations.size) flush.resolved = true
  }

  #find(channel: Channel, request: number): Part | null {
    for (const { generation } of channel.generations.toReversed()) {
      const { blocks } = this.#log(channel, generation)
      const at = blocks.flatMap((block, i) => (requestsOf(block).includes(request) ? [i] : []))
      const first = at[0]
      const last = at.at(-1)
      if (first !== undefined && last !== undefined) {
        return { generation, from: first, to: last + 1 }
      }
    }
    return channel.deleted.requests.get(request) ?? null
  }

  /** The caller asks for every receipt that it can have now. */
  receipts(): void {
    const asked = this.#asked
    if (this.channels.every(({ reached }, i) => reached === asked[i])) return
    this.#asked = this.channels.map(({ reached }) => reached)
    for (const flush of this.flushes) {
      if (!flush.resolved || flush.receipted.size + flush.lost.size === flush.parts.size) continue
      for (const [owner, part] of flush.parts) {
        if (flush.receipted.has(owner) || flush.lost.has(owner)) continue
        const channel = this.channel(owner)
        if (!this.#holds(channel, part, flush.request)) {
          flush.lost.add(owner)
          continue
        }
        const covered = coverage(channel.reached.applied, part, channel.ends)
        if (covered === 'lost') flush.lost.add(owner)
        if (covered !== 'covered') continue
        flush.receipted.add(owner)
        const operations = flush.operations.get(owner) ?? []
        this.world.checks.receipt(this, owner, operations, channel.view)
      }
    }
  }

  #holds(channel: Channel, part: Part, request: number): boolean {
    const { generation, from, to } = part
    const found = channel.generations.find((one) => one.generation === generation)
    if (!found) {
      return channel.deleted.generations.some(
        (one) => one.generation === generation && to <= one.length
      )
    }
    const log = this.#log(channel, generation)
    if (to > log.length) return channel.ends.has(generation)
    return requestsOf(log.blocks[from]).includes(request)
  }

  *#appending(channel: Channel): Task {
    for (;;) {
      const [job] = channel.jobs
      if (job?.type === 'flush') {
        const group: Pending[] = []
        while (channel.jobs[0]?.type === 'flush') group.push(channel.jobs.shift() as Pending)
        for (const run of runsOf(group)) {
          yield* this.#appendRun(channel, run)
          yield* this.#rotateIfDue(channel, false)
        }
      } else if (job?.type === 'mark') {
        channel.jobs.shift()
        if (channel.current !== null && channel.epoch < job.epoch) {
          const mark = this.#mark(job.epoch)
          yield* this.#write(channel, channel.current, [mark])
          channel.epoch = job.epoch
        }
      } else if (job?.type === 'look') {
        channel.jobs.shift()
        const position = this.#position(channel)
        const receipted = position !== null && reaches(channel.reached.applied, position)
        yield* this.#rotateIfDue(channel, receipted)
      }
      yield 'idle'
    }
  }

  *#appendRun(channel: Channel, run: readonly Pending[]): Task {
    const epoch = run[0]?.epoch ?? 0
    const { blocks, parts } = this.#pack(epoch, run)
    const fresh = channel.current === null
    const own = channel.current ?? (yield* this.#begin(channel))
    const before = fresh ? this.#firstBlocks(channel, epoch) : []
    const first = this.#log(channel, own.generation).length + before.length
    yield* this.#write(channel, own, [...before, ...blocks], fresh)
    channel.epoch = Math.max(channel.epoch, epoch)
    for (const [i, { flush }] of run.entries()) {
      const part = parts[i]
      if (!part) continue
      const { generation } = own
      flush.parts.set(channel.owner, {
        generation,
        from: first + part.from,
        to: first + part.to
      })
      this.#resolve(flush)
    }
  }

  *#write(channel: Channel, own: Own, blocks: readonly SimBlock[], fresh = false): Task {
    const key = this.keyOf(channel.owner, own.generation)
    yield* this.append(key, blocks, this.durability === 'sync')
    if (fresh) {
      const before = channel.generations.at(-1)
      if (before) channel.ends.set(before.generation, this.#endOf(channel, before))
      channel.generations = [...channel.generations, own]
      channel.current = own
      channel.asked = null
    }
    this.#show(channel, own, this.#log(channel, own.generation).length)
    if (fresh) this.#tell(channel, { type: 'record', generation: own.generation })
  }

  *#begin(channel: Channel): Generator<string, Own, void> {
    const known = this.#numbers(channel)
    const generation = numberToBegin({
      named: channel.next,
      highest: known.at(-1) ?? null,
      empty: channel.empty,
      fresh: this.nextGeneration(known)
    })
    channel.next = null
    yield* this.begin(this.keyOf(channel.owner, generation))
    return { generation, whole: true, visible: 0 }
  }

  *#rotateIfDue(channel: Channel, receipted: boolean): Task {
    const { current } = channel
    const newest = channel.generations.at(-1)
    if (current === null) {
      if (newest && shouldContinue({ whole: newest.whole, receipted })) yield* this.#next(channel)
      return
    }
    const { length: bytes } = this.#log(channel, current.generation)
    const asked = channel.asked === current.generation
    if (!shouldRotate({ bytes, quietMs: 1, receipted, asked }, limits)) return
    const next = this.nextGeneration(this.#numbers(channel))
    yield* this.#write(channel, current, [this.world.block({ type: 'end', next })])
    channel.current = null
    channel.next = next
    yield* this.#next(channel)
  }

  *#next(channel: Channel): Task {
    const begun = yield* this.#begin(channel)
    yield* this.#write(channel, begun, this.#firstBlocks(channel, channel.epoch), true)
  }

  #mayRetire({ generations, reached, present, view, told }: Channel): boolean {
    const [oldest] = generations
    if (!told || !oldest || reached.applied === null || present === null) return false
    return reached.applied.generation > oldest.generation && view?.generation === present
  }

  *#retiring(channel: Channel): Task {
    for (;;) {
      channel.told = false
      const { owner, view, present } = channel
      const shown = view === null ? null : owner.cursorAt(view, this)
      const stands = (): boolean => present !== null && stillStands(present, channel)
      yield 'looked'
      const numbers = channel.generations.map(({ generation }) => generation)
      const going = deletable(numbers, shown)
      if (going.length > 0 && stands()) yield* this.#forget(channel, going, stands)
      yield 'idle'
    }
  }

  *#forget(channel: Channel, going: readonly number[], stands: () => boolean): Task {
    const { deleted, owner } = channel
    const requests = new Map(deleted.requests)
    const generations = [...deleted.generations]
    for (const generation of going) {
      const { blocks, length } = this.#log(channel, generation)
      generations.push({ generation, length })
      for (const [i, block] of blocks.entries()) {
        for (const request of requestsOf(block)) {
          const from = requests.get(request)?.from ?? i
          requests.set(request, { generation, from, to: i + 1 })
        }
      }
    }
    channel.deleted = { generations, requests }
    const note = this.world.block(null)
    this.world.notes.set(note.id, channel.deleted)
    this.disk.append(this.#noteKey(channel), [note])
    yield* this.barrier()
    for (const generation of going) {
      if (!stands()) break
      this.world.checks.deleting(this, channel, this.#log(channel, generation).blocks)
      channel.generations = channel.generations.filter((one) => one.generation !== generation)
      for (const before of channel.ends.keys()) {
        if (before < generation) channel.ends.delete(before)
      }
      yield* this.deleteLogs([this.keyOf(owner, generation)], true)
      this.#tellOldest(channel)
    }
  }

  #tellOldest(channel: Channel): void {
    const [oldest] = channel.generations
    if (!oldest || channel.deleted.generations.length === 0) return
    this.#tell(channel, { type: 'oldest', generation: oldest.generation })
  }

  /** Peers see that much of it from now on. */
  #show({ owner }: Channel, own: Own, length: number): void {
    own.visible = length
    const key = this.keyOf(owner, own.generation)
    this.world.checks.signed(key, this.disk.logs.get(key)?.blocks ?? [], length)
    this.world.net.send(this, owner, { type: 'length', generation: own.generation, length })
  }

  #tell({ owner }: Channel, message: Message): void {
    this.world.net.send(this, owner, message)
  }

  #pack(
    epoch: number,
    run: readonly Pending[]
  ): { blocks: SimBlock[]; parts: { from: number; to: number }[] } {
    const blocks: SimBlock[] = []
    const parts: { from: number; to: number }[] = []
    let segments: Segment<DecodedOperation>[] = []
    let inside: number[] = []
    let requests: number[] = []
    const close = (): void => {
      if (inside.length === 0) return
      blocks.push(
        this.world.block({ type: 'operations', epoch, seen: null, segments }, inside, [], requests)
      )
      segments = []
      inside = []
      requests = []
    }
    for (const { flush, operations } of run) {
      const from = inside.length >= 2 ? blocks.length + 1 : blocks.length
      for (const operation of operations) {
        if (inside.length >= 2) close()
        segments.push({
          request: this.world.requestBytes(flush.request),
          total: operations.length,
          operations: [this.world.operation(operation)]
        })
        inside.push(operation)
        requests.push(flush.request)
      }
      parts.push({ from, to: blocks.length + 1 })
    }
    close()
    return { blocks, parts }
  }

  #firstBlocks(channel: Channel, epoch: number): SimBlock[] {
    const continues = this.#position(channel)
    const head = { type: 'head', created: this.world.now, epoch, continues } as const
    return [this.world.block(head), this.#mark(epoch)]
  }

  #mark(epoch: number): SimBlock {
    const configHash = this.world.hashOf(epoch)
    return this.world.block({ type: 'mark', epoch, configHash, lengths: [] })
  }

  #position(channel: Channel): Position | null {
    const newest = channel.generations.at(-1)
    if (!newest) return null
    return { generation: newest.generation, length: this.#endOf(channel, newest) }
  }

  #endOf(channel: Channel, { generation }: Own): number {
    return channel.ends.get(generation) ?? this.#log(channel, generation).length
  }

  #numbers({ owner }: Channel): number[] {
    const prefix = this.keyOf(owner, 0).slice(0, -1)
    return [...new Set([...this.disk.marks.keys(), ...this.disk.logs.keys()])]
      .filter((key) => key.startsWith(prefix))
      .map((key) => Number(key.slice(prefix.length)))
      .toSorted((a, b) => a - b)
  }

  #noteKey({ owner }: Channel): string {
    return `note/${owner.name}`
  }

  #log(
    { owner }: Channel,
    generation: number
  ): { blocks: (SimBlock | undefined)[]; length: number } {
    return this.disk.logs.get(this.keyOf(owner, generation)) ?? { blocks: [], length: 0 }
  }
}

function requestsOf(block: SimBlock | undefined): readonly number[] {
  return block?.requests ?? []
}

function newestEpoch(blocks: readonly (SimBlock | undefined)[]): number {
  for (const block of blocks.toReversed()) {
    const content = block?.content
    if (content && 'epoch' in content) return content.epoch
  }
  return 0
}
