/**
 * Bounds and waits of the control socket, unit last in the name, the reason beside it. Those that
 * other rooms share stand in config/limits.ts.
 */

/** Raised when a request or an answer changes its meaning; both ends must name the same one. */
export const controlProtocol = 1
/** Request line and headers together; ours take under 300 bytes. */
export const headerBytesMax: number = 8 * 1024
/** Connections that a holder serves at once; a further one is closed and tries again. */
export const connectionsServedMax = 512
/** Connections that one client opens; further calls wait for one of them. Long waits each need one. */
export const connectionsOfClientMax = 64
/** Request line and headers come at once; who takes longer is closed at the next look. */
export const headersTimeoutMs = 10_000
export const headersLookMs = 5_000
/** A client that has begun a request sends on, or it is closed: others may wait for the memory it has reserved. */
export const bodySilenceMs = 30_000
/** The name of a call, by which it can be aborted: a UUID. */
export const callNameCharactersMax = 64
/** Keys of one getMany request: each costs far more memory than its bytes. */
export const keysOfRequestMax = 100_000
/** Receipts that one client waits for at a time, besides; further ones wait for one of them to end. */
export const receiptsOfClientMax = 64
/** A note about a process that waits for the lock: two numbers. */
export const waiterBytesMax = 256
/** Requests nest at most four deep (a group's checks); the rest is hostile. */
export const jsonDepthMax = 8
/** A write travels in lines of about this size, so that neither end holds a flush twice as text. */
export const portionBytesTarget: number = 1024 * 1024
/** Keys of one getMany request, as base64; more are asked in further requests. */
export const keysBytesTarget: number = 4 * 1024 * 1024
/** Bytes of all requests that a holder takes in at once: two full write caches. Others wait their turn. */
export const intakeBytesMax: number = 512 * 1024 * 1024
/** What an operation costs besides its key and value, when memory is reserved for it. */
export const operationOverheadBytes = 128
/** A holder that accepts a connection answers hello at once, unless it is stopped or busy. */
export const helloTimeoutMs = 2_000
/** The least that is waited for hello, also with a timeout of 0: a holder that is busy answers, too. */
export const helloTimeoutMinMs = 1_000
/** A role that is being started says so this often; one that is silent for so long is given up. */
export const roleStartPulseMs = 5_000
export const roleStartSilenceMs = 15_000
/** How much later than the call's own timeout a client gives a silent holder up. */
export const answerGraceMs = 2_000
/** A closing holder's calls have so long to end before their connections are cut. */
export const closeGraceMs = 2_000
/** The sidecar's fixed size: rewritten by one write, so that a reader finds old or new, not both. */
export const sidecarBytes = 1024
/** One answer that is not a stream: a status or a configuration. */
export const answerBytesMax: number = 64 * 1024 * 1024
/** Aborts of calls that have not come in (yet) are remembered up to this number. */
export const earlyAbortsMax = 1_000
