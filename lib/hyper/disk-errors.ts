/**
 * What went wrong below, as coded errors that name the file and the way out.
 *
 * The storage library gives texts, with `code` EIO for everything; so the kind is read from the text. What is not
 * recognised is IO_ERROR, never a milder one.
 */
import { readdirSync } from 'node:fs'
import { join } from 'node:path'
import { KVSwarmError, messageOf } from '../errors.ts'

export type DiskTrouble = 'damaged' | 'full' | 'read-only' | 'handles' | 'denied' | 'other'

const signsOfDamage =
  /corrupt|checksum|crc mismatch|magic number|truncat|no such file|blob log|file size mismatch/i

/** What kind of trouble an error of the system or of the storage library is. */
export function troubleOf(error: unknown): DiskTrouble {
  const text = textOf(error)
  const { code = '' } = error as NodeJS.ErrnoException
  if (code === 'ENOSPC' || code === 'EDQUOT' || /no space left|quota exceeded/i.test(text)) {
    return 'full'
  }
  if (code === 'EMFILE' || code === 'ENFILE' || /too many open files/i.test(text)) return 'handles'
  if (code === 'EROFS' || /read-only file system/i.test(text)) return 'read-only'
  if (code === 'EACCES' || code === 'EPERM' || /permission denied|not permitted/i.test(text)) {
    return 'denied'
  }
  // The store's own checks; a hostile peer's bytes come with other codes, or none.
  if ((code === 'EIO' || code === 'ENOENT') && signsOfDamage.test(text)) return 'damaged'
  return 'other'
}

/** The error for trouble while something was done in an open directory. */
export function diskError(error: unknown, doing: string): KVSwarmError {
  if (error instanceof KVSwarmError) return error
  const message = textOf(error)
  const trouble = troubleOf(error)
  switch (trouble) {
    case 'damaged':
      return damagedError(
        `${doing}: ${fileIn(message) === null ? 'a file in db/ of the data directory is damaged: ' : ''}${message}`,
        fileIn(message),
        error
      )
    case 'full':
      return new KVSwarmError('DISK_FULL', `${doing}: ${message}`, {
        hint: 'free space on the disk of the data directory, and start the node again; nothing of this call was acknowledged',
        cause: error
      })
    case 'handles':
      return new KVSwarmError('IO_ERROR', `${doing}: ${message}`, {
        hint: 'this process may not open more files: raise the limit (ulimit -n) and start it again',
        cause: error,
        data: { trouble }
      })
    case 'read-only':
    case 'denied':
      return new KVSwarmError('IO_ERROR', `${doing}: ${message}`, {
        hint: 'the disk of the data directory cannot be written: make it writable, and start the node again',
        cause: error,
        data: { trouble }
      })
    case 'other':
      return new KVSwarmError('IO_ERROR', `${doing}: ${message}`, {
        hint: 'check the disk of the data directory, and start the node again',
        cause: error
      })
  }
}

/** As diskError() for what the system or the storage library threw; anything else as it is. */
export function wrapped(error: unknown, doing: string): unknown {
  const fromBelow = /^E[A-Z0-9]+$/.test((error as { code?: string } | null)?.code ?? '')
  return fromBelow ? diskError(error, doing) : error
}

/** The error for a directory whose store does not open. */
export function openingError(error: unknown, directory: string): KVSwarmError {
  if (error instanceof KVSwarmError) return error
  const message = messageOf(error)
  const { code } = error as { code?: string }
  if (/could not be locked|lock file|resource temporarily unavailable/i.test(message)) {
    return new KVSwarmError(
      'DATADIR_IN_USE',
      `another program has the store in ${directory} open`,
      { hint: 'end it, or use another data directory', cause: error }
    )
  }
  if (code === 'DEVICE_FILE' || /device file/i.test(message)) {
    return new KVSwarmError(
      'DATADIR_MOVED',
      `the store in ${directory} was copied or moved (its file CORESTORE says so): ${message}`,
      {
        hint: `a copy that goes on writing would fork its logs: use the original directory; if that is gone, make a new one of this copy: kvswarm restore ${directory} -d NEW`,
        cause: error
      }
    )
  }
  switch (troubleOf(error)) {
    case 'full':
    case 'handles':
      return diskError(error, `opening the store in ${directory}`)
    case 'read-only':
    case 'denied':
      return unreadable(error, directory)
    case 'damaged':
    case 'other':
      if (code === 'ENOTDIR') return unreadable(error, directory)
      return unopened(message, directory, error)
  }
}

/** @param file the damaged file, as exactly as it is known */
export function damagedError(what: string, file: string | null, cause?: unknown): KVSwarmError {
  return new KVSwarmError('DATADIR_DAMAGED', what, {
    hint: 'restore the directory from a backup (kvswarm restore); a node that neither stores nor writes can begin with a new one',
    cause,
    ...(file === null ? {} : { data: { file } })
  })
}

/** Where the library names no file, it is a write-ahead log: of all others it tells the name. */
function unopened(message: string, directory: string, cause: unknown): KVSwarmError {
  const folder = join(directory, 'db')
  let file = fileIn(message)
  if (file === null && /CURRENT/.test(message)) file = join(folder, 'CURRENT')
  if (file === null && /checksum|corrupt/i.test(message)) {
    const logs = readdirSync(folder).filter((name) => name.endsWith('.log'))
    file = logs.map((name) => join(folder, name)).join(' or ') || null
  }
  return damagedError(
    `the store in ${directory} does not open: ${message} (${file ?? folder})`,
    file ?? folder,
    cause
  )
}

function unreadable(error: unknown, directory: string): KVSwarmError {
  return new KVSwarmError(
    'DATADIR_UNREADABLE',
    `${directory} cannot be opened: ${messageOf(error)}`,
    { hint: 'check its permissions and its file system: it must be writable', cause: error }
  )
}

/** The first file that a text of the storage library names. */
function fileIn(message: string): string | null {
  const [, file] =
    /(\/[^\s:]*\/(?:\d+\.(?:sst|log|blob)|MANIFEST-\d+|CURRENT|OPTIONS-\d+))/.exec(message) ?? []
  return file ?? null
}

function textOf(error: unknown): string {
  const { cause } = (error ?? {}) as { cause?: unknown }
  return cause === undefined ? messageOf(error) : `${messageOf(error)}: ${messageOf(cause)}`
}
