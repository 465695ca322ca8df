/**
 * Where the control socket lies: in the data directory, or, when that path is too long for a unix
 * socket (Node 20 silently truncates it), under a hashed name in a private folder of the user's runtime
 * or temporary folder.
 *
 * Invariant: only the user can reach the socket: its folder has mode 0700 and is the user's.
 */
import { createHash } from 'node:crypto'
import { lstat, mkdir, unlink } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, isAbsolute, join } from 'node:path'
import { socketPathBytesMax } from '../../config/limits.ts'
import { KVSwarmError, messageOf } from '../errors.ts'

/** Name of the control socket in the data directory. */
export const socketName = 'kvswarm.sock'

function fits(path: string): boolean {
  return Buffer.byteLength(path) <= socketPathBytesMax
}

/** Every path at which the directory's socket may be, best first. Nothing is made or checked. */
export function socketPaths(directory: string): string[] {
  const digest = createHash('sha256').update(directory).digest('hex').slice(0, 32)
  const runtime = process.env['XDG_RUNTIME_DIR']
  const bases = [runtime, tmpdir(), '/tmp'].filter(
    (base): base is string => base !== undefined && isAbsolute(base)
  )
  const folders = [...new Set(bases)].map((base) => join(base, `kvswarm-${userId()}`))
  const hashed = folders.map((folder) => join(folder, `${digest}.sock`))
  return [join(directory, socketName), ...hashed].filter(fits)
}

function userId(): number | string {
  return process.getuid?.() ?? 'user'
}

/**
 * Makes the folder of a socket ready and removes what a dead holder left behind. Only the holder of the
 * directory's lock may call it.
 * @throws IO_ERROR when the folder is not private
 */
export async function prepareSocket(directory: string, path: string): Promise<void> {
  const folder = dirname(path)
  if (folder !== directory) {
    await mkdir(folder, { recursive: true, mode: 0o700 })
    await checkFolder(folder)
  }
  await removeSocket(path)
}

/** Removes a socket that nobody serves. That there is none is fine. */
export async function removeSocket(path: string): Promise<void> {
  try {
    await unlink(path)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error
  }
}

/** True when a client may trust the socket at this path: nobody else can have put it there, or let it lead away. */
export async function isTrustedSocket(directory: string, path: string): Promise<boolean> {
  if (!isAbsolute(path) || !fits(path)) return false
  const folder = dirname(path)
  try {
    if (folder !== directory) await checkFolder(folder)
    const found = await lstat(path)
    const me = process.getuid?.()
    return found.isSocket() && (me === undefined || found.uid === me)
  } catch (error) {
    // Nobody serves there; whoever comes next will find out.
    return (error as NodeJS.ErrnoException).code === 'ENOENT'
  }
}

async function checkFolder(folder: string): Promise<void> {
  let problem: string | null = null
  try {
    const found = await lstat(folder)
    const me = process.getuid?.()
    if (!found.isDirectory()) problem = 'it is no folder'
    else if (me !== undefined && found.uid !== me) problem = `it belongs to user id ${found.uid}`
    else if ((found.mode & 0o077) !== 0) problem = 'others may enter it'
  } catch (error) {
    problem = messageOf(error)
  }
  if (problem === null) return
  throw new KVSwarmError(
    'IO_ERROR',
    `the folder ${folder} cannot hold the control socket: ${problem}`,
    {
      hint: 'remove it, or set XDG_RUNTIME_DIR to a folder of your own'
    }
  )
}

/** Runs a call under a file mode mask; worker threads cannot set one. */
export function withMask(mask: number, run: () => void): void {
  let old: number | null = null
  try {
    old = process.umask(mask)
  } catch {
    // The mode is set behind the call, and the folder is private.
  }
  try {
    run()
  } finally {
    if (old !== null) process.umask(old)
  }
}
