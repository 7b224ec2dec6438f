//! What an agent and the keeper of a command say to each other, over the control socket,
//! one JSON line each: the keeper begins with [`Opening::Hold`], and the connection stays.
//! Where it ends, the duty is lost.
//!
//! Enums and fields only grow.

use serde::{Deserialize, Serialize};

/// A keeper that waits shows that it is there so often: one wake-up of it, and of its agent,
/// in five seconds.
pub const BEAT_MS: u64 = 5_000;

/// One that waits and was not heard for so long, three of its words, is not ready.
pub const SILENT_MS: u64 = 3 * BEAT_MS;

/// What the agent says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum AgentWord {
    /// The keeper is known now; its command is not to run yet.
    Waits,
    /// The duty is this board's: the command is to run.
    Take {
        /// Fencing token of the grant: rises with each.
        token: u64,
        /// The command is gone by then, milliseconds of `CLOCK_BOOTTIME`, unless a later
        /// moment is told before.
        until_ms: u64,
    },
    /// The lease goes on.
    Until {
        /// Of which grant.
        token: u64,
        /// As in `Take`; later than what was told before.
        until_ms: u64,
    },
    /// The duty is to go elsewhere: the command is to end, with the grace that it has, and
    /// the keeper then says [`KeeperWord::Gone`].
    Stop {
        /// Of which grant.
        token: u64,
        /// Why, in words.
        why: String,
    },
    /// Not this keeper, and why; the connection ends.
    Refused(String),
}

/// What the keeper says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum KeeperWord {
    /// The command and all that it began are gone, and never run again under this grant.
    Gone {
        /// Of which grant.
        token: u64,
        /// It ended by itself more often than it may: the duty is better done elsewhere.
        failed: bool,
    },
    /// The command can be run here, or for now cannot; said again every [`BEAT_MS`] while
    /// it waits.
    Ready(bool),
}

/// How a keeper's connection begins.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Opening {
    /// It keeps a command for a duty.
    Hold {
        /// The duty's name.
        duty: String,
        /// The process that answers for the command.
        pid: u32,
        /// It says so again and again while it waits; one of before does not.
        #[serde(default)]
        beats: bool,
    },
    /// It would, but the command cannot be run here: this board is no candidate, and says
    /// why. Once it can be the keeper begins anew.
    Cannot {
        /// The duty's name.
        duty: String,
        /// The process that would answer for the command.
        pid: u32,
        /// Why, in words.
        why: String,
    },
}
