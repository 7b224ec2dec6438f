//! Who votes: what the leader changes of the membership by itself.
//!
//! - A learner that can be heard, has caught up for a while and was found to hold the
//!   same rows as the leader is promoted, as long as fewer boards vote than the group
//!   has set. An even number of voters stands no more losses than one less, so of an
//!   even number one follows; but two both vote: nothing acknowledged is then on one
//!   card only.
//! - A witness makes an even number odd: it votes beside two, four or six boards with
//!   rows, if they have the room, and follows beside any other number. It is promoted
//!   when it has caught up, for it has nothing to compare; and no board votes beside it
//!   that lacks what it no longer has.
//! - A voter that has not been heard for longer than the group has set follows from
//!   then on, and such a learner votes in its place, in one step. When it comes back it
//!   is a learner like any other. One of which there are copies is replaced at once.
//! - Two sets of voters that count at once are left as soon as may be, by whoever leads.
//!
//! All of it follows from what is replicated and from what the leader has heard since it
//! leads, in boot time: a new leader counts anew, so silence only ever counts too short.
//!
//! Left out: wishes of people (`admission`).

use alloc::{collections::BTreeMap, vec::Vec};

use crate::{
    event::{Millis, NodeId},
    limits,
    member::{Member, MembershipChange},
    mutant,
    node::Node,
    writes::Ticket,
};

/// See the module's description.
#[derive(Default)]
pub(crate) struct Roster {
    /// 0 for never.
    pub(crate) replace_after_ms: u64,
    leads_since: Option<Millis>,
    /// Since when learners have been caught up.
    steady: BTreeMap<NodeId, Millis>,
    /// When a comparison was last asked for because of them.
    compared: BTreeMap<NodeId, Millis>,
    /// A member says that this board is none.
    is_removed: bool,
    /// raft-rs did not take a change at this tick.
    pub(crate) refused_at: Option<u64>,
    /// Leadership is on its way to another, and this caller waits for it.
    pub(crate) transfer: Option<(Ticket, NodeId)>,
}

/// Of so many boards with rows that could, so many vote, and whether a witness does, if
/// there is one that could. No more than `voters_max` in all.
pub(crate) const fn voters_wanted(
    boards: usize,
    witness: bool,
    voters_max: usize,
) -> (usize, bool) {
    let most = if boards < voters_max { boards } else { voters_max };
    let is_even = most > 0 && most.is_multiple_of(2);
    if is_even && witness && most < voters_max {
        return (most, true);
    }
    (if most > 2 && is_even { most - 1 } else { most }, false)
}

impl Node {
    /// A voter unheard for so long is replaced; 0 for never.
    pub fn set_replace_after(&mut self, ms: u64) {
        self.roster.replace_after_ms = ms;
    }

    /// Does this board vote, as far as it knows?
    pub(crate) fn is_voter(&self) -> bool {
        self.membership.member(self.config.id).is_some_and(|member| member.voter)
    }

    /// Was this board a member of the group, and is none any more?
    #[must_use]
    pub fn is_removed(&self) -> bool {
        self.roster.is_removed || self.membership.has_removed(self.config.id)
    }

    /// A member has said that this board is none any more.
    pub fn set_removed(&mut self) {
        self.roster.is_removed = true;
    }

    pub(crate) fn tick_roster(&mut self, now: Millis) {
        self.end_transfer(now);
        if !self.leads_for_sure() {
            self.roster.leads_since = None;
            self.roster.steady.clear();
            self.roster.compared.clear();
            return;
        }
        self.roster.leads_since.get_or_insert(now);
        let learners: Vec<NodeId> = self.learners().map(|member| member.id).collect();
        self.roster.steady.retain(|id, _| learners.contains(id));
        self.roster.compared.retain(|id, _| learners.contains(id));
        for id in learners {
            if self.is_able(now, id) {
                self.roster.steady.entry(id).or_insert(now);
            } else {
                self.roster.steady.remove(&id);
            }
        }
    }

    fn learners(&self) -> impl Iterator<Item = &Member> {
        self.membership.members.iter().filter(|member| !member.voter)
    }

    /// Can this board be heard, by a leader, itself included, and is it one?
    pub(crate) fn is_here(&self, now: Millis, id: NodeId) -> bool {
        let is_heard = self.heard_within(now, id, self.config.timing.unreachable_ms);
        id == self.config.id || is_heard && !self.is_copied(id)
    }

    /// Entries that a board lacks, as far as this leader knows.
    pub(crate) fn entries_behind(&self, id: NodeId) -> u64 {
        self.raw.raft.raft_log.last_index().saturating_sub(self.matched(id))
    }

    /// Up to where a board has this leader's log for good.
    pub(crate) fn matched(&self, id: NodeId) -> u64 {
        self.raw.raft.prs().get(id).map_or(0, |progress| progress.matched)
    }

    /// Could this board vote now without holding the others up?
    pub(crate) fn is_able(&self, now: Millis, id: NodeId) -> bool {
        self.is_here(now, id)
            && self.entries_behind(id) <= limits::CAUGHT_UP_ENTRIES
            && !self.without_room.contains(&id)
            && !self.is_fenced_board(id)
    }

    fn is_steady(&self, now: Millis, id: NodeId) -> bool {
        let steady_ms = self.config.timing.unreachable_ms;
        let since = self.roster.steady.get(&id);
        let may = !self.membership.resting.contains(&id);
        may && since.is_some_and(|since| now.since(*since) >= steady_ms)
    }

    /// A learner whose rows are to be compared before it may vote: asked for at once,
    /// then now and then.
    pub(crate) fn wants_comparison(&mut self, now: Millis) -> bool {
        let again_ms = 6 * self.config.timing.request_timeout_ms;
        let learners = self.learners().map(|member| member.id);
        let learners: Vec<NodeId> =
            learners.filter(|id| !self.membership.is_witness(*id)).collect();
        let unknown = |id: &NodeId| self.is_steady(now, *id) && !self.is_same(*id);
        let unknown: Vec<_> = learners.into_iter().filter(unknown).collect();
        let asked =
            |id: &NodeId| self.roster.compared.get(id).is_some_and(|at| now.since(*at) < again_ms);
        if unknown.iter().all(asked) {
            return false;
        }
        self.roster.compared.extend(unknown.into_iter().map(|id| (id, now)));
        true
    }

    /// Milliseconds since a board was last heard, as far as this leader can say.
    fn silent_ms(&self, now: Millis, id: NodeId) -> u64 {
        let heard = self.heard.get(&id).copied();
        let since = heard.max(self.roster.leads_since).unwrap_or(now);
        if id == self.config.id { 0 } else { now.since(since) }
    }

    /// Could these voters decide anything, as they can be heard now?
    pub(crate) fn can_decide(&self, now: Millis, voters: &[NodeId]) -> bool {
        2 * self.here(now, voters) > voters.len()
    }

    pub(crate) fn here(&self, now: Millis, voters: &[NodeId]) -> usize {
        voters.iter().filter(|id| self.is_here(now, **id)).count()
    }

    /// What is to be changed next, without anybody's wish.
    pub(crate) fn next_change(&self, now: Millis) -> Option<MembershipChange> {
        if !self.membership.outgoing.is_empty() {
            return Some(MembershipChange::Leave);
        }
        let led_ms = self.roster.leads_since.map_or(0, |since| now.since(since));
        if let Some(id) = self.ended_invitation(now, led_ms) {
            return Some(MembershipChange::Revoke(Some(id)));
        }
        if let Some(change) = self.next_key_change(now) {
            return Some(change);
        }
        let voters = self.membership.data_voters();
        let (ready, witness) = self.ready_learners(now);
        let witnesses = self.voting_witnesses();
        let has_witness = witness.is_some() || !witnesses.is_empty();
        let boards = voters.len() + ready.len();
        let (wanted, votes) = voters_wanted(boards, has_witness, self.voters_max);
        let (mut promoted, mut demoted) = if wanted > voters.len() {
            (ready[..wanted - voters.len()].to_vec(), Vec::new())
        } else if wanted < voters.len() {
            (Vec::new(), self.spare_voters(now, &voters, voters.len() - wanted))
        } else if let Some(gone) = self.gone_voter(now, &voters) {
            // A witness stands in as well: it makes the number odd again.
            let stands_in = witness.filter(|_| !voters.len().is_multiple_of(2));
            let substitute = ready.first().copied().or(stands_in);
            (substitute.into_iter().collect(), substitute.map(|_| gone).into_iter().collect())
        } else {
            (Vec::new(), Vec::new())
        };
        if !votes {
            demoted.extend(witnesses);
        } else if witnesses.is_empty() {
            promoted.extend(witness);
        }
        self.vote_change(now, &promoted, &demoted)
    }

    pub(crate) fn voting_witnesses(&self) -> Vec<NodeId> {
        let mut voters = self.membership.voters();
        voters.retain(|id| self.membership.is_witness(*id));
        voters
    }

    /// Those with rows that could vote, and a witness.
    fn ready_learners(&self, now: Millis) -> (Vec<NodeId>, Option<NodeId>) {
        let ready = |id: &NodeId| {
            let is_known = self.membership.is_witness(*id) || self.is_same(*id) || mutant::is(40);
            self.is_steady(now, *id) && is_known || mutant::is(41)
        };
        let ready: Vec<_> = self.learners().map(|member| member.id).filter(ready).collect();
        let (witnesses, others): (Vec<_>, Vec<_>) =
            ready.into_iter().partition(|id| self.membership.is_witness(*id));
        (others, witnesses.first().copied())
    }

    /// Those who can be done without, never this leader: who cannot be heard or is
    /// wrong first, then who came last.
    fn spare_voters(&self, now: Millis, voters: &[NodeId], count: usize) -> Vec<NodeId> {
        let own = self.config.id;
        let mut spare: Vec<_> = voters.iter().copied().filter(|id| *id != own).collect();
        spare.sort_by_key(|id| (self.is_able(now, *id), u64::MAX - id));
        spare.truncate(count);
        spare
    }

    /// Who has been silent for too long.
    fn gone_voter(&self, now: Millis, voters: &[NodeId]) -> Option<NodeId> {
        let after_ms = self.roster.replace_after_ms;
        let is_gone = |id: &&NodeId| {
            after_ms > 0 && (self.silent_ms(now, **id) >= after_ms)
                || self.is_copied(**id)
                || mutant::is(42) && !self.is_here(now, **id)
        };
        voters.iter().find(is_gone).copied()
    }

    /// One row, or several in one step, if those who vote then can decide, and a witness
    /// among them has what any of them lacks.
    pub(crate) fn vote_change(
        &self,
        now: Millis,
        promoted: &[NodeId],
        demoted: &[NodeId],
    ) -> Option<MembershipChange> {
        let row = |id: &NodeId, voter| {
            self.membership.member(*id).map(|member| Member { voter, ..member.clone() })
        };
        let rows = promoted.iter().filter_map(|id| row(id, true));
        let rows: Vec<Member> =
            rows.chain(demoted.iter().filter_map(|id| row(id, false))).collect();
        let mut voters = self.membership.voters();
        voters.retain(|id| !demoted.contains(id));
        voters.extend(promoted);
        // Who only goes takes nothing from the others.
        let has_all = promoted.is_empty() || self.has_tail_for(&voters);
        if rows.is_empty() || !self.can_decide(now, &voters) || !has_all {
            return None;
        }
        Some(match <[Member; 1]>::try_from(rows) {
            Ok([row]) => MembershipChange::Add(row),
            Err(rows) => MembershipChange::Joint(rows),
        })
    }
}

#[cfg(test)]
#[path = "roster_tests.rs"]
mod tests;
