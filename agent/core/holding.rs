//! A holder's part in duties: it says what it is ready for, renews what it was granted, and
//! says when it has come to an end with it; `lease` has the rule.
//!
//! A holder acts only once its first renewal was answered. What is to be done about a
//! command is its agent's affair, which asks here what the board holds.

use alloc::vec::Vec;

use crate::{
    duties::Duties,
    duty::{Claim, Duty, Incarnation},
    event::{Millis, NodeId, Start},
    lease::Held,
    limits::{DUTIES_MAX, READY_TICKS},
    node::{Config, Node},
    wire::Frame,
};

/// Leadership waits no longer than this for duties to be handed on, milliseconds.
const HANDS_ON_MS: u64 = 1_000;

impl Node {
    /// This start of this board.
    #[must_use]
    pub const fn incarnation(&self) -> Incarnation {
        let Config { id, boot, nonce, .. } = self.config;
        Incarnation { board: id, boot, nonce }
    }

    /// Is this board ready for this duty?
    #[must_use]
    pub fn is_ready_for(&self, duty: u64) -> bool {
        let is_kept = self.duties.own_ready.contains(&duty) && !self.duties.unfit.contains(&duty);
        is_kept && !self.is_drained(self.config.id)
    }

    /// Is any duty granted to this start of this board?
    #[must_use]
    pub fn is_granted_any(&self) -> bool {
        let own = self.incarnation();
        self.duties.rows.iter().any(|duty| duty.holder == Some(own))
    }

    /// A board that comes to its end and leads grants what it holds to others first: the next
    /// leader would begin by looking who waits for what. It does not wait for a command that
    /// takes its time to end.
    pub(crate) fn hands_on_duties(&self, now: Millis) -> bool {
        let is_early = self.stopping.is_some_and(|since| now.since(since) < HANDS_ON_MS);
        is_early && self.is_granted_any()
    }

    /// What this board may act on now, and until when.
    pub fn held_duties(&self, now: Millis) -> impl Iterator<Item = Held> {
        self.duties.lessee.held(now)
    }

    /// Is this board asked to come to an end with what it does under this grant?
    #[must_use]
    pub fn yields(&self, claim: Claim) -> bool {
        self.duties.yields.contains(&claim)
    }

    /// This board is ready for these duties.
    pub(crate) fn on_own_ready(&mut self, duties: Vec<u64>) {
        self.duties.own_ready = duties.into_iter().take(DUTIES_MAX).collect();
        self.duties.told = (None, 0);
    }

    /// What this board did under that grant is at an end: it never acts under it again.
    pub(crate) fn on_gave_up(&mut self, now: Millis, claim: Claim) {
        self.duties.lessee.give_up(claim);
        self.duties.changes += 1;
        self.say_stopped(now);
    }

    /// Nobody knows whether that is so: the lease runs out.
    pub(crate) fn on_lost_touch(&mut self, claim: Claim) {
        self.duties.lessee.let_go(claim);
        self.duties.changes += 1;
    }

    /// The leader wants duties of this board to go elsewhere.
    pub(crate) fn on_yield(&mut self, from: NodeId, claims: &[Claim]) {
        if self.leader() == Some(from) {
            let own = self.incarnation();
            let is_own = |duty: &&Duty| duty.holder == Some(own) && claims.contains(&duty.claim());
            self.duties.yields = self.duties.rows.iter().filter(is_own).map(Duty::claim).collect();
            self.duties.changes += 1;
        }
    }

    pub(crate) fn renew(&mut self, now: Millis) {
        let Some(leader) = self.leader().filter(|_| self.hears_leader(now)) else { return };
        let own = self.incarnation();
        let held = self.duties.rows.iter().filter(|duty| duty.holder == Some(own));
        // A grant may be of another timing than this board's.
        let renew_ms = held.map(|duty| duty.lease_ms / 8).fold(self.renew_ms(), u64::min);
        let Some((number, claims)) = self.duties.lessee.renew(now, leader, renew_ms) else {
            return;
        };
        if leader == self.config.id {
            self.take_renewal(now, leader, number, claims);
        } else {
            self.say(now, leader, &Frame::Renew { number, claims });
        }
        self.say_stopped(now);
    }

    /// The leader has answered.
    pub(crate) fn on_renewed(&mut self, now: Millis, from: NodeId, number: u64, claims: &[Claim]) {
        let Duties { rows, lessee, .. } = &mut self.duties;
        lessee.renewed(now, (from, number), claims, rows);
        self.duties.changes += 1;
    }

    /// Grants that still stand and that this board acts no more under.
    pub(crate) fn say_stopped(&mut self, now: Millis) {
        let Some(leader) = self.leader() else { return };
        let own = self.incarnation();
        let given_up = |duty: &&Duty| {
            duty.holder == Some(own) && self.duties.lessee.has_given_up(duty.claim())
        };
        let claims = self.duties.rows.iter().filter(given_up).map(Duty::claim);
        let claims: Vec<Claim> = claims.collect();
        if claims.is_empty() {
        } else if leader == self.config.id {
            claims.into_iter().for_each(|claim| self.duties.lessor.stopped(claim));
        } else {
            self.say(now, leader, &Frame::Stopped { claims });
        }
    }

    /// Tells the leader what this board is ready for: a new one at once, and now and then.
    pub(crate) fn say_ready(&mut self, now: Millis) {
        let leader = self.leader().filter(|leader| *leader != self.config.id);
        let Some(leader) = leader.filter(|_| self.hears_leader(now)) else { return };
        let (told, tick) = self.duties.told;
        if told == Some(leader) && self.ticks - tick < READY_TICKS {
            return;
        }
        self.duties.told = (Some(leader), self.ticks);
        let kept = self.duties.own_ready.iter().copied();
        let duties = kept.filter(|duty| self.is_ready_for(*duty)).collect();
        let Incarnation { boot, nonce, .. } = self.incarnation();
        let start = Start { boot, nonce };
        self.say(now, leader, &Frame::Ready { start, duties });
        self.say_stopped(now);
    }
}
