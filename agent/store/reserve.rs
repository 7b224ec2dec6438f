//! Room on the disk that is kept for a start. The first writes of a start come before anything
//! is served, and on a disk that is full a board would not come back, though all others could
//! read it: so it gives this room free while it starts, and takes what is left of it again.
//!
//! Invariant: what is in the file is nothing to anybody.
//!
//! Left out: file systems that allocate nothing ahead, a WAL that is longer than what is kept,
//! and starts after which so much was written that nothing is left. There a start on a full
//! disk says so, ends, and is tried again.

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::Path,
};

use rustix::fs::{FallocateFlags, fallocate};
use tracing::warn;

use super::scratch::free_bytes;

/// Of the file.
const NAME: &str = "reserve";

/// What is kept, bytes. A start brings the journal's WAL back into its file: a megabyte, and
/// what came with the last write.
const BYTES: u64 = 4 << 20;

/// Taken one by one, since a full disk may have some of it, bytes.
const PIECE_BYTES: u64 = 64 << 10;

/// Where there is hardly any room otherwise the reserve becomes that.
pub fn lend(directory: &Path) {
    let wal = fs::metadata(directory.join("journal.db-wal"));
    let wanted = BYTES + wal.map_or(0, |wal| wal.len());
    let is_needed = free_bytes(directory).is_ok_and(|free| free < wanted);
    if is_needed && fs::remove_file(directory.join(NAME)).is_ok() {
        let directory = directory.display();
        warn!(%directory, "there is hardly any room: this start has what is kept for it");
    }
}

/// As much of it as can be had is kept for the next start, but for what this one writes first.
pub fn keep(directory: &Path) {
    take(directory, PIECE_BYTES);
}

/// The same later, where others may have made room: they want some of it.
pub fn keep_of_new_room(directory: &Path) {
    take(directory, BYTES);
}

fn take(directory: &Path, others_bytes: u64) {
    // What cannot be had now is asked for again.
    let _ = try_take(directory, others_bytes);
}

fn try_take(directory: &Path, others_bytes: u64) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(false).mode(0o600);
    let file: File = options.open(directory.join(NAME))?;
    let mut has = file.metadata()?.blocks() * 512;
    let is_room = || free_bytes(directory).is_ok_and(|free| free >= others_bytes + PIECE_BYTES);
    while has < BYTES && is_room() {
        fallocate(&file, FallocateFlags::empty(), has, PIECE_BYTES)?;
        has += PIECE_BYTES;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_taken_once_and_is_nothing_but_room() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(NAME);
        for _ in 0..2 {
            keep(folder.path());
            let file = fs::metadata(&path).unwrap();
            assert_eq!(file.len(), BYTES);
            assert!(file.blocks() * 512 >= BYTES, "{}", file.blocks());
            assert_eq!(file.mode() & 0o777, 0o600);
        }
        lend(folder.path());
        assert!(path.exists(), "there is room without it");
    }
}
