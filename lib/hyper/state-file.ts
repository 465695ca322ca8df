/**
 * What a node has adopted and learnt, in one small file that is replaced whole: its configuration, and the
 * signed generation records of other nodes, without which a copy of their indexes could not be read offline.
 */
import { readFile } from 'node:fs/promises'
import { KVSwarmError, messageOf } from '../errors.ts'
import type { NodeId } from '../types.ts'
import { fileIn, replaceFile } from './datadir.ts'

const formatVersion = 1

interface Content {
  readonly format: number
  readonly node: NodeId
  /** Canonical text of the adopted configuration, or null. */
  readonly config: string | null
  /** Signed generation records, base64, by the log that they are about. */
  readonly records: Readonly<Record<string, string>>
}

export class StateFile {
  readonly #path: string
  readonly #readOnly: boolean
  #content: Content
  #writing: Promise<void> = Promise.resolve()
  #dirty = false

  private constructor(path: string, readOnly: boolean, content: Content) {
    this.#path = path
    this.#readOnly = readOnly
    this.#content = content
  }

  /** @throws DATADIR_DAMAGED, DATADIR_FOREIGN, DATADIR_VERSION */
  static async open(directory: string, node: NodeId, readOnly = false): Promise<StateFile> {
    const path = fileIn(directory, 'state')
    const content = await read(path)
    if (content !== null && content.node !== node) {
      throw new KVSwarmError(
        'DATADIR_FOREIGN',
        `${path} is of node ${content.node}, the store is of node ${node}`,
        { hint: 'the directory was mixed from two: restore it from a backup' }
      )
    }
    const file = new StateFile(
      path,
      readOnly,
      content ?? { format: formatVersion, node, config: null, records: {} }
    )
    if (content === null && !readOnly) await file.#save()
    return file
  }

  get config(): string | null {
    return this.#content.config
  }

  get records(): Uint8Array[] {
    return Object.values(this.#content.records).map((text) => Buffer.from(text, 'base64'))
  }

  record(log: string): Uint8Array | null {
    const text = Object.hasOwn(this.#content.records, log) ? this.#content.records[log] : undefined
    return text === undefined ? null : Buffer.from(text, 'base64')
  }

  /** Resolves when the configuration is durable. */
  async setConfig(text: string): Promise<void> {
    if (text === this.#content.config && !this.#dirty) return await this.#writing
    this.#content = { ...this.#content, config: text }
    await this.#save()
  }

  /** Resolves when the record is durable. */
  async setRecord(log: string, record: Uint8Array): Promise<void> {
    const text = Buffer.from(record).toString('base64')
    if (this.#content.records[log] === text && !this.#dirty) return
    this.#content = { ...this.#content, records: { ...this.#content.records, [log]: text } }
    await this.#save()
  }

  /** Resolves when everything set so far is on disk. */
  async close(): Promise<void> {
    await this.#writing.catch(() => {})
  }

  #save(): Promise<void> {
    if (this.#readOnly) return Promise.resolve()
    this.#dirty = true
    // One write at a time; changes that come meanwhile share the next one.
    const next = this.#writing
      .catch(() => {})
      .then(async () => {
        if (!this.#dirty) return
        this.#dirty = false
        try {
          await replaceFile(this.#path, `${JSON.stringify(this.#content, null, 1)}\n`)
        } catch (error) {
          this.#dirty = true
          throw error
        }
      })
    this.#writing = next
    return next
  }
}

async function read(path: string): Promise<Content | null> {
  let text: string
  try {
    text = await readFile(path, 'utf8')
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return null
    throw new KVSwarmError('DATADIR_UNREADABLE', `${path} cannot be read: ${messageOf(error)}`, {
      hint: 'check its permissions',
      cause: error
    })
  }
  let content: Partial<Content>
  try {
    content = JSON.parse(text) as Partial<Content>
  } catch (error) {
    throw damaged(path, messageOf(error), error)
  }
  if (typeof content.format === 'number' && content.format > formatVersion) {
    throw new KVSwarmError(
      'DATADIR_VERSION',
      `${path} has format ${content.format}, this program knows ${formatVersion}`,
      { hint: 'use the newer kvswarm that wrote it' }
    )
  }
  if (
    content.format !== formatVersion ||
    typeof content.node !== 'string' ||
    (content.config !== null && typeof content.config !== 'string') ||
    typeof content.records !== 'object' ||
    content.records === null
  ) {
    throw damaged(path, 'it lacks a field')
  }
  return content as Content
}

function damaged(path: string, what: string, cause?: unknown): KVSwarmError {
  return new KVSwarmError('DATADIR_DAMAGED', `${path} is damaged: ${what}`, {
    hint: 'restore that file from a backup; without it the node must be given the very configuration that it had adopted',
    cause
  })
}
