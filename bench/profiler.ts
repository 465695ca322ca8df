/**
 * Where the processor's time goes in this process, by V8's sampling profiler: of the main thread by function and
 * by package, and beside it what the other threads (disk, store) take.
 */
import { Session } from 'node:inspector/promises'
import { performance } from 'node:perf_hooks'

/** Between two samples, microseconds. */
const intervalUs = 200
/** Functions that are told. */
const functionsMax = 25

export interface Cost {
  readonly name: string
  /** Milliseconds in the function itself, without what it calls. */
  readonly ms: number
}

export interface Profile {
  /** Between start and stop. */
  readonly wallMs: number
  /** Main thread: not waiting for events. */
  readonly busyMs: number
  /** All threads of the process, as the kernel counts them. */
  readonly cpuMs: number
  /** Of the main thread, greatest first; garbage collection and V8's own work are packages, too. */
  readonly packages: readonly Cost[]
  readonly functions: readonly Cost[]
}

interface Place {
  readonly package: string
  readonly function: string
}

interface Node {
  readonly id: number
  readonly children?: readonly number[] | undefined
  readonly callFrame: {
    readonly functionName: string
    readonly url: string
    readonly lineNumber: number
  }
}

let session: Session | null = null
let wall = 0
let cpu = process.cpuUsage()
let utilization = performance.eventLoopUtilization()

export async function startProfile(): Promise<void> {
  session = new Session()
  session.connect()
  await session.post('Profiler.enable')
  await session.post('Profiler.setSamplingInterval', { interval: intervalUs })
  await session.post('Profiler.start')
  wall = performance.now()
  cpu = process.cpuUsage()
  utilization = performance.eventLoopUtilization()
}

export async function stopProfile(): Promise<Profile> {
  if (session === null) throw new Error('no profile was started')
  const wallMs = performance.now() - wall
  const { user, system } = process.cpuUsage(cpu)
  const busyMs = performance.eventLoopUtilization(utilization).active
  const { profile } = await session.post('Profiler.stop')
  session.disconnect()
  session = null
  const nodes = new Map<number, Node>(profile.nodes.map((node) => [node.id, node]))
  const callers = new Map<number, Node>()
  for (const node of profile.nodes) for (const id of node.children ?? []) callers.set(id, node)
  const packages = new Map<string, number>()
  const functions = new Map<string, number>()
  const { samples = [], timeDeltas = [] } = profile
  for (const [i, id] of samples.entries()) {
    const node = nodes.get(id)
    const ms = (timeDeltas[i] ?? 0) / 1000
    if (node === undefined || node.callFrame.functionName === '(idle)') continue
    // The profiler's own start: it looks at all code that there is.
    if (callers.get(id)?.callFrame.functionName === startProfile.name) continue
    const place = placeOf(node, callers)
    add(packages, place.package, ms)
    add(functions, place.function, ms)
  }
  return {
    wallMs,
    busyMs,
    cpuMs: (user + system) / 1000,
    packages: greatest(packages, Infinity),
    functions: greatest(functions, functionsMax)
  }
}

function add(sums: Map<string, number>, name: string, ms: number): void {
  sums.set(name, (sums.get(name) ?? 0) + ms)
}

function greatest(sums: ReadonlyMap<string, number>, max: number): Cost[] {
  return [...sums]
    .map(([name, ms]) => ({ name, ms }))
    .sort((a, b) => b.ms - a.ms)
    .slice(0, max)
}

/**
 * `lib/apply` or `hyperbee`, and the function in it. A native function counts for the package that called it:
 * V8 knows all functions of native add-ons by one name, that of the last one that was loaded.
 */
function placeOf(node: Node, callers: ReadonlyMap<number, Node>): Place {
  const { functionName, url, lineNumber } = node.callFrame
  if (url === '' || url.startsWith('node:')) {
    // V8's own work, such as '(garbage collector)', hangs on the root.
    if (functionName.startsWith('(')) return { package: functionName, function: functionName }
    const caller = callers.get(node.id)
    if (caller === undefined || caller.callFrame.functionName === '(root)') {
      return { package: 'node', function: functionName || 'node' }
    }
    const of = placeOf(caller, callers)
    return url === '' ? { package: of.package, function: `native, from ${of.function}` } : of
  }
  const installed = /^.*\/node_modules\/((?:@[^/]+\/)?[^./][^/]*)\/(.*)$/.exec(url)
  const ours = /\/((?:lib|config|bench)(?:\/.*)?)\/([^/]+)$/.exec(url)
  const of = installed?.[1] ?? ours?.[1] ?? url
  const file = installed?.[2] ?? ours?.[2] ?? ''
  const name = functionName || '(anonymous)'
  return { package: of, function: `${name} ${of}/${file}:${lineNumber + 1}` }
}
