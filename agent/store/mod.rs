//! The two SQLite files of a board: the journal (what was promised) and the
//! database (what was applied).

use std::{
    fmt,
    fs::{OpenOptions, Permissions},
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::Path,
};

use rusqlite::{Connection, ErrorCode, OpenFlags, config::DbConfig};

pub mod database;
pub mod ffi;
pub mod format;
pub mod journal;
mod meta;
mod readback;
pub mod recover;
pub mod reserve;
pub mod restore;
mod row;
pub mod scratch;
mod shelter;
mod spool;
mod trim;
mod wal;

/// Why a file of ours cannot be used. Names the file.
#[derive(Debug)]
pub struct StoreError(String);

impl StoreError {
    pub(crate) fn new(path: &Path, reason: impl fmt::Display) -> Self {
        Self(format!("{}: {reason}", path.display()))
    }

    fn of_file(path: &Path, error: &rusqlite::Error) -> Self {
        match is_damage(error) {
            true => Self::new(path, format!("{error}. {REMEDY}")),
            false => Self::new(path, error),
        }
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for StoreError {}

/// What helps when a file of ours is damaged or lost.
pub(crate) const REMEDY: &str = "This board cannot go on with it, and its data is safe if the \
     group has other boards: move this board's data directory away, start its agent and \
     `understudy join TOKEN` anew";

/// Is it the file that is wrong, and not its circumstances?
fn is_damage(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase))
}

/// Makes the file, if need be, and lets nobody else read it; SQLite gives what
/// belongs to it the same mode.
///
/// # Errors
/// Names the file.
pub fn make_private(path: &Path) -> Result<(), StoreError> {
    make(path, 0o600)
}

/// Makes the database, if need be, and lets its group read it and what belongs to
/// it, never write.
///
/// # Errors
/// Names the file.
pub fn make_readable(path: &Path) -> Result<(), StoreError> {
    for end in ["-wal", "-shm"] {
        let mut beside = path.as_os_str().to_owned();
        beside.push(end);
        let beside = Path::new(&beside);
        if beside.exists() {
            make(beside, READABLE)?;
        }
    }
    make(path, READABLE)
}

const READABLE: u32 = 0o640;

fn make(path: &Path, mode: u32) -> Result<(), StoreError> {
    let at = |error: std::io::Error| StoreError::new(path, error);
    let mut options = OpenOptions::new();
    let file = options.write(true).create(true).truncate(false).mode(mode).open(path);
    file.and_then(|file| file.set_permissions(Permissions::from_mode(mode))).map_err(at)
}

/// A file of ours, made when it is not there, for one thread at a time.
fn open(path: &Path, vfs: Option<&str>) -> rusqlite::Result<Connection> {
    open_with(path, vfs, OpenFlags::SQLITE_OPEN_CREATE)
}

/// The same of one that is there: a board that forgets its group gets none anew.
fn open_again(path: &Path, vfs: Option<&str>) -> rusqlite::Result<Connection> {
    open_with(path, vfs, OpenFlags::empty())
}

fn open_with(path: &Path, vfs: Option<&str>, more: OpenFlags) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX | more;
    match vfs {
        Some(vfs) => Connection::open_with_flags_and_vfs(path, flags, vfs),
        None => Connection::open_with_flags(path, flags),
    }
}

/// The SQLite linked in is new enough: older ones can lose committed pages.
fn check_sqlite() -> Result<(), StoreError> {
    if rusqlite::version_number() >= database::SQLITE_VERSION_MIN {
        return Ok(());
    }
    Err(StoreError(format!("SQLite {} is too old: 3.51.3 is needed", rusqlite::version())))
}

/// An orderly close brings the WAL back into the file and deletes it: not where
/// it is evidence, nor after a failed sync.
fn keep_wal_on_close(connection: &Connection, keep: bool) -> rusqlite::Result<()> {
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, keep).map(drop)
}
