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
pub const FRAGMENT_HEADER_BYTES: usize = 16;

/// Frame bytes in one fragment.
pub const FRAGMENT_BYTES: usize = PAYLOAD_BYTES_MAX - FRAGMENT_HEADER_BYTES;

/// Encoded data of one entry, bytes: a generous statement, and a board's memory.
pub const ENTRY_BYTES_MAX: usize = 8 << 20;

/// Values in one change: what decoding may cost a small board, 64 MB at the most.
pub const CHANGE_CELLS_MAX: usize = 1 << 21;

/// Bytes of a change's strings that stand elsewhere in it already.
pub const CHANGE_COPIED_BYTES_MAX: usize = 4 * ENTRY_BYTES_MAX;

/// A frame: one entry of the largest size and its envelope, bytes.
pub const FRAME_BYTES_MAX: usize = ENTRY_BYTES_MAX + 4_096;

/// Fragments of the largest frame; their bitmap must fit one payload.
pub const FRAGMENTS_MAX: usize = FRAME_BYTES_MAX.div_ceil(FRAGMENT_BYTES);

/// Heap that all reassemblies of a node share, bytes: two of the largest frames.
pub const REASSEMBLY_BYTES_MAX: usize = 2 * FRAME_BYTES_MAX;

/// Entry data in one append message, bytes, unless a single entry is larger.
/// One message fits one datagram when entries are small.
pub const APPEND_BYTES_MAX: u64 = 64 << 10;

/// Append messages under way to one follower.
pub const APPENDS_IN_FLIGHT_MAX: usize = 16;

/// Entry data a leader may have proposed and not committed, bytes.
pub const UNCOMMITTED_BYTES_MAX: u64 = 2 * ENTRY_BYTES_MAX as u64;

/// Entry data a node holds in memory above its applied index before it refuses
/// further appends, bytes.
pub const UNAPPLIED_BYTES_MAX: u64 = UNCOMMITTED_BYTES_MAX + ENTRY_BYTES_MAX as u64;

/// Entry data handed to the database in one effect, bytes.
pub const APPLY_BYTES_MAX: u64 = 1 << 20;

/// Entry data kept in memory at or below the applied index, bytes: what a
/// follower close behind wants next, without a read of the journal.
pub const LOG_CACHE_BYTES: u64 = 256 << 10;

/// Pieces of the log read back from the journal and kept until they are sent.
pub const LOG_CHUNKS_MAX: usize = 8;

/// Highest index or term that is taken from a peer: far beyond any real one,
/// and far from overflow.
pub const COUNTER_MAX: u64 = 1 << 56;

/// ReadIndex rounds of followers that a leader keeps open.
pub const READ_ROUNDS_MAX: usize = 2 * MEMBERS_MAX;

/// Reads handed to the database and not yet answered.
pub const QUERIES_OPEN_MAX: usize = 64;

/// Apply effects under way: one being worked on, one waiting behind it.
pub const APPLIES_OPEN_MAX: usize = 2;

/// Boards of a group.
pub const MEMBERS_MAX: usize = 32;

/// Persist effects under way; beyond it a node takes nothing new from peers.
pub const PERSISTS_OPEN_MAX: usize = 256;

/// Raft ticks between two tellings of where a board's HTTP listens.
pub const PRESENCE_TICKS: u64 = 400;

/// A board's name, an address, bytes.
pub const NAME_BYTES_MAX: usize = 128;

/// Addresses a board announces.
pub const ADDRESSES_MAX: usize = 16;

/// Boards that vote.
pub const VOTERS_MAX: usize = 7;

/// Local requests waiting for a leader, a batch or a read round.
pub const REQUESTS_WAITING_MAX: usize = 1_024;

/// Bytes of local requests waiting.
pub const REQUESTS_WAITING_BYTES_MAX: usize = 16 << 20;

/// Requests gathered into one batch.
pub const BATCH_REQUESTS_MAX: usize = 256;

/// Request bytes gathered into one batch, unless one alone is larger.
pub const BATCH_BYTES_MAX: usize = 1 << 20;

/// One request's body, bytes.
pub const REQUEST_BYTES_MAX: usize = ENTRY_BYTES_MAX;

/// One response, bytes encoded.
pub const RESPONSE_BYTES_MAX: usize = ENTRY_BYTES_MAX;

/// Forwarded requests one origin may have open, and how far back a leader
/// recognises a repeated one.
pub const FORWARDS_OPEN_MAX: usize = 256;

/// Bytes of answers a leader keeps until their origin has confirmed them.
pub const ANSWERS_KEPT_BYTES_MAX: usize = 2 * RESPONSE_BYTES_MAX;

/// Counters behind the newest that a seal still accepts, each once.
pub const REPLAY_WINDOW: usize = 1_024;

const _: () = assert!(FRAGMENTS_MAX.div_ceil(8) + FRAGMENT_HEADER_BYTES <= PAYLOAD_BYTES_MAX);
const _: () = assert!(FRAME_BYTES_MAX <= REASSEMBLY_BYTES_MAX);
const _: () = assert!(UNCOMMITTED_BYTES_MAX < UNAPPLIED_BYTES_MAX);
const _: () = assert!(APPEND_BYTES_MAX < ENTRY_BYTES_MAX as u64);
const _: () = assert!(VOTERS_MAX <= MEMBERS_MAX);
const _: () = assert!(BATCH_REQUESTS_MAX <= REQUESTS_WAITING_MAX);
