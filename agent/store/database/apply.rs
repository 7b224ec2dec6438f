//! Committed entries become rows, on every board by this code, the leader
//! included.
//!
//! Rows are put, updated and deleted by their identity. A segment's puts are
//! tried as plain inserts; when one meets a row that is there, everything that
//! the segment puts is removed first and then put, so that values may swap places
//! under a UNIQUE index. Both ways are functions of the state before, so all
//! boards take the same one and their pages stay the same. An update touches no
//! column of such an index and finds its row, or the board stops.

use std::sync::Arc;

use rusqlite::{CachedStatement, ErrorCode, config::DbConfig};
use understudy_core::{
    change::{Change, Row, Segment},
    event::{Entry, EntryKind, Outcome, Position},
    mutant,
    sql::{self, Value},
};

use super::{Bound, Database, Failure, authorize::Mode, schema::Table, vacuum::VACUUM};

/// Why an entry could not be applied.
enum Trouble {
    Sqlite(rusqlite::Error),
    Failure(Failure),
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
                self.change_membership(&change)?;
                Ok(Outcome::Changed)
            }
            EntryKind::Change if entry.data.is_empty() => Ok(Outcome::Changed),
            EntryKind::Change => self.apply_change(entry),
        }
    }

    fn apply_change(&mut self, entry: &Entry) -> Result<Outcome, Trouble> {
        let unfit = |error: understudy_core::error::ChangeError| Trouble::Unfit(error.to_string());
        let position = Position { term: entry.term, index: entry.index };
        let base = Change::decode_base(&entry.data, position).map_err(unfit)?;
        let stands = base.term == entry.term && base.index + 1 == entry.index;
        if !stands && !mutant::is(7) {
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
        for segment in change.segments {
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

    fn apply_rows(&mut self, place: u32, rows: &[Row]) -> Result<(), Trouble> {
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
        let quiet = self.schema.has_triggers && !mutant::is(30);
        if quiet {
            self.connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_TRIGGER, false)?;
        }
        let checks = self.schema.has_checks;
        if checks {
            self.connection.execute_batch("PRAGMA ignore_check_constraints = ON")?;
        }
        let done = self.write_rows(&table, rows);
        if checks {
            self.connection.execute_batch("PRAGMA ignore_check_constraints = OFF")?;
        }
        if quiet {
            self.connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_TRIGGER, true)?;
        }
        done
    }

    fn write_rows(&self, table: &Table, rows: &[Row]) -> Result<(), Trouble> {
        match self.write_in_order(table, rows) {
            Err(Trouble::Sqlite(error)) if is_constraint(&error) => {}
            done => return done,
        }
        let mut delete = self.connection.prepare_cached(&table.delete)?;
        for row in rows {
            match row {
                Row::Put { rowid, columns } => {
                    let key = table.key.iter().map(|at| &columns[*at]);
                    run(&mut delete, *rowid, key)?;
                }
                Row::Delete { .. } | Row::Update { .. } => {}
            }
        }
        self.write_in_order(table, rows)
    }

    fn write_in_order(&self, table: &Table, rows: &[Row]) -> Result<(), Trouble> {
        for rows in rows.chunk_by(is_same_statement) {
            let mut statement = match &rows[0] {
                Row::Put { .. } => self.connection.prepare_cached(&table.insert)?,
                Row::Delete { .. } => self.connection.prepare_cached(&table.delete)?,
                Row::Update { changed, .. } => {
                    let places = changed.iter().map(|(place, _)| usize::from(*place));
                    self.connection.prepare_cached(&table.update(places))?
                }
            };
            for row in rows {
                write(&mut statement, table, row)?;
            }
        }
        Ok(())
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

fn write(statement: &mut CachedStatement<'_>, table: &Table, row: &Row) -> Result<(), Trouble> {
    match row {
        Row::Put { rowid, columns } => run(statement, *rowid, columns.iter())?,
        Row::Delete { rowid, key } => run(statement, *rowid, key.iter())?,
        Row::Update { rowid, key, changed } => {
            let changed = changed.iter().map(|(_, value)| value);
            if run(statement, *rowid, key.iter().chain(changed))? == 0 {
                let (name, identity) = (&table.name, rowid.map(Value::Integer));
                let identity = identity.map_or_else(|| key.clone(), |rowid| Vec::from([rowid]));
                return Err(Trouble::Unfit(format!("a row of {name} is not here: {identity:?}")));
            }
            1
        }
    };
    Ok(())
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
