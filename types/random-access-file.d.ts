/** Ambient types of random-access-file: only what lib/hyper/ and lib/coordination/ call. */

declare module 'random-access-file' {
  export default class RandomAccessFile {
    constructor(
      filename: string,
      options?: { lock?: boolean; writable?: boolean; size?: number; truncate?: boolean }
    )
    readonly fd: number
    readonly filename: string
    open(callback: (error: Error | null) => void): void
    close(callback: (error: Error | null) => void): void
    read(offset: number, size: number, callback: (error: Error | null, data: Buffer) => void): void
    write(offset: number, data: Uint8Array, callback: (error: Error | null) => void): void
    stat(callback: (error: Error | null, stat: { size: number }) => void): void
    truncate(offset: number, callback: (error: Error | null) => void): void
    unlink(callback: (error: Error | null) => void): void
  }
}
