//! What the journal's log holds, read back: entries, where terms begin, what stretches of
//! it take, and what peers were seen to promise.

use std::cmp::Ordering;

use rusqlite::OptionalExtension;
use understudy_core::{
    event::{Entry, Memory, NodeId},
    limits::LOG_PIECE_ENTRIES_MAX,
    restored::{Stretch, TermRun},
    sql,
};

use super::{
    journal::{HARD_STATE, Journal, JournalError, damaged, halt},
    row::entry_of,
    trim,
};

pub(super) const SELECT_TERM: &str = "SELECT term FROM log WHERE idx = ?1";

impl Journal {
    /// Reads entries `low..high`: one at least, and no more than one piece, of
    /// `bytes_max` of data and [`LOG_PIECE_ENTRIES_MAX`] entries.
    ///
    /// # Errors
    /// [`JournalError::Halt`] names the row that is damaged or missing.
    pub fn read(
        &mut self,
        low: u64,
        high: u64,
        bytes_max: u64,
    ) -> Result<Vec<Entry>, JournalError> {
        let mut entries = Vec::new();
        let mut bytes = 0;
        let mut expected = low;
        let mut select = self
            .connection
            .prepare_cached(
                "SELECT idx, term, kind, crc, data FROM log WHERE idx >= ?1 AND idx < ?2 \
                 ORDER BY idx",
            )
            .map_err(|error| halt(&error))?;
        let mut rows =
            select.query([low.cast_signed(), high.cast_signed()]).map_err(|error| halt(&error))?;
        while let Some(row) = rows.next().map_err(|error| halt(&error))? {
            let entry = entry_of(row).map_err(|error| halt(&error))?;
            let entry = entry.ok_or_else(|| damaged(expected))?;
            if entry.index != expected {
                return Err(damaged(expected));
            }
            bytes += entry.data.len() as u64;
            let full = bytes > bytes_max || entries.len() == LOG_PIECE_ENTRIES_MAX;
            if full && !entries.is_empty() {
                return Ok(entries);
            }
            expected += 1;
            entries.push(entry);
        }
        if expected < high.min(self.last_index + 1) {
            return Err(damaged(expected));
        }
        Ok(entries)
    }

    /// Terms of the whole log, as runs. Terms only rise, so the end of each run is
    /// found by halving what is left: of a long log a few rows are looked at, and
    /// nothing is sorted. Their data is checked when it is needed.
    ///
    /// # Errors
    /// [`JournalError::Halt`] when it cannot be read or terms fall.
    pub fn terms(&self) -> Result<Vec<TermRun>, JournalError> {
        let mut runs = Vec::new();
        let mut first = self.start.index + 1;
        while first <= self.last_index {
            let run = TermRun { first, term: self.term(first)? };
            runs.push(run);
            first = self.end_of(run)?;
        }
        Ok(runs)
    }

    /// The term of the entry at `index`, the one before the first included; none where
    /// the log does not reach.
    ///
    /// # Errors
    /// [`JournalError::Halt`] when it cannot be read.
    pub fn place(&self, index: u64) -> Result<Option<u64>, JournalError> {
        match index {
            index if index == self.start.index => Ok(Some(self.start.term)),
            index if index < self.start.index || index > self.last_index => Ok(None),
            index => self.term(index).map(Some),
        }
    }

    /// What the log takes, stretch by stretch.
    ///
    /// # Errors
    /// [`JournalError::Halt`] when it cannot be read.
    pub fn stretches(&self) -> Result<Vec<Stretch>, JournalError> {
        let stretches = trim::stretches(&self.connection, self.start.index + 1, self.last_index);
        stretches.map_err(|error| halt(&error))
    }

    /// The index after the run's last.
    fn end_of(&self, run: TermRun) -> Result<u64, JournalError> {
        let (mut inside, mut beyond) = (run.first, self.last_index + 1);
        // The newest run, of which a leader that stays makes most of a log.
        if self.term(self.last_index)? == run.term {
            return Ok(beyond);
        }
        while beyond - inside > 1 {
            let middle = inside + (beyond - inside) / 2;
            match self.term(middle)?.cmp(&run.term) {
                Ordering::Less => return Err(damaged(middle)),
                Ordering::Equal => inside = middle,
                Ordering::Greater => beyond = middle,
            }
        }
        Ok(beyond)
    }

    fn term(&self, index: u64) -> Result<u64, JournalError> {
        let mut select =
            self.connection.prepare_cached(SELECT_TERM).map_err(|error| halt(&error))?;
        let term = select.query_row([index.cast_signed()], |row| row.get::<_, i64>(0)).optional();
        term.map_err(|error| halt(&error))?.map(i64::cast_unsigned).ok_or_else(|| damaged(index))
    }

    /// What is kept of peers.
    ///
    /// # Errors
    /// [`JournalError::Halt`] when it cannot be read.
    pub fn memories(&mut self) -> Result<Vec<(NodeId, Memory)>, JournalError> {
        let mut select = self
            .connection
            .prepare("SELECT node, state FROM state WHERE node <> ?1 ORDER BY node")
            .map_err(|error| halt(&error))?;
        let memories = select.query_map([HARD_STATE], |row| {
            Ok((row.get::<_, i64>(0)?.cast_unsigned(), row.get::<_, Vec<u8>>(1)?))
        });
        let memories = memories
            .and_then(Iterator::collect::<rusqlite::Result<Vec<_>>>)
            .map_err(|error| halt(&error))?;
        let read = |(peer, memory): (NodeId, Vec<u8>)| match sql::decode(&memory) {
            Ok(memory) => Ok((peer, memory)),
            Err(_) => Err(JournalError::Halt(format!("what is kept of peer {peer} is damaged"))),
        };
        memories.into_iter().map(read).collect()
    }
}
