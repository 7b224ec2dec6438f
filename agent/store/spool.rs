//! The spool in `journal.db`: pieces of readings that came to this board and are not
//! known to be committed. They stand in the file that is synced anyway, and go with
//! the write that brings what took their place.
//!
//! Left out: what is in a piece, and when it comes and goes (the node's).

use rusqlite::Connection;
use understudy_core::{
    event::{SpoolPiece, SpoolWrite},
    limits::SPOOL_PIECE_OVERHEAD_BYTES,
    restored::SpoolHeld,
};

use super::journal::{Journal, JournalError, halt};

pub(super) const TABLE: &str = "
    CREATE TABLE IF NOT EXISTS spool(
        place INTEGER PRIMARY KEY, readings INTEGER, lowest INTEGER, crc INTEGER, data BLOB);";

/// Does what is to become of the spool, inside of the transaction.
pub(super) fn write(connection: &Connection, writes: &[SpoolWrite]) -> rusqlite::Result<()> {
    for write in writes {
        match write {
            SpoolWrite::Put { place, readings, lowest, data } => {
                let sql = "INSERT OR REPLACE INTO spool VALUES (?1, ?2, ?3, ?4, ?5)";
                connection.prepare_cached(sql)?.execute(rusqlite::params![
                    place.cast_signed(),
                    readings,
                    lowest.cast_signed(),
                    checksum(*place, data),
                    data,
                ])?;
            }
            SpoolWrite::Take { first, last } => {
                let sql = "DELETE FROM spool WHERE place BETWEEN ?1 AND ?2";
                let places = [first.cast_signed(), last.cast_signed()];
                connection.prepare_cached(sql)?.execute(places)?;
            }
        }
    }
    Ok(())
}

fn checksum(place: u64, data: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&place.to_le_bytes()), data)
}

impl Journal {
    /// What the spool holds.
    ///
    /// # Errors
    /// [`JournalError::Halt`] when the file cannot be read.
    pub fn spool(&self) -> Result<SpoolHeld, JournalError> {
        let sql = "SELECT ifnull(min(place), 0), ifnull(max(place), 0), ifnull(sum(readings), 0),
                   ifnull(sum(length(data)), 0) + count(*) * ?1, ifnull(min(lowest), 0) FROM spool";
        let overhead = SPOOL_PIECE_OVERHEAD_BYTES.cast_signed();
        let held = self.connection.query_row(sql, [overhead], |row| {
            let number = |at| row.get::<_, i64>(at).map(i64::cast_unsigned);
            let (first, last, readings) = (number(0)?, number(1)?, number(2)?);
            Ok(SpoolHeld { first, last, readings, bytes: number(3)?, lowest: number(4)? })
        });
        held.map_err(|error| halt(&error))
    }

    /// Pieces from the first place after this one, at least one and at most one beyond
    /// so many bytes.
    ///
    /// # Errors
    /// [`JournalError::Halt`] when the file cannot be read, or a piece is damaged.
    pub fn read_spool(&self, after: u64, bytes_max: u64) -> Result<Vec<SpoolPiece>, JournalError> {
        let mut select = self
            .connection
            .prepare_cached(
                "SELECT place, readings, crc, data FROM spool WHERE place > ?1 ORDER BY place",
            )
            .map_err(|error| halt(&error))?;
        let mut rows = select.query([after.cast_signed()]).map_err(|error| halt(&error))?;
        let (mut pieces, mut bytes) = (Vec::new(), 0);
        while let Some(row) = rows.next().map_err(|error| halt(&error))? {
            let piece = row.get(0).and_then(|place: i64| {
                let (place, readings) = (place.cast_unsigned(), row.get(1)?);
                Ok((row.get::<_, u32>(2)?, SpoolPiece { place, readings, data: row.get(3)? }))
            });
            let (crc, piece) = piece.map_err(|error| halt(&error))?;
            let SpoolPiece { place, ref data, .. } = piece;
            if checksum(place, data) != crc {
                return Err(JournalError::Halt(format!(
                    "piece {place} of the spool (row {place} of table spool) is damaged: \
                     `sqlite3 journal.db 'DELETE FROM spool WHERE place = {place}'` gives its \
                     readings up"
                )));
            }
            bytes += data.len() as u64;
            if bytes > bytes_max && !pieces.is_empty() {
                break;
            }
            pieces.push(piece);
        }
        Ok(pieces)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::journal::{Options, Persist};

    fn put(place: u64, bytes: usize) -> SpoolWrite {
        SpoolWrite::Put { place, readings: 2, lowest: 100 + place, data: vec![7; bytes] }
    }

    fn written(journal: &mut Journal, spool: Vec<SpoolWrite>) {
        journal.write(&[Persist { spool, ..Persist::default() }]).unwrap();
    }

    #[test]
    fn pieces_come_back_in_order_until_they_are_taken_out() {
        let directory = tempfile::tempdir().unwrap();
        let mut journal = Journal::open(directory.path(), &Options::default()).unwrap();
        assert_eq!(journal.spool(), Ok(SpoolHeld::default()));
        written(&mut journal, vec![put(1, 50), put(3, 60), put(2, 40)]);
        let places = |pieces: Vec<SpoolPiece>| -> Vec<u64> {
            pieces.into_iter().map(|piece| piece.place).collect()
        };
        assert_eq!(journal.read_spool(0, 90).map(places), Ok(vec![1, 2]));
        assert_eq!(journal.read_spool(2, 1).map(places), Ok(vec![3]));
        written(&mut journal, vec![SpoolWrite::Take { first: 1, last: 2 }]);
        drop(journal);
        let journal = Journal::open(directory.path(), &Options::default()).unwrap();
        let held = SpoolHeld { first: 3, last: 3, readings: 2, bytes: 60 + 32, lowest: 103 };
        assert_eq!(journal.spool(), Ok(held));
    }

    #[test]
    fn a_damaged_piece_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let mut journal = Journal::open(directory.path(), &Options::default()).unwrap();
        written(&mut journal, vec![put(4, 50)]);
        journal.connection.execute("UPDATE spool SET data = x'00'", []).unwrap();
        let refused = journal.read_spool(0, 1_000).unwrap_err().to_string();
        assert!(refused.contains("piece 4 of the spool"), "{refused}");
    }
}
