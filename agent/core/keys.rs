//! The group's keys, by number. A new one is installed everywhere, then used, then
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
//! Left out: the keys themselves. The core draws none and reads none; the leading
//! board's agent makes one while [`Node::owes_key`].

use alloc::{format, string::String, vec::Vec};

use serde::{Deserialize, Serialize};

use crate::{
    event::{Millis, NodeId},
    limits,
    member::{Membership, MembershipChange},
    mutant,
    node::Node,
};

/// A key and who got it, sealed to each.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SealedKey {
    /// One above that of the key before.
    pub number: u32,
    /// A copy for every member of that time, ascending.
    pub copies: Vec<(NodeId, Vec<u8>)>,
}

impl SealedKey {
    /// That member's copy.
    #[must_use]
    pub fn copy(&self, id: NodeId) -> Option<&[u8]> {
        self.copies.iter().find(|(other, _)| *other == id).map(|(_, copy)| copy.as_slice())
    }

    fn is_well_formed(&self) -> bool {
        self.copies.len() <= limits::MEMBERS_MAX
            && self.copies.iter().all(|(_, copy)| copy.len() == limits::KEY_COPY_BYTES)
            && self.copies.windows(2).all(|pair| pair[0].0 < pair[1].0)
    }
}

/// Which keys there are. The group's first has number 0.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyRing {
    /// Those before it are forgotten.
    pub oldest: u32,
    /// Calls are made under it.
    pub used: u32,
    /// Those that are not forgotten, the newest last; never the group's first.
    pub installed: Vec<SealedKey>,
    /// Somebody who is no member knows the newest.
    pub is_due: bool,
}

impl KeyRing {
    /// Guests are heard under no other.
    #[must_use]
    pub fn newest(&self) -> u32 {
        self.installed.last().map_or(0, |key| key.number)
    }

    /// Is another key one too many?
    #[must_use]
    pub fn is_full(&self) -> bool {
        (self.newest() - self.oldest) as usize + 1 >= limits::KEYS_MAX
    }

    pub(crate) fn may_install(&self, key: &SealedKey) -> bool {
        !self.is_full() && self.newest().checked_add(1) == Some(key.number) && key.is_well_formed()
    }

    pub(crate) fn may_use(&self, number: u32) -> bool {
        self.used < number && number <= self.newest()
    }

    pub(crate) fn may_forget(&self, number: u32) -> bool {
        self.oldest < number && number <= self.used
    }

    pub(crate) fn install(&mut self, key: &SealedKey) {
        self.installed.push(key.clone());
        self.is_due = false;
    }

    pub(crate) fn forget(&mut self, number: u32) {
        self.oldest = number;
        self.installed.retain(|key| key.number >= number);
    }

    /// What begins anew with a key that its one board knows already, and none of those
    /// before: its number is one above the newest.
    #[must_use]
    pub fn begun_anew(&self) -> [MembershipChange; 5] {
        let newest = self.newest();
        let number = newest + 1;
        [
            MembershipChange::KeyUse(newest),
            MembershipChange::KeyForget(newest),
            MembershipChange::KeyInstall(SealedKey { number, copies: Vec::new() }),
            MembershipChange::KeyUse(number),
            MembershipChange::KeyForget(number),
        ]
    }
}

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
#[path = "keys_tests.rs"]
mod tests;
