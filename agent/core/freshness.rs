//! How old what this board reads of itself may be.
//!
//! What a leader had committed when it was heard is all there was at that moment,
//! if that was in its own term: a new leader does not know yet how much of what it
//! holds its predecessors had committed. Once it is applied here, reads are as of
//! then. A leader has its majority's answers in its term for that.
//!
//! Without clocks in common nobody can tell how long a message was under way: one
//! that is late makes reads that much older than it says, except where a newer one
//! came before it. So only single datagrams count: a frame in fragments is repeated
//! until it is there. In a group of more than three, followers of a leader that has
//! been replaced are wrong by up to the time it takes to notice.

use alloc::{collections::BTreeMap, vec::Vec};

use crate::{
    event::{Millis, NodeId, Position},
    limits::PAYLOAD_BYTES_MAX,
    member::Membership,
    mutant,
    node::Node,
    wire::{FrameEntry, RaftFrame},
};

/// An append is one datagram for sure up to so much data, bytes, counting for each
/// entry what it costs beside its data.
const ONE_DATAGRAM_BYTES_MAX: usize = PAYLOAD_BYTES_MAX - 128;
const ENTRY_OVERHEAD_BYTES: usize = 24;

/// See the module's description.
#[derive(Default)]
pub(crate) struct Freshness {
    /// Term and index of the newest word on what is committed.
    newest: Position,
    mark: Option<(Position, Millis)>,
    as_of: Option<Millis>,
    /// When each board last answered this one as leader of that term.
    answers: (u64, BTreeMap<NodeId, Millis>),
}

impl Freshness {
    /// At that moment, all that was committed was up to `word.index`, by the leader of
    /// `word.term`.
    pub(crate) fn heard(&mut self, at: Millis, word: Position) {
        if word < self.newest {
            return;
        }
        self.newest = word;
        self.mark.get_or_insert((word, at));
        if mutant::is(20) {
            self.as_of = Some(at);
        }
    }

    /// The database is at `applied`. What a term has committed begins with its
    /// leader's own entry, and everything older stands before that.
    pub(crate) fn applied(&mut self, applied: Position) {
        if let Some((word, at)) = self.mark
            && word.index <= applied.index
            && word.term <= applied.term
        {
            self.as_of = self.as_of.max(Some(at));
            self.mark = None;
        }
    }

    /// A board takes this one for the leader of `term`.
    fn answered(&mut self, at: Millis, term: u64, from: NodeId) {
        if self.answers.0 != term {
            self.answers = (term, BTreeMap::new());
        }
        self.answers.1.insert(from, at);
    }

    /// When most of the voters, this one included, last took it for the leader of
    /// `term`.
    fn majority(&self, now: Millis, term: u64, own: NodeId, voters: &[NodeId]) -> Option<Millis> {
        let none = BTreeMap::new();
        let answers = if self.answers.0 == term { &self.answers.1 } else { &none };
        majority_heard(now, own, voters, answers)
    }

    pub(crate) fn age_ms(&self, now: Millis) -> Option<u64> {
        self.as_of.map(|at| now.since(at))
    }
}

impl Node {
    /// What a frame just taken says of this board's age.
    pub(crate) fn note_freshness(&mut self, now: Millis, from: NodeId, frame: &RaftFrame) {
        let term = self.raw.raft.term;
        let committed = match frame {
            RaftFrame::Append { commit, entries, .. } if is_one_datagram(entries) => *commit,
            RaftFrame::Heartbeat { committed, .. } => *committed,
            RaftFrame::AppendAnswer { .. } | RaftFrame::HeartbeatAnswer { .. } => {
                if self.leads() && frame.term() == Some(term) {
                    self.freshness.answered(now, term, from);
                    self.note_majority(now);
                }
                return;
            }
            RaftFrame::Append { .. }
            | RaftFrame::VoteAsk { .. }
            | RaftFrame::VoteAnswer { .. }
            | RaftFrame::TimeoutNow { .. }
            | RaftFrame::ReadAsk { .. }
            | RaftFrame::ReadAnswer { .. }
            | RaftFrame::Snapshot { .. } => return,
        };
        if self.leader() == Some(from) && frame.term() == Some(term) {
            self.freshness.heard(now, Position { term, index: committed });
            self.freshness.applied(self.applier.applied());
        }
    }

    /// A leader knows of everything committed when its majority last answered,
    /// once it has applied an entry of its own term.
    fn note_majority(&mut self, now: Millis) {
        if !self.leads_for_sure() {
            return;
        }
        let (term, index) = (self.raw.raft.term, self.raw.raft.raft_log.committed);
        let (own, freshness) = (self.config.id, &self.freshness);
        let majority = |voters: &[NodeId]| freshness.majority(now, term, own, voters);
        if let Some(at) = of_all_majorities(&self.membership, majority) {
            self.freshness.heard(at, Position { term, index });
            self.freshness.applied(self.applier.applied());
        }
    }

    /// Is what is read here now at most so old?
    pub(crate) fn is_fresh(&mut self, now: Millis, bound_ms: u64) -> bool {
        self.note_majority(now);
        self.freshness.age_ms(now).is_some_and(|age| age <= bound_ms)
    }
}

/// The earlier of what holds for a majority, where two sets of voters count.
pub(crate) fn of_all_majorities(
    membership: &Membership,
    of: impl Fn(&[NodeId]) -> Option<Millis>,
) -> Option<Millis> {
    let at = of(&membership.voters())?;
    match membership.outgoing.as_slice() {
        [] => Some(at),
        outgoing => Some(at.min(of(outgoing)?)),
    }
}

/// Since when most of the voters have been heard, `own` among them, which is heard
/// all the time.
pub(crate) fn majority_heard(
    now: Millis,
    own: NodeId,
    voters: &[NodeId],
    heard: &BTreeMap<NodeId, Millis>,
) -> Option<Millis> {
    let at = |id: &NodeId| if *id == own { Some(now) } else { heard.get(id).copied() };
    let mut at: Vec<_> = voters.iter().map(at).collect();
    at.sort_unstable_by(|one, other| other.cmp(one));
    at.get(voters.len() / 2).copied().flatten()
}

/// One that needs more may be long under way.
fn is_one_datagram(entries: &[FrameEntry]) -> bool {
    let bytes = entries.iter().map(|entry| entry.data.len() + ENTRY_OVERHEAD_BYTES);
    bytes.sum::<usize>() <= ONE_DATAGRAM_BYTES_MAX
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(term: u64, index: u64) -> Position {
        Position { term, index }
    }

    #[test]
    fn reads_are_as_of_the_word_whose_entries_are_applied() {
        let mut freshness = Freshness::default();
        freshness.heard(Millis(100), at(1, 5));
        freshness.applied(at(1, 4));
        assert_eq!(freshness.age_ms(Millis(150)), None);
        freshness.applied(at(1, 5));
        assert_eq!(freshness.age_ms(Millis(150)), Some(50));
    }

    #[test]
    fn a_word_overtaken_by_a_newer_one_says_nothing() {
        let mut freshness = Freshness::default();
        freshness.heard(Millis(100), at(2, 5));
        freshness.applied(at(2, 5));
        freshness.heard(Millis(900), at(2, 4));
        freshness.heard(Millis(900), at(1, 9));
        freshness.applied(at(2, 9));
        assert_eq!(freshness.age_ms(Millis(900)), Some(800));
    }

    #[test]
    fn the_word_of_a_new_leader_counts_once_an_entry_of_its_own_is_applied() {
        let mut freshness = Freshness::default();
        freshness.heard(Millis(100), at(2, 5));
        freshness.applied(at(1, 5));
        assert_eq!(freshness.age_ms(Millis(150)), None);
        freshness.applied(at(2, 8));
        assert_eq!(freshness.age_ms(Millis(150)), Some(50));
    }

    #[test]
    fn answers_of_another_term_make_no_majority() {
        let mut freshness = Freshness::default();
        freshness.answered(Millis(100), 2, 2);
        let majority = |freshness: &Freshness, term| {
            freshness.majority(Millis(300), term, 1, &[1, 2, 3]).map(|at| at.0)
        };
        assert_eq!(majority(&freshness, 2), Some(100));
        assert_eq!(majority(&freshness, 3), None);
        freshness.answered(Millis(200), 3, 3);
        assert_eq!(majority(&freshness, 3), Some(200));
        assert_eq!(majority(&freshness, 2), None);
    }
}
