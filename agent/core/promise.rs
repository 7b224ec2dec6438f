//! Does this disk still know what it promised? (design section 4, rule 7)
//!
//! Peers remember the last promise each voter was seen to make. A starting
//! voter asks them all, and neither votes nor acknowledges until enough have
//! answered; one that knows of a higher promise proves the disk lost. Where too
//! few are there, a journal without damage is trusted after a wait.
//!
//! Sound because a damaged journal loses a suffix of its history: what survives
//! is an earlier state, and a state that still holds the promised term holds all
//! that was acknowledged in it before. That it stays so, a node takes nothing from
//! its peers before it is sure, and a damaged journal stays under suspicion, start
//! after start, until peers have cleared it.
//!
//! One that goes on unconfirmed makes promises on top of a state that may be too
//! old, and from then on its present state proves nothing. So before it does, it
//! writes down what it held, per peer without whose word it goes on; it keeps
//! asking them, over all later starts; holds their word against what was written;
//! and says nothing of Raft to them, nor hears any, until the disk says that they
//! have answered: so what they remember of it is always from before.
//!
//! A leader's own copies are the weak place: it counts those it has on disk, and
//! its peers see no more than what it sent. A power cut may leave it with less than
//! that and nothing lost, so this alone breaks no promise; but a bit flipped in its
//! last transaction, which looks like a torn one, may have cost it copies that were
//! counted. So it votes for nobody, itself included, whose log ends before what it
//! sent: the peer that says so holds it.
//!
//! Left out: disks emptied or swapped on purpose, which join anew; and what such a
//! leader owes, once it has voted in a later term and starts yet another time.

use alloc::{
    collections::{BTreeMap, BTreeSet},
    vec::Vec,
};

use crate::{
    event::{HardState, Held, Memory, Millis, NodeId, Position, Promise, Start, Trust},
    mutant,
    node::Node,
    restored::Restored,
    wire::{Frame, RaftFrame},
};

/// What this node remembers of its peers.
#[derive(Default)]
pub(crate) struct Memories {
    kept: BTreeMap<NodeId, Memory>,
    unsaved: BTreeSet<NodeId>,
}

impl Memories {
    pub(crate) fn new(saved: Vec<(NodeId, Memory)>) -> Self {
        Self { kept: saved.into_iter().collect(), unsaved: BTreeSet::new() }
    }

    /// Notes a promise `peer` was seen to make.
    pub(crate) fn note(&mut self, peer: NodeId, promise: Promise) {
        let known = self.of(peer);
        self.keep(peer, Memory { promise: merge(known.promise, promise), ..known });
    }

    /// Notes the start that `peer` is in now.
    pub(crate) fn meet(&mut self, peer: NodeId, start: Start) {
        self.keep(peer, Memory { start, ..self.of(peer) });
    }

    /// Notes that there are copies of the disk of `peer`.
    pub(crate) fn condemn(&mut self, peer: NodeId) {
        self.keep(peer, Memory { is_copied: true, ..self.of(peer) });
    }

    fn keep(&mut self, peer: NodeId, memory: Memory) {
        if memory != self.of(peer) {
            self.kept.insert(peer, memory);
            self.unsaved.insert(peer);
        }
    }

    /// What is kept of `peer`: the strongest promise it was seen to make, and zeros where
    /// nothing was seen.
    pub(crate) fn of(&self, peer: NodeId) -> Memory {
        self.kept.get(&peer).copied().unwrap_or_default()
    }

    /// What changed since the last call, for the next write of the journal.
    pub(crate) fn take_unsaved(&mut self) -> Vec<(NodeId, Memory)> {
        let unsaved = core::mem::take(&mut self.unsaved);
        unsaved.into_iter().map(|peer| (peer, self.of(peer))).collect()
    }
}

fn merge(known: Promise, seen: Promise) -> Promise {
    if seen.term > known.term {
        return seen;
    }
    if seen.term < known.term {
        return known;
    }
    Promise {
        term: known.term,
        vote: if known.vote == 0 { seen.vote } else { known.vote },
        matched: known.matched.max(seen.matched),
        sent: known.sent.max(seen.sent),
    }
}

/// How far this node is with asking, and what its disk says of that.
pub(crate) struct Standing {
    stage: Stage,
    /// Who has not answered, and what the answer will be held against.
    unheard: BTreeMap<NodeId, Held>,
    /// So many more answers are enough.
    needed: usize,
    /// The journal shows damage.
    suspect: bool,
    /// Where the log ended that this node sent as a leader, where its own ends
    /// before.
    owed: Position,
    recorded: Trust,
    /// On its way to the disk.
    recording: Option<Trust>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Asking {
        since: Millis,
    },
    /// Enough has been heard or waited for; the disk may not say so yet.
    Decided,
    /// Votes and acknowledges.
    TakesPart,
    /// A peer, or this board's own database, remembers more than this disk does: it
    /// never votes again.
    Lost,
    /// Nor this one, of which there is a copy.
    Copied,
}

impl Standing {
    /// What there is to ask before this node takes part.
    pub(crate) fn of(now: Millis, own: NodeId, voters: &[NodeId], restored: &Restored) -> Self {
        let HardState { term, vote, .. } = restored.hard_state;
        let held = Held { term, vote, last_index: restored.last_index };
        let (trust, suspect) = (restored.trust.clone(), restored.suspect);
        let mut standing = Self::start(now, own, voters, held, trust, suspect);
        if restored.is_lost() {
            standing.lose();
        }
        standing
    }

    /// A node that starts among `voters` (itself included) from a disk that holds
    /// `held`.
    pub(crate) fn start(
        now: Millis,
        own: NodeId,
        voters: &[NodeId],
        held: Held,
        recorded: Trust,
        suspect: bool,
    ) -> Self {
        let earlier: BTreeMap<_, _> = match &recorded {
            Trust::Unconfirmed(peers) => peers.iter().copied().collect(),
            Trust::Confirmed | Trust::Lost | Trust::Copied => BTreeMap::new(),
        };
        let others = voters.iter().copied().filter(|id| *id != own && voters.contains(&own));
        let unheard: BTreeMap<_, _> =
            others.map(|id| (id, earlier.get(&id).copied().unwrap_or(held))).collect();
        let needed = (voters.len() / 2 + 1).min(unheard.len());
        let stage = match (&recorded, needed) {
            (Trust::Lost, _) => Stage::Lost,
            (Trust::Copied, _) => Stage::Copied,
            (Trust::Confirmed | Trust::Unconfirmed(_), 0) => Stage::TakesPart,
            (Trust::Confirmed | Trust::Unconfirmed(_), _) => Stage::Asking { since: now },
        };
        Self {
            stage,
            unheard,
            needed,
            suspect,
            owed: Position::default(),
            recorded,
            recording: None,
        }
    }

    /// This board's own database remembers more than its journal.
    pub(crate) fn lose(&mut self) {
        self.stage = Stage::Lost;
    }

    /// A peer has met a copy of this board's disk.
    pub(crate) fn condemn(&mut self) {
        self.stage = Stage::Copied;
    }

    /// May this node vote, acknowledge and campaign?
    pub(crate) fn takes_part(&self) -> bool {
        self.stage == Stage::TakesPart
    }

    /// May it say such things to `peer`, and hear them?
    pub(crate) fn deals_with(&self, peer: NodeId) -> bool {
        self.takes_part() && !self.unconfirmed().any(|id| id == peer)
    }

    /// May this node vote for a log that ends at `last`, its own or another's?
    pub(crate) fn may_elect(&self, last: Position) -> bool {
        last >= self.owed
    }

    /// Where the log ended that it sent as a leader, if it lacks any of that.
    pub(crate) fn owed(&self) -> Position {
        self.owed
    }

    pub(crate) fn is_asking(&self) -> bool {
        matches!(self.stage, Stage::Asking { .. } | Stage::Decided)
    }

    /// Will this disk never vote again?
    pub(crate) fn is_lost(&self) -> bool {
        matches!(self.stage, Stage::Lost | Stage::Copied)
    }

    /// Because there is a copy of it?
    pub(crate) fn is_copied(&self) -> bool {
        self.stage == Stage::Copied
    }

    /// Peers without whose word it goes on, as the disk has it.
    pub(crate) fn unconfirmed(&self) -> impl Iterator<Item = NodeId> {
        let peers = match &self.recorded {
            Trust::Unconfirmed(peers) => peers.as_slice(),
            Trust::Confirmed | Trust::Lost | Trust::Copied => &[],
        };
        peers.iter().map(|(peer, _)| *peer)
    }

    /// A peer tells what it remembers of this node, which has taken nothing from
    /// that peer since what its word is held against.
    pub(crate) fn told(&mut self, peer: NodeId, promise: Promise) {
        let Some(held) = self.unheard.get(&peer).copied().filter(|_| !self.is_lost()) else {
            return;
        };
        if is_broken(promise, held, self.suspect) && !mutant::is(13) {
            return self.lose();
        }
        if promise.term == held.term && promise.sent > held.last_index {
            self.owed = self.owed.max(Position { term: promise.term, index: promise.sent });
        }
        self.unheard.remove(&peer);
        self.enough_after(self.needed - 1);
    }

    /// A peer has left the group: its word is not to be had any more.
    pub(crate) fn forget(&mut self, peer: NodeId) {
        self.unheard.remove(&peer);
        self.enough_after(self.needed.min(self.unheard.len()));
    }

    fn enough_after(&mut self, needed: usize) {
        self.needed = needed;
        if needed > 0 {
            return;
        }
        self.unheard.clear();
        if matches!(self.stage, Stage::Asking { .. }) {
            self.stage = Stage::Decided;
        }
    }

    /// Time passes: an undamaged journal is trusted after `start_wait_ms`.
    pub(crate) fn wait(&mut self, now: Millis, start_wait_ms: u64) {
        if let Stage::Asking { since } = self.stage
            && !self.suspect
            && now.since(since) >= start_wait_ms
        {
            self.stage = Stage::Decided;
        }
    }

    /// What the disk is to say from now on, where it says something else; nothing
    /// that rests on it happens before [`Standing::recorded`].
    pub(crate) fn next_record(&mut self) -> Option<Trust> {
        if self.recording.is_some() {
            return None;
        }
        let trust = match self.stage {
            Stage::Asking { .. } => return None,
            Stage::Lost => Trust::Lost,
            Stage::Copied => Trust::Copied,
            Stage::Decided | Stage::TakesPart if self.unheard.is_empty() => Trust::Confirmed,
            Stage::Decided | Stage::TakesPart => {
                Trust::Unconfirmed(self.unheard.iter().map(|(id, held)| (*id, *held)).collect())
            }
        };
        let clears = self.suspect && self.needed == 0 && trust == Trust::Confirmed;
        if trust == self.recorded && !clears {
            self.proceed();
            return None;
        }
        self.recording = Some(trust.clone());
        Some(trust)
    }

    /// What [`Standing::next_record`] gave is on the disk.
    pub(crate) fn recorded(&mut self) {
        let Some(trust) = self.recording.take() else { return };
        self.suspect &= trust != Trust::Confirmed;
        self.recorded = trust;
        self.proceed();
    }

    fn proceed(&mut self) {
        if self.stage == Stage::Decided {
            self.stage = Stage::TakesPart;
        }
    }

    /// Whom to ask again.
    pub(crate) fn unheard(&self) -> Vec<NodeId> {
        match self.stage {
            Stage::Asking { .. } | Stage::Decided | Stage::TakesPart => {
                self.unheard.keys().copied().collect()
            }
            Stage::Lost | Stage::Copied => Vec::new(),
        }
    }
}

impl Node {
    /// Notes what `from` cannot have said without having it on its disk.
    pub(crate) fn note_promise(&mut self, from: NodeId, frame: &RaftFrame) {
        let own = self.config.id;
        let promise =
            |term: &u64, vote, matched, sent| Promise { term: *term, vote, matched, sent };
        let promise = match frame {
            RaftFrame::AppendAnswer { term, index, refused: None, .. } => {
                promise(term, 0, *index, 0)
            }
            RaftFrame::Append { term, index, log_term, entries, .. } => {
                let last = index + entries.len() as u64;
                let log_term = entries.last().map_or(*log_term, |entry| entry.term);
                // Of what it did not take itself, nobody is reminded: see `promise`.
                let holds = self.raw.raft.raft_log.term(last).ok() == Some(log_term);
                promise(term, from, 0, if holds { last } else { 0 })
            }
            RaftFrame::Heartbeat { term, .. } | RaftFrame::VoteAsk { pre: false, term, .. } => {
                promise(term, from, 0, 0)
            }
            RaftFrame::VoteAnswer { pre: false, term, refused: false, .. } => {
                promise(term, own, 0, 0)
            }
            RaftFrame::AppendAnswer { .. }
            | RaftFrame::HeartbeatAnswer { .. }
            | RaftFrame::VoteAsk { .. }
            | RaftFrame::VoteAnswer { .. }
            | RaftFrame::TimeoutNow { .. }
            | RaftFrame::ReadAsk { .. }
            | RaftFrame::ReadAnswer { .. }
            | RaftFrame::Snapshot { .. } => return,
        };
        self.memories.note(from, promise);
    }

    pub(crate) fn on_told(&mut self, now: Millis, from: NodeId, boot: u64, promise: Promise) {
        if boot == self.config.boot {
            self.standing.told(from, promise);
            self.record_standing(now);
        }
    }

    pub(crate) fn ask_promises(&mut self, now: Millis) {
        for peer in self.standing.unheard() {
            self.say(now, peer, &Frame::PromiseAsk { boot: self.config.boot });
        }
    }
}

/// This node's own memory falls short of what a peer saw it promise.
fn is_broken(promise: Promise, own: Held, suspect: bool) -> bool {
    let other_vote = promise.vote != 0 && own.vote != promise.vote;
    let held = if suspect { promise.matched.max(promise.sent) } else { promise.matched };
    own.term < promise.term || (own.term == promise.term && (own.last_index < held || other_vote))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HELD: Held = Held { term: 5, vote: 2, last_index: 9 };

    fn starting(voters: &[NodeId], recorded: Trust, suspect: bool) -> Standing {
        Standing::start(Millis(0), 1, voters, HELD, recorded, suspect)
    }

    fn asking() -> Standing {
        starting(&[1, 2, 3], Trust::Confirmed, false)
    }

    /// What it wants written is written.
    fn write(standing: &mut Standing) -> Option<Trust> {
        let trust = standing.next_record();
        standing.recorded();
        trust
    }

    #[test]
    fn of_three_voters_both_others_must_answer() {
        let mut standing = asking();
        standing.told(2, Promise { term: 5, vote: 2, matched: 9, sent: 0 });
        assert_eq!(standing.unheard(), [3]);
        standing.told(2, Promise::default());
        assert_eq!(write(&mut standing), None);
        assert!(!standing.takes_part());
        standing.told(3, Promise::default());
        assert_eq!(write(&mut standing), None, "the disk says nothing else already");
        assert!(standing.deals_with(2) && standing.deals_with(3));
    }

    #[test]
    fn of_five_voters_three_others_are_enough() {
        let mut standing = starting(&[1, 2, 3, 4, 5], Trust::Confirmed, false);
        for peer in [2, 3, 4] {
            assert_eq!(write(&mut standing), None);
            assert!(!standing.takes_part());
            standing.told(peer, Promise::default());
        }
        assert_eq!(write(&mut standing), None);
        assert!(standing.deals_with(5));
    }

    #[test]
    fn a_voter_alone_asks_nobody() {
        assert!(starting(&[1], Trust::Confirmed, false).takes_part());
    }

    #[test]
    fn a_higher_term_an_unknown_vote_or_a_lost_tail_is_a_lost_disk_for_good() {
        for promise in [
            Promise { term: 6, vote: 0, matched: 0, sent: 0 },
            Promise { term: 5, vote: 3, matched: 0, sent: 0 },
            Promise { term: 5, vote: 0, matched: 10, sent: 0 },
        ] {
            let mut standing = asking();
            standing.told(2, promise);
            assert!(standing.is_lost());
            assert_eq!(write(&mut standing), Some(Trust::Lost));
            let mut again = starting(&[1, 2, 3], Trust::Lost, false);
            again.told(2, Promise::default());
            again.told(3, Promise::default());
            again.wait(Millis(1_000_000), 5_000);
            assert_eq!(write(&mut again), None);
            assert!(again.is_lost());
        }
    }

    #[test]
    fn what_a_leader_sent_is_held_against_a_damaged_disk_only() {
        let led = Promise { term: 5, vote: 2, matched: 0, sent: 10 };
        let mut sound = asking();
        sound.told(2, led);
        assert_eq!(sound.unheard(), [3]);
        let may = |term, index| sound.may_elect(Position { term, index });
        assert_eq!([may(5, 9), may(5, 10), may(6, 1)], [false, true, true]);
        let mut damaged = starting(&[1, 2, 3], Trust::Confirmed, true);
        damaged.told(2, led);
        assert!(damaged.is_lost());
    }

    #[test]
    fn only_the_answers_needed_clear_a_suspicion() {
        let mut damaged = starting(&[1, 2, 3], Trust::Confirmed, true);
        damaged.told(2, Promise::default());
        assert_eq!(write(&mut damaged), None);
        damaged.told(3, Promise::default());
        assert_eq!(damaged.next_record(), Some(Trust::Confirmed));
        assert!(!damaged.takes_part(), "not before it is on the disk");
        damaged.recorded();
        assert!(damaged.takes_part());
        assert_eq!(damaged.next_record(), None);
    }

    #[test]
    fn an_overwritten_suffix_of_an_older_term_is_no_loss() {
        let mut standing = asking();
        standing.told(2, Promise { term: 4, vote: 3, matched: 50, sent: 0 });
        assert_eq!(standing.unheard(), [3]);
    }

    #[test]
    fn silence_is_waited_out_only_without_damage_and_written_down_first() {
        let mut standing = asking();
        standing.told(2, Promise::default());
        standing.wait(Millis(4_999), 5_000);
        assert_eq!(standing.next_record(), None);
        standing.wait(Millis(5_000), 5_000);
        let unconfirmed = Trust::Unconfirmed(Vec::from([(3, HELD)]));
        assert_eq!(standing.next_record(), Some(unconfirmed));
        assert!(!standing.takes_part(), "not before it is on the disk");
        standing.recorded();
        assert!(standing.deals_with(2));
        assert!(!standing.deals_with(3), "it has not said what it remembers");
        let mut damaged = starting(&[1, 2, 3], Trust::Confirmed, true);
        damaged.wait(Millis(1_000_000), 5_000);
        assert_eq!(write(&mut damaged), None);
        assert!(!damaged.takes_part());
    }

    #[test]
    fn who_was_not_heard_is_held_against_what_the_disk_held_before_it_went_on() {
        let before = Held { term: 3, vote: 1, last_index: 4 };
        let recorded = Trust::Unconfirmed(Vec::from([(3, before)]));
        let old = Promise { term: 4, vote: 0, matched: 0, sent: 0 };
        let mut standing = starting(&[1, 2, 3], recorded.clone(), false);
        standing.told(2, old);
        assert!(!standing.is_lost(), "that one is held against the present");
        standing.told(3, old);
        assert!(standing.is_lost());
        let mut standing = starting(&[1, 2, 3], recorded.clone(), false);
        standing.told(2, old);
        standing.wait(Millis(5_000), 5_000);
        assert_eq!(standing.next_record(), None, "the disk says it already");
        assert!(standing.takes_part() && !standing.deals_with(3));
        standing.told(3, Promise { term: 3, vote: 1, matched: 4, sent: 0 });
        assert_eq!(standing.next_record(), Some(Trust::Confirmed));
        assert!(!standing.deals_with(3), "not before it is on the disk");
        standing.recorded();
        assert!(standing.deals_with(3));
    }

    #[test]
    fn the_strongest_promise_is_remembered() {
        let mut promises = Memories::default();
        promises.note(2, Promise { term: 3, vote: 1, matched: 0, sent: 0 });
        promises.note(2, Promise { term: 3, vote: 0, matched: 8, sent: 0 });
        promises.note(2, Promise { term: 2, vote: 3, matched: 90, sent: 0 });
        assert_eq!(promises.of(2).promise, Promise { term: 3, vote: 1, matched: 8, sent: 0 });
        assert_eq!(promises.take_unsaved().len(), 1);
        assert!(promises.take_unsaved().is_empty());
    }
}
