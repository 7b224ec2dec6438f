//! Was a WAL damaged, or only torn at its end? SQLite reads a WAL up to the
//! first frame whose checksum fails and drops the rest without a word, so one
//! flipped bit takes every later commit with it.
//!
//! Each transaction is synced before the next one is written, the header before
//! the first, and every start begins a WAL anew that is not damaged. So a power
//! cut tears frames of the last transaction only, and nothing older of the same
//! salt stands behind them: a
//! frame of the present salt behind another's commit, beyond a broken frame, is
//! proof of damage, and so is a broken header with frames behind it. A bit
//! flipped in the last transaction of all looks like a torn one; what peers
//! remember is held against that.
//!
//! Format: SQLite's "WAL-mode File Format", sections 1 to 4.

use std::path::Path;

use super::StoreError;

const HEADER_BYTES: usize = 32;
const FRAME_HEADER_BYTES: usize = 24;

/// The file as it is; empty where there is none.
pub(super) fn read(path: &Path) -> Result<Vec<u8>, StoreError> {
    match std::fs::read(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(StoreError::new(path, error))
        }
        read => Ok(read.unwrap_or_default()),
    }
}

/// Does this WAL hold something that was synced and that SQLite will not read?
pub(crate) fn is_damaged(wal: &[u8]) -> bool {
    let Some(header) = Header::read(wal) else {
        return wal.len() > HEADER_BYTES;
    };
    let frames: Vec<&[u8]> =
        wal[HEADER_BYTES..].chunks_exact(FRAME_HEADER_BYTES + header.page_bytes).collect();
    let mut sum = header.sum;
    let mut valid = 0;
    for frame in &frames {
        match header.next(sum, frame) {
            Some(next) => sum = next,
            None => break,
        }
        valid += 1;
    }
    let beyond = frames.get(valid..).unwrap_or_default();
    let is_commit = |frame: &&&[u8]| number(frame, 4) != 0;
    let ours = beyond.iter().filter(|frame| frame[8..16] == header.salt);
    ours.skip_while(|frame| !is_commit(frame)).nth(1).is_some()
}

struct Header {
    page_bytes: usize,
    salt: [u8; 8],
    big_endian: bool,
    sum: (u32, u32),
}

impl Header {
    /// `None` when there is no WAL, or its header is not valid: then SQLite itself
    /// takes nothing from it.
    fn read(wal: &[u8]) -> Option<Self> {
        let header = wal.get(..HEADER_BYTES)?;
        let magic = number(header, 0);
        let big_endian = match magic {
            0x377f_0682 => false,
            0x377f_0683 => true,
            _ => return None,
        };
        let sum = checksum((0, 0), &header[..24], big_endian);
        let stored = (number(header, 24), number(header, 28));
        (sum == stored).then_some(Self {
            page_bytes: usize::try_from(number(header, 8)).ok()?,
            salt: header[16..24].try_into().ok()?,
            big_endian,
            sum,
        })
    }

    /// The running checksum after this frame, if the frame is valid.
    fn next(&self, sum: (u32, u32), frame: &[u8]) -> Option<(u32, u32)> {
        let sum = checksum(sum, &frame[..8], self.big_endian);
        let sum = checksum(sum, &frame[FRAME_HEADER_BYTES..], self.big_endian);
        let stored = (number(frame, 16), number(frame, 20));
        (frame[8..16] == self.salt && sum == stored).then_some(sum)
    }
}

fn number(bytes: &[u8], at: usize) -> u32 {
    let place = bytes.get(at..at + 4).and_then(|bytes| bytes.try_into().ok());
    place.map_or(0, u32::from_be_bytes)
}

fn checksum((mut s0, mut s1): (u32, u32), bytes: &[u8], big_endian: bool) -> (u32, u32) {
    let word = |bytes: &[u8]| {
        let word = bytes.try_into().unwrap_or_default();
        if big_endian { u32::from_be_bytes(word) } else { u32::from_le_bytes(word) }
    };
    for pair in bytes.chunks_exact(8) {
        s0 = s0.wrapping_add(word(&pair[..4])).wrapping_add(s1);
        s1 = s1.wrapping_add(word(&pair[4..])).wrapping_add(s0);
    }
    (s0, s1)
}

#[cfg(test)]
mod tests {
    use rusqlite::Connection;

    use super::*;

    /// A WAL of many small commits, as SQLite wrote it.
    fn wal() -> Vec<u8> {
        let directory = tempfile::tempdir().unwrap();
        let connection = Connection::open(directory.path().join("x.db")).unwrap();
        connection
            .execute_batch(
                "PRAGMA page_size = 512; PRAGMA journal_mode = WAL;
                 PRAGMA wal_autocheckpoint = 0; CREATE TABLE t(a);",
            )
            .unwrap();
        for n in 0..20 {
            connection.execute("INSERT INTO t VALUES (?1)", [n]).unwrap();
        }
        std::fs::read(directory.path().join("x.db-wal")).unwrap()
    }

    #[test]
    fn a_sound_wal_and_none_at_all_are_no_damage() {
        assert!(!is_damaged(&wal()));
        assert!(!is_damaged(&[]));
    }

    #[test]
    fn a_torn_end_is_no_damage_wherever_it_is_torn() {
        let wal = wal();
        for end in (0..wal.len()).step_by(97) {
            assert!(!is_damaged(&wal[..end]), "cut at {end}");
        }
        let mut torn = wal.clone();
        let end = torn.len();
        torn[end - 300..].fill(0);
        assert!(!is_damaged(&torn));
    }

    #[test]
    fn a_flipped_bit_before_later_commits_is_damage_wherever_it_is() {
        let wal = wal();
        let frame = FRAME_HEADER_BYTES + 512;
        let first = HEADER_BYTES..HEADER_BYTES + frame;
        let middle = (wal.len() - HEADER_BYTES) / frame / 2 * frame + HEADER_BYTES;
        let headers = (0..HEADER_BYTES).chain(middle..middle + FRAME_HEADER_BYTES);
        for at in headers.chain(first.step_by(7)).chain([wal.len() - 3 * frame]) {
            for bit in 0..8 {
                let mut flipped = wal.clone();
                flipped[at] ^= 1 << bit;
                assert!(is_damaged(&flipped), "bit {bit} of byte {at}");
            }
        }
    }

    #[test]
    fn a_large_torn_transaction_is_no_damage() {
        let directory = tempfile::tempdir().unwrap();
        let connection = Connection::open(directory.path().join("x.db")).unwrap();
        connection
            .execute_batch(
                "PRAGMA page_size = 512; PRAGMA journal_mode = WAL;
                 PRAGMA wal_autocheckpoint = 0; CREATE TABLE t(a);
                 INSERT INTO t VALUES (zeroblob(100000));",
            )
            .unwrap();
        let mut torn = std::fs::read(directory.path().join("x.db-wal")).unwrap();
        let middle = torn.len() / 2;
        torn[middle..middle + 512].fill(0);
        assert!(!is_damaged(&torn));
    }
}
