/**
 * Backup and restore of a data directory.
 *
 * - A backup is a consistent state of the whole store, read through the store (so every checksum is verified on the
 *   way), also while another process holds the directory: what was acknowledged before it began is in it.
 * - It is there whole or not at all: made beside, synced, and renamed; a manifest names every file with its hash.
 * - It holds the secret key, so it is as private as the directory: folders 0700, files 0600.
 * - A restored directory is the same node, and appends to none of its old logs: others may have more of them than
 *   the backup. Each continues under a new generation.
 */
import { createHash } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { chmod, copyFile, mkdir, readdir, readFile, rename, rm, stat } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import HypercoreStorage from 'hypercore-storage'
import RandomAccessFile from 'random-access-file'
import { backupChunkBytes, backupTriesMax } from '../../config/limits.ts'
import { isKVSwarmError, KVSwarmError, messageOf } from '../errors.ts'
import type { NodeId } from '../types.ts'
import { syncFolder } from './barrier.ts'
import { fileIn, files, replaceFile, syncFile } from './datadir.ts'
import { diskError, troubleOf } from './disk-errors.ts'
import { isSealed, Marks } from './marks.ts'
import { StateFile } from './state-file.ts'
import { Store, walRecoveryTolerateTail } from './store.ts'

const manifestName = 'kvswarm.backup'
const formatVersion = 1

export interface BackupOptions {
  readonly signal?: AbortSignal
}

/** What a backup or a restore was about. */
export interface BackupResult {
  readonly node: NodeId
  /** Bytes of all files. */
  readonly bytes: number
  readonly files: number
  /** Unix milliseconds: when the backup was made. */
  readonly created: number
}

interface Manifest {
  readonly format: number
  readonly node: NodeId
  readonly created: number
  readonly files: Readonly<Record<string, { readonly bytes: number; readonly hash: string }>>
}

/**
 * Copies a data directory, held or not, to a folder that does not exist yet (or is empty).
 * @throws INVALID_ARGUMENT when the folder holds something; DATADIR_UNREADABLE, DATADIR_OPEN, DATADIR_FOREIGN,
 * DATADIR_DAMAGED when the directory is not whole; DISK_FULL, IO_ERROR, ABORTED
 */
export async function backup(
  directory: string,
  destination: string,
  { signal }: BackupOptions = {}
): Promise<BackupResult> {
  return await makeWhole(destination, async (part) => {
    for (let tries = 1; ; tries++) {
      try {
        const node = await copyNode(directory, part, signal)
        return await writeManifest(part, node)
      } catch (error) {
        // Files can go while they are read: the holder puts the store in order. Then it is begun again.
        const again = isKVSwarmError(error, 'DATADIR_DAMAGED') && tries < backupTriesMax
        if (!again) throw error
        await emptyFolder(part)
      }
    }
  })
}

/**
 * Makes a data directory of a backup, or of a data directory that was copied by other means. It is the same node: the
 * original must never run again.
 * @throws INVALID_ARGUMENT when the directory holds something, or the source is none; BACKUP_DAMAGED;
 * DATADIR_IN_USE when a process uses the source; what backup() throws
 */
export async function restore(
  source: string,
  directory: string,
  { signal }: BackupOptions = {}
): Promise<BackupResult> {
  const manifest = await readManifest(source)
  if (manifest === null) await mustBeFree(source)
  return await makeWhole(directory, async (part) => {
    let result: BackupResult
    if (manifest === null) {
      const node = await copyNode(source, part, signal)
      result = await measure(part, node)
    } else {
      result = await copyBackup(source, part, manifest, signal)
    }
    // Opened once: without marks, and with nothing that ties it to a place, all its logs are sealed.
    const store = await Store.open({ directory: part, durability: 'sync' })
    const { nodeId } = store
    await store.close()
    if (nodeId !== result.node) throw damagedBackup(source, `it is of node ${nodeId}`)
    return result
  })
}

/** Copies the store's content, and what the node has adopted. @returns the node */
async function copyNode(
  directory: string,
  to: string,
  signal: AbortSignal | undefined
): Promise<NodeId> {
  // First the marks, then the store: a mark is never ahead of its log.
  const marks = await Marks.read(fileIn(directory, 'marks'))
  // The checks of an opening, and the node's id.
  const source = await Store.open({ directory, durability: 'sync', readOnly: true })
  const node = source.nodeId
  await source.close()
  await copyStore(directory, to, signal)
  const state = await StateFile.open(directory, node, true)
  if (state.isThere) await copyFile(fileIn(directory, 'state'), fileIn(to, 'state'))
  await checkCopy(
    to,
    marks.filter((mark) => mark.name.node === node && !isSealed(mark))
  )
  return node
}

async function copyStore(
  directory: string,
  to: string,
  signal: AbortSignal | undefined
): Promise<void> {
  const walRecoveryMode = walRecoveryTolerateTail
  const from = new HypercoreStorage(directory, { walRecoveryMode, readOnly: true })
  const copy = new HypercoreStorage(to, { walRecoveryMode, allowBackup: true })
  from._maybeRecoverLater = () => {}
  try {
    await from.db.ready()
    await copy.db.ready()
    let pieces: { key: Buffer; value: Buffer }[] = []
    let bytes = 0
    const write = async (): Promise<void> => {
      const batch = copy.db.write({ autoDestroy: true })
      for (const { key, value } of pieces) batch.tryPut(key, value)
      pieces = []
      bytes = 0
      await batch.flush()
    }
    for await (const piece of from.db.iterator({}, { capacity: 16 })) {
      if (signal?.aborted) throw new KVSwarmError('ABORTED', 'the backup was aborted')
      pieces.push(piece)
      bytes += piece.key.length + piece.value.length
      if (bytes >= backupChunkBytes) await write()
    }
    await write()
    await copy.db.flush()
  } catch (error) {
    throw diskError(error, `copying the store in ${directory}`)
  } finally {
    await from.close().catch(() => {})
    await copy.close().catch(() => {})
  }
}

/** Every log that the node has announced is in the copy, as long as it was. */
async function checkCopy(to: string, marks: Awaited<ReturnType<typeof Marks.read>>): Promise<void> {
  const store = await Store.open({ directory: to, durability: 'sync', readOnly: true })
  try {
    for (const mark of marks) await store.checkMark(mark)
  } finally {
    await store.close()
  }
}

async function writeManifest(folder: string, node: NodeId): Promise<BackupResult> {
  const list: Record<string, { bytes: number; hash: string }> = {}
  await chmod(join(folder, files.database), 0o700)
  for (const name of (await filesIn(folder)).toSorted()) {
    const path = join(folder, name)
    await chmod(path, 0o600)
    const { size } = await stat(path)
    list[name] = { bytes: size, hash: await hashOf(path) }
  }
  const manifest: Manifest = { format: formatVersion, node, created: Date.now(), files: list }
  const body = JSON.stringify(manifest)
  const checksum = createHash('sha256').update(body).digest('hex')
  await replaceFile(join(folder, manifestName), `${checksum}\n${body}\n`)
  return resultOf(manifest)
}

/** @returns null when the folder is no backup @throws BACKUP_DAMAGED, DATADIR_VERSION, INVALID_ARGUMENT */
async function readManifest(source: string): Promise<Manifest | null> {
  let text: string
  try {
    text = await readFile(join(source, manifestName), 'utf8')
  } catch (error) {
    const names: string[] = await readdir(source).catch(() => [])
    if (names.includes(files.database)) return null
    throw new KVSwarmError('INVALID_ARGUMENT', `${source} is no backup of a data directory`, {
      hint: 'name the folder that kvswarm backup made',
      cause: error
    })
  }
  const [checksum, body = ''] = text.split('\n')
  if (checksum !== createHash('sha256').update(body).digest('hex')) {
    throw damagedBackup(source, `the checksum of ${manifestName} is wrong`)
  }
  const manifest = JSON.parse(body) as Manifest
  if (manifest.format > formatVersion) {
    throw new KVSwarmError(
      'DATADIR_VERSION',
      `the backup ${source} has format ${manifest.format}, this program knows ${formatVersion}`,
      { hint: 'use the newer kvswarm that made it' }
    )
  }
  return manifest
}

async function copyBackup(
  source: string,
  to: string,
  manifest: Manifest,
  signal: AbortSignal | undefined
): Promise<BackupResult> {
  await mkdir(join(to, files.database), { mode: 0o700 })
  for (const [name, { hash: expected }] of Object.entries(manifest.files)) {
    if (signal?.aborted) throw new KVSwarmError('ABORTED', 'the restore was aborted')
    const path = join(to, name)
    try {
      await copyFile(join(source, name), path)
    } catch (error) {
      if (troubleOf(error) === 'full') throw diskError(error, `copying ${name}`)
      throw damagedBackup(source, `${name} cannot be read: ${messageOf(error)}`, error)
    }
    // The copy is hashed: that it was written as it is there is checked as well.
    if ((await hashOf(path)) !== expected) throw damagedBackup(source, `${name} is another file`)
    await chmod(path, 0o600)
  }
  return resultOf(manifest)
}

/** Makes a folder beside, fills it, syncs it, and gives it its name. */
async function makeWhole(
  target: string,
  fill: (part: string) => Promise<BackupResult>
): Promise<BackupResult> {
  await mustBeEmpty(target)
  const part = `${target.replace(/\/+$/, '')}.part`
  await mkdir(dirname(part), { recursive: true })
  await mustBeOurs(part)
  await rm(part, { recursive: true, force: true })
  await mkdir(part, { mode: 0o700 })
  try {
    const result = await fill(part)
    for (const name of await filesIn(part)) await syncFile(join(part, name))
    await syncFolder(part)
    await rename(part, target)
    await syncFolder(dirname(target))
    return result
  } catch (error) {
    await rm(part, { recursive: true, force: true }).catch(() => {})
    throw diskError(error, `making ${target}`)
  }
}

async function mustBeEmpty(folder: string): Promise<void> {
  const names = await readdir(folder).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return []
    throw new KVSwarmError('INVALID_ARGUMENT', `${folder} cannot be used: ${error.message}`, {
      hint: 'name a folder that does not exist yet',
      cause: error
    })
  })
  if (names.length === 0) return
  throw new KVSwarmError('INVALID_ARGUMENT', `${folder} is not empty, and nothing is overwritten`, {
    hint: 'name a folder that does not exist yet'
  })
}

/** What an interrupted run has left may go; anything else may not. */
async function mustBeOurs(part: string): Promise<void> {
  const known = new Set<string>([...Object.values(files), manifestName, 'kvswarm.json.new'])
  const names = await readdir(part).catch(() => [])
  const foreign = names.find((name) => !known.has(name))
  if (foreign === undefined) return
  throw new KVSwarmError('INVALID_ARGUMENT', `${part} is in the way: it holds ${foreign}`, {
    hint: 'move it away; a folder of that name is made on the way'
  })
}

/** @throws DATADIR_IN_USE when a process has the directory's lock */
async function mustBeFree(directory: string): Promise<void> {
  const path = join(directory, 'kvswarm.lock')
  if (!(await stat(path).catch(() => null))) return
  const file = new RandomAccessFile(path, { lock: true, writable: true })
  const error = await new Promise<Error | null>((resolve) => {
    file.open(resolve)
  })
  if (error === null) {
    await new Promise<void>((resolve) => {
      file.close(() => resolve())
    })
    return
  }
  throw new KVSwarmError('DATADIR_IN_USE', `a process uses the data directory ${directory}`, {
    hint: `a node must not run twice: end it (kvswarm stop -d ${directory}), or restore a backup of it`,
    cause: error
  })
}

async function emptyFolder(folder: string): Promise<void> {
  for (const name of await readdir(folder)) await rm(join(folder, name), { recursive: true })
}

/** Files of a folder and those below, by their path in it. */
async function filesIn(folder: string): Promise<string[]> {
  const entries = await readdir(folder, { recursive: true, withFileTypes: true })
  return entries
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name).slice(folder.length + 1))
}

async function measure(folder: string, node: NodeId): Promise<BackupResult> {
  const names = await filesIn(folder)
  let bytes = 0
  for (const name of names) bytes += (await stat(join(folder, name))).size
  return { node, bytes, files: names.length, created: Date.now() }
}

function resultOf({ node, created, files: list }: Manifest): BackupResult {
  const sizes = Object.values(list)
  return {
    node,
    created,
    files: sizes.length,
    bytes: sizes.reduce((sum, { bytes }) => sum + bytes, 0)
  }
}

/** SHA-256 of a file's content. */
async function hashOf(path: string): Promise<string> {
  const digest = createHash('sha256')
  for await (const chunk of createReadStream(path)) digest.update(chunk as Buffer)
  return digest.digest('hex')
}

function damagedBackup(source: string, what: string, cause?: unknown): KVSwarmError {
  return new KVSwarmError('BACKUP_DAMAGED', `the backup ${source} is damaged: ${what}`, {
    hint: 'use another backup',
    cause
  })
}
