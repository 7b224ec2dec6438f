//! What happens when: everything the run has still to do, by time, and by the
//! order in which it was planned where times are equal.

use std::{cmp::Ordering, collections::BinaryHeap};

use understudy_core::{
    duty::{Claim, Incarnation},
    event::NodeId,
};

use super::mail::Letter;

pub(crate) enum Happening {
    Arrive { letter: Letter },
    HandOut { broker: usize },
    Trouble,
    Deliver { from: NodeId, to: NodeId, sent: u64, payload: Vec<u8> },
    Work { board: NodeId, epoch: u64, thread: usize },
    Tick { board: NodeId, epoch: u64 },
    Digest { board: NodeId, epoch: u64 },
    Pages { board: NodeId, epoch: u64 },
    PowerOn { board: NodeId },
    Resume { board: NodeId },
    Mend { from: NodeId, to: NodeId },
    Room { board: NodeId },
    Call,
    Sense,
    Fault,
    Move,
    Stir,
    GaveUp { board: NodeId, epoch: u64, claim: Claim },
    Obituary { start: Incarnation },
    Ended { to: NodeId, start: Incarnation },
}

/// When, which in order of planning, and what.
struct Due(u64, u64, Happening);

impl PartialEq for Due {
    fn eq(&self, other: &Self) -> bool {
        (self.0, self.1) == (other.0, other.1)
    }
}
impl Eq for Due {}
impl PartialOrd for Due {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Due {
    fn cmp(&self, other: &Self) -> Ordering {
        (other.0, other.1).cmp(&(self.0, self.1))
    }
}

/// See the module's description.
#[derive(Default)]
pub(crate) struct Agenda {
    due: BinaryHeap<Due>,
    /// Happenings planned so far.
    pub(crate) count: u64,
}

impl Agenda {
    pub(crate) fn plan(&mut self, at: u64, happening: Happening) {
        self.count += 1;
        self.due.push(Due(at, self.count, happening));
    }

    /// The next happening that is due by then, and its time.
    pub(crate) fn next(&mut self, until: u64) -> Option<(u64, Happening)> {
        if self.due.peek()?.0 > until {
            return None;
        }
        let Due(at, _, happening) = self.due.pop()?;
        Some((at, happening))
    }

    /// Nobody calls any more, no sensor has anything to say, and nobody wants anything of
    /// duties.
    pub(crate) fn cancel_calls(&mut self) {
        let is_call = |happening: &Happening| {
            matches!(happening, Happening::Call | Happening::Sense | Happening::Stir)
        };
        self.due.retain(|Due(.., happening)| !is_call(happening));
    }
}
