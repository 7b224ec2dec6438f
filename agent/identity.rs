//! Who this board is: kept in the journal, written once when it makes or joins
//! a group.

use serde::{Deserialize, Serialize};
use understudy_core::{event::NodeId, member::Member};

/// Names a group for ever; random.
pub type GroupId = [u8; 16];

/// Everything that makes this board that member. Postcard-encoded in the
/// journal; fields only grow at the end. Secret: never logged, files 0600.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// Which group.
    pub group: GroupId,
    /// What its makers call it.
    pub group_name: String,
    /// Second factor of every handshake.
    pub group_key: [u8; 32],
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
