/**
 * One schedule of the simulation: nodes, network and faults, and the order in which everything happens, all of it
 * from one seed.
 *
 * First a random time with faults, then a calm one in which everything has to come to rest; the checks (checks.ts)
 * hold in both. A finding names the seed, which brings it back.
 */
import { encodeKey } from '../../lib/wire/keys.ts'
import { dataKey } from '../../lib/wire/records.ts'
import { encodeValue } from '../../lib/wire/values.ts'
import type { DecodedBlock } from '../../lib/wire/blocks.ts'
import type { DecodedOperation } from '../../lib/wire/operations.ts'
import type { Position } from '../../lib/types.ts'
import type { IndexChange } from '../../lib/ports.ts'
import { randomOf, type Random } from '../helpers/random.ts'
import { Checks } from './checks.ts'
import { nameOf } from './content.ts'
import type { Image, SimBlock } from './disk.ts'
import { SimNetwork } from './network.ts'
import type { SimNode, Worker } from './node.ts'
import { SimStorage } from './storage.ts'
import { SimWriter, type Part } from './writer.ts'

/** Steps of the calm time, at most: a rest that takes longer is none. */
const restStepsMax = 30_000

export class Finding extends Error {
  readonly step: number

  constructor(text: string, step: number) {
    super(text)
    this.step = step
  }
}

/** How rough a schedule is: chances of a step. */
interface Weather {
  readonly steps: number
  readonly kill: number
  readonly power: number
  readonly restart: number
  readonly marksLost: number
  readonly backup: number
  readonly restore: number
  readonly cut: number
  readonly config: number
  readonly clockBack: number
  readonly flush: number
}

const value = encodeValue(1)
const keys: { readonly encoded: Uint8Array; readonly name: string }[] = []
const operationsByName = new Map<string, number>()

function keyAt(operation: number): { readonly encoded: Uint8Array; readonly name: string } {
  for (let i = keys.length; i <= operation; i++) {
    const encoded = encodeKey(`operation ${i}`)
    const name = nameOf(dataKey(encoded))
    keys.push({ encoded, name })
    operationsByName.set(name, i)
  }
  return keys[operation] as { readonly encoded: Uint8Array; readonly name: string }
}

export class World {
  readonly seed: number
  readonly random: Random
  readonly net: SimNetwork
  readonly checks: Checks
  readonly writers: SimWriter[] = []
  readonly storages: SimStorage[] = []
  /** What deleted generations held, by the note's block. */
  readonly notes: Map<number, { generations: Position[]; requests: Map<number, Part> }> = new Map()
  now = 1_000
  step = 0
  readonly #weather: Weather
  readonly #trace: ((line: string) => void) | null
  /** Who may write, by epoch (from 1). */
  readonly #configs: SimWriter[][] = [[]]
  readonly #images = new Map<SimNode, Image>()
  #blocks = 0
  #operations = 0

  constructor(seed: number, trace: ((line: string) => void) | null = null) {
    this.seed = seed
    this.#trace = trace
    const random = randomOf(seed)
    this.random = random
    const { chance, int, pick } = random
    this.#weather = weatherOf(random)
    const faulty = chance(0.7)
    this.net = new SimNetwork(random, {
      reorder: faulty ? 0.2 : 0,
      repeat: faulty ? 0.05 : 0,
      lose: faulty ? 0.05 : 0
    })
    this.checks = new Checks(this)
    for (let i = int(1, 3); i > 0; i--) {
      const storage = new SimStorage(this, id(0xa0 + i), `s${i}`, 'index')
      this.storages.push(storage)
    }
    for (let i = int(1, 3); i > 0; i--) {
      const writer = new SimWriter(this, id(0xb0 + i), `w${i}`, 'outbox')
      writer.durability = pick(['sync', 'sync', 'os'])
      this.writers.push(writer)
      for (const storage of this.storages) this.net.add(writer, storage)
    }
    this.#configs.push(this.writers)
    for (const writer of this.writers) writer.epoch = 1
  }

  /** @throws Finding */
  run(): void {
    for (const node of this.#nodes) node.start()
    const { steps } = this.#weather
    for (this.step = 0; this.step < steps; this.step++) this.#roughStep()
    this.#log('calm')
    this.#calm()
    this.checks.atRest()
  }

  fail(text: string): never {
    throw new Finding(text, this.step)
  }

  block(
    content: DecodedBlock | null,
    operations: readonly number[] = [],
    changes: readonly IndexChange[] = [],
    requests: readonly number[] = []
  ): SimBlock {
    return { id: ++this.#blocks, content, operations, changes, requests }
  }

  operation(number: number): DecodedOperation {
    return { type: 'put', key: keyAt(number).encoded, value }
  }

  /** The operation whose entry it is; null: it is no entry. */
  operationOf(key: Uint8Array): number | null {
    return operationsByName.get(nameOf(key)) ?? null
  }

  keyOf(operation: number): string {
    return keyAt(operation).name
  }

  ownerOf(key: Uint8Array): SimStorage {
    return this.#ownerOf(operationsByName.get(nameOf(dataKey(key))) ?? 0)
  }

  requestBytes(request: number): Uint8Array {
    const bytes = Buffer.alloc(16)
    bytes.writeUInt32BE(request)
    return bytes
  }

  hashOf(epoch: number): string {
    return epoch.toString(16).padStart(64, '0')
  }

  writersOf(epoch: number): readonly SimWriter[] {
    return this.#configs[epoch] ?? []
  }

  nameOf(node: string): string {
    return this.#nodes.find((one) => one.id === node)?.name ?? node
  }

  get #nodes(): SimNode[] {
    return [...this.storages, ...this.writers]
  }

  #ownerOf(operation: number): SimStorage {
    return this.storages[operation % this.storages.length] as SimStorage
  }

  #roughStep(): void {
    const { chance, pick, int } = this.random
    const weather = this.#weather
    if (chance(0.2)) this.now += int(0, 20)
    if (chance(weather.flush)) return this.#flush()
    if (chance(0.02)) return pick(this.writers).isUp ? this.#poll() : undefined
    if (chance(0.05)) return this.net.connect(pick(this.net.links))
    if (chance(weather.cut)) return this.#cut()
    if (chance(weather.kill)) return this.#stop('kill')
    if (chance(weather.power)) return this.#stop('power')
    if (chance(weather.restart)) return this.#stop('clean')
    if (chance(weather.backup)) return this.#backup()
    if (chance(weather.restore)) return this.#restore()
    if (chance(weather.config)) return this.#configure()
    if (chance(0.03)) return this.#adopt(pick(this.#nodes))
    if (chance(weather.clockBack)) {
      this.now = Math.max(0, this.now - int(0, 500))
      return this.#log('the clock goes back')
    }
    const down = this.#nodes.filter(({ isRunning }) => !isRunning)
    if (down.length > 0 && chance(0.1)) return this.#start(pick(down))
    this.#work(false)
  }

  #work(fair: boolean): boolean {
    const { chance, pick } = this.random
    const busy = this.net.busy
    const ready: { node: SimNode; worker: Worker }[] = []
    for (const node of this.#nodes) {
      if (!node.isRunning) continue
      for (const worker of node.workers)
        if (worker.busy || worker.isReady()) ready.push({ node, worker })
    }
    if (busy.length > 0 && (ready.length === 0 || chance(0.4))) {
      this.net.deliver(pick(busy), fair)
      return true
    }
    if (ready.length === 0) return false
    const { node, worker } = pick(ready)
    const { value: effect } = worker.task.next()
    worker.busy = effect !== 'idle'
    if (this.#trace && effect && effect !== 'idle') {
      this.#log(`${node.name} ${worker.name}: next ${effect}`)
    } else if (effect === undefined) node.workers = node.workers.filter((one) => one !== worker)
    return true
  }

  #flush(): void {
    const { chance, int, pick } = this.random
    const writer = pick(this.writers)
    if (!writer.isUp) return
    const operations = new Map<SimStorage, number[]>()
    for (let i = chance(0.7) ? int(1, 2) : int(3, 6); i > 0; i--) {
      const operation = this.#operations++
      const owner = this.#ownerOf(operation)
      operations.set(owner, [...(operations.get(owner) ?? []), operation])
    }
    this.#log(`${writer.name} flushes ${[...operations.values()].flat().join(', ')}`)
    writer.flush(operations)
  }

  #poll(): void {
    for (const writer of this.writers) if (writer.isUp) writer.poll()
  }

  #cut(): void {
    this.net.disconnect(this.random.pick(this.net.links))
  }

  #start(node: SimNode): void {
    const { chance } = this.random
    if (chance(this.#weather.marksLost)) {
      node.disk.marks.clear()
      node.disk.header = null
      this.#log(`${node.name} has lost its marks`)
    }
    this.#log(`${node.name} starts`)
    node.start()
  }

  #stop(how: 'kill' | 'power' | 'clean'): void {
    const node = this.random.pick(this.#nodes)
    if (!node.isRunning) return
    const { disk } = node
    if (how === 'clean') {
      // It ends what it is doing first; what cannot be done now is left for the next start.
      if (!node.isUp) return
      disk.endSync(disk.beginSync())
      disk.kill()
      if (disk.header) disk.header = { ...disk.header, clean: node.workers.every(isIdle) }
    }
    node.stop()
    if (how === 'kill') disk.kill()
    if (how === 'power') {
      const lost = disk.power(this.random)
      this.#log(`${node.name} loses its power, and ${lost} writes`)
      if (node instanceof SimWriter && node.durability === 'os') this.checks.writerLost(node)
    } else this.#log(`${node.name} stops: ${how}`)
  }

  #backup(): void {
    const node = this.random.pick(this.#nodes)
    this.#images.set(node, node.disk.image())
    this.#log(`${node.name} is backed up`)
  }

  #restore(): void {
    const node = this.random.pick(this.#nodes)
    const image = this.#images.get(node)
    if (!image) return
    node.stop()
    this.now += 50
    node.disk.restore(image)
    this.#log(`${node.name} is restored`)
    if (node instanceof SimWriter) this.checks.writerLost(node)
    else this.checks.storageRestored(node as SimStorage)
  }

  /** A next epoch: with a writer less, or one more. */
  #configure(): void {
    const { chance, pick } = this.random
    const present = this.#configs.at(-1) ?? []
    const absent = this.writers.filter((writer) => !present.includes(writer))
    const gone = pick(this.writers)
    const next =
      absent.length > 0 && chance(0.6)
        ? [...present, pick(absent)]
        : present.filter((writer) => writer !== gone)
    this.#configs.push(next)
    this.#log(`epoch ${this.#configs.length - 1}: writers ${next.map(({ name }) => name).join()}`)
  }

  #adopt(node: SimNode): void {
    if (!node.isUp) return
    const epoch = this.#configs.length - 1
    if (node instanceof SimWriter) node.adopt(epoch)
    else (node as SimStorage).adopt(epoch)
  }

  /** No faults any more: everything comes to rest, or does not. */
  #calm(): void {
    this.#configs.push(this.writers)
    this.now += 1_000
    for (const node of this.#nodes) if (!node.isRunning) node.start()
    this.#rest()
    for (const node of this.#nodes) this.#adopt(node)
    for (let round = 0; round < 3; round++) {
      for (const link of this.net.links) {
        this.net.disconnect(link)
        this.net.connect(link)
      }
      this.#rest()
      this.#poll()
      this.#rest()
    }
  }

  #rest(): void {
    for (let count = 0; this.#work(true); count++) {
      this.step++
      if (count > restStepsMax) this.fail('nothing comes to rest')
    }
  }

  #log(line: string): void {
    this.#trace?.(`${String(this.step).padStart(5)}  ${line}`)
  }
}

function isIdle({ busy, isReady }: Worker): boolean {
  return !busy && !isReady()
}

function id(byte: number): string {
  return byte.toString(16).padStart(2, '0').repeat(32)
}

function weatherOf({ chance, int }: Random): Weather {
  const some = (p: number, strength: number): number => (chance(p) ? strength : 0)
  const restore = some(0.25, 0.006)
  return {
    steps: int(150, 500),
    kill: some(0.5, 0.01),
    power: some(0.6, 0.015),
    restart: some(0.4, 0.008),
    marksLost: some(0.2, 0.2),
    backup: restore > 0 ? 0.02 : 0,
    restore,
    cut: some(0.6, 0.01),
    config: some(0.5, 0.02),
    clockBack: restore > 0 ? 0 : some(0.2, 0.01),
    flush: chance(0.5) ? 0.05 : 0.1
  }
}
