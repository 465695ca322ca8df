/** `kvswarm status`: what a node is and does. */
import { stat } from 'node:fs/promises'
import type { CommandModule } from '../context.ts'
import { exitCodes } from '../exit-codes.ts'
import { escapeControls, type Printer } from '../print.ts'
import { datadirOf, withStore } from '../store.ts'
import { KVSwarmError } from '../../lib/errors.ts'
import type { Status } from '../../lib/index.ts'
import type { Position } from '../../lib/types.ts'

export const status: CommandModule = {
  define: (command) =>
    command
      .summary('print what a node is and does')
      .description(
        'Prints the node, its part in the configuration, what waits in its outboxes for each storage node, what it takes in from each writer, its peers, and warnings. Asks the process that holds the data directory, or looks for itself when nobody does.'
      )
      .addHelpText(
        'after',
        `
With --json one stable object: lengths are blocks, times Unix milliseconds.

Example:
  kvswarm status -d /tmp/x`
      ),
  run: async (context) => {
    await mustExist(datadirOf(context))
    return await withStore(context, {}, async (kv, deadline) => {
      const { print } = context
      const found = await deadline.within(kv.status(), 'the status')
      if (print.options.json) await print.json(found)
      else for (const line of linesOf(found, print)) await print.line(line)
      return exitCodes.done
    })
  }
}

/** Only to look, no directory is made. */
async function mustExist(directory: string): Promise<void> {
  try {
    await stat(directory)
  } catch (error) {
    throw new KVSwarmError('DATADIR_UNREADABLE', `there is no data directory ${directory}`, {
      hint: 'check the path; kvswarm id makes one',
      cause: error
    })
  }
}

function linesOf(status: Status, print: Printer): string[] {
  return [
    ...headLines(status),
    ...outboxLines(status, print),
    ...inboxLines(status, print),
    ...peerLines(status, print)
  ]
}

function headLines(status: Status): string[] {
  const { storageNode, index, epoch, roles } = status
  const lines = [
    `node       ${status.node}`,
    `directory  ${escapeControls(status.directory)}`,
    `process    ${status.pid}, since ${timeOf(status.since)}, version ${status.version}`,
    `roles      ${roles.length === 0 ? 'none' : roles.join(', ')}`,
    `durability ${status.durability}`,
    epoch === null
      ? 'config     none'
      : `config     epoch ${epoch}, hash ${status.configHash?.slice(0, 16)}…`,
    `writer     ${status.writer ? 'yes' : 'no'}`
  ]
  if (storageNode !== null) {
    lines.push(
      `storage    capacity ${storageNode.capacity}, ${(storageNode.share * 100).toFixed(2)} % of all keys`
    )
  }
  if (index !== null) {
    lines.push(
      `index      ${index.length} blocks, generation ${index.generation}, serial ${index.serial}`
    )
  }
  const { barrier, watchdog, queue, lock } = status
  const bound = (value: number | null): string => (value === null ? 'no bound' : `of ${value}`)
  lines.push(
    `queue      ${queue.pendingBytes} bytes ${bound(queue.maxPendingBytes)}, ${queue.pendingBlocks} blocks ${bound(queue.maxPendingBlocks)} without receipt, ${queue.depth} writes wait`,
    `writes     ${queue.commits} done, ${queue.failures} failed, ${queue.rejections} refused, ${queue.timeouts} timed out, ${queue.cancellations} given up, ${queue.syncsSaved} syncs saved`
  )
  if (lock !== null) {
    const { holder, taken, waiting, leases } = lock
    const who = waiting.map(({ pid, since }) => `${pid} since ${timeOf(since)}`).join(', ')
    lines.push(
      `lock       process ${holder.pid} since ${timeOf(holder.since)}, taken ${taken} times, ${leases} roles of others${who === '' ? '' : `; waiting: ${who}`}`
    )
  }
  lines.push(
    `disk       ${barrier.syncs} syncs for ${barrier.shared} waits, ${barrier.failures} failures`,
    `watchdog   ${watchdog.interventions} interventions`
  )
  return lines
}

function outboxLines({ outboxes }: Status, print: Printer): string[] {
  if (outboxes.length === 0) return []
  return [
    '',
    print.bold('outboxes (blocks)'),
    ...table([
      ['storage node', 'length', 'acked', 'applied', 'pending', 'bytes'],
      ...outboxes.map((outbox) => [
        shortId(outbox.owner),
        String(outbox.length),
        placeOf(outbox.acked, outbox.generation),
        placeOf(outbox.applied, outbox.generation),
        String(outbox.pendingBlocks),
        String(outbox.pendingBytes)
      ])
    ])
  ]
}

function inboxLines({ inboxes }: Status, print: Printer): string[] {
  if (inboxes.length === 0) return []
  return [
    '',
    print.bold('inboxes (blocks)'),
    ...table([
      ['writer', 'known', 'held', 'applied', 'rejected', 'state'],
      ...inboxes.map((inbox) => [
        shortId(inbox.writer),
        placeOf(inbox.known, inbox.known?.generation),
        placeOf(inbox.held, inbox.known?.generation),
        placeOf(inbox.applied, inbox.known?.generation),
        String(inbox.rejected),
        escapeControls(inbox.stopped ?? (inbox.authorised ? 'open' : 'removed'))
      ])
    ])
  ]
}

function peerLines({ peers, views, warnings }: Status, print: Printer): string[] {
  const lines: string[] = []
  if (peers.length > 0) {
    lines.push(
      '',
      print.bold('peers'),
      ...table([
        ['node', 'since', 'received', 'sent', 'epoch'],
        ...peers.map((peer) => [
          shortId(peer.node),
          timeOf(peer.since),
          String(peer.bytesReceived),
          String(peer.bytesSent),
          peer.epoch === null ? '–' : String(peer.epoch)
        ])
      ])
    )
  }
  if (views.length > 0) {
    lines.push(
      '',
      print.bold('indexes known (blocks)'),
      ...table([
        ['storage node', 'length'],
        ...views.map(({ node, head }) => [shortId(node), String(head.length)])
      ])
    )
  }
  if (warnings.length > 0) lines.push('', print.bold('warnings'), ...warnings.map(escapeControls))
  return lines
}

function shortId(id: string): string {
  return `${id.slice(0, 16)}…`
}

function timeOf(ms: number): string {
  return new Date(ms).toISOString().replace('T', ' ').slice(0, 19)
}

/** A length; behind an earlier generation with its number, since lengths of two do not compare. */
function placeOf(position: Position | null, generation: number | undefined): string {
  if (position === null) return '–'
  const earlier = generation !== undefined && position.generation !== generation
  return earlier ? `${position.generation}:${position.length}` : String(position.length)
}

/** Columns of equal width, the first one to the left, the others to the right. */
function table(rows: readonly (readonly string[])[]): string[] {
  const widths = (rows[0] ?? []).map((_, at) =>
    Math.max(...rows.map((row) => (row[at] ?? '').length))
  )
  return rows.map((row) =>
    row
      .map((cell, at) => (at === 0 ? cell.padEnd(widths[at] ?? 0) : cell.padStart(widths[at] ?? 0)))
      .join('  ')
      .trimEnd()
  )
}
