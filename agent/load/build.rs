//! SQL text makes a SQLite file, as SQLite's own shell would: a dump's transaction,
//! its counters and its full-text indexes included. What reaches beyond that file is
//! refused.

use std::{
    io::BufRead,
    path::Path,
    sync::{Arc, Mutex},
};

use rusqlite::{Connection, ErrorCode, ffi as code};
use understudy_core::{event::Millis, limits::REQUEST_MS_MAX};

use super::{Failed, script::Statements};
use crate::{
    driver::clock,
    store::{
        database::dialect,
        ffi::{self, Action, Authority},
        scratch::{ROOM_BYTES_MIN, free_bytes},
    },
};

/// Bytes of a page: what the file is made of.
const PAGE_BYTES: u64 = 4_096;

/// SQLite's steps between two looks at the clock.
const STEPS: i32 = 10_000;

/// Pragmas of a dump.
const PRAGMAS: [&str; 6] =
    ["foreign_keys", "writable_schema", "user_version", "application_id", "encoding", "table_info"];

struct Within;

impl Authority for Within {
    fn allows(&mut self, action: &Action<'_>) -> bool {
        match action.code {
            code::SQLITE_ATTACH | code::SQLITE_DETACH => false,
            code::SQLITE_PRAGMA => {
                let name = action.names[0].unwrap_or_default();
                PRAGMAS.iter().any(|known| name.eq_ignore_ascii_case(known.as_bytes()))
            }
            _ => true,
        }
    }
}

/// Executes all of the text on the file, which is empty.
pub(super) fn database(path: &Path, directory: &Path, text: impl BufRead) -> Result<(), Failed> {
    let free = free_bytes(directory).map_err(Failed::Group)?;
    let pages = free.saturating_sub(ROOM_BYTES_MIN) / PAGE_BYTES;
    let mut connection =
        open(path, pages).map_err(|error| Failed::Group(format!("{}: {error}", path.display())))?;
    let mut statements = Statements::new(text);
    for number in 1.. {
        let at = |words: &str| Failed::Statement(format!("statement {number}: {words}"));
        let Some(statement) = statements.next().map_err(|words| at(&words))? else { break };
        let deadline = clock::now().plus(REQUEST_MS_MAX);
        limit(&mut connection, deadline).map_err(|error| at(&error.to_string()))?;
        connection.execute_batch(&statement).map_err(|error| said(&error, &at))?;
    }
    if !connection.is_autocommit() {
        let words = "the text ends before the transaction it began: is it cut off?";
        return Err(Failed::Statement(String::from(words)));
    }
    Ok(())
}

fn open(path: &Path, pages: u64) -> rusqlite::Result<Connection> {
    let connection = Connection::open(path)?;
    dialect::set(&connection)?;
    connection.execute_batch(&format!(
        "PRAGMA page_size = {PAGE_BYTES}; PRAGMA max_page_count = {pages};
         PRAGMA journal_mode = DELETE; PRAGMA synchronous = OFF; PRAGMA cache_size = -1024;
         PRAGMA foreign_keys = OFF;"
    ))?;
    ffi::ask(&connection, Arc::new(Mutex::new(Within)))?;
    Ok(connection)
}

fn limit(connection: &mut Connection, deadline: Millis) -> rusqlite::Result<()> {
    connection.progress_handler(STEPS, Some(move || clock::now() >= deadline))
}

fn said(error: &rusqlite::Error, at: &dyn Fn(&str) -> Failed) -> Failed {
    match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => Failed::Group(String::from(
            "the disk of this board has no room for what the text makes",
        )),
        Some(ErrorCode::OperationInterrupted) => at("it took longer than a minute"),
        Some(ErrorCode::AuthorizationForStatementDenied) => {
            at("what reaches beyond the tables of one database is not loaded: leave it out")
        }
        _ => at(&error.to_string()),
    }
}
