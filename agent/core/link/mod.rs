//! Frames over datagrams, between two nodes.
//!
//! A small frame travels alone or packed with others, fire and forget: Raft
//! repeats what matters. A frame too large for one payload is cut into fragments
//! that are acknowledged by a bitmap and sent again where they are missing, a
//! window at a time; without it an 8 MB entry would never cross a lossy road. A
//! frame already on its way to a peer is not started again when Raft repeats it.
//!
//! Invariants: a frame is delivered whole (length and CRC32C fit) or not at all;
//! a transfer is delivered once; all partial frames of a node share one bounded
//! pool; nothing a peer sends makes this node allocate beyond it.
//!
//! Left out: authentication and replay (the seal), order between frames (Raft).

use alloc::{collections::BTreeMap, vec::Vec};

use crate::{
    error::Rejection,
    event::{Millis, NodeId},
    limits::PAYLOAD_BYTES_MAX,
};

mod receive;
mod send;

use receive::Inbound;
use send::Outbound;

const SMALL: u8 = 0;
const FRAGMENT: u8 = 1;
const ACK: u8 = 2;

/// Longest length prefix of a packed frame, bytes.
const PREFIX_BYTES_MAX: usize = 2;

/// Bytes of an acknowledgement's bitmap: the largest window, one bit a fragment.
const BITMAP_BYTES: usize = send::WINDOW_MAX / 8;

/// All links of a node.
pub struct Links {
    /// Tells the transfers of this boot from those before.
    epoch: u8,
    peers: BTreeMap<NodeId, Link>,
    /// Bytes held by partial frames of all peers.
    pool_bytes: usize,
}

#[derive(Default)]
struct Link {
    packed: Vec<u8>,
    outbound: Outbound,
    inbound: Inbound,
}

/// Where payloads to be sent are put.
type Out = Vec<(NodeId, Vec<u8>)>;

impl Links {
    /// Links of a node whose boots have different seeds.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self { epoch: seed.to_le_bytes()[0], peers: BTreeMap::new(), pool_bytes: 0 }
    }

    /// Sends a frame: at once, with the next flush, or fragment by fragment.
    pub fn send(&mut self, now: Millis, to: NodeId, frame: Vec<u8>, out: &mut Out) {
        let link = self.peers.entry(to).or_default();
        if frame.len() + PREFIX_BYTES_MAX < PAYLOAD_BYTES_MAX {
            link.pack(to, &frame, out);
        } else {
            link.outbound.start(frame);
            link.outbound.advance(now, self.epoch, to, out);
        }
    }

    /// Sends what was packed.
    pub fn flush(&mut self, out: &mut Out) {
        for (to, link) in &mut self.peers {
            link.flush(*to, out);
        }
    }

    /// Takes a payload; the frames it completes.
    ///
    /// # Errors
    /// For bytes that no link writes, or beyond the bounds.
    pub fn receive(
        &mut self,
        now: Millis,
        from: NodeId,
        payload: &[u8],
        out: &mut Out,
    ) -> Result<Vec<Vec<u8>>, Rejection> {
        let link = self.peers.entry(from).or_default();
        let (kind, rest) = payload.split_first().ok_or(Rejection::Malformed)?;
        match *kind {
            SMALL => unpack(rest),
            FRAGMENT => {
                let frame = link.inbound.fragment(now, from, rest, &mut self.pool_bytes, out)?;
                Ok(frame.into_iter().collect())
            }
            ACK => {
                link.outbound.acknowledged(now, self.epoch, rest)?;
                link.outbound.advance(now, self.epoch, from, out);
                Ok(Vec::new())
            }
            _ => Err(Rejection::Malformed),
        }
    }

    /// Sends again what was not acknowledged in time; lets go of frames that will
    /// never be whole.
    pub fn tick(&mut self, now: Millis, out: &mut Out) {
        for (peer, link) in &mut self.peers {
            link.outbound.repeat(now, self.epoch, *peer, out);
            link.inbound.expire(now, &mut self.pool_bytes);
        }
    }

    /// When [`Links::tick`] has something to do next.
    #[must_use]
    pub fn deadline(&self) -> Option<Millis> {
        self.peers.values().filter_map(|link| link.outbound.deadline()).min()
    }

    /// A peer is no longer spoken to.
    pub fn forget(&mut self, peer: NodeId) {
        if let Some(link) = self.peers.remove(&peer) {
            self.pool_bytes -= link.inbound.bytes();
        }
    }
}

impl Link {
    fn pack(&mut self, to: NodeId, frame: &[u8], out: &mut Out) {
        if self.packed.len() + PREFIX_BYTES_MAX + frame.len() > PAYLOAD_BYTES_MAX {
            self.flush(to, out);
        }
        if self.packed.is_empty() {
            self.packed.push(SMALL);
        }
        let length = u16::try_from(frame.len()).expect("below a payload");
        self.packed.extend(length.to_le_bytes());
        self.packed.extend(frame);
    }

    fn flush(&mut self, to: NodeId, out: &mut Out) {
        if !self.packed.is_empty() {
            out.push((to, core::mem::take(&mut self.packed)));
        }
    }
}

fn unpack(mut rest: &[u8]) -> Result<Vec<Vec<u8>>, Rejection> {
    let mut frames = Vec::new();
    while let Some((length, after)) = rest.split_first_chunk() {
        let length = usize::from(u16::from_le_bytes(*length));
        let (frame, after) = after.split_at_checked(length).ok_or(Rejection::Malformed)?;
        frames.push(frame.to_vec());
        rest = after;
    }
    if rest.is_empty() { Ok(frames) } else { Err(Rejection::Malformed) }
}

/// One fragment's head: epoch, transfer, index, length and checksum of the frame.
struct Head {
    epoch: u8,
    transfer: u32,
    index: u16,
    frame_bytes: u32,
    frame_crc: u32,
}

const HEAD_BYTES: usize = 15;
const _: () = assert!(1 + HEAD_BYTES == crate::limits::FRAGMENT_HEADER_BYTES);
const _: () = assert!(crate::limits::FRAGMENTS_MAX <= u16::MAX as usize);

impl Head {
    fn write(&self, payload: &mut Vec<u8>) {
        payload.extend([FRAGMENT, self.epoch]);
        payload.extend(self.transfer.to_le_bytes());
        payload.extend(self.index.to_le_bytes());
        payload.extend(self.frame_bytes.to_le_bytes());
        payload.extend(self.frame_crc.to_le_bytes());
    }

    fn read(bytes: &[u8]) -> Result<(Self, &[u8]), Rejection> {
        let (head, rest) = bytes.split_first_chunk::<HEAD_BYTES>().ok_or(Rejection::Malformed)?;
        let four = |at: usize| [head[at], head[at + 1], head[at + 2], head[at + 3]];
        Ok((
            Self {
                epoch: head[0],
                transfer: u32::from_le_bytes(four(1)),
                index: u16::from_le_bytes([head[5], head[6]]),
                frame_bytes: u32::from_le_bytes(four(7)),
                frame_crc: u32::from_le_bytes(four(11)),
            },
            rest,
        ))
    }
}

#[cfg(test)]
mod tests;
