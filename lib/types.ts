/**
 * The nouns of kvswarm as plain types, without behaviour. One term for one concept: see docs/glossary.md.
 */

/** A node's ed25519 public key as 64 lower-case hex digits. */
export type NodeId = string

/** 20 lower-case hex digits: epoch (3 bytes), serial of the index generation (2), counter (5). */
export type Versionstamp = string

/**
 * How far something has come in one log: `length` blocks of generation `generation`, and all of every earlier
 * generation. Positions of one log are ordered by (generation, length).
 */
export interface Position {
  /** Number in the log's name; a new one is max(highest known + 1, Unix milliseconds). */
  readonly generation: number
  /** Blocks, from the start of the generation. */
  readonly length: number
}

/** Which log of which node: what goes into the namespace of its core (docs/formats.md). */
export type LogName =
  | AnnouncedLog
  /** A journal of the index's generation `index`; the number of the journal takes the place of a generation. */
  | { readonly kind: 'journal'; readonly node: NodeId; readonly index: number }

/** A log whose generations its node tells others. */
export type AnnouncedLog =
  | { readonly kind: 'index'; readonly node: NodeId }
  | { readonly kind: 'outbox'; readonly node: NodeId; readonly owner: NodeId }
  | {
      readonly kind: 'handoff'
      readonly node: NodeId
      readonly to: NodeId
      readonly epoch: number
    }

/** An ed25519 key pair. */
export interface KeyPair {
  /** 32 bytes. */
  readonly publicKey: Uint8Array
  /** 64 bytes. */
  readonly secretKey: Uint8Array
}

/** One part of a key. Order of kinds: bytes < string < number < bigint < boolean. */
export type KeyPart = Uint8Array | string | number | bigint | boolean

/** A key as the user writes it: a plain string (or bytes) is the same key as the array with that one part. */
export type Key = string | Uint8Array | readonly KeyPart[]

/** What can be stored: what is put is what is got. */
export type Value =
  | Uint8Array
  | string
  | number
  | bigint
  | boolean
  | null
  | undefined
  | Date
  | RegExp
  | Map<Value, Value>
  | Set<Value>
  | ArrayBufferView
  | readonly Value[]
  | { readonly [key: string]: Value }

/** One operation on one key, as it stands in an outbox block. Key and value are encoded. */
export type Mutation =
  | {
      readonly type: 'put'
      /** Encoded key (lib/wire/keys.ts). */
      readonly key: Uint8Array
      /** Encoded value with its tag byte (lib/wire/values.ts). */
      readonly value: Uint8Array
      /** Milliseconds from the time at which the owner applies it. */
      readonly expireIn?: number
      /** Absolute Unix milliseconds. */
      readonly expireAt?: number
    }
  | { readonly type: 'del'; readonly key: Uint8Array }
  | {
      readonly type: 'sum' | 'min' | 'max'
      readonly key: Uint8Array
      /** Encoded KvU64 or KvI64 (value tag and 8 bytes). */
      readonly value: Uint8Array
    }

/** A condition of an atomic group: the key has this versionstamp, or null: it is absent. */
export interface Check {
  readonly key: Uint8Array
  readonly versionstamp: Versionstamp | null
}

/** What one place of a block holds: one operation, or one atomic group (whole or not at all). */
export type Operation =
  | Mutation
  | {
      readonly type: 'group'
      readonly checks: readonly Check[]
      readonly mutations: readonly Mutation[]
    }

/** An entry of an index. */
export interface Entry {
  /** Encoded key. */
  readonly key: Uint8Array
  /** Encoded value with its tag byte. */
  readonly value: Uint8Array
  readonly versionstamp: Versionstamp
  /** Unix milliseconds, or 0: never. */
  readonly expireAt: number
}

/** Where an operation lies, for ever: (writer, storage node of the outbox, generation, block, place). */
export interface OperationPlace {
  readonly writer: NodeId
  readonly owner: NodeId
  readonly generation: number
  readonly block: number
  readonly place: number
}

/** The part of a flush that went to one owner: blocks [from, to) of one outbox generation. */
export interface FlushPart {
  readonly owner: NodeId
  readonly generation: number
  readonly from: number
  readonly to: number
}

/** What `flush()` resolves with. */
export interface FlushResult {
  /** Names the flush for `kv.receipt(id)` and `get(key, { after: id })`; empty when nothing was to be flushed. */
  readonly id: string
  /** How many operations it held. */
  readonly operations: number
  /** One part for each owner; a flush over several owners is not atomic. */
  readonly parts: readonly FlushPart[]
}
