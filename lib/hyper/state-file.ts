/**
 * What a node has adopted and learnt, in one small file that is replaced whole: its configuration, and the
 * signed generation records of other nodes, without which a copy of their indexes could not be read offline.
 */
import { readFile } from 'node:fs/promises'
import { hash } from 'hypercore-crypto'
import { KVSwarmError, messageOf } from '../errors.ts'
import type { NodeId } from '../types.ts'
import { fileIn, replaceFile } from './datadir.ts'

/** 2: with a checksum, since a flipped bit can leave a configuration that is valid and another one. */
const formatVersion = 2

interface Content {
  readonly node: NodeId
  /** Canonical text of the adopted configuration, or null. */
  readonly config: string | null
  /** Signed generation records, base64, by the log that they are about. */
  readonly records: Readonly<Record<string, string>>
}

export class StateFile {
  /** False: there was no such file when it was opened. */
  readonly isThere: boolean
  readonly #path: string
  readonly #readOnly: boolean
  #content: Content
  #writing: Promise<void> = Promise.resolve()
  #dirty = false

  private constructor(path: string, readOnly: boolean, content: Content, isThere: boolean) {
    this.isThere = isThere
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
      content ?? { node, config: null, records: {} },
      content !== null
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
          await replaceFile(this.#path, textOf(this.#content))
        } catch (error) {
          this.#dirty = true
          throw error
        }
      })
    this.#writing = next
    return next
  }
}

/** The file's text. */
function textOf({ node, config, records }: Content): string {
  const content = { format: formatVersion, checksum: '', node, config, records }
  return `${JSON.stringify({ ...content, checksum: checksumOf(content) }, null, 1)}\n`
}

/** BLAKE2b-256 of the content as compact JSON, in this order. */
function checksumOf({ node, config, records }: Content): string {
  return hash(Buffer.from(JSON.stringify([node, config, records]))).toString('hex')
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
  let content: Partial<Content & { format: number; checksum: string }> | null
  try {
    content = JSON.parse(text) as Partial<Content & { format: number; checksum: string }> | null
  } catch (error) {
    throw damaged(path, messageOf(error), error)
  }
  if (typeof content !== 'object' || content === null) throw damaged(path, 'it is no object')
  const { format, checksum, node, config, records } = content
  if (typeof format === 'number' && format > formatVersion) {
    throw new KVSwarmError(
      'DATADIR_VERSION',
      `${path} has format ${format}, this program knows ${formatVersion}`,
      { hint: 'use the newer kvswarm that wrote it, or restore that file from a backup' }
    )
  }
  if (
    (format !== 1 && format !== 2) ||
    typeof node !== 'string' ||
    (config !== null && typeof config !== 'string') ||
    typeof records !== 'object' ||
    records === null
  ) {
    throw damaged(path, 'it lacks a field')
  }
  const found = { node, config, records }
  if (format === 2 && checksum !== checksumOf(found)) throw damaged(path, 'its checksum is wrong')
  return found
}

function damaged(path: string, what: string, cause?: unknown): KVSwarmError {
  return new KVSwarmError('DATADIR_DAMAGED', `${path} is damaged: ${what}`, {
    hint: 'restore the directory from a backup (kvswarm restore), or remove that file: the node then needs the very configuration that it had adopted (-c)',
    cause,
    data: { file: path }
  })
}
