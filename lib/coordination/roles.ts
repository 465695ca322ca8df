/**
 * The roles that a holder runs, for itself and for its clients, counted: a role starts with the first
 * who wants it and ends with the last.
 */
import type { Engine, Role } from '../ports.ts'

interface Running {
  /** How many hold it. */
  holds: number
  /** Starts and ends of one role follow one another. */
  turn: Promise<unknown>
  /** Ends it; null while it does not run. */
  end: (() => Promise<void>) | null
}

/** The counted roles of one engine. `onChange` is waited for: when a role runs, that is told. */
export class RoleTable {
  readonly #engine: Engine
  readonly #onChange: () => Promise<void>
  readonly #running = new Map<Role, Running>()

  constructor(engine: Engine, onChange: () => Promise<void>) {
    this.#engine = engine
    this.#onChange = onChange
  }

  /** The roles that run, sorted. */
  get roles(): Role[] {
    return [...this.#running]
      .filter(([, running]) => running.end !== null)
      .map(([role]) => role)
      .toSorted()
  }

  /** Resolves when the role runs; the returned call gives it up (once). */
  async hold(role: Role): Promise<() => Promise<void>> {
    const running = this.#running.get(role) ?? { holds: 0, turn: Promise.resolve(), end: null }
    this.#running.set(role, running)
    running.holds++
    try {
      await this.#settle(role, running)
    } catch (error) {
      running.holds--
      throw error
    }
    let held = true
    return async () => {
      if (!held) return
      held = false
      running.holds--
      await this.#settle(role, running)
    }
  }

  /** Ends every role, whoever holds it. */
  async endAll(): Promise<void> {
    for (const [role, running] of this.#running) {
      running.holds = 0
      await this.#settle(role, running)
    }
  }

  /** Brings the role to what its holds ask for, after what is under way. */
  #settle(role: Role, running: Running): Promise<void> {
    const settled = running.turn.then(async () => {
      if (running.holds > 0 && running.end === null) {
        running.end = await this.#engine.start(role)
        await this.#onChange()
      } else if (running.holds <= 0 && running.end !== null) {
        const { end } = running
        running.end = null
        await end()
        await this.#onChange()
      }
    })
    running.turn = settled.catch(() => {})
    return settled
  }
}
