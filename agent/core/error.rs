//! Errors by consequence: reject (the caller or the peer hears it, nothing
//! changed), retry (later may be better), halt (this node must not go on).

use alloc::string::String;
use core::fmt;

use serde::{Deserialize, Serialize};

/// Why a caller's request was not answered with a result. Except for
/// [`Refusal::OutcomeUnknown`], nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Refusal {
    /// No leader is known and none was found in time. Retry.
    NoLeader,
    /// Leadership moved before the request was proposed. Retry.
    LeadershipLost,
    /// The change was proposed, but whether it was committed is not known.
    OutcomeUnknown,
    /// Too many requests are waiting. Retry.
    Busy,
    /// No majority answered in time. Retry.
    TimedOut,
    /// The journal's disk is full. Retry when there is room.
    DiskFull,
    /// The request, or what it changes, is larger than the limit. Reject.
    TooLarge {
        /// Bytes it has.
        bytes: u64,
        /// Bytes it may have.
        bytes_max: u64,
    },
    /// What this board holds is older than the read allows. Retry, or read elsewhere.
    Stale,
    /// The request as such is not acceptable. Reject, with the reason.
    Invalid(String),
    /// Somebody's long read holds this board's database. Retry when it has ended.
    DatabaseHeld,
    /// What this board holds contradicts the other boards. Read elsewhere.
    Fenced,
    /// This board was removed from its group, or its disk does not count any more.
    TakesNoPart,
    /// This board is a witness and keeps no data. Ask another.
    Witness {
        /// One that has it, empty where none is known.
        board: String,
        /// Its HTTP address, empty where it has said none.
        http: String,
    },
    /// One board alone would have what is written. Retry when another is there.
    OneCopy,
    /// The group takes nothing now, and this board can keep no more readings for later.
    SpoolFull {
        /// What its spool may take.
        bytes_max: u64,
    },
}

impl Refusal {
    /// May the same succeed a moment later, without anybody doing anything?
    #[must_use]
    pub const fn is_passing(&self) -> bool {
        match self {
            Self::NoLeader
            | Self::LeadershipLost
            | Self::OutcomeUnknown
            | Self::Busy
            | Self::TimedOut
            | Self::DatabaseHeld => true,
            Self::DiskFull
            | Self::TooLarge { .. }
            | Self::Stale
            | Self::Invalid(_)
            | Self::Fenced
            | Self::TakesNoPart
            | Self::Witness { .. }
            | Self::OneCopy
            | Self::SpoolFull { .. } => false,
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoLeader => f.write_str("leader not found"),
            Self::LeadershipLost => {
                f.write_str("leadership lost before the change was proposed; nothing was changed")
            }
            Self::OutcomeUnknown => f.write_str(
                "leadership lost while committing; it is not known whether the change was made",
            ),
            Self::Busy => f.write_str("too many requests waiting; nothing was changed"),
            Self::TimedOut => f.write_str("no majority answered in time"),
            Self::DiskFull => f.write_str("disk full on the leading board; nothing was changed"),
            Self::TooLarge { bytes, bytes_max } => {
                write!(f, "too large: {bytes} bytes, the limit is {bytes_max}")
            }
            Self::Stale => f.write_str("stale read"),
            Self::Invalid(reason) => f.write_str(reason),
            Self::DatabaseHeld => f.write_str(
                "another program reads state.db for too long on the board that would do it \
                 (`understudy status` there names it); nothing was changed",
            ),
            Self::Fenced => f.write_str(
                "this board is fenced: its rows contradict those of the other boards; read from \
                 another board (`understudy status` says more)",
            ),
            Self::TakesNoPart => f.write_str(
                "this board takes no part in its group any more: `understudy status` here says why \
                 and what to do",
            ),
            Self::Witness { board, .. } if board.is_empty() => {
                f.write_str("this board is a witness and keeps no data: ask another board")
            }
            Self::Witness { board, http } => {
                write!(f, "this board is a witness and keeps no data: ask {board}")?;
                if http.is_empty() { Ok(()) } else { write!(f, " ({http})") }
            }
            Self::OneCopy => f.write_str(
                "one copy only: a board with the data is away, and the witness has no room left \
                 for what it misses; nothing was changed. Bring that board back, or put another in \
                 its place (`understudy token`, `understudy join TOKEN --replace BOARD`), or write \
                 on with one copy: `understudy set one_copy allow`",
            ),
            Self::SpoolFull { bytes_max } => write!(
                f,
                "not stored: no majority of the boards is there, and this board's spool is full \
                 ({bytes_max} bytes, spool_mb of its configuration)"
            ),
        }
    }
}

/// Why a peer's bytes were not taken. Always a counted drop, never a crash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rejection {
    /// Not a frame, or of a version this binary does not read.
    Malformed,
    /// Over a bound of [`crate::limits`].
    TooLarge,
    /// A well-formed message that Raft must not see in this state.
    Implausible,
    /// From a board that is no member any more.
    Removed,
}

/// What is wrong with a change's bytes. They were committed: this board halts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChangeError {
    /// The bytes are no change of a known version.
    Malformed(&'static str),
}

impl fmt::Display for ChangeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self::Malformed(what) = self;
        write!(f, "not a change: {what}")
    }
}
