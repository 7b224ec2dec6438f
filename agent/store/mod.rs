//! The two SQLite files of a board: the journal (what was promised) and the
//! database (what was applied).

use std::{fmt, path::Path};

pub mod database;
pub mod ffi;
pub mod journal;
pub mod restore;
mod wal;

/// Why a file of ours cannot be used. Names the file.
#[derive(Debug)]
pub struct StoreError(String);

impl StoreError {
    pub(crate) fn new(path: &Path, reason: impl fmt::Display) -> Self {
        Self(format!("{}: {reason}", path.display()))
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for StoreError {}

/// The SQLite linked in is new enough: older ones can lose committed pages.
fn check_sqlite() -> Result<(), StoreError> {
    if rusqlite::version_number() >= database::SQLITE_VERSION_MIN {
        return Ok(());
    }
    Err(StoreError(format!("SQLite {} is too old: 3.51.3 is needed", rusqlite::version())))
}
