//! What an entry says of readings, put down on every board by the same statements.
//!
//! A row that something of the users' bars is left out, on all boards alike: the leader
//! tried it before, and said so.

use rusqlite::{CachedStatement, Connection, ffi};
use understudy_core::{
    event::NodeId,
    readings::{Stored, StoredRow, unset_of},
};

use super::{late::Late, ledger::Ledger};
use crate::store::database::Bound;

/// Inserts one reading after the other.
pub(super) struct Inserts<'c>(CachedStatement<'c>);

impl<'c> Inserts<'c> {
    pub(super) fn new(connection: &'c Connection) -> rusqlite::Result<Self> {
        let sql = "INSERT OR ABORT INTO main.reading(sensor, time, value, board, token, flag) \
                   VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
        connection.prepare_cached(sql).map(Self)
    }

    pub(super) fn insert(&mut self, board: NodeId, row: &StoredRow) -> rusqlite::Result<()> {
        let statement = &mut self.0;
        statement.raw_bind_parameter(1, row.sensor)?;
        statement.raw_bind_parameter(2, row.time)?;
        statement.raw_bind_parameter(3, Bound(&row.value))?;
        statement.raw_bind_parameter(4, board.cast_signed())?;
        statement.raw_bind_parameter(5, row.token.map(u64::cast_signed))?;
        statement.raw_bind_parameter(6, row.is_far.then_some(1))?;
        statement.raw_execute().map(drop)
    }
}

/// Something of the users' does not let this row be: the same everywhere.
pub(super) fn is_barred(error: &rusqlite::Error) -> bool {
    let codes =
        [ffi::SQLITE_ERROR, ffi::SQLITE_TOOBIG, ffi::SQLITE_CONSTRAINT, ffi::SQLITE_MISMATCH];
    error.sqlite_error().is_some_and(|error| codes.contains(&(error.extended_code & 0xff)))
}

fn unless_barred(done: rusqlite::Result<()>) -> rusqlite::Result<()> {
    match done {
        Err(error) if !is_barred(&error) => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Makes a sensor known. It is there since its first reading, where that has a time.
pub(super) fn sensor(
    connection: &Connection,
    (id, name): (i64, &str),
    created: Option<i64>,
) -> rusqlite::Result<()> {
    let sql = "INSERT OR ABORT INTO main.sensor(id, name, created) VALUES (?1, ?2, ?3)";
    connection.prepare_cached(sql)?.execute((id, name, created)).map(drop)
}

/// Puts down all that an entry says.
pub(super) fn all(connection: &Connection, stored: &Stored) -> rusqlite::Result<()> {
    for (id, name) in &stored.sensors {
        let first = stored.rows.iter().find(|row| row.sensor == *id).map(|row| row.time);
        let created = first.filter(|time| unset_of(*time).is_none());
        unless_barred(sensor(connection, (*id, name), created))?;
    }
    if !stored.rows.is_empty() {
        let mut inserts = Inserts::new(connection)?;
        let mut late = Late::default();
        for row in &stored.rows {
            unless_barred(inserts.insert(stored.board, row))?;
            late.note(connection, row.sensor, row.time)?;
        }
    }
    ids(connection, stored)?;
    let before = Ledger::read(connection, stored.board)?;
    let mut ledger = before.clone();
    ledger.take(stored);
    if ledger == before { Ok(()) } else { ledger.write(connection, stored.board) }
}

/// Remembers ids, and forgets those that are due. Those that came while no leader knew
/// the time count from when the first does that finds them the oldest.
fn ids(connection: &Connection, stored: &Stored) -> rusqlite::Result<()> {
    let mut new = stored.rows.iter().filter_map(|row| row.id.as_ref()).peekable();
    if stored.ids_before > 0 {
        let sql = "DELETE FROM _understudy_reading_id WHERE number < ?1";
        connection.prepare_cached(sql)?.execute([stored.ids_before.cast_signed()])?;
    }
    if new.peek().is_none() {
        return Ok(());
    }
    if let Some(now) = stored.ids_us {
        let sql = "UPDATE _understudy_reading_id SET time = ?1 WHERE time = 0 AND 0 = \
                   (SELECT time FROM _understudy_reading_id ORDER BY number LIMIT 1)";
        connection.prepare_cached(sql)?.execute([now])?;
    }
    // No number is given again that this entry says is forgotten.
    let sql = "INSERT OR REPLACE INTO _understudy_reading_id(number, id, time) \
               SELECT max(?1, 1 + coalesce(max(number), 0)), ?2, ?3 FROM _understudy_reading_id";
    let mut insert = connection.prepare_cached(sql)?;
    for id in new {
        let from = stored.ids_before.max(1).cast_signed();
        insert.execute((from, id, stored.ids_us.unwrap_or(0)))?;
    }
    Ok(())
}
