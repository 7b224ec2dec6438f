//! Temporary files in a board's data directory: on its disk, since memory would not
//! hold them, and never there for longer than they are needed. What a crash leaves
//! is removed when the agent starts.

use std::{
    fs::{self, OpenOptions},
    io,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

/// How their names begin.
const PREFIX: &str = "scratch-";

/// Left free for the journal and the database, bytes.
pub(crate) const ROOM_BYTES_MIN: u64 = 16 << 20;

/// One such file, removed with what SQLite keeps beside it when this goes.
pub(crate) struct Scratch {
    path: PathBuf,
}

impl Scratch {
    /// An empty file that nobody else may read.
    pub(crate) fn new(directory: &Path, what: &str) -> Result<Self, String> {
        static MADE: AtomicU64 = AtomicU64::new(0);
        let name = format!("{PREFIX}{what}-{}", MADE.fetch_add(1, Relaxed));
        let path = directory.join(name);
        let mut options = OpenOptions::new();
        let options = options.write(true).create(true).truncate(true).mode(0o600);
        options.open(&path).map_err(|error| at(&path, &error))?;
        Ok(Self { path })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// What to say where its name cannot be handed to SQLite.
    pub(crate) fn unnamed(&self) -> String {
        format!("{}: the name is not UTF-8", self.path.display())
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        for end in ["", "-wal", "-shm", "-journal"] {
            let mut path = self.path.clone().into_os_string();
            path.push(end);
            // Most are not there; what stays is removed at the next start.
            let _ = fs::remove_file(path);
        }
    }
}

fn at(path: &Path, error: &io::Error) -> String {
    format!("{}: {error}", path.display())
}

/// Removes what an agent left that is gone.
///
/// # Errors
/// Names the directory.
pub fn clear(directory: &Path) -> Result<(), String> {
    for entry in fs::read_dir(directory).map_err(|error| at(directory, &error))? {
        let entry = entry.map_err(|error| at(directory, &error))?;
        if entry.file_name().as_encoded_bytes().starts_with(PREFIX.as_bytes()) {
            fs::remove_file(entry.path()).map_err(|error| at(&entry.path(), &error))?;
        }
    }
    Ok(())
}

/// Is there room for a file of so many bytes, and some left?
pub(crate) fn check_room(directory: &Path, bytes: u64) -> Result<(), String> {
    let free = free_bytes(directory)?;
    let needed = bytes.saturating_add(ROOM_BYTES_MIN);
    if free >= needed {
        return Ok(());
    }
    Err(format!(
        "{}: no room for a temporary file: {needed} bytes are needed and {free} are free",
        directory.display()
    ))
}

/// What is free for us on the disk of that directory, bytes.
pub(crate) fn free_bytes(directory: &Path) -> Result<u64, String> {
    let disk = rustix::fs::statvfs(directory).map_err(|error| at(directory, &error.into()))?;
    Ok(disk.f_bavail.saturating_mul(disk.f_frsize))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_temporary_file_goes_with_its_owner_and_after_a_crash_at_the_next_start() {
        let directory = tempfile::tempdir().unwrap();
        let names = || fs::read_dir(directory.path()).unwrap().count();
        let scratch = Scratch::new(directory.path(), "x").unwrap();
        fs::write(format!("{}-journal", scratch.path().display()), b"").unwrap();
        assert_eq!(names(), 2);
        drop(scratch);
        assert_eq!(names(), 0);
        std::mem::forget(Scratch::new(directory.path(), "x").unwrap());
        fs::write(directory.path().join("state.db"), b"").unwrap();
        clear(directory.path()).unwrap();
        assert_eq!(names(), 1);
        assert!(directory.path().join("state.db").exists());
    }

    #[test]
    fn a_file_that_would_fill_the_disk_is_not_begun() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(check_room(directory.path(), 1), Ok(()));
        let words = check_room(directory.path(), u64::MAX).unwrap_err();
        assert!(words.contains("no room"), "{words}");
    }
}
