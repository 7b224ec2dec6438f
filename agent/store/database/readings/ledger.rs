//! Which numbers of a board's readings are resolved: stored, or never to be.
//!
//! All below one number, and stretches above it, none of which touches another or that
//! number. What was resolved stays so.

use rusqlite::{Connection, OptionalExtension as _};
use understudy_core::{
    event::NodeId,
    mutant,
    readings::{Run, Stored, start_of},
    sql,
};

/// See the module's description.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Ledger {
    next: u64,
    /// First and last, ascending.
    done: Vec<(u64, u64)>,
    /// Readings that a full spool has given up, ever.
    given_up: u64,
}

impl Ledger {
    pub(super) fn is_resolved(&self, number: u64) -> bool {
        let place = self.done.partition_point(|(_, last)| *last < number);
        number < self.next || self.done.get(place).is_some_and(|(first, _)| *first <= number)
    }

    /// These are resolved, both among them.
    pub(super) fn resolve(&mut self, first: u64, last: u64) {
        if last < self.next {
            return;
        }
        if first <= self.next || mutant::is(85) {
            self.raise(last.saturating_add(1));
            return;
        }
        // Those that overlap or touch it are one with it.
        let from = self.done.partition_point(|(_, other)| other.saturating_add(1) < first);
        let to = self.done.partition_point(|(other, _)| *other <= last.saturating_add(1));
        let merged = self.done[from..to]
            .iter()
            .fold((first, last), |(first, last), other| (first.min(other.0), last.max(other.1)));
        self.done.splice(from..to, [merged]);
    }

    /// Nothing below this number will come again.
    fn raise(&mut self, floor: u64) {
        self.next = self.next.max(floor);
        let passed = self.done.partition_point(|(first, _)| *first <= self.next);
        for (_, last) in self.done.drain(..passed) {
            self.next = self.next.max(last.saturating_add(1));
        }
    }

    /// These were given up; what is resolved already does not count again.
    fn give_up(&mut self, run: Run) {
        for number in run.numbers() {
            self.given_up += u64::from(!self.is_resolved(number));
            self.resolve(number, number);
        }
    }

    /// What all in an entry comes to.
    pub(super) fn take(&mut self, stored: &Stored) {
        let numbers = stored.rows.iter().map(|row| &row.number).chain(&stored.nothing);
        numbers.for_each(|number| self.resolve(*number, *number));
        self.close(&stored.given_up, stored.floor);
    }

    /// These were given up, and nothing below the floor will come again.
    pub(super) fn close(&mut self, given_up: &[Run], floor: u64) {
        given_up.iter().for_each(|run| self.give_up(*run));
        self.raise(floor);
    }

    pub(super) fn ranges(&self) -> usize {
        self.done.len()
    }

    /// The start of the board that the lowest number not resolved is of.
    pub(super) const fn start(&self) -> u64 {
        start_of(self.next)
    }

    pub(super) fn read(connection: &Connection, board: NodeId) -> rusqlite::Result<Self> {
        let mut select = connection.prepare_cached(
            "SELECT next, done, given_up FROM _understudy_ledger WHERE board = ?1",
        )?;
        let row = select.query_row([board.cast_signed()], |row| {
            Ok((row.get::<_, i64>(0)?, row.get::<_, Option<Vec<u8>>>(1)?, row.get::<_, i64>(2)?))
        });
        let Some((next, done, given_up)) = row.optional()? else { return Ok(Self::default()) };
        let done = done.map(|done| sql::decode(&done)).transpose().map_err(|error| {
            rusqlite::Error::FromSqlConversionFailure(1, rusqlite::types::Type::Blob, error.into())
        })?;
        Ok(Self {
            next: next.cast_unsigned(),
            done: done.unwrap_or_default(),
            given_up: given_up.cast_unsigned(),
        })
    }

    pub(super) fn write(&self, connection: &Connection, board: NodeId) -> rusqlite::Result<()> {
        let done = (!self.done.is_empty()).then(|| sql::encode(&self.done));
        let mut put = connection.prepare_cached(
            "INSERT INTO _understudy_ledger(board, next, done, given_up) VALUES (?1, ?2, ?3, ?4) \
             ON CONFLICT(board) DO UPDATE SET next = ?2, done = ?3, given_up = ?4",
        )?;
        let (next, given_up) = (self.next.cast_signed(), self.given_up.cast_signed());
        put.execute((board.cast_signed(), next, done, given_up)).map(drop)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn any_order_comes_to_what_a_set_says() {
        let mut seed = 11_u64;
        let mut next = |below: u64| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (seed >> 33) % below
        };
        for _ in 0..200 {
            let (mut ledger, mut set) = (Ledger::default(), BTreeSet::new());
            for _ in 0..60 {
                let (first, more) = (next(200), next(5));
                match next(8) {
                    0 => {
                        let floor = first / 4;
                        ledger.raise(floor);
                        set.extend(0..floor);
                    }
                    _ => {
                        ledger.resolve(first, first + more);
                        set.extend(first..=first + more);
                    }
                }
                assert!((0..220).all(|n| ledger.is_resolved(n) == set.contains(&n)), "{ledger:?}");
                let ends = ledger.done.iter().flat_map(|(first, last)| [*first, *last + 2]);
                let ends: Vec<u64> = [ledger.next + 1].into_iter().chain(ends).collect();
                assert!(ends.is_sorted(), "none touches another: {ledger:?}");
            }
        }
    }

    #[test]
    fn the_highest_numbers_there_are_do_no_harm() {
        let mut ledger = Ledger::default();
        ledger.resolve(u64::MAX - 1, u64::MAX);
        ledger.resolve(u64::MAX, u64::MAX);
        ledger.give_up(Run { first: u64::MAX - 3, step: 2, count: 9 });
        assert!(ledger.is_resolved(u64::MAX) && !ledger.is_resolved(5));
        ledger.raise(u64::MAX);
        assert!(ledger.is_resolved(5));
    }
}
