//! How old what this board reads of itself may be.
//!
//! What a leader had committed when it was heard is all there was at that moment;
//! once it is applied here, reads are as of then. A leader has its majority's
//! answers for that. Without clocks in common nobody can tell how long a message
//! was under way: one that is late makes reads that much older than it says,
//! except where a newer one came before it.

use crate::{
    event::{Millis, NodeId},
    node::Node,
    wire::RaftFrame,
};

/// See the module's description.
#[derive(Default)]
pub(crate) struct Freshness {
    /// Term and index of the newest word on what is committed.
    newest: (u64, u64),
    mark: Option<(u64, Millis)>,
    as_of: Option<Millis>,
}

impl Freshness {
    /// At that moment, all that was committed was `index`, by the leader of `term`.
    pub(crate) fn heard(&mut self, at: Millis, term: u64, index: u64) {
        if (term, index) < self.newest {
            return;
        }
        self.newest = (term, index);
        self.mark.get_or_insert((index, at));
    }

    /// The database is at `applied`.
    pub(crate) fn applied(&mut self, applied: u64) {
        if let Some((index, at)) = self.mark
            && index <= applied
        {
            self.as_of = self.as_of.max(Some(at));
            self.mark = None;
        }
    }

    pub(crate) fn age_ms(&self, now: Millis) -> Option<u64> {
        self.as_of.map(|at| now.since(at))
    }
}

impl Node {
    /// What a frame just taken says of this board's age.
    pub(crate) fn note_freshness(&mut self, now: Millis, from: NodeId, frame: &RaftFrame) {
        let committed = match frame {
            RaftFrame::Append { commit, .. } => *commit,
            RaftFrame::Heartbeat { committed, .. } => *committed,
            RaftFrame::AppendAnswer { .. } | RaftFrame::HeartbeatAnswer { .. } => {
                return self.note_majority(now);
            }
            RaftFrame::VoteAsk { .. }
            | RaftFrame::VoteAnswer { .. }
            | RaftFrame::TimeoutNow { .. }
            | RaftFrame::ReadAsk { .. }
            | RaftFrame::ReadAnswer { .. } => return,
        };
        let term = self.raw.raft.term;
        if self.leader() == Some(from) && frame.term() == Some(term) {
            self.freshness.heard(now, term, committed);
            self.freshness.applied(self.applier.applied().index);
        }
    }

    /// A leader knows of everything committed when its majority was last heard,
    /// once it has applied an entry of its own term.
    fn note_majority(&mut self, now: Millis) {
        if self.leads_for_sure()
            && let Some(age) = self.contact_ms(now)
        {
            let at = Millis(now.0.saturating_sub(age));
            let (term, committed) = (self.raw.raft.term, self.raw.raft.raft_log.committed);
            self.freshness.heard(at, term, committed);
            self.freshness.applied(self.applier.applied().index);
        }
    }

    /// Is what is read here now at most so old?
    pub(crate) fn is_fresh(&mut self, now: Millis, bound_ms: u64) -> bool {
        self.note_majority(now);
        self.freshness.age_ms(now).is_some_and(|age| age <= bound_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_are_as_of_the_word_whose_entries_are_applied() {
        let mut freshness = Freshness::default();
        freshness.heard(Millis(100), 1, 5);
        freshness.applied(4);
        assert_eq!(freshness.age_ms(Millis(150)), None);
        freshness.applied(5);
        assert_eq!(freshness.age_ms(Millis(150)), Some(50));
    }

    #[test]
    fn a_word_overtaken_by_a_newer_one_says_nothing() {
        let mut freshness = Freshness::default();
        freshness.heard(Millis(100), 2, 5);
        freshness.applied(5);
        freshness.heard(Millis(900), 2, 4);
        freshness.heard(Millis(900), 1, 9);
        freshness.applied(9);
        assert_eq!(freshness.age_ms(Millis(900)), Some(800));
    }
}
