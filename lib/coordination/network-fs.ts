/**
 * Is a folder on a network file system? There, file locks and unix sockets may not mean what they mean
 * on a local disk: two machines could open one store, which forks its logs.
 */
import { statfs } from 'node:fs/promises'

/** Numbers of statfs(2) on Linux (linux/magic.h and the file systems' sources). */
const networkTypes: ReadonlyMap<number, string> = new Map([
  [0x6969, 'nfs'],
  [0x517b, 'smb'],
  [0xff534d42, 'cifs'],
  [0xfe534d42, 'smb2'],
  [0x65735546, 'fuse'],
  [0x01021997, '9p'],
  [0x5346414f, 'afs'],
  [0x6b414653, 'kafs'],
  [0x73757245, 'coda'],
  [0x00c36400, 'ceph'],
  [0x0bd00bd0, 'lustre'],
  [0x01161970, 'gfs2'],
  [0x7461636f, 'ocfs2'],
  [0x19830326, 'beegfs'],
  [0x47504653, 'gpfs'],
  [0x786f4256, 'vboxsf']
])

/** Name of the network file system that `type` (statfs) stands for, or null. Linux numbers. */
export function networkTypeOf(type: number): string | null {
  return networkTypes.get(type >>> 0) ?? null
}

/**
 * Name of the network file system that the folder is on, or null: local, or not known (other systems
 * than Linux number their file systems differently from machine to machine).
 */
export async function networkFileSystem(directory: string): Promise<string | null> {
  if (process.platform !== 'linux') return null
  try {
    return networkTypeOf((await statfs(directory)).type)
  } catch {
    return null
  }
}
