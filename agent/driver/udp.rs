//! Datagrams in and out, and where each member can be reached. No knowledge of
//! what is inside.
//!
//! A member is sent to where it was last heard, authenticated. One that is
//! silent is tried at every address it announced, host names resolved anew each
//! time, and where it was seen on this network. Errors of the network are counted, never fatal: what cannot leave is
//! lost, and whoever needs it sends it again.

use std::{
    collections::BTreeMap,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use tokio::{net::UdpSocket, sync::mpsc};
use understudy_core::{
    event::{Millis, NodeId},
    limits::ADDRESSES_MAX,
    member::Member,
};

/// The port boards listen on unless told otherwise.
pub const PORT: u16 = 4002;

/// A member silent for so long is tried at all its addresses.
const SILENT_MS: u64 = 2_000;

/// And one silent for so long is looked for.
const MISSING_MS: u64 = 10_000;

/// Between two tries at all addresses, and between two resolutions of names.
const TRY_MS: u64 = 400;
const RESOLVE_MS: u64 = 5_000;

/// One socket and the members' addresses.
pub struct Road {
    socket: UdpSocket,
    /// The same socket, for what must not wait for the runtime to say "ready".
    direct: std::net::UdpSocket,
    is_v6: bool,
    book: BTreeMap<NodeId, Place>,
    resolved: (mpsc::Sender<Resolved>, mpsc::Receiver<Resolved>),
    traffic: Traffic,
}

/// What has gone over a road: datagrams, and bytes of them without the headers of
/// UDP and IP.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Datagrams that left, to whatever end.
    pub sent: u64,
    /// Their bytes.
    pub sent_bytes: u64,
    /// Datagrams that came in, from whomever.
    pub received: u64,
    /// Their bytes.
    pub received_bytes: u64,
    /// Datagrams that could not be sent, and errors in place of one that came.
    pub failed: u64,
}

type Resolved = (NodeId, Vec<SocketAddr>);

#[derive(Default)]
struct Place {
    last: Option<SocketAddr>,
    heard: Option<Millis>,
    announced: Vec<String>,
    known: Vec<SocketAddr>,
    /// By others' word: see [`super::mdns`].
    seen: Vec<SocketAddr>,
    tried: Option<Millis>,
    asked: Option<Millis>,
}

impl Road {
    /// Binds `address`; `[::]` takes IPv4 too, and falls back to it where there
    /// is no IPv6.
    ///
    /// # Errors
    /// When the address cannot be bound: the text names it.
    pub fn bind(address: SocketAddr) -> io::Result<Self> {
        let any = address.ip() == IpAddr::V6(Ipv6Addr::UNSPECIFIED);
        let direct = match std::net::UdpSocket::bind(address) {
            Err(_) if any => std::net::UdpSocket::bind((Ipv4Addr::UNSPECIFIED, address.port())),
            bound => bound,
        };
        let direct = direct.map_err(|error| {
            io::Error::new(error.kind(), format!("UDP {address} cannot be bound: {error}"))
        })?;
        direct.set_nonblocking(true)?;
        let socket = UdpSocket::from_std(direct.try_clone()?)?;
        let is_v6 = direct.local_addr()?.is_ipv6();
        let (book, traffic) = (BTreeMap::new(), Traffic::default());
        Ok(Self { socket, direct, is_v6, book, resolved: mpsc::channel(32), traffic })
    }

    /// The address bound.
    ///
    /// # Panics
    /// Never: a bound socket has one.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.socket.local_addr().expect("the socket is bound")
    }

    /// What has gone over it since it was bound.
    #[must_use]
    pub const fn traffic(&self) -> Traffic {
        self.traffic
    }

    /// The next datagram's length and source; `None` after an error, which is
    /// counted.
    pub async fn receive(&mut self, datagram: &mut [u8]) -> Option<(usize, SocketAddr)> {
        let received = self.socket.recv_from(datagram).await;
        self.received(received)
    }

    /// The next datagram if one is there already.
    pub fn try_receive(&mut self, datagram: &mut [u8]) -> Option<(usize, SocketAddr)> {
        match self.direct.recv_from(datagram) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => None,
            received => self.received(received),
        }
    }

    fn received(
        &mut self,
        received: io::Result<(usize, SocketAddr)>,
    ) -> Option<(usize, SocketAddr)> {
        match received {
            Ok((bytes, source)) => {
                self.traffic.received += 1;
                self.traffic.received_bytes += bytes as u64;
                Some((bytes, SocketAddr::new(source.ip().to_canonical(), source.port())))
            }
            Err(_) => {
                self.traffic.failed += 1;
                None
            }
        }
    }

    /// Sends to an address, or loses it.
    pub fn send_to(&mut self, address: SocketAddr, datagram: &[u8]) {
        let address = match address.ip() {
            IpAddr::V4(ip) if self.is_v6 => {
                SocketAddr::new(IpAddr::V6(ip.to_ipv6_mapped()), address.port())
            }
            IpAddr::V4(_) | IpAddr::V6(_) => address,
        };
        match self.direct.send_to(datagram, address) {
            Ok(bytes) => {
                self.traffic.sent += 1;
                self.traffic.sent_bytes += bytes as u64;
            }
            Err(_) => self.traffic.failed += 1,
        }
    }

    /// Sends to a member, wherever it may be.
    pub fn send(&mut self, now: Millis, node: NodeId, datagram: &[u8]) {
        self.take_resolved();
        let Some(place) = self.book.get_mut(&node) else { return };
        let silent = place.heard.is_none_or(|heard| now.since(heard) > SILENT_MS);
        let due = place.tried.is_none_or(|tried| now.since(tried) >= TRY_MS);
        let mut addresses: Vec<SocketAddr> = place.last.into_iter().collect();
        if place.last.is_none() || (silent && due) {
            place.tried = Some(now);
            let known = place.known.iter().chain(&place.seen);
            addresses.extend(known.filter(|known| Some(**known) != place.last));
            let resolver = self.resolved.0.clone();
            resolve(now, node, place, resolver);
        }
        for address in addresses {
            self.send_to(address, datagram);
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
    pub fn heard(&mut self, now: Millis, node: NodeId, source: SocketAddr) {
        let place = self.book.entry(node).or_default();
        place.last = Some(source);
        place.heard = Some(now);
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
        let missing = |place: &Place| place.heard.is_none_or(|heard| now.since(heard) > MISSING_MS);
        self.book.iter().any(|(node, place)| *node != own && missing(place))
    }

    /// Where a member was last heard.
    #[must_use]
    pub fn last_heard(&self, node: NodeId) -> Option<SocketAddr> {
        self.book.get(&node)?.last
    }

    /// The members and the addresses they announced.
    pub fn set_members(&mut self, members: &[Member]) {
        self.book.retain(|node, _| members.iter().any(|member| member.id == *node));
        for member in members {
            let place = self.book.entry(member.id).or_default();
            if place.announced != member.addresses {
                place.announced.clone_from(&member.addresses);
                place.known = numeric(&place.announced);
                place.asked = None;
            }
        }
    }
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

/// Addresses under which other boards may reach `bound`: its own when it is a
/// particular one, else those of this machine's interfaces, without loopback and
/// the bridges of containers.
#[must_use]
pub fn usable_addresses(bound: SocketAddr) -> Vec<SocketAddr> {
    if !bound.ip().is_unspecified() {
        return vec![bound];
    }
    let interfaces = if_addrs::get_if_addrs().unwrap_or_default();
    let mut addresses: Vec<SocketAddr> = interfaces
        .iter()
        .filter(|interface| !interface.is_loopback())
        .filter(|interface| !is_foreign(&interface.name))
        .map(if_addrs::Interface::ip)
        .filter(|ip| !is_link_local(*ip) && (ip.is_ipv4() || bound.is_ipv6()))
        .map(|ip| SocketAddr::new(ip, bound.port()))
        .collect();
    addresses.sort_unstable();
    addresses.dedup();
    addresses.truncate(ADDRESSES_MAX);
    addresses
}

/// An interface that leads to containers of this machine, not to other boards.
pub(super) fn is_foreign(interface: &str) -> bool {
    let starts = ["docker", "br-", "veth", "virbr", "cni", "podman", "lxc"];
    starts.iter().any(|start| interface.starts_with(start))
}

pub(super) fn is_link_local(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    }
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
            let mut a = Road::bind(loopback()).unwrap();
            let mut b = Road::bind(loopback()).unwrap();
            let mut moved = Road::bind(loopback()).unwrap();
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
            assert_eq!((&datagram[..bytes], source), (b"one".as_slice(), a.address()));
            a.heard(Millis(1), 2, moved.address());
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
            let mut a = Road::bind(loopback()).unwrap();
            let mut b = Road::bind(loopback()).unwrap();
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
            let mut a = Road::bind(loopback()).unwrap();
            let mut b = Road::bind(loopback()).unwrap();
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
            let a = Road::bind(loopback()).unwrap();
            let error = Road::bind(a.address()).err().unwrap().to_string();
            assert!(error.contains(&a.address().to_string()), "{error}");
        });
    }

    #[test]
    fn a_particular_address_is_announced_as_it_is() {
        assert_eq!(usable_addresses(loopback()), [loopback()]);
        let any = SocketAddr::from(([0, 0, 0, 0], 4_002));
        assert!(usable_addresses(any).iter().all(|address| !address.ip().is_loopback()));
    }
}
