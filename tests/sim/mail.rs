//! What one board's datagrams go through where a seed has them sealed: the program's own
//! seal, and what it remembers of by which road each member was heard.
//!
//! Every datagram is numbered, whatever the road, so that of each it can be told whether it
//! is taken twice, or long after one that was sealed later. And what is inside has a time
//! of birth: it may have waited for a session.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use understudy::{
    address::{Address, Mailbox},
    driver::heard::{Heard, Transport},
    identity::GroupKey,
    seal::{self, Drop, Keys, Opened, Outgoing, Seal, To},
};
use understudy_core::{
    duty::Incarnation,
    event::{Millis, NodeId},
    member::{Member, PublicKey},
};

/// The group, and its key.
const GROUP: [u8; 16] = [1; 16];
const GROUP_KEY: GroupKey = GroupKey { number: 0, key: [2; 32] };

/// The kind of datagrams that carry something in a session.
const DATA: u8 = 3;

/// What was overtaken so long ago must not be taken, milliseconds.
const OVERTAKEN_MS_MAX: u64 = 30_000;

/// What a socket and a queue hold for a process that stands still.
const HELD_MAX: usize = 256;

/// A datagram under way.
#[derive(Clone)]
pub(crate) struct Letter {
    pub(crate) from: NodeId,
    pub(crate) to: NodeId,
    /// They are numbered as they are sealed.
    pub(crate) number: u64,
    /// When what is inside was said.
    pub(crate) born: u64,
    /// It came through a broker.
    pub(crate) is_posted: bool,
    pub(crate) datagram: Vec<u8>,
}

/// The keys of a board that has this id.
fn private_key(id: NodeId) -> [u8; 32] {
    [u8::try_from(id).unwrap_or(0); 32]
}

pub(crate) fn address_of(id: NodeId) -> Address {
    let port = u16::try_from(id).unwrap_or(0);
    std::net::SocketAddr::from(([127, 0, 0, 1], port)).into()
}

/// The boards that there may ever be, as others address them.
pub(crate) struct Directory(BTreeMap<NodeId, PublicKey>);

impl Directory {
    pub(crate) fn new(boards: u64) -> Self {
        Self((1..=boards).map(|id| (id, seal::public_key(&private_key(id)))).collect())
    }

    pub(crate) fn key(&self, id: NodeId) -> Option<PublicKey> {
        self.0.get(&id).copied()
    }

    pub(crate) fn mailbox(&self, id: NodeId) -> Option<Mailbox> {
        self.key(id).map(|key| Mailbox::of(&key))
    }

    pub(crate) fn ids(&self) -> impl Iterator<Item = NodeId> {
        self.0.keys().copied()
    }

    /// Which board that is.
    fn at(&self, address: Address) -> Option<NodeId> {
        self.ids().find(|id| match address {
            Address::Udp(_) => address_of(*id) == address,
            Address::Mqtt(mailbox) => self.mailbox(*id) == Some(mailbox),
        })
    }

    /// These, as a seal knows members.
    pub(crate) fn members(&self, ids: impl Iterator<Item = NodeId>) -> Vec<Member> {
        let member = |id| {
            let key = self.key(id)?;
            Some(Member { id, name: String::new(), key, addresses: Vec::new(), voter: true })
        };
        ids.filter_map(member).collect()
    }
}

/// When datagrams of one board were taken, and the newest of those.
#[derive(Default)]
struct Overtaking {
    taken: VecDeque<(Millis, u64)>,
    newest_long_ago: u64,
}

impl Overtaking {
    /// Takes one; was it overtaken too long ago for that?
    fn take(&mut self, now: Millis, number: u64) -> bool {
        while let Some((at, number)) = self.taken.front().copied()
            && now.since(at) >= OVERTAKEN_MS_MAX
        {
            self.newest_long_ago = self.newest_long_ago.max(number);
            self.taken.pop_front();
        }
        self.taken.push_back((now, number));
        number < self.newest_long_ago
    }
}

/// See the module's description.
pub(crate) struct Mail {
    id: NodeId,
    pub(crate) transport: Transport,
    seal: Seal,
    /// Of the membership that it knows.
    pub(crate) changes: Option<u64>,
    heard: BTreeMap<NodeId, Heard>,
    /// When what waits for a session was said.
    held: BTreeMap<NodeId, Vec<u64>>,
    /// What came while its process stood still.
    pub(crate) waiting: VecDeque<Letter>,
    taken: BTreeSet<u64>,
    overtaking: BTreeMap<NodeId, Overtaking>,
}

impl Mail {
    /// Of a start of a board.
    pub(crate) fn new(start: Incarnation, transport: Transport, salt: u32) -> Self {
        let id = start.board;
        let keys = Keys::of_one(GROUP, GROUP_KEY, private_key(id));
        Self {
            id,
            transport,
            seal: Seal::new(keys, start.boot, salt),
            changes: None,
            heard: BTreeMap::new(),
            held: BTreeMap::new(),
            waiting: VecDeque::new(),
            taken: BTreeSet::new(),
            overtaking: BTreeMap::new(),
        }
    }

    pub(crate) fn set_members(&mut self, now: Millis, members: &[Member], removed: &[PublicKey]) {
        self.seal.set_members(now, members);
        self.seal.set_removed(removed.iter().copied());
    }

    /// Seals a payload for a board.
    pub(crate) fn seal(&mut self, now: Millis, to: NodeId, payload: &[u8]) -> Vec<Outgoing> {
        let mut out = Vec::new();
        self.seal.seal(now, to, payload, &mut out);
        out
    }

    /// What it owes others.
    pub(crate) fn greet(&mut self, now: Millis) -> Vec<Outgoing> {
        let mut out = Vec::new();
        self.seal.greet(now, &mut out);
        out
    }

    /// When what is in a datagram to a board was said, of which so many go out at once
    /// after it: what waited for a session goes first.
    fn born(&mut self, now: u64, to: NodeId, behind: usize) -> u64 {
        match (self.held.get_mut(&to), behind) {
            (Some(held), 1..) if !held.is_empty() => held.remove(0),
            (Some(_) | None, _) => {
                self.held.remove(&to);
                now
            }
        }
    }

    /// Does something of this carry what was said to a board?
    pub(crate) fn is_carried(&self, out: &[Outgoing], to: NodeId) -> bool {
        out.iter().any(|one| one.to == To::Node(to) && one.datagram.first() == Some(&DATA))
    }

    /// What was said at this moment waits for a session.
    pub(crate) fn keep(&mut self, now: u64, to: NodeId) {
        self.held.entry(to).or_default().push(now);
    }

    /// Addresses and dates what leaves.
    pub(crate) fn letters(
        &mut self,
        now: u64,
        directory: &Directory,
        out: Vec<Outgoing>,
    ) -> Vec<(To, Letter)> {
        let whom = |to: To| match to {
            To::Node(id) => Some(id),
            To::Address(address) => directory.at(address),
        };
        let is_data = |datagram: &[u8]| datagram.first() == Some(&DATA);
        let data = out.iter().filter(|one| is_data(&one.datagram));
        let mut left: Vec<NodeId> = data.filter_map(|one| whom(one.to)).collect();
        let mut letters = Vec::new();
        for Outgoing { to, datagram } in out {
            let Some(id) = whom(to) else { continue };
            let born = if is_data(&datagram) {
                left.remove(left.iter().position(|known| *known == id).unwrap_or(0));
                self.born(now, id, left.iter().filter(|known| **known == id).count())
            } else {
                now
            };
            let letter =
                Letter { from: self.id, to: id, number: 0, born, is_posted: false, datagram };
            letters.push((to, letter));
        }
        letters
    }

    /// Is what goes to a board posted?
    pub(crate) fn posts_to(&self, now: Millis, to: NodeId, patience_ms: u64) -> bool {
        let heard = self.heard.get(&to).copied().unwrap_or_default();
        heard.is_posted_to(self.transport, now, patience_ms)
    }

    /// Words of its end, for the other boards.
    pub(crate) fn obituary(&self, start: Incarnation, to: &PublicKey) -> Option<Vec<u8>> {
        self.seal.obituary(to, (start.boot, start.nonce), true)
    }

    /// Keeps what comes while the process stands still.
    pub(crate) fn hold(&mut self, letter: Letter) {
        if self.waiting.len() < HELD_MAX {
            self.waiting.push_back(letter);
        }
    }

    /// Opens what came; what is to be said to that.
    pub(crate) fn open(
        &mut self,
        now: Millis,
        directory: &Directory,
        letter: &Letter,
    ) -> (Opened, Vec<Outgoing>) {
        let mut out = Vec::new();
        let by_post = directory.mailbox(letter.from).map(Address::Mqtt);
        let by_udp = Some(address_of(letter.from));
        let source = if letter.is_posted { by_post } else { by_udp };
        let Some(source) = source else { return (Opened::Nothing, out) };
        let opened = self.seal.open(now, &letter.datagram, source, &mut out);
        if let Opened::Payload { from, .. } | Opened::Alive { from } = &opened {
            self.heard.entry(*from).or_default().note(now, source);
        }
        (opened, out)
    }

    /// Datagrams that were not taken for their counter.
    pub(crate) fn replayed(&self) -> u64 {
        self.seal.drops().get(&Drop::Replayed).copied().unwrap_or(0)
    }

    /// What is wrong with taking this.
    pub(crate) fn wrong(&mut self, now: Millis, letter: &Letter) -> Option<String> {
        let Letter { from, number, .. } = *letter;
        if letter.datagram.first() != Some(&DATA) {
            return None;
        }
        if !self.taken.insert(number) {
            return Some(format!("datagram {number} of board {from} twice"));
        }
        let is_late = self.overtaking.entry(from).or_default().take(now, number);
        is_late.then(|| format!("datagram {number} of board {from}, overtaken half a minute ago"))
    }
}
