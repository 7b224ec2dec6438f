//! The group's key is changed: a new one is installed everywhere, then used, then
//! those before it are forgotten:
//!
//! - *Installed*: the board that made it has sealed a copy to each member's static key,
//!   and an entry carries the copies. No key stands in the clear but in tokens and, as
//!   long as it lives, in boards' journals. Who joins later gets every key that
//!   lives with its token, and so needs no copy: open tokens end with the installing.
//! - *Used*: boards make their calls under it, once every member has the entry on its
//!   disk, or after a while. Who has not got it yet is still answered under an older one.
//! - *Forgotten*: all before it, by all boards, once every member that got a copy has the
//!   entry. One that is away holds this up: it comes back by itself, or is removed.
//!
//! Whoever is taken out knows the newest key, so another is due from then on, until one
//! is installed. All of it is replicated, and a new leader goes on where the last one
//! was; what its members hold it counts anew.
//!
//! Left out: making one. The leading board's agent does while [`Node::owes_key`].

use alloc::{format, string::String, vec::Vec};

use crate::{
    event::Millis,
    id::NodeId,
    keys::KeyRing,
    limits,
    member::{Membership, MembershipChange},
    mutant,
    node::Node,
};

/// What a leader counts of a rotation.
#[derive(Default)]
pub(crate) struct Rotation {
    /// The newest key and the one in use as it found them, up to which entry that was
    /// applied, and when.
    seen: Option<((u32, u32), u64, Millis)>,
}

impl Node {
    pub(crate) fn tick_keys(&mut self, now: Millis) {
        if !self.leads_for_sure() {
            self.rotation.seen = None;
            return;
        }
        let keys = (self.membership.keys.newest(), self.membership.keys.used);
        if self.rotation.seen.is_none_or(|(seen, ..)| seen != keys) {
            self.rotation.seen = Some((keys, self.applier.applied().index, now));
        }
    }

    /// Is a new key to be made by this board? It leads, and somebody who was taken out
    /// knows the newest.
    #[must_use]
    pub fn owes_key(&self) -> bool {
        let Membership { keys, outgoing, .. } = &self.membership;
        keys.is_due && !keys.is_full() && outgoing.is_empty() && self.leads_for_sure()
    }

    /// The next step of a rotation, for this leader.
    pub(crate) fn next_key_change(&self, now: Millis) -> Option<MembershipChange> {
        let KeyRing { oldest, used, .. } = self.membership.keys;
        let newest = self.membership.keys.newest();
        let (_, index, since) = self.rotation.seen.filter(|(seen, ..)| *seen == (newest, used))?;
        let waits_ms = limits::KEY_USE_TIMES * self.config.timing.unreachable_ms;
        let is_late = now.since(since) >= waits_ms;
        if used < newest && (is_late || self.lack_key(newest, index).is_empty()) {
            return Some(MembershipChange::KeyUse(newest));
        }
        let may_forget = self.lack_key(used, index).is_empty() || mutant::is(60);
        (oldest < used && may_forget).then_some(MembershipChange::KeyForget(used))
    }

    /// Members that got a copy of that key and do not have the log up to there on their
    /// disks, as far as this leader knows.
    fn lack_key(&self, number: u32, index: u64) -> Vec<NodeId> {
        let key = self.membership.keys.installed.iter().find(|key| key.number == number);
        let copies = key.into_iter().flat_map(|key| &key.copies).map(|(id, _)| *id);
        let holds = |id: NodeId| id == self.config.id || self.matched(id) >= index;
        copies.filter(|id| self.membership.member(*id).is_some() && !holds(*id)).collect()
    }

    /// Boards that the next step of a rotation waits for: those that lack the key, by a
    /// leader; by others those that cannot be heard.
    #[must_use]
    pub fn keys_wait_for(&self, now: Millis) -> Vec<NodeId> {
        let KeyRing { oldest, ref installed, .. } = self.membership.keys;
        let Some(newest) = installed.last().filter(|newest| oldest < newest.number) else {
            return Vec::new();
        };
        if let Some((_, index, _)) = self.rotation.seen {
            return self.lack_key(newest.number, index);
        }
        let copies = newest.copies.iter().map(|(id, _)| *id);
        let is_away = |id: &NodeId| {
            self.membership.member(*id).is_some() && self.hears(now, *id) == Some(false)
        };
        copies.filter(|id| *id != self.config.id && is_away(id)).collect()
    }

    /// Why no further key can be installed now.
    pub(crate) fn too_many_keys(&self, now: Millis) -> String {
        let awaited = self.keys_wait_for(now);
        let names: Vec<_> = awaited.iter().map(|id| self.name_of(*id)).collect();
        format!(
            "the group has {} keys already, and the former are forgotten only when every board has \
             the newest: wait, or see to {}, or take it out with `understudy remove`",
            limits::KEYS_MAX,
            if names.is_empty() { String::from("the boards") } else { names.join(", ") }
        )
    }
}

#[cfg(test)]
#[path = "rotation_tests.rs"]
mod tests;
