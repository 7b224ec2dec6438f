//! The group's keys as they are replicated: each sealed to every member, by number, and
//! which of them are used and forgotten. How one comes and goes is `rotation`'s.
//!
//! Left out: the keys themselves. The core draws none and reads none.

use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::{id::NodeId, limits};

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
}
