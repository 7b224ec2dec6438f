//! Readings on a board from their arrival until they are stored: which are there,
//! how far each has come, and who waits for that.
//!
//! Each gets a number when it arrives. It gathers for a moment, goes to the leader
//! in a batch, and comes back in an entry. Meanwhile it is safe on this board from
//! the moment that an entry with it is on this board's disk, or else when it has
//! been written to the spool, which happens only when it was not committed in time.
//! An entry that does not stand after all gives safe readings to the spool with the
//! very write that replaces it.
//!
//! Invariants: a caller is told "spooled" only of readings that are safe,
//! "committed" only of those in a committed entry; a number is resolved once; no
//! number below the floor will ever be sent again; what is neither committed nor in
//! the spool is in memory, within bounds. What callers are told is in `receipts`.
//!
//! Left out: who leads and what is written when (`spooling`), what the numbers mean
//! to the group (the ledger in `state.db`).

use alloc::{
    collections::BTreeMap,
    string::{String, ToString as _},
    vec::Vec,
};

use serde::{Deserialize, Serialize};

use crate::{
    error::Refusal,
    event::{Millis, NodeId, Position, RequestId},
    limits::{
        BATCH_READINGS_BYTES_MAX, BATCH_READINGS_MAX, INTAKE_BATCHES_MAX, INTAKE_BYTES_MAX,
        INTAKE_READINGS_MAX, SPOOL_AFTER_MS, SPOOL_BYTES_MAX, SPOOL_PIECE_BYTES_MAX,
    },
    mutant,
    readings::{Arrivals, Batch, Reading, Run, first_number},
    receipts::{Callers, Come},
    restored::SpoolHeld,
    spool::Spool,
};

/// How a board takes readings in, as its configuration says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// A reading not committed for so long is written to the spool, milliseconds.
    pub spool_after_ms: u64,
    /// What the spool may take on the disk, bytes.
    pub spool_bytes_max: u64,
    /// A full spool thins out the oldest it has; else it takes no more.
    pub thins_out: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self { spool_after_ms: SPOOL_AFTER_MS, spool_bytes_max: SPOOL_BYTES_MAX, thins_out: false }
    }
}

/// Readings that came to this board, as it has them. Field names are those of
/// `status --json` and only grow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct IntakeStatus {
    /// In memory, neither committed nor spooled.
    pub in_memory: u64,
    /// In the spool, on this board's disk.
    pub spooled: u64,
    /// Bytes of the spool.
    pub spool_bytes: u64,
    /// What it may take.
    pub spool_bytes_max: u64,
    /// It has no room for more.
    pub spool_full: bool,
    /// Readings that were thinned out of the spool since the start.
    pub thinned: u64,
    /// Readings that the group refused after they were acknowledged, since the start.
    pub refused: u64,
    /// Readings of the spool that are lost, since the start: this program cannot read
    /// what was written of them.
    pub unreadable: u64,
}

/// One reading that is not resolved, in memory.
struct Live {
    reading: Reading,
    /// When it was first to be sent: what is to be committed in time counts from then.
    due: Millis,
    stage: Stage,
    /// On this board's disk, and whoever waits for that knows.
    is_safe: bool,
    /// A batch with it came back without a word on what became of it.
    is_unknown: bool,
    /// The piece of the spool that has it too.
    place: Option<u64>,
}

impl Live {
    const fn new(due: Millis, reading: Reading, stage: Stage) -> Self {
        Self { reading, due, stage, is_safe: false, is_unknown: false, place: None }
    }

    /// May its caller be told that it is not stored, and never will be?
    const fn may_refuse(&self) -> bool {
        !self.is_safe && !self.is_unknown
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// It goes with the next batch from then on.
    Gathering(Millis),
    /// It is under way.
    Sent,
}

/// A batch under way.
struct Flight {
    numbers: Vec<u64>,
    given_up: Vec<u64>,
    /// It came from the spool.
    is_drained: bool,
}

/// A batch to be sent to the leader.
pub(crate) struct Departure {
    /// What it is answered under.
    pub(crate) flight: u64,
    pub(crate) batch: Batch,
}

/// How far this start is with its beginning (`beginning`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Beginning {
    /// Nobody was asked, or to no avail: not before this moment.
    Open(Millis),
    /// The leader is asked.
    Asked,
    /// The group has it.
    Known,
}

/// See the module's description.
pub(crate) struct Intake {
    board: NodeId,
    pub(crate) options: Options,
    next: u64,
    live: BTreeMap<u64, Live>,
    live_bytes: usize,
    pub(crate) callers: Callers,
    /// Readings of this board in its log that are not applied, by the entry's place.
    logged: BTreeMap<u64, (u64, Vec<u64>)>,
    /// The earliest moment at which a batch is due, unless none gathers.
    due: Option<Millis>,
    flights: BTreeMap<u64, Flight>,
    flights_begun: u64,
    pub(crate) spool: Spool,
    /// There is a leader who is heard, as of the last look.
    pub(crate) can_send: bool,
    /// Whether the group knows that this start sends readings.
    pub(crate) beginning: Beginning,
    /// Numbers that were refused here: the ledger is to hear that they are no more.
    given_up: Vec<u64>,
    /// Numbers that were refused when they came from the spool, and why, until that has
    /// them on the disk no more.
    declined: BTreeMap<u64, String>,
    refused: u64,
}

impl Intake {
    pub(crate) fn new(board: NodeId, boot: u64, held: SpoolHeld) -> Self {
        Self {
            board,
            options: Options::default(),
            next: first_number(boot),
            live: BTreeMap::new(),
            live_bytes: 0,
            callers: Callers::default(),
            logged: BTreeMap::new(),
            due: None,
            flights: BTreeMap::new(),
            flights_begun: 0,
            spool: Spool::new(held),
            can_send: false,
            beginning: Beginning::Open(Millis(0)),
            given_up: Vec::new(),
            declined: BTreeMap::new(),
            refused: 0,
        }
    }

    /// Takes readings in; they are answered when they have come as far as was asked.
    ///
    /// # Errors
    /// [`Refusal::Busy`] at a bound.
    pub(crate) fn arrive(
        &mut self,
        now: Millis,
        id: RequestId,
        arrivals: Arrivals,
        deadline: Millis,
    ) -> Result<(), Refusal> {
        let Arrivals { readings, until, window_ms } = arrivals;
        let (first, count) = (self.next, readings.len());
        let bytes: usize = readings.iter().map(reading_bytes).sum();
        let is_full = self.live.len() + count > INTAKE_READINGS_MAX
            || self.live_bytes + bytes > INTAKE_BYTES_MAX
            || self.callers.are_full(count);
        if is_full {
            return Err(Refusal::Busy);
        }
        let gathers = now.plus(window_ms);
        for (number, reading) in (first..).zip(readings) {
            self.live.insert(number, Live::new(gathers, reading, Stage::Gathering(gathers)));
        }
        self.due = Some(self.due.map_or(gathers, |due| due.min(gathers)));
        (self.next, self.live_bytes) = (first + count as u64, self.live_bytes + bytes);
        self.callers.wait(first, count, (id, until, deadline));
        Ok(())
    }

    /// No reading with a lower number will ever be sent again.
    fn floor(&self) -> u64 {
        let live = self.live.first_key_value().map_or(self.next, |(number, _)| *number);
        match self.spool.lowest() {
            Some(_) if mutant::is(90) => self.next,
            Some(lowest) => live.min(lowest),
            None => live,
        }
    }

    /// The next batch, if it is time for one.
    pub(crate) fn depart(&mut self, now: Millis) -> Option<Departure> {
        if !self.can_send || self.live_flights() >= INTAKE_BATCHES_MAX || self.due? > now {
            return None;
        }
        let mut batch = Batch { board: self.board, floor: self.floor(), ..Batch::default() };
        let (mut bytes, mut is_full) = (0, false);
        self.due = None;
        for (number, live) in &mut self.live {
            let Stage::Gathering(due) = live.stage else { continue };
            bytes += reading_bytes(&live.reading);
            is_full |= batch.readings.len() == BATCH_READINGS_MAX
                || bytes > BATCH_READINGS_BYTES_MAX && !batch.readings.is_empty();
            if is_full {
                self.due = Some(self.due.map_or(due, |known| known.min(due)));
                continue;
            }
            live.stage = Stage::Sent;
            batch.readings.push((*number, live.reading.clone()));
        }
        (!batch.readings.is_empty()).then(|| self.fly(batch, false))
    }

    /// What comes from the spool as a batch.
    pub(crate) fn depart_drained(&mut self, mut batch: Batch) -> Departure {
        (batch.board, batch.floor) = (self.board, self.floor());
        self.fly(batch, true)
    }

    fn fly(&mut self, mut batch: Batch, is_drained: bool) -> Departure {
        self.flights_begun += 1;
        let numbers = batch.readings.iter().map(|(number, _)| *number).collect();
        let given_up = match is_drained {
            true => Vec::new(),
            false => core::mem::take(&mut self.given_up),
        };
        batch.given_up.extend(Run::of(&given_up));
        self.flights.insert(self.flights_begun, Flight { numbers, given_up, is_drained });
        Departure { flight: self.flights_begun, batch }
    }

    fn live_flights(&self) -> usize {
        self.flights.values().filter(|flight| !flight.is_drained).count()
    }

    /// A batch was stored, but for what was refused.
    pub(crate) fn landed(&mut self, flight: u64, refused: Vec<(u64, String)>) {
        let Some(Flight { mut numbers, is_drained, .. }) = self.flights.remove(&flight) else {
            return;
        };
        let refused: BTreeMap<u64, String> = refused.into_iter().collect();
        numbers.retain(|number| !refused.contains_key(number));
        for (number, why) in refused {
            self.decline(number, why, is_drained);
        }
        numbers.into_iter().for_each(|number| self.committed(number));
        if is_drained {
            self.spool.drained();
        }
    }

    /// The leader has refused a reading. While the disk has it in the spool, a power cut
    /// may bring it once more, and it may be stored then: nobody is told before it is gone.
    fn decline(&mut self, number: u64, why: String, is_drained: bool) {
        let place = self.live.get(&number).and_then(|live| live.place);
        match place {
            _ if is_drained => {
                self.give_up(&[number]);
                self.forget(number);
                self.refused += 1;
                self.declined.insert(number, why);
                self.spool.tell_when_written(number);
            }
            // It is drained with all of its piece, and decided on then.
            Some(place) => {
                self.spool.grounded(place);
                self.forget(number);
            }
            None => {
                self.give_up(&[number]);
                self.refuse(number, &why);
            }
        }
    }

    /// A batch came to nothing, or nobody knows: it goes again at `again`; what nobody was
    /// promised is refused, where the refusal is for good.
    pub(crate) fn turned_back(&mut self, flight: u64, again: Millis, refusal: &Refusal) {
        let Some(Flight { numbers, given_up, is_drained }) = self.flights.remove(&flight) else {
            return;
        };
        if is_drained {
            return self.spool.drain_again(again);
        }
        self.give_up(&given_up);
        for number in numbers {
            let Some(live) = self.live.get_mut(&number) else { continue };
            match (live.place, refusal) {
                (Some(place), _) => {
                    self.spool.grounded(place);
                    self.forget(number);
                }
                (None, Refusal::Invalid(_) | Refusal::TooLarge { .. }) if live.may_refuse() => {
                    self.give_up(&[number]);
                    self.refuse(number, &refusal.to_string());
                }
                (None, _) => {
                    live.is_unknown |= *refusal == Refusal::OutcomeUnknown;
                    live.stage = Stage::Gathering(again);
                    self.due = Some(self.due.map_or(again, |due| due.min(again)));
                }
            }
        }
        if mutant::is(88) {
            self.number_anew();
        }
    }

    /// As if numbers were given when a batch departs.
    fn number_anew(&mut self) {
        let gathers = |live: &Live| live.stage != Stage::Sent && live.place.is_none();
        let anew: Vec<u64> =
            self.live.iter().filter(|(_, live)| gathers(live)).map(|(number, _)| *number).collect();
        for number in anew {
            if let Some(live) = self.live.remove(&number) {
                self.live.insert(self.next, live);
                self.next += 1;
            }
        }
    }

    /// A reading that is not in the spool is not stored.
    fn refuse(&mut self, number: u64, why: &str) {
        self.refused += u64::from(self.forget(number).is_some_and(|live| live.is_safe));
        self.callers.refuse(number, why);
    }

    /// These were refused here and never come. Of those beyond the bound the ledger
    /// hears when the floor has passed them.
    fn give_up(&mut self, numbers: &[u64]) {
        let room = BATCH_READINGS_MAX.saturating_sub(self.given_up.len());
        self.given_up.extend(numbers.iter().take(room));
        self.given_up.sort_unstable();
    }

    /// It is in memory no longer.
    fn forget(&mut self, number: u64) -> Option<Live> {
        let live = self.live.remove(&number)?;
        self.live_bytes -= reading_bytes(&live.reading);
        Some(live)
    }

    /// A reading is in a committed entry.
    fn committed(&mut self, number: u64) {
        if let Some(place) = self.forget(number).and_then(|live| live.place) {
            self.spool.resolved(place);
        }
        self.callers.come(number, Come::Through);
    }

    /// A reading is on this board's disk.
    fn safe(&mut self, number: u64) {
        if let Some(live) = self.live.get_mut(&number) {
            live.is_safe = true;
        }
        self.callers.come(number, Come::Safe);
    }

    /// When something is to be done. What is to be sent waits for a leader, and what is to
    /// be written while something is.
    pub(crate) fn deadline(&self, is_writing: bool) -> Option<Millis> {
        let callers = self.callers.deadline();
        let sends = self.can_send && self.live_flights() < INTAKE_BATCHES_MAX;
        let gathered = self.due.filter(|_| sends);
        let overdue = self.overdue_at().filter(|_| !is_writing);
        [callers, gathered, overdue].into_iter().flatten().min()
    }

    /// When a reading will have waited long enough for its commit.
    fn overdue_at(&self) -> Option<Millis> {
        if self.spool.is_full(self.options.spool_bytes_max) {
            return None;
        }
        let oldest = self.live.values().find(|live| live.place.is_none())?;
        Some(oldest.due.plus(self.options.spool_after_ms))
    }

    /// Is any reading to be sent, from here or from the spool?
    pub(crate) fn has_any(&self) -> bool {
        !self.live.is_empty() || self.spool.lowest().is_some()
    }

    /// Does it look for its own in what comes into the log?
    pub(crate) fn awaits_entries(&self) -> bool {
        self.live_flights() > 0
    }

    /// An entry with these readings is about to be written to the log.
    pub(crate) fn log(&mut self, at: Position, mut numbers: Vec<u64>) {
        numbers.retain(|number| self.live.contains_key(number));
        if numbers.is_empty() {
            return;
        }
        if mutant::is(87) {
            numbers.iter().for_each(|number| self.safe(*number));
        }
        self.logged.insert(at.index, (at.term, numbers));
    }

    /// The entries up to these places are on the disk.
    pub(crate) fn log_written(&mut self, written: &[Position]) {
        for at in written {
            let stands = self.logged.get(&at.index).filter(|(term, _)| *term == at.term);
            let numbers = stands.map(|(_, numbers)| numbers.clone()).unwrap_or_default();
            numbers.into_iter().for_each(|number| self.safe(number));
        }
    }

    /// The log from this index on is about to be replaced: what was safe there goes to
    /// the spool with that write.
    pub(crate) fn unlog(&mut self, from: u64) {
        let gone = self.logged.split_off(&from);
        if !mutant::is(86) {
            self.give_shelter(gone.into_values().flat_map(|(_, numbers)| numbers));
        }
    }

    /// An entry is applied: those in it are through, if it did anything.
    pub(crate) fn applied(&mut self, at: Position, has_changed: bool) {
        let Some((term, numbers)) = self.logged.remove(&at.index) else { return };
        if has_changed && term == at.term {
            numbers.into_iter().for_each(|number| self.committed(number));
        } else {
            self.give_shelter(numbers.into_iter());
        }
    }

    /// Whoever was told that these are safe had been told of an entry that is not.
    fn give_shelter(&mut self, numbers: impl Iterator<Item = u64>) {
        let is_homeless = |live: &Live| live.is_safe && live.place.is_none();
        let homeless = numbers.filter(|number| self.live.get(number).is_some_and(is_homeless));
        let homeless = homeless.collect();
        self.put_in_spool(homeless);
    }

    /// Has what was not committed in time written to the spool; where that is full and
    /// takes no more, callers hear so.
    pub(crate) fn spool_overdue(&mut self, now: Millis) {
        let after_ms = self.options.spool_after_ms;
        let is_due = |live: &Live| live.place.is_none() && now.since(live.due) >= after_ms;
        let due = self.live.iter().filter(|(_, live)| is_due(live));
        let due: Vec<u64> = due.map(|(number, _)| *number).collect();
        if due.is_empty() || !self.spool.is_full(self.options.spool_bytes_max) {
            return self.put_in_spool(due);
        }
        if self.options.thins_out {
            return;
        }
        let full = Refusal::SpoolFull { bytes_max: self.options.spool_bytes_max }.to_string();
        for number in due {
            let live = &self.live[&number];
            if live.stage != Stage::Sent && live.may_refuse() {
                self.give_up(&[number]);
                self.refuse(number, &full);
            }
        }
    }

    /// A full spool is to be thinned out: something waits for room in it. Not while any of
    /// it is under way as well, of which it is not known what becomes.
    pub(crate) fn wants_room(&self, now: Millis) -> bool {
        let after_ms = self.options.spool_after_ms;
        self.options.thins_out
            && self.spool.is_full(self.options.spool_bytes_max)
            && self.live.values().all(|live| live.place.is_none())
            && self.live.values().any(|live| now.since(live.due) >= after_ms)
    }

    fn put_in_spool(&mut self, numbers: Vec<u64>) {
        let mut piece = Vec::new();
        let mut bytes = 0;
        for number in numbers {
            let more = reading_bytes(&self.live[&number].reading);
            if bytes + more > SPOOL_PIECE_BYTES_MAX && !piece.is_empty() {
                self.put_piece(core::mem::take(&mut piece));
                bytes = 0;
            }
            bytes += more;
            piece.push(number);
        }
        if !piece.is_empty() {
            self.put_piece(piece);
        }
    }

    fn put_piece(&mut self, numbers: Vec<u64>) {
        let readings = numbers.iter().map(|number| (*number, self.live[number].reading.clone()));
        let readings: Vec<_> = readings.collect();
        let is_sent = |number: &&u64| self.live[*number].stage == Stage::Sent;
        let flying = numbers.iter().filter(is_sent).count();
        let is_whole = flying == numbers.len();
        let place = self.spool.put(readings, if is_whole { flying } else { 0 });
        for number in numbers {
            if let Some(live) = self.live.get_mut(&number) {
                live.place = Some(place);
            }
        }
    }

    /// What the spool was to have of these readings is on the disk.
    pub(crate) fn spooled(&mut self, numbers: &[u64]) {
        self.spool.on_disk(numbers);
        for number in numbers {
            if let Some(why) = self.declined.remove(number) {
                self.callers.refuse(*number, &why);
                continue;
            }
            self.safe(*number);
            let rests = |live: &Live| live.stage != Stage::Sent && live.place.is_some();
            if self.live.get(number).is_some_and(rests) {
                self.forget(*number);
            }
        }
    }

    pub(crate) fn status(&self) -> IntakeStatus {
        let spool_bytes_max = self.options.spool_bytes_max;
        IntakeStatus {
            in_memory: self.live.values().filter(|live| live.place.is_none()).count() as u64,
            spooled: self.spool.readings(),
            spool_bytes: self.spool.bytes(),
            spool_bytes_max,
            spool_full: self.spool.is_full(spool_bytes_max),
            thinned: self.spool.thinned(),
            refused: self.refused,
            unreadable: self.spool.unreadable(),
        }
    }
}

/// What a reading takes in memory beside its place, bytes, about.
fn reading_bytes(reading: &Reading) -> usize {
    64 + reading.sensor.len()
        + reading.value.bytes().len()
        + reading.id.as_ref().map_or(0, String::len)
}
