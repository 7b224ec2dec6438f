//! Who may lead, as far as this board has a say: one without room, one that is about
//! to end, and one whose rows are wrong leave it to another.

use raft::StateRole;

use crate::{
    event::{Millis, NodeId},
    mutant,
    node::{Node, voters_of},
    promise::Standing,
    validate,
};

impl Node {
    /// raft-rs 0.7 asserts that a new leader has everything it appended on disk:
    /// a follower does not campaign while an append is under way.
    pub(crate) fn may_tick(&self) -> bool {
        let raft = &self.raw.raft;
        let near_campaign = raft.election_elapsed + 1 >= self.config.timing.election_ticks_min;
        self.standing == Standing::Sure
            && (raft.state == StateRole::Leader
                || !near_campaign
                || (validate::settled(raft) && self.may_lead()))
    }

    /// Nothing keeps this board from leading.
    pub(crate) fn may_lead(&self) -> bool {
        !self.is_full() && !self.stopping && (!self.is_fenced() || mutant::is(32))
    }

    /// One of this board's two files has no room.
    pub(crate) const fn is_full(&self) -> bool {
        self.disk_full || self.database_full
    }

    /// Gives leadership to the voter that has most, among those heard lately whose
    /// rows are right.
    pub(crate) fn hand_over(&mut self, now: Millis) {
        if self.raw.raft.lead_transferee.is_some() {
            return;
        }
        let unreachable_ms = self.config.timing.unreachable_ms;
        let matched = |id: NodeId| self.raw.raft.prs().get(id).map(|progress| progress.matched);
        let best = voters_of(&self.membership)
            .into_iter()
            .filter(|id| *id != self.config.id && self.heard_within(now, *id, unreachable_ms))
            .filter(|id| !self.is_fenced_board(*id))
            .max_by_key(|id| (matched(*id), *id));
        if let Some(successor) = best {
            self.raw.transfer_leader(successor);
        }
    }
}
