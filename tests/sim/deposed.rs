//! Faults that aim: leaders that are deposed at the worst moment.
//!
//! What a deposed leader holds alone is replaced by what its successor has, and
//! mostly one entry by one: only chance would make the leftover the longer one. So a
//! leader is left alone as soon as it has appended something, leads once more, by
//! the vote of one board that gets nothing of it, and is left alone again with what
//! it appended then. Its successor has less.
//!
//! And a leader's database takes long over a batch while another board leads and
//! writes; then the first leads again. What the batch stands on is no longer so.

use understudy_core::event::{Effect, EntryKind, NodeId};

use super::world::World;

/// It ends by itself after this, however far it came, milliseconds.
const DEPOSING_MS_MAX: u64 = 10_000;

/// So long everybody hears everybody before the successor is left alone, milliseconds.
const LEVELLING_MS: u64 = 400;

/// One such fault under way.
#[derive(Clone, Copy)]
pub(crate) struct Deposing {
    until: u64,
    stage: Stage,
}

#[derive(Clone, Copy)]
enum Stage {
    /// For the next leader that appends something.
    Waiting,
    /// Nobody hears anybody, until this leader gives up.
    Silent { leader: NodeId },
    /// It and one other hear each other, until it leads and appends again.
    Again { leader: NodeId, voter: NodeId },
    /// The two others hear each other, until one of them leads.
    Replaced { leader: NodeId },
    /// For the next leader that executes a batch.
    Watching,
    /// Its database is slow, and the two others hear each other, until one of them
    /// leads and writes.
    Executing { leader: NodeId },
    /// All hear each other, for a while.
    Levelling { successor: NodeId, until: u64 },
    /// The two others hear each other, until one of them leads.
    Returning { successor: NodeId },
}

/// What a board is about to do.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Deed {
    Executes,
    Appends { changes: bool },
    Else,
}

impl Deed {
    pub(crate) fn of(effect: &Effect) -> Self {
        match effect {
            Effect::Persist { entries, .. } if !entries.is_empty() => {
                let changes = entries.iter().any(|entry| entry.kind == EntryKind::Change);
                Self::Appends { changes }
            }
            Effect::Execute { .. } => Self::Executes,
            Effect::Persist { .. }
            | Effect::Send { .. }
            | Effect::Fetch { .. }
            | Effect::FetchSpool { .. }
            | Effect::Apply { .. }
            | Effect::Query { .. }
            | Effect::Pages { .. }
            | Effect::Reply { .. }
            | Effect::RoleChanged { .. } => Self::Else,
        }
    }
}

impl Deposing {
    /// Does a datagram pass?
    pub(crate) fn passes(&self, from: NodeId, to: NodeId) -> bool {
        match self.stage {
            Stage::Waiting | Stage::Watching | Stage::Levelling { .. } => true,
            Stage::Silent { .. } => false,
            Stage::Again { leader, voter } => from + to == leader + voter,
            Stage::Replaced { leader: alone }
            | Stage::Executing { leader: alone }
            | Stage::Returning { successor: alone } => ![from, to].contains(&alone),
        }
    }

    /// Does this board's database take long?
    pub(crate) fn is_slow(&self, id: NodeId) -> bool {
        matches!(self.stage, Stage::Executing { leader } if leader == id)
    }
}

impl World {
    /// The next leader that appends something is deposed, or the next that executes.
    pub(crate) fn depose(&mut self) {
        let stage = if self.faults.chance(500) { Stage::Waiting } else { Stage::Watching };
        if self.deposing.is_none() {
            let until = self.now + DEPOSING_MS_MAX;
            self.deposing = Some(Deposing { until, stage });
        }
    }

    /// A board that leads or not is about to do something.
    pub(crate) fn look_at_deposing(&mut self, id: NodeId, leads: bool, deed: Deed) {
        let Some(Deposing { until, stage }) = self.deposing else { return };
        let appends = leads && matches!(deed, Deed::Appends { .. });
        let changes = leads && deed == Deed::Appends { changes: true };
        let now = self.now;
        let next = match stage {
            _ if now >= until => None,
            Stage::Waiting if appends => Some(Stage::Silent { leader: id }),
            Stage::Silent { leader } if leader == id && !leads => self.voter_for(id),
            Stage::Again { leader, .. } if leader == id && appends => {
                Some(Stage::Replaced { leader })
            }
            Stage::Replaced { leader: alone } | Stage::Returning { successor: alone }
                if alone != id && leads =>
            {
                None
            }
            Stage::Watching if leads && deed == Deed::Executes => {
                Some(Stage::Executing { leader: id })
            }
            Stage::Executing { leader } if leader != id && changes => {
                Some(Stage::Levelling { successor: id, until: now + LEVELLING_MS })
            }
            Stage::Levelling { successor, until } if now >= until => {
                Some(Stage::Returning { successor })
            }
            Stage::Waiting
            | Stage::Silent { .. }
            | Stage::Again { .. }
            | Stage::Replaced { .. }
            | Stage::Watching
            | Stage::Executing { .. }
            | Stage::Levelling { .. }
            | Stage::Returning { .. } => return,
        };
        self.tell(|| format!("board {id}: {}", next.map_or("all pass again", words)));
        self.deposing = next.map(|stage| Deposing { until, stage });
    }

    fn voter_for(&self, leader: NodeId) -> Option<Stage> {
        let lives = |id: &NodeId| *id != leader && self.boards[id].process.is_some();
        self.boards.keys().copied().find(lives).map(|voter| Stage::Again { leader, voter })
    }
}

const fn words(stage: Stage) -> &'static str {
    match stage {
        Stage::Waiting | Stage::Watching => "is waited for",
        Stage::Silent { .. } => "leads and is left alone",
        Stage::Again { .. } => "gave up, and hears one other",
        Stage::Replaced { .. } => "leads again and is left alone",
        Stage::Executing { .. } => "executes slowly and is left alone",
        Stage::Levelling { .. } => "leads and writes instead",
        Stage::Returning { .. } => "sees the successor left alone",
    }
}
