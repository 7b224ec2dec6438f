//! Readings in `state.db`: where they stand, which are stored, what their times are.
//!
//! The leader plans and writes nothing: it reads which sensors are known, which numbers
//! of a board are resolved and which times are free, and says in the entry what stands
//! where. Every board, the leader included, puts that down as it is said. Nothing else
//! travels: how a board counts what is resolved follows from the numbers themselves.
//!
//! The tables are the users' own. Where they have put into them what may bar a row
//! (an index that is UNIQUE or on an expression, columns of theirs) the leader tries
//! each row before it says that it is stored.
//!
//! Requests for SQL of the same batch come first, whatever their place: what they leave
//! is what is planned on.

mod clock;
mod late;
mod ledger;
mod marks;
mod plan;
mod rollup;
mod tables;
mod tend;
mod write;

use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension as _};
use understudy_core::{
    change::Segment,
    error::Refusal,
    limits::{
        BATCH_GIVEN_UP_MAX, BATCH_READINGS_MAX, CHANGE_ROW_CELLS, PAGE_BYTES, READING_ID_BYTES_MAX,
        READING_TEXT_BYTES_MAX, SENSOR_NAME_BYTES_MAX,
    },
    readings::{Batch, Operation, Reading, Stored, Work},
    sql::{self, Value},
};

pub(super) use self::{marks::marks_anew, tables::Tables};
use self::{plan::Plan, tables::Known};
use super::{
    Database, Failure, authorize::Mode, execute::Request, gathered::Gathered, text::words,
};
use crate::settings::{READINGS_MB_MAX, megabytes};

/// Batches that are to be planned, each with its place among the requests.
pub(super) type Stores = Vec<(usize, Batch)>;

/// What becomes of a request alone.
type Answer = Result<Vec<u8>, Refusal>;

/// What a reading costs in an entry beside its strings, bytes: what its row and its
/// values do, and as much for a sensor that is new.
const READING_BYTES: usize = 256;

/// What a batch costs beside its readings, bytes: its head, and the statements that make
/// the tables.
const BATCH_BYTES: usize = 4 << 10;

/// Values that a reading counts for: its own, those of a sensor that is new, its row.
const READING_CELLS: usize = 8 + 2 * CHANGE_ROW_CELLS;

/// Numbers of one batch are no further apart: an entry has room for them as integers.
const NUMBERS_APART_MAX: u64 = 1 << 62;

impl Database {
    /// Takes up a request about readings. A batch is planned when all other requests of
    /// the entry are through: what it comes to has its room until then.
    pub(super) fn work(
        &mut self,
        bytes: &[u8],
        place: usize,
        stores: &mut Stores,
        gathered: &mut Gathered,
    ) -> Result<Request, Failure> {
        let refused = |words: &str| Request::Answered(Err(Refusal::Invalid(String::from(words))));
        let Some(work) = Work::decode(bytes) else {
            return Ok(refused("the request cannot be read"));
        };
        match work {
            Work::Store(batch) => {
                if let Some(words) = fault(&batch) {
                    return Ok(refused(words));
                }
                let (bytes, cells) = bounds(&batch);
                if !gathered.reserve(bytes, cells) {
                    return Ok(Request::DoesNotFit);
                }
                stores.push((place, batch));
                Ok(Request::Answered(Ok(Vec::new())))
            }
            Work::Clock(fix) if clock::is_absurd(&fix) => Ok(refused("no clock has such a time")),
            Work::Clock(_) | Work::Tend(_) if place > 0 => Ok(Request::DoesNotFit),
            Work::Clock(fix) => {
                self.authorizer.enter(Mode::Internal);
                let planned = clock::plan(&self.connection, fix, self.has_readings());
                let (operations, left) = planned.map_err(|error| self.failure(&error))?;
                let segments = operations.into_iter().map(Segment::Operation);
                segments.for_each(|segment| gathered.add_last(segment));
                Ok(Request::Last(sql::encode(&left)))
            }
            Work::Tend(tending) => {
                self.authorizer.enter(Mode::Internal);
                self.tend(&tending, gathered)
            }
        }
    }

    /// Are there tables that they stand in? What one lacks that was made anew since is
    /// told when the next is to be stored.
    fn has_readings(&self) -> bool {
        self.tables.known(&self.schema).is_some() || tables::are_there(&self.connection)
    }

    /// Plans what was taken up, and answers it.
    pub(super) fn store(
        &mut self,
        stores: Stores,
        gathered: &mut Gathered,
        answers: &mut [Answer],
    ) -> Result<(), Failure> {
        gathered.release();
        if stores.is_empty() {
            return Ok(());
        }
        self.authorizer.enter(Mode::Internal);
        self.hook.with(|notes| notes.record(false));
        let over = self.over_bound().map_err(|error| self.failure(&error))?;
        let known = match over.map_or_else(|| self.know_tables(gathered), |over| Ok(Err(over)))? {
            Ok(known) => known,
            Err(refusal) => {
                stores.iter().for_each(|(place, _)| answers[*place] = Err(refusal.clone()));
                return Ok(());
            }
        };
        let wall_us = self.options.wall.now_us();
        let planned = self.quietly(|database| {
            let mut plan = Plan::new(&database.connection, known, wall_us)?;
            let planned = stores.into_iter().map(|(place, batch)| Ok((place, plan.batch(batch)?)));
            planned.collect::<rusqlite::Result<Vec<_>>>()
        });
        for (place, planned) in planned.map_err(|error| self.failure(&error))? {
            answers[place] = planned.map(|(stored, verdict)| {
                stored.into_iter().for_each(|stored| gathered.add_last(Segment::Readings(stored)));
                sql::encode(&verdict)
            });
        }
        Ok(())
    }

    /// Puts down what an entry says of readings.
    pub(super) fn put_readings(&self, stored: &Stored) -> rusqlite::Result<()> {
        write::all(&self.connection, stored)
    }

    /// Does to readings what an entry says.
    pub(super) fn carry_out(&self, operation: &Operation) -> rusqlite::Result<()> {
        match operation {
            Operation::Clock { fix, sensor, rows_max } => {
                clock::carry_out(&self.connection, fix, *sensor, *rows_max).map(drop)
            }
            Operation::Trim { sensor, width_s, before } => {
                rollup::trim(&self.connection, (*sensor, *width_s), *before)
            }
        }
    }

    /// The database is as large as readings may make it, as the group has set.
    fn over_bound(&self) -> rusqlite::Result<Option<Refusal>> {
        let bound: Option<String> = self
            .connection
            .prepare_cached("SELECT value FROM _understudy_setting WHERE name = ?1")?
            .query_row([READINGS_MB_MAX], |row| row.get(0))
            .optional()?;
        let Some(mb_max) = bound.and_then(|bound| megabytes(&bound)).filter(|mb| *mb > 0) else {
            return Ok(None);
        };
        let number = |pragma| self.connection.query_row(pragma, [], |row| row.get::<_, i64>(0));
        let pages = number("PRAGMA page_count")? - number("PRAGMA freelist_count")?;
        let mb = pages.unsigned_abs().saturating_mul(PAGE_BYTES as u64) / 1_000_000;
        Ok((mb >= mb_max).then(|| {
            Refusal::Invalid(format!(
                "the database has {mb} MB, and no more readings are taken ({READINGS_MB_MAX}): let \
                 old ones go (`understudy retention`), or set it higher"
            ))
        }))
    }

    /// Makes the tables where they are not, and looks at those that are; the refusal says
    /// why they cannot be used.
    fn know_tables(&mut self, gathered: &mut Gathered) -> Result<Result<Known, Refusal>, Failure> {
        if let Some(known) = self.tables.known(&self.schema) {
            return Ok(Ok(known));
        }
        if let Err(words) = self.make_tables(&tables::ALL, gathered)? {
            return Ok(Err(Refusal::Invalid(words)));
        }
        let known = tables::look(&self.connection).map_err(|error| self.failure(&error))?;
        self.tables.know(Arc::clone(&self.schema), known);
        Ok(Ok(known))
    }

    /// Makes those of these tables that are not there; or says why one cannot be used.
    fn make_tables(
        &mut self,
        all: &[tables::Wanted],
        gathered: &mut Gathered,
    ) -> Result<Result<(), String>, Failure> {
        let before = Arc::clone(&self.schema);
        self.internal("SAVEPOINT tables")?;
        let made = match tables::make(&self.connection, all) {
            Ok(Ok(made)) if made.is_empty() => Ok(Vec::new()),
            Ok(Ok(made)) => {
                self.schema_changed = true;
                self.refresh_schema().map(|()| made).map_err(|error| error.words())
            }
            Ok(Err(words)) => Err(words),
            Err(error) if super::is_local(&error) || self.connection.is_autocommit() => {
                return Err(self.failure(&error));
            }
            Err(error) => Err(format!("the tables for readings cannot be made: {}", words(&error))),
        };
        if made.is_err() {
            self.internal("ROLLBACK TO tables")?;
            self.restore_schema(before);
        }
        self.internal("RELEASE tables")?;
        Ok(made.map(|made| made.into_iter().for_each(|sql| gathered.schema(sql))))
    }
}

/// The time of a reading that was taken so long after its board's start, by when that was.
const fn put_right(began_us: i64, boot_ms: u64) -> i64 {
    began_us.saturating_add_unsigned(boot_ms.saturating_mul(1_000))
}

/// The next time among rows of a table of readings; what users wrote there that is none
/// is passed over.
fn next_time(rows: &mut rusqlite::Rows<'_>) -> rusqlite::Result<Option<i64>> {
    while let Some(row) = rows.next()? {
        if let Ok(time) = row.get_ref(0)?.as_i64() {
            return Ok(Some(time));
        }
    }
    Ok(None)
}

/// The first sensor from this number on that has readings.
fn next_sensor(connection: &Connection, from: i64) -> rusqlite::Result<Option<i64>> {
    let sql = "SELECT sensor FROM main.reading WHERE sensor >= ?1 ORDER BY sensor";
    let mut select = connection.prepare_cached(sql)?;
    next_time(&mut select.query([from])?)
}

/// Why a batch as such is not taken.
fn fault(batch: &Batch) -> Option<&'static str> {
    let numbers = || batch.readings.iter().map(|(number, _)| *number);
    let apart = numbers().max().zip(numbers().min()).map_or(0, |(most, least)| most - least);
    let given_up = batch.given_up.iter().map(|run| run.count as usize).sum::<usize>();
    match batch {
        _ if batch.readings.len() > BATCH_READINGS_MAX => Some("more readings than one batch has"),
        _ if batch.given_up.len() > BATCH_READINGS_MAX || given_up > BATCH_GIVEN_UP_MAX => {
            Some("more numbers given up than one batch may")
        }
        _ if apart >= NUMBERS_APART_MAX => Some("numbers of readings too far from each other"),
        _ => None,
    }
}

/// Why a reading is not taken.
fn unfit(reading: &Reading) -> Option<String> {
    let Reading { sensor, value, id, .. } = reading;
    let is_name = !sensor.is_empty() && !sensor.chars().any(char::is_control);
    if !is_name || sensor.len() > SENSOR_NAME_BYTES_MAX {
        return Some(format!(
            "a sensor's name has 1 to {SENSOR_NAME_BYTES_MAX} bytes and no control characters"
        ));
    }
    if id.as_ref().is_some_and(|id| id.len() > READING_ID_BYTES_MAX) {
        return Some(format!("an id has at most {READING_ID_BYTES_MAX} bytes"));
    }
    match value {
        Value::Integer(_) => None,
        Value::Real(value) if !value.is_nan() => None,
        Value::Text(text)
            if text.len() <= READING_TEXT_BYTES_MAX && str::from_utf8(text).is_ok() =>
        {
            None
        }
        Value::Null | Value::Real(_) | Value::Text(_) | Value::Blob(_) => {
            Some(format!("a value is a number or a text of at most {READING_TEXT_BYTES_MAX} bytes"))
        }
    }
}

/// Bytes and values in an entry, at the most.
fn bounds(batch: &Batch) -> (usize, usize) {
    let strings = |reading: &Reading| {
        let id = reading.id.as_ref().map_or(0, String::len);
        let text = if let Value::Text(text) = &reading.value { text.len() } else { 0 };
        2 * reading.sensor.len() + id + text + READING_BYTES
    };
    let readings = batch.readings.iter().map(|(_, reading)| strings(reading)).sum::<usize>();
    let runs = batch.given_up.len();
    (
        BATCH_BYTES + readings + 32 * runs,
        READING_CELLS * (batch.readings.len() + runs + tables::COUNT),
    )
}

#[cfg(test)]
mod tend_tests;
#[cfg(test)]
mod tests;
