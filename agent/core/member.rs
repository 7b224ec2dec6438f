//! Who belongs to the group: what is replicated about each board, and how that
//! changes. A membership entry carries the Raft step and the member's row, so
//! keys and votes can never disagree.
//!
//! raft-rs wants protobuf in such entries; that form never leaves
//! [`crate::wire`]'s neighbourhood: wire and journal carry ours.

use alloc::{string::String, vec::Vec};

use serde::{Deserialize, Serialize};

use crate::{error::Refusal, limits};

/// A member of the group. Never 0, never used twice.
pub type NodeId = u64;

/// An X25519 public key.
pub type PublicKey = [u8; 32];

/// Is this a name for a `what`, a board or a group? Names stand in tokens, in
/// tables and on command lines.
///
/// # Errors
/// [`Refusal::Invalid`] says what a name may be.
pub fn check_name(what: &str, name: &str) -> Result<(), Refusal> {
    let fits = !name.is_empty() && name.len() <= limits::NAME_BYTES_MAX;
    if fits && !name.chars().any(|c| c.is_control() || c.is_whitespace()) {
        return Ok(());
    }
    Err(Refusal::Invalid(alloc::format!(
        "a {what}'s name has 1 to {} bytes, without blanks and control characters",
        limits::NAME_BYTES_MAX
    )))
}

/// A board of the group, as every board knows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Never used twice.
    pub id: NodeId,
    /// What people call it; unique in the group.
    pub name: String,
    /// Its static key, the only one its datagrams are accepted from.
    pub key: PublicKey,
    /// Where it said it can be reached, `HOST:PORT` each; hints, not identity.
    pub addresses: Vec<String>,
    /// Counts for the quorum.
    pub voter: bool,
}

/// A board that asks to become a member.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Candidate {
    /// Wished name; `-2`, `-3`... is appended when taken.
    pub name: String,
    /// Its static key. A key already admitted gets the member it became.
    pub key: PublicKey,
    /// Where it can be reached.
    pub addresses: Vec<String>,
}

/// What a membership entry does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum MembershipChange {
    /// Add this board, or replace its row.
    Add(Member),
    /// Take this board out; its id is never used again.
    Remove(NodeId),
}

/// The whole membership at an applied index.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Membership {
    /// Ascending by id; removed boards are absent.
    pub members: Vec<Member>,
    /// Highest id ever given.
    pub last_id: NodeId,
}

impl Membership {
    /// Carries out `change`.
    pub fn change(&mut self, change: &MembershipChange) {
        match change {
            MembershipChange::Add(member) => {
                self.members.retain(|other| other.id != member.id);
                let place = self.members.partition_point(|other| other.id < member.id);
                self.members.insert(place, member.clone());
                self.last_id = self.last_id.max(member.id);
            }
            MembershipChange::Remove(id) => self.members.retain(|other| other.id != *id),
        }
    }

    /// The member of that id.
    #[must_use]
    pub fn member(&self, id: NodeId) -> Option<&Member> {
        self.members.iter().find(|member| member.id == id)
    }

    /// The member a candidate becomes: the one it already is (same key), or a
    /// new one with a fresh id and a name nobody has.
    #[must_use]
    pub fn admit(&self, candidate: &Candidate) -> Member {
        if let Some(known) = self.members.iter().find(|member| member.key == candidate.key) {
            return Member { addresses: candidate.addresses.clone(), ..known.clone() };
        }
        Member {
            id: self.last_id + 1,
            name: self.free_name(&candidate.name),
            key: candidate.key,
            addresses: candidate.addresses.clone(),
            voter: true,
        }
    }

    /// `wish`, or `wish-2`, `wish-3`... whichever is free first.
    #[must_use]
    pub fn free_name(&self, wish: &str) -> String {
        let taken = |name: &str| self.members.iter().any(|member| member.name == name);
        if !taken(wish) {
            return String::from(wish);
        }
        (2_u32..)
            .map(|number| alloc::format!("{wish}-{number}"))
            .find(|name| !taken(name))
            .expect("a group has fewer members than there are numbers")
    }
}
