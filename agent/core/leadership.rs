//! When this board may lead, how it gives leadership up, and what followers hear
//! of what is committed.
//!
//! Left out: elections themselves, which are raft-rs's, and what a leader does
//! for callers (`serve`).

use alloc::vec::Vec;

use raft::{StateRole, prelude::MessageType};

use crate::{
    error::Refusal,
    event::{Millis, NodeId, Position},
    mutant,
    node::Node,
    validate,
};

impl Node {
    /// What is committed travels with the next append or heartbeat: a datagram of
    /// its own for each commit would double what is on the air. Where neither
    /// comes by itself, followers hear of it one tick later, and a board that wrote
    /// something with the answer: it reads what it wrote.
    pub(crate) fn announce_commit(&mut self) {
        let raft = &self.raw.raft;
        let committed = raft.raft_log.committed;
        let is_news = committed > self.announced && committed == raft.raft_log.last_index();
        self.announced = committed;
        let goes_anyway =
            raft.msgs.iter().any(|message| message.get_msg_type() == MessageType::MsgHeartbeat);
        if self.leads() && is_news && !goes_anyway {
            self.raw.ping();
        }
    }

    pub(crate) fn tell_answered(&mut self) {
        for node in core::mem::take(&mut self.answered) {
            if self.leads() && self.raw.raft.prs().get(node).is_some() {
                self.raw.raft.send_append(node);
            }
        }
    }

    /// raft-rs 0.7 asserts that a new leader has everything it appended on disk:
    /// a follower does not campaign while an append is under way.
    pub(crate) fn may_tick(&self) -> bool {
        let raft = &self.raw.raft;
        let near_campaign = raft.election_elapsed + 1 >= self.config.timing.election_ticks_min;
        self.standing.takes_part()
            && (raft.state == StateRole::Leader
                || !near_campaign
                || (validate::settled(raft) && self.may_stand()))
    }

    /// Nothing keeps this board from standing for election. One that could only
    /// hand over, its rows being wrong or none, or its database held by a reader, or that is
    /// drained, does so
    /// where nobody else could be elected for long: its log may be the only whole one.
    pub(crate) fn may_stand(&self) -> bool {
        self.hindrance() != Some(Refusal::DiskFull)
            && self.stopping.is_none()
            && !self.catchup.is_busy()
            && (self.may_lead() && !self.leaves_leading() || self.is_last_resort())
            && self.standing.may_elect(self.last())
    }

    /// Drawn like any election timeout: two boards that are nobody's choice must
    /// not stand in the same moment for ever.
    fn is_last_resort(&self) -> bool {
        let raft = &self.raw.raft;
        let drawn = raft.randomized_election_timeout();
        raft.election_elapsed >= self.config.timing.leaderless_ticks() + drawn
    }

    /// Nothing keeps this board from leading.
    pub(crate) fn may_lead(&self) -> bool {
        self.hindrance().is_none()
            && self.stopping.is_none()
            && !self.catchup.is_busy()
            && (!self.is_fenced() || mutant::is(17))
            && (!self.is_witness() || mutant::is(51))
            && (self.is_voter() || mutant::is(45))
    }

    /// Leads no longer, and knows of nobody who does.
    pub(crate) fn step_down(&mut self, now: Millis) {
        let term = self.raw.raft.term;
        self.raw.raft.become_follower(term, raft::INVALID_ID);
        self.pin_election_timeout();
        self.note_role(now);
    }

    /// The leader is no more: its voters stand for election one after the other, the first
    /// at once.
    pub(crate) fn miss_leader(&mut self, now: Millis, leader: NodeId) {
        self.step_down(now);
        let others = self.membership.voters().into_iter().filter(|id| *id != leader);
        let rank = others.take_while(|id| *id != self.config.id).count();
        let raft = &mut self.raw.raft;
        raft.election_elapsed = raft.randomized_election_timeout().saturating_sub(1 + 2 * rank);
    }

    /// Where its log ends.
    pub(crate) fn last(&self) -> Position {
        let log = &self.raw.raft.raft_log;
        Position { term: log.last_term(), index: log.last_index() }
    }

    /// Why this board cannot lead now, whatever the others think of it.
    pub(crate) const fn hindrance(&self) -> Option<Refusal> {
        match self {
            Self { disk_full: true, .. } | Self { database_full: true, .. } => {
                Some(Refusal::DiskFull)
            }
            Self { database_held: true, .. } => Some(Refusal::DatabaseHeld),
            Self { .. } => None,
        }
    }

    /// Gives leadership to a voter that has most, among those heard lately whose
    /// rows are right: to each of them in turn, for what else keeps one from taking
    /// it is known there only.
    pub(crate) fn hand_over(&mut self, now: Millis) {
        if self.raw.raft.lead_transferee.is_some() {
            return;
        }
        let able = self.able_successors(now);
        if !able.is_empty() {
            let successor = able[self.handed_over % able.len()];
            self.handed_over = self.handed_over.wrapping_add(1);
            self.raw.transfer_leader(successor);
        }
    }

    /// Voters that can be heard, whose rows are right, and that have most; among those that
    /// have caught up, the ones that are not drained.
    pub(crate) fn able_successors(&self, now: Millis) -> Vec<NodeId> {
        let mut able = self.successors();
        able.retain(|(id, _)| self.is_here(now, *id));
        let is_preferred = |id: NodeId| !self.is_drained(id) && self.is_able(now, id);
        if able.iter().any(|(id, _)| is_preferred(*id)) {
            able.retain(|(id, _)| is_preferred(*id));
        }
        let most = able.iter().map(|(_, matched)| *matched).max();
        able.retain(|(_, matched)| Some(*matched) == most);
        able.into_iter().map(|(id, _)| id).collect()
    }

    /// The other voters that have rows, and right ones, last come first, and up to where
    /// each has this leader's log.
    pub(crate) fn successors(&self) -> Vec<(NodeId, u64)> {
        let others = self.membership.data_voters().into_iter().rev();
        let others = others.filter(|id| *id != self.config.id && !self.is_fenced_board(*id));
        others.map(|id| (id, self.matched(id))).collect()
    }

    /// raft-rs draws its election timeout from the thread's own randomness; ours
    /// comes from the seed, so that a run can be repeated. It reads the value in
    /// `tick` only, and draws anew at every change of role or term.
    pub(crate) fn pin_election_timeout(&mut self) {
        let timing = &self.config.timing;
        let raft = &mut self.raw.raft;
        let span = (timing.election_ticks_max - timing.election_ticks_min) as u64;
        let mixed = mix(self.config.seed
            ^ mix(self.config.id)
            ^ mix(self.config.boot << 20)
            ^ mix(raft.term << 40 ^ raft.state as u64));
        let drawn = usize::try_from(mixed % span).expect("below a span of ticks");
        raft.set_randomized_election_timeout(timing.election_ticks_min + drawn);
    }
}

/// SplitMix64's finalizer (Steele, Lea, Flood 2014): spreads a seed over 64 bits.
const fn mix(value: u64) -> u64 {
    let value = value.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    value ^ (value >> 31)
}

#[cfg(test)]
mod tests {
    use crate::{
        event::{Event, NodeId, Reply},
        rig::{Rig, write},
        timing::Timing,
    };

    /// A leader, and two that follow it.
    fn group() -> (Rig, NodeId, NodeId, NodeId) {
        let (rig, leader) = Rig::led(&[1, 2, 3]);
        (rig, leader, leader % 3 + 1, (leader + 1) % 3 + 1)
    }

    #[test]
    fn a_board_held_by_a_reader_hands_its_log_on_where_nobody_else_holds_it() {
        let (mut rig, leader, held, other) = group();
        rig.event(held, Event::DatabaseHeld(true));
        rig.hand_on(leader, held, other);
    }

    /// Its followers hear it all the while: but for that nobody would take its place.
    #[test]
    fn a_board_whose_disk_stalls_hands_leadership_over_and_writes_go_on() {
        let (mut rig, leader, ..) = group();
        rig.stalled.push(leader);
        rig.ask(leader, 1, write("a"));
        rig.run(Timing::WIRED.election_ms_min());
        assert_eq!(rig.leader(), Some(leader), "for a while a disk may be slow");
        rig.run(2 * Timing::WIRED.election_ms_max());
        let next = rig.leader().expect("another leads");
        assert_ne!(next, leader);
        rig.ask(next, 2, write("b"));
        rig.run(200);
        assert!(matches!(rig.answer_of(2), Some(Reply::Done { .. })));
    }

    #[test]
    fn leadership_is_offered_to_each_that_could_take_it() {
        for asked_first in 0..2 {
            let (mut rig, leader, one, two) = group();
            let held = [one, two][asked_first];
            rig.event(held, Event::DatabaseHeld(true));
            rig.event(leader, Event::DiskFull(true));
            rig.run(2_000);
            assert_eq!(rig.leader(), Some([two, one][asked_first]));
        }
    }
}
