//! Committed entries become rows, on every board by this code, the leader
//! included.
//!
//! Rows are put and deleted by their identity. A segment's puts are tried as
//! plain inserts; when one meets a row that is there, everything the segment
//! names is removed first and then put, so that values may swap places under a
//! UNIQUE index. Both ways are functions of the state before, so all boards take
//! the same one and their pages stay the same.

use std::sync::Arc;

use rusqlite::{CachedStatement, ErrorCode, config::DbConfig};
use understudy_core::{
    change::{Change, Row, Segment},
    event::{Entry, EntryKind, Outcome},
    mutant, sql,
};

use super::{Bound, Database, Failure, authorize::Mode, schema::Table};

/// Why an entry could not be applied.
enum Trouble {
    Sqlite(rusqlite::Error),
    /// The entry and this board's database do not fit together.
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
                self.change_membership(&change)?;
                Ok(Outcome::Changed)
            }
            EntryKind::Change if entry.data.is_empty() => Ok(Outcome::Changed),
            EntryKind::Change => self.apply_change(entry),
        }
    }

    fn apply_change(&mut self, entry: &Entry) -> Result<Outcome, Trouble> {
        let unfit = |error: understudy_core::error::ChangeError| Trouble::Unfit(error.to_string());
        let base = Change::decode_base(&entry.data).map_err(unfit)?;
        let stands = base.term == entry.term && base.index + 1 == entry.index;
        if !stands && !mutant::is(7) {
            return Ok(Outcome::Skipped);
        }
        for segment in Change::decode(&entry.data).map_err(unfit)?.segments {
            match segment {
                Segment::Schema(sql) => {
                    self.schema_changed = true;
                    self.connection.execute_batch(&sql)?;
                    self.refresh_schema().map_err(|error| Trouble::Unfit(format!("{error:?}")))?;
                }
                Segment::Rows { table, rows } => self.apply_rows(table, &rows)?,
            }
        }
        Ok(Outcome::Changed)
    }

    fn apply_rows(&mut self, fingerprint: u32, rows: &[Row]) -> Result<(), Trouble> {
        let Some(table) = self.schema.of(fingerprint).map(Arc::clone) else {
            return Err(Trouble::Unfit(format!("no table has the fingerprint {fingerprint:08x}")));
        };
        if let Some(row) = rows.iter().find(|row| !fits(&table, row)) {
            return Err(Trouble::Unfit(format!(
                "a row of another shape in {}: {row:?}",
                table.name
            )));
        }
        self.watch.touched(&table.name);
        let quiet = self.schema.has_triggers;
        if quiet {
            self.connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_TRIGGER, false)?;
        }
        let checks = self.schema.has_checks;
        if checks {
            self.connection.execute_batch("PRAGMA ignore_check_constraints = ON")?;
        }
        let done = self.put_and_delete(&table, rows);
        if checks {
            self.connection.execute_batch("PRAGMA ignore_check_constraints = OFF")?;
        }
        if quiet {
            self.connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_TRIGGER, true)?;
        }
        Ok(done?)
    }

    fn put_and_delete(&self, table: &Table, rows: &[Row]) -> rusqlite::Result<()> {
        let mut insert = self.connection.prepare_cached(&table.insert)?;
        let only_puts = rows.iter().all(|row| matches!(row, Row::Put { .. }));
        if only_puts {
            match rows.iter().try_for_each(|row| put(&mut insert, row)) {
                Err(error) if is_constraint(&error) => {}
                done => return done,
            }
        }
        let mut delete = self.connection.prepare_cached(&table.delete)?;
        for row in rows {
            remove(&mut delete, table, row)?;
        }
        rows.iter()
            .filter(|row| matches!(row, Row::Put { .. }))
            .try_for_each(|row| put(&mut insert, row))
    }
}

fn fits(table: &Table, row: &Row) -> bool {
    let is_keyed = table.key_columns.is_some();
    match row {
        Row::Put { rowid, columns } => {
            rowid.is_some() != is_keyed && columns.len() == table.columns
        }
        Row::Delete { rowid, key } => rowid.is_some() != is_keyed && key.len() == table.key.len(),
    }
}

fn put(insert: &mut CachedStatement<'_>, row: &Row) -> rusqlite::Result<()> {
    let Row::Put { rowid, columns } = row else { return Ok(()) };
    let mut place = 1;
    if let Some(rowid) = rowid {
        insert.raw_bind_parameter(place, rowid)?;
        place += 1;
    }
    for (place, value) in (place..).zip(columns) {
        insert.raw_bind_parameter(place, Bound(value))?;
    }
    insert.raw_execute().map(drop)
}

fn remove(delete: &mut CachedStatement<'_>, table: &Table, row: &Row) -> rusqlite::Result<()> {
    match row {
        Row::Put { rowid: Some(rowid), .. } | Row::Delete { rowid: Some(rowid), .. } => {
            delete.raw_bind_parameter(1, rowid)?;
        }
        Row::Put { rowid: None, columns } => {
            for (place, at) in (1..).zip(&table.key) {
                delete.raw_bind_parameter(place, Bound(&columns[*at]))?;
            }
        }
        Row::Delete { rowid: None, key } => {
            for (place, value) in (1..).zip(key) {
                delete.raw_bind_parameter(place, Bound(value))?;
            }
        }
    }
    delete.raw_execute().map(drop)
}

fn is_constraint(error: &rusqlite::Error) -> bool {
    error.sqlite_error_code() == Some(ErrorCode::ConstraintViolation)
}
