/**
 * Random numbers that can be had again: the seed is printed, and KVSWARM_TEST_SEED sets it.
 *
 * The generator is sfc32 (a small chaotic 32-bit generator of the PractRand test suite), its state
 * filled by splitmix32.
 */
import { randomInt } from 'node:crypto'
import type { Test } from 'tape'

const seedMax = 0x7fffffff // fits the seed of fast-check, too

/** A stream of random numbers; the same seed gives the same stream. */
export interface Random {
  /** 0 to 2^31 - 1. */
  readonly seed: number
  /** A float in [0, 1) with 32 random bits. */
  next(): number
  /** An integer in [min, max], both included. */
  int(min: number, max: number): number
  /** True with the probability `p`. */
  chance(p: number): boolean
  /** One of the items. */
  pick<T>(items: readonly T[]): T
  /** The items in a random order, in a new array. */
  shuffle<T>(items: readonly T[]): T[]
  /** `length` random bytes. */
  bytes(length: number): Uint8Array
  /** `length` characters from a to z. */
  text(length: number): string
}

/** The stream of one seed. */
export function randomOf(seed: number): Random {
  let filler = seed >>> 0
  const fill = (): number => {
    filler = (filler + 0x9e3779b9) | 0
    let z = filler
    z = Math.imul(z ^ (z >>> 16), 0x21f0aaad)
    z = Math.imul(z ^ (z >>> 15), 0x735a2d97)
    return z ^ (z >>> 15)
  }
  let a = fill()
  let b = fill()
  let c = fill()
  let counter = 1
  const next32 = (): number => {
    const result = (a + b + counter) | 0
    counter = (counter + 1) | 0
    a = b ^ (b >>> 9)
    b = (c + (c << 3)) | 0
    c = ((c << 21) | (c >>> 11)) + result
    c |= 0
    return result >>> 0
  }
  for (let i = 0; i < 12; i++) next32()

  const next = (): number => next32() / 2 ** 32
  const int = (min: number, max: number): number => min + Math.floor(next() * (max - min + 1))
  const pick = <T>(items: readonly T[]): T => {
    if (items.length === 0) throw new Error('pick() of an empty list')
    return items[int(0, items.length - 1)] as T
  }
  return {
    seed,
    next,
    int,
    chance: (p) => next() < p,
    pick,
    shuffle: <T>(items: readonly T[]): T[] => {
      const mixed = [...items]
      for (let i = mixed.length - 1; i > 0; i--) {
        const j = int(0, i)
        const moved = mixed[i] as T
        mixed[i] = mixed[j] as T
        mixed[j] = moved
      }
      return mixed
    },
    bytes: (length) => Uint8Array.from({ length }, () => next32() & 255),
    text: (length) => Array.from({ length }, () => String.fromCharCode(97 + int(0, 25))).join('')
  }
}

/** The seed from KVSWARM_TEST_SEED, else a new one. */
export function newSeed(): number {
  const given = process.env['KVSWARM_TEST_SEED']
  if (given === undefined || given === '') return randomInt(0, seedMax)
  const seed = Number(given)
  if (!Number.isInteger(seed) || seed < 0 || seed > seedMax) {
    throw new Error(`KVSWARM_TEST_SEED is '${given}'; expected an integer from 0 to ${seedMax}`)
  }
  return seed
}

/** The random numbers of one test. It prints the seed. */
export function random(t: Test): Random {
  const made = randomOf(newSeed())
  t.comment(`KVSWARM_TEST_SEED=${made.seed}`)
  return made
}
