//! Every datagram between boards is sealed: only who has the group's key and an
//! admitted node key can read, forge or replay anything. Bytes in, bytes out:
//! UDP and MQTT share all of it.
//!
//! A session is one Noise handshake (`IKpsk2`, X25519, ChaCha20-Poly1305,
//! BLAKE2s; noiseprotocol.org, revision 34) with a key of the group as pre-shared
//! key, then stateless transport under an explicit counter and a window that
//! takes each counter once (`window`). The responder learns who calls from the
//! handshake itself. While the group's key is changed there are several: a member
//! calls under the one in use, then, unanswered, under the others it knows, and is
//! answered under any that is not forgotten; who is not known as a member only
//! under the newest. What was made under a forgotten key ends. Who knows the group's key may call as a guest, under any
//! static key, and may only ask to join; what a guest and its host say to each
//! other stays apart from the sessions of members, even once its key is
//! admitted: a guest whose answer was lost asks again and is still understood.
//!
//! Datagram: kind (1), receiver's session (4), counter (8), then the Noise
//! message. Handshakes are described in `handshake`, who gets one in `gate`, what
//! lies between two boards in `peer`. Besides, anybody may ask which group a board
//! is of (`question`) and gets the group's tag, so that `join` can tell a wrong
//! group from no answer; and who was removed, whether it was (`gone`). How a new key
//! gets to a member stands in `copy`.
//!
//! Invariants: unauthenticated bytes are dropped, counted, never decoded; a
//! session is replaced only by one that has carried a valid transport message;
//! where both sides call at once, the call of the lower static key counts, and
//! only then is a call of the other side not answered; each call gets one answer
//! at the most, and one that has the lower number disturbs none that has a higher
//! one; answers to handshakes are rationed, and only who knows the group's key
//! spends of them. No clock is needed, and none is trusted: `now` measures
//! durations, and orders the calls of one start of this board.

use std::collections::BTreeMap;

use snow::Builder;
use understudy_core::{
    duty::Incarnation,
    event::{Millis, NodeId},
    limits::{DATAGRAM_BYTES_MAX, MEMBERS_MAX, PAYLOAD_BYTES_MAX},
    member::{Member, PublicKey},
    mutant,
};

use self::{
    gate::{Gate, Ration},
    handshake::{Called, Marks, session_number},
    peer::{Due, Peer},
    session::Session,
};
use crate::{
    address::Address,
    identity::{GroupId, GroupKey},
};

mod copy;
mod gate;
mod gone;
mod handshake;
mod obituary;
mod peer;
mod question;
mod session;
mod window;

pub use copy::{open_copy, seal_copy};
pub use handshake::public_key;
pub use question::{Answerer, Whose};

const CALL: u8 = 1;
const ANSWER: u8 = 2;
const DATA: u8 = 3;

/// Kinds 4 and 5 are the question of `question` and its answer.
const QUESTION: u8 = 4;
const TAG: u8 = 5;

/// And 6 and 7 those of `gone`.
const GONE_ASKED: u8 = 6;
const GONE: u8 = 7;

/// And 8 the word of `obituary`.
const OBITUARY: u8 = 8;

const DATA_HEADER_BYTES: usize = 13;
const TAG_BYTES: usize = 16;

/// Callers that are no members at the same time, and how long one of them may
/// stay silent: as long as a join lasts.
const GUESTS_MAX: usize = 8;
const GUEST_MS_MAX: u64 = 20_000;

/// Noise's one-way pattern X: who made it is proven, and only its receiver can read it.
const X_PATTERN: &str = "Noise_X_25519_ChaChaPoly_BLAKE2s";

fn x_builder<'a>(keys: &'a Keys, prologue: &'a [u8]) -> Builder<'a> {
    let pattern = X_PATTERN.parse().expect("the pattern is well-formed");
    Builder::new(pattern)
        .local_private_key(&keys.private_key)
        .and_then(|builder| builder.prologue(prologue))
        .expect("keys have their lengths")
}

/// What this board is to the others.
#[derive(Clone)]
pub struct Keys {
    /// The group's id.
    pub group: GroupId,
    /// The group's keys, ascending by number.
    pub group_keys: Vec<GroupKey>,
    /// Number of the one that calls are made under.
    pub used: u32,
    /// Number of the newest that is known to be the group's: guests call under it.
    pub newest: u32,
    /// This board's own.
    pub private_key: [u8; 32],
}

impl Keys {
    /// Of a group that has this key alone.
    #[must_use]
    pub fn of_one(group: GroupId, group_key: GroupKey, private_key: [u8; 32]) -> Self {
        let number = group_key.number;
        Self { group, group_keys: vec![group_key], used: number, newest: number, private_key }
    }

    /// Under which to call, one after the other until one is answered.
    fn to_call(&self, is_guest: bool) -> Vec<GroupKey> {
        let first = if is_guest { self.newest } else { self.used };
        let mut keys = self.group_keys.clone();
        keys.sort_by_key(|key| (key.number != first, u32::MAX - key.number));
        if is_guest {
            keys.truncate(1);
        }
        keys
    }

    /// Tells groups apart, for all to see and without proof.
    #[must_use]
    pub fn tag(&self) -> [u8; 4] {
        handshake::group_tag(&self.group)
    }
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
    /// A member says that this board was removed.
    Gone,
    /// A board says of a start of its own that its agent has ended.
    Obituary {
        /// Which.
        start: Incarnation,
        /// All that it ran has ended too.
        with_all: bool,
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
    /// Of a board that is no member any more.
    Removed,
    /// Under a key of the group that a new one has replaced.
    Outdated,
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

fn marks(keys: &Keys, callee: &PublicKey) -> Vec<Marks> {
    keys.group_keys.iter().map(|key| Marks::new(keys, *key, callee)).collect()
}

/// See the module's description.
pub struct Seal {
    keys: Keys,
    public_key: PublicKey,
    tag: [u8; 4],
    /// Of calls to this board, under each key.
    marks: Vec<Marks>,
    gate: Gate,
    questions: Ration,
    farewells: Ration,
    obituaries: Ration,
    peers: BTreeMap<PeerId, Peer>,
    nodes: BTreeMap<NodeId, PublicKey>,
    /// Who was a member: heard as a guest only.
    removed: Vec<PublicKey>,
    sessions: BTreeMap<u32, PeerId>,
    next_session: u32,
    /// Of this board's last call.
    number: handshake::Number,
    drops: BTreeMap<Drop, u64>,
}

impl Seal {
    /// A board with these keys, alone as yet. `boot` counts the starts of its
    /// disk; `salt` makes its session numbers differ from those of its former
    /// ones.
    #[must_use]
    pub fn new(keys: Keys, boot: u64, salt: u32) -> Self {
        let public_key = public_key(&keys.private_key);
        Self {
            public_key,
            tag: keys.tag(),
            marks: marks(&keys, &public_key),
            keys,
            gate: Gate::default(),
            questions: Ration::default(),
            farewells: Ration::default(),
            obituaries: Ration::default(),
            peers: BTreeMap::new(),
            nodes: BTreeMap::new(),
            removed: Vec::new(),
            sessions: BTreeMap::new(),
            next_session: salt,
            number: (boot, 0),
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

    /// The group's keys have changed: what was made under those that are gone ends.
    pub fn set_keys(&mut self, keys: Keys) {
        self.keys = keys;
        self.marks = marks(&self.keys, &self.public_key);
        let known = &self.keys.group_keys;
        self.peers.values_mut().for_each(|peer| peer.keep_keys(known));
        self.forget_sessions();
    }

    /// The members as the group knows them; sessions of those removed end. Who
    /// never was a member stays for as long as a guest may: it may have been
    /// admitted on another board a moment ago.
    pub fn set_members(&mut self, now: Millis, members: &[Member]) {
        let own = self.public_key;
        self.nodes = members
            .iter()
            .filter(|member| member.key != own)
            .map(|member| (member.id, member.key))
            .collect();
        let nodes: BTreeMap<_, _> = self.nodes.iter().map(|(node, key)| (*key, *node)).collect();
        self.peers.retain(|id, peer| peer.node.is_none() || nodes.contains_key(&id.key));
        for (key, node) in nodes {
            self.peer(now, PeerId::member(key)).node = Some(node);
        }
        self.forget_sessions();
    }

    /// Boards that were members and are none any more: they may only ask as guests.
    pub fn set_removed(&mut self, removed: impl Iterator<Item = PublicKey>) {
        self.removed = removed.collect();
    }

    /// What lies between this board and that key; nothing as yet, maybe.
    fn peer(&mut self, now: Millis, id: PeerId) -> &mut Peer {
        self.peers.entry(id).or_insert_with(|| Peer::new(now))
    }

    /// Whose session, or call, that number is.
    fn peer_of(&mut self, local: u32) -> Result<(PeerId, &mut Peer), Drop> {
        let id = *self.sessions.get(&local).ok_or(Drop::Unknown)?;
        Ok((id, self.peers.get_mut(&id).ok_or(Drop::Unknown)?))
    }

    fn count(&mut self, reason: Drop) {
        *self.drops.entry(reason).or_default() += 1;
    }

    /// Sessions that no peer uses any more.
    fn forget_sessions(&mut self) {
        let peers = &self.peers;
        self.sessions.retain(|local, id| peers.get(id).is_some_and(|peer| peer.uses(*local)));
    }

    /// Guests whose time is over.
    fn forget_guests(&mut self, now: Millis) {
        let before = self.peers.len();
        self.peers.retain(|_, peer| peer.node.is_some() || peer.silent_ms(now) < GUEST_MS_MAX);
        if self.peers.len() != before {
            self.forget_sessions();
        }
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
        let used = self.keys.used;
        let peer = self.peer(now, id);
        // A member that has not got the newer key does not answer: the session goes on.
        let is_old = !id.is_guest && peer.session_key().is_some_and(|number| number < used);
        let wants_call = if peer.session.is_some() {
            let mut datagrams = Vec::new();
            let is_worn = peer.seal(now, payload, &mut datagrams) || is_old;
            out.extend(datagrams.into_iter().map(|datagram| Outgoing { to, datagram }));
            is_worn
        } else {
            if let Err(reason) = peer.hold(payload) {
                self.count(reason);
            }
            true
        };
        if wants_call {
            self.call(now, id, to, out);
        }
    }

    /// Says to members what they are due, now and then.
    pub fn greet(&mut self, now: Millis, out: &mut Vec<Outgoing>) {
        self.forget_guests(now);
        let members = self.nodes.iter().map(|(node, key)| (*node, PeerId::member(*key)));
        for (node, id) in members.collect::<Vec<_>>() {
            let to = To::Node(node);
            match self.peer(now, id).due(now) {
                Due::Nothing => {}
                Due::Word => self.seal_for(now, id, to, &[], out),
                Due::Call => self.call(now, id, to, out),
            }
        }
    }

    /// Calls a peer, unless a call is young.
    fn call(&mut self, now: Millis, id: PeerId, to: To, out: &mut Vec<Outgoing>) {
        if self.peers.get(&id).is_some_and(|peer| !peer.may_call(now)) {
            return;
        }
        let keys = self.keys.to_call(id.is_guest);
        let turn = self.peer(now, id).turn(now);
        let Some(group_key) = keys.get(turn % keys.len().max(1)).copied() else { return };
        let local = self.free_session();
        self.number.1 = now.0.max(self.number.1 + 1);
        let call = handshake::call(&self.keys, &group_key, &id, local, self.number);
        let Some((handshake, datagram)) = call else { return };
        self.peer(now, id).called(now, local, handshake, group_key);
        self.sessions.insert(local, id);
        self.forget_sessions();
        out.push(Outgoing { to, datagram });
    }

    fn free_session(&mut self) -> u32 {
        loop {
            let local = self.next_session;
            self.next_session = self.next_session.wrapping_add(1);
            if !self.sessions.contains_key(&local) {
                return local;
            }
        }
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
                Some(&DATA) => self.on_data(now, datagram, source, out),
                Some(&QUESTION) => self.on_question(now, datagram, source, out),
                Some(&GONE_ASKED) => self.on_gone_asked(now, datagram, source, out),
                Some(&GONE) => self.on_gone(now, datagram),
                Some(&OBITUARY) => self.on_obituary(now, datagram),
                Some(_) | None => Err(Drop::Malformed),
            }
        };
        opened.unwrap_or_else(|reason| {
            self.count(reason);
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
        let (mark, group_key) = handshake::check(&self.tag, &self.marks, datagram)?;
        self.gate.pass(now, mark)?;
        let called = Called::read(&self.keys, &group_key, datagram)?;
        let id = called.id;
        if !id.is_guest && self.removed.contains(&id.key) {
            return Err(Drop::Removed);
        }
        let is_member = self.nodes.values().any(|key| *key == id.key);
        if !is_member && group_key.number < self.keys.newest && !mutant::is(62) {
            return Err(Drop::Outdated);
        }
        self.admit(now, id)?;
        let is_first = self.public_key < id.key;
        if is_first && self.peers.get(&id).is_some_and(|peer| peer.has_just_called(now)) {
            // Both call at once: ours counts, theirs will be answered by it.
            return Ok(Opened::Nothing);
        }
        let (number, remote, local) = (called.number, called.remote, self.free_session());
        let (transport, answer) = called.answer(local).ok_or(Drop::Malformed)?;
        let session = Session::new(transport, group_key, (local, remote), now);
        self.peer(now, id).prepare(number, session);
        self.sessions.insert(local, id);
        self.forget_sessions();
        out.push(Outgoing { to: To::Address(source), datagram: answer });
        Ok(Opened::Nothing)
    }

    /// Members are always let in; besides a few guests, and boards that call as
    /// members before this one has heard of their admission.
    fn admit(&mut self, now: Millis, id: PeerId) -> Result<(), Drop> {
        if self.peers.contains_key(&id) {
            return Ok(());
        }
        self.forget_guests(now);
        let guests = self.peers.values().filter(|peer| peer.node.is_none()).count();
        if guests >= GUESTS_MAX || self.peers.len() >= MEMBERS_MAX + GUESTS_MAX {
            return Err(Drop::Rationed);
        }
        self.peer(now, id);
        Ok(())
    }

    fn on_answer(
        &mut self,
        now: Millis,
        datagram: &[u8],
        source: Address,
        out: &mut Vec<Outgoing>,
    ) -> Result<Opened, Drop> {
        let (local, remote, noise) = handshake::read_answer(datagram)?;
        let (id, peer) = self.peer_of(local)?;
        peer.answered(now, local, remote, noise)?;
        let node = peer.node;
        // An empty message confirms the session to its other end.
        self.seal_for(now, id, node.map_or(To::Address(source), To::Node), &[], out);
        self.forget_sessions();
        Ok(node.map_or(Opened::Nothing, |from| Opened::Alive { from }))
    }

    fn on_data(
        &mut self,
        now: Millis,
        datagram: &[u8],
        source: Address,
        out: &mut Vec<Outgoing>,
    ) -> Result<Opened, Drop> {
        if datagram.len() < DATA_HEADER_BYTES + TAG_BYTES {
            return Err(Drop::Malformed);
        }
        let local = session_number(&datagram[1..5]);
        let (id, peer) = self.peer_of(local)?;
        let payload = peer.open(now, local, datagram)?;
        let node = peer.node;
        if peer.has_held() {
            // It waited for this session.
            self.seal_for(now, id, To::Address(source), &[], out);
        }
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
        if self.peers.remove(&PeerId::guest(key)).is_some() {
            self.forget_sessions();
        }
    }
}

#[cfg(test)]
mod tests;
