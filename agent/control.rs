//! What the command line asks of the agent on its board, and what it answers:
//! one JSON line each way over the control socket.

use serde::{Deserialize, Serialize};
use understudy_core::sql::{SqlRequest, SqlResponse};

use crate::{
    probe::Probed,
    status::{ClockStatus, Status},
};

/// Longest line either way, bytes.
pub const LINE_BYTES_MAX: u64 = 32 << 20;

/// A wish of the command line.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum ControlRequest {
    /// How are things?
    Status,
    /// Make a group.
    Init {
        /// The group's name.
        group: String,
        /// This board's name, if another is meant than it was started with.
        name: Option<String>,
    },
    /// Become a member.
    Join {
        /// The line another board printed.
        token: String,
        /// A board that cannot be heard and whose place this one takes.
        #[serde(default)]
        replaces: Option<String>,
        /// This board's name, if another is meant than it was started with.
        name: Option<String>,
        /// It keeps none of the users' rows.
        #[serde(default)]
        witness: bool,
    },
    /// Run SQL.
    Sql {
        /// What.
        request: SqlRequest,
        /// As a read, at the strongest level that costs no entry.
        read: bool,
    },
    /// Give a board another name.
    Rename {
        /// Which; this one when absent.
        board: Option<String>,
        /// The new name.
        name: String,
    },
    /// Another join token.
    Token {
        /// For how long it holds.
        lifetime_ms: u64,
        /// How many boards it lets in; 0 for any number.
        uses: u32,
    },
    /// No token holds any longer.
    RevokeTokens,
    /// Give the group a new key.
    RotateKey,
    /// Take a board out of the group for good.
    Remove {
        /// Its name.
        board: String,
    },
    /// Have a board lead.
    Transfer {
        /// Its name; any other that can when absent.
        board: Option<String>,
    },
    /// A board shall vote, or only follow.
    Vote {
        /// Its name.
        board: String,
        /// It shall vote.
        voter: bool,
    },
    /// Take this board out of its group, and forget the group.
    Leave,
    /// Forget the group, which is told nothing.
    Reset,
    /// Compare what all boards hold.
    Scrub,
    /// Look whether datagrams get to the other boards, and back.
    Probe,
    /// Where boards differ and no majority agrees: this one is right.
    Repair {
        /// Its name.
        board: String,
    },
    /// What a duty's holder left last, as of what this board has applied: all there is for
    /// a board that has taken the duty.
    Left {
        /// The duty's name.
        duty: String,
    },
    /// Does this board know the time?
    Clock {
        /// It shows the right one, says the owner.
        confirm: bool,
    },
}

/// What became of the probes to a board.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProbedBoard {
    /// Its name.
    pub board: String,
    /// It was heard of late, probes aside; none where this board cannot know.
    pub heard: Option<bool>,
    /// What became of them.
    pub probed: Probed,
}

/// The agent's answer.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum ControlResponse {
    /// To `Status`.
    Status(Box<Status>),
    /// A join token.
    Token(String),
    /// This board is a member now, under this name.
    Joined {
        /// The group's name.
        group: String,
        /// The board's name.
        name: String,
        /// The name it asked for.
        wished: String,
        /// Members it knows of, itself included.
        members: usize,
        /// It keeps none of the users' rows.
        #[serde(default)]
        witness: bool,
    },
    /// To `Sql`.
    Sql(SqlResponse),
    /// Done as wished.
    Done,
    /// To `Scrub`: asked for, under this number.
    Scrub(u64),
    /// To `Probe`.
    Probed(Vec<ProbedBoard>),
    /// To `Clock`.
    Clock(ClockStatus),
    /// Not done, and why.
    Refused(String),
}
