/**
 * The write queue of a data directory: who may append now, and who waits for room.
 *
 * Invariants:
 * - first come, first admitted: nobody overtakes, not even a small write a large one;
 * - timeout and signal end a write only while it waits, and then nothing of it was written; once it runs, its
 *   outcome is the append's own;
 * - what is pending stays within the bounds, but for one write that alone is larger: it runs when nothing else is
 *   pending;
 * - admissions = executions + timeouts + cancellations + depth; executions = commits + failures + executing.
 */
import { KVSwarmError } from '../errors.ts'
import type { OnFull, QueueBounds, QueueStats, WaitOptions } from '../ports.ts'
import { abortedError, timerMsMax } from '../wait.ts'

/** What a write weighs before it is appended. */
export interface Weight {
  readonly bytes: number
  readonly blocks: number
}

export interface AdmissionOptions extends WaitOptions {
  /** @default that of the bounds */
  readonly onFull?: OnFull | undefined
}

/** Counters of the queue itself; the rest of QueueStats is the writer's. */
export type AdmissionStats = Omit<QueueStats, 'groupedBatches' | 'physicalSyncs' | 'syncsSaved'>

interface Place {
  readonly weight: Weight
  /** Runs it; must not throw. */
  readonly go: () => void
  readonly fail: (error: KVSwarmError) => void
}

export class Admission {
  readonly #bounds: QueueBounds
  readonly #backlog: () => Weight
  readonly #onWaiting: (waiting: boolean) => void
  #places: Place[] = []
  #depthBytes = 0
  /** Of what runs. */
  #runningBytes = 0
  #runningBlocks = 0
  #executing = 0
  #admissions = 0
  #rejections = 0
  #timeouts = 0
  #cancellations = 0
  #executions = 0
  #commits = 0
  #failures = 0
  #closed = false

  /**
   * @param backlog what is appended and has no receipt
   * @param onWaiting called when the first one begins to wait, and when nobody waits any more
   */
  constructor(
    bounds: QueueBounds,
    backlog: () => Weight,
    onWaiting: (waiting: boolean) => void = () => {}
  ) {
    this.#bounds = bounds
    this.#backlog = backlog
    this.#onWaiting = onWaiting
  }

  get stats(): AdmissionStats {
    const { maxPendingBytes, maxPendingBlocks, onFull } = this.#bounds
    const { bytes, blocks } = this.#pending()
    return {
      maxPendingBytes: maxPendingBytes === Infinity ? null : maxPendingBytes,
      maxPendingBlocks: maxPendingBlocks === Infinity ? null : maxPendingBlocks,
      onFull,
      pendingBytes: bytes,
      pendingBlocks: blocks,
      depth: this.#places.length,
      depthBytes: this.#depthBytes,
      executing: this.#executing,
      admissions: this.#admissions,
      rejections: this.#rejections,
      timeouts: this.#timeouts,
      cancellations: this.#cancellations,
      executions: this.#executions,
      commits: this.#commits,
      failures: this.#failures
    }
  }

  /**
   * Calls `run` as soon as there is room, at once (within this call) when there is, and resolves with its outcome.
   * @throws QUEUE_FULL, QUEUE_CLOSED, TIMEOUT, ABORTED: it was not run; what `run` throws
   */
  submit<T>(weight: Weight, options: AdmissionOptions, run: () => Promise<T>): Promise<T> {
    const { timeout = Infinity, signal, onFull = this.#bounds.onFull } = options
    if (this.#closed) return Promise.reject(closedError())
    if (signal?.aborted) return Promise.reject(abortedError(signal, 'the write'))
    const room = this.#places.length === 0 && this.#fits(weight)
    if (!room && onFull === 'reject') {
      this.#rejections++
      return Promise.reject(fullError(this.#pending()))
    }
    this.#admissions++
    if (room) return this.#run(weight, run)
    if (timeout <= 0) {
      this.#timeouts++
      return Promise.reject(timeoutError(timeout))
    }
    return new Promise((resolve, reject) => {
      let timer: NodeJS.Timeout | undefined
      const leave = (): void => {
        clearTimeout(timer)
        signal?.removeEventListener('abort', onAbort)
        this.#places = this.#places.filter((other) => other !== place)
        this.#depthBytes -= weight.bytes
        if (this.#places.length === 0) this.#onWaiting(false)
      }
      const place: Place = {
        weight,
        go: () => {
          leave()
          this.#run(weight, run).then(resolve, reject)
        },
        fail: (error) => {
          leave()
          if (error.code === 'TIMEOUT') this.#timeouts++
          else this.#cancellations++
          reject(error)
          // It may have stood before one that fits.
          this.serve()
        }
      }
      const onAbort = (): void => place.fail(abortedError(signal as AbortSignal, 'the write'))
      signal?.addEventListener('abort', onAbort, { once: true })
      if (timeout <= timerMsMax) {
        timer = setTimeout(() => place.fail(timeoutError(timeout)), timeout)
      }
      this.#places.push(place)
      this.#depthBytes += weight.bytes
      if (this.#places.length === 1) this.#onWaiting(true)
    })
  }

  /** Something has become less: lets in who fits now, in order. */
  serve(): void {
    for (
      let first = this.#places[0];
      first !== undefined && !this.#closed && this.#fits(first.weight);
      first = this.#places[0]
    ) {
      first.go()
    }
  }

  /** Refuses everybody who waits or comes; what runs goes on. */
  close(): void {
    this.#closed = true
    for (const place of [...this.#places]) place.fail(closedError())
  }

  #pending(): Weight {
    const { bytes, blocks } = this.#backlog()
    return { bytes: bytes + this.#runningBytes, blocks: blocks + this.#runningBlocks }
  }

  #fits({ bytes, blocks }: Weight): boolean {
    const pending = this.#pending()
    if (pending.bytes === 0 && pending.blocks === 0) return true
    const { maxPendingBytes, maxPendingBlocks } = this.#bounds
    return pending.bytes + bytes <= maxPendingBytes && pending.blocks + blocks <= maxPendingBlocks
  }

  async #run<T>({ bytes, blocks }: Weight, run: () => Promise<T>): Promise<T> {
    this.#executions++
    this.#executing++
    this.#runningBytes += bytes
    this.#runningBlocks += blocks
    try {
      const result = await run()
      this.#commits++
      return result
    } catch (error) {
      this.#failures++
      throw error
    } finally {
      this.#executing--
      this.#runningBytes -= bytes
      this.#runningBlocks -= blocks
      this.serve()
    }
  }
}

function fullError({ bytes, blocks }: Weight): KVSwarmError {
  return new KVSwarmError(
    'QUEUE_FULL',
    `the write queue is full: ${bytes} bytes in ${blocks} blocks have no receipt yet`,
    {
      hint: 'connect, so that they are delivered, and write again later; or raise maxPendingBytes and maxPendingBlocks',
      data: { pendingBytes: bytes, pendingBlocks: blocks }
    }
  )
}

function timeoutError(timeout: number): KVSwarmError {
  return new KVSwarmError('TIMEOUT', `the write queue stayed full for ${timeout} ms`, {
    hint: 'nothing of this write was written; connect, so that what is pending is delivered, and write again'
  })
}

function closedError(): KVSwarmError {
  return new KVSwarmError('QUEUE_CLOSED', 'the store is closing: the write was not begun', {
    hint: 'nothing of it was written; open the store again'
  })
}
