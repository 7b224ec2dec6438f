//! The roads of a script's group: UDP, unless `transport` says otherwise, and a broker that
//! takes its time, stalls, and goes away. Which of the two a payload takes is decided by the
//! program's own rule.
//!
//! Left out: the seal. What comes by UDP comes sooner than what was posted beside it, which
//! then falls to the seal's window: so it is not handed over here either.

use std::{collections::BTreeMap, net::SocketAddr};

use understudy::{
    address::{Address, Mailbox},
    driver::heard::{Heard, Transport},
};
use understudy_core::event::{Millis, NodeId};

/// What is posted takes so long, milliseconds.
pub(crate) const POST_MS: u64 = 20;

/// A payload, from one node to another.
pub(crate) type Posted = (NodeId, NodeId, Vec<u8>);

/// What a broker does.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Mood {
    #[default]
    Well,
    Stalls,
    Away,
}

/// See the module's description.
#[derive(Default)]
pub(crate) struct Roads {
    transport: Transport,
    broker: Mood,
    waiting: Vec<Posted>,
    /// What the first heard of the second.
    heard: BTreeMap<(NodeId, NodeId), Heard>,
}

impl Roads {
    /// `transport udp`, `mqtt` or `both`; `broker stalls`, `goes-away` with all that waits, or
    /// `goes-on`: what waited comes then.
    pub(crate) fn steer(&mut self, which: &str, what: &str) -> Result<Vec<Posted>, String> {
        match (which, what) {
            ("transport", "udp") => self.transport = Transport::Udp,
            ("transport", "mqtt") => self.transport = Transport::Mqtt,
            ("transport", "both") => self.transport = Transport::Both,
            ("broker", "stalls") => self.broker = Mood::Stalls,
            ("broker", "goes-away") => {
                self.broker = Mood::Away;
                self.waiting.clear();
            }
            ("broker", "goes-on") => {
                self.broker = Mood::Well;
                return Ok(std::mem::take(&mut self.waiting));
            }
            (_, _) => return Err(format!("no {which} is or does {what}")),
        }
        Ok(Vec::new())
    }

    pub(crate) fn has_udp(&self) -> bool {
        self.transport != Transport::Mqtt
    }

    /// What goes from one node to another comes there by UDP at that moment.
    pub(crate) fn comes_by_udp(&mut self, at: Millis, (from, to): (NodeId, NodeId)) {
        let port = u16::try_from(from).unwrap_or(0);
        let source = SocketAddr::from(([127, 0, 0, 1], port)).into();
        self.heard.entry((to, from)).or_default().note(at, source);
    }

    /// Posts what did not go by UDP, where that is posted: what became of it, and the payload
    /// where it passes.
    pub(crate) fn post(
        &mut self,
        now: Millis,
        (from, to): (NodeId, NodeId),
        payload: Vec<u8>,
        patience_ms: u64,
    ) -> (&'static str, Option<Vec<u8>>) {
        let heard = self.heard.get(&(from, to)).copied().unwrap_or_default();
        if !heard.is_posted_to(self.transport, now, patience_ms) {
            return ("(lost)", None);
        }
        match self.broker {
            Mood::Away => ("(lost at the broker)", None),
            Mood::Stalls => {
                self.waiting.push((from, to, payload));
                ("(waits at the broker)", None)
            }
            Mood::Well => {
                let mailbox = Mailbox::of(&[u8::try_from(from).unwrap_or(0); 32]);
                let heard = self.heard.entry((to, from)).or_default();
                heard.note(now.plus(POST_MS), Address::Mqtt(mailbox));
                ("(posted)", Some(payload))
            }
        }
    }

    /// A node starts: it has heard nobody yet.
    pub(crate) fn begin(&mut self, node: NodeId) {
        self.heard.retain(|(by, _), _| *by != node);
    }
}
