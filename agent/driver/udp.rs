//! Datagrams by UDP, in and out. No knowledge of what is inside, or of who is where.
//!
//! Errors of the network are counted, never fatal: what cannot leave is lost.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use tokio::net::UdpSocket;
use understudy_core::limits::ADDRESSES_MAX;

/// The port boards listen on unless told otherwise.
pub const PORT: u16 = 4002;

/// One socket.
pub struct Socket {
    socket: UdpSocket,
    /// The same socket, for what must not wait for the runtime to say "ready".
    direct: std::net::UdpSocket,
    is_v6: bool,
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

impl Socket {
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
        Ok(Self { socket, direct, is_v6, traffic: Traffic::default() })
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
pub(crate) fn is_foreign(interface: &str) -> bool {
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

    fn loopback() -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], 0))
    }

    #[test]
    fn a_particular_address_is_announced_as_it_is() {
        assert_eq!(usable_addresses(loopback()), [loopback()]);
        let any = SocketAddr::from(([0, 0, 0, 0], 4_002));
        assert!(usable_addresses(any).iter().all(|address| !address.ip().is_loopback()));
    }
}
