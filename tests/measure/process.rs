//! What the kernel says about a process.

use std::{fs, iter::Sum, ops::Sub};

/// What processes have used up so far.
#[derive(Clone, Copy, Default)]
pub(crate) struct Used {
    /// Sent to the disk.
    pub(crate) written_bytes: u64,
    /// Processor time.
    pub(crate) cpu_ms: u64,
}

impl Used {
    pub(crate) fn by(pid: &str) -> Self {
        Self { written_bytes: written_bytes(pid), cpu_ms: cpu_ms(pid) }
    }
}

impl Sum for Used {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        all.fold(Self::default(), |sum, used| Self {
            written_bytes: sum.written_bytes + used.written_bytes,
            cpu_ms: sum.cpu_ms + used.cpu_ms,
        })
    }
}

impl Sub for Used {
    type Output = Self;

    fn sub(self, before: Self) -> Self {
        Self {
            written_bytes: self.written_bytes - before.written_bytes,
            cpu_ms: self.cpu_ms - before.cpu_ms,
        }
    }
}

/// Bytes this process had sent to the disk.
fn written_bytes(pid: &str) -> u64 {
    of_io(pid, "write_bytes: ")
}

/// Bytes it has read from files and connections.
pub(crate) fn read_bytes(pid: &str) -> u64 {
    of_io(pid, "rchar: ")
}

fn of_io(pid: &str, what: &str) -> u64 {
    let io = fs::read_to_string(format!("/proc/{pid}/io")).unwrap_or_default();
    let line = io.lines().find_map(|line| line.strip_prefix(what));
    line.and_then(|bytes| bytes.parse().ok()).unwrap_or(0)
}

/// Its proportional share of memory, bytes; shared pages count by their sharers.
pub(crate) fn memory_bytes(pid: &str) -> u64 {
    of_memory(pid, "Pss:")
}

/// Its memory, bytes; shared pages count for each of their sharers.
pub(crate) fn resident_bytes(pid: &str) -> u64 {
    of_memory(pid, "Rss:")
}

fn of_memory(pid: &str, what: &str) -> u64 {
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    let line = rollup.lines().find_map(|line| line.strip_prefix(what));
    let kilobytes = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kilobytes.unwrap_or(0) * 1_024
}

/// How often its threads were woken so far: each time one went to wait.
pub(crate) fn wake_ups(pid: &str) -> u64 {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let of_thread = threads.map(|thread| {
        let status = fs::read_to_string(thread.path().join("status")).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
        line.and_then(|count| count.trim().parse::<u64>().ok()).unwrap_or(0)
    });
    of_thread.sum()
}

/// Processor time it has used, milliseconds.
pub(crate) fn cpu_ms(pid: &str) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split(' ').collect();
    let ticks = |at: usize| fields.get(at).and_then(|field| field.parse::<u64>().ok()).unwrap_or(0);
    // User and system time; Linux counts them in hundredths of a second everywhere.
    10 * (ticks(12) + ticks(13))
}

#[expect(clippy::cast_precision_loss, reason = "these are far below 2^52")]
pub(crate) fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}
