//! How a node takes readings in: what the intake wants becomes requests to the leader
//! and writes of the journal, and what comes of them goes back to it.
//!
//! What is to be written for the spool goes with the next write there is, and only
//! where none is under way makes one of its own.

use alloc::vec::Vec;

use crate::{
    change::Change,
    error::Refusal,
    event::{Effect, Entry, Millis, Outcome, Position, Reply, Request, RequestId, SpoolPiece},
    intake::{self, IntakeStatus},
    limits::{BATCH_READINGS_BYTES_MAX, BATCH_READINGS_MAX, INTAKE_REFUSED_MS},
    node::Node,
    readings::{Arrivals, Verdict, Work},
    spool::Purpose,
    sql,
    writes::{Ticket, Waiting},
};

impl Node {
    /// How this board takes readings in, from now on.
    pub const fn set_intake(&mut self, options: intake::Options) {
        self.intake.options = options;
    }

    /// A caller on this board brings readings.
    pub(crate) fn on_arrivals(&mut self, now: Millis, id: RequestId, arrivals: Arrivals) {
        if arrivals.readings.is_empty() || arrivals.readings.len() > BATCH_READINGS_MAX {
            let words = alloc::format!("1 to {BATCH_READINGS_MAX} readings come together");
            return self.reply(id, Reply::Refused(Refusal::Invalid(words)));
        }
        self.note_sensors(now, &arrivals.readings);
        let deadline = now.plus(self.config.timing.request_timeout_ms).plus(arrivals.window_ms);
        if let Err(refusal) = self.intake.arrive(now, id, arrivals, deadline) {
            self.reply(id, Reply::Refused(refusal));
        }
    }

    /// Sends what is due, and what the spool still has.
    pub(crate) fn serve_readings(&mut self, now: Millis) {
        self.intake.can_send = self.may_send_readings(now);
        while let Some(departure) = self.intake.depart(now) {
            self.send_batch(now, departure);
        }
        let purpose = match self.intake.wants_room(now) {
            true => Purpose::Thin,
            false => Purpose::Drain,
        };
        let is_wanted = purpose == Purpose::Thin || self.intake.can_send;
        if is_wanted && self.intake.spool.may_fetch(now) {
            let number = self.number();
            let after = self.intake.spool.fetch(number, purpose);
            let bytes_max = BATCH_READINGS_BYTES_MAX as u64;
            self.effects.push(Effect::FetchSpool { number, after, bytes_max });
        }
    }

    fn send_batch(&mut self, now: Millis, departure: intake::Departure) {
        let deadline = now.plus(self.config.timing.request_timeout_ms);
        let ticket = Ticket::Readings(departure.flight);
        let request = Request::Write(Work::Store(departure.batch).encode());
        self.wait(now, Waiting { ticket, request, deadline });
    }

    /// Pieces of the spool were read back.
    pub(crate) fn on_spool_fetched(&mut self, now: Millis, number: u64, pieces: Vec<SpoolPiece>) {
        match self.intake.spool.fetched(number) {
            Some(Purpose::Drain) => {
                if let Some(batch) = self.intake.spool.drain(now, pieces) {
                    let departure = self.intake.depart_drained(batch);
                    self.send_batch(now, departure);
                }
            }
            Some(Purpose::Thin) => self.intake.spool.thin(now, pieces),
            None => {}
        }
    }

    /// The leader has answered a batch, or nobody has.
    pub(crate) fn on_verdict(&mut self, now: Millis, flight: u64, reply: Reply) {
        let again = now.plus(self.config.timing.forward_retry_ms);
        match reply {
            Reply::Done { answer, .. } => match sql::decode::<Verdict>(&answer) {
                Ok(verdict) => self.intake.landed(flight, verdict.refused),
                Err(_) => self.intake.turned_back(flight, again, &Refusal::OutcomeUnknown),
            },
            Reply::Refused(refusal @ (Refusal::Invalid(_) | Refusal::TooLarge { .. })) => {
                let again = now.plus(INTAKE_REFUSED_MS);
                self.intake.turned_back(flight, again, &refusal);
            }
            Reply::Refused(refusal) => self.intake.turned_back(flight, again, &refusal),
        }
    }

    /// Entries are about to be written to the log, in place of what stood there: what
    /// of it is this board's.
    pub(crate) fn log_readings(&mut self, entries: &[Entry], is_anew: bool) {
        let first = entries.first().map_or(u64::MAX, |entry| entry.index);
        self.intake.unlog(if is_anew { 0 } else { first });
        // A witness knows no sensor's name: what its log has of readings is not all of them.
        if !self.intake.awaits_entries() || self.is_witness() {
            return;
        }
        for entry in entries {
            let numbers = numbers_in(entry, self.config.id);
            self.intake.log(entry.position(), numbers);
        }
    }

    /// An entry is applied.
    pub(crate) fn apply_readings(&mut self, at: Position, outcome: Outcome) {
        self.intake.applied(at, outcome != Outcome::Skipped);
    }

    /// Writes what the spool is to have, where no other write takes it along.
    pub(crate) fn tend_spool(&mut self, now: Millis) {
        if !self.pending.is_empty() {
            return;
        }
        self.intake.spool_overdue(now);
        if self.intake.spool.is_urgent() {
            self.persist_spool();
        }
    }

    pub(crate) fn tell_callers(&mut self) {
        for (id, reply) in self.intake.callers.take_told() {
            self.reply(id, reply);
        }
    }

    /// The readings on this board.
    #[must_use]
    pub fn intake_status(&self) -> IntakeStatus {
        self.intake.status()
    }
}

/// Numbers of a board's readings that an entry brings.
fn numbers_in(entry: &Entry, board: u64) -> Vec<u64> {
    let stored = Change::of(entry).into_iter().flat_map(Change::into_readings);
    let own = stored.filter(|stored| stored.board == board);
    own.flat_map(|stored| stored.rows).map(|row| row.number).collect()
}
