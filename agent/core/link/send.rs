//! The sending half: one transfer to a peer at a time, a few behind it.

use alloc::{collections::VecDeque, vec::Vec};

use heapless::Vec as FixedVec;

use super::{BITMAP_BYTES, Head, Out};
use crate::{
    error::Rejection,
    event::{Millis, NodeId},
    limits::{APPENDS_IN_FLIGHT_MAX, FRAGMENT_BYTES, FRAGMENTS_MAX, FRAME_BYTES_MAX},
};

/// Fragments under way: at least, at first, at most.
const WINDOW_MIN: usize = 8;
const WINDOW_START: usize = 32;
pub(super) const WINDOW_MAX: usize = 256;

/// Transfers to one peer, the present one included, and their bytes; Raft repeats
/// what is beyond.
const TRANSFERS_MAX: usize = APPENDS_IN_FLIGHT_MAX + 4;
const TRANSFERS_BYTES_MAX: usize = 2 * FRAME_BYTES_MAX;

/// Without an acknowledgement for so long the missing is sent again, milliseconds.
const REPEAT_MS_MIN: u64 = 40;
const REPEAT_MS_MAX: u64 = 2_000;

/// A transfer without any progress for so long is given up.
const GIVE_UP_MS: u64 = 30_000;

#[derive(Default)]
pub(super) struct Outbound {
    transfers: VecDeque<Transfer>,
    next_transfer: u32,
    window: usize,
}

struct Transfer {
    number: u32,
    frame: Vec<u8>,
    crc: u32,
    fragments: usize,
    /// One bit a fragment.
    acknowledged: FixedVec<u8, { FRAGMENTS_MAX.div_ceil(8) }>,
    /// Everything below is acknowledged.
    base: usize,
    /// Everything from here on was never sent.
    next: usize,
    under_way: usize,
    sent: Millis,
    progress: Option<Millis>,
    repeat_ms: u64,
}

impl Outbound {
    /// Queues a frame, unless the same is on its way already or too many are.
    pub(super) fn start(&mut self, frame: Vec<u8>) {
        let crc = crc32c::crc32c(&frame);
        let fragments = frame.len().div_ceil(FRAGMENT_BYTES);
        let same = |known: &Transfer| known.crc == crc && known.frame.len() == frame.len();
        let bytes: usize = self.transfers.iter().map(|transfer| transfer.frame.len()).sum();
        let full =
            self.transfers.len() >= TRANSFERS_MAX || bytes + frame.len() > TRANSFERS_BYTES_MAX;
        if full || fragments > FRAGMENTS_MAX || self.transfers.iter().any(same) {
            return;
        }
        let mut acknowledged = FixedVec::new();
        acknowledged.resize(fragments.div_ceil(8), 0).expect("as many as the largest frame has");
        self.window = self.window.max(WINDOW_START);
        self.next_transfer = self.next_transfer.wrapping_add(1);
        self.transfers.push_back(Transfer {
            number: self.next_transfer,
            frame,
            crc,
            fragments,
            acknowledged,
            base: 0,
            next: 0,
            under_way: 0,
            sent: Millis(0),
            progress: None,
            repeat_ms: REPEAT_MS_MIN,
        });
    }

    /// Sends what the window has room for.
    pub(super) fn advance(&mut self, now: Millis, epoch: u8, to: NodeId, out: &mut Out) {
        let Some(transfer) = self.transfers.front_mut() else { return };
        transfer.progress.get_or_insert(now);
        let end = transfer.fragments.min(transfer.base + WINDOW_MAX);
        while transfer.next < end && transfer.under_way < self.window {
            out.push((to, transfer.payload(epoch, transfer.next)));
            transfer.next += 1;
            transfer.under_way += 1;
            transfer.sent = now;
        }
    }

    /// The peer has told what it has.
    pub(super) fn acknowledged(
        &mut self,
        now: Millis,
        epoch: u8,
        bytes: &[u8],
    ) -> Result<(), Rejection> {
        let (head, bitmap) = bytes.split_first_chunk::<7>().ok_or(Rejection::Malformed)?;
        let number = u32::from_le_bytes([head[1], head[2], head[3], head[4]]);
        let base = usize::from(u16::from_le_bytes([head[5], head[6]]));
        let ours = head[0] == epoch;
        let Some(transfer) = self.transfers.front_mut().filter(|t| ours && t.number == number)
        else {
            return Ok(());
        };
        if base > transfer.fragments || bitmap.len() > BITMAP_BYTES {
            return Err(Rejection::Malformed);
        }
        let news = transfer.mark(base, bitmap);
        if news > 0 {
            transfer.progress = Some(now);
            transfer.repeat_ms = REPEAT_MS_MIN.max(2 * now.since(transfer.sent));
            transfer.under_way = transfer.under_way.saturating_sub(news);
            self.window = (self.window + news / 2 + 1).min(WINDOW_MAX);
        }
        if transfer.base == transfer.fragments {
            self.transfers.pop_front();
        }
        Ok(())
    }

    /// Sends what is missing again, after a silence.
    pub(super) fn repeat(&mut self, now: Millis, epoch: u8, to: NodeId, out: &mut Out) {
        let Some(transfer) = self.transfers.front_mut() else { return };
        if transfer.progress.is_some_and(|progress| now.since(progress) >= GIVE_UP_MS) {
            self.transfers.pop_front();
            self.window = WINDOW_START;
            return self.advance(now, epoch, to, out);
        }
        if transfer.next == transfer.base || now.since(transfer.sent) < transfer.repeat_ms {
            return;
        }
        self.window = (self.window / 2).max(WINDOW_MIN);
        transfer.repeat_ms = (2 * transfer.repeat_ms).min(REPEAT_MS_MAX);
        transfer.sent = now;
        let missing = (transfer.base..transfer.next).filter(|index| !transfer.has(*index));
        let missing: Vec<usize> = missing.take(self.window).collect();
        transfer.under_way = missing.len();
        out.extend(missing.into_iter().map(|index| (to, transfer.payload(epoch, index))));
    }

    pub(super) fn deadline(&self) -> Option<Millis> {
        let transfer = self.transfers.front()?;
        Some(transfer.sent.plus(transfer.repeat_ms))
    }
}

impl Transfer {
    fn payload(&self, epoch: u8, index: usize) -> Vec<u8> {
        let start = index * FRAGMENT_BYTES;
        let end = self.frame.len().min(start + FRAGMENT_BYTES);
        let mut payload = Vec::with_capacity(1 + super::HEAD_BYTES + end - start);
        let head = Head {
            epoch,
            transfer: self.number,
            index: u16::try_from(index).expect("below the bound on fragments"),
            frame_bytes: u32::try_from(self.frame.len()).expect("below the bound on frames"),
            frame_crc: self.crc,
        };
        head.write(&mut payload);
        payload.extend(&self.frame[start..end]);
        payload
    }

    fn has(&self, index: usize) -> bool {
        index < self.base || self.acknowledged[index / 8] & (1 << (index % 8)) != 0
    }

    /// Notes what the peer has: all below `base`, and the bits from there on.
    fn mark(&mut self, base: usize, bitmap: &[u8]) -> usize {
        let bits = (0..bitmap.len() * 8).filter(|bit| bitmap[bit / 8] & (1 << (bit % 8)) != 0);
        let beyond = bits.map(|bit| base + bit).filter(|index| *index < self.fragments);
        let news: Vec<usize> =
            (self.base..base).chain(beyond).filter(|index| !self.has(*index)).collect();
        for index in &news {
            self.acknowledged[index / 8] |= 1 << (index % 8);
        }
        while self.base < self.fragments
            && self.acknowledged[self.base / 8] & (1 << (self.base % 8)) != 0
        {
            self.base += 1;
        }
        news.len()
    }
}
