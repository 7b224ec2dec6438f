//! What the database does when it has nothing to do: commits when it is time, brings
//! a long WAL back into the file, tries again what failed, ends what lasts too long.

use understudy_core::event::Millis;

use super::{Database, Failure};

/// A full disk is tried again after this, milliseconds.
const FULL_RETRY_MS: u64 = 2_000;

/// A WAL that is held is tried again after this, milliseconds.
pub(super) const HELD_RETRY_MS: u64 = 1_000;

impl Database {
    /// Commits and checkpoints when it is time to; to be called now and then.
    ///
    /// # Errors
    /// As [`Database::commit`].
    pub fn keep_house(&mut self, now: Millis) -> Result<(), Failure> {
        self.bound_scrub();
        self.bound_holding();
        self.copies.bound(self.open_bytes, self.options.wal_bytes_max / 2);
        if let Some(since) = self.full_since {
            if now.since(since) < FULL_RETRY_MS {
                return Ok(());
            }
            self.begin()?;
            return self.commit();
        }
        if let Some(since) = self.held_since {
            if now.since(since) >= HELD_RETRY_MS {
                self.checkpoint()?;
            }
            return Ok(());
        }
        if self.reopen {
            self.role_changed()?;
        }
        let due = self
            .open_since
            .is_some_and(|since| now.since(since) >= self.options.commit_interval_ms);
        if due || self.schema_changed || self.open_bytes >= self.options.commit_bytes {
            self.commit()?;
            if self.since_checkpoint >= self.options.wal_bytes {
                self.checkpoint()?;
            }
        }
        Ok(())
    }

    /// When [`Database::keep_house`] has something to do next.
    #[must_use]
    pub fn deadline(&self) -> Option<Millis> {
        match (self.full_since, self.held_since) {
            (Some(since), _) => Some(since.plus(FULL_RETRY_MS)),
            (None, Some(since)) => Some(since.plus(HELD_RETRY_MS)),
            (None, None) => {
                self.open_since.map(|since| since.plus(self.options.commit_interval_ms))
            }
        }
    }
}
