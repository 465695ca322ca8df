/**
 * `kvswarm/config`: the class Config, by import and by require().
 */
import { Config } from './config.ts'

// so that require('kvswarm/config').Config is there as well
Object.defineProperty(Config, 'Config', { value: Config })

export { Config as default, Config }
// what require('kvswarm/config') gives
export { Config as 'module.exports' }
export type { ConfigBins, ConfigChanges, ConfigMove, ConfigOptions, ConfigSlice } from './config.ts'
export type { Fraction, RationalSlice, Whole } from './rational.ts'
export type { Key, KeyPart, NodeId } from '../lib/types.ts'
