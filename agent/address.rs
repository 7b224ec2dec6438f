//! Where datagrams between boards go and come from, whatever the road: an address of the
//! network, or a board's mailbox at the group's brokers.
//!
//! Neither says who is there: that the seal knows.

use std::{fmt, net::SocketAddr};

use serde::{Deserialize, Serialize};
use understudy_core::member::PublicKey;

/// A board's name among topics: the beginning of its public key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Mailbox([u8; 8]);

impl Mailbox {
    /// Of the board that has this key.
    #[must_use]
    pub fn of(key: &PublicKey) -> Self {
        let mut name = [0; 8];
        name.copy_from_slice(&key[..8]);
        Self(name)
    }

    /// As a level of a topic has it.
    #[must_use]
    pub fn parse(level: &str) -> Option<Self> {
        let is_hex = level.len() == 16 && level.bytes().all(|byte| byte.is_ascii_hexdigit());
        let number = u64::from_str_radix(level, 16).ok().filter(|_| is_hex)?;
        Some(Self(number.to_be_bytes()))
    }
}

impl fmt::Display for Mailbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", u64::from_be_bytes(self.0))
    }
}

/// See the module's description.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Address {
    /// By UDP.
    Udp(SocketAddr),
    /// By MQTT.
    Mqtt(Mailbox),
}

impl From<SocketAddr> for Address {
    fn from(address: SocketAddr) -> Self {
        Self::Udp(address)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Udp(address) => address.fmt(f),
            Self::Mqtt(mailbox) => write!(f, "mqtt/{mailbox}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mailbox_is_read_as_it_is_written_and_nothing_else_is_one() {
        let mailbox = Mailbox::of(&[0xa5; 32]);
        assert_eq!(mailbox.to_string(), "a5a5a5a5a5a5a5a5");
        assert_eq!(Mailbox::parse("a5a5a5a5a5a5a5a5"), Some(mailbox));
        for wrong in ["", "+5a5a5a5a5a5a5a5", "a5a5a5a5a5a5a5a", "a5a5a5a5a5a5a5a50", "status"] {
            assert_eq!(Mailbox::parse(wrong), None, "{wrong}");
        }
    }
}
