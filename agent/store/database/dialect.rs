//! What SQL means wherever we run it, and how large its values may be: on a board's
//! database, and on a file that is to become one.

use rusqlite::{Connection, config::DbConfig, limits::Limit};
use understudy_core::limits;

/// One text or blob, bytes.
#[expect(clippy::cast_possible_truncation, reason = "a few megabytes")]
const VALUE_BYTES_MAX: i32 = limits::ENTRY_BYTES_MAX as i32;

/// The pattern of a LIKE or GLOB, bytes. SQLite goes one call deeper for each of its
/// wildcards, and does not look at the clock before it is done.
const PATTERN_BYTES_MAX: i32 = 1_000;

/// What SQL means on a connection, and its limits.
pub(crate) fn set(connection: &Connection) -> rusqlite::Result<()> {
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DQS_DML, true)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DQS_DDL, true)?;
    // One value is part of one change and of one answer: no longer than either.
    connection.set_limit(Limit::SQLITE_LIMIT_LENGTH, VALUE_BYTES_MAX)?;
    connection.set_limit(Limit::SQLITE_LIMIT_LIKE_PATTERN_LENGTH, PATTERN_BYTES_MAX)?;
    Ok(())
}
