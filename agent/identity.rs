//! Who this board is: kept in the journal, written when it makes or joins a group,
//! and again when keys of the group are forgotten.

use std::fmt;

use serde::{Deserialize, Serialize};
use understudy_core::{event::NodeId, member::Member};

/// Names a group for ever; random.
pub type GroupId = [u8; 16];

/// One of a group's keys: second factor of every handshake.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupKey {
    /// Rises from key to key; the first has 0.
    pub number: u32,
    /// The key itself.
    pub key: [u8; 32],
}

impl fmt::Debug for GroupKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "GroupKey({}, secret)", self.number)
    }
}

/// Everything that makes this board that member. Postcard-encoded in the
/// journal; fields only grow at the end. Secret: never logged, files 0600.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// Which group.
    pub group: GroupId,
    /// What its makers call it.
    pub group_name: String,
    /// The group's keys that it got with its token, ascending, without those that are
    /// forgotten; later ones are sealed to it in the membership.
    pub group_keys: Vec<GroupKey>,
    /// This board's member id.
    pub node: NodeId,
    /// X25519 private key; the public half is admitted by the group.
    pub private_key: [u8; 32],
    /// Names this disk for ever; random.
    pub disk: [u8; 16],
    /// The members it was told of when it joined: whom it listens to until the
    /// log tells it more.
    pub acquaintances: Vec<Member>,
}
