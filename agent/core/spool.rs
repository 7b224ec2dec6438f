//! A board's spool, as its node sees it: pieces in the journal that hold readings of
//! this board, in order of arrival, until they are known to be stored.
//!
//! The readings themselves are in the journal alone. Here stands how much that is,
//! what is to be written next, and how far it has been drained. A piece that was
//! taken out in memory may still be on the disk at the next start: it is drained
//! again then, and the ledger knows its readings.
//!
//! A piece that cannot be read though the journal has it as it was written (by a program
//! of another kind) is taken out, and told: left where it is it would hold back all
//! behind it, and the floor of this board's numbers, for good.

use alloc::{
    collections::{BTreeMap, BTreeSet},
    string::String,
    vec::Vec,
};

use crate::{
    event::{Millis, SpoolPiece, SpoolWrite},
    limits::{BATCH_READINGS_MAX, SPOOL_LOOK_MS, SPOOL_PIECE_OVERHEAD_BYTES},
    readings::{Batch, Reading, Run},
    restored::SpoolHeld,
    sql::{self, Value},
};

/// The sensor that tells how many readings a full spool has thinned out.
pub const LOST: &str = "understudy/lost";

/// What a piece takes.
#[derive(Clone, Copy)]
struct Size {
    readings: u64,
    bytes: u64,
}

/// See the module's description.
#[derive(Default)]
pub(crate) struct Spool {
    held: SpoolHeld,
    /// Pieces whose readings are under way in batches of their own: how many are not
    /// resolved, and what the piece takes.
    flying: BTreeMap<u64, (usize, Size)>,
    /// Pieces among those that are left, or are being read back, that are stored, and may
    /// be on the disk still.
    gone: BTreeSet<u64>,
    writes: Vec<SpoolWrite>,
    /// Numbers of which there is something to tell once `writes` is on the disk.
    written: Vec<u64>,
    fetching: Option<Fetching>,
    /// What is being drained.
    draining: Option<(Places, Size)>,
    /// Not drained before.
    again: Millis,
    thinned: u64,
    /// Readings of pieces that could not be read.
    unreadable: u64,
    /// The next to be thinned out come after this place.
    thin_after: u64,
    /// What came of that is not on the disk yet, where what it took the place of is: a
    /// number in it.
    thinning: Option<u64>,
}

/// Pieces are read back from the journal.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// To be sent to the leader.
    Drain,
    /// To be thinned out.
    Thin,
}

struct Fetching {
    number: u64,
    purpose: Purpose,
}

/// The first and the last of some pieces.
type Places = (u64, u64);

impl Spool {
    pub(crate) fn new(held: SpoolHeld) -> Self {
        Self { held, ..Self::default() }
    }

    pub(crate) const fn readings(&self) -> u64 {
        self.held.readings
    }

    pub(crate) const fn bytes(&self) -> u64 {
        self.held.bytes
    }

    pub(crate) const fn thinned(&self) -> u64 {
        self.thinned
    }

    pub(crate) const fn unreadable(&self) -> u64 {
        self.unreadable
    }

    pub(crate) const fn is_full(&self, bytes_max: u64) -> bool {
        self.held.bytes >= bytes_max
    }

    /// No reading in it has a lower number.
    pub(crate) fn lowest(&self) -> Option<u64> {
        (self.held.readings > 0).then_some(self.held.lowest)
    }

    /// A piece is to be written; so many of its readings are under way.
    pub(crate) fn put(&mut self, readings: Vec<(u64, Reading)>, flying: usize) -> u64 {
        let numbers = readings.iter().map(|(number, _)| *number);
        let lowest = numbers.clone().min().unwrap_or(0);
        self.written.extend(numbers);
        self.held.lowest = self.lowest().map_or(lowest, |known| known.min(lowest));
        if self.held.readings == 0 {
            self.held.first = self.held.last + 1;
        }
        self.held.last += 1;
        let place = self.held.last;
        let batch = Batch { readings, ..Batch::default() };
        let (size, write) = encoded(place, &batch, lowest);
        self.held.readings += size.readings;
        self.held.bytes += size.bytes;
        if flying > 0 {
            self.flying.insert(place, (flying, size));
        }
        self.writes.push(write);
        place
    }

    /// One reading of a piece was stored by a batch of its own.
    pub(crate) fn resolved(&mut self, place: u64) {
        let Some((left, size)) = self.flying.get_mut(&place) else { return };
        *left -= 1;
        if *left == 0 {
            let size = *size;
            self.flying.remove(&place);
            self.gone.insert(place);
            self.take((place, place), size);
        }
    }

    /// Of this piece some readings came back without being stored: all of it is drained.
    pub(crate) fn grounded(&mut self, place: u64) {
        self.flying.remove(&place);
    }

    fn take(&mut self, (first, last): Places, size: Size) {
        self.held.readings = self.held.readings.saturating_sub(size.readings);
        self.held.bytes = self.held.bytes.saturating_sub(size.bytes);
        if self.held.readings == 0 {
            (self.held.bytes, self.held.lowest, self.held.first) = (0, 0, self.held.last + 1);
        }
        if self.fetching.is_none() {
            let left = self.held.first;
            self.gone.retain(|place| *place >= left);
        }
        self.writes.push(SpoolWrite::Take { first, last });
    }

    /// What was being drained is stored.
    pub(crate) fn drained(&mut self) {
        if let Some((places, size)) = self.draining.take() {
            self.held.first = places.1 + 1;
            self.take(places, size);
        }
    }

    /// What was being drained came to nothing.
    pub(crate) fn drain_again(&mut self, again: Millis) {
        (self.draining, self.again) = (None, again);
    }

    /// Somebody waits until this number has left the disk.
    pub(crate) fn tell_when_written(&mut self, number: u64) {
        self.written.push(number);
    }

    /// Is there something to write that cannot wait for another write?
    pub(crate) const fn is_urgent(&self) -> bool {
        !self.written.is_empty()
    }

    /// What the next write brings, and of which numbers there is something to tell then.
    pub(crate) fn take_writes(&mut self) -> (Vec<SpoolWrite>, Vec<u64>) {
        (core::mem::take(&mut self.writes), core::mem::take(&mut self.written))
    }

    /// What was to be written with these numbers is on the disk.
    pub(crate) fn on_disk(&mut self, numbers: &[u64]) {
        self.thinning = self.thinning.filter(|number| !numbers.contains(number));
    }

    /// May the next pieces be read for this? Not while the disk has what was thinned out.
    pub(crate) fn may_fetch(&self, now: Millis) -> bool {
        self.held.readings > 0
            && self.thinning.is_none()
            && self.fetching.is_none()
            && self.draining.is_none()
            && self.again <= now
    }

    /// Asks for pieces: after which place.
    pub(crate) fn fetch(&mut self, number: u64, purpose: Purpose) -> u64 {
        self.fetching = Some(Fetching { number, purpose });
        let before = self.held.first.saturating_sub(1);
        match purpose {
            Purpose::Drain => before,
            Purpose::Thin => self.thin_after.max(before),
        }
    }

    /// Pieces were read back; for what, if anybody still waits for them.
    pub(crate) fn fetched(&mut self, number: u64) -> Option<Purpose> {
        self.fetching.take_if(|fetching| fetching.number == number).map(|known| known.purpose)
    }

    /// These pieces go to the leader together, but for those that are under way.
    pub(crate) fn drain(&mut self, now: Millis, pieces: Vec<SpoolPiece>) -> Option<Batch> {
        let places: Vec<u64> = pieces.iter().map(|piece| piece.place).collect();
        let pieces = self.read(pieces);
        // Those that are gone, or were taken out now, are not read back again.
        for place in places.iter().take_while(|place| self.gone.contains(place)) {
            self.held.first = self.held.first.max(place + 1);
        }
        let Some((batch, places, size)) = join(pieces, BATCH_READINGS_MAX) else {
            self.look_later(now);
            return None;
        };
        self.draining = Some((places, size));
        Some(batch)
    }

    /// What is to come is not on the disk yet.
    fn look_later(&mut self, now: Millis) {
        self.again = now.plus(SPOOL_LOOK_MS);
    }

    /// What is in these pieces, up to the first whose readings are under way by
    /// themselves.
    fn read(&mut self, pieces: Vec<SpoolPiece>) -> Vec<(u64, Size, Batch)> {
        let mut all = Vec::new();
        for SpoolPiece { place, readings, data } in pieces {
            if self.flying.contains_key(&place) {
                break;
            }
            if self.gone.contains(&place) {
                continue;
            }
            let bytes = data.len() as u64 + SPOOL_PIECE_OVERHEAD_BYTES;
            let size = Size { readings: u64::from(readings), bytes };
            if let Ok(batch) = sql::decode(&data) {
                all.push((place, size, batch));
            } else {
                self.unreadable += size.readings;
                self.gone.insert(place);
                self.take((place, place), size);
            }
        }
        all
    }

    /// From the oldest on, as far as it has come, every second reading goes, and one that
    /// counts them comes in its place; behind the newest it begins anew.
    pub(crate) fn thin(&mut self, now: Millis, pieces: Vec<SpoolPiece>) {
        let pieces = self.read(pieces);
        let Some((all, (first, last), before)) = join(pieces, BATCH_READINGS_MAX / 2) else {
            self.thin_after = 0;
            return self.look_later(now);
        };
        self.thin_after = last;
        self.look_later(now);
        let (kept, lost) = thinned(all);
        self.thinned += lost;
        let numbers = kept.readings.iter().map(|(number, _)| *number);
        let lowest = numbers.chain(kept.given_up.iter().map(|run| run.first)).min().unwrap_or(0);
        self.writes.push(SpoolWrite::Take { first, last });
        let (after, write) = encoded(last, &kept, lowest);
        self.writes.push(write);
        self.held.readings = self.held.readings.saturating_sub(before.readings) + after.readings;
        self.held.bytes = self.held.bytes.saturating_sub(before.bytes) + after.bytes;
        self.thinning = kept.readings.first().map(|(number, _)| *number);
        self.written.extend(self.thinning);
    }
}

/// The first of these pieces as one, of so many numbers at the most unless it is one.
fn join(pieces: Vec<(u64, Size, Batch)>, max: usize) -> Option<(Batch, Places, Size)> {
    let mut all = Batch::default();
    let mut size = Size { readings: 0, bytes: 0 };
    let mut places: Option<Places> = None;
    for (place, own, piece) in pieces {
        if places.is_some() && numbers(&all) + numbers(&piece) > max {
            break;
        }
        size.readings += own.readings;
        size.bytes += own.bytes;
        places = Some((places.map_or(place, |(first, _)| first), place));
        all.readings.extend(piece.readings);
        all.given_up.extend(piece.given_up);
    }
    all.readings.sort_by_key(|(number, _)| *number);
    places.map(|places| (all, places, size))
}

fn numbers(batch: &Batch) -> usize {
    let given_up = batch.given_up.iter().map(|run| run.count as usize);
    batch.readings.len() + given_up.sum::<usize>()
}

/// Every second reading is given up; the first that is becomes one that counts all.
fn thinned(batch: Batch) -> (Batch, u64) {
    let (lost, readings): (Vec<_>, Vec<_>) =
        batch.readings.into_iter().partition(|(_, reading)| reading.sensor == LOST);
    let mut gone = Vec::new();
    let mut kept = Vec::new();
    for (place, reading) in readings.into_iter().enumerate() {
        if place % 2 == 0 { gone.push(reading) } else { kept.push(reading) }
    }
    let counted = lost.iter().map(|(_, reading)| match reading.value {
        Value::Integer(count) => count,
        Value::Null | Value::Real(_) | Value::Text(_) | Value::Blob(_) => 0,
    });
    let count = counted.sum::<i64>() + gone.len().cast_signed() as i64;
    let newly = gone.len() as u64;
    let mut gone: Vec<_> = lost.into_iter().chain(gone).collect();
    gone.sort_by_key(|(number, _)| *number);
    let last_time = gone.iter().map(|(_, reading)| reading.time).max();
    let mut given_up = batch.given_up;
    if let (Some((number, _)), Some(time)) = (gone.first(), last_time) {
        let (id, token, is_far) = (None, None, false);
        let sensor = String::from(LOST);
        let record = Reading { sensor, time, value: Value::Integer(count), id, token, is_far };
        kept.push((*number, record));
        let others: Vec<u64> = gone.iter().skip(1).map(|(number, _)| *number).collect();
        given_up.extend(Run::of(&others));
    }
    kept.sort_by_key(|(number, _)| *number);
    (Batch { readings: kept, given_up, ..Batch::default() }, newly)
}

fn encoded(place: u64, batch: &Batch, lowest: u64) -> (Size, SpoolWrite) {
    let count = batch.readings.len();
    let data = sql::encode(batch);
    let bytes = data.len() as u64 + SPOOL_PIECE_OVERHEAD_BYTES;
    let readings = u32::try_from(count).unwrap_or(u32::MAX);
    (Size { readings: count as u64, bytes }, SpoolWrite::Put { place, readings, lowest, data })
}
