/**
 * Every bound and every wait of kvswarm, unit last in the name, the reason beside it.
 * Published limits (keys, values, groups) are part of the format: docs/formats.md.
 */

/** An encoded key; a fence keeps many of them. */
export const keyBytesMax = 1024
/** An encoded value with its tag. */
export const valueBytesMax: number = 8 * 1024 * 1024
/** Operations of an atomic group, and their bytes together. */
export const groupOperationsMax = 1000
export const groupBytesMax: number = 8 * 1024 * 1024
/** Blocks are filled up to here: 64 KiB to 256 KiB blocks move at 54 MB/s, 128 B blocks at 0.7 MB/s (measured). */
export const blockBytesTarget: number = 256 * 1024
/** A block with one large operation or group: 8 MiB and its framing. */
export const blockBytesMax: number = 8 * 1024 * 1024 + 64 * 1024
/** Operations in one block: a block is applied whole, and a single put must not wait long beside a bulk load. */
export const blockOperationsMax = 1000
/** The write cache (put, del before flush) holds at most this much. */
export const cacheBytesMax: number = 256 * 1024 * 1024
export const cacheOperationsMax = 2_000_000

/**
 * Bounds of the write queue, by default: what is appended and has no receipt. So much a writer may pile up while its
 * storage nodes are away; more would fill disks unnoticed. A million blocks take about 4 minutes to be delivered.
 */
export const pendingBytesDefault: number = 1024 * 1024 * 1024
export const pendingBlocksDefault = 1_000_000
/** Appends without receipt that are told apart; beyond, neighbours are counted together, for memory. */
export const backlogEntriesMax = 4096
/** `writeMode: 'group'`: a group is written when it has so many operations, or when its first one is so old. */
export const groupCommitSizeDefault = 50
export const groupCommitDefaultMs = 100

/** Default of every wait in the library. */
export const timeoutDefaultMs = 30_000
/** Default of every wait in the command. */
export const timeoutCommandMs = 10_000
/** How long a process waits for the data directory, by default. */
export const lockTimeoutDefaultMs = 30_000
/** Between two tries for the lock: 30 to 70 ms, so that waiters do not march in step. */
export const lockRetryMinMs = 30
export const lockRetryMaxMs = 70
/** A first read of an owner asks it for its head; with a copy at hand it waits no longer than this. */
export const headWaitMs = 2_000
/** A cached head is believed for so long without asking when `fresh` is not set and nobody pushes news. */
export const receiptPollMs = 500
/** While nobody tells, a cursor that does not move is looked up less and less often, down to this. */
export const receiptPollMaxMs = 5_000

/** Explicit block requests under way for one writer's outbox. */
export const intakeBlocksMax = 64
/** Bytes of one writer's blocks that are here but not applied; then fetching waits. */
export const intakeBytesMax: number = 32 * 1024 * 1024
/** An owner that did not answer is asked again after so long; meanwhile a copy answers at once. */
export const askAgainMs = 5_000
/** Heads of which a storage node said that they show more as applied, and that a writer's view has not come to. */
export const headsAwaitedMax = 64

/** An outbox goes on under its next generation when it has grown to this; the old one is deleted whole when applied. */
export const rotateBytes: number = 64 * 1024 * 1024
/** The same for a small one that has a receipt for everything, after it was quiet for so long. */
export const rotateQuietBytes: number = 4 * 1024 * 1024
export const rotateQuietMs = 30_000
/** The same when its storage node asks for it. At the bound below, the largest of 1,024 inboxes has as much. */
export const rotateAskedBytesMin: number = 64 * 1024
/** A node asks for the same generation no more often than this. */
export const rotateAskMs = 1_000
/** Applied blocks that a storage node keeps, all inboxes together; from half of it on it asks writers to rotate. */
export const inboxAppliedBytesMax: number = 64 * 1024 * 1024
/** What the store holds in memory before it writes a table: two of these, and as much of a log on disk (upstream: 64 MiB). */
export const storeBufferBytes: number = 16 * 1024 * 1024
/** Results of rejected operations that the index keeps for one log until its writer has seen them: 100 B each. */
export const resultsPerWriterMax = 100_000
/** Deleted bytes that wait for the store to be compacted, and how long. */
export const reclaimBytes: number = 16 * 1024 * 1024
export const reclaimMs = 10_000
/** They must be this part of what the store holds, since all of it is written anew: at once, and after that time. */
export const reclaimShare = 0.3
export const reclaimLateShare = 0.1
/** Requests of deleted generations that are remembered, so that one that is sent again is found: 40 B each. */
export const deletedRequestsMax = 4096
/** Deleted generations of one outbox that are remembered; each stands for up to rotateBytes of writes. */
export const deletedGenerationsMax = 4096
/** How often an outbox is looked at that was quiet, or whose rotation failed. */
export const rotateLookMs = 5_000

/** One apply batch: operations and bytes; an index is fastest from some hundreds on (measured). */
export const applyOperationsMax = 1000
export const applyBytesMax: number = 4 * 1024 * 1024
/** What one writer may put into one batch while others wait. */
export const applyOperationsPerWriterMax = 500

/** Connections in all, and for ids that the configuration does not name. */
export const connectionsMax = 1024
export const connectionsUnnamedMax = 64
/** Handshakes that others have begun and not finished; each holds a socket buffer of 64 KiB. Named ids redial fast. */
export const handshakesMax = 256
/** Of those, for ids that the configuration does not name, and for any one id. */
export const handshakesUnnamedMax = 16
export const handshakesPerIdMax = 16
/** A handshake that came to nothing is forgotten after so long; hyperdht forgets it after 10 s. */
export const handshakeMs = 10_000
/** Dials under way at once; a dial to a dead peer holds its place for seconds. */
export const dialsMax = 256
/** A joined peer without a connection is put forward again this often, since hyperswarm forgets some. */
export const nudgeIntervalMs = 5_000
/** The other side's first bytes follow its end of the handshake at once, half a round trip behind. */
export const firstBytesTimeoutMs = 3_000
/** What an orderly end of the network may take: it tells the DHT, which may not answer. */
export const networkCloseTimeoutMs = 1_500
/** What waits to be sent together in one frame; upstream's 8 MiB and a message do not fit into one. */
export const batchBytesMax: number = 256 * 1024
/** A frame that comes in: a batch and one block. */
export const frameBytesMax: number = blockBytesMax + 2 * batchBytesMax
/** A frame from a peer that has nothing to give us but questions. */
export const frameBytesReaderMax: number = 2 * batchBytesMax
/** What may wait for a peer that does not read: a few blocks of the largest size. */
export const sendBytesMax: number = 4 * blockBytesMax
/** Channels that a peer may have open on a connection: ours, and one for each core that is served on it. */
export const channelsMax = 4_096
export const channelsUnnamedMax = 256
/** What opens a channel: names and a capability, about 120 B. It is kept as long as the channel. */
export const channelOpenBytesMax = 1_024
/** Requests of one peer for one core; hypercore makes at most 512. */
export const requestsMax = 8_192
/** So far above our own length a peer may claim single blocks; 4 KiB are kept for each 32,768 of them. */
export const blocksAheadMax: number = 2 ** 24
/** Generation records of one peer, at once and a second: each costs the check of a signature, about 0.1 ms. */
export const recordsBurstMax = 1_024
export const recordsPerSecondMax = 64
/** A log's next generation is taken up so long after the one before at the earliest: each one opens a core. */
export const generationIntervalMs = 250
/** Warnings of a node, at once and a second: peers cause most of them, and must not fill a log. */
export const warningsBurstMax = 50
export const warningsPerSecondMax = 0.2
/** What first blocks of an outbox's generations say is remembered for so many; about 100 B each. */
export const linksMax = 4_096
/** One message of our channel; the largest carry generation records. */
export const messageBytesMax: number = 64 * 1024
/** Messages of our channel that wait for a slow peer, in all. */
export const queueMessagesMax = 4_096
export const queueBytesMax: number = 16 * messageBytesMax
/** Our channel's ping; a silent death is noticed only after 16 s otherwise (measured). */
export const pingIntervalMs = 2_000
export const pingTimeoutMs = 8_000
/** The watchdog looks once a second for a want that nobody serves. */
export const watchdogIntervalMs = 1_000
export const watchdogPatienceMs = 5_000
/** Dialling again: with hyperswarm's own back-off a peer that was away for 60 s is not found within 45 s (measured). */
export const redialBackoffsMs: readonly number[] = [500, 1000, 2000, 3000]

/** A unix socket's path; Node 20 silently truncates longer ones (measured at 107). */
export const socketPathBytesMax = 100
/** One request on the control socket: a value of 8 MiB in base64, and its frame. */
export const controlRequestBytesMax: number = 16 * 1024 * 1024
/** Capacities: decimals of at most six places in this range. */
export const capacityMin = 0.000001
export const capacityMax = 1_000_000_000

/** An inbox's log that closes again and again is opened again after this, twice as long each time … */
export const reopenBackoffMinMs = 100
export const reopenBackoffMaxMs = 10_000
/** … until it has stayed open for so long. */
export const reopenQuietMs = 10_000

/**
 * Kept free on the disk of the data directory: two tables of 64 MiB that are being written, the 70 MiB that the store
 * sets aside for its next log, and the same again; on a small disk this share of it.
 */
export const diskReserveBytesDefault: number = 256 * 1024 * 1024
export const diskReserveShareMax = 0.1
/** A look at the free space is believed for so long. */
export const diskCheckMs = 100
/** How often it is looked at when nobody writes: how soon a storage node goes on when there is room again. */
export const diskWatchMs = 1000

/** How long a sync waits for a file handle when this process has none left, and how often it tries. */
export const handlesWaitMs = 10_000
export const handlesRetryMs = 100

/** A backup copies the store in pieces of this size; a piece is held in memory. */
export const backupChunkBytes: number = 4 * 1024 * 1024
/** Files can go while a backup reads them (the holder merges its tables); each try reads a newer state. */
export const backupTriesMax = 5

/** A key of an index: a kind byte, an epoch or a time, an encoded key. */
export const indexKeyBytesMax: number = keyBytesMax + 16
/** Blocks of entries are filled up to here; smaller ones cost more of a log, larger ones more of a get (measured). */
export const indexBlockBytes = 1024
/** Pages of a directory: 64 entries or so. */
export const indexPageBytes = 512
/** Children of a lowest fence, whose filter then has some 300 B, and of a higher one, 1 KiB or so. */
export const indexFenceChildren = 30
export const indexUpperChildren = 120
/** The topmost fence of a run stands in every block of the anchor. */
export const indexTopBytesMax = 4096
export const indexTopBytesTarget = 1536
/** Entries of a small step lie in its last block, up to here. */
export const indexInlineBytesMax = 1536
/**
 * Blocks of others' indexes: more than any that this version makes, whatever the keys are, and few enough that all
 * that a read has in its hands at a time stays small.
 */
export const indexEntriesBytesMax = 4096
export const indexDirectoryBytesMax = 4096
export const indexFenceBytesMax: number = 192 * 1024
export const indexStepBytesMax: number = 64 * 1024
/** Children of a fence; a topmost one with short texts has some 500. */
export const indexChildrenMax = 1024
/** Levels of fences: 30 children and then 120 each are more blocks than a core can have. */
export const indexLevelsMax = 8
/** Blocks of one core, and of all journals of an index together: what others say counts no further. */
export const indexCoreBlocksMax: number = 2 ** 40
export const indexBlocksMax: number = 2 ** 48
/** Blocks of entries of one step, and of large values: a batch has 4 MiB and a thousand operations. */
export const indexStepBlocksMax = 65_536
/** Parts of one state; this version makes some 640 at most, with a run of 10^9 entries. */
export const indexPartsMax = 1024
/**
 * What one read may take of blocks, decoded: a get in all, a range at a time. Some MB are usual; 60 parts with the
 * longest keys, and a path of full fences in each, take 24 MB.
 */
export const indexReadBytesMax: number = 128 * 1024 * 1024
/** Blocks that all parts of a range fetch ahead together, beside the one that each is at. */
export const indexAheadBlocksMax = 256
/** Blocks of entries that are fetched at a time when changes are read. */
export const indexChangesAheadMax = 64
/** Journals that are kept for large values, about 64 MiB each. */
export const indexKeptMax = 131_072
/** Of these, so many are open for a reader at a time. */
export const indexKeptOpenMax = 64
/** Cores that a layout leaves behind, and that are deleted one by one; of more, what lies here is looked for. */
export const indexForgetMax = 256
/** Layouts of another's index that are followed, at once and a second: each may open a core. */
export const indexLayoutsBurstMax = 128
export const indexLayoutsPerSecondMax = 16
/**
 * Values above this have a block of their own, and are not merged: at 1,024 B they cost three times their size of log
 * (measured).
 */
export const indexValueInlineBytesMax = 512
/** Small steps before they are put under one directory, and sources of one size class before they are. */
export const indexSmallStepsMax = 16
export const indexFanOut = 8
/** Sources of a journal: small steps, and up to 8 of each size class. */
export const indexSourcesMax = 256
/** A journal becomes a run at so many entries, or at this part of the largest run, or at so many bytes. */
export const indexJournalEntriesMin = 4096
export const indexJournalShare: number = 1 / 16
export const indexJournalBytesMax: number = 64 * 1024 * 1024
/** Journals of one state: the one that grows, and those that wait to become runs. */
export const indexJournalsMax = 8
export const indexRunsMax = 64
/** All runs are merged when there are more than these beside the largest, or they have this part of its entries. */
export const indexUpperRunsMax = 8
export const indexUpperShare = 0.5
/** What all indexes of a process keep of blocks that they have read. */
export const indexCacheBytesMax: number = 32 * 1024 * 1024
/** Large values that a range fetches at a time. */
export const indexValuesAheadBytesMax: number = 4 * 1024 * 1024
/** A block of a state that was replaced is waited for so long; then the newer state is read. */
export const indexReplacedWaitMs = 700
/** Work of an index in the background that is done at a time; then it rests as long. */
export const indexSliceMs = 6
export const indexRestMaxMs = 25
/** An index that nobody has written to for so long is tidied up. */
export const indexQuietMs = 5_000
/** Then its journal becomes a run when it has this part of the entries, and runs are merged. */
export const indexTidyShare = 0.1
export const indexTidyEntriesMin = 256
/** A core that an index has replaced is deleted after so long: somebody may be reading in it. */
export const indexGraceMs = 10_000
/** Journals that are in a run already are kept for who follows: so long, and so many bytes beside the live ones. */
export const indexHistoryMs = 30_000
export const indexHistoryShare = 0.5
export const indexHistoryBytesMin: number = 1024 * 1024
/** A kept journal whose large values are dead to this part is emptied: what lives is written again. */
export const indexDeadShare = 0.5
/** Journals that become runs while all runs are merged: who writes is slowed down to that. */
export const indexFlushesPerMerge = 8
/** For reads that take only what is here: so many blocks back a state is looked for that is here. */
export const indexLookBackBlocksMax = 256
/** Who has read an index within this time gets what a read begins with as it comes. */
export const indexReadingMs = 10_000
/** When they hold more than this part of the live bytes, and so many, the oldest of them go after a second. */
export const indexReplacedShare = 0.5
export const indexReplacedBytesMin: number = 1024 * 1024
export const indexGraceMinMs = 1_000
