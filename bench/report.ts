/**
 * What the benchmarks print: tables, quantiles, and the circumstances without which a figure means nothing.
 */
import { readFileSync } from 'node:fs'
import { arch, cpus, loadavg, platform, release, totalmem } from 'node:os'

/** The value at `q` (0 to 1) of the sorted samples, by the nearest rank. NaN when there are none. */
export function quantile(samples: readonly number[], q: number): number {
  const sorted = [...samples].sort((a, b) => a - b)
  return sorted[Math.max(0, Math.ceil(q * sorted.length) - 1)] ?? Number.NaN
}

/** The middle of the samples; of an even number the mean of the middle two. */
export function median(samples: readonly number[]): number {
  const sorted = [...samples].sort((a, b) => a - b)
  const half = sorted.length / 2
  return sorted.length % 2 === 1
    ? (sorted[Math.floor(half)] ?? Number.NaN)
    : ((sorted[half - 1] ?? Number.NaN) + (sorted[half] ?? Number.NaN)) / 2
}

/** A number as it is read best: about three digits that count. */
export function show(value: number): string {
  if (!Number.isFinite(value)) return '-'
  const size = Math.abs(value)
  if (size >= 100) return Math.round(value).toLocaleString('en-US')
  return value.toFixed(size >= 10 ? 1 : 2)
}

/** 'p50 / p99' of the samples. */
export function p50p99(samples: readonly number[]): string {
  return `${show(quantile(samples, 0.5))} / ${show(quantile(samples, 0.99))}`
}

type Cell = string | number

/** Prints a heading and a table in Markdown, so that it can be put into a document as it is. */
export function table(heading: string, columns: readonly string[], rows: readonly Cell[][]): void {
  const cells = rows.map((row) => row.map((cell) => (typeof cell === 'number' ? show(cell) : cell)))
  const widths = columns.map((name, i) =>
    Math.max(name.length, 3, ...cells.map((row) => row[i]?.length ?? 0))
  )
  const line = (row: readonly string[]): string =>
    `| ${widths.map((width, i) => (row[i] ?? '').padEnd(width)).join(' | ')} |`
  print(`\n### ${heading}\n`)
  print(line(columns))
  print(`|${widths.map((width) => '-'.repeat(width + 2)).join('|')}|`)
  for (const row of cells) print(line(row))
}

export function print(text: string): void {
  process.stdout.write(`${text}\n`)
}

/** Says what is going on to whoever waits; not part of the figures. */
export function progress(text: string): void {
  process.stderr.write(`${new Date().toISOString().slice(11, 19)} ${text}\n`)
}

/** The machine's load over the last minute: processes that ran or waited to. */
export function load(): number {
  return loadavg()[0] ?? Number.NaN
}

/** Prints what was run, where and on what; every script begins with it. */
export function preamble(title: string): void {
  const machine = cpus()
  print(`## ${title}\n`)
  print(`- ${new Date().toISOString().slice(0, 16)}Z, Node ${process.versions.node}`)
  print(
    `- ${machine.length} x ${machine[0]?.model.trim() ?? 'unknown'}, ` +
      `${Math.round(totalmem() / 2 ** 30)} GiB, ${platform()} ${release()} ${arch()}`
  )
  print(`- load at the start: ${show(load())} (1 min)`)
  print(`- ${libraries.map((name) => `${name} ${versionOf(name)}`).join(', ')}`)
}

const libraries = [
  'kvswarm',
  'hypercore',
  'hypercore-storage',
  'hyperbee',
  'hyperbee2',
  'corestore',
  'hyperswarm',
  'hyperdht'
]

function versionOf(name: string): string {
  const path = name === 'kvswarm' ? '../package.json' : `../node_modules/${name}/package.json`
  const { version } = JSON.parse(readFileSync(new URL(path, import.meta.url), 'utf8')) as {
    version: string
  }
  return version
}

/** Reads `--name=value` and `--name`; anything else ends the program. */
export function readOptions<T extends Record<string, number | boolean | string>>(
  usage: string,
  defaults: T
): T {
  const options: Record<string, number | boolean | string> = { ...defaults }
  for (const argument of process.argv.slice(2)) {
    const [, name = '', value] = /^--([\w-]+)(?:=([\w,-]+))?$/.exec(argument) ?? []
    const normal = Object.hasOwn(defaults, name) ? defaults[name] : undefined
    if (typeof normal === 'boolean' && value === undefined) options[name] = true
    else if (typeof normal === 'string' && value !== undefined) options[name] = value
    else if (typeof normal === 'number' && /^\d+$/.test(value ?? '')) options[name] = Number(value)
    else {
      process.stderr.write(`not an option: ${argument}\nusage: ${usage}\n`)
      process.exit(2)
    }
  }
  return options as T
}
