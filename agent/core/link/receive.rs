//! The receiving half: partial frames, and what is acknowledged of them.

use alloc::{
    collections::{BTreeMap, VecDeque},
    vec::Vec,
};

use heapless::Vec as FixedVec;

use super::{ACK, BITMAP_BYTES, Head, Out};
use crate::{
    error::Rejection,
    event::{Millis, NodeId},
    limits::{FRAGMENT_BYTES, FRAGMENTS_MAX, FRAME_BYTES_MAX, REASSEMBLY_BYTES_MAX},
};

/// Every so many fragments are acknowledged, and whatever looks like a loss.
const ACK_EVERY: usize = 8;

/// Transfers remembered as delivered.
const DELIVERED_MAX: usize = 8;

/// A partial frame that got nothing for so long is let go, milliseconds.
const EXPIRE_MS: u64 = 60_000;

/// Partial frames of one peer.
const PARTIAL_MAX: usize = 2;

/// Boot and number of a transfer, by its sender.
type TransferId = (u8, u32);

#[derive(Default)]
pub(super) struct Inbound {
    partial: BTreeMap<TransferId, Partial>,
    delivered: VecDeque<(TransferId, usize)>,
}

struct Partial {
    frame: Vec<u8>,
    crc: u32,
    fragments: usize,
    received: FixedVec<u8, { FRAGMENTS_MAX.div_ceil(8) }>,
    /// Everything below is here.
    base: usize,
    count: usize,
    touched: Millis,
}

impl Inbound {
    /// A fragment arrives; the frame, when this was its last missing one.
    pub(super) fn fragment(
        &mut self,
        now: Millis,
        from: NodeId,
        bytes: &[u8],
        pool_bytes: &mut usize,
        out: &mut Out,
    ) -> Result<Option<Vec<u8>>, Rejection> {
        let (head, data) = Head::read(bytes)?;
        let id = (head.epoch, head.transfer);
        if let Some((_, fragments)) = self.delivered.iter().find(|(known, _)| *known == id) {
            out.push((from, acknowledgement(id, *fragments, &[])));
            return Ok(None);
        }
        if !self.partial.contains_key(&id) {
            self.begin(now, id, &head, pool_bytes)?;
        }
        let partial = self.partial.get_mut(&id).ok_or(Rejection::TooLarge)?;
        let is_news = partial.put(now, &head, data)?;
        if partial.count < partial.fragments {
            let last = usize::from(head.index) + 1 == partial.fragments;
            if !is_news || last || partial.count.is_multiple_of(ACK_EVERY) {
                out.push((from, partial.acknowledgement(id)));
            }
            return Ok(None);
        }
        let partial = self.partial.remove(&id).expect("just seen");
        *pool_bytes -= partial.frame.len();
        if crc32c::crc32c(&partial.frame) != partial.crc {
            return Err(Rejection::Malformed);
        }
        out.push((from, acknowledgement(id, partial.fragments, &[])));
        self.delivered.push_back((id, partial.fragments));
        if self.delivered.len() > DELIVERED_MAX {
            self.delivered.pop_front();
        }
        Ok(Some(partial.frame))
    }

    fn begin(
        &mut self,
        now: Millis,
        id: TransferId,
        head: &Head,
        pool_bytes: &mut usize,
    ) -> Result<(), Rejection> {
        let bytes = usize::try_from(head.frame_bytes).map_err(|_| Rejection::TooLarge)?;
        if bytes > FRAME_BYTES_MAX || bytes == 0 {
            return Err(Rejection::TooLarge);
        }
        // A sender has one transfer under way: an older one of it is dead.
        while self.partial.len() >= PARTIAL_MAX {
            let oldest = self.partial.iter().min_by_key(|(_, partial)| partial.touched);
            let oldest = *oldest.expect("not empty").0;
            self.let_go(oldest, pool_bytes);
        }
        if *pool_bytes + bytes > REASSEMBLY_BYTES_MAX {
            return Err(Rejection::TooLarge);
        }
        *pool_bytes += bytes;
        let fragments = bytes.div_ceil(FRAGMENT_BYTES);
        let mut received = FixedVec::new();
        received.resize(fragments.div_ceil(8), 0).expect("within the largest frame");
        let frame = alloc::vec![0; bytes];
        let crc = head.frame_crc;
        let partial = Partial { frame, crc, fragments, received, base: 0, count: 0, touched: now };
        self.partial.insert(id, partial);
        Ok(())
    }

    fn let_go(&mut self, id: TransferId, pool_bytes: &mut usize) {
        if let Some(partial) = self.partial.remove(&id) {
            *pool_bytes -= partial.frame.len();
        }
    }

    pub(super) fn expire(&mut self, now: Millis, pool_bytes: &mut usize) {
        let stale = |partial: &Partial| now.since(partial.touched) >= EXPIRE_MS;
        let ids: Vec<_> =
            self.partial.iter().filter(|(_, partial)| stale(partial)).map(|(id, _)| *id).collect();
        for id in ids {
            self.let_go(id, pool_bytes);
        }
    }

    pub(super) fn bytes(&self) -> usize {
        self.partial.values().map(|partial| partial.frame.len()).sum()
    }
}

impl Partial {
    /// Puts a fragment in its place; true when it was missing.
    fn put(&mut self, now: Millis, head: &Head, data: &[u8]) -> Result<bool, Rejection> {
        let index = usize::from(head.index);
        let start = index * FRAGMENT_BYTES;
        let end = self.frame.len().min(start.saturating_add(FRAGMENT_BYTES));
        let fits = index < self.fragments
            && data.len() == end - start
            && head.frame_crc == self.crc
            && usize::try_from(head.frame_bytes) == Ok(self.frame.len());
        if !fits {
            return Err(Rejection::Malformed);
        }
        self.touched = now;
        let bit = 1 << (index % 8);
        if self.received[index / 8] & bit != 0 {
            return Ok(false);
        }
        self.received[index / 8] |= bit;
        self.frame[start..end].copy_from_slice(data);
        self.count += 1;
        while self.base < self.fragments && self.has(self.base) {
            self.base += 1;
        }
        Ok(true)
    }

    fn has(&self, index: usize) -> bool {
        self.received[index / 8] & (1 << (index % 8)) != 0
    }

    fn acknowledgement(&self, id: TransferId) -> Vec<u8> {
        let mut bitmap = [0; BITMAP_BYTES];
        let end = self.fragments.min(self.base + 8 * BITMAP_BYTES);
        for index in (self.base..end).filter(|index| self.has(*index)) {
            let bit = index - self.base;
            bitmap[bit / 8] |= 1 << (bit % 8);
        }
        let used = bitmap.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        acknowledgement(id, self.base, &bitmap[..used])
    }
}

fn acknowledgement((epoch, transfer): TransferId, base: usize, bitmap: &[u8]) -> Vec<u8> {
    let mut payload = Vec::from([ACK, epoch]);
    payload.extend(transfer.to_le_bytes());
    payload.extend(u16::try_from(base).expect("below the bound on fragments").to_le_bytes());
    payload.extend(bitmap);
    payload
}
