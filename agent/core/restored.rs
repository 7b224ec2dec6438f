//! What a node starts from: the journal's memory, after the database has caught
//! up with everything the journal knows to be committed.

use alloc::vec::Vec;

use crate::{
    duty::Duty,
    event::{Entry, HardState, Memory, NodeId, Position, Trust},
    member::Membership,
    scrub::Scrubs,
};

/// Consecutive entries of one term.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TermRun {
    /// First index of the run.
    pub first: u64,
    /// Their term.
    pub term: u64,
}

/// Consecutive entries, and what they take in the journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stretch {
    /// First index; up to the next stretch's, or the end.
    pub first: u64,
    /// All of them together.
    pub bytes: u64,
}

/// What the journal's spool holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SpoolHeld {
    /// Place of the first piece; 0 when there is none.
    pub first: u64,
    /// The highest place that was ever given.
    pub last: u64,
    /// Readings in it.
    pub readings: u64,
    /// Bytes of its pieces.
    pub bytes: u64,
    /// The lowest number of a reading in it.
    pub lowest: u64,
}

/// See the module's description. `hard_state.commit` equals `applied.index`:
/// raft-rs 0.7.0 ends the process on a database that is ahead of the commit index
/// (allowed at a start upstream by #537), and since a change of the commit index
/// alone is never synced, ours may be.
#[derive(Clone, Debug, Default)]
pub struct Restored {
    /// As journalled, its commit raised to what is applied.
    pub hard_state: HardState,
    /// What the database holds.
    pub applied: Position,
    /// Who belongs to the group at that index.
    pub membership: Membership,
    /// The entry before the log's first: what was before is no longer there.
    pub start: Position,
    /// The log of a witness begins behind this, which not all others were known to hold.
    pub given_up: u64,
    /// Ascending runs over the whole log.
    pub terms: Vec<TermRun>,
    /// The whole log, in stretches.
    pub stretches: Vec<Stretch>,
    /// Last index in the journal.
    pub last_index: u64,
    /// Every entry above `applied`.
    pub tail: Vec<Entry>,
    /// What is kept of peers.
    pub memories: Vec<(NodeId, Memory)>,
    /// The journal's WAL showed damage, at this start or at one before that no
    /// peer has confirmed since: do not vote on its word alone.
    pub suspect: bool,
    /// What earlier starts wrote down of this disk.
    pub trust: Trust,
    /// What the group's scrubs have come to.
    pub scrubs: Scrubs,
    /// The group's duties.
    pub duties: Vec<Duty>,
    /// Readings of this board that are not known to be committed. Those that `tail`
    /// brings are among them.
    pub spool: SpoolHeld,
}

impl Restored {
    /// The journal ends before what the database holds, which was in the journal
    /// first: this disk has lost what it promised. It is read, and does nothing else.
    #[must_use]
    pub const fn is_lost(&self) -> bool {
        self.applied.index > self.last_index
    }
}
