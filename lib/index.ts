/**
 * kvswarm: a key/value store, partitioned over many nodes, between peers. The public API.
 *
 * `require('kvswarm')` gives the function that the original page calls, and everything else hangs on it.
 */
import { isKVSwarmError, KVSwarmError } from './errors.ts'
import { backup, restore } from './hyper/backup.ts'
import { startBootstrap } from './hyper/bootstrap.ts'
import { MemoryHub } from './hyper/memory-network.ts'
import { hyperswarmNetwork } from './hyper/swarm.ts'
import { KVSwarm, kvswarm } from './kvswarm.ts'

/** What `require('kvswarm')` gives: callable, with the named exports as properties. */
export interface CommonJS {
  (...parameters: Parameters<typeof kvswarm>): KVSwarm
  readonly kvswarm: typeof kvswarm
  readonly KVSwarm: typeof KVSwarm
  readonly KVSwarmError: typeof KVSwarmError
  readonly isKVSwarmError: typeof isKVSwarmError
  readonly startBootstrap: typeof startBootstrap
  readonly backup: typeof backup
  readonly restore: typeof restore
  readonly hyperswarmNetwork: typeof hyperswarmNetwork
  readonly MemoryHub: typeof MemoryHub
}

const commonjs: CommonJS = Object.assign(kvswarm, {
  kvswarm,
  KVSwarm,
  KVSwarmError,
  isKVSwarmError,
  startBootstrap,
  backup,
  restore,
  hyperswarmNetwork,
  MemoryHub
})

export { commonjs as default, commonjs as 'module.exports' }
export { KVSwarm, kvswarm }
export { isKVSwarmError, KVSwarmError }
export { startBootstrap }
export { backup, restore }
export { MemoryHub }
export { hyperswarmNetwork }
export type {
  Change,
  CloseOptions,
  FlushOptions,
  KVEntry,
  KVSwarmEvents,
  KVSwarmOptions,
  ListSelector,
  ReadOptions,
  Stats,
  TailOptions,
  Written
} from './kvswarm.ts'
export type { ErrorCode, ErrorDetails } from './errors.ts'
export type { Callback } from './callbacks.ts'
export type { BackupOptions, BackupResult } from './hyper/backup.ts'
export type { BootstrapAddress, BootstrapNode } from './hyper/bootstrap.ts'
export type { HyperswarmOptions } from './hyper/swarm.ts'
export type { MemoryHubOptions } from './hyper/memory-network.ts'
export type {
  Connection,
  LockInfo,
  Network,
  NetworkOptions,
  OnFull,
  QueueStats,
  Status,
  WaitOptions
} from './ports.ts'
export type {
  FlushPart,
  FlushResult,
  Key,
  KeyPart,
  KeyPair,
  NodeId,
  Position,
  Value,
  Versionstamp
} from './types.ts'
