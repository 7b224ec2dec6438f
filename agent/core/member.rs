//! Who belongs to the group: what is replicated about each board, and how that
//! changes. A membership entry carries the Raft step and the member's row, so
//! keys and votes can never disagree.
//!
//! raft-rs wants protobuf in such entries; that form never leaves
//! [`crate::wire`]'s neighbourhood: wire and journal carry ours.

use alloc::{string::String, vec::Vec};

use serde::{Deserialize, Serialize};

use crate::{
    error::Refusal,
    keys::{KeyRing, SealedKey},
    limits, mutant,
};

pub use crate::id::{NodeId, PublicKey};

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

/// Names an invitation and proves that one has it: what is secret in a join token.
pub type InvitationId = [u8; 16];

/// Lets boards in that show it. How long it still holds is counted in boot time and
/// stands nowhere: see `invitations`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Invitation {
    /// Random.
    pub id: InvitationId,
    /// From when it was made, milliseconds.
    pub lifetime_ms: u64,
    /// Boards it still lets in; 0 for any number.
    pub uses: u32,
}

/// What is wished of the membership. Done by the leader.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum MemberRequest {
    /// A board that shows an invitation becomes a member; answered with the encoded
    /// [`Member`] it became.
    Join {
        /// Who.
        candidate: Candidate,
        /// What it shows.
        invitation: InvitationId,
        /// The name of a member that cannot be heard: it goes, and the newcomer gets
        /// its name. Empty for none.
        replaces: String,
    },
    /// Let boards in that show this.
    Invite(Invitation),
    /// No invitation holds any longer.
    Revoke,
    /// Take this board out for good.
    Remove(NodeId),
    /// This board shall vote, or only follow until somebody wishes it to vote.
    Vote {
        /// Whom.
        id: NodeId,
        /// It shall vote.
        voter: bool,
    },
    /// This board shall lead; any other that can when absent.
    Transfer(Option<NodeId>),
    /// The group has a new key.
    InstallKey(SealedKey),
    /// As [`MemberRequest::Join`], as a witness.
    Witness {
        /// Who.
        candidate: Candidate,
        /// What it shows.
        invitation: InvitationId,
        /// The name of a witness that cannot be heard and goes. Empty for none.
        replaces: String,
    },
    /// As [`MemberRequest::Join`] or [`MemberRequest::Witness`], with what the board knows: a
    /// group that goes by more than the first version lets nobody in without.
    Newcomer {
        /// The newest version of the group's that it knows.
        version: u32,
        /// Who.
        candidate: Candidate,
        /// What it shows.
        invitation: InvitationId,
        /// The name of a member that cannot be heard and goes. Empty for none.
        replaces: String,
        /// It keeps none of the users' rows.
        witness: bool,
    },
}

/// What a membership entry does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum MembershipChange {
    /// Add this board, or replace its row.
    Add(Member),
    /// Take this board out; its id is never used again.
    Remove(NodeId),
    /// Replace the rows of these boards, of whose votes more than one changes: from
    /// here on what is decided takes a majority of the voters before as well.
    Joint(Vec<Member>),
    /// The voters before no longer count.
    Leave,
    /// This board only follows until somebody wishes it to vote.
    Rest(NodeId),
    /// This board votes again as soon as it can.
    Wake(NodeId),
    /// Add this board, which showed that invitation.
    Admit(Member, InvitationId),
    /// Boards that show this are let in.
    Invite(Invitation),
    /// That invitation, or none at all, holds any longer.
    Revoke(Option<InvitationId>),
    /// The group has a new key, and no invitation holds any longer: see `keys`.
    KeyInstall(SealedKey),
    /// Calls are made under that key.
    KeyUse(u32),
    /// All keys before that one are forgotten.
    KeyForget(u32),
    /// Add this board, which showed that invitation, as a witness: see
    /// [`Membership::witnesses`].
    Witness(Member, InvitationId),
}

impl KeyRing {
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

/// The whole membership at an applied index.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Membership {
    /// Ascending by id; removed boards are absent.
    pub members: Vec<Member>,
    /// Highest id ever given.
    pub last_id: NodeId,
    /// While two sets of voters count: those before. Empty otherwise.
    pub outgoing: Vec<NodeId>,
    /// Members that do not vote because somebody wished so, ascending.
    pub resting: Vec<NodeId>,
    /// Boards that were taken out and their keys, ascending; the lowest give way.
    pub removed: Vec<(NodeId, PublicKey)>,
    /// The latest last.
    pub invitations: Vec<Invitation>,
    /// The group's keys.
    pub keys: KeyRing,
    /// Members that vote and keep the log's tail, but none of the users' rows, ascending.
    /// They are that for as long as they are members.
    pub witnesses: Vec<NodeId>,
}

impl Membership {
    /// Carries out `change`; false, and nothing, where it does not fit, which every
    /// board finds alike: bytes of a peer must not be what ends a board.
    pub fn change(&mut self, change: &MembershipChange) -> bool {
        if !self.fits(change) {
            return false;
        }
        match change {
            MembershipChange::Add(member) => self.add(member),
            MembershipChange::Admit(member, invitation) => {
                self.add(member);
                self.spend(invitation);
            }
            MembershipChange::Witness(member, invitation) => {
                self.add(member);
                let place = self.witnesses.partition_point(|other| *other < member.id);
                self.witnesses.insert(place, member.id);
                self.spend(invitation);
            }
            MembershipChange::Remove(id) => self.remove(*id),
            MembershipChange::Joint(members) => {
                self.outgoing = self.voters();
                members.iter().for_each(|member| self.add(member));
            }
            MembershipChange::Leave => self.outgoing.clear(),
            MembershipChange::Rest(id) => {
                for member in self.members.iter_mut().filter(|member| member.id == *id) {
                    member.voter = false;
                    let place = self.resting.partition_point(|other| other < id);
                    self.resting.insert(place, *id);
                }
            }
            MembershipChange::Wake(id) => self.resting.retain(|resting| resting != id),
            MembershipChange::Invite(invitation) => {
                self.invitations.retain(|known| known.id != invitation.id);
                if self.invitations.len() >= limits::INVITATIONS_MAX {
                    self.invitations.remove(0);
                }
                self.invitations.push(invitation.clone());
            }
            MembershipChange::Revoke(None) => self.invitations.clear(),
            MembershipChange::Revoke(Some(id)) => {
                self.invitations.retain(|invitation| invitation.id != *id);
            }
            MembershipChange::KeyInstall(key) => {
                self.keys.install(key);
                self.invitations.clear();
            }
            MembershipChange::KeyUse(number) => self.keys.used = *number,
            MembershipChange::KeyForget(number) => self.keys.forget(*number),
        }
        true
    }

    /// One thing at a time, and never a group without voters that keep its rows.
    fn fits(&self, change: &MembershipChange) -> bool {
        let leaves = *change == MembershipChange::Leave;
        if leaves == self.outgoing.is_empty() {
            return false;
        }
        let holders = if mutant::is(52) { self.voters() } else { self.data_voters() };
        let votes_without = |ids: &[NodeId]| holders.iter().any(|id| !ids.contains(id));
        let votes = |member: &Member| member.voter && !self.is_witness(member.id);
        match change {
            MembershipChange::Add(member) | MembershipChange::Admit(member, _) => {
                votes(member) || votes_without(&[member.id])
            }
            MembershipChange::Witness(member, _) => {
                self.member(member.id).is_none() && votes_without(&[])
            }
            MembershipChange::Remove(id) => votes_without(&[*id]),
            MembershipChange::Rest(id) => {
                votes_without(&[*id]) && !self.resting.contains(id) && self.member(*id).is_some()
            }
            MembershipChange::Joint(members) => {
                let ids: Vec<_> = members.iter().map(|member| member.id).collect();
                let known = ids.iter().all(|id| self.member(*id).is_some());
                known && (members.iter().any(votes) || votes_without(&ids))
            }
            MembershipChange::Leave
            | MembershipChange::Wake(_)
            | MembershipChange::Invite(_)
            | MembershipChange::Revoke(_) => true,
            MembershipChange::KeyInstall(key) => self.keys.may_install(key),
            MembershipChange::KeyUse(number) => self.keys.may_use(*number),
            MembershipChange::KeyForget(number) => self.keys.may_forget(*number),
        }
    }

    fn add(&mut self, member: &Member) {
        self.members.retain(|other| other.id != member.id);
        let place = self.members.partition_point(|other| other.id < member.id);
        self.members.insert(place, member.clone());
        self.last_id = self.last_id.max(member.id);
        self.resting.retain(|id| *id != member.id || !member.voter);
    }

    fn remove(&mut self, id: NodeId) {
        let Some(place) = self.members.iter().position(|member| member.id == id) else { return };
        let gone = self.members.remove(place);
        self.keys.is_due = !mutant::is(61);
        self.resting.retain(|resting| *resting != id);
        self.witnesses.retain(|witness| *witness != id);
        if self.removed.len() >= limits::REMOVED_MAX {
            self.removed.remove(0);
        }
        let place = self.removed.partition_point(|(other, _)| *other < id);
        self.removed.insert(place, (id, gone.key));
    }

    fn spend(&mut self, id: &InvitationId) {
        self.invitations.retain_mut(|invitation| {
            if invitation.id != *id || invitation.uses == 0 {
                return true;
            }
            invitation.uses -= 1;
            invitation.uses > 0
        });
    }

    /// Who votes; the set to come while two count.
    #[must_use]
    pub fn voters(&self) -> Vec<NodeId> {
        self.members.iter().filter(|member| member.voter).map(|member| member.id).collect()
    }

    /// Does it vote, if at all, without keeping the users' rows?
    #[must_use]
    pub fn is_witness(&self, id: NodeId) -> bool {
        self.witnesses.contains(&id)
    }

    /// Who votes and keeps the users' rows; the set to come while two count.
    #[must_use]
    pub fn data_voters(&self) -> Vec<NodeId> {
        let mut voters = self.voters();
        voters.retain(|id| !self.is_witness(*id));
        voters
    }

    /// Boards that keep the users' rows.
    #[must_use]
    pub fn holders(&self) -> Vec<NodeId> {
        let ids = self.members.iter().map(|member| member.id);
        ids.filter(|id| !self.is_witness(*id)).collect()
    }

    /// Was that board a member, and is none any more?
    #[must_use]
    pub fn has_removed(&self, id: NodeId) -> bool {
        id <= self.last_id && self.member(id).is_none()
    }

    /// Is it within the bounds that a membership never leaves?
    pub(crate) fn is_plausible(&self) -> bool {
        let fits = |text: &String| text.len() <= limits::NAME_BYTES_MAX;
        let is_member = |member: &Member| {
            let addresses = &member.addresses;
            fits(&member.name) && addresses.len() <= limits::ADDRESSES_MAX && {
                addresses.iter().all(fits)
            }
        };
        let are_few = |ids: &[NodeId]| ids.len() <= limits::MEMBERS_MAX;
        self.members.len() <= limits::MEMBERS_MAX
            && self.members.iter().all(is_member)
            && are_few(&self.outgoing)
            && are_few(&self.resting)
            && are_few(&self.witnesses)
            && self.removed.len() <= limits::REMOVED_MAX
            && self.invitations.len() <= limits::INVITATIONS_MAX
            && !self.data_voters().is_empty()
    }

    /// The member of that id.
    #[must_use]
    pub fn member(&self, id: NodeId) -> Option<&Member> {
        self.members.iter().find(|member| member.id == id)
    }

    /// The member a candidate becomes: the one it already is (same key), or a
    /// new one with a fresh id and a name nobody has, which only follows at first.
    #[must_use]
    pub fn admit(&self, candidate: &Candidate) -> Member {
        if let Some(known) = self.members.iter().find(|member| member.key == candidate.key) {
            return Member { addresses: candidate.addresses.clone(), ..known.clone() };
        }
        let highest = self.members.last().map_or(0, |member| member.id);
        Member {
            id: if mutant::is(46) { highest } else { self.last_id } + 1,
            name: self.free_name(&candidate.name),
            key: candidate.key,
            addresses: candidate.addresses.clone(),
            voter: false,
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
