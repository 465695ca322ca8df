/** What `status` tells of a node: gathered from its organs, nothing computed elsewhere. */
import { readFileSync } from 'node:fs'
import { Config } from '../config/index.ts'
import type { StorageNode } from './apply/storage-node.ts'
import type { Link } from './links.ts'
import type { Role, Status } from './ports.ts'
import type { OwnerView } from './read/views.ts'
import type { NodeId } from './types.ts'
import type { Writer } from './write/writer.ts'

export interface StatusSources {
  readonly node: NodeId
  readonly directory: string
  readonly since: number
  readonly durability: 'sync' | 'os'
  readonly roles: readonly Role[]
  readonly config: Config | null
  readonly storage: StorageNode | null
  readonly writer: Writer
  readonly views: readonly OwnerView[]
  readonly links: readonly Link[]
  readonly barrier: Status['barrier']
  readonly interventions: number
  readonly warnings: readonly string[]
}

export async function describe(sources: StatusSources): Promise<Status> {
  const { node, config, storage, writer, views, links } = sources
  return {
    node,
    version: version(),
    pid: process.pid,
    since: sources.since,
    directory: sources.directory,
    roles: sources.roles,
    durability: sources.durability,
    epoch: config?.epoch ?? null,
    configHash: config?.hash ?? null,
    storageNode: config?.isStorageNode(node)
      ? {
          capacity: config.capacities[node] ?? 0,
          share: Number(config.shareOf(node)) / Number(Config.SPACE)
        }
      : null,
    writer: config?.isWriter(node) ?? false,
    index: storage ? { ...storage.head, serial: storage.state.serial } : null,
    outboxes: await outboxes(writer),
    inboxes: (storage?.inboxes ?? []).map((inbox) => ({
      writer: inbox.writer,
      authorised: inbox.authorised,
      known: inbox.known,
      held: inbox.acked,
      applied: inbox.applied,
      rejected: inbox.results,
      appliedBytes: inbox.appliedBytes,
      stopped: inbox.stopped
    })),
    views: views.map((view) => ({ node: view.node, head: view.head })),
    peers: links.map((link) => ({
      node: link.node,
      since: link.since,
      bytesReceived: link.connection.bytesReceived,
      bytesSent: link.connection.bytesSent,
      epoch: link.epoch
    })),
    queue: writer.queue,
    lock: null,
    barrier: sources.barrier,
    watchdog: { interventions: sources.interventions },
    warnings: [...sources.warnings]
  }
}

async function outboxes(writer: Writer): Promise<Status['outboxes']> {
  const list: Status['outboxes'][number][] = []
  for (const { outbox, progress } of writer.outboxes) {
    const { position } = outbox
    if (!position) continue
    const { acked, applied } = progress
    const { blocks, bytes } = await outbox.backlog(applied)
    list.push({
      owner: outbox.owner,
      ...position,
      acked,
      applied,
      generations: outbox.logs.length,
      bytes: outbox.bytes,
      pendingBlocks: blocks,
      pendingBytes: bytes
    })
  }
  return list
}

/** This program's version; the package file lies two levels above the sources and three above the built files. */
export function version(): string {
  for (const path of ['../package.json', '../../package.json']) {
    try {
      const content = JSON.parse(readFileSync(new URL(path, import.meta.url), 'utf8')) as {
        name?: string
        version?: string
      }
      if (content.name === 'kvswarm' && content.version) return content.version
    } catch {
      // Not there: the other one is.
    }
  }
  return 'unknown'
}
