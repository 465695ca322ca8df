/**
 * The nodes of the crash tests: three storage nodes and three writers under load, each a process that is
 * killed and started again, and what the writers' callers were told in all of their lives.
 */
import type { Test } from 'tape'
import { deadline } from '../helpers/events.ts'
import { type Running, spawnProgram, spawnSource } from '../helpers/process.ts'
import type { Random } from '../helpers/random.ts'
import { Facts } from './load.ts'
import type { Order } from './load-writer.ts'
import type { Site } from './site.ts'

export const storageNames: readonly string[] = ['a', 'b', 'c']
export const writerNames: readonly string[] = ['x', 'y', 'z']
/** The program of a writer. */
export const writerFile = 'test/e2e/load-writer.ts'
/** Flushes without a receipt that a writer keeps under way. */
const window = 24
/** Tags of each writer, and of all together. */
const tagsEach = 8

/** One node, through all of its lives. */
export interface Member {
  readonly name: string
  readonly isWriter: boolean
  life: Running
  /** It listens, or writes. */
  ready: boolean
  /** It was ready when it was last killed. */
  wasReady: boolean
  /** How much of its stdout has been read. */
  read: number
  /** We killed it. */
  killed: boolean
}

/** All nodes, and what the writers' callers were told. */
export class Crowd {
  readonly facts: Facts = new Facts()
  readonly members: Member[] = []
  readonly #t: Test
  readonly #site: Site
  readonly #random: Random
  readonly #tags: Map<string, string[]>
  #fault: Error | null = null
  warnings = 0
  /** Time for which everything stood still. */
  lookMs = 0

  readonly #load: Pick<Order, 'padding' | 'rotation'>
  readonly #writerCommand: readonly string[] | null

  /** @param writerCommand how to start a writer. @default from its source */
  constructor(
    t: Test,
    site: Site,
    random: Random,
    load: Pick<Order, 'padding' | 'rotation'> = { padding: 0, rotation: {} },
    writerCommand: readonly string[] | null = null
  ) {
    this.#load = load
    this.#writerCommand = writerCommand
    this.#t = t
    this.#site = site
    this.#random = random
    // Each writer has tags of its own, and all have some in common.
    const own = (name: string): string[] =>
      Array.from({ length: tagsEach }, (_, i) => `${name}${i}`)
    this.#tags = new Map(writerNames.map((name) => [name, [...own(name), ...own('all')]]))
  }

  /** Starts a node, anew or again. */
  start(name: string, mode: Order['mode'] = 'load'): Member {
    const isWriter = writerNames.includes(name)
    const life = isWriter ? this.#writer(name, mode) : this.#site.start(name, ['listen'])
    let member = this.members.find((one) => one.name === name)
    if (member === undefined) {
      member = { name, isWriter, life, ready: false, wasReady: false, read: 0, killed: false }
      this.members.push(member)
    } else Object.assign(member, { life, ready: false, read: 0, killed: false })
    const current = member
    // A writer is up when it writes, a storage node when it listens.
    life.line(isWriter ? 1 : 0, 60_000).then(
      () => {
        if (current.life === life) current.ready = true
      },
      (error: Error) => {
        if (current.life === life && !current.killed) this.#fault ??= error
      }
    )
    return member
  }

  #writer(name: string, mode: Order['mode']): Running {
    const order: Order = {
      mode,
      writer: name,
      storage: this.#site.directory(name),
      configPath: this.#site.configPath,
      bootstrap: this.#site.bootstrap,
      seed: this.#random.int(0, 2 ** 31 - 1),
      next: this.facts.of(name).length,
      window,
      tags: this.#tags.get(name) ?? [],
      ...this.#load
    }
    const argument = JSON.stringify(order)
    return this.#writerCommand === null
      ? spawnSource(this.#t, writerFile, [argument])
      : spawnProgram(this.#t, [...this.#writerCommand, argument])
  }

  /** Takes in what the writers have told since. @throws when a node failed or ended by itself */
  hear(): void {
    for (const member of this.members) {
      if (!member.isWriter) continue
      const { stdout } = member.life
      const end = stdout.lastIndexOf('\n') + 1
      const text = stdout.slice(member.read, end)
      member.read = end
      for (const line of text.split('\n').slice(0, -1)) this.facts.add(member.name, line)
    }
    if (this.#fault) throw this.#fault
  }

  /** The crash of some nodes: all others stand still while `look` reads the disks. */
  async crash(victims: readonly Member[], look: () => Promise<void>): Promise<void> {
    const others = this.members.filter((member) => !victims.includes(member))
    for (const { life } of others) life.kill('SIGSTOP')
    for (const victim of victims) {
      victim.killed = true
      victim.wasReady = victim.ready
      victim.ready = false
      victim.life.kill('SIGKILL')
    }
    for (const { life, name } of victims) {
      const { code, signal } = await life.exit
      if (signal !== 'SIGKILL') throw new Error(`${name} had ended with ${code}: ${life.stderr}`)
    }
    this.hear()
    const from = performance.now()
    await look()
    this.lookMs += performance.now() - from
    for (const { life } of others) life.kill('SIGCONT')
    for (const { life } of victims) this.warnings += warningsIn(life)
  }

  /** Ends all writers as SIGTERM does; then everything that they have called is known to be on disk. */
  async endWriters(): Promise<void> {
    const writers = this.members.filter(({ isWriter }) => isWriter)
    for (const member of writers) {
      member.killed = true
      member.life.kill('SIGTERM')
    }
    for (const { life, name } of writers) {
      const { code } = await deadline(life.exit, 30_000, `the end of ${name} after close()`)
      if (code !== 0) throw new Error(`${name} ended with ${code}: ${life.stdout.slice(-500)}`)
      this.warnings += warningsIn(life)
    }
    this.hear()
  }
}

function warningsIn({ stderr }: Running): number {
  return stderr.split('\n').length - 1
}
