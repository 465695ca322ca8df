/** What a shared engine needs of the one who answers: the local store, or another process. */
import type {
  EngineReadOptions,
  EngineTailOptions,
  IndexRange,
  Role,
  Status,
  TailEvent,
  WaitOptions,
  WriteOptions,
  WriteRequest
} from '../ports.ts'
import type { Entry, FlushResult } from '../types.ts'

/** What a client with a role hears from its holder. A holder itself hears nothing. */
export interface RoleListener {
  /** The holder has taken over this configuration. */
  readonly onConfig: (text: string) => void
  /** Somebody asks all processes of the data directory to end. */
  readonly onStop: () => void
  /** The role has ended, and not by us. */
  readonly onGone: (error: Error) => void
}

/** Calls that a shared engine passes on; `timeoutMs` bounds the wait for a silent holder. */
export interface Seat {
  readonly kind: 'holder' | 'client'
  readonly nodeId: string
  config(timeoutMs: number): Promise<string | null>
  setConfig(text: string, timeoutMs: number): Promise<void>
  status(timeoutMs: number): Promise<Status>
  write(request: WriteRequest, options: WriteOptions): Promise<FlushResult>
  receipt(id: string, options: WaitOptions & { readonly ack?: boolean }): Promise<FlushResult>
  getMany(keys: readonly Uint8Array[], options: EngineReadOptions): Promise<(Entry | null)[]>
  list(range: IndexRange, options: EngineReadOptions): AsyncIterable<Entry>
  refresh(options: WaitOptions): Promise<void>
  tail(bookmark: string | null, options: EngineTailOptions): AsyncIterable<TailEvent>
  start(role: Role, listener: RoleListener): Promise<() => Promise<void>>
  close(): Promise<void>
}
