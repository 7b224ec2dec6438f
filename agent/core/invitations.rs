//! How long invitations still hold. Their rows say for how long from when they were
//! made; what is left of that each board counts in boot time, and nobody writes down:
//! so no clock is trusted, nothing is written for it, and no invitation outlives a
//! restart of the whole group.
//!
//! A board counts from when it applies the entry, if that is of the term it is in:
//! such an entry was made by a leader that has not stopped since. Boards tell each
//! other now and then what is left, and the least counts. So who was restarted or was
//! away knows it as well, as long as one board that knows goes on.

use alloc::{collections::BTreeMap, vec::Vec};

use crate::{
    error::Rejection,
    event::{Millis, NodeId, Position},
    limits,
    member::{InvitationId, MembershipChange},
    mutant,
    node::Node,
    wire::Frame,
};

/// Until when each holds that this board knows of.
#[derive(Default)]
pub(crate) struct Invitations(BTreeMap<InvitationId, Millis>);

impl Invitations {
    fn hold(&mut self, id: InvitationId, until: Millis) {
        let known = self.0.entry(id).or_insert(until);
        *known = until.min(*known);
    }
}

impl Node {
    /// A membership entry is applied.
    pub(crate) fn count_invitation(
        &mut self,
        now: Millis,
        at: Position,
        change: &MembershipChange,
    ) {
        if let MembershipChange::Invite(invitation) = change
            && at.term == self.raw.raft.term
        {
            self.invitations.hold(invitation.id, now.plus(invitation.lifetime_ms));
        }
        let rows = &self.membership.invitations;
        self.invitations.0.retain(|id, _| rows.iter().any(|row| row.id == *id));
    }

    /// Milliseconds for which it still holds; none when it does not, or this board
    /// cannot know.
    pub(crate) fn invitation_left(&self, now: Millis, id: &InvitationId) -> Option<u64> {
        let until = self.invitations.0.get(id)?;
        if mutant::is(43) {
            return Some(1);
        }
        (*until > now).then(|| until.since(now))
    }

    /// Now and then, to every board that can be heard.
    pub(crate) fn tick_invitations(&mut self, now: Millis) {
        if self.invitations.0.is_empty() || !self.ticks.is_multiple_of(limits::OTHERS_TICKS) {
            return;
        }
        for peer in self.heard.keys().copied().collect::<Vec<_>>() {
            if self.is_here(now, peer) {
                self.say_invitations(now, peer);
            }
        }
    }

    fn say_invitations(&mut self, now: Millis, to: NodeId) {
        let left = self.invitations.0.iter();
        let left: Vec<_> = left.map(|(id, until)| (*id, until.since(now))).collect();
        if !left.is_empty() {
            self.say(now, to, &Frame::Invitations { left });
        }
    }

    pub(crate) fn on_invitations(
        &mut self,
        now: Millis,
        left: Vec<(InvitationId, u64)>,
    ) -> Result<(), Rejection> {
        if left.len() > limits::INVITATIONS_MAX {
            return Err(Rejection::Malformed);
        }
        for (id, left_ms) in left {
            let row = self.membership.invitations.iter().find(|row| row.id == id);
            if let Some(row) = row {
                self.invitations.hold(id, now.plus(left_ms.min(row.lifetime_ms)));
            }
        }
        Ok(())
    }

    /// One that holds no longer, or that nobody knows of who has had the time to say
    /// so to this leader.
    pub(crate) fn ended_invitation(&self, now: Millis, led_ms: u64) -> Option<InvitationId> {
        let told_ms = 4 * limits::OTHERS_TICKS * self.config.timing.tick_ms;
        if mutant::is(43) {
            return None;
        }
        let is_over = |id: &InvitationId| match self.invitations.0.get(id) {
            Some(until) => *until <= now,
            None => led_ms >= told_ms,
        };
        self.membership.invitations.iter().map(|row| row.id).find(is_over)
    }
}
