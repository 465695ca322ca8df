/**
 * How this room names a value in an error: short, on one line, without running code of the value.
 */
import { inspect } from 'node:util'
import { KVSwarmError } from '../errors.ts'

const shownCharactersMax = 60
const shownPropertiesMax = 20

/** A value as it may stand in an error's message: at most 60 characters, one line. */
export function show(value: unknown): string {
  // inspect() has bounds for arrays, maps and strings, but none for properties
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) {
    const properties = ArrayBuffer.isView(value) ? 0 : Object.keys(value).length
    if (properties > shownPropertiesMax) return `object of ${properties} properties`
  }
  const text = inspect(value, {
    depth: 0,
    customInspect: false,
    maxArrayLength: 4,
    maxStringLength: 40,
    breakLength: Infinity,
    compact: true
  }).replaceAll(/\s+/g, ' ')
  return text.length <= shownCharactersMax ? text : `${text.slice(0, shownCharactersMax - 1)}…`
}

/** Bytes that were signed or stored by somebody, but are no encoding of anything. */
export function corrupt(what: string): KVSwarmError {
  return new KVSwarmError('CORRUPT', `bytes do not decode: ${what}`, {
    hint: 'they were written by a faulty or foreign program; the node that made them must be looked at'
  })
}
