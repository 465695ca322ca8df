/**
 * The multiplexer of one connection, with the bounds that upstream leaves out.
 *
 * - A frame above `frameBytesMax` ends the connection as soon as its header is read (upstream: 16 MiB are
 *   buffered for whoever says so).
 * - Frames that we send are at most `batchBytesMax`, or one message if that is larger: upstream's batches of
 *   8 MiB and a message do not fit into a frame, and break the connection.
 * - What the peer does not read is buffered up to `sendBytesMax`, channels that it opens are counted, and so are
 *   its requests: above that the connection ends.
 * - Whatever is thrown while a peer's bytes are decoded ends that connection and nothing else. Upstream
 *   throws TypeError and RangeError on, out of the event loop, which ends the process: bytes of a peer must
 *   not be able to do that.
 */
import type NoiseSecretStream from '@hyperswarm/secret-stream'
import Protomux, { type Channel, type ChannelOptions, type State } from 'protomux'
import {
  batchBytesMax,
  channelOpenBytesMax,
  channelsMax,
  frameBytesMax,
  sendBytesMax
} from '../../config/limits.ts'
import { KVSwarmError, messageOf } from '../errors.ts'
import { withEar } from './replication.ts'

export interface MuxOptions {
  /** Bytes of the largest frame that the peer may send. @default limits.frameBytesMax */
  readonly frameBytesMax?: number
  /** Channels that the peer may have open at a time. @default limits.channelsMax */
  readonly channelsMax?: number
  /** Told before the connection is destroyed. */
  readonly onViolation?: (kind: 'oversized' | 'malformed' | 'backlog', reason: Error) => void
}

/**
 * Calls `asked` when the peer opens the channel of a hypercore that is not attached; what is attached when that has
 * ended is served.
 */
export function serveOnDemand(
  muxer: unknown,
  asked: (discoveryKey: string) => Promise<void>
): void {
  const mux = muxer as Protomux
  mux.pair({ protocol: coreProtocol }, async (discoveryKey) => {
    await asked(Buffer.from(discoveryKey ?? []).toString('hex'))
    // A core that is attached pairs its channel a moment later.
    await new Promise<void>((resolve) => setImmediate(resolve))
  })
}

/** The protocol name of a hypercore's channel. */
const coreProtocol = 'hypercore/alpha'

const internals = ['_onopensession', '_pushBatch', '_sendBatch', '_safeDestroy', '_warn']

export class BoundedMux extends Protomux {
  // Set after the constructor of Protomux, which does not call into us.
  readonly #options: MuxOptions

  /** @throws INTERNALS_CHANGED when protomux is not the one that was tested */
  constructor(stream: NoiseSecretStream, options: MuxOptions = {}) {
    super(stream)
    this.#options = options
    this.#checkInternals()
    const max = options.frameBytesMax ?? frameBytesMax
    // Behind the stream's own listener: `_len` is what the frame's header announced, 0 between frames.
    stream.rawStream?.on('data', () => {
      if (stream._len > max) this.#violated('oversized', `a frame of ${stream._len} bytes`)
    })
  }

  /** Bytes that wait to be sent. */
  get waitingBytes(): number {
    return this.stream._writableState.buffered
  }

  /** Ends the connection when more waits for the peer than we keep; to be called now and then. */
  checkBacklog(): void {
    if (this.stream.destroying || this.waitingBytes <= sendBytesMax) return
    this.#violated('backlog', `${this.waitingBytes} bytes wait for a peer that does not read`)
  }

  /** Hypercores open their channels through here as well. */
  override createChannel(options: ChannelOptions): Channel | null {
    return super.createChannel(withEar(options, (what) => this.#violated('malformed', what)))
  }

  protected override _onopensession(state: State): Promise<void> | null {
    const max = this.#options.channelsMax ?? channelsMax
    if (this._remote.length >= max) {
      this.#violated('backlog', `${max} channels opened by the peer`)
      return null
    }
    // Its names are kept as long as the channel waits to be paired.
    if (state.end - state.start > channelOpenBytesMax) {
      this.#violated('oversized', `a channel with a name of ${state.end - state.start} bytes`)
      return null
    }
    return super._onopensession(state)
  }

  protected override _pushBatch(localId: number, message: Uint8Array): void {
    const { _batch: batch, _batchState: state } = this
    if (batch !== null && state !== null && batch.length > 0) {
      if (state.end + message.byteLength > batchBytesMax) {
        this._sendBatch(batch, state)
        this._batch = []
        this._batchState = { buffer: null, start: 0, end: 1 }
      }
    }
    super._pushBatch(localId, message)
  }

  protected override _safeDestroy(error: unknown): void {
    if (this.stream.destroying) return
    this.#violated('malformed', messageOf(error), error)
  }

  protected override _warn(_error: unknown): void {
    // An answer to a channel that is closed by now; the stream goes on.
  }

  #violated(kind: 'oversized' | 'malformed' | 'backlog', what: string, cause?: unknown): void {
    if (this.stream.destroying) return
    const reason = new KVSwarmError('PROTOCOL_ERROR', `the peer broke the protocol: ${what}`, {
      hint: 'run the same version of kvswarm on both sides',
      cause
    })
    this._destroying = true
    this.#options.onViolation?.(kind, reason)
    this.stream.destroy(reason)
  }

  #checkInternals(): void {
    const missing: string[] = internals.filter(
      (name) =>
        typeof (Protomux.prototype as unknown as Record<string, unknown>)[name] !== 'function'
    )
    if (!Array.isArray(this._remote)) missing.push('_remote')
    if (typeof this.stream._len !== 'number') missing.push('stream._len')
    if (typeof this.stream._writableState?.buffered !== 'number') missing.push('stream buffered')
    if (this.stream.userData !== this) missing.push('stream.userData')
    if (missing.length === 0) return
    throw new KVSwarmError('INTERNALS_CHANGED', `protomux lacks ${missing.join(', ')}`, {
      hint: 'install the exact versions of package-lock.json',
      data: { missing }
    })
  }
}
