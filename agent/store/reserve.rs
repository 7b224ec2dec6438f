//! Room on the disk that is kept for a start. The first writes of a start come before anything
//! is served, and on a disk that is full a board would not come back, though all others could
//! read it: so it gives this room free while it starts, and takes what is left of it again.
//!
//! Invariant: what is in the file is nothing to anybody.
//!
//! Left out: file systems that allocate nothing ahead. There a start on a full disk says so,
//! ends, and is tried again.

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

/// What is kept, bytes. A start brings the journal's WAL back into its file, as large as that
/// may be, and writes some little files anew.
const BYTES: u64 = 2 << 20;

/// Taken one by one, since a full disk may have some of it, bytes.
const PIECE_BYTES: u64 = 64 << 10;

/// Where there is hardly any room otherwise the reserve becomes that.
pub fn lend(directory: &Path) {
    let is_needed = free_bytes(directory).is_ok_and(|free| free < BYTES);
    if is_needed && fs::remove_file(directory.join(NAME)).is_ok() {
        warn!(directory = %directory.display(), "the disk is full: starting on what is kept for that");
    }
}

/// As much of it as can be had is kept for the next start.
pub fn keep(directory: &Path) {
    // What cannot be had now is asked for again.
    let _ = take(&directory.join(NAME));
}

fn take(path: &Path) -> io::Result<()> {
    let mut options = OpenOptions::new();
    let file: File = options.write(true).create(true).truncate(false).mode(0o600).open(path)?;
    let mut has = file.metadata()?.blocks() * 512;
    while has < BYTES {
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
