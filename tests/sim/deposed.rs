//! A fault that aims. What a deposed leader holds alone is replaced by what its
//! successor has, and mostly one entry by one: only chance would make the leftover
//! the longer one. So a leader is left alone as soon as it has appended something,
//! leads once more, by the vote of one board that gets nothing of it, and is left
//! alone again with what it appended then. Its successor has less.

use understudy_core::event::NodeId;

use super::{board::BOARDS, world::World};

/// It ends by itself after this, however far it came, milliseconds.
const DEPOSING_MS_MAX: u64 = 10_000;

/// One such fault under way.
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
}

impl Deposing {
    /// Does a datagram pass?
    pub(crate) const fn passes(&self, from: NodeId, to: NodeId) -> bool {
        match self.stage {
            Stage::Waiting => true,
            Stage::Silent { .. } => false,
            Stage::Again { leader, voter } => from + to == leader + voter,
            Stage::Replaced { leader } => from != leader && to != leader,
        }
    }
}

impl World {
    /// The next leader that appends something is deposed.
    pub(crate) fn depose(&mut self) {
        if self.deposing.is_none() {
            let until = self.now + DEPOSING_MS_MAX;
            self.deposing = Some(Deposing { until, stage: Stage::Waiting });
        }
    }

    /// A board is about to send something: it leads or not, and has appended or not.
    pub(crate) fn look_at_deposing(&mut self, id: NodeId, leads: bool, appends: bool) {
        let Some(deposing) = &self.deposing else { return };
        let stage = match deposing.stage {
            _ if self.now >= deposing.until => None,
            Stage::Waiting if leads && appends => Some(Stage::Silent { leader: id }),
            Stage::Silent { leader } if leader == id && !leads => {
                let others = BOARDS.into_iter().filter(|other| *other != id);
                let voter = others.clone().find(|other| self.boards[other].process.is_some());
                voter.map(|voter| Stage::Again { leader, voter })
            }
            Stage::Again { leader, .. } if leader == id && leads && appends => {
                Some(Stage::Replaced { leader })
            }
            Stage::Replaced { leader } if leader != id && leads => None,
            Stage::Waiting
            | Stage::Silent { .. }
            | Stage::Again { .. }
            | Stage::Replaced { .. } => {
                return;
            }
        };
        match stage {
            Some(Stage::Silent { .. }) => self.tell(|| format!("board {id} is to be deposed")),
            Some(Stage::Replaced { .. }) => self.tell(|| format!("board {id} leads alone")),
            Some(Stage::Waiting | Stage::Again { .. }) => {}
            None => self.tell(|| String::from("the deposed leader hears the others again")),
        }
        let until = deposing.until;
        self.deposing = stage.map(|stage| Deposing { until, stage });
    }
}
