//! When a member was heard and by which road, and whether it is posted to for that: what
//! [`super::road`] decides by, without sockets.
//!
//! Where there are both roads a member is posted to as long as UDP brings nothing from it, or
//! it says by an empty post that UDP brings it nothing from here: that word is not sealed and
//! can bring about no more than posts. What comes by post says nothing of UDP.

use std::net::SocketAddr;

use understudy_core::{event::Millis, mutant};

use crate::address::Address;

/// Which roads there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Transport {
    /// UDP alone.
    #[default]
    Udp,
    /// MQTT alone.
    Mqtt,
    /// UDP, and MQTT where that brings nothing.
    Both,
}

/// See the module's description.
#[derive(Clone, Copy, Debug, Default)]
pub struct Heard {
    /// The last word, by whatever road.
    last: Option<(Address, Millis)>,
    by_udp: Option<(SocketAddr, Millis)>,
    /// When it said that UDP brings it nothing from here.
    deaf: Option<Millis>,
    /// When it was told that itself.
    told: Option<Millis>,
}

impl Heard {
    /// An authenticated datagram of it came from there.
    pub fn note(&mut self, now: Millis, source: Address) {
        self.last = Some((source, now));
        if let Address::Udp(address) = source {
            self.by_udp = Some((address, now));
        } else if let Some((_, at)) = self.by_udp.as_mut().filter(|_| mutant::is(134)) {
            *at = now;
        }
    }

    /// Is what goes to it posted, where it may be silent by UDP for `patience_ms`?
    #[must_use]
    pub fn is_posted_to(&self, transport: Transport, now: Millis, patience_ms: u64) -> bool {
        let transport = if mutant::is(133) { Transport::Both } else { transport };
        match transport {
            Transport::Udp => false,
            // What others send by UDP says nothing of what this board sends.
            Transport::Mqtt => true,
            Transport::Both if mutant::is(132) => self.by_udp.is_none(),
            Transport::Both => {
                !self.is_heard_by_udp(now, patience_ms) || self.is_deaf(now, patience_ms)
            }
        }
    }

    fn is_heard_by_udp(&self, now: Millis, patience_ms: u64) -> bool {
        self.udp_silent_ms(now).is_some_and(|ms| ms <= patience_ms)
    }

    /// Does it say that UDP brings it nothing from here?
    #[must_use]
    pub fn is_deaf(&self, now: Millis, patience_ms: u64) -> bool {
        self.deaf.is_some_and(|at| now.since(at) <= 2 * patience_ms)
    }

    /// It says so.
    pub const fn note_deaf(&mut self, now: Millis) {
        self.deaf = Some(now);
    }

    /// Is it to be told that UDP brings nothing from it? Counts as done then.
    pub fn is_to_be_told(&mut self, transport: Transport, now: Millis, patience_ms: u64) -> bool {
        let is_told = self.told.is_some_and(|at| now.since(at) <= patience_ms / 2);
        let is_so = transport == Transport::Both && !self.is_heard_by_udp(now, patience_ms);
        if is_so && !is_told {
            self.told = Some(now);
        }
        is_so && !is_told
    }

    /// Where it was last, by whatever road.
    #[must_use]
    pub fn source(&self) -> Option<Address> {
        self.last.map(|(source, _)| source)
    }

    /// Where it was last by UDP.
    #[must_use]
    pub fn address(&self) -> Option<SocketAddr> {
        self.by_udp.map(|(address, _)| address)
    }

    /// For so long it has been silent on every road, milliseconds; nothing where it never
    /// was heard.
    #[must_use]
    pub fn silent_ms(&self, now: Millis) -> Option<u64> {
        self.last.map(|(_, at)| now.since(at))
    }

    /// And by UDP.
    #[must_use]
    pub fn udp_silent_ms(&self, now: Millis) -> Option<u64> {
        self.by_udp.map(|(_, at)| now.since(at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::address::Mailbox;

    #[test]
    fn a_member_is_posted_to_while_udp_brings_nothing_from_it() {
        let udp: Address = SocketAddr::from(([10, 0, 0, 7], 4_002)).into();
        let posts = |heard: &Heard, transport, ms| heard.is_posted_to(transport, Millis(ms), 300);
        let mut heard = Heard::default();
        assert!(posts(&heard, Transport::Both, 1_000), "nothing was heard yet");
        heard.note(Millis(1_000), udp);
        assert!(!posts(&heard, Transport::Both, 1_300));
        assert!(posts(&heard, Transport::Both, 1_301));
        heard.note(Millis(1_301), Address::Mqtt(Mailbox::of(&[7; 32])));
        assert!(posts(&heard, Transport::Both, 1_302), "post says nothing of UDP");
        heard.note(Millis(1_400), udp);
        assert!(!posts(&heard, Transport::Both, 1_400));
        assert!(posts(&heard, Transport::Mqtt, 1_400), "and UDP nothing of post");
        assert!(!posts(&Heard::default(), Transport::Udp, 1_400));
        heard.note_deaf(Millis(1_400));
        assert!(posts(&heard, Transport::Both, 1_500), "it hears nothing by UDP");
        heard.note(Millis(2_001), udp);
        assert!(!posts(&heard, Transport::Both, 2_001), "it says so no longer");
        let mut tells = |ms| heard.is_to_be_told(Transport::Both, Millis(ms), 300);
        assert_eq!([2_301, 2_302, 2_452, 2_453].map(&mut tells), [false, true, false, true]);
        heard.note(Millis(1_400), udp);
        assert_eq!((heard.source(), heard.silent_ms(Millis(1_500))), (Some(udp), Some(100)));
    }
}
