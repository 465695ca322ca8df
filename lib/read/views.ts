/**
 * Views of the indexes of all storage nodes: which generation each one is in, and how far its head is known.
 *
 * Invariants: a view's head never goes back (heads are ordered by generation, then length); a generation is
 * believed only from a record that the node itself has signed; a view of the old generation stays in use until
 * the new one has something to read.
 */
import { KVSwarmError } from '../errors.ts'
import type { Head, IndexView, WaitOptions } from '../ports.ts'
import { comparePositions, reaches } from '../protocol/positions.ts'
import type { NodeId } from '../types.ts'
import { waitFor } from '../wait.ts'

/** What the views need from the layer below. */
export interface ViewSource {
  /** Opens the index of a node in one generation, for reading. */
  open(node: NodeId, generation: number): Promise<IndexView>
  /** Serves and fetches its blocks over the connections that there are now. */
  attach(view: IndexView): void
}

/** One storage node as its readers see it. */
export class OwnerView {
  readonly node: NodeId
  readonly #source: ViewSource
  readonly #listeners = new Set<() => void>()
  #view: IndexView | null = null
  /** The newest generation that the node has announced, while its view has nothing to read yet. */
  #next: IndexView | null = null
  #opening: Promise<void> = Promise.resolve()
  #announced = 0
  #closed = false

  constructor(node: NodeId, source: ViewSource) {
    this.node = node
    this.#source = source
  }

  /** The view to read from; null when no head is known. */
  get current(): IndexView | null {
    return this.#view !== null && this.#view.head.length > 0 ? this.#view : null
  }

  get head(): Head {
    return this.current?.head ?? { generation: this.#announced, length: 0 }
  }

  /** Both views while a new generation takes over: what is attached to connections. */
  get attached(): IndexView[] {
    return [this.#view, this.#next].filter((view) => view !== null)
  }

  /** The node has signed that this is its generation; an older one changes nothing. */
  announce(generation: number): Promise<void> {
    if (generation <= this.#announced || this.#closed) return this.#opening
    this.#announced = generation
    // A failed open must not keep later generations from being opened.
    this.#opening = this.#opening
      .catch(() => {})
      .then(async () => {
        if (this.#closed) return
        const view = await this.#source.open(this.node, generation)
        view.onHead(() => this.#moved())
        await this.#next?.close()
        this.#next = null
        if (this.#view === null) this.#view = view
        else this.#next = view
        this.#source.attach(view)
        this.#moved()
      })
    return this.#opening
  }

  onHead(listener: () => void): () => void {
    this.#listeners.add(listener)
    return () => this.#listeners.delete(listener)
  }

  /** Resolves when the head is at least `head`. @throws TIMEOUT, ABORTED, CLOSED, CORRUPT */
  async reach(head: Head, options: WaitOptions): Promise<void> {
    await waitFor(
      () => {
        if (this.#closed) throw new KVSwarmError('CLOSED', 'the store was closed while waiting')
        const current = this.current
        if (current !== null && reaches(current.head, head)) return true
        // It would not come, however long this waited.
        const fault = (this.#next ?? this.#view)?.fault
        if (fault) throw fault
        return false
      },
      (listener) => this.onHead(listener),
      options,
      () =>
        new KVSwarmError(
          'OWNER_UNREACHABLE',
          `the index of storage node ${this.node} did not reach block ${head.length} in time (known: ${this.head.length})`,
          { hint: 'check that the storage node runs and can be reached, or allow more time' }
        )
    )
  }

  async close(): Promise<void> {
    this.#closed = true
    await this.#opening.catch(() => {})
    for (const view of this.attached) await view.close()
    this.#view = null
    this.#next = null
    this.#moved()
  }

  #moved(): void {
    if (this.#next !== null && this.#next.head.length > 0) {
      const old = this.#view
      if (old === null || comparePositions(this.#next.head, old.head) > 0) {
        this.#view = this.#next
        this.#next = null
        void old?.close()
      }
    }
    for (const listener of [...this.#listeners]) listener()
  }
}
