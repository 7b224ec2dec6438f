//! Where each member can be reached, and by which road: datagrams by UDP, by MQTT, or by
//! both. No knowledge of what is inside.
//!
//! By UDP a member is sent to where it was last heard, authenticated. One that is
//! silent is tried at every address it announced, host names resolved anew each
//! time, and where it was seen on this network. Errors of the network are counted, never
//! fatal: what cannot leave is lost, and whoever needs it sends it again.
//!
//! Where there are brokers as well, what goes to a member that UDP has not brought anything
//! from for a while is posted to its mailbox too: each datagram is sealed once, and one that
//! comes twice counts once. It is told so as well, by a post with nothing in it, and then
//! posts in turn: UDP may cross a link one way only. That word is not sealed, and costs no
//! more than posts that nobody needs.

use std::{collections::BTreeMap, io, net::SocketAddr};

use tokio::sync::mpsc;
use understudy_core::{
    event::{Millis, NodeId},
    limits::ADDRESSES_MAX,
    member::Member,
};

use super::{
    clock,
    heard::{Heard, Transport},
    mqtt::{Brokers, LineStatus},
    udp::{Socket, Traffic},
};
use crate::address::{Address, Mailbox};

/// A member silent for so long is tried at all its addresses.
const SILENT_MS: u64 = 2_000;

/// And one silent for so long is looked for.
const MISSING_MS: u64 = 10_000;

/// Between two tries at all addresses, and between two resolutions of names.
const TRY_MS: u64 = 400;
const RESOLVE_MS: u64 = 5_000;

/// The roads, and the members' addresses.
pub struct Road {
    transport: Transport,
    socket: Socket,
    brokers: Option<Brokers>,
    book: BTreeMap<NodeId, Place>,
    resolved: (mpsc::Sender<Resolved>, mpsc::Receiver<Resolved>),
    /// A member that UDP has brought nothing from for so long is posted to, milliseconds.
    patience_ms: u64,
}

type Resolved = (NodeId, Vec<SocketAddr>);

#[derive(Default)]
struct Place {
    mailbox: Option<Mailbox>,
    heard: Heard,
    announced: Vec<String>,
    known: Vec<SocketAddr>,
    /// By others' word: see [`super::mdns`].
    seen: Vec<SocketAddr>,
    tried: Option<Millis>,
    asked: Option<Millis>,
}

impl Road {
    /// Binds `address` for UDP; brokers are attached once the board has a group.
    ///
    /// # Errors
    /// When the address cannot be bound: the text names it.
    pub fn bind(address: SocketAddr, transport: Transport) -> io::Result<Self> {
        Ok(Self {
            transport,
            socket: Socket::bind(address)?,
            brokers: None,
            book: BTreeMap::new(),
            resolved: mpsc::channel(32),
            patience_ms: 0,
        })
    }

    /// Posts through these from now on, in the place of any before.
    pub fn attach(&mut self, brokers: Option<Brokers>) {
        self.brokers = brokers;
        self.set_patience(self.patience_ms);
    }

    /// A member that UDP has brought nothing from for so long is posted to as well.
    pub fn set_patience(&mut self, ms: u64) {
        self.patience_ms = ms;
        if let Some(brokers) = &self.brokers {
            brokers.set_patience(ms);
        }
    }

    /// Are there brokers to post to?
    #[must_use]
    pub const fn posts(&self) -> bool {
        self.brokers.is_some()
    }

    /// The address bound.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.socket.address()
    }

    /// What has gone over UDP since it was bound.
    #[must_use]
    pub const fn traffic(&self) -> Traffic {
        self.socket.traffic()
    }

    /// What is known of the lines to brokers.
    pub fn lines(&self) -> impl Iterator<Item = (&str, LineStatus)> {
        self.brokers.iter().flat_map(Brokers::status)
    }

    /// The next datagram's length and source; `None` after an error, which is
    /// counted.
    pub async fn receive(&mut self, datagram: &mut [u8]) -> Option<(usize, Address)> {
        let Some(brokers) = &mut self.brokers else {
            return by_udp(self.socket.receive(datagram).await);
        };
        let posted = tokio::select! {
            received = self.socket.receive(datagram) => return by_udp(received),
            Some(posted) = brokers.receive() => posted,
        };
        self.by_mqtt(&posted, datagram)
    }

    /// The next datagram if one is there already.
    pub fn try_receive(&mut self, datagram: &mut [u8]) -> Option<(usize, Address)> {
        by_udp(self.socket.try_receive(datagram)).or_else(|| {
            let posted = self.brokers.as_mut()?.try_receive()?;
            self.by_mqtt(&posted, datagram)
        })
    }

    /// What was posted is put where a datagram goes; one that is too long for that is none,
    /// nor is an empty one.
    fn by_mqtt(
        &mut self,
        (from, posted): &(Mailbox, Vec<u8>),
        datagram: &mut [u8],
    ) -> Option<(usize, Address)> {
        if posted.is_empty() {
            let place = self.book.values_mut().find(|place| place.mailbox == Some(*from));
            place?.heard.note_deaf(clock::now());
            return None;
        }
        datagram.get_mut(..posted.len())?.copy_from_slice(posted);
        Some((posted.len(), Address::Mqtt(*from)))
    }

    /// Sends to an address, or loses it.
    pub fn send_to(&mut self, address: Address, datagram: &[u8]) {
        match (address, &self.brokers) {
            (Address::Udp(_), _) if self.transport == Transport::Mqtt => {}
            (Address::Udp(address), _) => {
                self.socket.send_to(address, datagram);
                self.answer_deaf(address, datagram);
            }
            (Address::Mqtt(mailbox), Some(brokers)) => brokers.send(mailbox, datagram),
            (Address::Mqtt(_), None) => {}
        }
    }

    /// Sends to a member, wherever it may be.
    pub fn send(&mut self, now: Millis, node: NodeId, datagram: &[u8]) {
        self.take_resolved();
        self.post(now, node, datagram);
        if self.transport != Transport::Mqtt {
            self.send_by_udp(now, node, datagram);
        }
    }

    /// What goes back to an address whose member says that UDP brings it nothing.
    fn answer_deaf(&self, address: SocketAddr, datagram: &[u8]) {
        let Some(brokers) = &self.brokers else { return };
        let now = clock::now();
        let there = self.book.values().filter(|place| place.is_at(address));
        let deaf = there.filter(|place| place.heard.is_deaf(now, self.patience_ms));
        deaf.filter_map(|place| place.mailbox).for_each(|mailbox| brokers.send(mailbox, datagram));
    }

    /// Posts to a member's mailbox, where UDP does not do.
    fn post(&mut self, now: Millis, node: NodeId, datagram: &[u8]) {
        let Some(brokers) = &self.brokers else { return };
        let Some(place) = self.book.get_mut(&node) else { return };
        let Some(mailbox) = place.mailbox else { return };
        if place.heard.is_to_be_told(self.transport, now, self.patience_ms) {
            brokers.send(mailbox, &[]);
        }
        if place.heard.is_posted_to(self.transport, now, self.patience_ms) {
            brokers.send(mailbox, datagram);
        }
    }

    fn send_by_udp(&mut self, now: Millis, node: NodeId, datagram: &[u8]) {
        let Some(place) = self.book.get_mut(&node) else { return };
        let silent = place.heard.udp_silent_ms(now).is_none_or(|ms| ms > SILENT_MS);
        let due = place.tried.is_none_or(|tried| now.since(tried) >= TRY_MS);
        let last = place.heard.address();
        let mut addresses: Vec<SocketAddr> = last.into_iter().collect();
        // One that is heard by post need not be called again and again.
        let is_new = place.heard.source().is_none();
        if is_new || (silent && due) {
            place.tried = Some(now);
            let known = place.known.iter().chain(&place.seen);
            addresses.extend(known.filter(|known| Some(**known) != last));
            let resolver = self.resolved.0.clone();
            resolve(now, node, place, resolver);
        }
        for address in addresses {
            self.socket.send_to(address, datagram);
        }
    }

    fn take_resolved(&mut self) {
        while let Ok((node, addresses)) = self.resolved.1.try_recv() {
            if let Some(place) = self.book.get_mut(&node) {
                place.known = addresses;
            }
        }
    }

    /// A member's authenticated datagram came from there.
    pub fn heard(&mut self, now: Millis, node: NodeId, source: Address) {
        self.book.entry(node).or_default().heard.note(now, source);
    }

    /// A member is said to be there; the last word counts.
    pub fn seen(&mut self, node: NodeId, addresses: Vec<SocketAddr>) {
        let Some(place) = self.book.get_mut(&node) else { return };
        place.seen = addresses;
        place.seen.truncate(ADDRESSES_MAX);
    }

    /// Is a member, other than `own`, silent for so long that its address may have
    /// changed?
    #[must_use]
    pub fn misses_any(&self, now: Millis, own: NodeId) -> bool {
        let missing = |place: &Place| place.heard.silent_ms(now).is_none_or(|ms| ms > MISSING_MS);
        self.book.iter().any(|(node, place)| *node != own && missing(place))
    }

    /// Where a member was last heard.
    #[must_use]
    pub fn last_heard(&self, node: NodeId) -> Option<Address> {
        self.book.get(&node)?.heard.source()
    }

    /// Where a member was last heard by UDP.
    #[must_use]
    pub fn last_address(&self, node: NodeId) -> Option<SocketAddr> {
        self.book.get(&node)?.heard.address()
    }

    /// The members and the addresses they announced.
    pub fn set_members(&mut self, members: &[Member]) {
        self.book.retain(|node, _| members.iter().any(|member| member.id == *node));
        for member in members {
            let place = self.book.entry(member.id).or_default();
            place.mailbox = Some(Mailbox::of(&member.key));
            if place.announced != member.addresses {
                place.announced.clone_from(&member.addresses);
                place.known = numeric(&place.announced);
                place.asked = None;
            }
        }
    }
}

impl Place {
    /// May it be there?
    fn is_at(&self, address: SocketAddr) -> bool {
        let is_last = self.heard.address() == Some(address);
        is_last || self.known.contains(&address) || self.seen.contains(&address)
    }
}

fn by_udp(received: Option<(usize, SocketAddr)>) -> Option<(usize, Address)> {
    received.map(|(bytes, source)| (bytes, Address::Udp(source)))
}

fn numeric(addresses: &[String]) -> Vec<SocketAddr> {
    addresses.iter().filter_map(|address| address.parse().ok()).take(ADDRESSES_MAX).collect()
}

/// Looks announced names up again, off the loop; numbers need no looking up.
fn resolve(now: Millis, node: NodeId, place: &mut Place, resolved: mpsc::Sender<Resolved>) {
    let names = place.announced.iter().filter(|address| address.parse::<SocketAddr>().is_err());
    let names: Vec<String> = names.take(ADDRESSES_MAX).cloned().collect();
    let due = place.asked.is_none_or(|asked| now.since(asked) >= RESOLVE_MS);
    if names.is_empty() || !due {
        return;
    }
    place.asked = Some(now);
    let mut known = numeric(&place.announced);
    tokio::spawn(async move {
        for name in names {
            if let Ok(found) = tokio::net::lookup_host(name).await {
                known.extend(found.take(ADDRESSES_MAX));
            }
        }
        known.truncate(2 * ADDRESSES_MAX);
        // Without room the next try resolves again.
        let _ = resolved.try_send((node, known));
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn runtime() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
    }

    fn loopback() -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], 0))
    }

    #[test]
    fn a_member_is_sent_to_where_it_announced_itself_and_then_where_it_was_heard() {
        runtime().block_on(async {
            let mut a = Road::bind(loopback(), Transport::Udp).unwrap();
            let mut b = Road::bind(loopback(), Transport::Udp).unwrap();
            let mut moved = Road::bind(loopback(), Transport::Udp).unwrap();
            let member = Member {
                id: 2,
                name: "b".into(),
                key: [0; 32],
                addresses: vec![b.address().to_string()],
                voter: true,
            };
            a.set_members(&[member]);
            a.send(Millis(0), 2, b"one");
            let mut datagram = [0; 16];
            let (bytes, source) = b.receive(&mut datagram).await.unwrap();
            assert_eq!((&datagram[..bytes], source), (b"one".as_slice(), a.address().into()));
            a.heard(Millis(1), 2, moved.address().into());
            a.send(Millis(2), 2, b"two");
            assert_eq!(moved.receive(&mut datagram).await.unwrap().0, 3);
            assert!(b.try_receive(&mut datagram).is_none());
            let gone = Traffic { sent: 2, sent_bytes: 6, ..Traffic::default() };
            let come = Traffic { received: 1, received_bytes: 3, ..Traffic::default() };
            assert_eq!((a.traffic(), moved.traffic()), (gone, come));
        });
    }

    #[test]
    fn names_are_resolved_when_a_member_is_silent() {
        runtime().block_on(async {
            let mut a = Road::bind(loopback(), Transport::Udp).unwrap();
            let mut b = Road::bind(loopback(), Transport::Udp).unwrap();
            let addresses = vec![format!("localhost:{}", b.address().port())];
            let member = Member { id: 2, name: "b".into(), key: [0; 32], addresses, voter: true };
            a.set_members(&[member]);
            let mut datagram = [0; 16];
            for round in 0..50 {
                a.send(Millis(round * TRY_MS), 2, b"hello");
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
                if b.try_receive(&mut datagram).is_some() {
                    return;
                }
            }
            panic!("localhost was never resolved");
        });
    }

    #[test]
    fn a_silent_member_is_called_where_it_was_seen_as_well() {
        runtime().block_on(async {
            let mut a = Road::bind(loopback(), Transport::Udp).unwrap();
            let mut b = Road::bind(loopback(), Transport::Udp).unwrap();
            let member = |id, addresses| Member {
                id,
                name: format!("board-{id}"),
                key: [0; 32],
                addresses,
                voter: true,
            };
            a.set_members(&[member(1, Vec::new()), member(2, Vec::new())]);
            assert!(a.misses_any(Millis(0), 1));
            a.seen(3, vec![b.address()]);
            a.seen(2, vec![b.address()]);
            a.send(Millis(0), 3, b"nobody");
            a.send(Millis(0), 2, b"hello");
            let mut datagram = [0; 16];
            let (bytes, source) = b.receive(&mut datagram).await.unwrap();
            assert_eq!(&datagram[..bytes], b"hello");
            a.heard(Millis(5), 2, source);
            assert!(!a.misses_any(Millis(5), 1), "it is no stranger to itself");
            assert!(a.misses_any(Millis(6 + MISSING_MS), 1));
        });
    }

    #[test]
    fn an_address_in_use_is_named() {
        runtime().block_on(async {
            let a = Road::bind(loopback(), Transport::Udp).unwrap();
            let error = Road::bind(a.address(), Transport::Udp).err().unwrap().to_string();
            assert!(error.contains(&a.address().to_string()), "{error}");
        });
    }
}
