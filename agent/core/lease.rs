//! Leases on duties: the rule by which two boards never both act (Gray and Cheriton,
//! 1989), with boot clocks that run at rates of their own.
//!
//! - A holder counts a lease from the moment it *sent* the renewal, and ends it a margin
//!   early. It asks for another in time; one that ran out is never taken up again.
//! - A leader counts from the moment the renewal arrived, and grants the duty to another a
//!   margin late. It answers only what a majority has confirmed it for since (`rounds`),
//!   and nothing of a grant that it has proposed to replace.
//! - Another leader may have answered until one of its majority acknowledged this one
//!   instead: every vote carries how long its voter has acknowledged no leader, itself
//!   included while it led. A start counts as an acknowledgement, since what was before
//!   is not known. So a leader counts from the latest moment that the voters who elected
//!   it leave open, whatever hints, transfers or restarts made the election come early.
//!
//! Both margins together cover clocks whose rates differ by up to a quarter of the lease:
//! each may be off by 12 %.
//!
//! `lease_model` searches every order of events for two boards that act.
//!
//! All of that but for a duty whose rules say `keep`: its holder goes on beyond its lease until
//! it learns of another grant.
//!
//! Left out: who is granted what (`duties`), and that a command is gone when its lease is.

use alloc::{collections::BTreeMap, collections::BTreeSet, collections::VecDeque, vec::Vec};

use crate::{
    duty::{Claim, Duty, Incarnation},
    event::{Millis, NodeId},
    limits::{DUTIES_MAX, RENEWALS_OPEN_MAX},
    mutant,
};

/// Grants that a holder remembers to have given up: those of duties that are no more are
/// forgotten beyond it.
const OVER_MAX: usize = 4 * DUTIES_MAX;

/// By how much a holder ends early and a leader grants late, milliseconds.
pub(crate) fn margin_ms(lease_ms: u64) -> u64 {
    if mutant::is(100) { 0 } else { lease_ms / 8 }
}

/// Has another grant of its duty taken this one's place?
fn is_past(Claim { duty, token }: Claim, duties: &[Duty]) -> bool {
    duties.iter().any(|known| known.id == duty && known.token > token)
}

/// What a voter knows of when it acknowledged leaders, and of those who elect it.
#[cfg_attr(test, derive(Clone, Debug, PartialEq, Eq, Hash))]
pub(crate) struct Quiet {
    acknowledged: Millis,
    term: u64,
    /// The latest moment at which one who elects it in that term may have acknowledged
    /// another.
    latest: Millis,
}

impl Quiet {
    /// A start counts as an acknowledgement.
    pub(crate) fn new(now: Millis) -> Self {
        let acknowledged = if mutant::is(101) { Millis(0) } else { now };
        Self { acknowledged, term: 0, latest: Millis(0) }
    }

    /// One that leads acknowledges itself all the time.
    pub(crate) fn lead(&mut self, now: Millis) {
        if !mutant::is(109) {
            self.acknowledge(now);
        }
    }

    /// This voter acknowledges a leader.
    pub(crate) const fn acknowledge(&mut self, now: Millis) {
        self.acknowledged = now;
    }

    /// How long it has acknowledged none.
    pub(crate) const fn quiet_ms(&self, now: Millis) -> u64 {
        now.since(self.acknowledged)
    }

    /// It has got a vote in this term: the voter was quiet for so long. One of a term before
    /// may come late, between those that count.
    pub(crate) fn elect(&mut self, now: Millis, term: u64, quiet_ms: u64) {
        if term < self.term && !mutant::is(114) {
            return;
        }
        if term != self.term {
            (self.term, self.latest) = (term, Millis(0));
        }
        self.latest = self.latest.max(Millis(now.0.saturating_sub(quiet_ms)));
    }

    /// Until when another leader may have been acknowledged by one of those who elected
    /// it in this term.
    fn others_until(&self, term: u64) -> Millis {
        let voted = if self.term == term { self.latest } else { Millis(0) };
        if mutant::is(102) { Millis(0) } else { voted.max(self.acknowledged) }
    }
}

/// The last start known to have ended of each board; for duties, its commands with it.
#[derive(Default)]
#[cfg_attr(test, derive(Clone, Debug, PartialEq, Eq, Hash))]
pub(crate) struct Ended(BTreeMap<NodeId, Incarnation>);

impl Ended {
    pub(crate) fn note(&mut self, start: Incarnation) {
        let known = self.0.entry(start.board).or_insert(start);
        if start.boot >= known.boot {
            *known = start;
        }
    }

    pub(crate) fn of(&self, board: NodeId) -> Option<&Incarnation> {
        self.0.get(&board)
    }

    pub(crate) fn has(&self, start: Incarnation) -> bool {
        self.of(start.board) == Some(&start)
    }

    /// Has the start that this duty was granted to ended?
    pub(crate) fn has_holder_of(&self, duty: &Duty) -> bool {
        let has_ended = |holder: Incarnation| {
            self.has(holder) || mutant::is(107) && self.0.contains_key(&holder.board)
        };
        duty.holder.is_some_and(has_ended)
    }

    /// A board has left the group.
    pub(crate) fn forget(&mut self, board: NodeId) {
        self.0.remove(&board);
    }
}

/// What a leader knows of leases.
#[cfg_attr(test, derive(Clone, Debug, PartialEq, Eq, Hash))]
pub(crate) struct Lessor {
    /// Until when another leader may have answered renewals.
    others_until: Millis,
    /// Per duty, the grant that was renewed last, and when that arrived.
    renewed: BTreeMap<u64, (u64, Millis)>,
    /// Grants that it has proposed to replace, and what is to be applied before that has
    /// come to nothing.
    replacing: BTreeMap<Claim, u64>,
    /// Grants whose holder has said that it acts no more.
    stopped: BTreeSet<Claim>,
}

impl Lessor {
    pub(crate) const fn new() -> Self {
        Self {
            others_until: Millis(0),
            renewed: BTreeMap::new(),
            replacing: BTreeMap::new(),
            stopped: BTreeSet::new(),
        }
    }

    /// It begins to lead.
    pub(crate) fn begin(&mut self, quiet: &Quiet, term: u64) {
        *self = Self { others_until: quiet.others_until(term), ..Self::new() };
    }

    /// The group's duties were those and are these now: a grant that is new gives its
    /// holder time to ask. The rows may fall back for a while, and what was said of a grant
    /// holds until another has taken its place.
    pub(crate) fn follow(&mut self, now: Millis, before: &[Duty], duties: &[Duty]) {
        self.replacing.retain(|claim, _| !is_past(*claim, duties));
        self.stopped.retain(|claim| !is_past(*claim, duties));
        self.renewed.retain(|id, _| duties.iter().any(|duty| duty.id == *id));
        let was_there = |duty: &Duty| before.iter().any(|known| known.claim() == duty.claim());
        for duty in duties.iter().filter(|duty| duty.holder.is_some() && !was_there(duty)) {
            self.renewed(now, duty.claim());
        }
    }

    /// A renewal of this grant has arrived.
    pub(crate) fn renewed(&mut self, now: Millis, Claim { duty, token }: Claim) {
        let has_room = self.renewed.len() < DUTIES_MAX || self.renewed.contains_key(&duty);
        let is_old = self.renewed.get(&duty).is_some_and(|(known, _)| *known > token);
        if has_room && !is_old {
            self.renewed.insert(duty, (token, now));
        }
    }

    /// The holder of this grant acts no more.
    pub(crate) fn stopped(&mut self, claim: Claim) {
        if self.stopped.len() < DUTIES_MAX {
            self.stopped.insert(claim);
        }
    }

    /// It proposes to replace this grant.
    pub(crate) fn replace(&mut self, claim: Claim) {
        self.replacing.insert(claim, u64::MAX);
    }

    /// That has come to nothing if the grant still stands once this index is applied.
    pub(crate) fn doubt(&mut self, claim: Claim, index: u64) {
        self.replacing.entry(claim).and_modify(|until| *until = index);
    }

    /// This index is applied.
    pub(crate) fn applied(&mut self, index: u64) {
        self.replacing.retain(|_, until| *until > index);
    }

    pub(crate) fn replaces(&self, claim: Claim) -> bool {
        self.replacing.contains_key(&claim)
    }

    /// Has the holder of this duty said that it acts no more?
    pub(crate) fn has_stopped(&self, duty: &Duty) -> bool {
        self.stopped.contains(&duty.claim())
    }

    /// May this holder's renewal of this grant be answered?
    pub(crate) fn may_answer(&self, duties: &[Duty], board: NodeId, claim: Claim) -> bool {
        let stands = |duty: &Duty| {
            duty.claim() == claim && duty.holder.is_some_and(|holder| holder.board == board)
        };
        duties.iter().any(stands)
            && (!self.replaces(claim) || mutant::is(103))
            && !self.stopped.contains(&claim)
    }

    /// May it grant this duty anew?
    pub(crate) fn may_grant(&self, now: Millis, duty: &Duty, ended: &Ended) -> bool {
        let is_over = ended.has_holder_of(duty) || self.over_at(duty) <= now;
        is_over && !self.replaces(duty.claim())
    }

    /// From when on nobody acts under the present grant of this duty any more, unless it
    /// is renewed.
    pub(crate) fn over_at(&self, duty: &Duty) -> Millis {
        let renewed = self.renewed.get(&duty.id).filter(|(token, _)| *token == duty.token);
        let last = renewed.map_or(Millis(0), |(_, at)| *at).max(self.others_until);
        match duty.holder.is_none() || self.has_stopped(duty) || mutant::is(104) {
            true => Millis(0),
            false => last.plus(duty.lease_ms).plus(margin_ms(duty.lease_ms)),
        }
    }
}

/// What a board holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Held {
    /// Which grant of which duty.
    pub claim: Claim,
    /// It may act until then, by its boot clock, milliseconds.
    pub until: Millis,
}

/// What a holder knows of its leases.
#[cfg_attr(test, derive(Clone, Debug, PartialEq, Eq, Hash))]
pub(crate) struct Lessee {
    /// Grants to this start that are not given up, and when the first renewal was sent
    /// that had no answer.
    claims: BTreeMap<Claim, Option<Millis>>,
    held: BTreeMap<Claim, Held>,
    /// Grants that it takes up no more, and whether all that it did under them is at an
    /// end.
    over: BTreeMap<Claim, bool>,
    /// Duties whose holder goes on without a majority.
    kept: BTreeSet<u64>,
    /// Until when what it goes on with was confirmed.
    confirmed: BTreeMap<Claim, Millis>,
    number: u64,
    /// Renewals that are not answered: number, to whom, when.
    sent: VecDeque<(u64, NodeId, Millis)>,
    /// When the next is due.
    due: Millis,
}

impl Lessee {
    pub(crate) const fn new() -> Self {
        Self {
            claims: BTreeMap::new(),
            held: BTreeMap::new(),
            over: BTreeMap::new(),
            kept: BTreeSet::new(),
            confirmed: BTreeMap::new(),
            number: 0,
            sent: VecDeque::new(),
            due: Millis(0),
        }
    }

    /// The group's duties are these now.
    pub(crate) fn follow(&mut self, own: Incarnation, duties: &[Duty]) {
        self.over.retain(|claim, _| !is_past(*claim, duties));
        while self.over.len() > OVER_MAX {
            self.over.pop_first();
        }
        // Rows below a grant that was applied here have fallen back for a while: what holds is
        // not taken away by that, and nobody renews it meanwhile.
        let is_own = |claim: &Claim| {
            let is_it = |duty: &Duty| duty.claim() == *claim && duty.holder == Some(own);
            let is_below =
                |duty: &Duty| duty.id == claim.duty && (1..claim.token).contains(&duty.token);
            duties.iter().any(|duty| is_it(duty) || is_below(duty))
        };
        self.kept = duties.iter().filter(|duty| duty.rules.keep).map(|duty| duty.id).collect();
        self.held.retain(|claim, _| is_own(claim));
        // What is kept no longer is held as long as was confirmed.
        self.confirmed.retain(|claim, until| {
            let is_kept = self.kept.contains(&claim.duty);
            if let Some(held) = self.held.get_mut(claim).filter(|_| !is_kept) {
                held.until = *until;
            }
            is_kept && self.held.contains_key(claim)
        });
        self.claims.retain(|claim, _| is_own(claim));
        let granted = duties.iter().filter(|duty| duty.holder == Some(own)).map(Duty::claim);
        for claim in granted.filter(|claim| !self.over.contains_key(claim)) {
            self.claims.entry(claim).or_insert_with(|| {
                self.due = Millis(0);
                None
            });
        }
    }

    /// Moments at which it is to do something.
    pub(crate) fn deadlines(&self) -> impl Iterator<Item = Millis> {
        let due = (!self.claims.is_empty()).then_some(self.due);
        self.held.values().map(|held| held.until).chain(due)
    }

    /// A renewal to be sent to the leader now: its number and what it is of.
    pub(crate) fn renew(
        &mut self,
        now: Millis,
        leader: NodeId,
        renew_ms: u64,
    ) -> Option<(u64, Vec<Claim>)> {
        // Another leader does not answer what the one before was asked.
        let is_asked = self.sent.back().is_none_or(|(_, to, _)| *to == leader);
        if self.claims.is_empty() || now < self.due && is_asked {
            return None;
        }
        self.due = now.plus(renew_ms);
        self.number += 1;
        if self.sent.len() == RENEWALS_OPEN_MAX {
            self.sent.pop_front();
        }
        self.sent.push_back((self.number, leader, now));
        for asked in self.claims.values_mut() {
            asked.get_or_insert(now);
        }
        Some((self.number, self.claims.keys().copied().collect()))
    }

    /// The leader has answered a renewal, of these grants: each holds from when that was
    /// sent.
    pub(crate) fn renewed(
        &mut self,
        now: Millis,
        (from, number): (NodeId, u64),
        claims: &[Claim],
        duties: &[Duty],
    ) {
        let Some(place) = self.sent.iter().position(|(sent, to, _)| (*sent, *to) == (number, from))
        else {
            return;
        };
        let (_, _, sent) = self.sent[place];
        self.sent.drain(..=place);
        let from = if mutant::is(105) { now } else { sent };
        for duty in duties.iter().filter(|duty| claims.contains(&duty.claim())) {
            let claim = duty.claim();
            let until = Millis(from.plus(duty.lease_ms).0.saturating_sub(margin_ms(duty.lease_ms)));
            let Some(asked) = self.claims.get_mut(&claim).filter(|_| now < until) else { continue };
            *asked = None;
            self.confirmed.remove(&claim);
            let known = self.held.get(&claim).map_or(Millis(0), |held| held.until);
            self.held.insert(claim, Held { claim, until: until.max(known) });
        }
    }

    /// Goes on with what is kept without a majority, half a lease at a time; false where
    /// nothing of that kind was about to run out.
    pub(crate) fn go_on(&mut self, now: Millis, lease_ms: u64) -> bool {
        let soon = now.plus(lease_ms / 4);
        let kept = self.held.values_mut().filter(|held| self.kept.contains(&held.claim.duty));
        let due: Vec<&mut Held> = kept.filter(|held| held.until <= soon).collect();
        let has_any = !due.is_empty();
        for held in due {
            self.confirmed.entry(held.claim).or_insert(held.until);
            held.until = now.plus(lease_ms / 2);
        }
        has_any
    }

    /// Takes up no more what ran out, or was not answered for a whole lease.
    /// True when there was such a grant.
    pub(crate) fn expire(&mut self, now: Millis, lease_ms: u64) -> bool {
        let ran_out = self.held.values().filter(|held| held.until <= now).map(|held| held.claim);
        let is_unheard = |(claim, asked): &(&Claim, &Option<Millis>)| {
            let is_late = asked.is_some_and(|at| now.since(at) >= lease_ms);
            is_late && !self.held.contains_key(*claim)
        };
        let unheard = self.claims.iter().filter(is_unheard).map(|(claim, _)| *claim);
        let over: Vec<Claim> = ran_out.chain(unheard).collect();
        for claim in &over {
            self.let_go(*claim);
        }
        !over.is_empty()
    }

    /// It renews this grant no more: its lease runs out.
    pub(crate) fn let_go(&mut self, claim: Claim) {
        self.held.remove(&claim);
        self.confirmed.remove(&claim);
        if self.claims.remove(&claim).is_some() {
            self.over.insert(claim, false);
        }
    }

    /// All that it did under this grant is at an end; it never acts under it again.
    pub(crate) fn give_up(&mut self, claim: Claim) {
        self.let_go(claim);
        if let Some(is_stopped) = self.over.get_mut(&claim) {
            *is_stopped = true;
        }
    }

    /// Is all that it did under this grant at an end?
    pub(crate) fn has_given_up(&self, claim: Claim) -> bool {
        self.over.get(&claim).is_some_and(|is_stopped| *is_stopped)
    }

    /// What it holds, as of now.
    pub(crate) fn held(&self, now: Millis) -> impl Iterator<Item = Held> {
        let holds = move |held: &&Held| now < held.until;
        self.held.values().filter(holds).copied()
    }
}

#[cfg(test)]
#[path = "lease_model.rs"]
mod model;

#[cfg(test)]
#[path = "lease_model_tests.rs"]
mod model_tests;

#[cfg(test)]
mod tests {
    use super::*;

    const LEASE_MS: u64 = 800;
    const MARGIN_MS: u64 = LEASE_MS / 8;
    const CLAIM: Claim = Claim { duty: 1, token: 7 };
    const HOLDER: Incarnation = Incarnation { board: 2, boot: 3, nonce: 9 };

    fn duty(token: u64) -> Duty {
        Duty { id: 1, token, holder: Some(HOLDER), lease_ms: LEASE_MS, ..Duty::default() }
    }

    /// A holder that sent its first renewal, number 1, to board 1 at 1,000 ms.
    fn asking() -> Lessee {
        let mut lessee = Lessee::new();
        lessee.follow(HOLDER, &[duty(7)]);
        assert_eq!(lessee.renew(Millis(1_000), 1, 100), Some((1, Vec::from([CLAIM]))));
        lessee
    }

    fn until(lessee: &Lessee, now: u64) -> Option<u64> {
        lessee.held(Millis(now)).next().map(|held| held.until.0)
    }

    #[test]
    fn a_lease_counts_from_when_its_renewal_was_sent() {
        let mut lessee = asking();
        assert_eq!(until(&lessee, 1_000), None, "the grant alone lets nobody act");
        lessee.renewed(Millis(1_300), (1, 1), &[CLAIM], &[duty(7)]);
        let end = 1_000 + LEASE_MS - MARGIN_MS;
        assert_eq!(until(&lessee, 1_300), Some(end));
        assert_eq!(until(&lessee, end), None);
    }

    #[test]
    fn an_answer_counts_once_and_from_whom_was_asked_and_never_when_it_is_too_late() {
        let mut lessee = asking();
        lessee.renewed(Millis(1_010), (3, 1), &[CLAIM], &[duty(7)]);
        lessee.renewed(Millis(1_010), (1, 2), &[CLAIM], &[duty(7)]);
        assert_eq!(until(&lessee, 1_010), None);
        lessee.renewed(Millis(1_000 + LEASE_MS), (1, 1), &[CLAIM], &[duty(7)]);
        assert_eq!(until(&lessee, 1_000 + LEASE_MS), None);
        lessee.renewed(Millis(1_010), (1, 1), &[CLAIM], &[duty(7)]);
        assert_eq!(until(&lessee, 1_010), None, "that number was answered");
    }

    #[test]
    fn what_ran_out_or_was_given_up_is_not_taken_up_again() {
        let mut lessee = asking();
        lessee.renewed(Millis(1_010), (1, 1), &[CLAIM], &[duty(7)]);
        assert!(!lessee.expire(Millis(1_020), LEASE_MS));
        assert!(lessee.expire(Millis(5_000), LEASE_MS));
        assert!(!lessee.has_given_up(CLAIM), "its command may run");
        lessee.give_up(CLAIM);
        assert!(lessee.has_given_up(CLAIM));
        // The rows fall back, and come again.
        lessee.follow(HOLDER, &[]);
        lessee.follow(HOLDER, &[duty(7)]);
        assert_eq!(lessee.renew(Millis(6_000), 1, 100), None);
        lessee.follow(HOLDER, &[duty(8)]);
        assert!(lessee.renew(Millis(6_000), 1, 100).is_some(), "another grant is another");
    }

    #[test]
    fn another_leader_is_asked_at_once_and_the_same_again_in_time() {
        let mut lessee = asking();
        assert_eq!(lessee.renew(Millis(1_010), 1, 100), None);
        assert!(lessee.renew(Millis(1_010), 3, 100).is_some());
        assert_eq!(lessee.renew(Millis(1_020), 3, 100), None);
        assert!(lessee.renew(Millis(1_110), 3, 100).is_some());
    }

    #[test]
    fn what_is_held_stays_while_rows_fall_back_and_runs_out_as_it_would() {
        let mut lessee = asking();
        lessee.renewed(Millis(1_010), (1, 1), &[CLAIM], &[duty(7)]);
        let end = until(&lessee, 1_010).unwrap();
        lessee.follow(HOLDER, &[Duty { holder: None, ..duty(3) }]);
        assert_eq!(until(&lessee, 1_020), Some(end));
        lessee.follow(HOLDER, &[duty(7)]);
        assert!(lessee.renew(Millis(1_200), 1, 100).is_some());
        let mut other = lessee.clone();
        other.follow(HOLDER, &[Duty { holder: None, ..duty(0) }]);
        assert_eq!(until(&other, 1_205), None, "another duty may get the number of a former one");
        lessee.follow(HOLDER, &[Duty { holder: None, ..duty(8) }]);
        assert_eq!(until(&lessee, 1_210), None, "nobody's is not this board's");
    }

    #[test]
    fn what_is_kept_without_a_majority_goes_on_until_another_grant_is_known() {
        let kept = |token| Duty {
            rules: crate::duty::Rules { keep: true, ..Default::default() },
            ..duty(token)
        };
        let mut lessee = asking();
        lessee.follow(HOLDER, &[kept(7)]);
        assert!(!lessee.go_on(Millis(5_000), LEASE_MS), "what was never held is not gone on with");
        lessee.renewed(Millis(1_010), (1, 1), &[CLAIM], &[kept(7)]);
        for now in (1_100..9_000).step_by(50).map(Millis) {
            lessee.go_on(now, LEASE_MS);
            assert!(!lessee.expire(now, LEASE_MS));
            assert!(until(&lessee, now.0).is_some());
        }
        let mut changed = lessee.clone();
        changed.follow(HOLDER, &[duty(7)]);
        assert_eq!(until(&changed, 9_000), None, "what was confirmed is long over");
        let other = Incarnation { board: 3, ..HOLDER };
        lessee.follow(HOLDER, &[Duty { holder: Some(other), ..kept(8) }]);
        assert_eq!(until(&lessee, 9_000), None);
        assert!(!lessee.go_on(Millis(9_000), LEASE_MS));
    }

    #[test]
    fn a_grant_that_nobody_answers_for_is_let_go() {
        let mut lessee = asking();
        assert!(!lessee.expire(Millis(1_000 + LEASE_MS - 1), LEASE_MS));
        assert!(lessee.expire(Millis(1_000 + LEASE_MS), LEASE_MS));
    }

    #[test]
    fn another_start_of_the_board_holds_nothing_of_the_one_before() {
        let mut lessee = Lessee::new();
        lessee.follow(Incarnation { boot: 4, ..HOLDER }, &[duty(7)]);
        assert_eq!(lessee.renew(Millis(1_000), 1, 100), None);
    }

    #[test]
    fn a_leader_waits_from_the_last_renewal_and_for_what_another_may_have_answered() {
        #[cfg(mutants)]
        crate::rig::choose_mutant();
        let mut quiet = Quiet::new(Millis(0));
        quiet.acknowledge(Millis(400));
        quiet.elect(Millis(1_000), 5, 300);
        quiet.elect(Millis(1_010), 5, 900);
        let mut lessor = Lessor::new();
        lessor.begin(&quiet, 5);
        let over = |lessor: &Lessor| lessor.over_at(&duty(7)).0;
        assert_eq!(over(&lessor), 700 + LEASE_MS + MARGIN_MS, "of the least quiet of them");
        lessor.renewed(Millis(1_200), CLAIM);
        assert_eq!(over(&lessor), 1_200 + LEASE_MS + MARGIN_MS);
        lessor.stopped(CLAIM);
        assert_eq!(over(&lessor), 0);
        quiet.elect(Millis(1_020), 4, 900);
        lessor.begin(&quiet, 5);
        assert_eq!(over(&lessor), 700 + LEASE_MS + MARGIN_MS, "a late vote of a term before");
        lessor.begin(&quiet, 6);
        assert_eq!(over(&lessor), 400 + LEASE_MS + MARGIN_MS, "votes of another term say nothing");
    }

    #[test]
    fn what_is_being_replaced_is_not_renewed_until_that_came_to_nothing() {
        let mut lessor = Lessor::new();
        let duties = [duty(7)];
        assert!(lessor.may_answer(&duties, 2, CLAIM) && !lessor.may_answer(&duties, 3, CLAIM));
        lessor.replace(CLAIM);
        // The rows fall back below the grant, and come again.
        lessor.follow(Millis(0), &duties, &[]);
        lessor.follow(Millis(0), &[], &duties);
        assert!(!lessor.may_answer(&duties, 2, CLAIM));
        lessor.doubt(CLAIM, 90);
        lessor.applied(89);
        assert!(!lessor.may_answer(&duties, 2, CLAIM));
        lessor.applied(90);
        assert!(lessor.may_answer(&duties, 2, CLAIM));
    }
}
