/**
 * Reads options, changes and JSON by their schemas, collecting every fault.
 *
 * - Sections are read one by one, so that a fault in one hides none in another.
 * - `__proto__` and its like are unknown keys; nothing here looks a key up that the input could have inherited.
 */
import * as v from 'valibot'
import { configInvalid, type Fault, pathOf } from './faults.ts'
import { readJson } from './json.ts'
import {
  type Bin,
  changesForm,
  documentForm,
  type Form,
  isRecord,
  nodeId,
  notAnObject,
  oldForm,
  optionsForm,
  type Sections,
  slicesAlone
} from './schema.ts'
import type { NodeId } from '../lib/types.ts'
import { parseNodeId } from '../lib/wire/ids.ts'

/** What was read, without the sections that are faulty. */
export interface Read {
  readonly sections: Sections
  /** The slices, by key as written, when a fault elsewhere in `bins` keeps that section out. */
  readonly slices: readonly Pick<Bin, 'key' | 'slices'>[]
  readonly faults: Fault[]
}

/** Keys that valibot passes over in silence. */
const reserved = ['__proto__', 'prototype', 'constructor']

/** Options of the constructor. */
export function readOptions(input: unknown): Read {
  return read(input, optionsForm, [])
}

/** Changes for update(). */
export function readChanges(input: unknown): Read {
  return read(input, changesForm, [])
}

/**
 * A JSON text. The form of 2019 is known by what it does not have.
 * @throws CONFIG_INVALID when it is no JSON
 */
export function readText(text: string): Read & { readonly old: boolean } {
  const { value, faults } = readJson(text)
  const old =
    isRecord(value) && !['version', 'epoch', 'hashKey'].some((key) => Object.hasOwn(value, key))
  const result = old
    ? read(value, oldForm, ['bins', 'writers'])
    : read(value, documentForm, ['version', 'epoch', 'hashKey', 'bins', 'writers'])
  return { ...result, faults: [...faults, ...result.faults], old }
}

/**
 * One node id that a call was given.
 * @param name of the argument
 * @throws CONFIG_INVALID when it is none
 */
export function readId(input: unknown, name: string): NodeId {
  const result = v.safeParse(nodeId, input)
  if (result.success) return parseNodeId(result.output)
  throw configInvalid(result.issues.map(({ message }) => ({ path: name, message })))
}

function read(input: unknown, form: Form, required: readonly string[]): Read {
  if (!isRecord(input)) {
    return { sections: {}, slices: [], faults: [{ path: '', message: notAnObject({ input }) }] }
  }
  const sections: Record<string, unknown> = {}
  const faults: Fault[] = []
  let slices: Read['slices'] = []
  for (const [key, schema] of Object.entries(form)) {
    const value = Object.hasOwn(input, key) ? input[key] : undefined
    if (value === undefined && !required.includes(key)) continue
    if (value === undefined) {
      faults.push({ path: key, message: 'missing' })
      continue
    }
    const hostile = reservedKeys(value, [key])
    const result = v.safeParse(schema, value)
    if (result.success && hostile.length === 0) {
      sections[key] = result.output
      continue
    }
    faults.push(...hostile)
    for (const issue of result.issues ?? []) {
      const path = (issue.path ?? []).map((item) => item.key as string | number)
      faults.push({ path: pathOf([key, ...path]), message: issue.message })
    }
    if (key === 'bins') slices = readSlicesAlone(value)
  }
  for (const key of Object.keys(input)) {
    if (!Object.hasOwn(form, key)) faults.push({ path: pathOf([key]), message: 'unknown key' })
  }
  return { sections, slices, faults }
}

/** Reserved keys of a section and of what stands one level below: no form has objects that lie deeper. */
function reservedKeys(value: unknown, path: readonly string[]): Fault[] {
  if (!isRecord(value)) return []
  const faults: Fault[] = reserved
    .filter((key) => Object.hasOwn(value, key))
    .map((key) => ({ path: pathOf([...path, key]), message: 'unknown key' }))
  if (path.length > 1) return faults
  for (const key of Object.keys(value)) {
    if (!reserved.includes(key)) faults.push(...reservedKeys(value[key], [...path, key]))
  }
  return faults
}

function readSlicesAlone(bins: unknown): Read['slices'] {
  const result = v.safeParse(slicesAlone, bins)
  if (!result.success) return []
  return Object.entries(result.output).map(([key, { slices }]) => ({ key, slices }))
}
