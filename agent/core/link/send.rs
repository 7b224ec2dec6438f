//! Frames above one payload on their way to one peer, oldest first.
//!
//! Every fragment sent has a sequence of its own, also when it repeats another.
//! An acknowledgement names the highest sequence received and everything that
//! is there, so a fragment is lost when enough sent after it arrived and it did
//! not. Without acknowledgements the oldest fragments are sent again as probes;
//! all others wait for the answer to those.
//!
//! Invariants: a piece of a held frame is acknowledged, under way, or missing;
//! the newest acknowledgement is believed in all it says, also that something is
//! gone again: a peer that restarted or ran out of room gets it anew.

use alloc::{collections::VecDeque, vec::Vec};

use super::{
    LinkCounters, Outgoing,
    bitmap::Bitmap,
    epochs::{Epochs, Met},
    layout::{self, Acknowledgement, Fragment},
    pace::{RoundTrip, Window},
};
use crate::{
    error::Rejection,
    event::{Millis, NodeId},
    limits::{
        BURST_FRAGMENTS_MAX, FRAME_BYTES_MAX, PROBE_FRAGMENTS, TRANSFER_MS_MAX, TRANSFERS_MAX,
        WINDOW_FRAGMENTS_MAX,
    },
};

/// Fragments that overtake one before it counts as lost, at first; doubled each
/// time that proves wrong.
const OVERTAKEN_START: u32 = 3;
const OVERTAKEN_MAX: u32 = 128;

/// Where counters start anew, well before they end.
const COUNTER_END: u32 = u32::MAX - 1_024;

/// Records of fragments under way: a window, and probes beyond it.
const UNDER_WAY_MAX: usize = WINDOW_FRAGMENTS_MAX + 8 * PROBE_FRAGMENTS;

/// What became of a frame handed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Taken {
    /// It is on its way.
    Sending,
    /// The very same is on its way already.
    Repeated,
    /// There is no room for it.
    Refused,
}

struct Transfer {
    frame: Vec<u8>,
    check: u32,
    acknowledged: Bitmap,
    /// Neither acknowledged nor under way.
    missing: Bitmap,
    /// Pieces from here on were never sent.
    fresh: u16,
}

impl Transfer {
    fn new(frame: Vec<u8>) -> Self {
        let count = layout::pieces(frame.len());
        Self {
            check: crc32c::crc32c(&frame),
            frame,
            acknowledged: Bitmap::empty(count),
            missing: Bitmap::full(count),
            fresh: 0,
        }
    }

    /// The peer has exactly these pieces.
    fn replace_acknowledged(&mut self, present: Bitmap) {
        let mut gone = core::mem::replace(&mut self.acknowledged, present);
        gone.subtract(&self.acknowledged);
        self.missing.add(&gone);
        self.missing.subtract(&self.acknowledged);
    }
}

/// A fragment under way.
#[derive(Debug)]
struct Sent {
    sequence: u32,
    at: Millis,
    transfer: u32,
    number: u16,
    is_repeat: bool,
}

/// Everything large that one peer is to get.
pub(super) struct Sender {
    epoch: u32,
    /// Transfer number of the oldest held frame, and of the next one when none is.
    first: u32,
    transfers: VecDeque<Transfer>,
    bytes: usize,
    under_way: heapless::Vec<Sent, UNDER_WAY_MAX>,
    next_sequence: u32,
    /// Highest sequence known to have arrived, and when it was sent.
    arrived: Option<(u32, Millis)>,
    overtaken: u32,
    window: Window,
    round_trip: RoundTrip,
    receivers: Epochs,
    counter: u32,
    /// The millisecond fragments were last sent in, and how many in it.
    burst: (Millis, usize),
    /// Since when the peer owes an answer.
    waiting_since: Millis,
    probes: u32,
    progressed: Millis,
}

impl Sender {
    pub(super) fn new(epoch: u32, now: Millis) -> Self {
        Self {
            epoch,
            first: 0,
            transfers: VecDeque::new(),
            bytes: 0,
            under_way: heapless::Vec::new(),
            next_sequence: 0,
            arrived: None,
            overtaken: OVERTAKEN_START,
            window: Window::new(),
            round_trip: RoundTrip::default(),
            receivers: Epochs::default(),
            counter: 0,
            burst: (now, 0),
            waiting_since: now,
            probes: 0,
            progressed: now,
        }
    }

    /// Bytes of the frames held.
    pub(super) const fn bytes(&self) -> usize {
        self.bytes
    }

    /// When what is under way was last seen to get on.
    pub(super) fn progressed(&self) -> Option<Millis> {
        (!self.transfers.is_empty()).then_some(self.progressed)
    }

    /// Takes a frame to be sent; all peers' frames may grow by `room` bytes.
    pub(super) fn take(&mut self, now: Millis, frame: Vec<u8>, room: usize) -> Taken {
        if self.transfers.iter().any(|transfer| transfer.frame == frame) {
            return Taken::Repeated;
        }
        let fits = self.bytes + frame.len() <= FRAME_BYTES_MAX && frame.len() <= room;
        if !fits || self.transfers.len() == TRANSFERS_MAX {
            return Taken::Refused;
        }
        if self.first >= COUNTER_END {
            self.renew();
        }
        if self.transfers.is_empty() {
            self.progressed = now;
        }
        self.bytes += frame.len();
        self.transfers.push_back(Transfer::new(frame));
        Taken::Sending
    }

    /// Sends what may be sent now.
    pub(super) fn pump(
        &mut self,
        now: Millis,
        to: NodeId,
        out: &mut Outgoing,
        counters: &mut LinkCounters,
    ) {
        self.pump_at_least(0, now, to, out, counters);
    }

    fn pump_at_least(
        &mut self,
        mut least: usize,
        now: Millis,
        to: NodeId,
        out: &mut Outgoing,
        counters: &mut LinkCounters,
    ) {
        if self.next_sequence >= COUNTER_END {
            self.renew();
        }
        let before = out.len();
        while least > 0 || self.has_room(now) {
            let Some((place, number)) = self.next_piece() else { break };
            least = least.saturating_sub(1);
            out.push((to, self.send_piece(now, place, number, counters)));
        }
        if let Some((_, payload)) = out[before..].last_mut() {
            layout::ask(payload);
        }
    }

    fn has_room(&self, now: Millis) -> bool {
        self.under_way.len() < self.window.fragments()
            && (self.burst.0 != now || self.burst.1 < BURST_FRAGMENTS_MAX)
    }

    fn next_piece(&self) -> Option<(usize, u16)> {
        let mut places = self.transfers.iter().enumerate();
        places.find_map(|(place, transfer)| Some((place, transfer.missing.first_set()?)))
    }

    fn send_piece(
        &mut self,
        now: Millis,
        place: usize,
        number: u16,
        counters: &mut LinkCounters,
    ) -> Vec<u8> {
        let behind = u8::try_from(place).expect("few transfers are held");
        let transfer = &mut self.transfers[place];
        let is_repeat = number < transfer.fresh;
        transfer.missing.clear(number);
        transfer.fresh = transfer.fresh.max(number + 1);
        let fragment = Fragment {
            epoch: self.epoch,
            transfer: self.first + u32::from(behind),
            behind,
            sequence: self.next_sequence,
            frame_bytes: transfer.frame.len(),
            number,
            asks: false,
            piece: &[],
        };
        let payload = fragment.encode(&transfer.frame, transfer.check);
        let sent = Sent {
            sequence: fragment.sequence,
            at: now,
            transfer: fragment.transfer,
            number,
            is_repeat,
        };
        if self.under_way.is_full() {
            self.under_way.remove(0);
        }
        self.under_way.push(sent).expect("there is room now");
        self.next_sequence += 1;
        self.burst = if self.burst.0 == now { (now, self.burst.1 + 1) } else { (now, 1) };
        self.waiting_since = now;
        counters.fragments_sent += 1;
        counters.fragments_resent += u64::from(is_repeat);
        payload
    }

    /// Learns what the peer has.
    ///
    /// # Errors
    /// [`Rejection::Malformed`] when it names what was never sent.
    pub(super) fn acknowledged(
        &mut self,
        now: Millis,
        acknowledgement: &Acknowledgement<'_>,
        counters: &mut LinkCounters,
    ) -> Result<(), Rejection> {
        if acknowledgement.epoch != self.epoch {
            counters.stale += 1;
            return Ok(());
        }
        let next_transfer = self.first + u32::try_from(self.transfers.len()).unwrap_or(0);
        if acknowledgement.sequence >= self.next_sequence || acknowledgement.settled > next_transfer
        {
            return Err(Rejection::Malformed);
        }
        if !self.is_newest(acknowledgement) {
            counters.stale += 1;
            return Ok(());
        }
        self.measure(now, acknowledgement);
        let settled = self.settle(acknowledgement.settled);
        self.take_blocks(acknowledgement)?;
        let in_use = self.under_way.len() + BURST_FRAGMENTS_MAX >= self.window.fragments();
        let arrived = self.forget_arrived(acknowledgement.sequence);
        if arrived > 0 || settled > 0 {
            self.progressed = now;
            self.waiting_since = now;
            self.probes = 0;
        }
        if in_use {
            self.window.acknowledged(arrived, self.round_trip.is_queueing());
        }
        let lost = self.find_lost();
        self.window.lost(lost);
        counters.fragments_lost += lost as u64;
        Ok(())
    }

    fn is_newest(&mut self, acknowledgement: &Acknowledgement<'_>) -> bool {
        let is_newest = match self.receivers.meet(acknowledgement.receiver) {
            Met::Past => false,
            Met::New => true,
            Met::Present => acknowledgement.counter.wrapping_sub(self.counter).cast_signed() > 0,
        };
        if is_newest {
            self.counter = acknowledgement.counter;
        }
        is_newest
    }

    fn measure(&mut self, now: Millis, acknowledgement: &Acknowledgement<'_>) {
        let sequence = acknowledgement.sequence;
        let found = self.under_way.binary_search_by_key(&sequence, |sent| sent.sequence);
        if let Ok(place) = found {
            let at = self.under_way[place].at;
            let held_ms = u64::from(acknowledgement.held_ms);
            self.round_trip.sample(now, now.since(at).saturating_sub(held_ms));
            self.arrived = Some((sequence, at));
        }
    }

    /// Lets go of what the peer has delivered; how many frames.
    fn settle(&mut self, settled: u32) -> usize {
        let before = self.transfers.len();
        while self.first < settled {
            let Some(transfer) = self.transfers.pop_front() else { break };
            self.bytes -= transfer.frame.len();
            self.first += 1;
        }
        before - self.transfers.len()
    }

    fn take_blocks(&mut self, acknowledgement: &Acknowledgement<'_>) -> Result<(), Rejection> {
        for (id, transfer) in (self.first..).zip(&mut self.transfers) {
            let count = transfer.missing.count();
            let named = |place: u8| acknowledgement.settled.checked_add(u32::from(place));
            let block =
                acknowledgement.blocks.iter().find(|block| named(block.transfer) == Some(id));
            let present = match block {
                None => Bitmap::empty(count),
                Some(block) => {
                    Bitmap::from_parts(count, block.base, block.tail).ok_or(Rejection::Malformed)?
                }
            };
            transfer.replace_acknowledged(present);
        }
        Ok(())
    }

    /// Lets go of the records of what has arrived; how many.
    fn forget_arrived(&mut self, newest: u32) -> usize {
        let (first, transfers) = (self.first, &self.transfers);
        let overtaken = &mut self.overtaken;
        let before = self.under_way.len();
        self.under_way.retain(|sent| {
            let transfer = held(first, sent.transfer).and_then(|place| transfers.get(place));
            let has_arrived = transfer.is_none_or(|held| held.acknowledged.has(sent.number));
            if has_arrived && sent.is_repeat && sent.sequence > newest {
                // What was repeated had only been overtaken.
                *overtaken = (*overtaken * 2).min(OVERTAKEN_MAX);
            }
            !has_arrived
        });
        before - self.under_way.len()
    }

    /// Finds what is lost and is to be sent again; how many.
    fn find_lost(&mut self) -> usize {
        let Some((newest, at)) = self.arrived else { return 0 };
        let (overtaken, reorder_ms) = (self.overtaken, self.round_trip.reorder_ms());
        let (first, transfers) = (self.first, &mut self.transfers);
        let before = self.under_way.len();
        self.under_way.retain(|sent| {
            let is_lost = newest > sent.sequence
                && (newest - sent.sequence >= overtaken || at.since(sent.at) >= reorder_ms);
            let transfer = held(first, sent.transfer).and_then(|place| transfers.get_mut(place));
            if let Some(transfer) = transfer.filter(|_| is_lost) {
                transfer.missing.set(sent.number);
            }
            !is_lost
        });
        before - self.under_way.len()
    }

    /// Whatever time alone brings.
    pub(super) fn tick(
        &mut self,
        now: Millis,
        to: NodeId,
        out: &mut Outgoing,
        counters: &mut LinkCounters,
    ) {
        if self.transfers.is_empty() {
            return;
        }
        if now.since(self.progressed) >= TRANSFER_MS_MAX {
            counters.frames_given_up += self.transfers.len() as u64;
            self.give_up();
        } else if self.probe_at().is_some_and(|at| at <= now) {
            let probes = self.probe(now);
            self.pump_at_least(probes, now, to, out, counters);
        } else {
            self.pump(now, to, out, counters);
        }
    }

    fn probe_at(&self) -> Option<Millis> {
        let silence_ms = self.round_trip.probe_ms(self.probes);
        (!self.under_way.is_empty()).then(|| self.waiting_since.plus(silence_ms))
    }

    /// Marks the oldest fragments under way to be sent once more; their records
    /// stay, so that a late answer to them still tells the round trip.
    fn probe(&mut self, now: Millis) -> usize {
        self.probes = self.probes.saturating_add(1);
        if self.probes > 1 {
            self.window.close();
        }
        self.waiting_since = now;
        let mut marked = 0;
        for sent in self.under_way.iter().take(PROBE_FRAGMENTS) {
            let place = held(self.first, sent.transfer);
            if let Some(transfer) = place.and_then(|place| self.transfers.get_mut(place)) {
                transfer.missing.set(sent.number);
                marked += 1;
            }
        }
        marked
    }

    fn give_up(&mut self) {
        self.first += u32::try_from(self.transfers.len()).expect("few transfers are held");
        self.transfers.clear();
        self.under_way.clear();
        self.bytes = 0;
        self.probes = 0;
        self.window.close();
    }

    /// Starts all counters anew, and with them every transfer.
    fn renew(&mut self) {
        self.epoch = crc32c::crc32c(&self.epoch.to_le_bytes());
        (self.first, self.next_sequence, self.arrived) = (0, 0, None);
        self.under_way.clear();
        for transfer in &mut self.transfers {
            transfer.acknowledged = Bitmap::empty(transfer.missing.count());
            transfer.missing = Bitmap::full(transfer.missing.count());
        }
    }

    /// When [`Sender::tick`] has something to do.
    pub(super) fn deadline(&self) -> Option<Millis> {
        if self.transfers.is_empty() {
            return None;
        }
        let may_send = self.under_way.len() < self.window.fragments();
        let next_burst = (may_send && self.next_piece().is_some()).then(|| self.burst.0.plus(1));
        let given_up = self.progressed.plus(TRANSFER_MS_MAX);
        [Some(given_up), self.probe_at(), next_burst].into_iter().flatten().min()
    }
}

/// Place of a transfer among those held, oldest first.
fn held(first: u32, transfer: u32) -> Option<usize> {
    usize::try_from(transfer.checked_sub(first)?).ok()
}

#[cfg(test)]
impl Sender {
    /// As if so much had been sent before.
    pub(super) fn age(&mut self, counters: u32) {
        (self.first, self.next_sequence) = (counters, counters);
    }
}
