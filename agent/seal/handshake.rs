//! What handshakes look like, and how a group tells its own from others' without
//! any of the costly mathematics.
//!
//! A call ends with a MAC under a key of the group and the called board's: who has
//! none makes a board compute one hash per datagram and key, and no more,
//! and what was recorded on its way to one board says nothing to another. Inside
//! stand who calls, a member or a guest, and the call's number: boards count
//! their starts, so a later call has a higher one. A number says which of two
//! calls to prefer, never whom to refuse: a disk that forgot some of its starts
//! must still be able to hear so from the others.

use snow::{
    Builder, HandshakeState, StatelessTransportState,
    params::HashChoice,
    resolvers::{CryptoResolver, DefaultResolver},
};
use understudy_core::member::PublicKey;

use super::{ANSWER, CALL, Drop, Keys, PeerId};
use crate::identity::{GroupId, GroupKey};

const PATTERN: &str = "Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s";

/// Where X25519's pre-shared key stands in the pattern.
const PSK_PLACE: u8 = 2;

/// Kind, the sender's session, the group's tag; an answer has the caller's
/// session, then its own.
const HEADER_BYTES: usize = 9;

const MAC_BYTES: usize = 16;

/// What Noise adds to a call's payload: two keys, two tags.
const NOISE_BYTES: usize = 96;

/// A call is padded to this, more than any answer has.
pub(super) const CALL_BYTES: usize = 160;

const PAYLOAD_BYTES: usize = CALL_BYTES - HEADER_BYTES - NOISE_BYTES - MAC_BYTES;

/// First byte inside a call: who calls. Zero, as all of the padding, is a member.
const CALLS_AS_GUEST: u8 = 1;

/// The starts of the caller's disk, then its calls since.
pub(super) type Number = (u64, u64);

/// How a group's handshakes under one of its keys are told from others'.
pub(super) struct Marks {
    group_key: GroupKey,
    mac_key: [u8; 32],
}

impl Marks {
    /// Of handshakes with the board of that key.
    pub(super) fn new(keys: &Keys, group_key: GroupKey, callee: &PublicKey) -> Self {
        let mac_key = hmac(&group_key.key, &[b"call".as_slice(), &keys.group, callee].concat());
        Self { group_key, mac_key }
    }

    fn mac(&self, call: &[u8]) -> [u8; MAC_BYTES] {
        let mut mac = [0; MAC_BYTES];
        mac.copy_from_slice(&hmac(&self.mac_key, call)[..MAC_BYTES]);
        mac
    }

    /// What a call under this key is known by, if it is one.
    fn check(&self, call: &[u8], mac: &[u8]) -> Option<u64> {
        let expected = self.mac(call);
        // Every byte is looked at, wherever the first wrong one stands.
        let differs = expected.iter().zip(mac).fold(0, |differs, (a, b)| differs | (a ^ b));
        let start = expected.first_chunk().filter(|_| differs == 0)?;
        Some(u64::from_le_bytes(*start))
    }
}

/// What a call of the group of that tag is known by, and the key it was made under.
pub(super) fn check(tag: &[u8; 4], marks: &[Marks], call: &[u8]) -> Result<(u64, GroupKey), Drop> {
    if call.len() != CALL_BYTES {
        return Err(Drop::Malformed);
    }
    if call[5..HEADER_BYTES] != *tag {
        return Err(Drop::Foreign);
    }
    let (call, mac) = call.split_at(CALL_BYTES - MAC_BYTES);
    let found = marks.iter().find_map(|marks| Some((marks.check(call, mac)?, marks.group_key)));
    found.ok_or(Drop::Forged)
}

/// Tells most datagrams of other groups apart, cheaply; the seal decides. The same
/// under all keys of the group: by it a board is found whose key is another.
pub(super) fn group_tag(group: &GroupId) -> [u8; 4] {
    let mut key = [0; 32];
    key[..group.len()].copy_from_slice(group);
    let [a, b, c, d, ..] = hmac(&key, b"tag");
    [a, b, c, d]
}

fn hmac(key: &[u8; 32], data: &[u8]) -> [u8; 32] {
    let mut hash = DefaultResolver.resolve_hash(&HashChoice::Blake2s).expect("it is compiled in");
    let mut out = [0; 32];
    hash.hmac(key, data, &mut out);
    out
}

/// A call to that peer: what its answer is read with, and the datagram.
pub(super) fn call(
    keys: &Keys,
    group_key: &GroupKey,
    id: &PeerId,
    local: u32,
    number: Number,
) -> Option<(HandshakeState, Vec<u8>)> {
    let marks = Marks::new(keys, *group_key, &id.key);
    let builder = builder(keys, group_key).remote_public_key(&id.key);
    let mut handshake = builder.and_then(Builder::build_initiator).ok()?;
    let mut payload = [0; PAYLOAD_BYTES];
    payload[0] = if id.is_guest { CALLS_AS_GUEST } else { 0 };
    payload[1..9].copy_from_slice(&number.0.to_le_bytes());
    payload[9..17].copy_from_slice(&number.1.to_le_bytes());
    let mut datagram = vec![CALL];
    datagram.extend(local.to_le_bytes());
    datagram.extend(keys.tag());
    datagram.extend(write(&mut handshake, &payload)?);
    datagram.extend(marks.mac(&datagram));
    assert_eq!(datagram.len(), CALL_BYTES, "every call has the same length");
    Some((handshake, datagram))
}

/// A call that was read.
pub(super) struct Called {
    pub(super) id: PeerId,
    pub(super) number: Number,
    /// The number the caller expects.
    pub(super) remote: u32,
    handshake: HandshakeState,
}

impl Called {
    /// Reads a call that bears the group's marks.
    pub(super) fn read(keys: &Keys, group_key: &GroupKey, call: &[u8]) -> Result<Self, Drop> {
        let handshake = builder(keys, group_key).build_responder();
        let mut handshake = handshake.map_err(|_| Drop::Malformed)?;
        let mut payload = [0; CALL_BYTES];
        handshake
            .read_message(&call[HEADER_BYTES..CALL_BYTES - MAC_BYTES], &mut payload)
            .map_err(|_| Drop::Forged)?;
        let key: PublicKey = handshake
            .get_remote_static()
            .and_then(|key| key.try_into().ok())
            .ok_or(Drop::Forged)?;
        let number = |at: usize| payload[at..at + 8].try_into().map_or(0, u64::from_le_bytes);
        Ok(Self {
            id: PeerId { key, is_guest: payload[0] == CALLS_AS_GUEST },
            number: (number(1), number(9)),
            remote: session_number(&call[1..5]),
            handshake,
        })
    }

    /// The answer, and the session that begins when it has arrived.
    pub(super) fn answer(mut self, local: u32) -> Option<(StatelessTransportState, Vec<u8>)> {
        let noise = write(&mut self.handshake, &[])?;
        let mut answer = vec![ANSWER];
        answer.extend(self.remote.to_le_bytes());
        answer.extend(local.to_le_bytes());
        answer.extend(noise);
        assert!(answer.len() <= CALL_BYTES, "no answer is longer than its question");
        Some((self.handshake.into_stateless_transport_mode().ok()?, answer))
    }
}

/// The parts of an answer: the caller's session, the called board's, the rest.
pub(super) fn read_answer(answer: &[u8]) -> Result<(u32, u32, &[u8]), Drop> {
    let (header, noise) = answer.split_at_checked(HEADER_BYTES).ok_or(Drop::Malformed)?;
    Ok((session_number(&header[1..5]), session_number(&header[5..]), noise))
}

pub(super) fn session_number(bytes: &[u8]) -> u32 {
    bytes.try_into().map_or(0, u32::from_le_bytes)
}

fn builder<'a>(keys: &'a Keys, group_key: &'a GroupKey) -> Builder<'a> {
    let pattern = PATTERN.parse().expect("the pattern is well-formed");
    Builder::new(pattern)
        .local_private_key(&keys.private_key)
        .and_then(|builder| builder.psk(PSK_PLACE, &group_key.key))
        .and_then(|builder| builder.prologue(&keys.group))
        .expect("keys have their lengths")
}

fn write(handshake: &mut HandshakeState, payload: &[u8]) -> Option<Vec<u8>> {
    let mut message = vec![0; CALL_BYTES];
    let bytes = handshake.write_message(payload, &mut message).ok()?;
    message.truncate(bytes);
    Some(message)
}

/// The public half of an X25519 private key.
#[must_use]
pub fn public_key(private_key: &[u8; 32]) -> PublicKey {
    let dh = DefaultResolver.resolve_dh(&snow::params::DHChoice::Curve25519);
    let mut dh = dh.expect("X25519 is compiled in");
    dh.set(private_key);
    dh.pubkey().try_into().expect("32 bytes")
}
