//! The join token: one line that lets a new board find the group, recognise it
//! and prove that it was invited. Secret like the group's key it carries.

use std::{fmt, net::SocketAddr};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};
use understudy_core::{
    member::{InvitationId, Member, PublicKey},
    sql,
};

use crate::{
    config::RunOptions,
    driver::udp::usable_addresses,
    identity::{GroupId, GroupKey, Identity},
};

const PREFIX: &str = "understudy-";
const VERSION: u8 = 3;

/// Longest token accepted, bytes of text.
const TOKEN_BYTES_MAX: usize = 4_096;

/// See the module's description.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Token {
    /// Which group.
    pub group: GroupId,
    /// What its makers call it.
    pub group_name: String,
    /// The group's keys that are not forgotten, the newest last.
    pub group_keys: Vec<GroupKey>,
    /// What the group lets boards in for, as long as it holds.
    pub invitation: InvitationId,
    /// Boards that can let a newcomer in; the one that made the token first.
    pub hosts: Vec<Host>,
}

/// A board that can let a newcomer in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Host {
    /// Its static key.
    pub key: PublicKey,
    /// Where it can be reached: addresses, then its host name.
    pub addresses: Vec<String>,
}

/// Boards named in a token besides the one that makes it, and addresses of each: it
/// must stay a line that can be copied.
const OTHERS_NAMED: usize = 2;
const ADDRESSES_NAMED: usize = 2;

/// Addresses under which other boards may reach this one now: those it was told
/// to announce, else those of its interfaces.
#[must_use]
pub fn own_addresses(options: &RunOptions, bound: SocketAddr) -> Vec<String> {
    if options.announce.is_empty() {
        return usable_addresses(bound).iter().map(SocketAddr::to_string).collect();
    }
    options.announce.clone()
}

/// This machine's host name, if it has one.
#[must_use]
pub fn host_name() -> Option<String> {
    let name = rustix::system::uname().nodename().to_str().ok()?.to_owned();
    (!name.is_empty() && name != "localhost").then_some(name)
}

impl Token {
    /// For that invitation, with the group's keys and the addresses that this board has
    /// at this moment, and others of the group that can be heard.
    #[must_use]
    pub fn issue(
        identity: &Identity,
        options: &RunOptions,
        bound: SocketAddr,
        invitation: InvitationId,
        (group_keys, others): (Vec<GroupKey>, Vec<Member>),
    ) -> Self {
        let mut addresses = own_addresses(options, bound);
        if bound.ip().is_unspecified()
            && let Some(host) = host_name()
        {
            addresses.push(format!("{host}:{}", bound.port()));
        }
        let issuer = Host { key: crate::seal::public_key(&identity.private_key), addresses };
        let others = others.into_iter().take(OTHERS_NAMED).map(|mut member| {
            member.addresses.truncate(ADDRESSES_NAMED);
            Host { key: member.key, addresses: member.addresses }
        });
        Self {
            group: identity.group,
            group_name: identity.group_name.clone(),
            group_keys,
            invitation,
            hosts: std::iter::once(issuer).chain(others).collect(),
        }
    }

    /// Every address that it names.
    #[must_use]
    pub fn addresses(&self) -> Vec<String> {
        self.hosts.iter().flat_map(|host| host.addresses.iter().cloned()).collect()
    }

    /// The line to hand over.
    #[must_use]
    pub fn encode(&self) -> String {
        let mut bytes = vec![VERSION];
        bytes.extend(sql::encode(self));
        bytes.extend(crc32c::crc32c(&bytes).to_le_bytes());
        format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(bytes))
    }

    /// Reads a line, blanks around it ignored.
    ///
    /// # Errors
    /// Says in words what is wrong with it.
    pub fn decode(line: &str) -> Result<Self, String> {
        let line = line.trim();
        if line.len() > TOKEN_BYTES_MAX {
            return Err(format!("the token is longer than {TOKEN_BYTES_MAX} bytes"));
        }
        let Some(text) = line.strip_prefix(PREFIX) else {
            return Err(format!("this is no join token: one begins with {PREFIX}"));
        };
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| {
            String::from("the token is mistyped or cut short: copy all of its line")
        })?;
        match bytes.first() {
            _ if bytes.len() < 6 => {
                return Err(String::from("the token is cut short: copy all of its line"));
            }
            Some(&VERSION) => {}
            Some(version) if *version < VERSION => {
                return Err(String::from(
                    "the token is of an older version: install the same understudy on all boards",
                ));
            }
            Some(_) => {
                return Err(String::from(
                    "the token is of a newer version: install the newer understudy here too",
                ));
            }
            None => return Err(String::from("the token is cut short: copy all of its line")),
        }
        let split = bytes.len().saturating_sub(4);
        let (bytes, sum) = bytes.split_at(split);
        if crc32c::crc32c(bytes).to_le_bytes() != sum {
            return Err(String::from("the token is mistyped or cut short: copy all of its line"));
        }
        sql::decode(&bytes[1..]).map_err(|_| String::from("the token cannot be read"))
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Token(group {}, secret)", self.group_name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token() -> Token {
        Token {
            group: [1; 16],
            group_name: "greenhouse".into(),
            group_keys: vec![GroupKey { number: 0, key: [2; 32] }],
            invitation: [4; 16],
            hosts: vec![Host {
                key: [3; 32],
                addresses: vec!["192.0.2.7:4002".into(), "pi-1:4002".into()],
            }],
        }
    }

    #[test]
    fn a_token_reads_back_with_blanks_around_it() {
        assert_eq!(Token::decode(&format!("  {}\n", token().encode())), Ok(token()));
    }

    #[test]
    fn what_is_wrong_with_a_token_is_said() {
        let line = token().encode();
        let short = Token::decode(&line[..line.len() - 8]).unwrap_err();
        assert!(short.contains("cut short"), "{short}");
        let mut typo = line.clone().into_bytes();
        typo[40] = if typo[40] == b'x' { b'y' } else { b'x' };
        let typo = String::from_utf8(typo).unwrap();
        assert!(Token::decode(&typo).unwrap_err().contains("mistyped"));
        assert!(Token::decode("hello").unwrap_err().contains("no join token"));
        assert!(Token::decode(PREFIX).unwrap_err().contains("cut short"));
        let newer = format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode([9, 9, 9, 9, 9, 9]));
        assert!(Token::decode(&newer).unwrap_err().contains("newer"));
    }

    #[test]
    fn a_token_does_not_print_its_secrets() {
        assert_eq!(format!("{:?}", token()), "Token(group greenhouse, secret)");
    }
}
