//! Every datagram between boards is sealed: only who has the group's key and an
//! admitted node key can read, forge or replay anything. Bytes in, bytes out:
//! UDP and MQTT share all of it.
//!
//! A session is one Noise handshake (`IKpsk2`, X25519, ChaCha20-Poly1305,
//! BLAKE2s; noiseprotocol.org, revision 34) with the group's key as pre-shared
//! key, then stateless transport under an explicit counter and a window that
//! takes each counter once (`window`). The responder learns who calls from the
//! handshake itself. Who knows the group's key may call as a guest, under any
//! static key, and may only ask to join; what a guest and its host say to each
//! other stays apart from the sessions of members, even once its key is
//! admitted: a guest whose answer was lost asks again and is still understood.
//!
//! Datagram: kind (1), receiver's session (4), counter (8), then the Noise
//! message. Handshakes: kind, the sender's session, the group's tag (4), then
//! the Noise message, padded so that no answer is longer than its question; the
//! first byte inside says whether a guest calls. Besides, anybody may ask which
//! group a board is of (`question`) and gets the group's tag, so that `join` can
//! tell a wrong group from no answer.
//!
//! Invariants: unauthenticated bytes are dropped, counted, never decoded; a
//! session is replaced only by one that has carried a valid transport message;
//! where both sides call at once, the call of the lower static key counts;
//! answers to handshakes are rationed. No clock is needed, and none is trusted.

use std::collections::{BTreeMap, VecDeque};

use snow::{Builder, HandshakeState};
use understudy_core::{
    event::{Millis, NodeId},
    limits::{DATAGRAM_BYTES_MAX, MEMBERS_MAX, PAYLOAD_BYTES_MAX},
    member::{Member, PublicKey},
};

use self::session::Session;
use crate::identity::GroupId;

mod question;
mod session;
mod window;

pub use question::Whose;

const PATTERN: &str = "Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s";

/// Where X25519's pre-shared key stands in the pattern.
const PSK_PLACE: u8 = 2;

const CALL: u8 = 1;
const ANSWER: u8 = 2;
const DATA: u8 = 3;

/// Kinds 4 and 5 are the question of `question` and its answer.
const QUESTION: u8 = 4;
const TAG: u8 = 5;

const DATA_HEADER_BYTES: usize = 13;
const CALL_HEADER_BYTES: usize = 9;
const TAG_BYTES: usize = 16;

/// A call is padded to this, more than any answer has.
const CALL_BYTES: usize = 160;

/// Payloads kept while a session is being made.
const HELD_MAX: usize = 16;

/// A call not answered for so long is made again.
const CALL_RETRY_MS: u64 = 500;

/// Between two greetings of a member without a session.
const GREET_MS: u64 = 1_000;

/// Answers to calls per second, all callers together.
const ANSWERS_PER_S: u64 = 50;

/// Callers that are no members at the same time, and how long one of them may
/// stay silent: as long as a join lasts.
const GUESTS_MAX: usize = 8;
const GUEST_MS_MAX: u64 = 20_000;

/// First byte inside a call: who calls. Zero, as all of the padding, is a member.
const CALLS_AS_GUEST: u8 = 1;

/// Where datagrams go and come from, whatever the road.
pub type Address = std::net::SocketAddr;

/// What this board is to the others.
#[derive(Clone)]
pub struct Keys {
    /// The group's id.
    pub group: GroupId,
    /// The group's key.
    pub group_key: [u8; 32],
    /// This board's own.
    pub private_key: [u8; 32],
}

/// A datagram to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outgoing {
    /// To whom.
    pub to: To,
    /// The sealed bytes.
    pub datagram: Vec<u8>,
}

/// Where a datagram goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum To {
    /// To a member, wherever it was last heard.
    Node(NodeId),
    /// Back where something came from.
    Address(Address),
}

/// What a datagram turned out to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Opened {
    /// A member's payload.
    Payload {
        /// Who sealed it.
        from: NodeId,
        /// What was inside.
        payload: Vec<u8>,
    },
    /// A guest's payload: it may only ask to join.
    Guest {
        /// Its static key.
        key: PublicKey,
        /// What was inside.
        payload: Vec<u8>,
    },
    /// A member is there, and had nothing to say.
    Alive {
        /// Who.
        from: NodeId,
    },
    /// Nothing for anybody: a handshake, or dropped and counted.
    Nothing,
}

/// Why datagrams were dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Drop {
    /// Too short, too long, or of an unknown kind.
    Malformed,
    /// Of another group.
    Foreign,
    /// It does not open under the session's keys.
    Forged,
    /// Its counter was seen before, or is too old.
    Replayed,
    /// No such session.
    Unknown,
    /// More handshakes than are answered.
    Rationed,
    /// No session with that member yet, and too much held already.
    Unsent,
}

struct Calling {
    handshake: Box<HandshakeState>,
    local: u32,
    sent: Millis,
    message: Vec<u8>,
}

/// Whom a session is with: a static key, as a member or as guest and host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct PeerId {
    key: PublicKey,
    is_guest: bool,
}

impl PeerId {
    const fn member(key: PublicKey) -> Self {
        Self { key, is_guest: false }
    }

    const fn guest(key: PublicKey) -> Self {
        Self { key, is_guest: true }
    }
}

/// All that is between this board and one [`PeerId`].
#[derive(Default)]
struct Peer {
    node: Option<NodeId>,
    session: Option<Session>,
    /// Answered by us; takes over with its first valid message.
    next: Option<Session>,
    /// Replaced; what was under way on it still counts.
    last: Option<Session>,
    calling: Option<Calling>,
    held: VecDeque<Vec<u8>>,
    heard: Millis,
    greeted: Option<Millis>,
}

/// See the module's description.
pub struct Seal {
    keys: Keys,
    public_key: PublicKey,
    tag: [u8; 4],
    peers: BTreeMap<PeerId, Peer>,
    nodes: BTreeMap<NodeId, PublicKey>,
    sessions: BTreeMap<u32, PeerId>,
    next_session: u32,
    answers: u64,
    answers_since: Millis,
    drops: BTreeMap<Drop, u64>,
}

impl Seal {
    /// A board with these keys, alone as yet. `salt` makes its session numbers
    /// differ from those of its former boots.
    #[must_use]
    pub fn new(keys: Keys, salt: u32) -> Self {
        let public_key = public_key(&keys.private_key);
        let tag = group_tag(&keys.group, &keys.group_key);
        Self {
            keys,
            public_key,
            tag,
            peers: BTreeMap::new(),
            nodes: BTreeMap::new(),
            sessions: BTreeMap::new(),
            next_session: salt,
            answers: 0,
            answers_since: Millis(0),
            drops: BTreeMap::new(),
        }
    }

    /// This board's static public key.
    #[must_use]
    pub const fn public_key(&self) -> PublicKey {
        self.public_key
    }

    /// Dropped datagrams, by reason.
    #[must_use]
    pub const fn drops(&self) -> &BTreeMap<Drop, u64> {
        &self.drops
    }

    /// The members as the group knows them; sessions of others end.
    pub fn set_members(&mut self, members: &[Member]) {
        let own = self.public_key;
        self.nodes = members
            .iter()
            .filter(|member| member.key != own)
            .map(|member| (member.id, member.key))
            .collect();
        let nodes: BTreeMap<_, _> = self.nodes.iter().map(|(node, key)| (*key, *node)).collect();
        self.peers.retain(|peer, _| peer.is_guest || nodes.contains_key(&peer.key));
        for (key, node) in nodes {
            self.peers.entry(PeerId::member(key)).or_default().node = Some(node);
        }
        let peers = &self.peers;
        self.sessions.retain(|_, peer| peers.contains_key(peer));
    }

    /// Seals a payload for a member; makes a session first when there is none.
    pub fn seal(&mut self, now: Millis, to: NodeId, payload: &[u8], out: &mut Vec<Outgoing>) {
        let Some(key) = self.nodes.get(&to).copied() else { return };
        self.seal_for(now, PeerId::member(key), To::Node(to), payload, out);
    }

    /// Seals what a guest says to its host, or the host to it.
    pub fn seal_guest(
        &mut self,
        now: Millis,
        key: PublicKey,
        address: Address,
        payload: &[u8],
        out: &mut Vec<Outgoing>,
    ) {
        self.seal_for(now, PeerId::guest(key), To::Address(address), payload, out);
    }

    /// Is there a session with the host of that key?
    #[must_use]
    pub fn has_host(&self, key: PublicKey) -> bool {
        self.peers.get(&PeerId::guest(key)).is_some_and(|peer| peer.session.is_some())
    }

    fn seal_for(
        &mut self,
        now: Millis,
        id: PeerId,
        to: To,
        payload: &[u8],
        out: &mut Vec<Outgoing>,
    ) {
        assert!(payload.len() <= PAYLOAD_BYTES_MAX, "a payload fits its datagram");
        let peer = self.peers.entry(id).or_default();
        if let Some(session) = &mut peer.session {
            let held = std::mem::take(&mut peer.held);
            out.extend(held.iter().map(|held| Outgoing { to, datagram: session.seal(held) }));
            out.push(Outgoing { to, datagram: session.seal(payload) });
            if !session.is_worn(now) {
                return;
            }
        } else if peer.held.len() < HELD_MAX {
            peer.held.push_back(payload.to_vec());
        } else {
            *self.drops.entry(Drop::Unsent).or_default() += 1;
        }
        self.call(now, id, to, out);
    }

    /// Speaks to every member that may not have a session with this board, now and
    /// then: one that was restarted may have nothing to say and wait to be spoken
    /// to, and the message that completes a session may have been lost.
    pub fn greet(&mut self, now: Millis, out: &mut Vec<Outgoing>) {
        let strangers: Vec<_> = self
            .nodes
            .iter()
            .map(|(node, key)| (*node, PeerId::member(*key)))
            .filter(|(_, id)| self.peers.get(id).is_none_or(|peer| peer.is_strange(now)))
            .collect();
        for (node, id) in strangers {
            let to = To::Node(node);
            let peer = self.peers.entry(id).or_default();
            peer.greeted = Some(now);
            match &mut peer.session {
                Some(session) => out.push(Outgoing { to, datagram: session.seal(&[]) }),
                None => self.call(now, id, to, out),
            }
        }
    }

    /// Calls a peer, or calls again, unless a call is under way.
    fn call(&mut self, now: Millis, id: PeerId, to: To, out: &mut Vec<Outgoing>) {
        let peer = self.peers.entry(id).or_default();
        if let Some(calling) = &mut peer.calling {
            if now.since(calling.sent) >= CALL_RETRY_MS {
                calling.sent = now;
                out.push(Outgoing { to, datagram: calling.message.clone() });
            }
            return;
        }
        let local = self.next_session;
        self.next_session = self.next_session.wrapping_add(1);
        let builder = builder(&self.keys).remote_public_key(&id.key);
        let Ok(mut handshake) = builder.and_then(Builder::build_initiator) else { return };
        let mut message = vec![CALL];
        message.extend(local.to_le_bytes());
        message.extend(self.tag);
        let mut padding = [0; CALL_BYTES - CALL_HEADER_BYTES - 96];
        padding[0] = if id.is_guest { CALLS_AS_GUEST } else { 0 };
        let Some(noise) = write(&mut handshake, &padding) else { return };
        message.extend(noise);
        out.push(Outgoing { to, datagram: message.clone() });
        let handshake = Box::new(handshake);
        peer.calling = Some(Calling { handshake, local, sent: now, message });
        self.sessions.insert(local, id);
    }

    /// Opens a datagram; answers to handshakes go to `out`.
    pub fn open(
        &mut self,
        now: Millis,
        datagram: &[u8],
        source: Address,
        out: &mut Vec<Outgoing>,
    ) -> Opened {
        let opened = if datagram.len() > DATAGRAM_BYTES_MAX {
            Err(Drop::Malformed)
        } else {
            match datagram.first() {
                Some(&CALL) => self.on_call(now, datagram, source, out),
                Some(&ANSWER) => self.on_answer(now, datagram, source, out),
                Some(&DATA) => self.on_data(now, datagram),
                Some(&QUESTION) => self.on_question(now, datagram, source, out),
                Some(_) | None => Err(Drop::Malformed),
            }
        };
        opened.unwrap_or_else(|reason| {
            *self.drops.entry(reason).or_default() += 1;
            Opened::Nothing
        })
    }

    fn on_call(
        &mut self,
        now: Millis,
        datagram: &[u8],
        source: Address,
        out: &mut Vec<Outgoing>,
    ) -> Result<Opened, Drop> {
        if datagram.len() != CALL_BYTES {
            return Err(Drop::Malformed);
        }
        if datagram[5..CALL_HEADER_BYTES] != self.tag {
            return Err(Drop::Foreign);
        }
        self.ration(now)?;
        let remote = session_number(&datagram[1..5]);
        let mut handshake = builder(&self.keys).build_responder().map_err(|_| Drop::Malformed)?;
        let mut payload = [0; CALL_BYTES];
        handshake
            .read_message(&datagram[CALL_HEADER_BYTES..], &mut payload)
            .map_err(|_| Drop::Forged)?;
        let key: PublicKey = handshake
            .get_remote_static()
            .and_then(|key| key.try_into().ok())
            .ok_or(Drop::Forged)?;
        let id = PeerId { key, is_guest: payload[0] == CALLS_AS_GUEST };
        self.admit(now, id)?;
        let peer = self.peers.entry(id).or_default();
        if peer.calling.is_some() && self.public_key < key {
            // Both call at once: ours counts, theirs will be answered by it.
            return Ok(Opened::Nothing);
        }
        let local = self.next_session;
        self.next_session = self.next_session.wrapping_add(1);
        let noise = write(&mut handshake, &[]).ok_or(Drop::Malformed)?;
        let mut message = vec![ANSWER];
        message.extend(remote.to_le_bytes());
        message.extend(local.to_le_bytes());
        message.extend(noise);
        assert!(message.len() <= datagram.len(), "no answer is longer than its question");
        let transport = handshake.into_stateless_transport_mode().map_err(|_| Drop::Malformed)?;
        if let Some(before) = peer.next.replace(Session::new(transport, local, remote, now)) {
            self.sessions.remove(&before.local);
        }
        if let Some(calling) = peer.calling.take() {
            self.sessions.remove(&calling.local);
        }
        self.sessions.insert(local, id);
        out.push(Outgoing { to: To::Address(source), datagram: message });
        Ok(Opened::Nothing)
    }

    fn ration(&mut self, now: Millis) -> Result<(), Drop> {
        if now.since(self.answers_since) >= 1_000 {
            self.answers_since = now;
            self.answers = 0;
        }
        self.answers += 1;
        if self.answers <= ANSWERS_PER_S { Ok(()) } else { Err(Drop::Rationed) }
    }

    /// Members are always let in; besides a few guests, and boards that call as
    /// members before this one has heard of their admission.
    fn admit(&mut self, now: Millis, id: PeerId) -> Result<(), Drop> {
        if self.peers.contains_key(&id) {
            return Ok(());
        }
        self.peers.retain(|_, peer| peer.node.is_some() || now.since(peer.heard) < GUEST_MS_MAX);
        let guests = self.peers.values().filter(|peer| peer.node.is_none()).count();
        if guests >= GUESTS_MAX || self.peers.len() >= MEMBERS_MAX + GUESTS_MAX {
            return Err(Drop::Rationed);
        }
        self.peers.insert(id, Peer { heard: now, ..Peer::default() });
        Ok(())
    }

    fn on_answer(
        &mut self,
        now: Millis,
        datagram: &[u8],
        source: Address,
        out: &mut Vec<Outgoing>,
    ) -> Result<Opened, Drop> {
        if datagram.len() < CALL_HEADER_BYTES {
            return Err(Drop::Malformed);
        }
        let local = session_number(&datagram[1..5]);
        let remote = session_number(&datagram[5..CALL_HEADER_BYTES]);
        let id = *self.sessions.get(&local).ok_or(Drop::Unknown)?;
        let peer = self.peers.get_mut(&id).ok_or(Drop::Unknown)?;
        let mut calling =
            peer.calling.take_if(|calling| calling.local == local).ok_or(Drop::Unknown)?;
        let mut payload = [0; CALL_BYTES];
        if calling.handshake.read_message(&datagram[CALL_HEADER_BYTES..], &mut payload).is_err() {
            peer.calling = Some(calling);
            return Err(Drop::Forged);
        }
        let transport =
            calling.handshake.into_stateless_transport_mode().map_err(|_| Drop::Forged)?;
        let session = Session::new(transport, local, remote, now);
        let to = peer.node.map_or(To::Address(source), To::Node);
        Self::replace(&mut self.sessions, peer, session);
        let session = peer.session.as_mut().expect("just put there");
        // An empty message confirms the session to its other end.
        let held = std::mem::take(&mut peer.held);
        let payloads = std::iter::once(Vec::new()).chain(held);
        out.extend(payloads.map(|payload| Outgoing { to, datagram: session.seal(&payload) }));
        Ok(peer.node.map_or(Opened::Nothing, |from| Opened::Alive { from }))
    }

    fn replace(sessions: &mut BTreeMap<u32, PeerId>, peer: &mut Peer, session: Session) {
        if let Some(gone) = std::mem::replace(&mut peer.last, peer.session.replace(session)) {
            sessions.remove(&gone.local);
        }
    }

    fn on_data(&mut self, now: Millis, datagram: &[u8]) -> Result<Opened, Drop> {
        if datagram.len() < DATA_HEADER_BYTES + TAG_BYTES {
            return Err(Drop::Malformed);
        }
        let local = session_number(&datagram[1..5]);
        let id = *self.sessions.get(&local).ok_or(Drop::Unknown)?;
        let peer = self.peers.get_mut(&id).ok_or(Drop::Unknown)?;
        let is_next = peer.next.as_ref().is_some_and(|session| session.local == local);
        let known = [&mut peer.session, &mut peer.next, &mut peer.last];
        let session = known
            .into_iter()
            .flatten()
            .find(|session| session.local == local)
            .ok_or(Drop::Unknown)?;
        let payload = session.open(datagram)?;
        peer.heard = now;
        if is_next && let Some(session) = peer.next.take() {
            Self::replace(&mut self.sessions, peer, session);
            // Whatever was held for it goes with the next payload sent.
            if let Some(calling) = peer.calling.take() {
                self.sessions.remove(&calling.local);
            }
        }
        let node = peer.node;
        if node.is_some() {
            // Who speaks as a member has its answer: its place is free for others.
            self.forget_guest(id.key);
        }
        Ok(match node {
            Some(from) if payload.is_empty() => Opened::Alive { from },
            Some(from) => Opened::Payload { from, payload },
            None if id.is_guest && !payload.is_empty() => Opened::Guest { key: id.key, payload },
            None => Opened::Nothing,
        })
    }

    fn forget_guest(&mut self, key: PublicKey) {
        let id = PeerId::guest(key);
        if self.peers.remove(&id).is_some() {
            self.sessions.retain(|_, peer| *peer != id);
        }
    }
}

impl Peer {
    /// Without a session that both ends have, and not spoken to lately.
    fn is_strange(&self, now: Millis) -> bool {
        let mutual = self.session.as_ref().is_some_and(|session| session.is_mutual);
        !mutual && self.greeted.is_none_or(|greeted| now.since(greeted) >= GREET_MS)
    }
}

fn session_number(bytes: &[u8]) -> u32 {
    bytes.try_into().map_or(0, u32::from_le_bytes)
}

fn builder(keys: &Keys) -> Builder<'_> {
    let pattern = PATTERN.parse().expect("the pattern is well-formed");
    Builder::new(pattern)
        .local_private_key(&keys.private_key)
        .and_then(|builder| builder.psk(PSK_PLACE, &keys.group_key))
        .and_then(|builder| builder.prologue(&keys.group))
        .expect("keys have their lengths")
}

fn write(handshake: &mut HandshakeState, payload: &[u8]) -> Option<Vec<u8>> {
    let mut message = vec![0; CALL_BYTES];
    let bytes = handshake.write_message(payload, &mut message).ok()?;
    message.truncate(bytes);
    Some(message)
}

/// Tells most datagrams of other groups apart, cheaply; the seal decides.
fn group_tag(group: &GroupId, key: &[u8; 32]) -> [u8; 4] {
    crc32c::crc32c_append(crc32c::crc32c(group), &crc32c::crc32c(key).to_le_bytes()).to_le_bytes()
}

/// The public half of an X25519 private key.
#[must_use]
pub fn public_key(private_key: &[u8; 32]) -> PublicKey {
    use snow::resolvers::{CryptoResolver, DefaultResolver};
    let dh = DefaultResolver.resolve_dh(&snow::params::DHChoice::Curve25519);
    let mut dh = dh.expect("X25519 is compiled in");
    dh.set(private_key);
    dh.pubkey().try_into().expect("32 bytes")
}

#[cfg(test)]
mod tests;
