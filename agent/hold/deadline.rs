//! When all that a keeper runs is to be gone, and under which token it runs: where the
//! keeper writes it, and the guard above it reads it whatever has become of the keeper. A
//! file in memory that both have open, without a lock: each number is whole, and the token
//! is for notifications only. The guard is woken to look at it.

use std::{
    fs::File,
    os::{fd::AsRawFd as _, unix::fs::FileExt as _},
};

use rustix::{
    fs::{MemfdFlags, memfd_create},
    process::{Pid, Signal, getpid, getppid, kill_process},
};
use understudy_core::event::Millis;

/// See the module's description.
pub(super) struct Deadline {
    file: File,
    /// Who made it.
    guard: Pid,
}

impl Deadline {
    /// One that says nothing.
    ///
    /// # Errors
    /// When the system has no such files.
    pub(super) fn new() -> Result<Self, String> {
        let file = memfd_create("deadline", MemfdFlags::CLOEXEC);
        let file = file.map_err(|error| format!("no file in memory can be made: {error}"))?;
        Ok(Self { file: File::from(file), guard: getpid() })
    }

    /// What it is called, while this process lives.
    #[must_use]
    pub(super) fn path(&self) -> String {
        format!("/proc/{}/fd/{}", std::process::id(), self.file.as_raw_fd())
    }

    /// The one that a process above has made.
    ///
    /// # Errors
    /// When there is none.
    pub(super) fn open(path: &str) -> Result<Self, String> {
        let file = File::options().read(true).write(true).open(path);
        let file = file.map_err(|error| format!("{path}: {error}"))?;
        let guard = getppid()
            .filter(|guard| path.starts_with(&format!("/proc/{}/", guard.as_raw_nonzero())));
        let guard = guard.ok_or_else(|| String::from("the guard has ended"))?;
        Ok(Self { file, guard })
    }

    /// By then all is gone that runs under this token; none where nothing runs.
    pub(super) fn set(&self, lease: Option<(Millis, u64)>) {
        let (until, token) = lease.map_or((0, 0), |(until, token)| (until.0, token));
        let bytes = [token.to_le_bytes(), until.to_le_bytes()].concat();
        // It is in memory: where that fails there is nothing to be done about it, and what
        // stood there ends sooner.
        let _ = self.file.write_all_at(&bytes, 0);
        if getppid() == Some(self.guard) {
            let _ = kill_process(self.guard, Signal::USR1);
        }
    }

    /// As it was set last.
    #[must_use]
    pub(super) fn get(&self) -> Option<(Millis, u64)> {
        let mut bytes = [0; 16];
        self.file.read_exact_at(&mut bytes, 0).ok()?;
        let number = |place: usize| bytes[place..].first_chunk().map(|b| u64::from_le_bytes(*b));
        let (token, until) = (number(0)?, number(8)?);
        (until > 0).then_some((Millis(until), token))
    }
}
