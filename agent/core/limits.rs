//! Every bound, its unit and its reason, and how the bounds hang together.
//! A board file may lower a bound, never raise it.

/// A sealed datagram on any road, bytes: below every common path's MTU, IPv6 and
/// tunnels included.
pub const DATAGRAM_BYTES_MAX: usize = 1_200;

/// What the seal adds to a payload, bytes: kind, session, counter, tag.
pub const SEAL_BYTES: usize = 32;

/// What the core may hand to one [`crate::event::Effect::Send`], bytes.
pub const PAYLOAD_BYTES_MAX: usize = DATAGRAM_BYTES_MAX - SEAL_BYTES;

/// Header of a fragment inside a payload, bytes.
pub const FRAGMENT_HEADER_BYTES: usize = 20;

/// Frame bytes in one fragment.
pub const FRAGMENT_BYTES: usize = PAYLOAD_BYTES_MAX - FRAGMENT_HEADER_BYTES;

/// Encoded data of one entry, bytes: a generous statement, and a board's memory.
pub const ENTRY_BYTES_MAX: usize = 8 << 20;

/// Values in one change: what decoding may cost a small board, 64 MB at the most.
pub const CHANGE_CELLS_MAX: usize = 1 << 21;

/// Values that a row of a change counts for besides its own, by what it costs in
/// memory.
pub const CHANGE_ROW_CELLS: usize = 3;

/// Rows one request may touch: what noting them may cost a small board, 50 MB at
/// the most.
pub const REQUEST_ROWS_MAX: usize = 1 << 18;

/// Memory of the keys and values that are noted of those rows, bytes: the keys of
/// any change that an entry may hold.
pub const REQUEST_NOTES_BYTES_MAX: usize = 64 << 20;

/// Bytes of the rows that a request touches, as they were and as they become: SQLite
/// keeps in memory what it needs to undo a statement, about twice as much.
pub const REQUEST_TOUCHED_BYTES_MAX: usize = 64 << 20;

/// Words of one view or trigger with those it names written out, or of a statement
/// beside what it has anyway: 60 MB of memory and some tenths of a second, at the worst.
pub const SQL_WORDS_MAX: u32 = 1 << 15;

/// Words of all views and triggers together: what ALTER compiles at once, and what
/// views that stand upon each other one by one come to.
pub const VIEWS_WORDS_MAX: u32 = 1 << 18;

/// Bytes of a change's strings that stand elsewhere in it already.
pub const CHANGE_COPIED_BYTES_MAX: usize = 4 * ENTRY_BYTES_MAX;

/// A frame: one entry of the largest size and its envelope, bytes.
pub const FRAME_BYTES_MAX: usize = ENTRY_BYTES_MAX + 4_096;

/// Checksum behind a frame that goes in fragments, bytes.
pub const FRAME_CHECK_BYTES: usize = 4;

/// Fragments of the largest frame; their bitmap must fit one payload.
pub const FRAGMENTS_MAX: usize = (FRAME_BYTES_MAX + FRAME_CHECK_BYTES).div_ceil(FRAGMENT_BYTES);

/// Heap that all reassemblies of a node share, bytes: two of the largest frames.
/// One peer gets half of it, so that no peer alone can keep the others out.
pub const REASSEMBLY_BYTES_MAX: usize = 2 * FRAME_BYTES_MAX;

/// Frames above one payload that are held for one peer until it has them, and
/// how many it reassembles at a time: all appends under way, and some answers.
/// Their bytes together are those of one largest frame.
pub const TRANSFERS_MAX: usize = APPENDS_IN_FLIGHT_MAX + 8;

/// Heap that all such frames of a node share, bytes: the largest entry for every
/// other board of a group of five.
pub const SENDING_BYTES_MAX: usize = 4 * FRAME_BYTES_MAX;

/// Peers whose links are remembered; the one longest unused gives way.
pub const LINKS_MAX: usize = MEMBERS_MAX;

/// Fragments under way to one peer at least: few enough for any radio, enough to
/// learn of a loss from what came after it.
pub const WINDOW_FRAGMENTS_MIN: usize = 8;

/// Fragments under way to a peer nothing is known of yet: half of what Linux
/// buffers for a socket by default.
pub const WINDOW_FRAGMENTS_START: usize = 32;

/// Fragments under way to one peer at most: 300 KB, a cable's worth.
pub const WINDOW_FRAGMENTS_MAX: usize = 256;

/// Fragments sent to one peer within one millisecond: about 600 Mbit/s, and never
/// a burst that fills a socket's buffer by itself.
pub const BURST_FRAGMENTS_MAX: usize = 64;

/// Fragments received before they are acknowledged unasked.
pub const ACKNOWLEDGE_FRAGMENTS_MAX: usize = 16;

/// Fragments received are acknowledged after this at the latest, milliseconds.
pub const ACKNOWLEDGE_MS_MAX: u64 = 5;

/// Fragments sent again when no acknowledgement comes: two, since one may be lost.
pub const PROBE_FRAGMENTS: usize = 2;

/// Rows of the group's history: the oldest go. About 1 MB.
pub const HISTORY_ROWS_MAX: u64 = 10_000;

/// The reason in one of them, bytes.
pub const HISTORY_REASON_BYTES_MAX: usize = 200;

/// Duties of a group: what one renewal names.
pub const DUTIES_MAX: usize = 32;

/// A duty that has moved so often within so long, milliseconds, stays where it is.
pub const DUTY_MOVES_MAX: usize = 3;
/// See [`DUTY_MOVES_MAX`].
pub const DUTY_MOVES_MS: u64 = 600_000;

/// What a board must be able to do for a duty: so many names at most.
pub const DUTY_NEEDS_MAX: usize = 8;

/// What a duty leaves to its next holder, bytes.
pub const CHECKPOINT_BYTES_MAX: usize = 64 << 10;

/// Renewals of a board that are not answered: older ones count no more.
pub const RENEWALS_OPEN_MAX: usize = 16;

/// Renewals that wait for a leader's round: those of all boards.
pub const RENEWALS_WAITING_MAX: usize = 2 * MEMBERS_MAX;

/// Ticks between two offers of leadership by a drained leader.
pub const DRAIN_TICKS: u64 = 100;

/// Ticks between two words of a board on the duties it is ready for.
pub const READY_TICKS: u64 = 20;

/// Silence after which a fragment is sent again to a peer whose round trip is not
/// known yet, milliseconds.
pub const PROBE_MS_START: u64 = 300;

/// Longest time between two tries at a silent peer, milliseconds.
pub const PROBE_MS_MAX: u64 = 10_000;

/// Growth of the round trip over its least, milliseconds, that counts as a full
/// queue on the way: heartbeats wait in that queue too.
pub const QUEUEING_MS_MAX: u64 = 100;

/// A peer that acknowledges nothing new for so long gets no more of the frames
/// held for it, milliseconds: whoever needs them sends them anew.
pub const TRANSFER_MS_MAX: u64 = 60_000;

/// Frames partly received are given up when nothing of them came for so long,
/// milliseconds: their sender has given up as well.
pub const ARRIVAL_MS_MAX: u64 = TRANSFER_MS_MAX + 2 * PROBE_MS_MAX;

/// And after this much silence where another peer's frame needs the room.
pub const ARRIVAL_IDLE_MS: u64 = 2_000;

/// Entry data in one append message, bytes, unless a single entry is larger.
/// One message fits one datagram when entries are small.
pub const APPEND_BYTES_MAX: u64 = 64 << 10;

/// Entries in one append message: those of one piece of the log, and as many
/// again that raft-rs may put behind it from those not yet handed out.
pub const APPEND_ENTRIES_MAX: usize = 2 * LOG_PIECE_ENTRIES_MAX;

/// Entries in one piece of the log, whatever their bytes.
pub const LOG_PIECE_ENTRIES_MAX: usize = 4_096;

/// What an entry costs in memory beside its data, bytes, rounded up: entries of
/// no data are bounded by it.
pub const ENTRY_OVERHEAD_BYTES: u64 = 256;

/// Append messages under way to one follower.
pub const APPENDS_IN_FLIGHT_MAX: usize = 16;

/// Entry data a leader may have proposed and not committed, bytes.
pub const UNCOMMITTED_BYTES_MAX: u64 = 2 * ENTRY_BYTES_MAX as u64;

/// Bytes of entries a node holds in memory above its applied index before it
/// refuses further appends, each with [`ENTRY_OVERHEAD_BYTES`].
pub const UNAPPLIED_BYTES_MAX: u64 = UNCOMMITTED_BYTES_MAX + ENTRY_BYTES_MAX as u64;

/// Entry data handed to the database in one effect, bytes.
pub const APPLY_BYTES_MAX: u64 = 1 << 20;

/// Entry data kept in memory at or below the applied index, bytes: what a
/// follower close behind wants next, without a read of the journal.
pub const LOG_CACHE_BYTES: u64 = 256 << 10;

/// Pieces of the log read back from the journal and kept until they are sent.
pub const LOG_CHUNKS_MAX: usize = 8;

/// Their entry data together, bytes, unless the newest alone is larger.
pub const LOG_CHUNKS_BYTES_MAX: u64 = LOG_CHUNKS_MAX as u64 * APPEND_BYTES_MAX;

/// Entries kept in the journal below what the database holds for good: a board that
/// was away for an hour, at ten readings a second written one by one, is brought up
/// to date with entries alone.
pub const LOG_KEPT_ENTRIES: u64 = 40 << 10;

/// And their bytes, where they come to that many first: what a card has room for
/// without a thought, and the largest entry among them.
pub const LOG_KEPT_BYTES: u64 = ENTRY_BYTES_MAX as u64;

/// So many times as much is kept while a board that is heard wants it.
pub const LOG_KEPT_WANTED: u64 = 2;

/// What a witness keeps in its journal below what all others hold: nobody but a board
/// that was away for a moment wants it.
pub const WITNESS_KEPT_ENTRIES: u64 = 1_024;

/// And their bytes.
pub const WITNESS_KEPT_BYTES: u64 = 256 << 10;

/// What a witness's log may take while one of the boards with the data is away, bytes:
/// more than a day at ten readings a second written one by one. Above what its database
/// makes durable at a time.
pub const WITNESS_LOG_BYTES: u64 = 64 << 20;

/// A request of an agent that is no more than this is done where those of users are refused
/// because one board alone would have what they write, bytes: a setting, a board's report
/// of its digests; not a part of a load.
pub const AGENT_BYTES_MAX: usize = 32 << 10;

/// What a row of the journal takes beside its entry's data, bytes, about.
pub const LOG_ROW_BYTES: u64 = 32;

/// Entries are counted, and go, in stretches of so many at most.
pub const LOG_STRETCH_ENTRIES: u64 = 64;

/// And of this part of the bytes that are kept, unless one entry alone is larger.
pub const LOG_STRETCHES: u64 = 64;

/// Entries taken out of the journal by one write, unless one stretch has more: as
/// many as one may bring, so that taking out keeps step.
pub const LOG_CUT_ENTRIES_MAX: u64 = APPEND_ENTRIES_MAX as u64;

/// And their bytes.
pub const LOG_CUT_BYTES_MAX: u64 = ENTRY_BYTES_MAX as u64 + APPEND_BYTES_MAX;

/// Highest index or term that is taken from a peer: far beyond any real one,
/// and far from overflow.
pub const COUNTER_MAX: u64 = 1 << 56;

/// ReadIndex rounds of followers that a leader keeps open.
pub const READ_ROUNDS_MAX: usize = 2 * MEMBERS_MAX;

/// Reads handed to the database and not yet answered.
pub const QUERIES_OPEN_MAX: usize = 64;

/// Apply effects under way: one being worked on, one waiting behind it.
pub const APPLIES_OPEN_MAX: usize = 2;

/// Effects that wait for the database: reads, applies and one batch, twice, since
/// all are asked for again after a reset while the old ones still wait; and pages.
pub const DATABASE_EFFECTS_MAX: usize =
    2 * (QUERIES_OPEN_MAX + APPLIES_OPEN_MAX + 1) + PAGES_WORK_MAX;

/// Boards of a group.
pub const MEMBERS_MAX: usize = 32;

/// Persist effects under way; beyond it a node takes nothing from peers that it
/// would have to write down.
pub const PERSISTS_OPEN_MAX: usize = 256;

/// Messages that wait for one of them.
pub const MESSAGES_HELD_MAX: usize = 2 * MEMBERS_MAX;

/// Reads of the journal for sending, under way at a time.
pub const FETCHES_OPEN_MAX: usize = 2 * MEMBERS_MAX;

/// Effects that wait for the journal: persists, those of an event that came at
/// their bound, reads for sending and one for the database.
pub const JOURNAL_EFFECTS_MAX: usize = 2 * PERSISTS_OPEN_MAX;

/// Raft ticks between two questions which start a peer is in, that is heard.
pub const START_TICKS: u64 = 400;

/// And at least, whatever it does.
pub const START_TICKS_MIN: u64 = 10;

/// Raft ticks between two tellings of where a board's HTTP listens.
pub const PRESENCE_TICKS: u64 = 400;

/// A peer's clock counts for so long after it was told, milliseconds.
pub const WALL_HEARD_MS: u64 = 300_000;

/// Clocks that are not further apart agree, microseconds.
pub const WALL_APART_US_MAX: u64 = 60_000_000;

/// Raft ticks between two tellings of what the leader knows of the others.
pub const OTHERS_TICKS: u64 = 100;

/// And at least, when that has changed.
pub const OTHERS_TICKS_MIN: u64 = 10;

/// And between two tries of a witness to tell a leader what it has, until that answers.
pub const TAIL_TICKS: u64 = 2;

/// Settings of a group that a leader tells a witness, each with a name and a value of
/// [`NAME_BYTES_MAX`].
pub const SETTINGS_MAX: usize = 32;

/// A board's name, an address, bytes.
pub const NAME_BYTES_MAX: usize = 128;

/// Addresses a board announces.
pub const ADDRESSES_MAX: usize = 16;

/// Boards that vote.
pub const VOTERS_MAX: usize = 7;

/// Boards that vote unless the group has set another number: two may be lost,
/// and more would only make each write wait for more disks.
pub const VOTERS_DEFAULT: usize = 5;

/// Boards taken out whose keys are remembered, so that they are told.
pub const REMOVED_MAX: usize = MEMBERS_MAX;

/// Invitations that hold at the same time.
pub const INVITATIONS_MAX: usize = 8;

/// Longest time for which one holds, milliseconds: 30 days.
pub const INVITATION_MS_MAX: u64 = 30 * 86_400_000;

/// Keys of a group that are not forgotten: while a board is away, so many times as it
/// can be changed, less one.
pub const KEYS_MAX: usize = 4;

/// A key sealed to one board, bytes: Noise's pattern N over 32.
pub const KEY_COPY_BYTES: usize = 80;

/// A key is used without those that lack it after so many times the time after which
/// a board counts as unreachable.
pub const KEY_USE_TIMES: u64 = 2;

/// Entries that a board may be behind and count as caught up.
pub const CAUGHT_UP_ENTRIES: u64 = 64;

/// Local requests waiting for a leader, a batch or a read round.
pub const REQUESTS_WAITING_MAX: usize = 1_024;

/// Bytes of local requests waiting.
pub const REQUESTS_WAITING_BYTES_MAX: usize = 16 << 20;

/// Requests gathered into one batch.
pub const BATCH_REQUESTS_MAX: usize = 256;

/// Request bytes gathered into one batch, unless one alone is larger.
pub const BATCH_BYTES_MAX: usize = 1 << 20;

/// Time after which a batch takes no further request, milliseconds: those before
/// are proposed, and the others begin the next. A request that has begun goes on
/// until [`REQUEST_MS_MAX`], each of its statements within its own time.
pub const BATCH_MS_MAX: u64 = 1_000;

/// No statement of a request is begun after this, milliseconds: the database does
/// nothing else meanwhile.
pub const REQUEST_MS_MAX: u64 = 60_000;

/// A sensor's name, bytes.
pub const SENSOR_NAME_BYTES_MAX: usize = 128;

/// A reading's text, bytes.
pub const READING_TEXT_BYTES_MAX: usize = 256;

/// A caller's own name for a reading, bytes.
pub const READING_ID_BYTES_MAX: usize = 64;

/// Readings that come or travel together.
pub const BATCH_READINGS_MAX: usize = 1 << 10;

/// Bytes of readings that travel together.
pub const BATCH_READINGS_BYTES_MAX: usize = 64 << 10;

/// Readings that a board holds in memory and that are neither committed nor spooled.
pub const INTAKE_READINGS_MAX: usize = 16 << 10;

/// And their bytes, names and values.
pub const INTAKE_BYTES_MAX: usize = 4 << 20;

/// Callers that wait for what becomes of readings.
pub const INTAKE_CALLERS_MAX: usize = REQUESTS_WAITING_MAX;

/// Batches of readings under way from a board to the leader.
pub const INTAKE_BATCHES_MAX: usize = 4;

/// Time after which a batch that was refused for good is tried again when its readings
/// were acknowledged, milliseconds.
pub const INTAKE_REFUSED_MS: u64 = 10_000;

/// A reading that is not committed after so long is written to the spool, milliseconds,
/// unless its board's configuration says otherwise.
pub const SPOOL_AFTER_MS: u64 = 1_000;

/// What a spool may take on a board's disk, bytes, unless its configuration says
/// otherwise: a month of a reading a second.
pub const SPOOL_BYTES_MAX: u64 = 64 << 20;

/// One piece of a spool, bytes, unless a reading alone is larger.
pub const SPOOL_PIECE_BYTES_MAX: usize = 16 << 10;

/// What a piece takes beside its data, bytes, about.
pub const SPOOL_PIECE_OVERHEAD_BYTES: u64 = 32;

/// Between two looks at a spool whose pieces are not on the disk yet, milliseconds.
pub const SPOOL_LOOK_MS: u64 = 100;

/// Numbers that one batch may give up: more than a spool holds in one piece.
pub const BATCH_GIVEN_UP_MAX: usize = 1 << 20;

/// Stretches of a board's numbers that are resolved above one that is not: what comes out
/// of order while a batch is under way, and 20 KB at the most.
pub const LEDGER_RANGES_MAX: usize = 1_024;

/// Ids of readings that a group remembers, each for [`READING_ID_MS`]: 10 MB.
pub const READING_IDS_MAX: u64 = 100_000;

/// A reading with the id of one that is not older than this is that reading,
/// milliseconds: a day.
pub const READING_ID_MS: u64 = 86_400_000;

/// Ids that are due and forgotten for each that comes.
pub const READING_IDS_FORGOTTEN: u64 = 2;

/// A reading whose instant is taken comes to stand so many units later at the most.
pub const READING_STEPS_MAX: u64 = 1_000;

/// Readings that one entry puts right, whose board's clock was set.
pub const CLOCK_ROWS_MAX: u32 = 500;

/// Rules of what is kept of readings.
pub const RETENTION_RULES_MAX: u32 = 256;

/// Widths that one of them rolls up.
pub const RETENTION_ROLLUPS_MAX: usize = 4;

/// Readings that are looked at for one entry to roll them up, and those of one bucket
/// more: some hundredths of a second.
pub const TEND_READINGS_MAX: u64 = 20_000;

/// Buckets that one entry rolls up, and those of a day of one sensor more.
pub const TEND_BUCKETS_MAX: u64 = 500;

/// Rows that one entry trims.
pub const TEND_TRIMMED_MAX: u64 = 5_000;

/// Statements of one request: what they and their results may cost in memory.
pub const REQUEST_STATEMENTS_MAX: usize = 1 << 16;

/// Values bound to the statements of one request: 32 MB of memory.
pub const REQUEST_VALUES_MAX: usize = 1 << 20;

/// One request's body, bytes.
pub const REQUEST_BYTES_MAX: usize = ENTRY_BYTES_MAX;

/// One response, bytes encoded, and an eighth of what it takes in memory, about.
pub const RESPONSE_BYTES_MAX: usize = ENTRY_BYTES_MAX;

/// Forwarded requests one origin may have open, and how far back a leader
/// recognises a repeated one.
pub const FORWARDS_OPEN_MAX: usize = 256;

/// Bytes of answers a leader keeps until their origin has confirmed them.
pub const ANSWERS_KEPT_BYTES_MAX: usize = 2 * RESPONSE_BYTES_MAX;

/// Tables that a scrub digests one by one; those beyond are digested together.
pub const SCRUB_TABLES_MAX: usize = 64;

/// Cuts of a part that are aimed at.
pub const SCRUB_CUTS: u64 = 32;

/// Cuts of a part: beyond, the last stretch takes all.
pub const SCRUB_CUTS_MAX: usize = 256;

/// Parts asked for after a scrub, each finer than the one before.
pub const SCRUB_PARTS_MAX: usize = 6;

/// Rows that differ named one by one.
pub const SCRUB_ROWS_NAMED_MAX: usize = 4;

/// What a board says of a table it cannot read, bytes.
pub const SCRUB_PROBLEM_BYTES_MAX: usize = 200;

/// A board's reports that wait to be written.
pub const SCRUB_WISHES_MAX: usize = 4;

/// A page of a database, bytes: the same in every group.
pub const PAGE_BYTES: usize = 1_024;

/// What travels of a page's hash, bytes.
pub const PAGE_HASH_BYTES: usize = 4;

/// Pages in one answer: half a second of a slow radio.
pub const PAGES_ASKED_MAX: usize = 32;

/// Nodes of a tree in one question; the answer is as small as a few pages.
pub const PAGES_NODES_ASKED_MAX: usize = 64;

/// Questions about pages under way from one board: while one is answered and one is
/// under way, others are read and written.
pub const PAGES_WISHES_MAX: usize = 4;

/// Questions about pages that a source has not answered.
pub const PAGES_SERVED_MAX: usize = 2 * PAGES_WISHES_MAX;

/// Work on pages under way at one board, as a source and as one that pulls.
pub const PAGES_WORK_MAX: usize = 2 * (PAGES_SERVED_MAX + PAGES_WISHES_MAX);

/// A source keeps a state for so long at most, milliseconds: the WAL does not begin
/// anew meanwhile. Whoever pulls goes on against a newer one, with all it has.
pub const PAGES_KEPT_MS_MAX: u64 = 600_000;

/// A question is asked again so many times before its source counts as gone.
pub const PAGES_TRIES_MAX: u64 = 16;

/// A board that was found wrong waits so long before it takes another's rows,
/// milliseconds: what differs is looked for first, and seen by whoever looks.
pub const REPAIR_AFTER_MS: u64 = 60_000;

/// A follower that is to pull pages is told again after so many times the time after
/// which a request is repeated.
pub const SNAPSHOT_REPEATS: u64 = 4;

/// Counters behind the newest that a seal still accepts, each once.
pub const REPLAY_WINDOW: usize = 1_024;

const _: () = assert!(FRAGMENTS_MAX.div_ceil(8) + FRAGMENT_HEADER_BYTES <= PAYLOAD_BYTES_MAX);
const _: () = assert!(FRAGMENTS_MAX <= u16::MAX as usize);
const _: () = assert!(2 * FRAME_BYTES_MAX <= REASSEMBLY_BYTES_MAX);
const _: () = assert!(FRAME_BYTES_MAX <= SENDING_BYTES_MAX);
const _: () = assert!(APPENDS_IN_FLIGHT_MAX < TRANSFERS_MAX && TRANSFERS_MAX < u8::MAX as usize);
const _: () = assert!(WINDOW_FRAGMENTS_MIN <= WINDOW_FRAGMENTS_START);
const _: () = assert!(WINDOW_FRAGMENTS_START <= WINDOW_FRAGMENTS_MAX);
const _: () = assert!(UNCOMMITTED_BYTES_MAX < UNAPPLIED_BYTES_MAX);
const _: () = assert!(LOG_KEPT_ENTRIES >= 10 * 3_600 && LOG_STRETCH_ENTRIES < LOG_CUT_ENTRIES_MAX);
const _: () = assert!(APPEND_BYTES_MAX < ENTRY_BYTES_MAX as u64);
const _: () = assert!(PERSISTS_OPEN_MAX + FETCHES_OPEN_MAX + 32 < JOURNAL_EFFECTS_MAX);
const _: () = assert!(VOTERS_DEFAULT <= VOTERS_MAX && VOTERS_MAX <= MEMBERS_MAX);
const _: () = assert!(KEYS_MAX >= 2);
const _: () = assert!(OTHERS_TICKS_MIN < OTHERS_TICKS && START_TICKS_MIN < START_TICKS);
const _: () = assert!(2 * CHANGE_COPIED_BYTES_MAX <= REQUEST_NOTES_BYTES_MAX);
const _: () = assert!(BATCH_REQUESTS_MAX <= REQUESTS_WAITING_MAX);
