//! What a power cut cannot take: known only after a checkpoint that is proved
//! complete. A COMMIT under `synchronous = NORMAL` is not durable by itself, and
//! a checkpoint may end early without an error when a reader holds it back.

use rusqlite::Connection;

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
        match complete(&self.connection) {
            Ok(true) => {
                self.durable = committed;
                self.since_checkpoint = 0;
                Ok(())
            }
            Ok(false) => Ok(()),
            Err(error) => Err(self.failure(&error)),
        }
    }
}

/// True when every page of the WAL is in the file. This connection has read
/// before: a fresh one answers (0, -1, -1) and does nothing.
fn complete(connection: &Connection) -> rusqlite::Result<bool> {
    connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |row| {
        let (busy, log, moved): (i64, i64, i64) = (row.get(0)?, row.get(1)?, row.get(2)?);
        Ok(busy == 0 && log >= 0 && log == moved)
    })
}
