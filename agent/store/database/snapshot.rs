//! The database as of one entry, copied out while others are applied.
//!
//! What is applied is committed, the WAL is brought back as far as it goes, and a
//! connection of the copy's own begins to read: SQLite keeps it at that state. The
//! pages then leave one by one, so memory is one page and one small cache whatever
//! the file's size, and the card is not written to.
//!
//! Bounds: a copy ends after [`SNAPSHOT_MS_MAX`], and when the WAL, which cannot
//! begin anew meanwhile, has grown to half of what it may: no copy keeps a board
//! from applying. Whoever writes the bytes out asks [`Patience::why`] while it waits.
//!
//! Our own tables (`_understudy_*`) are in the file: it is the very pages, and
//! taking tables out of them would cost a second file on the card. They say which
//! entry the copy is of. They hold no secret (any caller reads them by SQL), and
//! whoever loads a file leaves them out: no membership is ever restored.

use std::{
    fs::File,
    io::{self, Read, Write},
    path::{Path, PathBuf},
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use rusqlite::Connection;
use understudy_core::event::Millis;

use super::{
    Database, Failure, Options,
    dump::{self, Trouble},
    read::read_from_now,
    text::words,
};
use crate::{call::Form, store::scratch};

/// Copies under way at a time: each keeps the WAL from beginning anew.
pub const SNAPSHOTS_MAX: usize = 2;

/// A copy is complete after this, or given up, milliseconds.
const SNAPSHOT_MS_MAX: u64 = 30 * 60 * 1_000;

/// SQLite's steps between two questions whether to go on.
const STEPS: i32 = 1_000;

/// Bytes handed on at a time.
const PIECE_BYTES: usize = 64 << 10;

/// Bytes of SQLite's header that name the mode: 1 rollback journal, 2 WAL.
const MODE_BYTES: std::ops::Range<usize> = 18..20;

/// How long a copy may go on.
pub struct Patience {
    is_over: AtomicBool,
    deadline: Millis,
    clock: fn() -> Millis,
}

impl Patience {
    /// Why it must end now, if it must.
    #[must_use]
    pub fn why(&self) -> Option<&'static str> {
        if self.is_over.load(Relaxed) {
            return Some(
                "so much was written meanwhile that the copy would have kept this board from \
                 applying it: take it over a faster way, from another board, or when less is \
                 written",
            );
        }
        ((self.clock)() >= self.deadline).then_some(
            "the copy took longer than 30 minutes: take it over a faster way, or with compress",
        )
    }
}

/// The copies under way.
#[derive(Default)]
pub(super) struct Copies(Vec<Copy>);

struct Copy {
    limit: Weak<Patience>,
    /// Committed since it began, bytes of entries.
    grown: u64,
}

impl Copies {
    /// So much more was committed.
    pub(super) fn grew(&mut self, bytes: u64) {
        self.0.retain(|copy| copy.limit.strong_count() > 0);
        self.0.iter_mut().for_each(|copy| copy.grown += bytes);
    }

    /// Ends those during which so much was written, what is not committed yet included:
    /// they need a moment to come to their end.
    pub(super) fn bound(&self, open_bytes: u64, bytes_max: u64) {
        let is_over = |copy: &&Copy| copy.grown + open_bytes >= bytes_max;
        self.0.iter().filter(is_over).for_each(|copy| end(&copy.limit));
    }

    /// The WAL is as large as it may become while copies are under way.
    pub(super) fn end_all(&self) {
        self.0.iter().for_each(|copy| end(&copy.limit));
    }

    fn count(&self) -> usize {
        self.0.iter().filter(|copy| copy.limit.strong_count() > 0).count()
    }
}

fn end(limit: &Weak<Patience>) {
    if let Some(limit) = limit.upgrade() {
        limit.is_over.store(true, Relaxed);
    }
}

/// A state of the database, to be copied on whatever thread has time for it.
pub struct Snapshot {
    connection: Connection,
    limit: Arc<Patience>,
    directory: PathBuf,
}

impl Database {
    /// Keeps the state of now for a copy, which must hold what was applied up to
    /// `index`; or says why it cannot.
    ///
    /// # Errors
    /// As [`Database::commit`].
    pub fn snapshot(&mut self, index: u64) -> Result<Result<Snapshot, String>, Failure> {
        let refused = |words: &str| Ok(Err(String::from(words)));
        if self.is_full() {
            return refused("disk full: what is applied is not in the file");
        }
        if self.copies.count() >= SNAPSHOTS_MAX {
            return Ok(Err(format!("{SNAPSHOTS_MAX} copies are being taken already: try again")));
        }
        self.checkpoint()?;
        if self.is_held() {
            return refused(
                "another program reads state.db for too long (`understudy status` names it)",
            );
        }
        if self.applied().index < index {
            return refused("this board is reading its journal again: try again");
        }
        let limit = Arc::new(Patience {
            is_over: AtomicBool::new(false),
            deadline: (self.options.clock)().plus(SNAPSHOT_MS_MAX),
            clock: self.options.clock,
        });
        match read_within(&self.path, &self.options, &limit) {
            Err(error) => Ok(Err(words(&error))),
            Ok(connection) => {
                self.copies.0.push(Copy { limit: Arc::downgrade(&limit), grown: 0 });
                let directory = self.path.parent().unwrap_or(&self.path).to_owned();
                Ok(Ok(Snapshot { connection, limit, directory }))
            }
        }
    }
}

/// Ends with its limit.
fn read_within(
    path: &Path,
    options: &Options,
    limit: &Arc<Patience>,
) -> rusqlite::Result<Connection> {
    let mut connection = read_from_now(path, options)?;
    let limit = Arc::clone(limit);
    connection.progress_handler(STEPS, Some(move || limit.why().is_some()))?;
    Ok(connection)
}

impl Snapshot {
    /// How long it may go on: for whoever waits with its bytes.
    #[must_use]
    pub fn limit(&self) -> Arc<Patience> {
        Arc::clone(&self.limit)
    }

    /// Of the copy, where that is known before it is made.
    #[must_use]
    pub fn bytes(&self, form: &Form) -> Option<u64> {
        match form {
            Form::Pages { vacuum: false, .. } => self.file_bytes().ok(),
            Form::Pages { vacuum: true, .. } | Form::Sql { .. } => None,
        }
    }

    fn file_bytes(&self) -> rusqlite::Result<u64> {
        let number = |sql| self.connection.query_row(sql, [], |row| row.get::<_, i64>(0));
        let bytes = number("PRAGMA page_count")? * number("PRAGMA page_size")?;
        Ok(bytes.cast_unsigned())
    }

    /// Writes all of it.
    ///
    /// # Errors
    /// Why it came to no end, in words.
    pub fn write(&self, form: &Form, out: &mut dyn Write) -> Result<(), String> {
        let mut out = io::BufWriter::with_capacity(PIECE_BYTES, out);
        let written = self.goes_on().and_then(|()| match form {
            Form::Pages { wal, vacuum: false } => self.write_pages(*wal, &mut out),
            Form::Pages { wal, vacuum: true } => self.write_vacuumed(*wal, &mut out),
            Form::Sql { tables } => dump::write(&self.connection, tables, &mut out),
        });
        let written = written.and_then(|()| out.flush().map_err(Trouble::from));
        // Nothing is left to be written, least of all from a destructor.
        let _ = out.into_parts();
        written.map_err(|trouble| match (self.limit.why(), trouble) {
            (Some(why), _) => String::from(why),
            (None, Trouble::Sqlite(error)) => words(&error),
            (None, Trouble::Out(error)) => error.to_string(),
            (None, Trouble::Unfit(words)) => words,
        })
    }

    fn goes_on(&self) -> Result<(), Trouble> {
        self.limit.why().map_or(Ok(()), |why| Err(Trouble::Unfit(String::from(why))))
    }

    fn write_pages(&self, wal: bool, out: &mut dyn Write) -> Result<(), Trouble> {
        let mut select = self.connection.prepare("SELECT data FROM sqlite_dbpage('main')")?;
        let mut pages = select.query([])?;
        let mut is_first = true;
        while let Some(row) = pages.next()? {
            self.goes_on()?;
            let page = row.get_ref(0)?.as_blob().map_err(rusqlite::Error::from)?;
            match std::mem::take(&mut is_first) {
                true => out.write_all(&in_mode(page, wal))?,
                false => out.write_all(page)?,
            }
        }
        Ok(())
    }

    fn write_vacuumed(&self, wal: bool, out: &mut dyn Write) -> Result<(), Trouble> {
        let bytes = self.file_bytes()?;
        scratch::check_room(&self.directory, bytes).map_err(Trouble::Unfit)?;
        let copy = scratch::Scratch::new(&self.directory, "backup").map_err(Trouble::Unfit)?;
        // It cannot be made within a transaction; what is committed by now is of one
        // entry as well, a later one.
        self.connection.execute_batch("COMMIT; PRAGMA query_only = OFF")?;
        // SQLite takes a file that is there and empty.
        let path = copy.path().to_str().ok_or_else(|| Trouble::Unfit(copy.unnamed()))?;
        self.connection.execute("VACUUM INTO ?1", [path])?;
        let mut file = File::open(copy.path())?;
        let mut piece = vec![0; PIECE_BYTES];
        let mut is_first = true;
        loop {
            let count = file.read(&mut piece)?;
            match std::mem::take(&mut is_first) {
                _ if count == 0 => return Ok(()),
                true => out.write_all(&in_mode(&piece[..count], wal))?,
                false => out.write_all(&piece[..count])?,
            }
        }
    }
}

/// The beginning of a file whose header names this mode.
fn in_mode(start: &[u8], wal: bool) -> Vec<u8> {
    let mut start = start.to_vec();
    if let Some(mode) = start.get_mut(MODE_BYTES) {
        mode.fill(if wal { 2 } else { 1 });
    }
    start
}

#[cfg(test)]
#[path = "snapshot_tests.rs"]
pub(super) mod tests;
