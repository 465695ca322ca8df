/**
 * What each section of a configuration may look like, in each of the forms in which it comes: options of the
 * constructor, changes for update(), and the JSON of today and of 2019.
 *
 * Every value by itself, and no node twice. Whether the slices fit together: config/bins.ts.
 */
import * as v from 'valibot'
import { hashKeyBytes } from '../lib/slices/address.ts'
import { millionthsOf } from '../lib/slices/capacity.ts'
import type { NodeId } from '../lib/types.ts'
import { nodeIdForm, readNodeId } from '../lib/wire/ids.ts'
import { show } from '../lib/wire/show.ts'
import { stampEpochMax } from '../lib/wire/stamps.ts'
import { capacityMax, capacityMin } from './limits.ts'
import { type RationalSlice, readRational } from './rational.ts'
import { type Interval, readSlices } from './slices-text.ts'

/** The version of the JSON form that serialize() writes. */
export const documentVersion = 2
/** A versionstamp has three bytes for the epoch. */
export const epochMax: number = stampEpochMax

/** A storage node as it was read, before its slices are compared with those of the others. */
export interface Bin {
  /** The id as it was written, for paths. */
  readonly key: string
  /** Millionths. */
  readonly size: bigint
  readonly slices: readonly Interval[]
}

/** Sections as they are read: ids in their inner form, capacities in millionths. */
export interface Sections {
  writers?: NodeId[]
  capacities?: Map<NodeId, bigint>
  bins?: Map<NodeId, Bin>
  /** Lower case. */
  hashKey?: string
  epoch?: number
  bootstrap?: string[]
}

type Schema<T> = v.GenericSchema<unknown, T>

/** A schema for each section that a form may have. */
export type Form = { readonly [K in keyof Sections]: Schema<NonNullable<Sections[K]>> } & {
  readonly version?: Schema<number>
}

type Issue = v.BaseIssue<unknown>

const hashKeyHex = new RegExp(`^[0-9a-fA-F]{${2 * hashKeyBytes}}$`)
/** A name, an IPv4 address or an IPv6 address in brackets, and a port. */
const hostAndPort = /^(?:[\w.-]+|\[[\da-fA-F:.]+\]):(\d{1,5})$/

function got(expected: string): (issue: Pick<Issue, 'input'>) => string {
  return ({ input }) => `expected ${expected}, got ${show(input)}`
}

/** For values that are no part of a section. */
export const notAnObject: (issue: Pick<Issue, 'input'>) => string = got('an object')
/** One node id, as the user wrote it. */
export const nodeId: v.GenericSchema<string, string> = v.custom<string>(
  (value) => readNodeId(value) !== null,
  got(`a node id (${nodeIdForm})`)
)

export function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

const record = v.custom<Record<string, unknown>>(isRecord, notAnObject)

/** What is wrong with a capacity, or null. */
function capacityFault(value: unknown, types: readonly string[], zero: boolean): string | null {
  const form = `a capacity from ${capacityMin} to ${capacityMax} with at most six decimals`
  const fault = got(zero ? `${form}, or 0` : form)({ input: value })
  if (!types.includes(typeof value)) return fault
  const size = millionthsOf(value as number | bigint | string)
  if (size === null) return fault
  if (size === 0n) return zero ? null : fault
  return size > BigInt(capacityMax) * 1_000_000n ? fault : null
}

function capacity(types: readonly string[], zero = false): Schema<bigint> {
  return v.pipe(
    v.custom<number | bigint | string>(
      (value) => capacityFault(value, types, zero) === null,
      ({ input }) => capacityFault(input, types, zero) ?? ''
    ),
    v.transform((value) => millionthsOf(value) ?? 0n)
  )
}

const slicesText = got('slices inside the space as `start+length start+length`')

const writtenSlices: Schema<Interval[]> = v.pipe(
  v.string(slicesText),
  v.rawTransform(({ dataset, addIssue, NEVER }) => {
    const slices = readSlices(dataset.value)
    if (slices !== null) return slices
    addIssue({ message: slicesText({ input: dataset.value }) })
    return NEVER
  })
)

const rationalSlices: Schema<Interval[]> = v.array(
  v.pipe(
    v.custom<RationalSlice>(
      (value) => readRational(value) !== null,
      got('an interval `[[n, d], [n, d]]` from 0 to 1')
    ),
    v.transform((slice) => readRational(slice) ?? { start: 0, end: 0 })
  ),
  got('an array of intervals')
)

const anySlices: Schema<Interval[]> = v.lazy((value) =>
  typeof value === 'string' ? writtenSlices : rationalSlices
)

/** Writers, sorted. */
const writers: Schema<NodeId[]> = v.pipe(
  v.array(nodeId, got('an array of node ids')),
  v.rawTransform(({ dataset, addIssue }) => {
    const ids = new Map<NodeId, number>()
    for (const [index, text] of dataset.value.entries()) {
      const id = readNodeId(text) as NodeId
      const first = ids.get(id)
      if (first === undefined) ids.set(id, index)
      else {
        const path = {
          type: 'array',
          origin: 'value',
          input: dataset.value,
          key: index,
          value: text
        }
        addIssue({ message: `the same node as [${first}]`, path: [path as v.ArrayPathItem] })
      }
    }
    return [...ids.keys()].toSorted()
  })
)

/** An object with a value for each node. */
function byNode<T>(value: Schema<T>): Schema<Map<NodeId, { key: string; value: T }>> {
  return v.pipe(
    record,
    v.record(nodeId, value),
    v.rawTransform(({ dataset, addIssue }) => {
      const nodes = new Map<NodeId, { key: string; value: T }>()
      for (const [key, value] of Object.entries(dataset.value)) {
        const id = readNodeId(key) as NodeId
        const first = nodes.get(id)
        if (first === undefined) nodes.set(id, { key, value })
        else {
          const path = { type: 'object', origin: 'key', input: dataset.value, key, value }
          addIssue({ message: `the same node as ${first.key}`, path: [path as v.ObjectPathItem] })
        }
      }
      return nodes
    })
  )
}

function capacities(zero: boolean): Schema<Map<NodeId, bigint>> {
  return v.pipe(
    byNode(capacity(['number'], zero)),
    v.transform((nodes) => new Map(Array.from(nodes, ([id, { value }]) => [id, value])))
  )
}

function bins(size: Schema<bigint>, slices: Schema<Interval[]>): Schema<Map<NodeId, Bin>> {
  const entries = { size, slices }
  return v.pipe(
    byNode(v.pipe(record, v.objectWithRest(entries, v.never('unknown key'), 'missing'))),
    v.transform(
      (nodes) =>
        new Map(
          Array.from(nodes, ([id, { key, value }]) => [
            id,
            { key, size: value.size, slices: value.slices }
          ])
        )
    )
  )
}

/** The slices of whatever bins have any, by the keys as they are written: what can be checked beside faults. */
export const slicesAlone: Schema<Record<string, { slices: Interval[] }>> = v.pipe(
  record,
  v.record(v.string(), v.looseObject({ slices: anySlices }))
)

const epoch: Schema<number> = v.custom<number>(
  (value) => Number.isSafeInteger(value) && (value as number) >= 1 && (value as number) <= epochMax,
  got(`a whole number from 1 to ${epochMax}`)
)

const hashKey: Schema<string> = v.pipe(
  v.custom<string>(
    (value) => typeof value === 'string' && hashKeyHex.test(value),
    got(`${2 * hashKeyBytes} hex digits`)
  ),
  v.transform((text) => text.toLowerCase())
)

const bootstrap: Schema<string[]> = v.pipe(
  v.array(
    v.custom<string>((value) => {
      const port = typeof value === 'string' ? Number(hostAndPort.exec(value)?.[1]) : 0
      return port >= 1 && port <= 65_535
    }, got('`host:port`')),
    got('an array of `host:port`')
  ),
  v.minLength(1, 'expected at least one `host:port`, got none')
)

const version: Schema<number> = v.custom<number>(
  (value) => value === documentVersion,
  got(`${documentVersion}, the only version that this program reads`)
)

/** new Config(options) */
export const optionsForm: Form = {
  writers,
  capacities: capacities(false),
  bins: bins(capacity(['number', 'bigint', 'string']), anySlices),
  hashKey,
  epoch,
  bootstrap
}

/** config.update(changes): a capacity of 0 removes a node */
export const changesForm: Form = { writers, capacities: capacities(true) }

/** The JSON that serialize() writes. */
export const documentForm: Form = {
  version,
  epoch,
  hashKey,
  bins: bins(capacity(['number']), writtenSlices),
  writers,
  bootstrap
}

/** The JSON of 2019. */
export const oldForm: Form = {
  writers,
  bins: bins(capacity(['number', 'string']), rationalSlices)
}
