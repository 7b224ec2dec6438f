//! How the start of this board before the present one ended, as its own disk remembers.
//!
//! The file is no more than a help, written without a sync: what a power cut takes of it
//! is not known then, and said so.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use tracing::warn;

/// The kernel's name for this boot of the machine.
const MACHINE: &str = "/proc/sys/kernel/random/boot_id";

/// The file in the board's directory.
const NAME: &str = "end.json";

#[derive(Debug, Serialize, Deserialize)]
struct Remembered {
    machine: String,
    start: u64,
    is_clean: bool,
}

/// The present start, and how the one before ended.
#[derive(Debug)]
pub struct Ends {
    path: PathBuf,
    machine: String,
    start: u64,
    before: &'static str,
}

impl Ends {
    /// A start begins: its number, and the directory where its things are.
    #[must_use]
    pub fn begin(directory: &Path, start: u64) -> Self {
        let machine = fs::read_to_string(MACHINE).unwrap_or_default().trim().to_owned();
        Self::begin_on(directory, machine, start)
    }

    fn begin_on(directory: &Path, machine: String, start: u64) -> Self {
        let path = directory.join(NAME);
        let text = fs::read(&path).unwrap_or_default();
        // Starts are counted anew after a board has forgotten its group.
        let known = serde_json::from_slice::<Remembered>(&text).ok();
        let before = match known.filter(|known| known.start < start) {
            Some(Remembered { is_clean: true, .. }) => "its end before was clean",
            Some(known) if known.machine == machine => "its agent was killed or failed before",
            Some(_) => "its machine went down under it before",
            None => "how it ended before is not known",
        };
        let ends = Self { path, machine, start, before };
        ends.remember(false);
        ends
    }

    /// How the start before ended, in words.
    #[must_use]
    pub const fn before(&self) -> &'static str {
        self.before
    }

    /// This one ends as it was asked to.
    pub fn end(&self) {
        self.remember(true);
    }

    fn remember(&self, is_clean: bool) {
        let written = || -> io::Result<()> {
            let known = Remembered { machine: self.machine.clone(), start: self.start, is_clean };
            let new = self.path.with_extension("new");
            let mut options = OpenOptions::new();
            options.write(true).create(true).truncate(true).mode(0o600);
            let text = serde_json::to_vec(&known).map_err(io::Error::other)?;
            options.open(&new)?.write_all(&text)?;
            fs::rename(&new, &self.path)
        };
        if let Err(error) = written() {
            warn!(%error, path = %self.path.display(), "how this start ends is not remembered");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_start_knows_how_the_one_before_ended() {
        let folder = tempfile::tempdir().unwrap();
        let begin = |machine: &str, start| Ends::begin_on(folder.path(), machine.to_owned(), start);
        assert!(begin("m", 1).before().contains("not known"));
        let second = begin("m", 2);
        assert!(second.before().contains("killed or failed"));
        second.end();
        assert!(begin("m", 3).before().contains("was clean"));
        assert!(begin("n", 4).before().contains("machine went down"));
        assert!(begin("n", 1).before().contains("not known"), "of a group it has forgotten");
        fs::write(folder.path().join(NAME), "{").unwrap();
        assert!(begin("n", 5).before().contains("not known"));
    }
}
