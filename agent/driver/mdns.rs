//! Boards of one group on one network find each other by multicast (RFC 6762,
//! 6763), so that one whose address changed while nobody could hear it is found
//! again. Never required: a network that blocks it has the addresses boards
//! announce and were last heard at.
//!
//! What is told is what handshakes show anyway: the group's tag and the board's
//! number. What is heard is a hint where to call; whom to believe, the seal
//! decides. The network is asked only while some board is silent.

use std::{collections::BTreeSet, net::SocketAddr};

use mdns_sd::{
    IfKind, IfPredicate, Receiver, ResolvedService, ServiceDaemon, ServiceEvent, ServiceInfo,
};
use understudy_core::{event::NodeId, limits::ADDRESSES_MAX};

use super::udp::{is_foreign, is_link_local};

const SERVICE: &str = "_understudy._udp.local.";

/// Properties of the service: the group's tag and the board's number.
const GROUP: &str = "group";
const BOARD: &str = "board";

/// See the module's description. Says goodbye when dropped.
pub struct Neighbours {
    daemon: ServiceDaemon,
    group: String,
    /// What the network answers, while it is asked.
    answers: Option<Receiver<ServiceEvent>>,
}

impl Neighbours {
    /// Tells this network that board `node` of the group of `tag` takes datagrams at
    /// `port`.
    ///
    /// # Errors
    /// When the system has no multicast: in words.
    pub fn tell(tag: [u8; 4], node: NodeId, port: u16) -> Result<Self, String> {
        let neighbours = Self::of(tag)?;
        let (group, daemon) = (&neighbours.group, &neighbours.daemon);
        let text = |error: mdns_sd::Error| error.to_string();
        let name = format!("understudy-{group}-{node}");
        let properties = [(GROUP, group.as_str()), (BOARD, &node.to_string())];
        let host = format!("{name}.local.");
        let info = ServiceInfo::new(SERVICE, &name, &host, "", port, &properties[..]);
        daemon.register(info.map_err(text)?.enable_addr_auto()).map_err(text)?;
        Ok(neighbours)
    }

    /// For the boards of the group of `tag`, without telling anything.
    ///
    /// # Errors
    /// When the system has no multicast: in words.
    pub fn of(tag: [u8; 4]) -> Result<Self, String> {
        let text = |error: mdns_sd::Error| error.to_string();
        let daemon = ServiceDaemon::new().map_err(text)?;
        let virtual_ones = IfPredicate::new(|interface| is_foreign(&interface.name));
        daemon.disable_interface(IfKind::Predicate(virtual_ones)).map_err(text)?;
        let group = format!("{:08x}", u32::from_be_bytes(tag));
        Ok(Self { daemon, group, answers: None })
    }

    /// Asks the network from now on, or no longer. What it knew already comes again.
    pub fn ask(&mut self, wanted: bool) {
        match (wanted, &self.answers) {
            // A daemon that has ended leaves the board as one without multicast.
            (true, None) => self.answers = self.daemon.browse(SERVICE).ok(),
            (false, Some(_)) => {
                let _ = self.daemon.stop_browse(SERVICE);
                self.answers = None;
            }
            (true, Some(_)) | (false, None) => {}
        }
    }

    /// The next board of this group that is seen, and where it says it is. Waits for
    /// ever while nobody is.
    pub async fn seen(&mut self) -> (NodeId, Vec<SocketAddr>) {
        while let Some(answers) = &self.answers {
            match answers.recv_async().await {
                Ok(ServiceEvent::ServiceResolved(service)) => {
                    if let Some(seen) = board(&service, &self.group) {
                        return seen;
                    }
                }
                Ok(_) => {}
                Err(_) => self.answers = None,
            }
        }
        std::future::pending().await
    }
}

impl Drop for Neighbours {
    fn drop(&mut self) {
        // It ends with the process at the latest.
        let _ = self.daemon.shutdown();
    }
}

/// The next board that is seen on this network; never where it is not asked.
pub async fn seen(neighbours: &mut Option<Neighbours>) -> (NodeId, Vec<SocketAddr>) {
    match neighbours {
        Some(neighbours) => neighbours.seen().await,
        None => std::future::pending().await,
    }
}

/// A board of that group, and its addresses in an order that does not change.
fn board(service: &ResolvedService, group: &str) -> Option<(NodeId, Vec<SocketAddr>)> {
    let property = |name| service.txt_properties.get_property_val_str(name);
    if property(GROUP)? != group {
        return None;
    }
    let node = property(BOARD)?.parse().ok()?;
    let ips = service.addresses.iter().map(mdns_sd::ScopedIp::to_ip_addr);
    let ips: BTreeSet<_> = ips.filter(|ip| !is_link_local(*ip)).collect();
    let addresses = ips.into_iter().map(|ip| SocketAddr::new(ip, service.port));
    Some((node, addresses.take(ADDRESSES_MAX).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(properties: &[(&str, &str)]) -> ResolvedService {
        let ips = "192.0.2.7,10.0.0.7,169.254.1.1";
        let info = ServiceInfo::new(SERVICE, "x", "x.local.", ips, 4_002, properties).unwrap();
        info.as_resolved_service()
    }

    #[test]
    fn only_boards_of_the_group_are_seen_and_only_where_they_can_be_called() {
        let own = service(&[(GROUP, "00c0ffee"), (BOARD, "7")]);
        let addresses = ["10.0.0.7:4002", "192.0.2.7:4002"].map(|text| text.parse().unwrap());
        assert_eq!(board(&own, "00c0ffee"), Some((7, addresses.to_vec())));
        assert_eq!(board(&own, "00c0ffef"), None);
        assert_eq!(board(&service(&[(GROUP, "00c0ffee"), (BOARD, "x")]), "00c0ffee"), None);
        assert_eq!(board(&service(&[]), "00c0ffee"), None);
    }
}
