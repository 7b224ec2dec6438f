//! What a power cut cannot take: known only after a checkpoint that is proved
//! complete. A COMMIT under `synchronous = NORMAL` is not durable by itself, and
//! a checkpoint may end early without an error when a reader holds it back.

use rusqlite::Connection;
use understudy_core::mutant;

use super::{Database, Failure, authorize::Mode};

impl Database {
    /// Commits, then brings the WAL back into the file; counts as durable what
    /// was committed before, if all of it went.
    ///
    /// # Errors
    /// As [`Database::commit`].
    pub fn checkpoint(&mut self) -> Result<(), Failure> {
        self.commit()?;
        self.authorizer.enter(Mode::Internal);
        let committed = self.committed;
        let done = passive(&self.connection).map_err(|error| self.failure(&error))?;
        let held = match done {
            Checkpoint::Complete => {
                self.durable = committed;
                self.since_checkpoint = 0;
                self.is_coming = false;
                false
            }
            Checkpoint::Partial { wal_bytes } => {
                if wal_bytes >= self.options.wal_bytes_max / 2 {
                    self.copies.end_all();
                }
                wal_bytes >= self.options.wal_bytes_max || self.is_coming
            }
        };
        self.held_since = held.then(self.options.clock);
        Ok(())
    }

    /// A state that came from another board is committed. Until it is there for good
    /// nothing is applied to it; where that cannot be now it is tried again.
    ///
    /// # Errors
    /// [`Failure::Halt`] alone.
    pub(super) fn checkpoint_what_came(&mut self) -> Result<(), Failure> {
        self.is_coming = true;
        match if mutant::is(25) { Ok(()) } else { self.checkpoint() } {
            Err(halt @ Failure::Halt(_)) => return Err(halt),
            Ok(()) => {}
            Err(Failure::Reset { .. }) => self.held_since = Some((self.options.clock)()),
        }
        Ok(())
    }
}

enum Checkpoint {
    /// Every page of the WAL is in the file.
    Complete,
    /// Somebody still reads what is older.
    Partial { wal_bytes: u64 },
}

/// This connection has read before: a fresh one answers (0, -1, -1) and does
/// nothing.
fn passive(connection: &Connection) -> rusqlite::Result<Checkpoint> {
    connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |row| {
        let (busy, log, moved): (i64, i64, i64) = (row.get(0)?, row.get(1)?, row.get(2)?);
        if busy == 0 && log >= 0 && log == moved {
            return Ok(Checkpoint::Complete);
        }
        let frames = u64::try_from(log).unwrap_or(0);
        Ok(Checkpoint::Partial { wal_bytes: frames * FRAME_BYTES })
    })
}

/// A page and its header in the WAL (SQLite's file format, 4.2).
const FRAME_BYTES: u64 = 1_024 + 24;
