//! The group's keys as this board has them: those it got with its token, and those
//! whose copies it opens in the membership with its own static key. Only the
//! former are written down; when the group forgets one of them, those that live take
//! their place.
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
    driver::random::random,
    identity::{GroupId, GroupKey, Identity},
    seal::{Keys, open_copy, seal_copy},
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
            let known = before
                .iter()
                .position(|opened| opened.key.number == sealed.number && opened.copy == copy);
            match known {
                Some(place) => self.opened.push(before.swap_remove(place)),
                None => self
                    .opened
                    .extend(self.open(sealed).map(|key| Opened { copy: copy.to_vec(), key })),
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seal::public_key;

    fn identity(node: NodeId, numbers: &[u32]) -> Identity {
        let key = |number| GroupKey { number, key: [u8::try_from(number).unwrap(); 32] };
        Identity {
            group: [1; 16],
            group_name: String::from("g"),
            group_keys: numbers.iter().copied().map(key).collect(),
            node,
            private_key: [10 + u8::try_from(node).unwrap(); 32],
            disk: [4; 16],
            acquaintances: Vec::new(),
        }
    }

    fn members(ids: &[NodeId]) -> Vec<Member> {
        let member = |id: &NodeId| Member {
            id: *id,
            name: format!("b{id}"),
            key: public_key(&identity(*id, &[]).private_key),
            addresses: Vec::new(),
            voter: true,
        };
        ids.iter().map(member).collect()
    }

    fn numbers(keys: &[GroupKey]) -> Vec<u32> {
        keys.iter().map(|key| key.number).collect()
    }

    fn installed(oldest: u32, used: u32, keys: &[&SealedKey]) -> KeyRing {
        let installed = keys.iter().map(|key| (*key).clone()).collect();
        KeyRing { oldest, used, installed, is_due: false }
    }

    #[test]
    fn every_member_gets_the_same_key_and_nobody_else_gets_any() {
        let mut rings: Vec<Keyring> =
            (1..=3).map(|node| Keyring::new(&identity(node, &[0]))).collect();
        let sealed = rings[0].make(&members(&[1, 2])).unwrap();
        for ring in &mut rings {
            ring.follow(&installed(0, 0, &[&sealed]));
        }
        let keys: Vec<_> = rings.iter().map(Keyring::token_keys).collect();
        assert_eq!(numbers(&keys[0]), [0, 1]);
        assert_eq!(keys[0], keys[1]);
        assert_eq!(numbers(&keys[2]), [0], "it got no copy");
        let seal = rings[1].seal_keys();
        assert_eq!((seal.used, seal.newest, seal.group_keys), (0, 1, keys[1].clone()));
    }

    #[test]
    fn a_key_counts_from_when_its_entry_is_in_the_log_and_another_of_its_number_takes_its_place() {
        let mut ring = Keyring::new(&identity(2, &[0]));
        let entry = |sealed: &SealedKey| Entry {
            index: 9,
            term: 1,
            kind: EntryKind::Membership,
            data: sql::encode(&MembershipChange::KeyInstall(sealed.clone())),
        };
        let maker = Keyring::new(&identity(1, &[0]));
        let lost = maker.make(&members(&[1, 2])).unwrap();
        let kept = maker.make(&members(&[1, 2])).unwrap();
        assert!(ring.foresee(&[entry(&lost)]) && !ring.foresee(&[entry(&lost)]));
        assert_eq!(numbers(&ring.seal_keys().group_keys), [0, 1]);
        assert_eq!(numbers(&ring.token_keys()), [0], "no token is made of it");
        assert_eq!((ring.seal_keys().used, ring.seal_keys().newest), (0, 0));
        ring.follow(&KeyRing::default());
        assert_eq!(numbers(&ring.seal_keys().group_keys), [0, 1], "it may be applied still");
        ring.follow(&installed(0, 0, &[&kept]));
        let mut alone = Keyring::new(&identity(2, &[0]));
        alone.follow(&installed(0, 0, &[&kept]));
        assert_eq!(ring.seal_keys().group_keys, alone.seal_keys().group_keys);
        for _ in 0..9 {
            ring.foresee(&[entry(&SealedKey { number: 2, ..maker.make(&members(&[2])).unwrap() })]);
        }
        let foreseen: Vec<_> = (2..12)
            .map(|number| Keyring { newest: number - 1, ..Keyring::new(&identity(1, &[0])) })
            .map(|maker| entry(&maker.make(&members(&[2])).unwrap()))
            .collect();
        ring.foresee(&foreseen);
        assert_eq!(ring.seal_keys().group_keys.len(), 2 + KEYS_MAX, "no more than so many");
    }

    #[test]
    fn what_the_group_has_forgotten_goes_from_the_identity() {
        let former = identity(2, &[0]);
        let mut ring = Keyring::new(&former);
        let sealed = ring.make(&members(&[1, 2])).unwrap();
        ring.follow(&installed(0, 1, &[&sealed]));
        assert!(ring.renewed(&former, 0).is_none());
        ring.follow(&installed(1, 1, &[&sealed]));
        let renewed = ring.renewed(&former, 1).unwrap();
        assert_eq!(numbers(&renewed.group_keys), [1]);
        assert!(Identity { group_keys: former.group_keys.clone(), ..renewed.clone() } == former);
        assert!(ring.renewed(&renewed, 1).is_none());
        let again = Keyring::new(&renewed);
        assert_eq!(again.seal_keys().group_keys, ring.seal_keys().group_keys);
    }

    #[test]
    fn a_newcomer_goes_by_its_token_until_it_has_the_log() {
        let mut ring = Keyring::new(&identity(3, &[1, 2]));
        ring.follow(&KeyRing::default());
        let seal = ring.seal_keys();
        assert_eq!((numbers(&seal.group_keys), seal.used, seal.newest), (vec![1, 2], 2, 2));
        let sealed = |number| SealedKey { number, copies: Vec::new() };
        ring.follow(&installed(1, 1, &[&sealed(1), &sealed(2)]));
        let seal = ring.seal_keys();
        assert_eq!((numbers(&seal.group_keys), seal.used, seal.newest), (vec![1, 2], 1, 2));
        ring.follow(&installed(2, 2, &[&sealed(2)]));
        assert_eq!(numbers(&ring.seal_keys().group_keys), [2]);
    }
}
