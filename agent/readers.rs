//! Who reads a SQLite database in WAL mode now: from the locks that readers hold
//! on its index file, as the kernel lists them (`/proc/locks`, proc(5)).
//!
//! Left out: this process, which always reads; processes that the kernel does not
//! show to it, as from within a container.

use std::{fs, os::unix::fs::MetadataExt, path::Path};

/// The bytes of the index that readers lock (SQLite's WAL-index format, 2.3: five
/// read marks behind the header, the write, checkpoint and recovery lock).
const READ_LOCKS: std::ops::RangeInclusive<u64> = 123..=127;

/// Readers named at most.
const NAMED_MAX: usize = 8;

/// `name (process 123)` for each.
#[must_use]
pub fn of(database: &Path) -> Vec<String> {
    let mut index = database.as_os_str().to_owned();
    index.push("-shm");
    let Ok(index) = fs::metadata(index) else { return Vec::new() };
    let locks = fs::read_to_string("/proc/locks").unwrap_or_default();
    let mut pids = holders(&locks, index.ino());
    pids.retain(|pid| *pid != std::process::id());
    pids.truncate(NAMED_MAX);
    pids.into_iter().map(named).collect()
}

fn named(pid: u32) -> String {
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    match name.trim_end() {
        "" => format!("process {pid}"),
        name => format!("{name} (process {pid})"),
    }
}

/// Processes with a read lock on that file, each once. Devices are not compared:
/// some file systems show another one here than to whoever asks for the file.
fn holders(locks: &str, inode: u64) -> Vec<u32> {
    let mut pids: Vec<u32> = locks.lines().filter_map(|line| holder(line, inode)).collect();
    pids.sort_unstable();
    pids.dedup();
    pids
}

/// As in `1: POSIX  ADVISORY  READ 4242 08:01:1234 124 124`.
fn holder(line: &str, inode: u64) -> Option<u32> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let [_, "POSIX" | "OFDLCK", _, "READ", pid, file, first, last] = fields.as_slice() else {
        return None;
    };
    let is_ours = file.rsplit(':').next()?.parse::<u64>().ok()? == inode;
    let (first, last) = (first.parse::<u64>().ok()?, last.parse().unwrap_or(u64::MAX));
    let reads = first <= *READ_LOCKS.end() && last >= *READ_LOCKS.start();
    pid.parse().ok().filter(|_| is_ours && reads)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readers_are_told_from_others_by_file_and_place() {
        let locks = "\
1: POSIX  ADVISORY  READ 10 08:01:77 124 124
2: POSIX  ADVISORY  READ 10 08:01:77 125 125
3: POSIX  ADVISORY  WRITE 11 08:01:77 120 120
4: POSIX  ADVISORY  READ 12 08:01:78 124 124
5: FLOCK  ADVISORY  WRITE 13 08:01:77 0 EOF
6: -> POSIX  ADVISORY  READ 14 08:01:77 124 124
7: POSIX  ADVISORY  READ 15 08:01:77 128 128
8: POSIX  ADVISORY  READ 16 00:2b:77 0 EOF
9: POSIX
";
        assert_eq!(holders(locks, 77), [10, 16]);
    }
}
