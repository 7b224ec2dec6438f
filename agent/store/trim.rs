//! The beginning of the journal's log: entries that go because the database holds
//! what came of them for good, and a log that begins anew behind a state that came
//! from another board. Where a witness took out what others may still lack, that stands
//! beside it.
//!
//! Each row carries what it and all before it take, so that stretches of a long log
//! are measured by looking at a few rows.

use rusqlite::{Connection, OptionalExtension};
use understudy_core::{
    event::{Cut, Position},
    limits::{LOG_ROW_BYTES, LOG_STRETCH_ENTRIES},
    mutant,
    restored::Stretch,
    sql,
};

use super::meta::{forget_meta, meta, set_meta};

/// Where the entry before the log's first stands.
const START: &str = "start";

/// A state that is about to come into the database.
const COMING: &str = "coming";

/// Up to where entries went before all others were known to hold them.
const GIVEN_UP: &str = "given up";

/// Up to where entries went before all others were known to hold them; 0 for never, or
/// if they hold them since.
pub(super) fn given_up(connection: &Connection) -> rusqlite::Result<u64> {
    position(connection, GIVEN_UP).map(|position| position.unwrap_or_default().index)
}

/// The entry before the log's first.
pub(super) fn start(connection: &Connection) -> rusqlite::Result<Position> {
    position(connection, START).map(Option::unwrap_or_default)
}

/// A state that was about to come into the database.
pub(super) fn coming(connection: &Connection) -> rusqlite::Result<Option<Position>> {
    position(connection, COMING)
}

fn position(connection: &Connection, name: &str) -> rusqlite::Result<Option<Position>> {
    let known: Option<Vec<u8>> = meta(connection, name)?;
    Ok(known.and_then(|known| sql::decode(&known).ok()))
}

/// Does what is to become of the entries before, inside of the transaction.
pub(super) fn cut(connection: &Connection, cut: Cut) -> rusqlite::Result<()> {
    match cut {
        Cut::UpTo(start) => {
            take_out(connection, start)?;
            forget_meta(connection, GIVEN_UP)
        }
        Cut::GivenUp(start) => {
            take_out(connection, start)?;
            set_meta(connection, GIVEN_UP, sql::encode(&start))
        }
        Cut::Coming(position) => set_meta(connection, COMING, sql::encode(&position)),
        Cut::Anew(start) => {
            if !mutant::is(27) {
                connection.execute("DELETE FROM log", [])?;
            }
            forget_meta(connection, COMING)?;
            set_meta(connection, GIVEN_UP, sql::encode(&start))?;
            set_meta(connection, START, sql::encode(&start))
        }
    }
}

fn take_out(connection: &Connection, start: Position) -> rusqlite::Result<()> {
    connection
        .prepare_cached("DELETE FROM log WHERE idx <= ?1")?
        .execute([start.index.cast_signed()])?;
    set_meta(connection, START, sql::encode(&start))
}

/// What the entries up to this one take, and those that are gone; 0 where there is none.
pub(super) fn total(connection: &Connection, index: u64) -> rusqlite::Result<u64> {
    let mut select = connection.prepare_cached("SELECT total FROM log WHERE idx = ?1")?;
    let total = select.query_row([index.cast_signed()], |row| row.get::<_, i64>(0)).optional()?;
    Ok(total.map_or(0, i64::cast_unsigned))
}

/// What entries from `first` to `last` take, stretch by stretch.
pub(super) fn stretches(
    connection: &Connection,
    first: u64,
    last: u64,
) -> rusqlite::Result<Vec<Stretch>> {
    let mut stretches: Vec<Stretch> = Vec::new();
    let (mut next, mut before) = (first, total_before(connection, first)?);
    while next <= last {
        let end = last.min(next + LOG_STRETCH_ENTRIES - 1);
        let total = total(connection, end)?;
        stretches.push(Stretch { first: next, bytes: total.saturating_sub(before) });
        (next, before) = (end + 1, total);
    }
    Ok(stretches)
}

/// What all before the log's first entry took.
fn total_before(connection: &Connection, first: u64) -> rusqlite::Result<u64> {
    let mut select =
        connection.prepare_cached("SELECT total - length(data) - ?2 FROM log WHERE idx = ?1")?;
    let of_row = LOG_ROW_BYTES.cast_signed();
    let total =
        select.query_row([first.cast_signed(), of_row], |row| row.get::<_, i64>(0)).optional()?;
    Ok(total.map_or(0, i64::cast_unsigned))
}
