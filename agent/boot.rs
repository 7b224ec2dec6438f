//! What a board remembers until its machine is started anew: in which of its agent's
//! starts since then the clock was not set yet, and that it is. An agent that is started
//! again goes on from there: what the owner confirmed stays, and readings of the starts
//! before get their times.
//!
//! The file is no more than a help, written without a sync: a machine that lost power
//! has another boot, to which it says nothing.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use tracing::warn;

/// The kernel's name for this boot.
const MACHINE: &str = "/proc/sys/kernel/random/boot_id";

/// The file in the board's directory.
const NAME: &str = "boot.json";

/// Starts before the present one that readings are put right of.
const STARTS_MAX: u64 = 64;

/// What shows that a clock was set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Evidence {
    /// It follows a time server.
    Ntp,
    /// It was set from one that runs without power.
    Rtc,
    /// It was moved while the agent ran.
    Step,
    /// The owner says so.
    Confirm,
    /// Another board's clock is set: it goes by that one's until its own is.
    Peer,
}

/// How the clock was set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Set {
    /// By what.
    pub by: Evidence,
    /// The moment boot time began, whole milliseconds, microseconds since 1970.
    pub began_us: i64,
}

/// What is remembered of a boot of the machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Remembered {
    /// Which boot.
    machine: String,
    /// The first and the last start that may have stamped readings without knowing the
    /// time.
    pub unset: Option<(u64, u64)>,
    /// How the clock was set, once it was.
    pub set: Option<Set>,
}

/// Where it is remembered.
#[derive(Clone, Debug)]
pub struct Boot {
    path: PathBuf,
    machine: String,
}

impl Boot {
    /// In this directory.
    #[must_use]
    pub fn of(directory: &Path) -> Self {
        let machine = fs::read_to_string(MACHINE).unwrap_or_default().trim().to_owned();
        Self { path: directory.join(NAME), machine }
    }

    /// What is remembered of this boot; nothing of another one.
    #[must_use]
    pub fn recall(&self, start: u64) -> Remembered {
        let none = Remembered { machine: self.machine.clone(), unset: None, set: None };
        let text = fs::read(&self.path).unwrap_or_default();
        let Ok(mut known) = serde_json::from_slice::<Remembered>(&text) else { return none };
        if known.machine != self.machine || self.machine.is_empty() {
            return none;
        }
        let earliest = start.saturating_sub(STARTS_MAX);
        // Starts are counted anew after a board has forgotten its group.
        let before = known.unset.filter(|(_, last)| *last < start);
        known.unset = before.map(|(first, last)| (first.max(earliest), last));
        known
    }

    /// Remembers it.
    pub fn remember(&self, what: &Remembered) {
        let written = || -> io::Result<()> {
            let new = self.path.with_extension("new");
            let mut options = OpenOptions::new();
            options.write(true).create(true).truncate(true).mode(0o600);
            let text = serde_json::to_vec(what).map_err(io::Error::other)?;
            options.open(&new)?.write_all(&text)?;
            fs::rename(&new, &self.path)
        };
        if let Err(error) = written() {
            warn!(%error, path = %self.path.display(), "the clock's state is not remembered");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_remembered_until_the_machine_starts_anew() {
        let folder = tempfile::tempdir().unwrap();
        let boot = Boot::of(folder.path());
        let nothing = boot.recall(3);
        assert_eq!((nothing.unset, nothing.set), (None, None));
        let set = Some(Set { by: Evidence::Confirm, began_us: 5_000 });
        let known = Remembered { unset: Some((1, 3)), set, ..nothing.clone() };
        boot.remember(&known);
        assert_eq!(boot.recall(4), known);
        assert_eq!(boot.recall(100).unset, Some((36, 3)), "none is left that is put right");
        assert_eq!((boot.recall(3).unset, boot.recall(3).set), (None, set));
        let other = Boot { machine: String::from("another"), ..boot.clone() };
        assert_eq!(other.recall(4), Remembered { machine: other.machine.clone(), ..nothing });
        fs::write(&boot.path, "{").unwrap();
        assert_eq!(boot.recall(4).set, None);
    }
}
