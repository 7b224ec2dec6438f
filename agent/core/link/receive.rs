//! Frames above one payload on their way here from one peer: pieces into
//! frames, each delivered once, in the order they were sent.
//!
//! A frame that is complete waits for those before it: an append that overtook
//! another would be refused by Raft and cost the whole pipeline. The sender says
//! with every fragment which its oldest frame is, so nothing is waited for that
//! was given up.
//!
//! Invariants: a transfer below `next` is settled for good; a peer's frames take
//! at most [`FRAME_BYTES_MAX`] together, reserved whole when the first piece
//! comes.

use alloc::{collections::BTreeMap, vec::Vec};

use super::{
    LinkCounters,
    bitmap::Bitmap,
    epochs::{Epochs, Met},
    layout::{self, Acknowledgement, Fragment},
};
use crate::{
    error::Rejection,
    event::Millis,
    limits::{
        ACKNOWLEDGE_FRAGMENTS_MAX, ACKNOWLEDGE_MS_MAX, ARRIVAL_IDLE_MS, ARRIVAL_MS_MAX,
        FRAME_BYTES_MAX, FRAME_CHECK_BYTES, TRANSFERS_MAX,
    },
};

struct Arrival {
    /// Frame and checksum, as far as the furthest piece that came.
    bytes: Vec<u8>,
    frame_bytes: usize,
    received: Bitmap,
}

impl Arrival {
    /// `None` when there is no memory for it.
    fn new(frame_bytes: usize) -> Option<Self> {
        let mut bytes = Vec::new();
        bytes.try_reserve_exact(frame_bytes + FRAME_CHECK_BYTES).ok()?;
        let received = Bitmap::empty(layout::pieces(frame_bytes));
        Some(Self { bytes, frame_bytes, received })
    }

    fn put(&mut self, number: u16, piece: &[u8]) {
        let range = layout::range(self.frame_bytes, number);
        if self.bytes.len() == range.start {
            self.bytes.extend_from_slice(piece);
        } else {
            if self.bytes.len() < range.end {
                self.bytes.resize(range.end, 0);
            }
            self.bytes[range].copy_from_slice(piece);
        }
        self.received.set(number);
    }

    fn is_intact(&self) -> bool {
        let (frame, check) = self.bytes.split_at(self.frame_bytes);
        check == crc32c::crc32c(frame).to_le_bytes()
    }

    fn into_frame(mut self) -> Vec<u8> {
        self.bytes.truncate(self.frame_bytes);
        self.bytes
    }
}

/// Everything large that comes from one peer.
pub(super) struct Receiver {
    epochs: Epochs,
    /// All transfers below are delivered or given up.
    next: u32,
    arrivals: BTreeMap<u32, Arrival>,
    bytes: usize,
    /// Highest sequence that came, and when.
    newest: (u32, Millis),
    counter: u32,
    unacknowledged: usize,
    due: Option<Millis>,
    touched: Millis,
}

impl Receiver {
    pub(super) fn new(now: Millis) -> Self {
        Self {
            epochs: Epochs::default(),
            next: 0,
            arrivals: BTreeMap::new(),
            bytes: 0,
            newest: (0, now),
            counter: 0,
            unacknowledged: 0,
            due: None,
            touched: now,
        }
    }

    /// Bytes reserved.
    pub(super) const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Would this fragment begin a frame?
    pub(super) fn begins(&self, fragment: &Fragment<'_>) -> bool {
        self.epochs.present() != Some(fragment.epoch)
            || (fragment.transfer >= self.next && !self.arrivals.contains_key(&fragment.transfer))
    }

    /// Holds it something that nothing came of for a while?
    pub(super) fn is_idle(&self, now: Millis) -> bool {
        self.bytes > 0 && now.since(self.touched) >= ARRIVAL_IDLE_MS
    }

    /// Lets go of all that is not delivered yet; its sender hears of that with
    /// the next acknowledgement. How many frames.
    pub(super) fn give_up(&mut self) -> usize {
        let count = self.arrivals.len();
        self.arrivals.clear();
        self.bytes = 0;
        count
    }

    /// Takes a fragment; what it completes is added to `frames`. All peers'
    /// frames may grow by `room` bytes.
    ///
    /// # Errors
    /// [`Rejection::Malformed`] when it contradicts what came before.
    pub(super) fn take(
        &mut self,
        now: Millis,
        fragment: &Fragment<'_>,
        room: usize,
        frames: &mut Vec<Vec<u8>>,
        counters: &mut LinkCounters,
    ) -> Result<(), Rejection> {
        match self.epochs.meet(fragment.epoch) {
            Met::Present => {}
            Met::Past => {
                counters.stale += 1;
                return Ok(());
            }
            Met::New => {
                self.give_up();
                self.next = 0;
                self.newest = (fragment.sequence, now);
            }
        }
        self.skip_to(fragment.transfer - u32::from(fragment.behind), counters);
        if self.put(now, fragment, room, counters)? {
            self.note(now, fragment);
        }
        self.deliver(now, frames);
        Ok(())
    }

    /// The peer holds nothing below `oldest` any more.
    fn skip_to(&mut self, oldest: u32, counters: &mut LinkCounters) {
        self.next = self.next.max(oldest);
        while let Some(entry) = self.arrivals.first_entry().filter(|entry| *entry.key() < oldest) {
            self.bytes -= entry.remove().frame_bytes;
            counters.arrivals_given_up += 1;
        }
    }

    /// False when there is no room: that is not acknowledged, so the sender
    /// waits as for a silent peer instead of repeating it at once.
    fn put(
        &mut self,
        now: Millis,
        fragment: &Fragment<'_>,
        room: usize,
        counters: &mut LinkCounters,
    ) -> Result<bool, Rejection> {
        let Some(ahead) = fragment.transfer.checked_sub(self.next) else {
            counters.fragments_duplicate += 1;
            return Ok(true);
        };
        if ahead as usize >= TRANSFERS_MAX {
            return Err(Rejection::Malformed);
        }
        if !self.arrivals.contains_key(&fragment.transfer) && !self.begin(fragment, room) {
            counters.arrivals_without_room += 1;
            return Ok(false);
        }
        let arrival = self.arrivals.get_mut(&fragment.transfer).expect("it has begun");
        if arrival.frame_bytes != fragment.frame_bytes {
            return Err(Rejection::Malformed);
        }
        if arrival.received.has(fragment.number) {
            counters.fragments_duplicate += 1;
            return Ok(true);
        }
        arrival.put(fragment.number, fragment.piece);
        self.touched = now;
        if arrival.received.is_full() && !arrival.is_intact() {
            self.bytes -= arrival.frame_bytes;
            self.arrivals.remove(&fragment.transfer);
            counters.arrivals_damaged += 1;
        }
        Ok(true)
    }

    fn begin(&mut self, fragment: &Fragment<'_>, room: usize) -> bool {
        let bytes = fragment.frame_bytes;
        if bytes > room || self.bytes + bytes > FRAME_BYTES_MAX {
            return false;
        }
        let Some(arrival) = Arrival::new(bytes) else { return false };
        self.bytes += bytes;
        self.arrivals.insert(fragment.transfer, arrival);
        true
    }

    fn note(&mut self, now: Millis, fragment: &Fragment<'_>) {
        if fragment.sequence >= self.newest.0 {
            self.newest = (fragment.sequence, now);
        }
        self.unacknowledged += 1;
        let is_due = fragment.asks || self.unacknowledged >= ACKNOWLEDGE_FRAGMENTS_MAX;
        let due = if is_due { now } else { now.plus(ACKNOWLEDGE_MS_MAX) };
        self.due = Some(self.due.map_or(due, |before| before.min(due)));
    }

    fn deliver(&mut self, now: Millis, frames: &mut Vec<Vec<u8>>) {
        while let Some(entry) = self.arrivals.first_entry() {
            if *entry.key() != self.next || !entry.get().received.is_full() {
                break;
            }
            let arrival = entry.remove();
            self.bytes -= arrival.frame_bytes;
            self.next += 1;
            self.due = Some(now);
            frames.push(arrival.into_frame());
        }
    }

    /// The acknowledgement that is due, if one is; `receiver` is this side's epoch.
    pub(super) fn acknowledgement(&mut self, now: Millis, receiver: u32) -> Option<Vec<u8>> {
        self.due.filter(|due| *due <= now)?;
        self.due = None;
        self.unacknowledged = 0;
        self.counter = self.counter.wrapping_add(1);
        let (sequence, at) = self.newest;
        let header = Acknowledgement {
            epoch: self.epochs.present()?,
            receiver,
            counter: self.counter,
            sequence,
            held_ms: u8::try_from(now.since(at)).unwrap_or(u8::MAX),
            settled: self.next,
            blocks: heapless::Vec::new(),
        };
        let blocks = self.arrivals.iter().map(|(transfer, arrival)| {
            let place = u8::try_from(transfer - self.next).expect("within TRANSFERS_MAX of next");
            (place, &arrival.received)
        });
        Some(layout::acknowledgement(&header, blocks))
    }

    /// Whatever time alone brings, but acknowledgements.
    pub(super) fn tick(&mut self, now: Millis, counters: &mut LinkCounters) {
        if self.bytes > 0 && now.since(self.touched) >= ARRIVAL_MS_MAX {
            counters.arrivals_given_up += self.give_up() as u64;
        }
    }

    /// When there is something to acknowledge or to give up.
    pub(super) fn deadline(&self) -> Option<Millis> {
        let given_up = (self.bytes > 0).then(|| self.touched.plus(ARRIVAL_MS_MAX));
        [self.due, given_up].into_iter().flatten().min()
    }
}
