//! Datagram work between two boards: frames in, payloads out, and back.
//!
//! A frame that fits a payload goes at once and is forgotten; several for one
//! peer share a payload when they are handed over together. A larger one goes in
//! fragments (`send`, `receive`): repeated selectively until the peer has them
//! all, paced by what the road takes, delivered once, in order among each other.
//! Small frames do not wait for large ones, so heartbeats pass.
//!
//! Invariants: nothing here grows beyond [`crate::limits`]; a peer's bytes can be
//! rejected, never crash a node; a frame the very same as one under way is not
//! sent twice, so Raft may repeat itself.
//!
//! Left out: privacy and authenticity (the seal around every payload), and
//! certainty: a frame may be given up, and whoever needs it sends it again.

use alloc::{boxed::Box, collections::BTreeMap, vec::Vec};

use crate::{
    error::Rejection,
    event::{Millis, NodeId},
    limits::{
        FRAME_BYTES_MAX, LINKS_MAX, PAYLOAD_BYTES_MAX, REASSEMBLY_BYTES_MAX, SENDING_BYTES_MAX,
    },
};

mod bitmap;
mod epochs;
mod layout;
pub(crate) mod pace;
mod receive;
mod send;

use layout::{Acknowledgement, Fragment, PACK_ITEM_BYTES, Payload, SINGLE_BYTES_MAX};
use receive::Receiver;
use send::{Sender, Taken};

/// Payloads to be sealed and sent, in order.
type Outgoing = Vec<(NodeId, Vec<u8>)>;

/// What all links of a node did since it started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LinkCounters {
    /// Frames handed over for sending.
    pub frames_sent: u64,
    /// Frames received whole.
    pub frames_received: u64,
    /// Frames not sent because the very same was under way.
    pub frames_repeated: u64,
    /// Frames not sent because too much was under way already.
    pub frames_refused: u64,
    /// Frames not sent because they are larger than a frame may be.
    pub frames_too_large: u64,
    /// Frames no longer sent because the peer was silent too long.
    pub frames_given_up: u64,
    /// Fragments sent, repeated ones too.
    pub fragments_sent: u64,
    /// Of those, repeated ones.
    pub fragments_resent: u64,
    /// Fragments found lost by what arrived after them.
    pub fragments_lost: u64,
    /// Fragments received, repeated ones too.
    pub fragments_received: u64,
    /// Of those, ones that were here already.
    pub fragments_duplicate: u64,
    /// Acknowledgements sent.
    pub acknowledgements_sent: u64,
    /// Acknowledgements received.
    pub acknowledgements_received: u64,
    /// Fragments and acknowledgements dropped because newer ones came before.
    pub stale: u64,
    /// Fragments dropped because there was no room for their frame.
    pub arrivals_without_room: u64,
    /// Frames partly received that were given up.
    pub arrivals_given_up: u64,
    /// Frames received whose checksum was wrong; they are received anew.
    pub arrivals_damaged: u64,
}

/// All peers of a node.
pub struct Links {
    seed: u64,
    epochs_given: u64,
    links: BTreeMap<NodeId, Link>,
    counters: LinkCounters,
}

/// One peer.
struct Link {
    epoch: u32,
    /// Small frames of this drain, together at most one payload.
    waiting: Vec<Vec<u8>>,
    waiting_bytes: usize,
    sender: Option<Box<Sender>>,
    receiver: Option<Box<Receiver>>,
    used: Millis,
}

impl Links {
    /// Links of a node that remembers nothing; `seed` differs from start to start.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let counters = LinkCounters::default();
        Self { seed, epochs_given: 0, links: BTreeMap::new(), counters }
    }

    /// Takes a frame for `to`. A small one leaves with [`Links::flush`] at the
    /// latest; of a large one what may leave now. Nothing is promised: a frame may
    /// be refused, given up or lost, and is counted then.
    ///
    /// # Panics
    /// On an empty frame.
    pub fn send(
        &mut self,
        now: Millis,
        to: NodeId,
        frame: Vec<u8>,
        out: &mut Vec<(NodeId, Vec<u8>)>,
    ) {
        assert!(!frame.is_empty(), "a frame has its version at least");
        self.counters.frames_sent += 1;
        if frame.len() > FRAME_BYTES_MAX {
            self.counters.frames_too_large += 1;
        } else if frame.len() > SINGLE_BYTES_MAX {
            self.send_large(now, to, frame, out);
        } else {
            self.link(now, to).pack(to, frame, out);
        }
    }

    fn send_large(&mut self, now: Millis, to: NodeId, frame: Vec<u8>, out: &mut Outgoing) {
        let held: usize = self.senders().map(Sender::bytes).sum();
        let room = SENDING_BYTES_MAX.saturating_sub(held);
        let link = self.link(now, to);
        link.flush(to, out);
        let epoch = link.epoch;
        let sender = link.sender.get_or_insert_with(|| Box::new(Sender::new(epoch, now)));
        let taken = sender.take(now, frame, room);
        match taken {
            Taken::Sending => {}
            Taken::Repeated => self.counters.frames_repeated += 1,
            Taken::Refused => self.counters.frames_refused += 1,
        }
        self.pump(now, to, out);
    }

    fn pump(&mut self, now: Millis, to: NodeId, out: &mut Outgoing) {
        let sender = self.links.get_mut(&to).and_then(|link| link.sender.as_mut());
        if let Some(sender) = sender {
            sender.pump(now, to, out, &mut self.counters);
        }
    }

    /// Takes a payload from an authenticated peer; gives the frames it completes,
    /// in order.
    ///
    /// # Errors
    /// When the payload is none, or contradicts what the peer sent before.
    pub fn receive(
        &mut self,
        now: Millis,
        from: NodeId,
        payload: &[u8],
        out: &mut Vec<(NodeId, Vec<u8>)>,
    ) -> Result<Vec<Vec<u8>>, Rejection> {
        let frames = match layout::parse(payload)? {
            Payload::Frames(frames) => frames,
            Payload::Fragment(fragment) => self.on_fragment(now, from, &fragment, out)?,
            Payload::Acknowledgement(acknowledgement) => {
                self.on_acknowledgement(now, from, &acknowledgement, out)?;
                Vec::new()
            }
        };
        self.counters.frames_received += frames.len() as u64;
        Ok(frames)
    }

    fn on_fragment(
        &mut self,
        now: Millis,
        from: NodeId,
        fragment: &Fragment<'_>,
        out: &mut Outgoing,
    ) -> Result<Vec<Vec<u8>>, Rejection> {
        self.counters.fragments_received += 1;
        let link = self.link(now, from);
        let receiver = link.receiver.get_or_insert_with(|| Box::new(Receiver::new(now)));
        let begins = receiver.begins(fragment);
        let room = if begins { self.make_room(now, fragment.frame_bytes) } else { 0 };
        let mut frames = Vec::new();
        if let Some(link) = self.links.get_mut(&from)
            && let Some(receiver) = &mut link.receiver
        {
            receiver.take(now, fragment, room, &mut frames, &mut self.counters)?;
            if let Some(payload) = receiver.acknowledgement(now, link.epoch) {
                self.counters.acknowledgements_sent += 1;
                out.push((from, payload));
            }
        }
        Ok(frames)
    }

    /// Bytes free for reassembly, after idle peers gave theirs up where `wanted`
    /// bytes are not.
    fn make_room(&mut self, now: Millis, wanted: usize) -> usize {
        let mut free = REASSEMBLY_BYTES_MAX.saturating_sub(self.reassembly_bytes());
        for receiver in self.links.values_mut().filter_map(|link| link.receiver.as_mut()) {
            if free < wanted && receiver.is_idle(now) {
                free += receiver.bytes();
                self.counters.arrivals_given_up += receiver.give_up() as u64;
            }
        }
        free
    }

    fn on_acknowledgement(
        &mut self,
        now: Millis,
        from: NodeId,
        acknowledgement: &Acknowledgement<'_>,
        out: &mut Outgoing,
    ) -> Result<(), Rejection> {
        self.counters.acknowledgements_received += 1;
        let sender = self.links.get_mut(&from).and_then(|link| link.sender.as_mut());
        let Some(sender) = sender else {
            self.counters.stale += 1;
            return Ok(());
        };
        let result = sender.acknowledged(now, acknowledgement, &mut self.counters);
        sender.pump(now, from, out, &mut self.counters);
        result
    }

    /// Sends the small frames that wait: called at the end of every drain.
    pub fn flush(&mut self, out: &mut Vec<(NodeId, Vec<u8>)>) {
        for (to, link) in &mut self.links {
            link.flush(*to, out);
        }
    }

    /// Whatever time alone brings: acknowledgements, fragments sent again or held
    /// back until now, and what is given up.
    pub fn tick(&mut self, now: Millis, out: &mut Vec<(NodeId, Vec<u8>)>) {
        let counters = &mut self.counters;
        for (peer, link) in &mut self.links {
            if let Some(sender) = &mut link.sender {
                sender.tick(now, *peer, out, counters);
            }
            if let Some(receiver) = &mut link.receiver {
                receiver.tick(now, counters);
                if let Some(payload) = receiver.acknowledgement(now, link.epoch) {
                    counters.acknowledgements_sent += 1;
                    out.push((*peer, payload));
                }
            }
        }
    }

    /// When [`Links::tick`] has something to do; never before the `now` it was
    /// last called with.
    #[must_use]
    pub fn deadline(&self) -> Option<Millis> {
        let of_link = |link: &Link| {
            let sender = link.sender.as_ref().and_then(|sender| sender.deadline());
            let receiver = link.receiver.as_ref().and_then(|receiver| receiver.deadline());
            [sender, receiver].into_iter().flatten().min()
        };
        self.links.values().filter_map(of_link).min()
    }

    /// Drops all that is known of a peer, and all that was on its way to it.
    pub fn forget(&mut self, peer: NodeId) {
        self.links.remove(&peer);
    }

    /// What all links did since the start.
    #[must_use]
    pub const fn counters(&self) -> LinkCounters {
        self.counters
    }

    /// When a large frame on its way to a peer was last seen to get on.
    #[must_use]
    pub fn progressed(&self, peer: NodeId) -> Option<Millis> {
        self.links.get(&peer)?.sender.as_ref()?.progressed()
    }

    /// Bytes reserved for frames partly received, at most [`REASSEMBLY_BYTES_MAX`].
    #[must_use]
    pub fn reassembly_bytes(&self) -> usize {
        let receivers = self.links.values().filter_map(|link| link.receiver.as_ref());
        receivers.map(|receiver| receiver.bytes()).sum()
    }

    fn senders(&self) -> impl Iterator<Item = &Sender> {
        self.links.values().filter_map(|link| link.sender.as_deref())
    }

    fn link(&mut self, now: Millis, peer: NodeId) -> &mut Link {
        if !self.links.contains_key(&peer) {
            self.make_link(now, peer);
        }
        let link = self.links.get_mut(&peer).expect("it was made where there was none");
        link.used = now;
        link
    }

    fn make_link(&mut self, now: Millis, peer: NodeId) {
        if self.links.len() == LINKS_MAX {
            let unused = self.links.iter().min_by_key(|(_, link)| link.used);
            let unused = unused.map(|(peer, _)| *peer).expect("there are links");
            self.links.remove(&unused);
        }
        let mut seed = [0; 16];
        seed[..8].copy_from_slice(&self.seed.to_le_bytes());
        seed[8..].copy_from_slice(&self.epochs_given.to_le_bytes());
        self.epochs_given += 1;
        let link = Link {
            // A checksum of 32 bits differs whenever its input does within 32 bits:
            // neither the next start nor the next link has this epoch.
            epoch: crc32c::crc32c(&seed),
            waiting: Vec::new(),
            waiting_bytes: 0,
            sender: None,
            receiver: None,
            used: now,
        };
        self.links.insert(peer, link);
    }
}

impl Link {
    fn pack(&mut self, to: NodeId, frame: Vec<u8>, out: &mut Outgoing) {
        let bytes = PACK_ITEM_BYTES + frame.len();
        if 1 + self.waiting_bytes + bytes > PAYLOAD_BYTES_MAX {
            self.flush(to, out);
        }
        self.waiting_bytes += bytes;
        self.waiting.push(frame);
    }

    fn flush(&mut self, to: NodeId, out: &mut Outgoing) {
        if !self.waiting.is_empty() {
            out.push((to, layout::frames(&self.waiting)));
            self.waiting.clear();
            self.waiting_bytes = 0;
        }
    }
}

#[cfg(test)]
mod tests;
