//! Committed entries become rows, on every board by this code, the leader
//! included.
//!
//! Rows are put, updated and deleted by their identity. A segment's puts are
//! tried as plain inserts; when one meets a row that is there, everything that
//! the segment puts is removed first and then put, so that values may swap places
//! under a UNIQUE index. Both ways are functions of the state before, so all
//! boards take the same one and their pages stay the same.
//!
//! A row that does not fit is left out, and the others are written: one to change
//! or delete that is not here, one to put whose UNIQUE value a row holds that the
//! entry does not know. Capture lets no such row travel, so boards differ, and the
//! outcome says so. Who is wrong is not known here, least of all where the leader
//! is: a board that stopped would stop all that are right. It stops where guessing
//! would be worse: on another schema, or at a row of another shape.

use std::{collections::BTreeSet, sync::Arc};

use rusqlite::{CachedStatement, ErrorCode, config::DbConfig};
use understudy_core::{
    change::{Change, Row, Segment},
    event::{Entry, EntryKind, Outcome},
    mutant,
    sql::{self, Value},
};

use super::{
    Bound, Database, Failure, authorize::Mode, left_out::LeftOut, load, schema::Table, text::words,
    vacuum::VACUUM,
};

/// Rows that bar others' way by being left out themselves are looked for so often;
/// then all that stand together are left out.
const ROUNDS_MAX: usize = 8;

/// Why an entry could not be applied.
enum Trouble {
    Sqlite(rusqlite::Error),
    Failure(Failure),
    /// The entry as a whole and this board's database do not fit together.
    Unfit(String),
}

impl From<rusqlite::Error> for Trouble {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

impl Database {
    /// Applies entries in order, into the open transaction.
    ///
    /// # Errors
    /// [`Failure::Reset`] when the transaction was lost or had to be given up:
    /// everything above what the file holds comes again. [`Failure::Halt`] when
    /// an entry does not fit this board, which must not go on then.
    ///
    /// # Panics
    /// When an entry does not follow the one before.
    pub fn apply(&mut self, entries: &[Entry]) -> Result<Vec<Outcome>, Failure> {
        self.begin()?;
        self.authorizer.enter(Mode::Internal);
        self.hook.with(|notes| notes.record(false));
        self.look_for_version()?;
        let mut outcomes = Vec::with_capacity(entries.len());
        for entry in entries {
            assert_eq!(entry.index, self.applied().index + 1, "entries come one after the other");
            match self.apply_entry(entry) {
                Ok(outcome) => outcomes.push(outcome),
                Err(trouble) => return Err(self.troubled(entry, trouble)),
            }
            self.head.advance(entry);
            self.open_bytes += entry.data.len() as u64 + 64;
            self.look_for_scrub()?;
            self.look_for_duties()?;
            self.look_for_version()?;
        }
        Ok(outcomes)
    }

    fn troubled(&mut self, entry: &Entry, trouble: Trouble) -> Failure {
        match trouble {
            Trouble::Sqlite(error) => match self.failure(&error) {
                Failure::Halt(reason) => {
                    Failure::Halt(format!("entry {} cannot be applied here: {reason}", entry.index))
                }
                reset @ Failure::Reset { .. } => reset,
            },
            Trouble::Failure(failure) => failure,
            Trouble::Unfit(reason) => {
                Failure::Halt(format!("entry {} does not fit this board: {reason}", entry.index))
            }
        }
    }

    fn apply_entry(&mut self, entry: &Entry) -> Result<Outcome, Trouble> {
        match entry.kind {
            EntryKind::Membership => {
                let change = sql::decode(&entry.data)
                    .map_err(|_| Trouble::Unfit(String::from("not a membership change")))?;
                Ok(match self.change_membership(&change)? {
                    true => Outcome::Changed,
                    false => Outcome::Skipped,
                })
            }
            EntryKind::Change if entry.data.is_empty() || self.options.witness => {
                Ok(Outcome::Changed)
            }
            EntryKind::Change => self.apply_change(entry),
        }
    }

    fn apply_change(&mut self, entry: &Entry) -> Result<Outcome, Trouble> {
        let unfit = |error: understudy_core::error::ChangeError| Trouble::Unfit(error.to_string());
        let position = entry.position();
        let base = Change::decode_base(&entry.data, position).map_err(unfit)?;
        if !entry.stands_on(base) && !mutant::is(7) {
            return Ok(Outcome::Skipped);
        }
        let change = Change::decode(&entry.data, position).map_err(unfit)?;
        if change.fingerprint != self.schema.fingerprint {
            return Err(Trouble::Unfit(format!(
                "it was made on a schema of the fingerprint {:08x}, and here it is {:08x}",
                change.fingerprint, self.schema.fingerprint
            )));
        }
        if change.segments == [Segment::Schema(String::from(VACUUM))] {
            self.vacuum().map_err(Trouble::Failure)?;
            return Ok(Outcome::Changed);
        }
        let mut left_out = LeftOut::default();
        for segment in change.segments {
            match segment {
                Segment::Schema(sql) => {
                    match load::is_script(&sql) {
                        true => self.apply_script(&sql).map_err(Trouble::Failure)?,
                        false => self.run_schema_here(&sql)?,
                    }
                    self.schema_changed = true;
                    self.refresh_schema().map_err(|error| Trouble::Unfit(format!("{error:?}")))?;
                }
                Segment::Rows { table, rows } => self.apply_rows(table, &rows, &mut left_out)?,
                Segment::Readings(stored) => {
                    self.quietly(|database| database.put_readings(&stored))?;
                }
                Segment::Operation(operation) => {
                    self.quietly(|database| database.carry_out(&operation))?;
                }
            }
        }
        Ok(left_out.outcome(entry.index))
    }

    /// The leader's rows allowed it. Where this board's do not, it cannot tell whose
    /// are right, and without the statement it has another schema.
    fn run_schema_here(&self, sql: &str) -> Result<(), Trouble> {
        self.connection.execute_batch(sql).map_err(|error| match is_constraint(&error) {
            false => Trouble::Sqlite(error),
            true => Trouble::Unfit(format!(
                "the rows of the leader allowed `{sql}`, and those here do not ({}). Compare this \
                 table on all boards (SQLite's shell reads state.db): a board that stops alone is \
                 the one that is wrong, to be emptied and joined anew",
                words(&error)
            )),
        })
    }

    fn apply_rows(
        &mut self,
        place: u32,
        rows: &[Row],
        left_out: &mut LeftOut,
    ) -> Result<(), Trouble> {
        let Some(table) = self.schema.at(place).map(Arc::clone) else {
            return Err(Trouble::Unfit(format!("there is no table {place}")));
        };
        if let Some(row) = rows.iter().find(|row| !fits(&table, row)) {
            return Err(Trouble::Unfit(format!(
                "a row of another shape in {}: {row:?}",
                table.name
            )));
        }
        self.watch.touched(&table.name);
        self.charge.touched(&table.name);
        self.going.touched(&table.name);
        self.watch_tending(&table.name, rows);
        Ok(self.quietly(|database| database.write_rows(&table, rows, left_out))?)
    }

    /// Has rows written as they are: no trigger fires, no CHECK is asked.
    pub(super) fn quietly<T>(
        &self,
        write: impl FnOnce(&Self) -> rusqlite::Result<T>,
    ) -> rusqlite::Result<T> {
        let quiet = self.schema.has_triggers && !mutant::is(30);
        if quiet {
            self.connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_TRIGGER, false)?;
        }
        let checks = self.schema.has_checks;
        if checks {
            self.connection.execute_batch("PRAGMA ignore_check_constraints = ON")?;
        }
        let done = write(self);
        if checks {
            self.connection.execute_batch("PRAGMA ignore_check_constraints = OFF")?;
        }
        if quiet {
            self.connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_TRIGGER, true)?;
        }
        done
    }

    fn write_rows(
        &self,
        table: &Table,
        rows: &[Row],
        left_out: &mut LeftOut,
    ) -> rusqlite::Result<()> {
        for rows in rows.chunk_by(is_same_statement) {
            match &rows[0] {
                Row::Put { .. } => self.put(table, rows, left_out)?,
                Row::Delete { .. } => self.change(table, &table.delete, rows, left_out)?,
                Row::Update { changed, .. } => {
                    let places = changed.iter().map(|(place, _)| usize::from(*place));
                    self.change(table, &table.update(places), rows, left_out)?;
                }
            }
        }
        Ok(())
    }

    /// Rows that are here, or are left out.
    fn change(
        &self,
        table: &Table,
        sql: &str,
        rows: &[Row],
        left_out: &mut LeftOut,
    ) -> rusqlite::Result<()> {
        let mut statement = self.connection.prepare_cached(sql)?;
        for row in rows {
            match write(&mut statement, row) {
                Ok(0) => left_out.add(table, row, "no such row is here"),
                Ok(_) => {}
                Err(error) if is_constraint(&error) => left_out.add(table, row, &words(&error)),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn put(&self, table: &Table, rows: &[Row], left_out: &mut LeftOut) -> rusqlite::Result<()> {
        let mut insert = self.connection.prepare_cached(&table.insert)?;
        let mut inserted = 0;
        for row in rows {
            match write(&mut insert, row) {
                Ok(_) => inserted += 1,
                Err(error) if is_constraint(&error) => break,
                Err(error) => return Err(error),
            }
        }
        if inserted == rows.len() {
            return Ok(());
        }
        let mut delete = self.connection.prepare_cached(&table.delete)?;
        for row in &rows[..inserted] {
            remove(&mut delete, table, row)?;
        }
        let mut unfit = BTreeSet::new();
        for _ in 0..ROUNDS_MAX {
            let found = self.replace(table, rows, &unfit, left_out)?;
            if found.is_empty() {
                return Ok(());
            }
            unfit.extend(found);
        }
        let rest = rows.iter().enumerate().filter(|(at, _)| !unfit.contains(at));
        rest.for_each(|(_, row)| left_out.add(table, row, "too many beside it do not fit"));
        Ok(())
    }

    /// Removes what these rows take the place of, and puts them, all but those left
    /// out. Nothing is done when some do not fit: which.
    fn replace(
        &self,
        table: &Table,
        rows: &[Row],
        unfit: &BTreeSet<usize>,
        left_out: &mut LeftOut,
    ) -> rusqlite::Result<Vec<usize>> {
        let run = |sql| self.connection.prepare_cached(sql)?.raw_execute();
        let fit = || rows.iter().enumerate().filter(|(at, _)| !unfit.contains(at));
        run("SAVEPOINT rows")?;
        let mut delete = self.connection.prepare_cached(&table.delete)?;
        for (_, row) in fit() {
            remove(&mut delete, table, row)?;
        }
        let mut insert = self.connection.prepare_cached(&table.insert)?;
        let mut found = Vec::new();
        for (at, row) in fit() {
            match write(&mut insert, row) {
                Ok(_) => {}
                Err(error) if is_constraint(&error) => {
                    left_out.add(table, row, &words(&error));
                    found.push(at);
                }
                Err(error) => return Err(error),
            }
        }
        if !found.is_empty() {
            run("ROLLBACK TO rows")?;
        }
        run("RELEASE rows")?;
        Ok(found)
    }
}

fn fits(table: &Table, row: &Row) -> bool {
    let is_keyed = table.key_columns.is_some();
    let fits = match row {
        Row::Put { columns, .. } => columns.len() == table.columns,
        Row::Delete { key, .. } => key.len() == table.key.len(),
        Row::Update { key, changed, .. } => {
            let last = changed.last().map(|(place, _)| usize::from(*place));
            key.len() == table.key.len() && last.is_some_and(|last| last < table.columns)
        }
    };
    fits && row.rowid().is_some() != is_keyed
}

fn is_same_statement(one: &Row, other: &Row) -> bool {
    match (one, other) {
        (Row::Put { .. }, Row::Put { .. }) | (Row::Delete { .. }, Row::Delete { .. }) => true,
        (Row::Update { changed: one, .. }, Row::Update { changed: other, .. }) => {
            one.iter().map(|(place, _)| place).eq(other.iter().map(|(place, _)| place))
        }
        (Row::Put { .. } | Row::Delete { .. } | Row::Update { .. }, _) => false,
    }
}

/// How many rows it changed.
fn write(statement: &mut CachedStatement<'_>, row: &Row) -> rusqlite::Result<usize> {
    match row {
        Row::Put { rowid, columns } => run(statement, *rowid, columns.iter()),
        Row::Delete { rowid, key } => run(statement, *rowid, key.iter()),
        Row::Update { rowid, key, changed } => {
            let changed = changed.iter().map(|(_, value)| value);
            run(statement, *rowid, key.iter().chain(changed))
        }
    }
}

/// Deletes what a row that is to be put takes the place of.
fn remove(delete: &mut CachedStatement<'_>, table: &Table, row: &Row) -> rusqlite::Result<usize> {
    match row {
        Row::Put { rowid, columns } => run(delete, *rowid, table.key_of(columns)),
        Row::Delete { .. } | Row::Update { .. } => Ok(0),
    }
}

/// Runs a statement with these parameters; how many rows it changed.
fn run<'v>(
    statement: &mut CachedStatement<'_>,
    rowid: Option<i64>,
    values: impl Iterator<Item = &'v Value>,
) -> rusqlite::Result<usize> {
    let mut place = 1;
    if let Some(rowid) = rowid {
        let carried = (!mutant::is(31)).then_some(rowid);
        statement.raw_bind_parameter(place, carried)?;
        place += 1;
    }
    for (place, value) in (place..).zip(values) {
        statement.raw_bind_parameter(place, Bound(value))?;
    }
    statement.raw_execute()
}

fn is_constraint(error: &rusqlite::Error) -> bool {
    error.sqlite_error_code() == Some(ErrorCode::ConstraintViolation)
}
