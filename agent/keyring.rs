//! The group's keys as this board has them: those it got with its token, and those
//! whose copies it opens in the membership with its own static key. None is written
//! down but the former, and those only while the group has not forgotten them.
//!
//! A copy counts from when its entry is in the log, applied or not: once every member
//! has it there, the others may forget the keys before it, and this board may have no
//! other way to hear from them that the entry is committed.

use understudy_core::{
    event::{Entry, EntryKind, NodeId},
    keys::{KeyRing, SealedKey},
    limits::KEYS_MAX,
    member::{Member, MembershipChange},
    sql,
};

use crate::{
    identity::{GroupId, GroupKey, Identity},
    seal::{Keys, open_copy, seal_copy},
    waiting::random,
};

/// A copy that was opened.
struct Opened {
    copy: Vec<u8>,
    key: GroupKey,
}

/// See the module's description.
pub struct Keyring {
    group: GroupId,
    node: NodeId,
    private_key: [u8; 32],
    /// Got with the token.
    own: Vec<GroupKey>,
    /// Of the membership, ascending.
    opened: Vec<Opened>,
    /// Of entries that are not applied yet, the latest last.
    foreseen: Vec<GroupKey>,
    used: u32,
    newest: u32,
}

impl Keyring {
    /// What a board of this identity knows by itself.
    #[must_use]
    pub fn new(identity: &Identity) -> Self {
        let last = identity.group_keys.last().map_or(0, |key| key.number);
        Self {
            group: identity.group,
            node: identity.node,
            private_key: identity.private_key,
            own: identity.group_keys.clone(),
            opened: Vec::new(),
            foreseen: Vec::new(),
            used: last,
            newest: last,
        }
    }

    /// As of this membership; before it has any of the log, a board goes by its token.
    pub fn follow(&mut self, keys: &KeyRing) {
        let last = self.own.last().map_or(0, |key| key.number);
        self.newest = keys.newest().max(last);
        self.used = if keys.newest() < last { last } else { keys.used };
        self.own.retain(|key| key.number >= keys.oldest);
        let mut before = std::mem::take(&mut self.opened);
        for sealed in &keys.installed {
            let Some(copy) = sealed.copy(self.node) else { continue };
            let known = before.iter().position(|opened| {
                opened.key.number == sealed.number && opened.copy == copy
            });
            match known {
                Some(place) => self.opened.push(before.swap_remove(place)),
                None => self.opened.extend(
                    self.open(sealed).map(|key| Opened { copy: copy.to_vec(), key }),
                ),
            }
        }
        self.foreseen.retain(|key| key.number > keys.newest());
    }

    /// Entries come into this board's log; true when they bring a key that it did not
    /// know.
    pub fn foresee(&mut self, entries: &[Entry]) -> bool {
        let before = self.foreseen.len();
        for entry in entries.iter().filter(|entry| entry.kind == EntryKind::Membership) {
            let Ok(MembershipChange::KeyInstall(sealed)) = sql::decode(&entry.data) else {
                continue;
            };
            let Some(key) = self.open(&sealed) else { continue };
            if !self.keys().contains(&key) {
                self.foreseen.push(key);
            }
        }
        let more = self.foreseen.len().saturating_sub(KEYS_MAX);
        self.foreseen.drain(..more);
        more > 0 || self.foreseen.len() > before
    }

    fn open(&self, sealed: &SealedKey) -> Option<GroupKey> {
        let key = open_copy(&self.group, &self.private_key, sealed.number, sealed.copy(self.node)?);
        key.map(|key| GroupKey { number: sealed.number, key })
    }

    /// All keys that live, ascending, as far as this board has them.
    fn keys(&self) -> Vec<GroupKey> {
        let opened = self.opened.iter().map(|opened| opened.key);
        let mut keys: Vec<GroupKey> = self.own.iter().copied().chain(opened).collect();
        keys.extend(&self.foreseen);
        keys.sort_by_key(|key| key.number);
        keys.dedup();
        keys
    }

    /// What datagrams are sealed with.
    #[must_use]
    pub fn seal_keys(&self) -> Keys {
        Keys {
            group: self.group,
            group_keys: self.keys(),
            used: self.used,
            newest: self.newest,
            private_key: self.private_key,
        }
    }

    /// What a token carries: all that live, the newest last.
    #[must_use]
    pub fn token_keys(&self) -> Vec<GroupKey> {
        let mut keys = self.keys();
        keys.retain(|key| key.number <= self.newest && !self.foreseen.contains(key));
        keys
    }

    /// The identity without keys that are forgotten, where it has any: a board has one
    /// that lives, or keeps what it has.
    #[must_use]
    pub fn renewed(&self, identity: &Identity, oldest: u32) -> Option<Identity> {
        if identity.group_keys.iter().all(|key| key.number >= oldest) {
            return None;
        }
        let group_keys = self.token_keys();
        (!group_keys.is_empty()).then(|| Identity { group_keys, ..identity.clone() })
    }

    /// A new key for these members, after the newest.
    ///
    /// # Errors
    /// When the system has no randomness, or a member's key is none.
    pub fn make(&self, members: &[Member]) -> Result<SealedKey, String> {
        let key: [u8; 32] = random()?;
        let number = self.newest.saturating_add(1);
        let copies = members.iter().map(|member| {
            let copy = seal_copy(&self.group, &member.key, number, &key);
            let unusable = || format!("the key of {} is none that can be sealed to", member.name);
            Ok((member.id, copy.ok_or_else(unusable)?))
        });
        Ok(SealedKey { number, copies: copies.collect::<Result<_, String>>()? })
    }
}
