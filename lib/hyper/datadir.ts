/**
 * The data directory as such: ours, private, whole. Checked before anything in it is opened or written.
 *
 * Secret keys lie in the store in clear, so a directory that others can read is refused. A directory with
 * anything in it that is not ours is refused too, rather than mixed with another program's files.
 */
import { chmod, mkdir, open, readdir, readFile, rename, rm, stat } from 'node:fs/promises'
import { dirname, join, resolve } from 'node:path'
import { KVSwarmError, messageOf } from '../errors.ts'
import { syncFolder } from './barrier.ts'
import { damagedError, diskError, troubleOf } from './disk-errors.ts'

/** Files and folders that kvswarm makes in its data directory. */
export const files = {
  /** Written first: says that the directory is kvswarm's, and what this node has adopted. */
  state: 'kvswarm.json',
  marks: 'kvswarm.marks',
  /** Made by the storage library. */
  device: 'CORESTORE',
  database: 'db'
} as const

/** Prefix of everything of ours besides the storage library's two names. */
const ours = /^(?:kvswarm\.|CORESTORE$|db$)/

/**
 * Makes the directory (mode 0700) or checks an existing one.
 * @returns whether it holds a store already
 * @throws DATADIR_UNREADABLE, DATADIR_OPEN, DATADIR_FOREIGN
 */
export async function prepareDirectory(directory: string, create: boolean): Promise<boolean> {
  const names = await namesIn(directory, create)
  const { mode, uid } = await stat(directory)
  const me = process.getuid?.()
  if (me !== undefined && uid !== me) {
    throw new KVSwarmError(
      'DATADIR_FOREIGN',
      `the data directory ${directory} belongs to user id ${uid}, this process runs as ${me}`,
      { hint: 'run as its owner, or name another directory' }
    )
  }
  // First of all: nobody should be told to close a directory that is not ours.
  const foreign = names.filter((name) => !ours.test(name))
  if (foreign.length > 0) {
    throw new KVSwarmError(
      'DATADIR_FOREIGN',
      `the directory ${directory} holds files that are not kvswarm's, such as ${JSON.stringify(foreign[0])}`,
      { hint: 'name an empty or a new directory' }
    )
  }
  if (process.platform !== 'win32' && (mode & 0o077) !== 0) {
    if (names.length > 0) {
      throw new KVSwarmError(
        'DATADIR_OPEN',
        `the data directory ${directory} can be read by others (mode ${(mode & 0o777).toString(8)}), and secret keys lie in it`,
        { hint: `run: chmod 700 ${directory}` }
      )
    }
    // An empty directory that the user made for us: nothing secret was in it yet.
    await chmod(directory, 0o700)
  }
  return names.includes(files.device) || names.includes(files.database)
}

/** What an existing directory says of itself before its store is opened. */
export interface Contents {
  /** A store was made here and is of a known node: it may be damaged, but it is not new. */
  readonly established: boolean
  /** The file that ties the store to this place is there; else this may be one of two copies. */
  readonly tied: boolean
}

/** @throws DATADIR_DAMAGED when the store, or the file that names its newest state, is gone */
export async function contents(directory: string): Promise<Contents> {
  const sizeOf = async (path: string): Promise<number | null> =>
    await stat(path).then(
      ({ size }) => size,
      () => null
    )
  const tied = (await sizeOf(fileIn(directory, 'device'))) !== null
  const state = await sizeOf(fileIn(directory, 'state'))
  const marks = await sizeOf(fileIn(directory, 'marks'))
  const established = state !== null || (marks ?? 0) > 0
  const current = join(fileIn(directory, 'database'), 'CURRENT')
  if (established && (await sizeOf(current)) === null) {
    throw damagedError(`the store in ${directory} is damaged: ${current} is missing`, current)
  }
  return { established, tied }
}

async function namesIn(directory: string, create: boolean): Promise<string[]> {
  try {
    const made = create ? await mkdir(directory, { recursive: true, mode: 0o700 }) : undefined
    const names = await readdir(directory)
    // Whoever made it may have died before its name was on disk.
    if (create && !names.includes(files.marks)) await syncNames(directory, made ?? directory)
    return names
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    if (troubleOf(error) === 'handles') throw diskError(error, `opening ${directory}`)
    throw new KVSwarmError(
      'DATADIR_UNREADABLE',
      code === 'ENOENT'
        ? `there is no data directory ${directory}`
        : `the data directory ${directory} cannot be used: ${messageOf(error)}`,
      {
        hint:
          code === 'ENOTDIR'
            ? 'name a directory, not a file'
            : 'check the path and its permissions',
        cause: error
      }
    )
  }
}

/** Makes the names of `directory` and of the folders above it, up to `first`, durable. */
async function syncNames(directory: string, first: string): Promise<void> {
  const end = dirname(resolve(first))
  for (let folder = dirname(resolve(directory)); ; folder = dirname(folder)) {
    try {
      await syncFolder(folder)
    } catch (error) {
      // A folder that we may pass through and not read is not one that we have made.
      if ((error as NodeJS.ErrnoException).code !== 'EACCES') throw error
    }
    if (folder === end || folder === dirname(folder)) return
  }
}

/**
 * Takes away a `CORESTORE` that a power cut has left unfinished. It is synced before anything of the store is
 * told to anyone; the storage library makes it anew, and would refuse this one for ever.
 */
export async function removeTornDevice(directory: string): Promise<void> {
  const path = fileIn(directory, 'device')
  let bytes: Buffer
  try {
    bytes = await readFile(path)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return
    throw error
  }
  // It is smaller than a sector: all of it is there, or its length at most.
  if (bytes.some((byte) => byte !== 0)) return
  await rm(path)
}

/** Replaces a small file so that after any crash either the old or the new content is there, whole. */
export async function replaceFile(path: string, content: string): Promise<void> {
  const temporary = `${path}.new`
  const handle = await open(temporary, 'w', 0o600)
  try {
    await handle.writeFile(content)
    await handle.sync()
  } finally {
    await handle.close()
  }
  await rename(temporary, path)
  await syncFolder(dirname(path))
}

/** Makes one file's content and name durable; the storage library never syncs its `CORESTORE` file. */
export async function syncFile(path: string): Promise<void> {
  const handle = await open(path, 'r')
  try {
    await handle.sync()
  } finally {
    await handle.close()
  }
  await syncFolder(dirname(path))
}

/** @returns path of one of our files */
export function fileIn(directory: string, name: keyof typeof files): string {
  return join(directory, files[name])
}
